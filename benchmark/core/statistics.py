"""Batched correlations along the last axis, one sample a row, over the entries that are marked as valid.

Only tensor methods are used, so importing this file loads no torch; everything is differentiable except ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CONSTANT = 1e-12
"""Values whose range is at most this share of their largest magnitude are one value seen through rounding."""


def is_constant(x: Tensor, mask: Tensor | None, floor: float = 0.0) -> Tensor:
    """Tell which rows of x (B, S) hold one value: (B,) bool.

    The range over `counted` (B, S) entries (None: all) is compared with `CONSTANT` times the largest magnitude, or
    times `floor` where that is larger. Rows with fewer than two counted entries are constant.
    """
    if mask is None:
        low, high = x.amin(-1), x.amax(-1)  # aminmax is four times slower
    else:
        high = x.masked_fill(~mask, -float("inf")).amax(-1)
        low = x.masked_fill(~mask, float("inf")).amin(-1)
    return ~(high - low > CONSTANT * high.abs().maximum(low.abs()).clamp(min=floor))


def pearson(a: Tensor, b: Tensor, mask: Tensor | None) -> Tensor:
    """Return Pearson's r of a and b (B, S) over `counted` entries (None: all): (B,) in [-1, 1].

    It is NaN where a side is constant. Each side is scaled by its largest deviation first, so the scale of an
    attribution cannot matter, however small. Constancy by `is_constant` is for the caller to judge; here only an exact
    zero spread gives NaN.
    """
    a, b = _standardise(a, mask), _standardise(b, mask)
    spread = (a * a).sum(-1) * (b * b).sum(-1)
    flat = ~(spread > 0)
    r = (a * b).sum(-1) / spread.masked_fill(flat, 1.0).sqrt()
    return r.clamp(-1.0, 1.0).masked_fill(flat, float("nan"))


class LinearPearson:
    """Pearson's r between sums of scores over sets and values of those sets, for any scores.

    masks (S, B, G) or (S, 1, G) bool: which scores each set sums, each row's own or the same for all; values (B, S).
    A sum is linear in the scores, so r needs only the covariances of masks with one another and with the values: work
    of G * G a row in place of S * G. Equals `pearson` of the sums and the values.
    """

    def __init__(self, masks: Tensor, values: Tensor) -> None:
        (sets, batch, features), values = masks.shape, _standardise(values, None)
        wide = 4 * (features // 4 + 1)  # room for a column of ones; products of other widths take four times as long
        of_masks = values.new_zeros(batch, sets, wide)
        of_masks[..., :features] = masks.transpose(0, 1)
        of_masks[..., features] = 1
        counts = of_masks.mT @ of_masks  # (B or 1, wide, wide), exact
        alone = counts[:, :features, features:][..., :1]
        spread = sets * counts[:, :features, :features] - alone * alone.mT
        self.one_size = bool((spread.sum((1, 2)) == 0).all())  # the variance of the sets' sizes
        self.spread = spread / sets
        # the values have mean 0, so that of the masks does not matter
        together = (values.unsqueeze(1) @ of_masks).squeeze(1) if batch > 1 else values @ of_masks[0]
        self.together = together[:, :features]
        self.of_values = (values * values).sum(-1)

    def __call__(self, scores: Tensor) -> Tensor:
        """Return r (..., B) in [-1, 1] for scores (..., B, G), NaN where a side is constant."""
        if self.one_size:  # then a shift of all scores shifts all sums alike, and without it nothing cancels
            scores = scores - scores.mean(-1, keepdim=True)
        largest = scores.abs().amax(-1, keepdim=True)
        scores = scores / largest.masked_fill(largest == 0, 1.0)
        if len(self.spread) == 1:
            spread = scores @ self.spread[0]
        else:  # one product of matrices a row, for all leading dimensions together
            spread = (scores.reshape(-1, *scores.shape[-2:]).transpose(0, 1) @ self.spread).transpose(0, 1)
        spread = (spread.view_as(scores) * scores).sum(-1) * self.of_values
        flat = ~(spread > 0)
        r = (scores * self.together).sum(-1) / spread.masked_fill(flat, 1.0).sqrt()
        return r.clamp(-1.0, 1.0).masked_fill(flat, float("nan"))


def _standardise(x: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        x = x - x.mean(-1, keepdim=True)
    else:
        x = x.masked_fill(~mask, 0)
        mean = x.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
        x = (x - mean).masked_fill(~mask, 0)
    largest = x.detach().abs().amax(-1, keepdim=True)
    return x / largest.masked_fill(largest == 0, 1.0)


def mid_ranks(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return ranks from 1 of x (B, S) among its counted entries (None: all); ties share the mean of their ranks."""
    import torch

    n = x.shape[-1]
    ordered, order = (x if mask is None else x.masked_fill(~mask, float("inf"))).sort(dim=-1)
    place = torch.arange(n, device=x.device).expand_as(order)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    if x.device.type == "cpu" and bool(new.all()):  # no ties; on a GPU to ask would mean to wait
        return torch.empty_like(x).scatter_(-1, order, (place + 1).to(x.dtype))
    last = torch.ones_like(new)
    last[..., :-1] = new[..., 1:]
    first_of_run = place.masked_fill(~new, 0).cummax(-1).values
    last_of_run = place.masked_fill(~last, n - 1).flip(-1).cummin(-1).values.flip(-1)
    shared = (first_of_run + last_of_run).to(x.dtype) / 2 + 1
    return torch.zeros_like(x).scatter(-1, order, shared)


def spearman(a: Tensor, b: Tensor, mask: Tensor | None) -> Tensor:
    """Return Spearman's rho with mid-ranks of a and b (B, S): (B,) in [-1, 1], NaN where a side is constant."""
    return pearson(mid_ranks(a, mask), mid_ranks(b, mask), mask)
