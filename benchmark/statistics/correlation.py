"""Batched correlations along the last axis: one sample a row, over the entries that a mask says exist.

Only tensor methods are used, so importing this file does not import torch. All but the ranks are differentiable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CONSTANT = 1e-12
"""Values whose range is at most this share of their largest magnitude differ by rounding alone."""


def is_constant(x: Tensor, mask: Tensor | None, floor: float = 0.0) -> Tensor:
    """Tell which rows hold one value, but for rounding.

    The range of a row is compared with `CONSTANT` times its largest magnitude.

    Args:
        x: values (..., S).
        mask: which entries exist, (..., S) bool; None where all do.
        floor: the least magnitude that the range is compared with, for values whose unit is known.

    Returns:
        (...) bool; rows of fewer than two entries are constant.

    Example:
        >>> import torch
        >>> is_constant(torch.tensor([[0.5, 0.5], [0.5, 0.6]]), None)
        tensor([ True, False])
    """
    if mask is None:
        low, high = x.amin(-1), x.amax(-1)  # aminmax is four times slower
    else:
        high = x.masked_fill(~mask, -float("inf")).amax(-1)
        low = x.masked_fill(~mask, float("inf")).amin(-1)
    return ~(high - low > CONSTANT * high.abs().maximum(low.abs()).clamp(min=floor))


def pearson(a: Tensor, b: Tensor, mask: Tensor | None) -> Tensor:
    """Return Pearson's r of each row.

    Each side is divided by its largest deviation first, so that its scale cannot matter, however small. Only a spread
    of exactly zero gives NaN: whether a side is constant but for rounding (`is_constant`) is for the caller to judge.

    Args:
        a: values (..., S).
        b: values (..., S).
        mask: which entries exist, (..., S) bool; None where all do.

    Returns:
        r (...) in [-1, 1], NaN where a side is constant.

    Example:
        >>> import torch
        >>> pearson(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 4.0, 6.0]]), None).round(decimals=4)
        tensor([1.])
    """
    a, b = standardise(a, mask), standardise(b, mask)
    spread = (a * a).sum(-1) * (b * b).sum(-1)
    constant = ~(spread > 0)
    r = (a * b).sum(-1) / spread.masked_fill(constant, 1.0).sqrt()
    return r.clamp(-1.0, 1.0).masked_fill(constant, float("nan"))


def standardise(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return rows of x (..., S) with their mean taken off, divided by their largest deviation; 0 outside the mask."""
    if mask is None:
        x = x - x.mean(-1, keepdim=True)
    else:
        x = x.masked_fill(~mask, 0)
        mean = x.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
        x = (x - mean).masked_fill(~mask, 0)
    largest = x.detach().abs().amax(-1, keepdim=True)
    return x / largest.masked_fill(largest == 0, 1.0)


def mid_ranks(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return the rank of each entry in its row, from 1 for the smallest; ties share the mean of their ranks.

    Args:
        x: values (..., S).
        mask: which entries exist, (..., S) bool; None where all do.

    Returns:
        Ranks (..., S); what they are where the mask is False does not matter.

    Example:
        >>> import torch
        >>> mid_ranks(torch.tensor([[0.3, 0.1, 0.3]]), None)
        tensor([[2.5000, 1.0000, 2.5000]])
    """
    import torch

    n = x.shape[-1]
    ordered, order = (x if mask is None else x.masked_fill(~mask, float("inf"))).sort(dim=-1)
    place = torch.arange(n, device=x.device).expand_as(order)
    begins = torch.ones_like(ordered, dtype=torch.bool)  # where a run of equal values begins
    begins[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    if x.device.type == "cpu" and bool(begins.all()):  # no ties; on a GPU to ask would mean to wait
        return torch.empty_like(x).scatter_(-1, order, (place + 1).to(x.dtype))
    ends = torch.ones_like(begins)
    ends[..., :-1] = begins[..., 1:]
    first_of_run = place.masked_fill(~begins, 0).cummax(-1).values
    last_of_run = place.masked_fill(~ends, n - 1).flip(-1).cummin(-1).values.flip(-1)
    shared = (first_of_run + last_of_run).to(x.dtype) / 2 + 1
    return torch.zeros_like(x).scatter(-1, order, shared)


def levelled(x: Tensor, slack: Tensor, mask: Tensor | None) -> Tensor:
    """Return x with one value for entries that may be equal.

    Neighbours in order that are no further apart than the larger of their slacks are made equal, and so, link by link,
    is a whole chain of them: each takes the smallest value of its chain. The order in which entries stand plays no
    part.

    Args:
        x: values (..., S).
        slack: how far apart an entry may be from another that it equals, at least 0, (..., S).
        mask: which entries exist, (..., S) bool; None where all do.

    Returns:
        Values (..., S); what they are where the mask is False does not matter.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.3, 0.11, 0.1]])
        >>> levelled(x, torch.full_like(x, 0.05), None)
        tensor([[0.3000, 0.1000, 0.1000]])
    """
    import torch

    ordered, order = (x if mask is None else x.masked_fill(~mask, float("inf"))).sort(dim=-1)
    near = slack.gather(-1, order)
    begins = torch.ones_like(ordered, dtype=torch.bool)  # where a chain begins
    begins[..., 1:] = ordered.diff(dim=-1) > near[..., 1:].maximum(near[..., :-1])
    if x.device.type == "cpu" and bool(begins.all()):  # on a GPU to ask would mean to wait
        return x
    place = torch.arange(x.shape[-1], device=x.device).expand_as(order)
    first = place.masked_fill(~begins, 0).cummax(-1).values
    return torch.empty_like(x).scatter(-1, order, ordered.gather(-1, first))


def spearman(a: Tensor, b: Tensor, mask: Tensor | None) -> Tensor:
    """Return Spearman's rho of each row, with mid-ranks: `pearson` of `mid_ranks`.

    Args:
        a: values (..., S).
        b: values (..., S).
        mask: which entries exist, (..., S) bool; None where all do.

    Returns:
        rho (...) in [-1, 1], NaN where a side is constant.
    """
    return pearson(mid_ranks(a, mask), mid_ranks(b, mask), mask)
