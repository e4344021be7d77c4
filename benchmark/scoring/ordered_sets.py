"""Removal sets that follow from an order of the features: single groups, MoRF, LeRF and insertion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.scoring.removal_sets import random_bits


@dataclass(frozen=True, eq=False)
class Ordering:
    """Features of each sample from most to least relevant, cut into K groups.

    order (B, G): feature at each place, padding last; rank (B, G): the place of each feature; bounds (B, K+1), or
    (1, K+1) where all samples have as many features: group k holds places bounds[k-1] to bounds[k]; steps (B,): the
    sample's own number of groups; unpadded: all are the same.
    """

    order: Tensor
    rank: Tensor
    bounds: Tensor
    steps: Tensor
    unpadded: bool


def shuffle(seeds: Tensor, features: int) -> Tensor:
    """Return a random permutation of the features for each seed (B,): (B, G). Ties of scores follow it."""
    return random_bits(seeds.unsqueeze(1), torch.arange(features, device=seeds.device)).argsort(dim=1)


def order_features(scores: Tensor, valid: Tensor, shuffled: Tensor, steps: int, unpadded: bool = False) -> Ordering:
    """Sort features by descending score; ties follow the permutations `shuffled` (B, G).

    Group boundaries are round(k * G / K) with K = min(steps, G), G the sample's own number of features. `unpadded` says
    that all samples have the same number of features, which saves work.
    """
    features = scores.shape[1]
    keyed = scores.double().masked_fill(~valid, -float("inf")).gather(1, shuffled)
    order = shuffled.gather(1, keyed.argsort(dim=1, descending=True, stable=True))
    narrow = next(kind for kind in (torch.int8, torch.int16, torch.int32) if features <= torch.iinfo(kind).max)
    place = torch.arange(features, device=scores.device, dtype=narrow).expand_as(order)
    rank = torch.empty_like(place).scatter_(1, order, place.contiguous())  # compared for every row: small is quick
    count = valid[:1].sum(1) if unpadded else valid.sum(1)
    own_steps = count.clamp(max=steps)
    k = torch.arange(steps + 1, device=scores.device)
    exact = k * count.unsqueeze(1).double() / own_steps.unsqueeze(1).clamp(min=1)
    bounds = torch.minimum(exact.round().long(), count.unsqueeze(1)).to(narrow)
    return Ordering(order, rank, bounds, own_steps.expand(len(scores)), unpadded)


@dataclass(frozen=True, eq=False)
class OrderedSets:
    """Removal sets that are runs of one ordering: places low (inclusive) to high (exclusive).

    low and high are (B, S), or (1, S) where all samples have the same.
    """

    ordering: Ordering
    low: Tensor
    high: Tensor
    exists: Tensor | None

    @property
    def shape(self) -> tuple[int, int]:
        """See `RemovalSets`."""
        return len(self.ordering.order), self.low.shape[1]

    def removed(self, sample: Tensor, which: Tensor) -> Tensor:
        """See `RemovalSets`."""
        own = sample if len(self.low) > 1 else torch.zeros_like(sample)
        rank = self.ordering.rank.index_select(0, sample)
        return _within(rank, self.low[own, which, None], self.high[own, which, None])

    def block(self, samples: slice, sets: slice) -> Tensor:
        """See `RemovalSets`."""
        own = samples if len(self.low) > 1 else slice(None)
        rank = self.ordering.rank[samples].unsqueeze(0)
        return _within(rank, self.low[own, sets].T.unsqueeze(-1), self.high[own, sets].T.unsqueeze(-1))

    def codes(self) -> Tensor:
        """Return the number of each set in the value table (B, S), see `all_subsets`."""
        batch, sets = self.shape
        added = torch.nn.functional.pad((1 << self.ordering.order).cumsum(1), (1, 0))
        low, high = (side.long().expand(batch, sets) for side in (self.low, self.high))
        return added.gather(1, high) - added.gather(1, low)


def _within(rank: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return low <= rank < high, bool. Compared into integers, because comparing into bool takes ten times as long."""
    inside = torch.ge(rank, low, out=rank.new_empty(0)) & torch.lt(rank, high, out=rank.new_empty(0))
    return inside.to(torch.int8).view(torch.bool)


def groups(ordering: Ordering) -> OrderedSets:
    """Each group alone: K sets."""
    return OrderedSets(ordering, ordering.bounds[:, :-1], ordering.bounds[:, 1:], _exists(ordering, 1, 0))


def morf(ordering: Ordering, first: int = 1) -> OrderedSets:
    """Most relevant first, k = `first`..K-1 groups removed; with k = K nothing is left, whatever the order."""
    high = ordering.bounds[:, first:-1]
    return OrderedSets(ordering, torch.zeros_like(high), high, _exists(ordering, first, 1))


def lerf(ordering: Ordering, first: int = 1) -> OrderedSets:
    """Least relevant first, k = `first`..K-1 groups removed: the last k groups of the same ordering."""
    k = _steps(ordering, first, 1)
    steps = ordering.steps[: len(ordering.bounds)].unsqueeze(1)
    low = ordering.bounds.gather(1, (steps - k).clamp(min=0))
    high = ordering.bounds[:, -1:].expand_as(low)
    return OrderedSets(ordering, low, high, _exists(ordering, first, 1))


def insertions(ordering: Ordering) -> OrderedSets:
    """Insertion, k = 1..K-1 groups put back: what is still removed are the places after group k."""
    low = ordering.bounds[:, 1:-1]
    return OrderedSets(ordering, low, ordering.bounds[:, -1:].expand_as(low), _exists(ordering, 1, 1))


def _exists(ordering: Ordering, first: int, short: int) -> Tensor | None:
    if ordering.unpadded:
        return None
    return _steps(ordering, first, short) <= (ordering.steps - short).unsqueeze(1)


def _steps(ordering: Ordering, first: int, short: int) -> Tensor:
    """Return k = first..K - short, or nothing where K is too small."""
    last = ordering.bounds.shape[1] - 1 - short
    return torch.arange(first, max(first, last + 1), device=ordering.bounds.device)


def join(parts: list[OrderedSets]) -> OrderedSets:
    """Put runs of one ordering side by side, to be asked together."""
    if len(parts) == 1:
        return parts[0]
    low, high = torch.cat([part.low for part in parts], 1), torch.cat([part.high for part in parts], 1)
    exists = [part.exists for part in parts if part.exists is not None]
    return OrderedSets(parts[0].ordering, low, high, torch.cat(exists, 1) if exists else None)


def group_mass(ordering: Ordering, scores: Tensor) -> Tensor:
    """Return scores (B, G) summed over each group, (B, K) float64; equal members in equal places sum equally."""
    (batch, features), steps = scores.shape, ordering.bounds.shape[1] - 1
    ordered = scores.double().gather(1, ordering.order)
    if ordering.unpadded and steps == features:
        return ordered
    start, end = ordering.bounds[:, :-1].long().unsqueeze(-1), ordering.bounds[:, 1:].unsqueeze(-1)
    width = -(-features // steps)  # every group has floor or ceil of G / K features
    place = start + torch.arange(width, device=scores.device)
    read = place.clamp(max=features - 1).flatten(1).expand(batch, -1)
    return (ordered.gather(1, read).view(batch, steps, width) * (place < end)).sum(-1)
