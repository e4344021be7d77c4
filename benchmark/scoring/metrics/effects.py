"""What a removal does to the prediction: effects, which make of a response a number for each removal set."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.scoring.metrics.response import Response

EPS = 1e-12
"""Floor of the clean probability where a metric divides by it."""


def probability(r: Response) -> Tensor:
    """Return the target's probability after each removal, v_k: (M, B, S), or (B, S) where methods share the sets."""
    return r.prob


def drop(r: Response) -> Tensor:
    """Return v_0 - v: (M, B, S) in [-1, 1]."""
    return r.clean.unsqueeze(-1) - r.prob


def squared_relative_change(r: Response) -> Tensor:
    """Return ((v_0 - v) / v_0)^2: (M, B, S), at least 0."""
    return (drop(r) / r.clean.clamp(min=EPS).unsqueeze(-1)) ** 2


def share_lost(r: Response) -> Tensor:
    """Return 1 - v / v_0: (M, B, S), at most 1."""
    return 1 - r.prob / r.clean.clamp(min=EPS).unsqueeze(-1)
