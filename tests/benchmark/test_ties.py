"""Features of equal attribution keep an order that is drawn for each seed and sample, and favours none."""

from __future__ import annotations

import pytest
import torch

from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.metrics import TEN
from benchmark.scoring.ordered_queries import ordering_of
from benchmark.scoring.shared_queries import RANDOM
from tests import toys
from tests.benchmark.test_seeds import FEATURES, SPREADS, all_of, table

SAMPLES = 80


def tie_orders(evaluator, *values):
    """Return the orders (M, N, G) in which features are taken that all have one attribution: M values, 0 alone."""
    shape = len(values) or 1, len(evaluator.samples), FEATURES
    scores = torch.tensor(values or (0.0,)).double().view(-1, 1, 1).expand(shape)
    return ordering_of(evaluator.queries, scores, all_of(evaluator)).order.view(shape)


def test_each_seed_and_sample_has_an_order_of_ties_of_its_own():
    """Whoever else is scored, by whatever number the features are tied, and whichever samples are taken."""
    task = table(SAMPLES)
    orders = torch.stack([tie_orders(Evaluator(task, seed, metrics=["DEL"]))[0] for seed in range(4)])
    assert (orders.sort(-1).values == torch.arange(FEATURES)).all()
    assert len({tuple(row) for row in orders.flatten(0, 1).tolist()}) == 4 * SAMPLES
    for of_method in tie_orders(Evaluator(task, 1, metrics=["DEL"]), 0.0, 0.0, -3.0, 7.5):
        assert torch.equal(of_method, orders[1])
    some = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(1))[:50].tolist()
    assert torch.equal(tie_orders(Evaluator(task, 1, some, metrics=["DEL"]))[0], orders[1][some])


def test_the_order_of_ties_favours_no_feature():
    """Over many samples each feature is as often at each place, and those that FC or INF removes are nowhere sooner."""
    evaluator = Evaluator(table(4000), metrics=["DEL"])
    orders = tie_orders(evaluator)[0]
    counts = torch.stack([torch.bincount(place, minlength=FEATURES) for place in orders.T]).double()
    expected = len(orders) / FEATURES
    chi, freedom = float(((counts - expected) ** 2 / expected).sum()), (FEATURES - 1) ** 2
    assert abs(chi - freedom) < SPREADS * (2 * freedom) ** 0.5
    places = orders.argsort(1).double()
    for kind in RANDOM:
        rows = slice(0, 500)
        sets = evaluator.queries.subsets(kind, rows)
        first = sets.removed(torch.arange(500), torch.zeros(500, dtype=torch.long)).double()
        r = torch.corrcoef(torch.stack([places[rows].flatten(), first.flatten()]))[0, 1]
        assert abs(float(r)) < SPREADS / first.numel() ** 0.5
        of_foremost = first.gather(1, orders[rows][:, :1])
        assert abs(float(of_foremost.mean() - first.mean())) < SPREADS * float(first.std()) / 500**0.5


@pytest.mark.parametrize("metric", TEN)
def test_ties_are_broken_alike_for_all_methods(metric):
    """Whatever the tied numbers are, and whoever else is scored."""
    evaluator = Evaluator(table(), seed=1, metrics=[metric])
    halves = (torch.arange(FEATURES) % 2).double().expand(toys.SAMPLES, -1)
    found = evaluator.score_all([halves, toys.scores(evaluator.task), 3 * halves, halves.float()])
    first, _, *others = (one.scores[metric] for one in found)
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=1e-12)
    torch.testing.assert_close(evaluator.score(halves).scores[metric], first, rtol=0, atol=1e-12)


@pytest.mark.parametrize("metric", ["DEL", "INS"])
def test_ties_follow_the_order_that_is_drawn(metric):
    """A constant attribution scores as one does that descends along the order of ties."""
    evaluator = Evaluator(table(), seed=1, metrics=[metric])
    descending = FEATURES - tie_orders(evaluator)[0].argsort(1).double()
    constant, along, against = (
        evaluator.score(scores).scores[metric] for scores in (torch.ones_like(descending), descending, -descending)
    )
    torch.testing.assert_close(constant, along, rtol=0, atol=1e-12)
    assert (constant - against).abs().min() > 1e-6
