"""CXPlain: targets by hand, learning on rows never seen, and an ensemble that knows where it errs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from benchmark.core.seeding import seeded
from benchmark.learning.fitting import Fitting, fit
from methods.amortised import Players
from methods.cxplain import Divergence, causal_targets, median_and_interval, shares, single_removals
from tests import toys

# C1: targets


@pytest.mark.parametrize("modality", ["table", "text", "image"])
def test_targets_equal_a_loop(modality):
    task = toys.TASKS[modality]()
    players = Players(task)
    x = task.test.x[:5]
    valid = players.valid(x)
    whole, without = single_removals(task, players, x)
    omega, _ = causal_targets(whole, without, valid)
    torch.testing.assert_close(omega.sum(1), torch.ones(5).double())
    assert (omega[~valid] == 0).all()
    for row in range(5):
        logs = task.model(x[row : row + 1]).log_softmax(1)[0]
        target = int(logs.argmax())
        falls = {}
        for i in valid[row].nonzero().flatten().tolist():
            gone = torch.zeros(1, players.count, dtype=torch.bool)
            gone[0, i] = True
            without_i = task.model(players.remove(x[row : row + 1], gone)).log_softmax(1)[0, target]
            falls[i] = max(float(logs[target] - without_i), 1e-7)
        for i, fall in falls.items():
            assert float(omega[row, i]) == pytest.approx(fall / sum(falls.values()), abs=1e-6)


def test_targets_by_hand():
    valid = torch.ones(2, 3, dtype=torch.bool)
    whole = torch.tensor([-0.1, -0.5], dtype=torch.float64)
    without = torch.tensor([[-1.1, -3.1, -0.05], [-0.5, -0.5, -0.5]], dtype=torch.float64)
    omega, has_signal = causal_targets(whole, without, valid)
    torch.testing.assert_close(omega[0], torch.tensor([0.25, 0.75, 0.0]).double(), atol=1e-6, rtol=0)
    assert has_signal.tolist() == [True, False], "a row without signal is noise"
    with pytest.raises(ValueError, match="an output for each of 2 samples"):
        causal_targets(whole.mean(), without, valid)


class Copies(nn.Module):
    """Two classes by the sign of column 0 or, where that is away, of its copy, column 1; column 2 says nothing."""

    def forward(self, x):
        seen = torch.where(x[:, 0] != 0, x[:, 0], x[:, 1])
        return torch.stack([seen, -seen], 1)


def test_copies_hide_each_other_and_what_says_nothing_gets_nothing():
    class Bare(nn.Module):
        def forward(self, x):
            return torch.stack([x[:, 1], -x[:, 1]], 1)

    x = torch.tensor([[2.0, 2.0, 5.0], [-1.0, -1.0, 3.0]]).double()

    def task_of(model):
        from benchmark.core.types import Budget
        from benchmark.modalities.removal import ColumnRemoval

        return toys.make(model, x, ColumnRemoval(torch.zeros(3).double()), Budget(3), "table")

    valid = torch.ones(2, 3, dtype=torch.bool)
    whole, without = single_removals(task_of(Copies()), Players(task_of(Copies())), x)
    omega, has_signal = causal_targets(whole, without, valid)
    assert not has_signal.any(), "each copy alone is not missed: such rows have no signal"
    torch.testing.assert_close(omega, torch.full((2, 3), 1 / 3).double())
    omega, has_signal = causal_targets(*single_removals(task_of(Bare()), Players(task_of(Bare())), x), valid)
    assert has_signal.all()
    torch.testing.assert_close(omega, torch.tensor([[0.0, 1, 0]] * 2).double(), atol=1e-5, rtol=0)


class Rows:
    """A three-class model of ten columns: a switch decides which columns count. Zero masking."""

    def __init__(self):
        with seeded(3):
            self.net = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 3)).requires_grad_(False)

    def __call__(self, x):
        low, high = x[:, :4], x[:, 4:8]
        picked = torch.where(x[:, 9:] > 0, low, high)
        return self.net(torch.cat([picked, x[:, :4] * 0, x[:, 8:]], 1)) * 1.5

    def targets(self, x):
        whole = self(x).log_softmax(1)
        target = whole.argmax(1, keepdim=True)
        without = torch.stack([self(x.index_fill(1, torch.tensor(i), 0)).log_softmax(1).gather(1, target).squeeze(1)
                               for i in range(10)], 1)  # fmt: skip
        return causal_targets(whole.gather(1, target).squeeze(1), without, torch.ones_like(x, dtype=torch.bool))


@pytest.fixture(scope="module")
def case():
    model = Rows()
    x = torch.randn(9200, 10, generator=torch.Generator().manual_seed(0))
    omega, has_signal = model.targets(x)
    return x[has_signal], omega[has_signal]


def explainer(seed=0):
    with seeded(seed):
        return nn.Sequential(nn.Linear(10, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))


def learned(x, omega, iterations, seed=0, bootstrap=None, held=100):
    net = explainer(seed)
    valid = torch.ones_like(x, dtype=torch.bool)
    fit(net, Divergence(net, x, omega, valid, held, 64, bootstrap), Fitting(iterations, 4e-3, patience=100), seed)
    return net


def judge(found, omega):
    """Return Pearson's r by row, agreement of the top feature, and KL, on rows."""
    a, b = found - found.mean(1, keepdim=True), omega - omega.mean(1, keepdim=True)
    r = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-12)
    kl = (omega * (omega.clamp(min=1e-12).log() - found.clamp(min=1e-12).log())).sum(1)
    return float(r.mean()), float((found.argmax(1) == omega.argmax(1)).float().mean()), float(kl.mean())


def passes(found, omega):
    r, top, kl = judge(found, omega)
    return r >= 0.88 and top >= 0.80 and kl <= 0.30


# C2: learned on rows never seen


@pytest.mark.slow
def test_it_learns_and_stand_ins_do_not(case):
    x, omega = case
    train, test = slice(0, 8000), slice(-1000, None)
    net = learned(x[train], omega[train].float(), 4000)
    truth = omega[test].float()
    with torch.no_grad():
        found = shares(net(x[test]), torch.ones_like(x[test], dtype=torch.bool))
    torch.testing.assert_close(found.sum(1), torch.ones(len(found)))
    assert passes(found, truth), judge(found, truth)
    mean = omega[train].float().mean(0).expand_as(truth)
    assert not passes(mean, truth)
    assert not passes(torch.full_like(truth, 0.1), truth)
    seen = x[test].clone().requires_grad_()
    gradient = torch.autograd.grad(Rows()(seen).log_softmax(1).amax(1).sum(), seen)[0].abs()
    assert not passes(gradient / gradient.sum(1, keepdim=True), truth)


# C3: an ensemble


@pytest.mark.slow
def test_intervals_are_wide_where_it_errs(case):
    x, omega = case
    test, members = slice(-1000, None), []
    for i in range(5):
        bootstrap = torch.Generator().manual_seed(i)
        net = learned(x[:1500], omega[:1500].float(), 600, i, bootstrap)
        with torch.no_grad():
            members.append(shares(net(x[test]), torch.ones_like(x[test], dtype=torch.bool)))
    found = torch.stack(members)
    assert (found.std(0) > 0).all(), "members differ"
    median, lower, upper = median_and_interval(found)
    assert (lower <= median).all()
    assert (median <= upper).all()
    truth = omega[test].float()
    width, error = (upper - lower).flatten(), (median - truth).abs().flatten()
    assert float(torch.corrcoef(torch.stack([width, error]))[0, 1]) >= 0.4
    assert float(torch.corrcoef(torch.stack([median.flatten(), truth.flatten()]))[0, 1]) >= 0.4


def test_a_bootstrap_sample_repeats_and_leaves_out():
    x, omega = torch.randn(50, 3), torch.full((50, 3), 1 / 3)
    valid = torch.ones_like(x, dtype=torch.bool)
    pool = Divergence(nn.Linear(3, 3), x, omega, valid, 10, 4, torch.Generator().manual_seed(0)).pool
    assert len(pool) == 40
    assert pool.min() >= 10, "what validates is not fitted"
    assert 10 < pool.unique().numel() < 35
    plain = Divergence(nn.Linear(3, 3), x, omega, valid, 10, 4).pool
    assert plain.tolist() == list(range(10, 50))


def test_divergence_of_what_is_right_is_zero():
    x = torch.eye(3)
    omega = torch.tensor([[0.2, 0.3, 0.5]] * 3)
    valid = torch.ones_like(x, dtype=torch.bool)
    loss = Divergence(lambda rows: omega[: len(rows)].log(), x, omega, valid, 3, 2).validate()["loss"]
    assert loss == pytest.approx(0, abs=1e-6)
    flat = Divergence(lambda rows: torch.zeros(len(rows), 3), x, omega, valid, 3, 2).validate()["loss"]
    assert flat == pytest.approx(sum(p * math.log(p * 3) for p in (0.2, 0.3, 0.5)), abs=1e-6)
