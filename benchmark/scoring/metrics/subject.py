"""What an `ExplainerMetric` is given: some samples, their attributions, and the explainer that gave these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.core.errors import in_a_line

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmark.core.types import Attribute, Task


@dataclass(frozen=True, eq=False)
class Subject:
    """An explainer at work on B samples.

    It works under seeded global generators, its costs are counted, and it must leave the model as it was, as in an
    evaluation.

    Attributes:
        task: as methods get it: model, training rows and removal, but no test rows.
        x: inputs (B, ...).
        target: the classes (B,) that are explained.
        valid: which features exist, (B, G) bool; what stands at padding is no attribution.
        attribution: what is judged, (B, G) float64, 0 at padding.
        seeds: gives seeds (B,) int64 for a purpose, a word: each follows from the run's seed and the sample's number.
        explain: maps inputs (B, ...) and targets (B,) to attributions (B, G) float64, 0 at padding.
        explain_model: prepares the method anew on another model of the same inputs, and returns what `explain` is for
            it; None where only an explainer was given.
    """

    task: Task
    x: Tensor
    target: Tensor
    valid: Tensor
    attribution: Tensor
    seeds: Callable[[str], Tensor]
    explain: Attribute
    explain_model: Callable[[nn.Module], Attribute] | None = None
    __repr__ = in_a_line

    def uniform(self, purpose: str) -> Tensor:
        """Return noise (B, ...) of the inputs' shape and type, uniform in [-1, 1).

        The same sample gets the same noise for the same purpose in any batch and on any device.
        """
        import torch  # boards, which read metrics, are made without it

        from benchmark.core.seeding import random_bits

        features = self.x[0].numel()
        counter = torch.arange(features, device=self.x.device)
        bits = random_bits(self.seeds(purpose).unsqueeze(1), counter) >> 11  # 53 bits with their sign
        return (bits.double() * 2.0**-52).to(self.x.dtype).view(self.x.shape)
