"""Models and explanations of one output: it is the second of two classes, whichever class is explained."""

from __future__ import annotations

import functools
import types

import numpy as np
import pytest
import torch
from torch import nn

import benchmark as fb
from benchmark.core.seeding import seeded


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


with seeded(0):
    LOGITS = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))
MODELS = {
    "logits": LOGITS,
    "probabilities": nn.Sequential(LOGITS, nn.Sigmoid()),
    "no axis": nn.Sequential(LOGITS, nn.Flatten(0)),
}
X, TRAIN, TARGET = drawn(6, 4), drawn(20, 4, seed=1), torch.tensor([0, 1, 0, 1, 0, 0])
SIGN = torch.where(TARGET == 0, -1.0, 1.0).unsqueeze(1)


def task_of(model, target=TARGET, **settings):
    return fb.task(model, X, background=TRAIN, target=target, **settings)


def given_by(task, what, **settings):
    return fb.evaluate(task, {"it": what}, metrics="DEL", **settings).evaluations["it"].attributions


@pytest.mark.parametrize("name", ["saliency", "integrated_gradients", "occlusion", "kernel_shap"])
@pytest.mark.parametrize("model", MODELS)
def test_methods_explain_the_first_class_of_one_column_too(model, name):
    """Of logits it was a constant, whose attribution is 0."""
    first, second = (given_by(task_of(MODELS[model], target), fb.method(name)) for target in (0, 1))
    assert bool((first.abs().sum(1) > 0).all())
    if model != "probabilities":  # whose logarithms are those of p and of 1 - p
        torch.testing.assert_close(first, second if name == "saliency" else -second, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_captum_explains_the_target_of_a_model_of_one_column(model):
    from captum.attr import DeepLift, IntegratedGradients, NoiseTunnel, Occlusion, Saliency

    net, task = MODELS[model], task_of(MODELS[model])
    column = nn.Sequential(net, nn.Flatten(0))
    explainer = IntegratedGradients(column)
    for way in (IntegratedGradients(net), IntegratedGradients(net).attribute):
        torch.testing.assert_close(given_by(task, way), explainer.attribute(X) * SIGN)
    of_two = IntegratedGradients(task.model)  # has two columns by itself
    torch.testing.assert_close(given_by(task, of_two), of_two.attribute(X, target=TARGET))
    fewer = functools.partial(IntegratedGradients(net).attribute, n_steps=8)
    torch.testing.assert_close(given_by(task, fewer), explainer.attribute(X, n_steps=8) * SIGN)
    magnitudes = Saliency(column).attribute(X.clone())
    torch.testing.assert_close(given_by(task, Saliency(net)), magnitudes, msg="a magnitude has no sign to turn")
    for kind in (DeepLift, lambda net: NoiseTunnel(Saliency(net))):
        assert given_by(task, kind(net)).shape == X.shape
    windows = functools.partial(Occlusion(net).attribute, sliding_window_shapes=(1,))
    expected = Occlusion(column).attribute(X, sliding_window_shapes=(1,)) * SIGN
    torch.testing.assert_close(given_by(task, windows), expected)
    assert not net._forward_hooks, "the model is as it was"


class Explainer:
    """Called as explainers of `shap` are; gives values of the one output that it explains."""

    shap_values = None

    def __init__(self, axis=False):
        self.axis = axis

    def __call__(self, x):
        return types.SimpleNamespace(values=x[..., None] if self.axis else x, base_values=np.zeros(len(x)))


@pytest.mark.parametrize("axis", [False, True])
def test_values_of_one_output_are_turned_for_the_first_class(axis):
    task = task_of(LOGITS)
    torch.testing.assert_close(given_by(task, Explainer(axis)), X * SIGN)
    torch.testing.assert_close(given_by(task, Explainer(axis)(X.numpy())), X * SIGN)
    torch.testing.assert_close(given_by(task, X), X, msg="of plain numbers it is not known what they explain")


def test_values_of_three_classes_or_of_a_chosen_one_are_taken_as_they_are():
    three = nn.Linear(4, 3)
    assert torch.equal(given_by(task_of(three), Explainer()), X)
    pytest.importorskip("shap")
    import shap

    both = shap.Explanation(torch.stack([-2 * X, 2 * X], -1).numpy(), base_values=np.zeros((6, 2)))
    torch.testing.assert_close(given_by(task_of(LOGITS), both), 2 * X * SIGN)
    torch.testing.assert_close(given_by(task_of(LOGITS), both[..., 0]), -2 * X, msg="a person chose this class")


def test_explainers_of_shap_explain_the_target_of_a_model_of_one_output():
    shap = pytest.importorskip("shap")
    from sklearn.ensemble import GradientBoostingClassifier

    model = GradientBoostingClassifier(n_estimators=3, random_state=0).fit(TRAIN, (TRAIN[:, 0] > 0).long())
    explainer = shap.TreeExplainer(model)
    task = fb.task(model, X.double(), background=TRAIN.double(), target=TARGET)
    expected = torch.from_numpy(explainer.shap_values(X.double().numpy())) * SIGN
    for way in (explainer, explainer.shap_values):
        torch.testing.assert_close(given_by(task, way), expected)
