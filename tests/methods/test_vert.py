"""VerT on cells of which one holds the signal, that tuning matters, and what holds by construction."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import benchmark
from benchmark.core.seeding import seeded
from benchmark.core.store import key_of
from benchmark.core.types import METHODS
from benchmark.learning.fitting import Fitting, fit
from methods.amortised import Players
from methods.vert import FIRST_BIAS, Masking, VerT
from methods.vert_masks import fit_masks, masked, masks_for
from methods.vert_tuning import Tuning, rounded, sparsity
from tests import toys

CELLS = 16
PATTERNS = torch.tensor([[1.0, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
"""One for each class; they sum to 0, so that no constant colour looks like any of them."""


def cells(rows, seed, noise):
    """Return inputs (N, 16, 4), classes and where the signal is: its pattern in full, weaker ones everywhere else."""
    generator = torch.Generator().manual_seed(seed)
    y, at = torch.randint(3, (rows,), generator=generator), torch.randint(CELLS, (rows,), generator=generator)
    texture = 0.7 * torch.rand(rows, CELLS, 1, generator=generator)
    x = texture * PATTERNS[torch.randint(3, (rows, CELLS), generator=generator)]
    x[torch.arange(rows), at] = PATTERNS[y]
    return x + noise * torch.randn(x.shape, generator=generator), y, at


class Local(nn.Module):
    """Looks at each cell alone: does not mind what is elsewhere."""

    def __init__(self):
        super().__init__()
        self.cell = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.head = nn.Linear(64, 3)

    def forward(self, x):
        seen = self.cell(x)
        return self.head(torch.cat([seen.amax(1), seen.mean(1)], 1))


def flat():
    """Look at all at once: erased distractors confuse it."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(4 * CELLS, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 3)
    )


def classifier(build, x, y, steps, seed):
    with seeded(seed):
        model = build()
        optimiser = torch.optim.Adam(model.parameters(), 2e-3)
        for _ in range(steps):
            rows = torch.randint(len(x), (128,))
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
    return model.requires_grad_(False)


def local_model(seed):
    """A classifier that was also shown inputs without signal, on which it has to shrug."""
    x, y, at = cells(4000, seed, 0.05)
    rows = torch.arange(len(x))
    with seeded(seed):
        none = x.clone()
        none[rows, at] = 0.7 * torch.rand(len(x), 1) * PATTERNS[torch.randint(3, (len(x),))]
        erased = none.clone()
        gone = torch.rand(len(x), CELLS, 1) < 0.8
        erased = torch.where(gone, 0.5 * torch.randn(len(x), 1, 1), erased)
        chance = torch.randint(3, (2 * len(x),))
    return classifier(Local, torch.cat([x, none, erased]), torch.cat([y, chance]), 1000, seed), x


def against_colours(model, x, seed):
    """Return how `model` answers rows of x under masks: what is hidden takes one random colour a row and step."""
    generator = torch.Generator().manual_seed(seed)

    def answer(rows, masks):
        colour = torch.randn(len(rows), 1, 1, generator=generator) / 2
        return model(torch.lerp(colour.expand(-1, CELLS, 4), x[rows], masks.unsqueeze(2))).softmax(1)

    return answer


def everyone(x):
    return torch.ones(len(x), CELLS, dtype=torch.bool)


def tune(model, x, rounds=5):
    with torch.no_grad():
        p = model(x).softmax(1)
    tuned = copy.deepcopy(model)
    answer, rows = against_colours(tuned, x, 0), torch.arange(len(x))
    masks = torch.ones(len(x), CELLS)
    for number in range(rounds):
        tuned.requires_grad_(False)
        masks = fit_masks(lambda m: answer(rows, m), masks, everyone(x), sparsity(number, rounds), 60)
        masks = rounded(masks, number, rounds)
        tuned.requires_grad_(True)
        objective = Tuning(tuned, answer, p, masks, everyone(x), 64, 128)
        fit(tuned, objective, Fitting(200, 1e-3, decay=0.0, patience=100), number)
    return tuned


def found(model, x, weight=1.0):
    answer, rows = against_colours(model, x, 1), torch.arange(len(x))
    return fit_masks(lambda m: answer(rows, m), torch.ones(len(x), CELLS), everyone(x), weight, 200)


def judge(masks, at):
    """Return how often the largest mask is the signal's, and the overlap of masks above one half with it."""
    true, seen = nn.functional.one_hot(at, CELLS).bool(), masks > 0.5
    overlap = (seen & true).sum(1) / (seen | true).sum(1)
    return float((masks.argmax(1) == at).float().mean()), float(overlap.mean())


def agreement(one, other, x):
    return float((one(x).argmax(1) == other(x).argmax(1)).float().mean())


# V1: a model that looks at cells


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_masks_find_the_signal(seed):
    model, x = local_model(seed)
    test, _, at = cells(400, 100 + seed, 0.05)
    tuned = tune(model, x[:1000])
    top, overlap = judge(found(tuned, test), at)
    assert top >= 0.95
    assert overlap >= 0.9
    assert agreement(model, tuned, test) >= 0.98
    chance = judge(torch.rand(400, CELLS, generator=torch.Generator().manual_seed(0)), at)
    assert max(chance) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize(("begun", "found"), [(FIRST_BIAS, True), (0.0, False)])
def test_a_net_of_masks_finds_it_if_it_begins_with_everything(begun, found):
    """Our variant, which the paper does not have: one pass in place of a search."""
    model, x = local_model(0)
    test, _, at = cells(400, 100, 0.05)
    answer = against_colours(model, x, 0)
    with seeded(0):
        net = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    nn.init.constant_(net[-1].bias, begun)
    objective = Masking(lambda rows: net(x[rows]).squeeze(2).sigmoid(), answer, everyone(x), 200, 128)
    fit(net, objective, Fitting(600, 3e-3, decay=0.0, patience=100), 0)
    with torch.no_grad():
        top, overlap = judge(net(test).squeeze(2).sigmoid(), at)
    assert (top >= 0.95 and overlap >= 0.9) == found


# V2: a model that minds


@pytest.mark.slow
def test_tuning_matters():
    gains = []
    for seed in range(3):
        x, y, _ = cells(1000, seed, 0.1)
        test, _, at = cells(400, 100 + seed, 0.1)
        model = classifier(flat, x, y, 500, seed)
        tuned = tune(model, x)
        gains.append(judge(found(tuned, test), at)[0] - judge(found(model, test), at)[0])
        assert agreement(model, tuned, test) >= 0.85
    assert sum(gains) / 3 >= 0.08, gains


# V3: what holds by construction


def test_without_sparsity_nothing_is_hidden():
    for build in toys.TASKS.values():
        task = build()
        if task.modality == "text":
            continue  # the toy takes no embeddings; the tests of pairs explain texts
        players, x = Players(task), task.test.x
        begun = players.valid(x).to(x)
        assert torch.equal(masks_for(task, task.model, players, x, begun, 0.0, 20, 100), begun)


def test_masks_shrink_as_sparsity_grows():
    x, y, _ = cells(1000, 0, 0.1)
    model = classifier(flat, x, y, 300, 0)
    means = []
    for weight in (0.0, 0.3, 1.0, 3.0, 30.0):
        masks = found(model, x[:200], weight)
        assert masks.min() >= 0
        assert masks.max() <= 1
        means.append(float(masks.mean()))
    assert means == sorted(means, reverse=True)
    assert means[0] > 0.9, "random colours alone move masks, and only a little"
    assert means[-1] < means[1] / 2


def test_a_mask_of_ones_is_the_input_and_of_zeros_the_baseline():
    for build in (toys.table, toys.image):
        task = build()
        players, x, rows = Players(task), task.test.x, torch.arange(len(task.test.x))
        answer = masked(task, task.model, players, x)
        valid = players.valid(x)
        torch.testing.assert_close(answer(rows, valid.to(x)), task.model(x).softmax(1))
        erased = task.remove(x, torch.ones(len(x), task.n_features, dtype=torch.bool))
        torch.testing.assert_close(answer(rows, (~valid).to(x)), task.model(erased).softmax(1))
        half = valid.to(x)
        half[:, 0] = 0
        gone = players.remove(x, half == 0)
        torch.testing.assert_close(answer(rows, half), task.model(gone).softmax(1))


def test_rows_are_masked_on_their_own():
    task = toys.table()
    players, x = Players(task), task.test.x
    begun = players.valid(x).to(x)
    together = masks_for(task, task.model, players, x, begun, 1.0, 30, 100)
    apart = masks_for(task, task.model, players, x, begun, 1.0, 30, 1)
    torch.testing.assert_close(together, apart, atol=1e-9, rtol=0)


def test_rounds_get_stricter():
    assert [round(sparsity(number, 5), 2) for number in range(5)] == [1.0, 0.82, 0.64, 0.46, 0.28]
    masks = torch.tensor([[0.05, 0.15, 0.2, 0.3, 0.4, 0.5]])
    assert [int(rounded(masks, number, 5).sum()) for number in range(5)] == [5, 4, 3, 2, 1]


def weights(model):
    return key_of([value.double().sum().item() for value in model.state_dict().values()])


def test_the_model_itself_stays_as_it_was(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    task = toys.table(samples=40)
    before = weights(task.model)
    METHODS.get("vert")(rows=30, rounds=2, steps=3, iterations=10, search=3).prepare(task, 0)
    assert weights(task.model) == before
    assert not any(p.requires_grad for p in task.model.parameters())
    kept = sorted(path.suffix for path in (tmp_path / "explainers").iterdir())
    assert kept == [".lock", ".safetensors"], "rounds are put away"


def test_a_killed_run_goes_on_with_the_round_it_was_in(monkeypatch, tmp_path):
    import methods.vert_tuning

    task, method = toys.table(samples=40), VerT(rows=30, rounds=3, steps=3, iterations=15, search=3)
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "whole"))
    whole = method.prepare(task, 0)(task.test.x, torch.zeros(40, dtype=torch.long))
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "killed"))
    asked, real = [], methods.vert_tuning.masks_for

    def dies(*given):
        asked.append(given)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(methods.vert_tuning, "masks_for", dies)
    with pytest.raises(KeyboardInterrupt):
        method.prepare(task, 0)
    again = method.prepare(task, 0)
    assert len(asked) == 4, "two rounds were kept"
    assert torch.equal(again(task.test.x, torch.zeros(40, dtype=torch.long)), whole)


class Formula(nn.Module):
    """A model without parameters: the product of two columns."""

    def forward(self, x):
        return torch.stack([x[:, 0] * x[:, 1], torch.zeros(len(x))], 1)


@pytest.mark.parametrize("name", ["vert", "vert_amortised"])
def test_a_model_without_parameters_is_explained_as_it_is(name, monkeypatch, tmp_path):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    task = benchmark.task(Formula(), x[:20], background=x)
    more = {"search": 100} if name == "vert" else {}
    explainer = METHODS.get(name)(rows=40, rounds=2, steps=20, iterations=400, **more).prepare(task, 0)
    found = explainer(task.test.x, torch.zeros(20, dtype=torch.long))
    assert explainer.report["agreement"] == 1
    assert found[:, :2].mean() > 2 * found[:, 2:].mean(), "the two columns that the formula reads"
