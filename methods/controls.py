"""Controls: what a table looks like where nothing is explained. A method that does not beat `random` says nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from benchmark.core.seeding import content_seeds, random_bits
from benchmark.core.types import METHODS, Attribute, Method, Task

if TYPE_CHECKING:
    from torch import Tensor


@METHODS.register("random", kind="control", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class Random(Method):
    """Uniform noise in [-1, 1); its scores are averaged over five seeds."""

    repeats: ClassVar[int] = 5

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; noise follows the sample's content, not its place."""
        import torch

        def explain(x: Tensor, target: Tensor) -> Tensor:
            seeds = torch.tensor(content_seeds(seed, x), device=x.device).unsqueeze(1)
            bits = random_bits(seeds, torch.arange(task.n_features, device=x.device))
            return (bits.double() / 2**63).float()

        return explain


@METHODS.register("constant", kind="control", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class Constant(Method):
    """One for every feature: orders fall to the tie rule, correlations are 0."""

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        import torch

        return lambda x, target: torch.ones(len(x), task.n_features, device=x.device)
