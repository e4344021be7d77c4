"""Which features are removed together, and in which order.

A removal set is never stored as a mask until the moment it goes through the model: cumulative sets are an order
and two bounds, random sets are a seed. Random bits come from a counter-based generator (a hash of seed, row and
feature), so a set is the same on every device, in every batch and whichever sets were made before it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from benchmark.core.types import Budget

WORKING_SET = 2**26
"""Bytes that masks may take while they are made or summed over."""

CACHED = 2**16
"""Random numbers that are made together on a CPU: few enough for its cache."""

LISTED = 2**14
"""Up to this many subsets of one size are listed, so that a draw only picks one."""

_GOLDEN, _MIX1, _MIX2 = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def random_bits(seed: Tensor, counter: Tensor) -> Tensor:
    """Return 64 random bits as int64 for each broadcast (seed, counter): splitmix64 (Steele et al. 2014)."""
    z = seed + (counter + 1) * _GOLDEN
    for by, factor in ((30, _MIX1), (27, _MIX2), (31, 1)):
        high = (z >> by).bitwise_and_((1 << (64 - by)) - 1)  # a shift that brings in zeros, not the sign
        z = z.bitwise_xor_(high)
        z = z.mul_(factor) if factor != 1 else z
    return z


class RemovalSets(Protocol):
    """Removal sets of B samples, S each."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return (B, S)."""

    @property
    def exists(self) -> Tensor | None:
        """Return (B, S) bool, False where a sample has fewer sets than its neighbours, or None where none has."""

    def removed(self, sample: Tensor, which: Tensor) -> Tensor:
        """Return the masks (n, G) of set `which` (n,) of `sample` (n,): True where a feature is removed."""

    def block(self, samples: slice, sets: slice) -> Tensor:
        """Return the masks (s, b, G) of some sets and samples, or (s, 1, G) where all samples have the same.

        Sets come first, so that all samples of a set lie side by side in memory: with few features everything else
        would be done ten numbers at a time.
        """


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


@dataclass(frozen=True, eq=False)
class RandomSets:
    """R random removal sets a sample: `size` (B,) features each, or each feature with probability 1/2 if None.

    `unpadded` says that the task has no padding, so that all samples ever have the same number of features.
    """

    seeds: Tensor
    valid: Tensor
    subsets: int
    size: Tensor | None
    unpadded: bool = False

    def removed(self, sample: Tensor, which: Tensor) -> Tensor:
        """Return the masks (n, G) of set `which` (n,) of `sample` (n,).

        A set of fixed size is picked among all such sets where they can be listed, and otherwise holds the features
        with the smallest random keys.
        """
        features = self.valid.shape[1]
        seeds, valid = self.seeds.index_select(0, sample), self.valid
        if self.size is None:  # each draw of 64 bits serves 64 features
            words = -(-features // 64)
            counter = which.unsqueeze(1) * words + torch.arange(words, device=which.device)
            drawn = random_bits(seeds.unsqueeze(1), counter)
            bits = [drawn >> 8 * i & 255 for i in range(min(8, -(-features // 8)))]
            masks = unpack_bits(torch.stack(bits, -1).flatten(1), features)
            return masks if self.unpadded else masks & valid.index_select(0, sample)
        if self.choices is not None:
            number = random_bits(seeds, which) & torch.iinfo(torch.int64).max
            return self.choices.index_select(0, number % len(self.choices))
        counter = which.unsqueeze(1) * features + torch.arange(features, device=which.device)
        keys = random_bits(seeds.unsqueeze(1), counter)
        if not self.unpadded:
            valid = valid.index_select(0, sample)
            keys = keys.masked_fill(~valid, torch.iinfo(torch.int64).max)
        smallest = keys.topk(self.largest, dim=1, largest=False).values
        chosen = keys <= smallest.gather(1, self.size[sample].unsqueeze(1) - 1)
        return chosen if self.unpadded else chosen & valid

    @cached_property
    def choices(self) -> Tensor | None:
        """Return all sets of the one size there is, (C(G, m), G), or None where sizes may differ or sets are many."""
        features = self.valid.shape[1]
        if self.size is None or not self.unpadded:
            return None
        if math.comb(features, self.largest) > LISTED:
            return None
        members = torch.tensor(list(itertools.combinations(range(features), self.largest)), device=self.seeds.device)
        return torch.zeros(len(members), features, dtype=torch.bool, device=members.device).scatter(1, members, True)

    @cached_property
    def largest(self) -> int:
        """Return the size of the largest set."""
        return 0 if self.size is None else int(self.size.max())

    def draw(self) -> MaskSets | PackedSets:
        """Draw all sets once and keep them, as bits where they would take too much memory."""
        batch, features = self.valid.shape
        small = 8 * batch * self.subsets * features <= WORKING_SET
        rows = torch.arange(batch * self.subsets, device=self.seeds.device)
        numbers = CACHED if self.seeds.device.type == "cpu" else WORKING_SET // 16
        parts = []
        for part in rows.split(max(1, numbers // features)):
            masks = self.removed(part % batch, part // batch)
            parts.append(masks if small else pack_bits(masks))
        kept = torch.cat(parts).view(self.subsets, batch, -1)
        return MaskSets(kept, batch) if small else PackedSets(kept, features)


def pack_bits(masks: Tensor) -> Tensor:
    """Return masks (..., G) bool as bytes (..., ceil(G / 8)), the first feature in the lowest bit."""
    short = -masks.shape[-1] % 8
    bits = torch.nn.functional.pad(masks.to(torch.uint8), (0, short)).unflatten(-1, (-1, 8))
    packed = bits[..., 7]
    for i in range(6, -1, -1):
        packed = packed * 2 + bits[..., i]
    return packed


def unpack_bits(packed: Tensor, features: int) -> Tensor:
    """Return what `pack_bits` packed, as (..., features) bool; looked up by bytes, which need not be uint8."""
    codes = torch.arange(256, device=packed.device).unsqueeze(1)
    bits = (codes >> torch.arange(8, device=packed.device)) & 1 == 1
    return bits.index_select(0, packed.flatten().int()).view(*packed.shape[:-1], -1)[..., :features]


@dataclass(frozen=True, eq=False)
class PackedSets:
    """Removal sets of each sample as bits (S, B, ceil(G / 8)) uint8: an eighth of a mask."""

    bits: Tensor
    features: int
    exists = None

    @property
    def shape(self) -> tuple[int, int]:
        """See `RemovalSets`."""
        return self.bits.shape[1], self.bits.shape[0]

    @property
    def nbytes(self) -> int:
        """Return the memory held."""
        return self.bits.nbytes

    def removed(self, sample: Tensor, which: Tensor) -> Tensor:
        """See `RemovalSets`."""
        return unpack_bits(self.bits[which, sample], self.features)

    def block(self, samples: slice, sets: slice) -> Tensor:
        """See `RemovalSets`."""
        return unpack_bits(self.bits[sets, samples], self.features)


@dataclass(frozen=True, eq=False)
class MaskSets:
    """Removal sets as masks: (S, B, G), or (S, 1, G) where all samples have the same."""

    masks: Tensor
    batch: int
    exists = None

    @property
    def shape(self) -> tuple[int, int]:
        """See `RemovalSets`."""
        return self.batch, len(self.masks)

    @property
    def nbytes(self) -> int:
        """Return the memory held, that of `dense` included."""
        return 9 * self.masks.nbytes

    def removed(self, sample: Tensor, which: Tensor) -> Tensor:
        """See `RemovalSets`."""
        return self.masks[which, sample if self.masks.shape[1] > 1 else torch.zeros_like(sample)]

    def block(self, samples: slice, sets: slice) -> Tensor:
        """See `RemovalSets`."""
        return self.masks[sets, samples] if self.masks.shape[1] > 1 else self.masks[sets]

    @cached_property
    def dense(self) -> Tensor:
        """Return the masks as float64, for summing."""
        return self.masks.double()

    def codes(self) -> Tensor:
        """Return the number of each set in the value table (B, S), see `all_subsets`."""
        bit = (1 << torch.arange(self.masks.shape[-1], device=self.masks.device)).double()
        return (self.dense @ bit).long().T.expand(self.batch, -1)  # exact: far under 2^53


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


def subset_mass(removals: MaskSets | PackedSets, scores: Tensor) -> Tensor:
    """Return scores (..., B, G) summed over each removal set, (..., B, S) float64."""
    scores = scores.double()
    if isinstance(removals, MaskSets):
        if removals.masks.shape[1] == 1:
            return scores @ removals.dense.squeeze(1).T
        return _sums(scores, removals.dense)
    batch = max(1, WORKING_SET // (8 * removals.bits.shape[0] * removals.features))  # whose masks exist at a time
    parts = zip(scores.split(batch, -2), removals.bits.split(batch, 1), strict=True)
    return torch.cat([_sums(part, unpack_bits(bits, removals.features).double()) for part, bits in parts], -2)


def _sums(scores: Tensor, masks: Tensor) -> Tensor:
    """Return scores (..., B, G) summed over masks (S, B, G), (..., B, S), each sample by one product of matrices."""
    rows = scores.reshape(-1, *scores.shape[-2:]).transpose(0, 1)  # (B, M, G)
    sums = rows @ masks.permute(1, 2, 0)  # (B, G, S)
    return sums.transpose(0, 1).reshape(*scores.shape[:-1], -1)


def all_subsets(features: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the 2^G removal masks (2^G, G); row i removes feature g where bit g of i is set."""
    codes = torch.arange(2**features, device=device).unsqueeze(1)
    return (codes >> torch.arange(features, device=device)) & 1 == 1


def subset_sizes(valid: Tensor, budget: Budget) -> Tensor:
    """Return each sample's FC subset size (B,): max(minimum, round(fraction * G)), at most its own G."""
    count = valid.sum(1)
    size = (count.double() * budget.subset_fraction).round().long().clamp(min=budget.subset_minimum)
    return torch.minimum(size, count.clamp(min=1))
