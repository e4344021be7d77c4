"""The ten metrics: equal to their slow twins, invariant where they must be, exact where the answer is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.core.errors import UsageError
from benchmark.core.types import Budget
from benchmark.modalities.removal import ColumnRemoval
from benchmark.models.training import freeze
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.metrics import (
    CONSTANT_ATTRIBUTION,
    CONSTANT_RESPONSE,
    METRICS,
    NON_FINITE,
    TEN,
    select_metrics,
)
from tests import references, toys


def subsets_of(evaluator):
    """Return the evaluator's FC and INF subsets as lists of feature numbers."""
    found = {}
    for kind in ("fixed", "bernoulli"):
        removals = evaluator.subsets(kind, slice(0, len(evaluator.samples)))
        found[kind] = [
            [
                removals.removed(torch.tensor([row]), torch.tensor([which]))[0].nonzero().flatten().tolist()
                for which in range(removals.shape[1])
            ]
            for row in range(len(evaluator.samples))
        ]
    return found


def differences(fast, slow):
    """Return the largest difference of each metric; NaN must meet NaN."""
    found = {}
    for name, column in fast.scores.items():
        reference = np.array(slow[name])
        np.testing.assert_array_equal(np.isnan(column), np.isnan(reference), err_msg=name)
        found[name] = np.nan_to_num(np.abs(column.numpy() - reference)).max()
    return found


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("task", "table"),
    [
        (toys.table(), True),
        (toys.table(), False),
        (toys.text(), True),
        (toys.image(), True),
        (toys.flat_image(), True),
        (toys.table(13), True),
    ],
    ids=["table-lookup", "table-asked", "text", "image", "image-same-baseline", "table-of-13"],
)
def test_every_metric_equals_its_slow_twin(task, table, seed):
    attributions = toys.scores(task, seed)
    evaluator = Evaluator(task, seed, value_table=table)
    assert evaluator.queries.uses_table is (table and task.n_features == 7)
    slow = references.all_scores(task, attributions, subsets_of(evaluator))
    worst = differences(evaluator.score(attributions), slow)
    assert set(worst) == set(TEN)
    assert max(worst.values()) < 1e-10, worst


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_few_steps_equal_the_slow_twin(steps):
    task = replace(toys.image(), budget=Budget(steps, 5, 0.2, 1))
    attributions = toys.scores(task)
    evaluator = Evaluator(task)
    slow = references.all_scores(task, attributions, subsets_of(evaluator))
    assert max(differences(evaluator.score(attributions), slow).values()) < 1e-10


def test_insertion_on_its_own_baseline_differs_from_removal_on_images():
    task = toys.image()
    blurred, flat = task.removal.baseline(task.test.x, "insertion"), task.removal.baseline(task.test.x)
    assert blurred.shape == task.test.x.shape
    assert (blurred - flat).abs().max() > 0.1


def equal(a, b, tolerance=1e-12):
    for name in TEN:
        torch.testing.assert_close(a.scores[name], b.scores[name], rtol=0, atol=tolerance, equal_nan=True)
        assert torch.equal(a.reasons[name], b.reasons[name]), name


@pytest.mark.parametrize("make", toys.TASKS.values(), ids=toys.TASKS)
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_scores_do_not_depend_on_the_batch(make, batch):
    task = make(samples=64)
    attributions = toys.scores(task)
    attributions[8] = 1.0
    attributions[:, ::2] = attributions[:, ::2].round()  # many ties
    whole = Evaluator(task, byte_budget=2**30)
    parts = Evaluator(task, byte_budget=task.n_features * 256 * batch)
    assert whole.batch == 64
    assert parts.batch == batch
    equal(whole.score(attributions), parts.score(attributions))


@pytest.mark.parametrize("make", toys.TASKS.values(), ids=toys.TASKS)
def test_scores_do_not_depend_on_order_or_company(make):
    task = make()
    attributions = toys.scores(task).round()
    whole = Evaluator(task).score(attributions)
    chosen = [7, 2, 9, 0]
    some = Evaluator(task, samples=chosen).score(attributions[chosen])
    for name in TEN:
        torch.testing.assert_close(whole.scores[name][chosen], some.scores[name], rtol=0, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("make", toys.TASKS.values(), ids=toys.TASKS)
def test_scores_do_not_depend_on_the_scale_of_attributions(make):
    task = make()
    attributions = toys.scores(task)
    evaluator = Evaluator(task)
    plain = evaluator.score(attributions)
    for scale in (1e-200, 1e-9, 3.7, 1e200):
        equal(plain, evaluator.score(attributions * scale), 1e-9)


@pytest.mark.parametrize("table", [True, False])
def test_scores_do_not_depend_on_the_names_of_features(table):
    task, swap = toys.table(), torch.tensor([3, 0, 6, 1, 5, 2, 4])
    other = replace(
        task,
        model=freeze(nn.Sequential(Reordered(swap.argsort()), task.model)),
        test=replace(task.test, x=task.test.x[:, swap]),
        removal=ColumnRemoval(task.removal.means[swap]),
    )
    attributions = toys.scores(task)
    a = Evaluator(task, value_table=table).score(attributions)
    b = Evaluator(other, value_table=table).score(attributions[:, swap])
    names = TEN if table else set(TEN) - {"FC", "INF"}  # drawn subsets are drawn by position
    for name in names:
        torch.testing.assert_close(a.scores[name], b.scores[name], rtol=0, atol=1e-12)


class Reordered(nn.Module):
    def __init__(self, order):
        super().__init__()
        self.order = order

    def forward(self, x):
        return x[:, self.order]


def test_any_increasing_transform_leaves_the_curves_alone():
    task = toys.table()
    attributions = toys.scores(task)
    evaluator = Evaluator(task)
    a, b = evaluator.score(attributions), evaluator.score(attributions.exp() * 5 - 2)
    for name in ("DEL", "INS", "NEG", "POS", "RP", "IROF"):
        assert torch.equal(a.scores[name], b.scores[name])


def linear_task(weights):
    x = torch.rand(9, len(weights)).double() + 0.5
    return toys.make(
        toys.Linear(weights), x, ColumnRemoval(torch.zeros(len(weights)).double()), Budget(len(weights)), "table"
    )


@pytest.mark.parametrize("table", [True, False])
def test_a_linear_model_gives_its_exact_attribution_full_marks(table):
    task = linear_task(torch.tensor([0.03, -0.02, 0.05, 0.01, -0.015, 0.04], dtype=torch.float64))
    exact = task.test.x * task.model.weights
    result = Evaluator(task, value_table=table).score(exact)
    for name in ("FC", "FE", "INF", "MC"):
        assert (result.scores[name] > 1 - 1e-9).all(), name
    reverse = Evaluator(task, value_table=table).score(-exact)
    for name in ("FC", "FE", "INF"):
        assert (reverse.scores[name] < -1 + 1e-9).all(), name


def test_a_deletion_curve_by_hand():
    """p = .6 + .1 a + .05 b - .1 c on (1, 1, 1): v_0 = .65; a, b, c removed in turn: .55, .5, .6."""
    task = linear_task(torch.tensor([0.1, 0.05, -0.1], dtype=torch.float64))
    task.test.x[:] = 1.0
    result = Evaluator(task).score(torch.tensor([[3.0, 2.0, 1.0]]).expand(9, 3))
    by_hand = {
        "DEL": (0.55 + 0.5 + 0.6) / 3,
        "RP": (0 + 0.1 + 0.15 + 0.05) / 4,
        "IROF": 1 - (0.55 + 0.5 + 0.6) / 3 / 0.65,
        "INS": (0.7 + 0.75 + 0.65) / 3,  # a, then a and b, then all three
        "NEG": (0.75 + 0.7 + 0.6) / 3,  # without c, without c and b, without all: never under .5
    }
    for name, value in by_hand.items():
        assert result.scores[name][0] == pytest.approx(value, abs=1e-12), name
    assert result.scores["FE"][0] == pytest.approx(np.corrcoef([3, 2, 1], [0.1, 0.05, -0.1])[0, 1])


def test_a_flip_ends_pos_and_neg_and_is_counted():
    """Two classes, p = .6 + .2 a - .3 b ... on ones: p falls under .5 at a known step."""
    task = linear_task(torch.tensor([0.2, 0.15, -0.3], dtype=torch.float64))
    task.test.x[:] = 1.0  # v_0 = .65
    result = Evaluator(task).score(torch.tensor([[3.0, 2.0, 1.0]]).expand(9, 3))
    assert result.scores["POS"][0] == pytest.approx(0.45)  # a removed: .45, another class at once
    assert result.scores["NEG"][0] == pytest.approx((0.95 + 0.8 + 0.6) / 3)


def test_constant_model_and_constant_attribution():
    task = toys.table()
    flat = replace(task, model=freeze(Silent(task.model)))
    evaluation = Evaluator(flat).score(toys.scores(task))
    for name in ("FC", "FE", "MC", "INF"):
        assert evaluation.scores[name].isnan().all()
        assert (evaluation.reasons[name] == CONSTANT_RESPONSE).all()
    assert torch.allclose(evaluation.scores["DEL"], evaluation.scores["INS"])
    assert (evaluation.scores["RP"] == 0).all()
    for value in (0.0, 1.0, -3.5, 1e-30):
        evaluation = Evaluator(task).score(torch.full((len(task.test.x), 7), value))
        for name in ("FC", "FE", "MC", "INF"):
            assert (evaluation.scores[name] == 0).all()
            assert (evaluation.reasons[name] == CONSTANT_ATTRIBUTION).all()


class Silent(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x) * 0 + torch.tensor([1.0, 0.5, 0.0], dtype=x.dtype)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_sample_that_is_not_finite_fails_alone(value):
    task = toys.table()
    attributions = toys.scores(task)
    broken = attributions.clone()
    broken[3, 2] = value
    good, bad = Evaluator(task).score(attributions), Evaluator(task).score(broken)
    assert bad.failed.tolist() == [row == 3 for row in range(len(broken))]
    for name in TEN:
        assert bad.scores[name][3].isnan()
        assert bad.reasons[name][3] == NON_FINITE
        rest = [row for row in range(len(broken)) if row != 3]
        assert torch.equal(good.scores[name][rest], bad.scores[name][rest])


def test_padding_is_never_a_feature():
    task = toys.text()
    attributions = toys.scores(task)
    valid = task.removal.valid(task.test.x)
    evaluator = Evaluator(task)
    wild = torch.where(valid, attributions, torch.full_like(attributions, math.nan))
    equal(evaluator.score(attributions), evaluator.score(wild), 0)


def test_metric_table_is_complete():
    assert TEN == ("FC", "FE", "MC", "INF", "DEL", "INS", "NEG", "POS", "RP", "IROF")
    assert list(METRICS)[:10] == list(TEN)
    for name, metric in METRICS.items():
        assert metric.name == name
        assert name in references.METRICS, f"add a slow twin of {name}"
        assert metric.low < metric.high
        assert metric.formula
        assert metric.source
        assert metric.meaning.endswith("?")
        assert metric.blind_to
        assert metric.redundancy


def test_directions_agree_with_an_oracle():
    """On a linear model the exact attribution must beat its negation on every signed metric."""
    task = linear_task(torch.tensor([0.05, -0.06, 0.07, 0.02, -0.03], dtype=torch.float64))
    exact = task.test.x * task.model.weights
    good, bad = Evaluator(task).score(exact), Evaluator(task).score(-exact)
    for name, metric in ((name, METRICS[name]) for name in TEN):
        if name == "MC":  # blind to sign by definition
            continue
        gap = (good.scores[name].mean() - bad.scores[name].mean()).item()
        assert gap > 0 if metric.higher_is_better else gap < 0, name


def test_select_metrics():
    assert select_metrics("del, FC") == ["FC", "DEL"]
    assert select_metrics("all") == list(METRICS)
    assert select_metrics("I*,!irof") == ["INF", "INS"]
    assert select_metrics("!fc") == list(TEN)[1:]
    assert select_metrics("ten") == list(TEN)
    assert select_metrics("Stability, del") == ["DEL", "SENS"]
    assert select_metrics("all,!ten") == list(METRICS)[10:]
    for text, message in (
        ("DLE", "unknown metric 'DLE'; did you mean 'DEL'"),
        ("FC,!all", "'FC,!all' leaves no metric"),
        ("", "expected names separated by commas"),
    ):
        with pytest.raises(UsageError, match=message):
            select_metrics(text)
