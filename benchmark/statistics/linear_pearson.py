"""A fast path for FC and INF: Pearson's r between summed attributions and values, without the sums.

`correlation.pearson` of the sums is its slow twin, in tests/benchmark/test_statistics.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.statistics.correlation import standardise

if TYPE_CHECKING:
    from torch import Tensor


class LinearPearson:
    """Pearson's r between sums of scores over fixed sets and fixed values of those sets, for any scores.

    One sample has S sets of its G features. Row s of the 0/1 matrix M (S, G) says which scores w (G,) set s sums, so
    the sums are a = M w; y (S,) are the values of the sets, centred. Then

        sum of (a_s - mean a) y_s     = w . c    with c = M' y, since y sums to 0
        sum of (a_s - mean a)^2       = w . C w  with C = M'M - n n' / S
        r                             = w . c / sqrt(w . C w * y . y)

    where n = M' 1 counts the sets that each feature is in. C and c do not depend on the scores: they are computed once,
    and every r costs G * G operations in place of S * G. M'M and n are whole numbers, so S C is exact in float64.

    Example:
        >>> import torch
        >>> masks = torch.tensor([[1, 0], [0, 1], [1, 1]]).bool()  # S = 3 sets of G = 2 features
        >>> r = LinearPearson(masks.unsqueeze(1), values=torch.tensor([[3.0, 5.0, 8.0]], dtype=torch.float64))
        >>> r(torch.tensor([[3.0, 5.0]], dtype=torch.float64)).round(decimals=6)  # sums 3, 5 and 8
        tensor([1.], dtype=torch.float64)
    """

    def __init__(self, masks: Tensor, values: Tensor) -> None:
        """Compute what does not depend on the scores.

        Args:
            masks: which scores each set sums, bool: (S, B, G), or (S, 1, G) where all samples have the same sets.
            values: the values (B, S) float64 of the sets.
        """
        (sets, batch, features), values = masks.shape, standardise(values, None)
        # M with a column of ones, whose products with M are n; other widths than multiples of 4 take four times as long
        extended = values.new_zeros(batch, sets, 4 * (features // 4 + 1))
        extended[..., :features] = masks.transpose(0, 1)
        extended[..., features] = 1
        gram = extended.mT @ extended
        both, counts = gram[:, :features, :features], gram[:, :features, features, None]  # M'M and n (B or 1, G, 1)
        spread = sets * both - counts * counts.mT  # S C
        # 1' S C 1 = S sum of m^2 - (sum of m)^2 for the sizes m of the sets: 0 where all sets are of one size
        self.one_size = bool((spread.sum((1, 2)) == 0).all())
        self.spread = spread / sets
        together = (values.unsqueeze(1) @ extended).squeeze(1) if batch > 1 else values @ extended[0]
        self.together = together[:, :features]
        self.of_values = (values * values).sum(-1)

    def __call__(self, scores: Tensor) -> Tensor:
        """Return r (..., B) in [-1, 1] for scores (..., B, G), NaN where a side is constant."""
        if self.one_size:  # then a shift of all scores shifts all sums alike, and without it nothing cancels
            scores = scores - scores.mean(-1, keepdim=True)
        largest = scores.abs().amax(-1, keepdim=True)
        scores = scores / largest.masked_fill(largest == 0, 1.0)
        squares = (self._times_spread(scores) * scores).sum(-1) * self.of_values
        constant = ~(squares > 0)
        r = (scores * self.together).sum(-1) / squares.masked_fill(constant, 1.0).sqrt()
        return r.clamp(-1.0, 1.0).masked_fill(constant, float("nan"))

    def _times_spread(self, scores: Tensor) -> Tensor:
        """Return C w for scores w (..., B, G), by one product of matrices a sample."""
        if len(self.spread) == 1:
            return scores @ self.spread[0]
        rows = scores.reshape(-1, *scores.shape[-2:]).transpose(0, 1)  # (B, M, G)
        return (rows @ self.spread).transpose(0, 1).view_as(scores)
