"""Optima against every order there is, and against random attributions."""

from __future__ import annotations

import itertools

import pytest
import torch

from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.metrics import METRICS, TEN
from benchmark.scoring.removal_sets import all_subsets
from deepfaith.optimality import bernoulli, best_map, best_path, optimum
from tests import toys


@pytest.fixture(scope="module", params=[0, 1, 2])
def case(request):
    task = toys.table(features=5, samples=14, seed=request.param)
    evaluator = Evaluator(task, 0)
    return task, evaluator, optimum(evaluator.shared.table, task.budget)


def test_no_order_does_better_and_one_does_as_well(case):
    _, evaluator, best = case
    rows = len(evaluator.samples)
    scores = {name: [] for name in TEN}
    for order in itertools.permutations(range(5)):
        attribution = torch.tensor(order).double().expand(rows, 5)
        found = evaluator.score(attribution).scores
        for name, column in scores.items():
            column.append(found[name])
    for name in ("DEL", "INS", "NEG", "POS", "RP", "IROF"):
        every = torch.stack(scores[name])
        extreme = every.amax(0) if METRICS[name].higher_is_better else every.amin(0)
        torch.testing.assert_close(best[name], extreme, msg=name)


def test_no_attribution_correlates_better(case):
    _, evaluator, best = case
    generator = torch.Generator().manual_seed(0)
    table = evaluator.shared.table
    singles = table.prob[:, :1] - table.prob[:, [1 << bit for bit in range(5)]]
    tried = [torch.randn(len(table.prob), 5, generator=generator, dtype=torch.float64) for _ in range(200)]
    tried += [singles, best_map(table, bernoulli(5, 0.5)), best_map(table, bernoulli(5, 0.3))]
    for attribution in tried:
        found = evaluator.score(attribution).scores
        for name in ("FC", "INF", "FE", "MC"):
            assert (found[name] <= best[name] + 1e-9).all(), name
    torch.testing.assert_close(evaluator.score(singles).scores["FE"], best["FE"])
    reached = evaluator.score(best_map(table, bernoulli(5, 0.5))).scores["INF"]
    torch.testing.assert_close(reached, best["INF"])


def test_the_best_map_for_fair_coins_is_the_banzhaf_value(case):
    _, evaluator, _ = case
    table = evaluator.shared.table
    drops = table.prob[:, :1] - table.prob
    members = all_subsets(5)
    banzhaf = torch.stack([drops[:, members[:, i]].mean(1) - drops[:, ~members[:, i]].mean(1) for i in range(5)], 1)
    torch.testing.assert_close(best_map(table, bernoulli(5, 0.5)), banzhaf)


def test_a_linear_model_has_one_best_map():
    """Where the model is linear S* is the model, and it is best for every correlation."""
    weights = torch.tensor([0.1, -0.06, 0.05, 0.03], dtype=torch.float64)
    x = torch.rand(9, 4, generator=torch.Generator().manual_seed(0)).double()
    task = toys.make(toys.Linear(weights), x, toys.ColumnRemoval(torch.zeros(4)), toys.Budget(4), "table")
    evaluator = Evaluator(task, 0)
    best = optimum(evaluator.shared.table, task.budget)
    for share in (0.2, 0.5):
        found = evaluator.score(best_map(evaluator.shared.table, bernoulli(4, share))).scores
        for name in ("FC", "INF", "FE", "DEL", "INS", "RP", "IROF"):
            torch.testing.assert_close(found[name], best[name], atol=1e-9, rtol=0)


def test_a_path_by_hand():
    values = torch.tensor([[9.0, 1.0, 2.0, 5.0]])  # {}, {0}, {1}, {0, 1}
    assert best_path(values, lowest=True).item() == 6
    assert best_path(values, lowest=False).item() == 7


def test_weights_of_removal_sets():
    weights = bernoulli(3, 0.25)
    assert weights.sum().item() == pytest.approx(1)
    assert weights[0].item() == pytest.approx(0.75**3)
    assert weights[0b101].item() == pytest.approx(0.25**2 * 0.75)
