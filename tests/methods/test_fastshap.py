"""FastSHAP against closed forms, and that each of its parts is needed."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import nn

from benchmark.core.seeding import seeded
from benchmark.core.types import Split
from benchmark.learning.fitting import Fitting, fit
from benchmark.models.outputs import output_of
from methods import fastshap
from methods.fastshap import Regression, normalised, shapley_coalitions
from tests import toys

VALID = torch.ones(1, 8, dtype=torch.bool)


def everyone(x):
    return torch.ones(len(x), x.shape[1], dtype=torch.bool)


def explainer(features, classes):
    with seeded(0):
        net = nn.Sequential(
            nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, features * classes)
        )
    return net, lambda x: net(x).unflatten(1, (features, classes))


def r2(found, exact):
    return 1 - ((found - exact) ** 2).sum() / ((exact - exact.mean()) ** 2).sum()


def learn(value, x, classes, steps, draw=None, **changes):
    """Return the Shapley values of the last 500 of x as a net learns them from the first ones."""
    net, phi = explainer(x.shape[1], classes)
    objective = Regression(phi, value, x[:-500], x[-500:-400], everyone, 64, 16, **changes)
    if draw is not None:
        objective._loss = lambda x, present, loss=objective._loss: loss(x, draw(x, present))
    fit(net, objective, Fitting(steps, 3e-3, decay=1e-4, patience=100), 0)
    test = x[-500:]
    with torch.no_grad():
        found = phi(test)
        valid = everyone(test)
        ends = value(test, torch.stack([torch.zeros_like(valid), valid], 1))
        return normalised(found, valid, ends[:, 1] - ends[:, 0]) if objective.normalise else found


# F1: a linear game


@pytest.mark.slow
def test_a_linear_game_has_its_closed_form():
    generator = torch.Generator().manual_seed(0)
    weights, base = torch.randn(8, 3, generator=generator), torch.randn(8, generator=generator)
    x = torch.randn(4500, 8, generator=generator)

    def value(x, present):
        return x.unsqueeze(1).where(present, base) @ weights

    found = learn(value, x, 3, 800)
    exact = (x[-500:] - base).unsqueeze(-1) * weights
    assert r2(found, exact) >= 0.99


# F2: a game that tells samplers apart


def product(x, present):
    """Of five factors, and half of a sixth feature; two dummies."""
    there = torch.where(present, x.unsqueeze(1), 0.0)
    return (there[..., :5].prod(-1) + there[..., 5] / 2).unsqueeze(-1)


def product_exact(x):
    exact = torch.zeros_like(x)
    exact[:, :5] = x[:, :5].prod(1, keepdim=True) / 5
    exact[:, 5] = x[:, 5] / 2
    return exact


def product_game(steps=1000, **changes):
    x = torch.rand(8500, 8, generator=torch.Generator().manual_seed(0)) + 0.5
    return learn(product, x, 1, steps, **changes).squeeze(-1), product_exact(x[-500:])


def judge(found, exact):
    pooled = torch.corrcoef(torch.stack([found.flatten(), exact.flatten()]))[0, 1]
    return float(r2(found, exact)), float(pooled), float(found[:, 6:].abs().mean())


def passes(found, exact):
    fit, pooled, dummies = judge(found, exact)
    return fit >= 0.96 and pooled >= 0.99 and dummies <= 0.025


def test_the_closed_form_is_what_enumeration_gives():
    x = torch.rand(3, 8, generator=torch.Generator().manual_seed(1)) + 0.5
    exact = torch.zeros(3, 8)
    from math import comb

    for i in range(8):
        others = [j for j in range(8) if j != i]
        for size in range(8):
            for subset in itertools.combinations(others, size):
                present = torch.zeros(3, 1, 8, dtype=torch.bool)
                present[..., list(subset)] = True
                without = product(x, present)
                present[..., i] = True
                exact[:, i] += (product(x, present) - without)[:, 0, 0] / (8 * comb(7, size))
    torch.testing.assert_close(product_exact(x), exact, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_the_product_game_is_learned():
    found, exact = product_game()
    assert passes(found, exact), judge(found, exact)


def uniform_sizes(x, present):
    size = torch.randint(0, 9, (*present.shape[:2], 1))
    return torch.rand(present.shape).argsort(2).argsort(2) < size


def fair_coins(x, present):
    return torch.rand(present.shape) < 0.5


WRONG = {
    "uniform sizes": {"draw": uniform_sizes},
    "fair coins": {"draw": fair_coins},
    "no normalisation": {"normalise": False},
    "coalitions and complements swapped": {"draw": lambda x, present: present, "swap": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_wrong_variants_miss(name):
    changes = dict(WRONG[name])
    if changes.pop("swap", False):
        x = torch.rand(8500, 8, generator=torch.Generator().manual_seed(0)) + 0.5

        def swapped(x, present):
            """Answer proper coalitions as if their complements were there."""
            ends = (present.sum(2) % 8 == 0).unsqueeze(2)
            return product(x, torch.where(ends, present, ~present))

        found, exact = learn(swapped, x, 1, 1000).squeeze(-1), product_exact(x[-500:])
    else:
        found, exact = product_game(**changes)
    assert not passes(found, exact), judge(found, exact)


# F3: identities


def test_values_add_up():
    generator = torch.Generator().manual_seed(0)
    phi, total = torch.randn(6, 8, 3, generator=generator), torch.randn(6, 3, generator=generator)
    valid = torch.rand(6, 8, generator=generator) < 0.7
    valid[:, 0] = True
    found = normalised(phi, valid, total)
    torch.testing.assert_close(found.sum(1), total, atol=1e-5, rtol=0)
    assert (found[~valid] == 0).all(), "padding gets nothing"
    shift = (found - phi)[valid]
    for row in range(6):
        own = (found - phi)[row][valid[row]]
        torch.testing.assert_close(own, own[:1].expand_as(own), atol=1e-5, rtol=0)
    assert shift.abs().max() > 0.01


def test_sizes_follow_the_shapley_kernel_and_pairs_are_complements():
    valid = torch.ones(1, 7, dtype=torch.bool).expand(2000, 7)
    present = shapley_coalitions(valid, 10, torch.Generator().manual_seed(0))
    assert present.shape == (2000, 20, 7)
    assert torch.equal(present[:, ::2], ~present[:, 1::2])
    size = present[:, ::2].sum(2).flatten()
    weights = torch.tensor([1 / (s * (7 - s)) for s in range(1, 7)])
    seen = torch.bincount(size, minlength=8)[1:7] / len(size)
    torch.testing.assert_close(seen, weights / weights.sum(), atol=0.012, rtol=0)
    assert torch.bincount(size, minlength=8)[[0, 7]].sum() == 0
    members = present.float().mean((0, 1))
    torch.testing.assert_close(members, torch.full((7,), 0.5), atol=0.02, rtol=0)


def test_padding_never_plays():
    valid = torch.arange(6).unsqueeze(0) < torch.tensor([6, 3, 2, 1]).unsqueeze(1)
    present = shapley_coalitions(valid, 50, torch.Generator().manual_seed(0))
    assert not (present & ~valid.unsqueeze(1)).any()
    sizes = present.sum(2)
    for row, count in enumerate((6, 3, 2)):
        assert set(sizes[row].tolist()) == set(range(1, count)), "never nobody, never all"
    assert set(sizes[3].tolist()) == {0, 1}


# F4: the surrogate is a conditional expectation


@pytest.mark.slow
def test_the_surrogate_is_the_conditional_expectation():
    from benchmark.learning.encoder import Shape
    from methods.amortised import Imitation, Predictor

    generator = torch.Generator().manual_seed(0)
    codes = torch.arange(32)
    cells = (codes.unsqueeze(1) >> torch.arange(5)) & 1
    weights = (cells[:, :1] == cells[:, 1:2]).float() * 3 + (cells[:, 2] == cells[:, 3]).float().unsqueeze(1) + 0.3
    weights = (weights.squeeze(1) * (0.5 + torch.rand(32, generator=generator))).double()
    weights /= weights.sum()
    table = torch.rand(32, generator=generator).double()
    rows = torch.multinomial(weights, 4000, replacement=True, generator=generator)
    x, p = cells[rows].float(), torch.stack([table[rows], 1 - table[rows]], 1).float()

    class Columns:
        def valid(self, x):
            return everyone(x)

        def features(self, players):
            return players

        def remove(self, x, removed):
            return x.masked_fill(removed, 0.0)

    with seeded(0):
        net = Predictor(Shape("table", 5, 2, 32, 1, 4, masked=True))
    fit(net, Imitation(net, Columns(), x, p, 200, 256), Fitting(1000, 3e-3, patience=100), 0)
    total = 0.0
    for gone in codes:
        removed = ((gone >> torch.arange(5)) & 1).bool()
        same = (cells[:, None, ~removed] == cells[None][:, :, ~removed]).all(2).double()
        exact = (same * weights) @ table / (same * weights).sum(1)
        masks = removed.expand(32, 5)
        found = net(cells.float().masked_fill(masks, 0.0), removed=masks).softmax(1)[:, 0]
        total += float((weights * (found - exact).abs()).sum()) / 32
    assert total <= 0.03


@pytest.mark.parametrize("many", [2, 10])
def test_values_sum_to_what_the_class_asked_for_loses(many, monkeypatch):
    """Also where a class is asked for that is not the predicted one, and there are too many for a column each."""
    monkeypatch.setattr(fastshap, "MANY_CLASSES", many)
    task = toys.table(samples=40)
    task = dataclasses.replace(task, model=nn.Sequential(Double(), task.model, Single()))
    task = dataclasses.replace(task, train=Split(task.train.x.float(), task.train.y))
    x = task.train.x[:9]
    target = (task.model(x).argmax(1) + 1) % 3
    made = fastshap.FastShap(iterations=2, output="log_odds").prepare(task, 0)(x, target).sum(1)
    whole, none = (
        output_of(task.model(each), target, "log_odds") for each in (x, task.removal.baseline(x).expand_as(x))
    )
    torch.testing.assert_close(made, whole - none, atol=1e-4, rtol=1e-4)


class Double(nn.Module):
    def forward(self, x):
        return x.double()


class Single(nn.Module):
    def forward(self, x):
        return x.float()
