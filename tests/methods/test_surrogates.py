"""LIME and KernelSHAP, batched over samples, against Captum's loop over them with the same draws."""

from __future__ import annotations

import pytest
import torch
from captum._utils.models.linear_model import SkLearnLinearRegression, SkLearnRidge
from captum.attr import LimeBase

from benchmark.core.seeding import content_seeds
from methods.game import Game, players
from methods.kernel_shap import Efficient, KernelShap
from methods.lime import Lime, Ridge
from tests import toys

NEARLY_INFINITE = 1e6
"""The weight of all players and of none in Captum's KernelSHAP."""


def with_captum(task, surrogate, seed, model, ends):
    """Return attributions (n, players) by Captum's `LimeBase`, which asks about the subsets that `surrogate` draws."""
    seeds = content_seeds(seed, task.test.x)
    return [of_one(task, surrogate, model, ends, i, own) for i, own in enumerate(seeds)]


def of_one(task, surrogate, model, ends, i, seed):
    """Return the attribution (players,) of the input `i`."""
    game, x = Game(task, "logit", "task"), task.test.x[i : i + 1]
    target, player = task.model(x).argmax(1), players(task, x)[0]
    present, weights = surrogate.draw(int(player.max()) + 1, [seed])[0]
    weights = torch.cat([torch.full((ends,), NEARLY_INFINITE, dtype=torch.float64), weights[ends:]])
    order, now = iter(zip(present, weights, strict=True)), []

    def subset(_x, **_):
        now[:] = next(order)
        return now[0].double().unsqueeze(0)

    def answer(z):
        return game(z.bool()[:, player.clamp(min=0)], x.repeat(len(z), *[1] * (x.dim() - 1)), target.repeat(len(z)))

    lime = LimeBase(
        answer, model, lambda *_, **__: now[1], subset, perturb_interpretable_space=True,
        from_interp_rep_transform=lambda z, *_, **__: z, to_interp_rep_transform=None,
    )  # fmt: skip
    return lime.attribute(torch.ones(1, present.shape[1]).double(), n_samples=len(present))[0]


def in_64_bits(task, seed, method):
    """Return the weights of players (n, players) by the method itself."""
    x = task.test.x
    target = task.model(x).argmax(1)
    attributions = method.prepare(task, seed)(x, target)
    found = []
    for i in range(len(x)):
        player = players(task, x[i : i + 1])[0]
        found.append(torch.stack([attributions[i][player == p].sum() for p in range(int(player.max()) + 1)]))
    return found


@pytest.mark.parametrize("modality", ["table", "text"])
def test_kernel_shap_is_captums_regression_on_the_same_draws(modality):
    task = toys.TASKS[modality]()
    theirs = with_captum(task, Efficient(40), 3, SkLearnLinearRegression(), ends=2)
    ours = in_64_bits(task, 3, KernelShap(n_samples=40))
    for mine, other in zip(ours, theirs, strict=True):
        if len(mine) > 2:  # of one and of two players too few subsets are left for a regression
            torch.testing.assert_close(mine.double(), other.double(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("modality", ["table", "text"])
def test_lime_is_captums_regression_on_the_same_draws(modality):
    task = toys.TASKS[modality]()
    theirs = with_captum(task, Ridge(modality, 40, 0.5), 3, SkLearnRidge(alpha=0.5), ends=0)
    ours = in_64_bits(task, 3, Lime(n_samples=40, penalty=0.5))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.double(), other.double(), atol=1e-6, rtol=1e-6)
