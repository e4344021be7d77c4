"""Removal sets in groups, the loss over them, and order and size joined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.core.types import Budget
from deepfaith.hinted.groups import ORDERS, WEIGHTS, Groups, group_loss, kinds_for
from deepfaith.hinted.isotonic import joined
from tests import toys


def isotonic_twin(values):
    """Return the nearest ascending sequence to `values`, the largest of all means from i..k over the least k, by i."""
    n = len(values)
    return [max(min(float(np.mean(values[i : k + 1])) for k in range(j, n)) for i in range(j + 1)) for j in range(n)]


def test_joined_has_the_order_and_the_nearest_sizes():
    generator = torch.Generator().manual_seed(0)
    order, size = torch.randn(2, 5, 9, generator=generator)
    valid = torch.ones(5, 9, dtype=torch.bool)
    valid[1, 6:] = valid[2, 1:] = valid[3] = False
    found = joined(order, size, valid)
    assert found.dtype == torch.float64
    assert (found[~valid] == 0).all()
    for row in range(5):
        real = valid[row]
        places = order[row][real].argsort()
        ascending = found[row][real][places]
        assert (ascending.diff() > 0).all(), "no two are tied"
        twin = isotonic_twin(size[row][real][places].tolist())
        spread = float(size[row][real].std(correction=0)) if real.sum() else 0.0
        np.testing.assert_allclose(ascending.numpy(), twin, atol=1.1e-3 * (spread or 1.0))


def test_sizes_in_the_same_order_stay():
    size = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    found = joined(size**3, size, torch.ones(4, 8, dtype=torch.bool))
    torch.testing.assert_close(found.float(), size, atol=2e-3, rtol=0)
    assert torch.equal(found.argsort(1), size.argsort(1))


def test_ties_in_the_order_stay_ties():
    order, size = torch.tensor([[0.0, 0.0, 0.0, 1.0]]), torch.tensor([[3.0, 1.0, 2.0, 5.0]])
    found = joined(order, size, order >= 0)
    assert found[0, :3].unique().tolist() == [2.0]
    assert found[0, 3] == pytest.approx(5.0, abs=1e-2)
    assert len(joined(torch.zeros(1, 5), torch.zeros(1, 5), torch.ones(1, 5).bool()).unique()) == 1


# Groups


def drawn(task, order, kinds, sets=50, noise=0.0):
    generator = torch.Generator().manual_seed(0)
    return Groups(kinds, sets, noise).draw(task, task.test.x, order, generator)


def test_sizes_are_those_of_the_budget():
    task = replace(toys.TASKS["table"](), budget=Budget(steps=7, subset_fraction=1 / 3, subset_minimum=2))
    order = toys.scores(task).float()
    found = drawn(task, order, ("few", "one", "half")).sum(-1)
    assert (found[:, 0] == 2).all()
    assert (found[:, 1] == 1).all()
    assert 3 < found[:, 2].double().mean() < 4
    assert kinds_for(task.budget, 7) == ("few", "one", "half", "front", "back")


def test_texts_remove_words_of_their_own_number_and_never_padding():
    task = toys.TASKS["text"]()
    kinds = kinds_for(task.budget, task.n_features)
    assert "one" not in kinds, "FC removes as many as a step of FE"
    found = drawn(task, toys.scores(task).float(), kinds)
    valid = task.removal.valid(task.test.x)
    assert not (found & ~valid[:, None, None]).any()
    expected = (valid.sum(1) / 6).round().clamp(min=1)
    assert (found[:, 0].sum(-1) == expected.unsqueeze(1)).all()


def test_without_noise_cuts_are_those_of_the_order():
    task = toys.TASKS["table"]()
    order = toys.scores(task).float()
    found = drawn(task, order, ORDERS)
    for row in range(len(order)):
        ranked = order[row].argsort(descending=True).tolist()
        fronts = {frozenset(ranked[:k]) for k in range(1, 7)}
        backs = {frozenset(ranked[k:]) for k in range(1, 7)}
        for group, cuts in zip(found[row], (fronts, backs), strict=True):
            assert {frozenset(one.nonzero().flatten().tolist()) for one in group} <= cuts
            assert len(group.sum(-1).unique()) == 1, "one size a group"


def test_noise_gives_other_orders():
    task = toys.TASKS["table"]()
    found = drawn(task, toys.scores(task).float(), ORDERS, noise=2.0)
    assert all(len(group.unique(dim=0)) > 1 for row in found for group in row if group.sum(-1)[0] < 7)


def loss_twin(kinds, masses, drops, ordering):
    total = weight_sum = 0.0
    for group, kind in enumerate(kinds):
        terms, weights_ = [], []
        for mass, drop in zip(masses[:, group], drops[:, group], strict=True):
            if np.ptp(drop) == 0:
                continue
            terms.append(1 - np.corrcoef(mass, drop)[0, 1])
            weights_.append(np.std(drop, ddof=1) if kind in ORDERS else 1.0)
        share = WEIGHTS[kind] * (ordering if kind in ORDERS else 1.0)
        total += share * np.average(terms, weights=weights_)
        weight_sum += share
    return total / weight_sum


@pytest.mark.parametrize("ordering", [0.0, 0.1, 1.0])
def test_the_loss_equals_its_twin(ordering):
    kinds = ("few", "half", "front", "back")
    rng = np.random.default_rng(0)
    masses, drops = rng.normal(size=(2, 6, 4, 8))
    drops[2, 1] = drops[3, 2] = 0.25
    found = group_loss(kinds, torch.tensor(masses), torch.tensor(drops), ordering)
    assert float(found) == pytest.approx(loss_twin(kinds, masses, drops, ordering), abs=1e-12)
    assert float(group_loss(kinds, torch.tensor(7 * masses + 3), torch.tensor(drops), ordering)) == pytest.approx(
        float(found), abs=1e-12
    ), "scale and level of masses do not count"
    constant = drops.copy()
    constant[..., :] = 0.5
    assert float(group_loss(kinds, torch.tensor(masses), torch.tensor(constant), ordering)) == 0, "nothing to learn"


def test_an_answer_that_is_not_finite_says_nothing():
    kinds = ("few", "front")
    masses = torch.randn(4, 2, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    drops = torch.rand(4, 2, 6, generator=torch.Generator().manual_seed(1))
    spoilt = drops.clone()
    spoilt[1, :, 2] = torch.nan
    loss = group_loss(kinds, masses, spoilt)
    others = torch.tensor([0, 2, 3])
    assert float(loss.detach()) == pytest.approx(float(group_loss(kinds, masses[others], drops[others]).detach()))
    loss.backward()
    assert masses.grad.isfinite().all()
    assert (masses.grad[1] == 0).all()
