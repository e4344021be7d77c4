"""Correlations and ranks against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from benchmark.scoring.removal_sets import all_subsets
from benchmark.statistics.correlation import is_constant, levelled, mid_ranks, pearson, spearman
from benchmark.statistics.linear_pearson import LinearPearson

ALL = torch.ones(5, 12, dtype=torch.bool)


def pairs(seed, ties=False):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 5, 12))
    b += 0.5 * a
    return torch.tensor(a.round(0) if ties else a), torch.tensor(b.round(0) if ties else b)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_correlations_equal_scipy(seed, ties):
    a, b = pairs(seed, ties)
    for ours, theirs in ((pearson, stats.pearsonr), (spearman, stats.spearmanr)):
        expected = [theirs(x, y).statistic for x, y in zip(a, b, strict=True)]
        np.testing.assert_allclose(ours(a, b, ALL), expected, atol=1e-13)
        np.testing.assert_allclose(ours(a, b, None), expected, atol=1e-13)
    np.testing.assert_array_equal(mid_ranks(a, ALL), stats.rankdata(a, axis=1))


def test_entries_that_do_not_count_change_nothing():
    a, b = pairs(3, ties=True)
    counted = torch.arange(12).unsqueeze(0) < torch.tensor([12, 9, 5, 3, 2]).unsqueeze(1)
    for statistic in (pearson, spearman):
        whole = statistic(a.masked_fill(~counted, 1e9), b.masked_fill(~counted, -1e9), counted)
        for row, n in enumerate([12, 9, 5, 3, 2]):
            alone = statistic(a[row : row + 1, :n], b[row : row + 1, :n], ALL[:1, :n])
            torch.testing.assert_close(whole[row : row + 1], alone, equal_nan=True)


def test_a_constant_side_gives_nan():
    a, b = pairs(0)
    a[2] = 4.2
    assert pearson(a, b, ALL).isnan().tolist() == [False, False, True, False, False]
    assert spearman(a, b, ALL).isnan().tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("size", [None, 1, 3])
@pytest.mark.parametrize("shift", [0.0, 1e6])
@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e250])
def test_correlations_of_sums_need_no_sums(size, shift, scale):
    """All subsets, or those of one size; scores far from 0 and tiny ones."""
    rng = np.random.default_rng(0)
    masks = all_subsets(7)
    masks = masks if size is None else masks[masks.sum(1) == size]
    scores = torch.tensor(rng.normal(size=(6, 7)) + shift) * scale
    values = torch.tensor(rng.normal(size=(6, len(masks)))) + 3
    found = LinearPearson(masks.unsqueeze(1), values)(scores)
    expected = pearson((scores / scale) @ masks.double().T, values, None)
    own = LinearPearson(masks.unsqueeze(1).expand(-1, 6, -1), values)(scores)
    torch.testing.assert_close(own, found, rtol=0, atol=1e-13 if shift == 0 else 1e-8)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13 if shift == 0 else 1e-8)
    if shift == 0:
        slow = [stats.pearsonr((row / scale) @ masks.double().numpy().T, own).statistic
                for row, own in zip(scores.numpy(), values.numpy(), strict=True)]  # fmt: skip
        np.testing.assert_allclose(found, slow, atol=1e-12)


def test_correlations_of_constant_sums_are_undefined():
    masks = all_subsets(5)
    pairs_of_two = masks[masks.sum(1) == 2]
    values = torch.tensor(np.random.default_rng(0).normal(size=(3, len(pairs_of_two))))
    scores = torch.tensor([[0.0] * 5, [0.1] * 5, [1.0, 0, 0, 0, 0]]).double()
    assert LinearPearson(pairs_of_two.unsqueeze(1), values)(scores).isnan().tolist() == [True, True, False]
    values[2] = 4.2
    assert LinearPearson(pairs_of_two.unsqueeze(1), values)(scores).isnan().tolist() == [True, True, True]


@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1e300])
def test_scale_does_not_matter(scale):
    a, b = pairs(1)
    torch.testing.assert_close(pearson(a * scale, b, ALL), pearson(a, b, ALL), rtol=0, atol=1e-12)
    assert not is_constant(a * scale, ALL).any()


def test_is_constant():
    x = torch.tensor([[1.0, 1.0, 5.0], [1.0, 1.0 + 1e-14, 5.0], [1.0, 1.0 + 1e-9, 5.0], [0.0, 0.0, 5.0]]).double()
    x[1, 1], x[2, 1] = 1 + 1e-14, 1 + 1e-9
    counted = torch.tensor([[True, True, False]]).expand(4, 3)
    assert torch.equal(is_constant(x[:, :2], None), is_constant(x, counted))
    assert is_constant(x, counted).tolist() == [True, True, False, True]
    assert is_constant(x[:, :1], counted[:, :1]).all()  # one entry is constant
    tiny = torch.tensor([[0.0, 1e-13]]).double()
    assert not is_constant(tiny, counted[:1, :2]).any()
    assert is_constant(tiny, counted[:1, :2], floor=1.0).all()


def test_chains_of_near_values_are_levelled_in_any_order():
    x = torch.tensor([0.0, 0.9, 1.8, 3.0, 5.0, 5.5, 9.0]).double()
    slack = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.1, 0.5, 0.0]).double()  # 3.0 is 1.2 from its neighbour; 5.5 is near 5
    level = torch.tensor([0.0, 0.0, 0.0, 3.0, 5.0, 5.0, 9.0]).double()
    for seed in range(20):
        order = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(levelled(x[order].expand(2, 7), slack[order].expand(2, 7), None)[1], level[order])
    counted = torch.tensor([[True] * 4 + [False] * 3, [True, False, True, True, False, False, True]])
    found = levelled(x.expand(2, 7), slack.expand(2, 7), counted)
    assert torch.equal(found[counted], torch.tensor([0, 0, 0, 3, 0, 1.8, 3, 9]).double())  # 0.9 links 0 and 1.8 no more


def test_without_slack_nothing_is_levelled():
    a, b = pairs(4, ties=True)
    for x in (a, b):
        assert torch.equal(levelled(x, torch.zeros_like(x), ALL), x)


def test_pearson_is_differentiable():
    a, b = pairs(2)
    a = a[:, :6].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pearson(x, b[:, :6], ALL[:, :6]), a)
