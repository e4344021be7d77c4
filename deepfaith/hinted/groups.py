"""Removal sets in groups, as the metrics ask about them, and the loss that correlates inside each group.

A group's sets have one size, but for `half`, which draws as INF does. In one correlation over sets of mixed sizes
knowing how many features are removed is rewarded, which no metric asks; `mixed` does so, for comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.core.types import Budget, Modality, Task
from benchmark.statistics.correlation import is_constant, pearson
from deepfaith.drawing import Drawing

SIZES = ("few", "one", "half")
"""Groups whose masses are of sizes: as many features as FC removes, one step of FE and MC, and half of them as INF."""
ORDERS = ("front", "back")
"""Groups whose masses are of orders: cuts of orders near the explainer's, from their most relevant feature on, as DEL,
POS, RP and IROF remove, and from their least relevant one on, as NEG and INS."""
MIXED = "mixed"
"""The one group of `deepfaith`: sets of mixed sizes, drawn as it draws them by default."""
WEIGHTS = {"few": 0.5, "one": 0.25, "half": 0.25, "front": 0.5, "back": 0.5, MIXED: 1.0}
"""Of groups; those of `ORDERS` count so many times `ordering`."""
MIXED_SHARES: dict[Modality, tuple[float, float]] = {"table": (0.3, 0.3), "text": (0.02, 0.5), "image": (0.02, 0.5)}
"""Between which probabilities a mixed set removes each feature."""


def kinds_for(budget: Budget, features: int) -> tuple[str, ...]:
    """Return the groups of a task of G features: `one` is left out where FC removes one step of FE at a time."""
    few = max(budget.subset_minimum, round(budget.subset_fraction * features))
    step = round(features / min(budget.steps, features))
    return tuple(kind for kind in (*SIZES, *ORDERS) if kind != "one" or few != step)


@dataclass(frozen=True)
class Groups:
    """How removal sets are drawn.

    Args:
        kinds: of groups, see `kinds_for`; or `MIXED` alone.
        sets: k, of each group.
        noise: orders near the explainer's are its scores with normal noise of up to this many root mean squares.
    """

    kinds: tuple[str, ...]
    sets: int
    noise: float

    def draw(self, task: Task, x: Tensor, order: Tensor, generator: torch.Generator) -> Tensor:
        """Return removal sets (B, groups, k, G) bool.

        Args:
            task: its budget says how many features each removes.
            x: inputs (B, ...).
            order: what the explainer orders features by, (B, G).
            generator: draws them.
        """
        valid = task.removal.valid(x)
        count = valid.sum(1).view(-1, 1, 1)
        if self.kinds == (MIXED,):
            low, high = MIXED_SHARES[task.modality]
            return Drawing(self.sets, low, high, mix=0.0, hide=0.0).removals(task, x, generator).masks.unsqueeze(1)
        return torch.stack([self._group(kind, task.budget, valid, count, order, generator) for kind in self.kinds], 1)

    def _group(
        self, kind: str, budget: Budget, valid: Tensor, count: Tensor, order: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return the sets (B, k, G) of one group; `count` (B, 1, 1) is each input's number of features."""
        rows, features = valid.shape

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device=valid.device)

        steps = count.clamp(max=budget.steps)
        if kind == "half":
            return (uniform(rows, self.sets, features) < 0.5) & valid.unsqueeze(1)
        if kind == "few":
            size = (budget.subset_fraction * count).round().clamp(min=budget.subset_minimum)
            return _lowest(uniform(rows, self.sets, features), valid, size)
        if kind == "one":
            return _lowest(uniform(rows, self.sets, features), valid, (count / steps).round())
        spread = order.square().sum(1, keepdim=True) / count.squeeze(2)
        scaled = order / spread.sqrt().clamp(min=1e-12)
        drawn = torch.randn(rows, self.sets, features, generator=generator, device=valid.device)
        noisy = scaled.unsqueeze(1) + self.noise * uniform(rows, self.sets, 1) * drawn
        cut = 1 + (uniform(rows, 1, 1) * (steps - 1)).floor()  # one of the steps before the last
        size = (cut * count / steps).round()
        return _lowest(noisy if kind == "back" else -noisy, valid, size)


def _lowest(keys: Tensor, valid: Tensor, size: Tensor) -> Tensor:
    """Return (B, k, G) bool: True at the `size` (B, 1, 1) lowest of keys (B, k, G) that are valid (B, G)."""
    keys = keys.masked_fill(~valid.unsqueeze(1), torch.inf)
    ascending = keys.sort(-1).values
    at = (size.long() - 1).clamp(0, keys.shape[-1] - 1).expand(*keys.shape[:2], 1)
    return (keys <= ascending.gather(2, at)) & valid.unsqueeze(1)


def group_loss(kinds: tuple[str, ...], masses: Tensor, drops: Tensor, ordering: float = 1.0) -> Tensor:
    """Return the weighted mean over groups of 1 - Pearson's r between masses and drops inside a group, in [0, 2].

    Inputs whose drops in a group are all the same, or not all finite, say nothing there. In `ORDERS`, where a cut may
    have nothing to decide, inputs weigh as much as their drops vary.

    Args:
        kinds: of the groups.
        masses: what is attributed to what each set removes, (B, groups, k).
        drops: how much each lowers the target's probability, (B, groups, k).
        ordering: weight of the groups of `ORDERS`, beside 1 for those of `SIZES`.
    """
    drops = drops.masked_fill(~drops.isfinite().all(-1, keepdim=True), 0.0)
    varies = ~is_constant(drops, None, floor=1e-6)
    r = pearson(masses, drops.to(masses), None).nan_to_num(nan=0.0)  # (B, groups)
    total, weights = masses.new_zeros(()), 0.0
    for group, kind in enumerate(kinds):
        weight = varies[:, group].to(masses)
        if kind in ORDERS:
            weight = weight * drops[:, group].std(-1)
        lost = ((1 - r[:, group]) * weight).sum() / weight.sum().clamp(min=1e-12)
        share = WEIGHTS[kind] * (ordering if kind in ORDERS else 1.0)
        total, weights = total + share * lost, weights + share
    return total / weights
