"""Removal sets, orders and how the model is asked."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations

import pytest
import torch

from benchmark.core.seeding import random_bits, seeded
from benchmark.core.types import Budget
from benchmark.models.batching import bytes_per_row
from benchmark.scoring import evaluator as evaluator_module
from benchmark.scoring import ordered_sets, removal_sets
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.isolation import BadAttributionError
from benchmark.scoring.masked_model import MaskedModel, substitute
from benchmark.scoring.metrics import TEN
from benchmark.scoring.random_sets import RandomSets, subset_sizes
from benchmark.scoring.removal_sets import MaskSets
from tests import references, toys


@pytest.fixture(autouse=True)
def same_numbers_each_time():
    with seeded(0):
        yield


def test_random_bits_are_splitmix64():
    seeds = [0, 1, 2**62, -5]
    counters = [0, 1, 17, 2**40]
    fast = random_bits(torch.tensor(seeds).unsqueeze(1), torch.tensor(counters))
    slow = [[references.splitmix64(s, c) for c in counters] for s in seeds]
    assert fast.tolist() == slow


def draws(size, subsets=4000, features=9, valid=None, even=False):
    valid = torch.ones(2, features, dtype=torch.bool) if valid is None else valid
    sizes = None if size is None else torch.tensor([size, size])
    return RandomSets(torch.tensor([11, 12]), valid, subsets, sizes, even)


def order(scores, valid, steps, even=False):
    return ordered_sets.order_features(
        scores, valid, ordered_sets.shuffle(torch.arange(len(valid)), valid.shape[1]), steps, even
    )


def masks(removals, sample):
    which = torch.arange(removals.subsets if isinstance(removals, RandomSets) else removals.shape[1])
    return removals.removed(torch.full_like(which, sample), which)


@pytest.mark.parametrize("even", [True, False], ids=["listed", "by keys"])
def test_fixed_draws_have_their_size_and_reach_every_subset_alike(even):
    assert (draws(3, even=even).choices is not None) is even
    found = masks(draws(3, even=even), 0)
    assert (found.sum(1) == 3).all()
    counts = Counter(tuple(row.nonzero().flatten().tolist()) for row in found)
    assert set(counts) == set(combinations(range(9), 3))
    expected = 4000 / 84
    chi = sum((n - expected) ** 2 / expected for n in counts.values())
    assert chi < 83 + 4 * (2 * 83) ** 0.5


def test_bernoulli_draws_are_fair_and_independent():
    found = masks(draws(None), 1).double()
    assert (found.mean(0) - 0.5).abs().max() < 0.04
    assert (torch.corrcoef(found.T) - torch.eye(9)).abs().max() < 0.06
    assert not torch.equal(found, masks(draws(None), 0).double())


def test_a_sample_draws_alike_in_any_company():
    """A batch without padding must not draw by another rule than one with padding."""
    task = toys.text()
    full = task.removal.valid(task.test.x).all(1).nonzero().flatten().tolist()
    assert len(full) >= 2
    attributions = toys.scores(task)
    whole, alone = Evaluator(task), Evaluator(task, samples=full)
    together, apart = whole.score(attributions).scores["FC"][full], alone.score(attributions[full]).scores["FC"]
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-12)


def test_draws_avoid_padding():
    valid = torch.ones(2, 9, dtype=torch.bool)
    valid[0, 4:] = False
    for size in (2, None):
        found = masks(draws(size, 200, valid=valid), 0)
        assert not found[:, 4:].any()
        assert found[:, :4].any(0).all()


def test_subset_sizes():
    valid = torch.arange(40).unsqueeze(0) < torch.tensor([[40], [7], [1]])
    assert subset_sizes(valid, Budget(7)).tolist() == [13, 2, 1]
    assert subset_sizes(valid, Budget(20, 100, 1 / 20, 1)).tolist() == [2, 1, 1]


def test_order_is_descending_and_ties_are_drawn_by_seed_alone():
    scores = torch.tensor([[1.0, 3.0, 2.0, 2.0, 2.0]]).double().expand(400, 5)
    valid = torch.ones(400, 5, dtype=torch.bool)
    ordering = ordered_sets.order_features(scores, valid, ordered_sets.shuffle(torch.arange(400), 5), 5)
    assert (ordering.order[:, 0] == 1).all()
    assert (ordering.order[:, 4] == 0).all()
    middle = Counter(tuple(row) for row in ordering.order[:, 1:4].tolist())
    assert len(middle) == 6
    assert min(middle.values()) > 35
    again = ordered_sets.order_features(scores[:1], valid[:1], ordered_sets.shuffle(torch.tensor([7]), 5), 5)
    assert torch.equal(again.order[0], ordering.order[7])


@pytest.mark.parametrize("make", toys.TASKS.values(), ids=toys.TASKS)
def test_blocks_hold_the_same_masks_as_rows(make):
    task = make()
    valid = task.removal.valid(task.test.x)
    ordering = order(toys.scores(task), valid, 4)
    for removals in (
        ordered_sets.groups(ordering),
        ordered_sets.lerf(ordering),
        RandomSets(torch.arange(len(valid)), valid, 5, None).draw(),
        RandomSets(torch.arange(len(valid)), valid, 5, torch.ones(len(valid), dtype=torch.long)).draw(),
        MaskSets(torch.eye(task.n_features, dtype=torch.bool).unsqueeze(1), len(valid)),
    ):
        block = removals.block(slice(2, 5), slice(1, 3)).expand(2, 3, -1)
        for row, sample in enumerate(range(2, 5)):
            assert torch.equal(block[:, row], masks(removals, sample)[1:3])


@pytest.mark.parametrize("features", [5, 127, 128, 300])
@pytest.mark.parametrize("even", [True, False])
def test_runs_hold_the_places_between_their_bounds(features, even):
    """Also where places no longer fit the smallest integers."""
    scores = torch.randn(3, features, dtype=torch.float64)
    valid = torch.ones(3, features, dtype=torch.bool)
    valid[1, features // 2 :] = even
    ordering = order(scores, valid, 4, even)
    for runs in (
        ordered_sets.groups(ordering),
        ordered_sets.morf(ordering),
        ordered_sets.lerf(ordering),
        ordered_sets.insertions(ordering),
    ):
        low, high = (side.expand(3, -1).tolist() for side in (runs.low, runs.high))
        for sample in range(3):
            found = masks(runs, sample)
            for k in range(runs.shape[1]):
                places = ordering.order[sample, low[sample][k] : high[sample][k]].tolist()
                assert sorted(places) == found[k].nonzero().flatten().tolist()


def test_codes_number_the_rows_of_the_value_table():
    scores = torch.randn(6, 7, dtype=torch.float64)
    ordering = order(scores, torch.ones(6, 7, dtype=torch.bool), 7, even=True)
    every = removal_sets.all_subsets(7)
    runs = [ordered_sets.groups(ordering), ordered_sets.morf(ordering), ordered_sets.lerf(ordering)]
    for removals in (*runs, ordered_sets.join(runs), MaskSets(every[[3, 99]].unsqueeze(1), 6)):
        codes = removals.codes()
        for sample in range(6):
            assert torch.equal(every[codes[sample]], masks(removals, sample))


@pytest.mark.parametrize("features", [1, 7, 8, 9, 64, 70])
def test_packed_masks_come_back(features):
    given = torch.rand(5, 3, features) < 0.5
    packed = removal_sets.pack_bits(given)
    assert packed.dtype == torch.uint8
    assert packed.shape == (5, 3, -(-features // 8))
    assert packed[0, 0, 0] == sum(int(bit) << i for i, bit in enumerate(given[0, 0, :8]))
    assert torch.equal(removal_sets.unpack_bits(packed, features), given)


@pytest.mark.parametrize("size", [None, 3])
def test_sets_that_are_packed_are_the_same_sets(size, monkeypatch):
    plain = draws(size, subsets=40).draw()
    monkeypatch.setattr(removal_sets, "WORKING_SET", 2000)
    packed = draws(size, subsets=40).draw()
    assert isinstance(plain, MaskSets)
    assert isinstance(packed, removal_sets.PackedSets)
    assert packed.nbytes < plain.nbytes / 8
    assert packed.shape == plain.shape == (2, 40)
    everything = slice(0, 2), slice(0, 40)
    assert torch.equal(packed.block(*everything), plain.block(*everything))
    scores = torch.randn(4, 2, 9, dtype=torch.float64)
    slow = torch.stack([(masks(plain, i).double() @ scores[:, i].T).T for i in range(2)], 1)
    for removals in (plain, packed):
        torch.testing.assert_close(removal_sets.subset_mass(removals, scores), slow, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.int8])
def test_substitution_is_exact(dtype):
    """Also of numbers that no arithmetic brings back: -0, infinities, NaN, and values far apart."""
    odd = torch.tensor([-0.0, 0.0, float("inf"), -float("inf"), float("nan"), 1e30, 1e-30, 3.0])
    if not dtype.is_floating_point:
        limits = torch.iinfo(dtype)
        odd = torch.tensor([0, -1, limits.max, limits.min, 5, 7, 100, 3])
    x, base = odd.to(dtype).repeat(8, 1), odd.to(dtype).view(8, 1).expand(8, 8)
    for given, given_base in ((x, base), (x, base[:1])):
        chosen = torch.rand(20, 8, 8) < 0.5
        found = substitute(given, given_base, chosen)
        assert found.dtype == dtype
        expected = torch.where(chosen, given_base, given)
        as_bits = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}[x.element_size()]
        assert torch.equal(found.view(as_bits), expected.view(as_bits))
        assert torch.equal(substitute(given, given_base, chosen[0]).view(as_bits), expected[0].view(as_bits))
    channels, sites = torch.randn(2, 3, 4, 4), torch.rand(5, 2, 1, 4, 4) < 0.5
    assert torch.equal(substitute(channels, channels[:1] * 0, sites), channels.masked_fill(sites, 0))


def test_groups_partition_the_valid_features():
    task = toys.text()
    valid = task.removal.valid(task.test.x)
    ordering = order(toys.scores(task), valid, 6)
    runs = ordered_sets.groups(ordering)
    for row in range(len(valid)):
        total = masks(runs, row).sum(0)
        assert torch.equal(total.bool(), valid[row])
        assert total.max() == 1
        sizes = masks(runs, row)[runs.exists[row]].sum(1)
        assert sizes.min() >= 1
        assert sizes.max() - sizes.min() <= 1


def test_least_relevant_sets_are_the_last_groups():
    task = toys.image(steps=7)
    valid = task.removal.valid(task.test.x)
    ordering = order(toys.scores(task), valid, 7)
    alone, lerf = masks(ordered_sets.groups(ordering), 0), masks(ordered_sets.lerf(ordering, 2), 0)
    for place, k in enumerate(range(2, 7)):
        assert torch.equal(lerf[place], alone[7 - k :].any(0))


def test_group_mass_of_equal_groups_is_equal():
    scores = torch.tensor([[0.1, 0.2, 0.3, 0.1, 0.2, 0.3]], dtype=torch.float64)
    valid = torch.ones(1, 6, dtype=torch.bool)
    ordering = order(scores, valid, 3)
    assert ordered_sets.group_mass(ordering, scores).tolist() == [[0.6, 0.4, 0.2]]


def test_all_subsets_follow_their_codes():
    found = removal_sets.all_subsets(3)
    assert found.long().tolist() == [[c & 1, c >> 1 & 1, c >> 2 & 1] for c in range(8)]


@pytest.mark.parametrize("make", toys.TASKS.values(), ids=toys.TASKS)
def test_predictions_do_not_depend_on_how_rows_are_packed(make):
    task = make()
    x, valid = task.test.x, task.removal.valid(task.test.x)
    removals = RandomSets(torch.arange(len(x)), valid, 5, None).draw()
    big, small = MaskedModel(task, 2**30), MaskedModel(task, 1)
    assert small.batching.rows_per_forward(x) == 1
    target, _ = big.clean(x)
    a, b = big.query(x, target, removals), small.query(x, target, removals)
    torch.testing.assert_close(a.prob, b.prob, rtol=0, atol=1e-12)
    assert torch.equal(a.same_class, b.same_class)


@pytest.mark.parametrize(("own", "other"), [(torch.float64, torch.int64), (torch.float32, torch.float64)])
def test_a_baseline_of_another_type_is_a_number_all_the_same(own, other):
    x, base = torch.tensor([[1.5, 2.5]], dtype=own), torch.tensor([[1, 2]], dtype=other)
    masks = torch.tensor([[True, False]])
    assert torch.equal(substitute(x, base, masks), torch.tensor([[1.0, 2.5]], dtype=own))


def test_rows_of_a_forward_stay_within_the_byte_budget():
    task = toys.image()
    masked_model = MaskedModel(task, 50_000)
    each = bytes_per_row(task, task.test.x)
    seen = []
    hook = task.model.register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0])))
    valid = task.removal.valid(task.test.x)
    masked_model.query(
        task.test.x, masked_model.clean(task.test.x)[0], RandomSets(torch.arange(len(valid)), valid, 20, None).draw()
    )
    hook.remove()
    at_most = 50_000 // each
    assert max(seen) <= at_most
    assert max(seen) - min(seen[1:]) <= 1  # the first are the whole inputs
    assert len(seen) - 1 == -(-20 * len(valid) // at_most)  # no more forwards than there must be


def test_value_table_holds_what_the_model_says():
    task = toys.table(4)
    masked_model = MaskedModel(task)
    target, table = masked_model.value_table(task.test.x)
    asked = masked_model.query(
        task.test.x, target, MaskSets(removal_sets.all_subsets(4).unsqueeze(1), len(task.test.x))
    )
    torch.testing.assert_close(table.prob, asked.prob, rtol=0, atol=1e-14)
    assert torch.equal(table.same_class, asked.same_class)
    assert table.same_class[:, 0].all()


def rows_asked(task, methods, **options):
    """Return rows shared by all methods and rows for each method, a sample."""
    evaluator = Evaluator(task, **options)
    shared = evaluator.meter.phases["shared"].forwards
    own = [evaluator.score(toys.scores(task, seed)).meter.phases["probe"].forwards for seed in range(methods)]
    assert len(set(own)) == 1
    return shared / len(task.test.x), own[0] / len(task.test.x)


def test_the_model_is_asked_no_more_than_the_fused_counts():
    """Never more than 2+2R+n + M 2(n-1) with single features, 2+2R + M(K+2(K-1)) in groups, +K-1 for a blur."""
    n, r = 13, 100
    shared, own = rows_asked(toys.table(n), 2)
    assert (shared, own) == (2 + 2 * r + n, 2 * (n - 2))
    assert own <= 2 * (n - 1)
    shared, own = rows_asked(toys.table(7), 2)
    assert (shared, own) == (2**7, 0)
    task = toys.image(steps=5)
    shared, own = rows_asked(task, 2)
    r, k = task.budget.subsets, 5
    assert (shared, own) == (2 + 2 * r, k + 2 * (k - 2) + (k - 1))
    assert own <= k + 2 * (k - 1) + (k - 1)


def test_a_metric_alone_costs_only_its_own_probe():
    task = toys.image(steps=5)
    r, k = task.budget.subsets, 5
    for metrics, shared, own in [
        (["FC"], 1 + r, 0),
        (["FC", "INF"], 1 + 2 * r, 0),
        (["FE"], 1, k),
        (["DEL", "POS", "RP"], 2, k - 1),
        (["NEG"], 2, k - 1),
        (["INS"], 2, k - 1),
        (["FE", "DEL"], 2, k + k - 2),
    ]:
        evaluator = Evaluator(task, metrics=metrics)
        found = evaluator.score(toys.scores(task))
        assert evaluator.meter.phases["shared"].forwards == shared * len(task.test.x), metrics
        assert found.meter.phases["probe"].forwards == own * len(task.test.x), metrics
        assert set(found.scores) == set(metrics)


@pytest.mark.parametrize("make", [*toys.TASKS.values(), lambda: toys.table(13)])
@pytest.mark.parametrize("together", [2**26, 1], ids=["together", "one by one"])
def test_methods_score_together_as_alone(make, together, monkeypatch):
    monkeypatch.setattr(evaluator_module, "ORDERING_BYTES", together)
    task = make()
    given = [toys.scores(task, seed) for seed in range(4)]
    given[1][2] = float("nan")
    given[2][:] = 1.5
    evaluator = Evaluator(task)
    for found, attributions in zip(evaluator.score_all(given), given, strict=True):
        alone = evaluator.score(attributions)
        for name in alone.scores:
            torch.testing.assert_close(found.scores[name], alone.scores[name], rtol=0, atol=1e-12, equal_nan=True)
            assert torch.equal(found.reasons[name], alone.reasons[name])
        torch.testing.assert_close(found.attributions, attributions, rtol=0, atol=0, equal_nan=True)
        assert found.meter.phases["probe"].forwards == alone.meter.phases["probe"].forwards


@pytest.mark.parametrize("make", [*toys.TASKS.values(), lambda: toys.table(13)])
def test_a_metric_alone_scores_as_in_company(make):
    task = make()
    attributions = toys.scores(task)
    together = Evaluator(task).score(attributions)
    for name in together.scores:
        alone = Evaluator(task, metrics=[name]).score(attributions)
        torch.testing.assert_close(alone.scores[name], together.scores[name], rtol=0, atol=1e-12, equal_nan=True)


def test_score_all_takes_mixed_precisions_and_refuses_what_is_no_attribution():
    task = toys.table(5)
    evaluator = Evaluator(task)
    scores = toys.scores(task)
    found = evaluator.score_all([scores.float(), scores.float().double()])
    for name in TEN:
        assert torch.equal(found[0].scores[name], found[1].scores[name])
    assert evaluator.score_all([]) == []
    for wrong, said in (
        (scores[:3], "got (3, 5)"),
        (scores[:, :2], f"got ({len(scores)}, 2)"),
        (scores.long(), "floating-point"),
        (scores.numpy(), "got ndarray"),
    ):
        with pytest.raises(BadAttributionError, match=re.escape(said)):
            evaluator.score_all([scores, wrong])
