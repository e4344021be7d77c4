"""Removal sets that follow from an order of the features: single groups, MoRF, LeRF and insertion.

Such a set removes a run of neighbouring places in the order, so two bounds say all of it. With G = 7 features in K = 4
groups the group boundaries are round(k * 7 / 4) = 0, 2, 4, 5, 7, and the sets are, as places [low, high):

    k =         1       2       3       4
    groups    [0, 2)  [2, 4)  [4, 5)  [5, 7)    group k alone
    morf      [0, 2)  [0, 4)  [0, 5)            the first k groups
    lerf      [5, 7)  [4, 7)  [2, 7)            the last k groups
    insert    [2, 7)  [4, 7)  [5, 7)            all but the first k groups

With k = 4 morf and lerf would remove everything and insert nothing, whatever the order: no method changes these
predictions, so they are not among these sets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.core.seeding import random_bits


@dataclass(frozen=True, eq=False)
class Ordering:
    """Features of B samples from the most to the least relevant, cut into at most K groups.

    order (B, G): the feature at each place, padding last; rank (B, G): the place of each feature; bounds (B, K + 1), or
    (1, K + 1) where all samples have as many features: group k holds the places bounds[k - 1] <= place < bounds[k];
    steps (B,): the sample's own number of groups, less than K where it has fewer features; unpadded: no sample has
    padding, so that all have K groups.
    """

    order: Tensor
    rank: Tensor
    bounds: Tensor
    steps: Tensor
    unpadded: bool

    @property
    def most_steps(self) -> int:
        """Return K."""
        return self.bounds.shape[1] - 1

    def numbers(self, first: int, last: int) -> Tensor:
        """Return k = first..last, (last - first + 1,); none where `last` is smaller."""
        return torch.arange(first, max(first, last + 1), device=self.bounds.device)

    def has_group(self, k: Tensor) -> Tensor | None:
        """Return whether each sample has a group k (n,): (B, n) bool, or None where all samples have all K."""
        return None if self.unpadded else k <= self.steps.unsqueeze(1)


def shuffle(seeds: Tensor, features: int) -> Tensor:
    """Return a random permutation of the features for each seed (B,): (B, G). Ties of scores follow it."""
    return random_bits(seeds.unsqueeze(1), torch.arange(features, device=seeds.device)).argsort(dim=1)


def order_features(scores: Tensor, valid: Tensor, shuffled: Tensor, steps: int, unpadded: bool = False) -> Ordering:
    """Sort features by descending score and cut them into groups of nearly one size.

    A sample of G features, padding not counted, has min(steps, G) groups; see this module's example.

    Args:
        scores: attributions (B, G).
        valid: which features exist, (B, G) bool.
        shuffled: a permutation of the features a sample, (B, G): the order that equal scores keep.
        steps: the most groups a sample may have.
        unpadded: the caller knows that all of `valid` is True, which saves work.

    Example:
        >>> scores = torch.tensor([[0.1, 0.9, 0.5]])
        >>> ordering = order_features(scores, scores > 0, torch.tensor([[0, 1, 2]]), steps=2)
        >>> ordering.order.tolist(), ordering.bounds.tolist()
        ([[1, 2, 0]], [[0, 2, 3]])
    """
    keyed = scores.double().masked_fill(~valid, -float("inf")).gather(1, shuffled)
    order = shuffled.gather(1, keyed.argsort(dim=1, descending=True, stable=True))
    count = valid[:1].sum(1) if unpadded else valid.sum(1)
    number = _smallest_integer(scores.shape[1])
    bounds = _bounds(count, steps).to(number)
    return Ordering(order, _inverse(order, number), bounds, count.clamp(max=steps).expand(len(scores)), unpadded)


def _smallest_integer(most: int) -> torch.dtype:
    """Return the smallest type that holds numbers up to `most`: ranks are compared for every row of the model."""
    return next(kind for kind in (torch.int8, torch.int16, torch.int32) if most <= torch.iinfo(kind).max)


def _inverse(order: Tensor, number: torch.dtype) -> Tensor:
    """Return the place of each feature, (B, G), for the feature at each place."""
    places = torch.arange(order.shape[1], device=order.device, dtype=number).expand_as(order).contiguous()
    return torch.empty_like(places).scatter_(1, order, places)


def _bounds(count: Tensor, steps: int) -> Tensor:
    """Return round(k G / K) for k = 0..steps, (B, steps + 1), where K = min(steps, G) and G is `count` (B,).

    For k over K it is G.
    """
    k = torch.arange(steps + 1, device=count.device)
    groups = count.clamp(min=1, max=steps)
    exact = k * count.unsqueeze(1).double() / groups.unsqueeze(1)
    return torch.minimum(exact.round().long(), count.unsqueeze(1))


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
        row = sample if len(self.low) > 1 else torch.zeros_like(sample)
        rank = self.ordering.rank.index_select(0, sample)
        return _within(rank, self.low[row, which, None], self.high[row, which, None])

    def block(self, samples: slice, sets: slice) -> Tensor:
        """See `RemovalSets`."""
        rows = samples if len(self.low) > 1 else slice(None)
        rank = self.ordering.rank[samples].unsqueeze(0)
        return _within(rank, self.low[rows, sets].T.unsqueeze(-1), self.high[rows, sets].T.unsqueeze(-1))

    def codes(self) -> Tensor:
        """Return the row of the value table (see `all_subsets`) that each set is, (B, S).

        The bits of the features at places [low, high) are the sum of all bits before high less those before low.
        """
        batch, sets = self.shape
        added = torch.nn.functional.pad((1 << self.ordering.order).cumsum(1), (1, 0))
        low, high = (side.long().expand(batch, sets) for side in (self.low, self.high))
        return added.gather(1, high) - added.gather(1, low)


def _within(rank: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return low <= rank < high, bool. Compared into integers, because comparing into bool takes ten times as long."""
    inside = torch.ge(rank, low, out=rank.new_empty(0)) & torch.lt(rank, high, out=rank.new_empty(0))
    return inside.to(torch.int8).view(torch.bool)


def groups(ordering: Ordering) -> OrderedSets:
    """Return each group alone, k = 1..K."""
    k = ordering.numbers(1, ordering.most_steps)
    return OrderedSets(ordering, ordering.bounds[:, :-1], ordering.bounds[:, 1:], ordering.has_group(k))


def morf(ordering: Ordering, first: int = 1) -> OrderedSets:
    """Return the first k groups together, k = first..K - 1: most relevant first."""
    k = ordering.numbers(first, ordering.most_steps - 1)
    high = ordering.bounds[:, first:-1]
    return OrderedSets(ordering, torch.zeros_like(high), high, ordering.has_group(k + 1))


def lerf(ordering: Ordering, first: int = 1) -> OrderedSets:
    """Return the last k groups together, k = first..K - 1: least relevant first. K is the sample's own."""
    k = ordering.numbers(first, ordering.most_steps - 1)
    steps = ordering.steps[: len(ordering.bounds)].unsqueeze(1)
    low = ordering.bounds.gather(1, (steps - k).clamp(min=0))
    return OrderedSets(ordering, low, ordering.bounds[:, -1:].expand_as(low), ordering.has_group(k + 1))


def insertions(ordering: Ordering) -> OrderedSets:
    """Return all but the first k groups, k = 1..K - 1: what is still removed when k groups are put back."""
    k = ordering.numbers(1, ordering.most_steps - 1)
    low = ordering.bounds[:, 1:-1]
    return OrderedSets(ordering, low, ordering.bounds[:, -1:].expand_as(low), ordering.has_group(k + 1))


def curve(ordering: Ordering, kind: str) -> OrderedSets:
    """Return all sets of a kind for k = 1..K, those that no method changes too: `groups`, `morf`, `lerf`, `insert`."""
    if kind == "groups":
        return groups(ordering)
    k = ordering.numbers(1, ordering.most_steps)
    end = ordering.bounds[:, -1:].expand(-1, len(k))
    if kind == "morf":
        low, high = torch.zeros_like(end), ordering.bounds[:, 1:]
    elif kind == "lerf":
        steps = ordering.steps[: len(ordering.bounds)].unsqueeze(1)
        low, high = ordering.bounds.gather(1, (steps - k).clamp(min=0)), end
    else:
        low, high = ordering.bounds[:, 1:], end
    return OrderedSets(ordering, low, high, ordering.has_group(k))


def join(parts: list[OrderedSets]) -> OrderedSets:
    """Return the sets of one ordering side by side, to be asked together."""
    if len(parts) == 1:
        return parts[0]
    low, high = torch.cat([part.low for part in parts], 1), torch.cat([part.high for part in parts], 1)
    exists = [part.exists for part in parts if part.exists is not None]
    return OrderedSets(parts[0].ordering, low, high, torch.cat(exists, 1) if exists else None)


def group_mass(ordering: Ordering, scores: Tensor) -> Tensor:
    """Return attributions (B, G) summed over each group, (B, K) float64.

    The members of a group are added one after the other in the order of their places, so that equal members give equal
    sums, which rank correlations need.
    """
    (batch, features), steps = scores.shape, ordering.most_steps
    ordered = scores.double().gather(1, ordering.order)
    if ordering.unpadded and steps == features:
        return ordered
    start, end = ordering.bounds[:, :-1].long().unsqueeze(-1), ordering.bounds[:, 1:].unsqueeze(-1)
    width = -(-features // steps)  # every group has floor or ceil of G / K features
    place = start + torch.arange(width, device=scores.device)  # (B or 1, K, width); past the end for smaller groups
    members = place.clamp(max=features - 1).flatten(1).expand(batch, -1)
    return (ordered.gather(1, members).view(batch, steps, width) * (place < end)).sum(-1)
