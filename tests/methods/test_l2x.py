"""L2X on the paper's synthetic data, its sampler, and what it can smuggle."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import benchmark
from benchmark.core.seeding import seeded
from benchmark.learning.fitting import Fitting, fit
from methods.l2x import ABSENT, L2X, Selection, inclusion, relaxed_k_hot, top_k

WIDTH = 10


def xor(x):
    return torch.exp(x[:, 0] * x[:, 1])


def orange(x):
    return torch.exp((x[:, :4] ** 2).sum(1) - 4)


def additive(x):
    return torch.exp(-100 * torch.sin(0.2 * x[:, 0]) + x[:, 1].abs() + x[:, 2] + torch.exp(-x[:, 3]) - 2.4)


def switch(x):
    """The last column says which of two groups counts."""
    other = torch.exp(-100 * torch.sin(0.2 * x[:, 4]) + x[:, 5].abs() + x[:, 6] + torch.exp(-x[:, 7]) - 2.4)
    return torch.where(x[:, 9] > 0, orange(x), other)


def data(name, rows=20_000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, WIDTH, generator=generator)
    if name == "switch":
        side = torch.where(torch.rand(rows, generator=generator) < 0.5, 3.0, -3.0)
        x[:, 9] = torch.randn(rows, generator=generator) + side
    odds = {"xor": xor, "orange": orange, "additive": additive, "switch": switch}[name](x)
    p = (odds / (1 + odds)).nan_to_num(1.0)
    true = torch.zeros(rows, WIDTH, dtype=torch.bool)
    true[:, : 2 if name == "xor" else 4] = True
    if name == "switch":
        low = x[:, 9] <= 0
        true[low] = False
        true[low, 4:8] = True
        true[:, 9] = True
    return x, torch.stack([p, 1 - p], 1), true


def nets(features, classes, activation):
    with seeded(0):
        selector = nn.Sequential(
            nn.Linear(features, 100), activation(), nn.Linear(100, 100), activation(), nn.Linear(100, features)
        )
        predictor = nn.Sequential(
            nn.Linear(features, 200), activation(), nn.BatchNorm1d(200),
            nn.Linear(200, 200), activation(), nn.BatchNorm1d(200), nn.Linear(200, classes),
        )  # fmt: skip
    return nn.ModuleDict({"selector": selector, "predictor": predictor})


def learned(x, p, k, steps, rate=3e-3, activation=nn.ReLU):
    net = nets(x.shape[1], p.shape[1], activation)
    objective = Selection(net["selector"], lambda x, t: net["predictor"](x * t), x, p, 1000, 1000, k, 0.1)
    fit(net, objective, Fitting(steps, rate, decay=1e-4, patience=100), 0)
    return net


def median_rank(selector, x, true):
    """Return the mean over samples of the median rank of the true features by logit."""
    with torch.no_grad():
        logits = selector(x)
    ranks = logits.argsort(1, descending=True).argsort(1).float() + 1
    return float(ranks.masked_fill(~true, float("nan")).nanquantile(0.5, dim=1).mean())


# X1, X2: the paper's data


EASY = [("xor", 2, 300, 1.5), ("orange", 4, 300, 2.5)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "k", "steps", "optimum"), EASY)
def test_it_finds_the_true_features(name, k, steps, optimum):
    x, p, true = data(name)
    net = learned(x, p, k, steps)
    assert median_rank(net["selector"], x[:1000], true[:1000]) <= optimum + 0.1
    assert median_rank(nn.Linear(WIDTH, WIDTH), x[:1000], true[:1000]) > optimum + 1, "an untrained selector does not"


@pytest.mark.slow
def test_it_finds_features_that_add_up():
    """With the SELU of the authors' release: ReLU stays in local optima from most beginnings."""
    x, p, true = data("additive", 100_000)
    net = learned(x, p, 4, 500, 2e-3, nn.SELU)
    # 2.5 is the best there is, 5.5 chance; where training ends differs between processors (2.50 to 2.87 seen)
    assert median_rank(net["selector"], x[:1000], true[:1000]) <= 3.0


def switched():
    x, p, true = data("switch", 150_000)
    net = learned(x, p, 5, 700, 2e-3, nn.SELU)
    return median_rank(net["selector"], x[:1000], true[:1000])


@pytest.mark.slow
def test_it_finds_the_group_that_a_switch_selects():
    assert switched() <= 3.15


@pytest.mark.slow
def test_without_noise_it_misses_the_switch(monkeypatch):
    def still(logits, k, temperature, generator):
        return (logits / temperature).softmax(1)

    monkeypatch.setattr("methods.l2x.relaxed_k_hot", still)
    assert switched() > 3.15


class Formula(nn.Module):
    """The paper's data as a model: the logarithm of the odds of the first class."""

    def __init__(self, odds):
        super().__init__()
        self.odds = odds

    def forward(self, x):
        log_odds = self.odds(x).log()
        return torch.stack([log_odds, torch.zeros_like(log_odds)], 1)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "odds", "k"), [("xor", xor, 2), ("orange", orange, None)])
def test_the_method_itself_finds_the_true_features(name, odds, k, monkeypatch, tmp_path):
    """With the shared encoder at the default settings; without the masks of before and during training .36 and .66."""
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    x, _, true = data(name, 4000)
    task = benchmark.task(Formula(odds), x[:500], background=x[500:])
    shares = []
    for seed in range(3):  # one training ends elsewhere on each kind of processor, the mean hardly does
        explainer = L2X(k=k).prepare(task, seed)
        found = top_k(explainer(task.test.x, torch.zeros(500, dtype=torch.long)), int(true[0].sum()))
        shares.append(float((found & true[:500]).sum() / true[:500].sum()))
        assert explainer.report["encoding"]["on random masks"] > 0.7, "what is chosen tells the class by what it is"
    assert sum(shares) / 3 >= 0.85


def test_half_of_a_batch_is_under_random_masks():
    x, p, _ = data("xor", 400)
    seen = []

    def predictor(x, selection):
        seen.append(selection)
        return torch.zeros(len(x), 2) * selection.sum()

    valid = torch.ones(400, WIDTH, dtype=torch.bool)
    valid[:, 9] = False
    objective = Selection(lambda x: torch.zeros(len(x), WIDTH), predictor, x, p, 100, 64, 2, 0.5, valid)
    objective.loss(torch.Generator().manual_seed(0))
    hard = ((seen[0] == 0) | (seen[0] == 1)).all(1)
    assert hard.tolist() == [True] * 32 + [False] * 32
    assert not seen[0][:32, 9].any(), "padding is never shown"
    assert len(seen[0][:32].sum(1).unique()) > 5, "of any size"


# X3: the sampler


def test_how_often_each_is_selected():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, -2.0]])
    drawn = torch.zeros(5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        drawn += (relaxed_k_hot(logits.expand(10_000, 5), 3, 0.01, generator) > 0.5).sum(0)
    torch.testing.assert_close(drawn / 200_000, inclusion(logits, 3)[0], atol=0.01, rtol=0)


def test_a_relaxed_selection_has_gradients_and_bounds():
    logits = torch.randn(7, 6, requires_grad=True)
    selection = relaxed_k_hot(logits, 3, 0.5, torch.Generator().manual_seed(0))
    assert ((selection >= 0) & (selection <= 1)).all()
    assert (selection.sum(1) <= 3 + 1e-5).all()
    (selection * torch.randn(7, 6)).sum().backward()
    assert logits.grad.abs().sum() > 0


def test_a_hard_selection_has_k_members_and_no_padding():
    logits = torch.randn(4, 6)
    assert (top_k(logits, 3).sum(1) == 3).all()
    logits[0, 2:] = ABSENT
    assert top_k(logits, 3)[0].tolist() == [True, True, False, False, False, False]
    assert (inclusion(logits, 3)[0, 2:] == 0).all()
    drawn = relaxed_k_hot(logits, 3, 0.5, torch.Generator().manual_seed(0))
    assert (drawn[0, 2:] == 0).all()


# X4: what the choice itself can tell


@pytest.mark.slow
@pytest.mark.parametrize(("k", "low", "high"), [(1, 0.3, 1.0), (2, -0.05, 0.05)])
def test_encoding_shows_in_the_diagnostic(k, low, high):
    """y = [x1 x2 > 0]: no one feature tells it, so with k = 1 what is above one half was smuggled by the choice."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 6, generator=generator)
    y = (x[:, 0] * x[:, 1] > 0).float()
    p = torch.stack([y, 1 - y], 1)
    net = learned(x, p, k, 800)
    with seeded(0):
        apart = nn.Sequential(nn.Linear(12, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2))

    class RandomMasks:
        def loss(self, generator):
            rows = torch.randint(1000, len(x), (512,), generator=generator)
            mask = (torch.rand(512, 6, generator=generator) < torch.rand(512, 1, generator=generator)).float()
            return -(p[rows] * apart(torch.cat([x[rows] * mask, mask], 1)).log_softmax(1)).sum(1).mean()

        def validate(self):
            return {"loss": float(self.loss(torch.Generator().manual_seed(0)))}

        def state(self):
            return {}

        def restore(self, state):
            pass

    fit(apart, RandomMasks(), Fitting(2500, 3e-3, decay=1e-4, patience=100), 0)
    held, said = x[:1000], y[:1000] == 0
    with torch.no_grad():
        mask = top_k(net["selector"](held), k).float()
        along = net["predictor"](held * mask).argmax(1) == said.long()
        honest = apart(torch.cat([held * mask, mask], 1)).argmax(1) == said.long()
    gap = float(along.double().mean() - honest.double().mean())
    assert low <= gap <= high, (along.double().mean(), honest.double().mean())
