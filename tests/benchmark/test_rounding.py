"""MC, whose ranks would tell rounding apart: its scores do not depend on what else is in a forward of the model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmark.core.seeding import seeded
from benchmark.core.types import Budget
from benchmark.modalities.removal import ColumnRemoval
from benchmark.models.training import freeze
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.metrics import CONSTANT_RESPONSE, OK
from tests import references, toys

FEATURES = 13


class Rounding(nn.Module):
    """Answers as a model in float32 does: last digits of logits follow from the row's place and the forward's size."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        logits = self.inner(x)
        places = torch.arange(logits.numel(), dtype=torch.float64).view_as(logits)
        return logits + 5e-7 * torch.sin(places * 12.9898 + 78.233 * len(x))


class Forest(nn.Module):
    """Trees of one split a feature, each worth a twentieth: many removals have the same effect."""

    def forward(self, x):
        share = 0.5 + ((x > 0.2).double() - (x < -0.2).double()).sum(1) / 40
        return torch.stack([share, 1 - share], 1).log()


class Reading(nn.Module):
    """Reads five of the features alone."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 3))

    def forward(self, x):
        return self.layers(x[:, 3:8])


def task_of(model, steps=FEATURES, samples=24, round_off=True):
    with seeded(3):
        inner, x = model(), torch.randn(samples, FEATURES).double()
    inner = Rounding(inner) if round_off else inner
    return toys.make(inner, x, ColumnRemoval(torch.zeros(FEATURES).double()), Budget(steps), "table")


def mc(task, attributions, **how):
    return Evaluator(task, metrics=how.pop("metrics", ["MC"]), **how).score(attributions).scores["MC"]


def same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12, equal_nan=True)


@pytest.fixture(params=[(Forest, FEATURES), (Reading, FEATURES), (Forest, 5), (Reading, 5)], ids=str)
def task(request):
    return task_of(*request.param)


def test_scores_do_not_depend_on_other_methods(task):
    own = [toys.scores(task, seed) for seed in range(5)]
    together = Evaluator(task, metrics=["MC"]).score_all(own)
    for attributions, found in zip(own, together, strict=True):
        same(found.scores["MC"], mc(task, attributions))


def test_scores_do_not_depend_on_other_metrics(task):
    attributions = toys.scores(task)
    same(mc(task, attributions), mc(task, attributions, metrics=["FC", "MC", "DEL", "INS"]))


@pytest.mark.parametrize("batch", [1, 5, 7])
def test_scores_do_not_depend_on_the_batch(task, batch):
    attributions = toys.scores(task)
    same(mc(task, attributions), mc(task, attributions, byte_budget=FEATURES * 256 * batch))


def test_scores_do_not_depend_on_the_order_of_samples(task):
    attributions = toys.scores(task)
    order = torch.randperm(len(attributions), generator=torch.Generator().manual_seed(0))
    same(mc(task, attributions)[order], mc(task, attributions[order], samples=order.tolist()))


def test_scores_do_not_depend_on_how_answers_are_looked_up():
    """All subsets of few features are asked at once, or each as it comes."""
    with seeded(0):
        model, x = Rounding(Forest()), torch.randn(30, 9).double()
    task = toys.make(model, x, ColumnRemoval(torch.zeros(9).double()), Budget(9), "table")
    attributions = toys.scores(task)
    same(mc(task, attributions, value_table=True), mc(task, attributions, value_table=False))


@pytest.mark.parametrize("model", [Forest, Reading])
@pytest.mark.parametrize("steps", [FEATURES, 5])
def test_tied_effects_are_ranked_as_by_the_slow_twin(model, steps):
    task = task_of(model, steps, round_off=False)
    attributions = toys.scores(task)
    none = [[[0], [1]]] * len(attributions)
    slow = references.all_scores(task, attributions, {"fixed": none, "bernoulli": none})["MC"]
    same(mc(task, attributions), torch.tensor(slow, dtype=torch.float64))
    same(mc(replace(task, model=freeze(Rounding(task.model))), attributions), torch.tensor(slow, dtype=torch.float64))


def test_effects_a_little_larger_than_rounding_are_told_apart():
    """Also where the model is nearly sure, so that probabilities hardly move."""
    weights = 1e-4 * torch.tensor([1.0, 2, 3, 4, 5]).double()
    for sure in (0.0, 9.0, 18.0):
        task = toys.make(Logit(weights, sure), torch.ones(3, 5).double(), ColumnRemoval(torch.zeros(5).double()),
                         Budget(5), "table")  # fmt: skip
        same(mc(task, weights.expand(3, 5)), torch.ones(3).double())


class Logit(nn.Module):
    def __init__(self, weights, sure):
        super().__init__()
        self.weights, self.sure = nn.Parameter(weights), sure

    def forward(self, x):
        logit = self.sure + x @ self.weights
        return torch.stack([logit, torch.zeros_like(logit)], 1)


def test_where_all_effects_are_equal_the_score_is_undefined_for_every_method():
    """0.5 - 0.475 and 0.525 - 0.5 are equal, though answers differ."""
    task = task_of(Forest)
    task.test.x[:] = torch.tensor([1.0, -1.0] * 6 + [1.0])
    evaluator = Evaluator(task, metrics=["MC", "FE"])
    for found in evaluator.score_all([toys.scores(task), torch.ones(24, FEATURES)]):
        assert found.scores["MC"].isnan().all()
        assert (found.reasons["MC"] == CONSTANT_RESPONSE).all()
    assert (evaluator.score(toys.scores(task)).reasons["FE"] == OK).all()
