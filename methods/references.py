"""Where a way to an input begins: the removal baseline, zero, and rows or noise like those of training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.core.seeding import seeded
from benchmark.core.types import Task
from benchmark.modalities.continuous import Continuous, continuous
from benchmark.modalities.grouping import single

REFERENCES = ("removal", "zero", "mean", "background", "noise")
"""`removal`: as the task removes features; `zero`: all numbers 0, of words the embedding; `mean`: of training rows;
`background`: training rows, drawn; `noise`: independent normal numbers of training's means and deviations."""
DRAWN = ("background", "noise")
"""The references of which there are many."""
STATISTICS_ROWS = 512
"""Training rows that means and deviations are taken of, at most."""


@dataclass(frozen=True, eq=False)
class References:
    """The references of a task for all its inputs.

    Attributes:
        kind: one of `REFERENCES`.
        rows: references that no input changes (k, ...); None where they follow from the input.
    """

    kind: str
    rows: Tensor | None

    def of(self, inputs: Continuous) -> Tensor:
        """Return the references (k, ...) of one input, or (B, ...), one for each input, where none are drawn."""
        if self.kind == "removal":
            return inputs.base
        if self.rows is None:
            return torch.zeros_like(inputs.base)
        return self.rows if self.kind in DRAWN else self.rows.expand_as(inputs.x)


def references_of(task: Task, kind: str, count: int, seed: int) -> References:
    """Return references of a kind.

    In a background text padding is the removed word, so that each place of the explained text has a reference.

    Args:
        task: whose training rows are meant.
        kind: one of `REFERENCES`.
        count: how many are drawn.
        seed: they are drawn from.
    """
    if kind in ("removal", "zero"):
        return References(kind, None)
    if kind == "background":
        return References(kind, _numbers(task, _drawn(task, seed, count)))
    rows = _drawn(task, seed, STATISTICS_ROWS)
    numbers = continuous(task, rows).x.detach()
    shape = numbers.shape[1:]
    if task.modality == "text":
        numbers = numbers[single(task.removal).valid(rows)]  # a word at any place, without padding
    mean = numbers.mean(0).expand(1, *shape)
    if kind == "mean":
        return References(kind, mean)
    with seeded(seed):
        return References(kind, mean + numbers.std(0, correction=0) * torch.randn(count, *shape).to(numbers))


def _drawn(task: Task, seed: int, count: int) -> Tensor:
    """Return training rows (count, ...) drawn from `seed`."""
    shuffle = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(task.train.x), generator=shuffle)[:count]
    return task.train.x[chosen.to(task.train.x.device)]


def _numbers(task: Task, x: Tensor) -> Tensor:
    """Return rows as numbers, words as embeddings."""
    if task.modality == "text":
        removal = single(task.removal)
        x = torch.where(removal.valid(x), x, removal.baseline(x))
    return continuous(task, x).x.detach()
