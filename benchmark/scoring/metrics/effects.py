"""What a removal does to the prediction: effects, which make of a response a number for each removal set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.statistics.correlation import levelled

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.scoring.metrics.response import Response

EPS = 1e-12
"""Floor of the clean probability where a metric divides by it."""
ROUNDING = 1e-5
"""Predictions whose logits differ by no more may be one prediction seen through the rounding of a model in float32."""


def probability(r: Response) -> Tensor:
    """Return the target's probability after each removal, v_k: (M, B, S), or (B, S) where methods share the sets."""
    return r.prob


def drop(r: Response) -> Tensor:
    """Return v_0 - v: (M, B, S) in [-1, 1]."""
    return r.clean.unsqueeze(-1) - r.prob


def squared_relative_change(r: Response) -> Tensor:
    """Return ((v_0 - v) / v_0)^2, one value for effects that rounding alone may tell apart: (M, B, S), at least 0.

    A change of `ROUNDING` in the target's logit changes a probability p by `ROUNDING` p (1 - p). Effects |v_0 - v| that
    are neighbours in order are one where they differ by no more than that, p being of v_0 and the two v the nearest to
    1/2; so are chains of them. Otherwise features that a model does not read, or equal answers of a forest, would be
    ranked by their last digits, which differ with what else is in a forward.
    """
    spread = (r.prob * (1 - r.prob)).maximum((r.clean * (1 - r.clean)).unsqueeze(-1))
    change = levelled(drop(r).abs(), ROUNDING * spread, r.exists)
    return (change / r.clean.clamp(min=EPS).unsqueeze(-1)) ** 2


def share_lost(r: Response) -> Tensor:
    """Return 1 - v / v_0: (M, B, S), at most 1."""
    return 1 - r.prob / r.clean.clamp(min=EPS).unsqueeze(-1)
