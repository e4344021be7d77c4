"""Every method on every kind of model, on the stand-ins: attributions that are attributions, and known answers."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import lru_cache

import pytest
import torch

from benchmark.core.parameters import configure
from benchmark.core.sources import Sources
from benchmark.core.types import METHODS, PACKAGES, TASKS
from benchmark.running.presets import PRESETS
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.isolation import check_attribution, for_methods
from tests.tiers import by_task

SAMPLES = 3
QUICK = PRESETS["quick"]


@lru_cache(maxsize=2)
def task_and_evaluator(name):
    spec = TASKS.get(name)()
    task = spec.build(spec.locate(Sources("synthetic")), name, "cpu")
    task = replace(task, budget=QUICK.budget(task.budget))
    return spec, task, Evaluator(task, samples=range(SAMPLES))


def methods_for(modality):
    """Return the methods of the benchmark itself: tests in this process may have included others."""
    own = [METHODS.entry(name) for name in METHODS.names()]
    own = [entry for entry in own if entry.module.split(".")[0] in PACKAGES]
    return [entry.name for entry in own if modality in entry.facts["modalities"]]


ONE_OF_EACH = (
    "nap_mlp", "breast_cancer_mlp", "imdb_lstm", "imdb_transformer", "digits_cnn", "imagenet_resnet", "oct_deit",
    "oct_efficientnet", "imagenet_mobilenet",
)  # fmt: skip
"""A task for each family of models, the one that is trained soonest, and a table too wide for the oracles."""
PAIRS = [(task, method) for task in ONE_OF_EACH for method in methods_for(TASKS.entry(task).facts["modality"])]


HASTY = {"iterations": "3", "rows": "3", "batch": "4", "members": "2", "coalitions": "2", "subsets": "4",
         "rounds": "2", "steps": "3", "search": "5", "width": "16", "depth": "1"}  # fmt: skip
"""What shows that a trained explainer runs, and no more; its tests of its own show that it learns."""


def quick(name):
    cls = METHODS.get(name)
    learned = METHODS.entry(name).facts["kind"] == "learned"
    own = {field.name for field in fields(cls)}
    return configure(cls, name, QUICK.given(cls, {k: v for k, v in HASTY.items() if learned and k in own}))


def test_methods_of_the_paper_are_there():
    text = {"integrated_gradients", "gradient_shap", "deeplift", "saliency", "occlusion", "feature_ablation", "lime",
            "kernel_shap"}  # fmt: skip
    image = {"integrated_gradients", "deeplift", "saliency", "occlusion", "lime", "kernel_shap", "input_x_gradient",
             "guided_backprop", "grad_cam", "score_cam", "grad_cam_plus_plus", "expected_gradients", "deeplift_shap",
             "lrp"}  # fmt: skip
    for modality, names in {"table": text, "text": text, "image": image}.items():
        found = {name for name in methods_for(modality) if METHODS.entry(name).facts["kind"] == "baseline"}
        assert found == names, modality


def test_every_family_of_models_has_a_task_here():
    """The other tasks differ from these in data and training, which tests/benchmark/test_tasks.py looks at."""

    def family(name):
        return TASKS.get(name)().facts()["model"].split(",")[0].split()[0]

    assert {family(name) for name in ONE_OF_EACH} == {family(name) for name in TASKS.names()}


@pytest.mark.parametrize(("name", "method"), by_task(PAIRS))
def test_every_pair(name, method):
    spec, task, evaluator = task_and_evaluator(name)
    made = quick(method)
    if reason := made.unsupported(spec):
        assert reason.endswith(tuple("0123456789")), "a reason says the number that stands in the way"
        return
    x, target, given = evaluator.x, evaluator.shared.target, for_methods(task)
    with evaluator.guard.watch(seed=2):  # neither rows nor model nor hooks are other than before
        explain = made.prepare(given, seed=1)
        found = check_attribution(explain(x, target), (SAMPLES, task.n_features))
    assert found.isfinite().all()
    assert not found.requires_grad
    assert torch.equal(found, made.prepare(given, seed=1)(x, target)), "the same seed gives the same attribution"
    alone = explain(x[1:2], target[1:2])
    scale = found[1].abs().max().item()
    torch.testing.assert_close(
        alone[0], found[1], rtol=1e-3, atol=2e-3 * scale + 1e-7, msg="neighbours must not matter"
    )
    if spec.modality == "text" and METHODS.entry(method).facts["kind"] in ("baseline", "learned"):
        assert (found[~evaluator.valid] == 0).all(), "padding is no feature"
    scores = evaluator.score(found).scores
    assert all(values.isfinite().all() for metric, values in scores.items() if metric not in ("FC", "INF", "FE", "MC"))


@pytest.mark.parametrize(
    "name", by_task(name for name in TASKS.names() if TASKS.entry(name).facts["modality"] != "table")
)
def test_planted_evidence_gets_attribution(name):
    _, task, _ = task_and_evaluator(name)
    evaluator = Evaluator(task, samples=range(12), metrics=["DEL"])
    base = (task.evidence.sum(1) / task.removal.valid(task.test.x).sum(1)).mean().item()
    share = {
        method: evaluator.evaluate(quick(method), method).evidence.mean().item()
        for method in ("integrated_gradients", "random", "constant")
    }
    assert share["constant"] == pytest.approx(base, abs=0.08)
    assert share["random"] == pytest.approx(base, abs=0.08)
    assert share["integrated_gradients"] > 3 * base
    assert share["integrated_gradients"] > 0.3


def padded(task, x, more):
    """Return the same texts and task with more room for padding."""
    from benchmark.modalities.removal import TokenRemoval

    removal = TokenRemoval(task.n_features + more, task.removal.mask_id, task.removal.pad_id)
    train = torch.nn.functional.pad(task.train.x, (0, more))
    wider = replace(task, removal=removal, train=replace(task.train, x=train))
    return wider, torch.nn.functional.pad(x, (0, more))


SEEDED_BY_BYTES = ("random", "gradient_shap", "lime", "kernel_shap")
"""Methods that draw from a seed made of the text's own bytes, padding included."""


FOR_ONE_LENGTH = ("deepfaith", "deepfaith_hinted", "fastshap", "l2x", "cxplain", "vert_amortised")
"""Methods that are trained for texts of one length."""
UNTRIED = (*SEEDED_BY_BYTES, *FOR_ONE_LENGTH, "constant")


@pytest.mark.parametrize("method", [name for name in methods_for("text") if name not in UNTRIED])
@pytest.mark.parametrize("name", by_task(["imdb_lstm", "imdb_transformer"]))
def test_more_padding_changes_nothing(name, method):
    _, task, evaluator = task_and_evaluator(name)
    if "transformer" in name:  # it has as many places as the task has words
        x = evaluator.x[:, :-8]
        assert (x != 0).any(1).all(), "each text still has words"
        short = replace(task, removal=replace(task.removal, n_features=task.n_features - 8))
        short = replace(short, train=replace(task.train, x=task.train.x[:, :-8]))
        wide, wide_x = padded(short, x, 8)
        task = short
    else:
        x = evaluator.x
        wide, wide_x = padded(task, x, 8)
    target = evaluator.shared.target
    narrow = quick(method).prepare(task, 0)(x, target)
    found = quick(method).prepare(wide, 0)(wide_x, target)
    torch.testing.assert_close(found[:, :-8], narrow, rtol=1e-4, atol=1e-5)
    assert (found[:, -8:] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["imdb_transformer", "oct_efficientnet", "digits_cnn"])
def test_scores_do_not_know_the_batch(name):
    _, task, evaluator = task_and_evaluator(name)
    attributions = quick("integrated_gradients").prepare(task, 0)(evaluator.x, evaluator.shared.target)
    whole = evaluator.score(attributions).scores
    small = Evaluator(task, samples=range(SAMPLES), byte_budget=1).score(attributions).scores
    back = Evaluator(task, samples=[2, 1, 0]).score(attributions.flip(0)).scores
    for metric, values in whole.items():
        torch.testing.assert_close(small[metric], values, rtol=0, atol=2e-4, equal_nan=True)
        torch.testing.assert_close(back[metric].flip(0), values, rtol=0, atol=2e-4, equal_nan=True)
