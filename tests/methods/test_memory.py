"""Where memory runs out while a method asks the model, it answers as where there is plenty."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmark.core.types import METHODS
from deepfaith.method import DeepFaith
from deepfaith.supervision import supervise
from deepfaith.training import Joint
from methods.amortised import Players, predictions
from methods.cxplain import single_removals
from methods.fastshap import Game, shapley_coalitions
from tests import toys

ROWS = 3
"""Rows of a forward for which there is memory."""
METHODS_THAT_ASK = {
    "table": ("occlusion", "feature_ablation", "lime", "kernel_shap", "exact_shapley", "exact_banzhaf"),
    "text": ("occlusion", "feature_ablation", "lime", "kernel_shap"),
    "image": ("occlusion", "lime", "kernel_shap", "score_cam"),
}


def twice(task, ask):
    """Return what `ask` gives with memory for all rows, and for few; the second makes smaller forwards."""
    plenty, sizes = ask(), []
    tight = toys.Tight(task.model, ROWS)
    seen = task.model.register_forward_hook(lambda _model, inputs, _output: sizes.append(len(inputs[0])))
    little = ask()
    tight.hook.remove()
    seen.remove()
    assert 1 < max(sizes) <= ROWS, "memory ran out, and several rows were asked together afterwards"
    return plenty, little


def same(task, ask):
    plenty, little = twice(task, ask)
    for a, b in zip(plenty, little, strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=1e-6)  # some of it is float32


PAIRS = [(modality, name) for modality, names in METHODS_THAT_ASK.items() for name in names]


@pytest.mark.parametrize(("modality", "name"), PAIRS)
def test_methods_that_ask(modality, name):
    task = toys.TASKS[modality]()
    task = replace(task, spatial="0" if modality == "image" else None)
    settings = {"n_samples": 20} if name in ("lime", "kernel_shap") else {}
    x, target = task.test.x[4:9], torch.tensor([0, 1, 2, 0, 1])
    same(task, lambda: [METHODS.get(name)(**settings).prepare(task, 0)(x, target)])


@pytest.mark.parametrize("modality", toys.TASKS)
def test_what_is_asked_in_training(modality):
    task = toys.TASKS[modality]()
    x, players = task.test.x, Players(task)
    present = shapley_coalitions(players.valid(x), 4, torch.Generator().manual_seed(0))
    same(task, lambda: [predictions(task, x)])
    same(task, lambda: single_removals(task, players, x))
    for predicted_only in (False, True):
        same(task, lambda only=predicted_only: [Game(task, players, None, only, "probability")(x, present)])


def test_what_deepfaith_asks():
    task = toys.table(samples=30)
    task = replace(
        task,
        model=task.model.float(),
        train=replace(task.train, x=task.train.x.float()),
        test=replace(task.test, x=task.test.x.float()),
    )
    recipe = DeepFaith(iterations=3, rows=10, batch=8, subsets=4, width=8, depth=1).recipe("table")
    x = task.train.x

    def joint():
        from deepfaith.training import _untrained

        objective = Joint(_untrained(task, recipe, 0), task, recipe, x[5:], None, None, x[:5], None, 0)
        output = objective.query(x)
        return output.target, output.margin, output.clean, objective.loss(torch.Generator().manual_seed(0)).detach()

    same(task, joint)
    priors = [("occlusion", METHODS.get("occlusion")())]

    def supervision():
        found = supervise(task, x, priors, 0)
        return found.target, found.attributions, found.scores.nan_to_num(-1.0)

    same(task, supervision)
