"""Draws what local correlation is learned from: inputs beyond the training rows, and random removal sets.

Neither needs labels, so each batch may be new.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.core.types import Task


@dataclass(frozen=True)
class Drawing:
    """How inputs and removal sets are drawn.

    Args:
        subsets: k, removal sets an input.
        low, high: a removal set removes each feature with a probability drawn from this interval, within (0, 1],
            uniform on a log scale, so that small sets are as frequent as large ones.
        mix: up to this share of an input's features comes from another row.
        hide: up to this share of them is removed beforehand.
    """

    subsets: int
    low: float
    high: float
    mix: float
    hide: float

    def inputs(self, task: Task, x: Tensor, others: Tensor, generator: torch.Generator) -> Tensor:
        """Return x (B, ...) with some features from `others` (B, ...) and some removed."""
        valid = task.removal.valid(x)
        if self.mix:
            swapped = _bernoulli(task, self._share(self.mix, x, generator), generator) & valid
            swapped &= task.removal.valid(others)
            x = others.where(task.removal.expand(swapped), x)
        if self.hide:
            x = task.remove(x, _bernoulli(task, self._share(self.hide, x, generator), generator) & valid)
        return x

    def _share(self, most: float, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a share for each row, (B, 1): up to `most` where features are many, else just that."""
        if x[0].nelement() < VARYING_FROM:
            return torch.full((len(x), 1), most, device=x.device)
        return most * torch.rand(len(x), 1, generator=generator, device=x.device)

    def removals(self, task: Task, x: Tensor, generator: torch.Generator) -> Drawn:
        """Return k removal sets for each row of x (B, ...)."""
        rows = len(x) * self.subsets
        draw = torch.rand(rows, 1, generator=generator, device=x.device)
        share = self.low * (self.high / self.low) ** draw
        masks = _bernoulli(task, share, generator).view(len(x), self.subsets, task.n_features)
        return Drawn(masks & task.removal.valid(x).unsqueeze(1))


VARYING_FROM = 13
"""From this many numbers on the share of features that is mixed or hidden differs from row to row."""


def _bernoulli(task: Task, share: Tensor, generator: torch.Generator) -> Tensor:
    """Return masks (n, G), True with probability `share` (n, 1) for each feature, or for each square of an image.

    Squares have one size in a batch, drawn from 1 pixel to an 8th of the side: single pixels hardly move a model, and
    large squares alone would not tell where in them the evidence is.
    """
    device, features = share.device, task.n_features
    if task.modality != "image":
        return torch.rand(len(share), features, generator=generator, device=device) < share
    side = round(features**0.5)
    sizes = [2**power for power in range(11) if 2**power <= max(1, side // 8)]
    size = sizes[int(torch.randint(len(sizes), (1,), generator=generator, device=device))]
    cells = -(-side // size)
    coarse = torch.rand(len(share), cells * cells, generator=generator, device=device) < share
    fine = F.interpolate(coarse.view(-1, 1, cells, cells).float(), scale_factor=size)[..., :side, :side]
    return fine.flatten(1).bool()


@dataclass(frozen=True, eq=False)
class Drawn:
    """Removal sets (B, k, G) bool, as `benchmark.scoring.removal_sets.RemovalSets` asks for them."""

    masks: Tensor
    exists = None

    @property
    def shape(self) -> tuple[int, int]:
        """Return (B, k)."""
        return self.masks.shape[0], self.masks.shape[1]

    def removed(self, sample: Tensor, which: Tensor) -> Tensor:
        """Return the masks (n, G) of set `which` (n,) of `sample` (n,)."""
        return self.masks[sample, which]

    def block(self, samples: slice, sets: slice) -> Tensor:
        """Return the masks (s, b, G) of some sets and samples."""
        return self.masks[samples, sets].transpose(0, 1)
