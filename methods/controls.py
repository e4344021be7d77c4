"""Controls: methods that explain nothing. One that does not beat `random` has shown nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.core.seeding import content_seeds, random_bits
from benchmark.core.types import METHODS, Attribute, Method, Task


@METHODS.register(
    "random",
    kind="control",
    modalities=("table", "text", "image"),
    told={
        "sign": "signed",
    },
)
@dataclass(frozen=True)
class Random(Method):
    """Uniform noise in [-1, 1); its scores are averaged over five seeds.

    Example:
        >>> Random().prepare(task, seed=0)(x, target)  # (B, G)
    """

    repeats: ClassVar[int] = 5

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; noise follows the sample's content, not its place."""

        def explain(x: Tensor, target: Tensor) -> Tensor:
            seeds = torch.tensor(content_seeds(seed, x), device=x.device).unsqueeze(1)
            bits = random_bits(seeds, torch.arange(task.n_features, device=x.device))
            return (bits.double() / 2**63).float()

        return explain


@METHODS.register(
    "constant",
    kind="control",
    modalities=("table", "text", "image"),
    told={
        "sign": "unsigned",
    },
)
@dataclass(frozen=True)
class Constant(Method):
    """One for every feature: orders fall to the tie rule, correlations are 0.

    Example:
        >>> Constant().prepare(task, seed=0)(x, target)  # (B, G)
    """

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        return lambda x, target: torch.ones(len(x), task.n_features, device=x.device)
