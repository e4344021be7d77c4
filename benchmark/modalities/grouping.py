"""Features that are groups: columns, pixels or tokens that are removed together and share one attribution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.core.errors import in_a_line
from benchmark.core.types import Baseline, Removal


def single(removal: Removal) -> Removal:
    """Return how single features are removed, also where a task has groups of them."""
    return removal.inner if isinstance(removal, GroupedRemoval) else removal


@dataclass(frozen=True, eq=False)
class GroupedRemoval:
    """A removal whose features are groups of another's: all of a group go together.

    Padding of a text is removed from no group: its baseline is padding. A group of padding alone is none.

    Args:
        inner: how single features are removed.
        groups: the number of the group of each feature, (G,) int64; 0 to the number of groups less 1.

    Example:
        >>> from benchmark.modalities.removal import ColumnRemoval
        >>> removal = GroupedRemoval(ColumnRemoval(torch.zeros(3)), torch.tensor([0, 1, 0]))
        >>> removal.n_features, removal.pool(torch.tensor([[1.0, 2.0, 3.0]])).tolist()
        (2, [[4.0, 2.0]])
    """

    inner: Removal
    groups: Tensor
    __repr__ = in_a_line

    @property
    def n_features(self) -> int:
        """Return the number of groups."""
        return int(self.groups.max()) + 1

    @property
    def pads(self) -> bool:
        """Tell whether inputs may be padded."""
        return self.inner.pads

    @property
    def shares_baseline(self) -> bool:
        """Tell whether removal and insertion use the same baseline."""
        return self.inner.shares_baseline

    def baseline(self, x: Tensor, kind: Baseline = "removal") -> Tensor:
        """Return the baseline of single features, and padding where there is padding."""
        base = self.inner.baseline(x, kind)
        return base.where(self.inner.expand(self.inner.valid(x)), x) if self.pads else base

    def expand(self, removed: Tensor) -> Tensor:
        """Return `removed` (B, groups) in a shape that broadcasts against x."""
        return self.inner.expand(removed[:, self.groups])

    def valid(self, x: Tensor) -> Tensor:
        """Return True at groups of which there is a feature, (B, groups) bool."""
        return self.sums(self.inner.valid(x).to(torch.int32)) > 0

    def pool(self, raw: Tensor) -> Tensor:
        """Sum what a gradient gives into one number a group, (B, groups)."""
        return self.sums(self.inner.pool(raw))

    def sums(self, values: Tensor) -> Tensor:
        """Return the sums (B, groups) of values (B, G) of single features."""
        return values.new_zeros(len(values), self.n_features).index_add_(1, self.groups, values)
