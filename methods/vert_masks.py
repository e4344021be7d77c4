"""Masks of VerT: how an input looks under a mask, and the search for a small mask that leaves the answer as it was."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmark.core.types import Task
from benchmark.modalities.continuous import continuous
from methods.amortised import Players

MASK_RATE = 0.05
SPARSE = 1.0
"""The weight of the mask's size where an input is explained."""
NEGLIGIBLE = 1e-6
"""Distances under this are rounding, whose sign would move masks: it differs from batch to batch."""

MaskedAnswers = Callable[[Tensor, Tensor], Tensor]
"""Probabilities (B, C) of a model on rows (B,) of its inputs, weighed by masks (B, n) against the removal baseline."""


def distance(p: Tensor, q: Tensor) -> Tensor:
    """Return the l1 distance (B,) between rows of probabilities (B, C)."""
    return (p - q).abs().sum(1)


def sizes(masks: Tensor, valid: Tensor) -> Tensor:
    """Return the mean (B,) of masks (B, n) over valid players."""
    return (masks * valid).sum(1) / valid.sum(1).clamp(min=1)


def fit_masks(answer: Callable[[Tensor], Tensor], masks: Tensor, valid: Tensor, weight: float, steps: int) -> Tensor:
    """Return masks (B, n) in [0, 1] that are small and leave the answers as they were.

    Each row minimises, on its own, `weight` times its mean mask plus the l1 distance to the answer with every player
    present. Source: Bhalla et al. 2023, eq. 4; Adam in place of the authors' gradient descent, whose rate depends on
    batch and image size.

    Args:
        answer: probabilities (B, C) of the inputs under masks (B, n).
        masks: where the search begins.
        valid: (B, n) bool, where there is a player.
        weight: of the mask's size.
        steps: of the search; each is one row forward and backward.
    """
    with torch.no_grad():
        whole = answer(valid.to(masks))
    masks = (masks * valid).detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([masks], MASK_RATE)
    for _ in range(steps):
        with torch.enable_grad():
            gap = distance(whole, answer(masks))
            loss = weight * sizes(masks, valid) + gap.where(gap > NEGLIGIBLE, 0.0)
            masks.grad = torch.autograd.grad(loss.sum(), masks)[0]
        optimiser.step()
        with torch.no_grad():
            masks.clamp_(0, 1).mul_(valid)
    return masks.detach()


def masked(task: Task, model: nn.Module, players: Players, x: Tensor) -> MaskedAnswers:
    """Return how `model`, the task's or a copy of it, answers rows of x (N, ...) whose players are weighed by masks.

    A weight of 1 is the input as it is, 0 the task's removal baseline; words are weighed as the task's model embeds
    them.
    """

    def answer(rows: Tensor, masks: Tensor) -> Tensor:
        inputs = continuous(task, x[rows])
        weights = task.removal.expand(players.features(masks))
        weights = weights.unsqueeze(-1) if task.modality == "text" else weights
        mixed = torch.lerp(inputs.base.expand_as(inputs.x), inputs.x.detach(), weights.to(inputs.x))
        return model(mixed, *inputs.extra).softmax(1)

    return answer


def masks_for(
    task: Task, model: nn.Module, players: Players, x: Tensor, begun: Tensor, weight: float, steps: int, at_once: int
) -> Tensor:
    """Return masks (B, n) of inputs x (B, ...), found for each on its own under a frozen `model`; see `fit_masks`.

    Args:
        task: how features are removed, and words embedded.
        model: the task's or a copy of it.
        players: who is masked.
        x: the inputs.
        begun: masks (B, n) with which the search begins.
        weight: of the mask's size.
        steps: of the search.
        at_once: inputs whose backward passes fit the memory together.
    """
    answer, valid = masked(task, model, players, x), players.valid(x)

    def search(rows: Tensor) -> Tensor:
        return fit_masks(lambda masks: answer(rows, masks), begun[rows], valid[rows], weight, steps)

    return torch.cat([search(rows) for rows in torch.arange(len(x), device=x.device).split(at_once)])
