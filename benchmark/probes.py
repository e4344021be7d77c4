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

from benchmark.types import Budget

WORKING_SET = 2**26
"""Bytes that masks may take while they are made or summed over."""

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


class Removals(Protocol):
    """Removal sets of B samples, S each."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return (B, S)."""

    @property
    def counted(self) -> Tensor | None:
        """Return (B, S) bool, False where a sample has fewer sets than its neighbours, or None where none has."""

    def removed(self, sample: Tensor, which: Tensor) -> Tensor:
        """Return the masks (n, G) of set `which` (n,) of `sample` (n,): True where a feature is removed."""

    def block(self, samples: slice, sets: slice) -> Tensor:
        """Return the masks (b, s, G) of some samples and sets."""


@dataclass(frozen=True, eq=False)
class Ordering:
    """Features of each sample from most to least relevant, cut into K groups.

    order (B, G): feature at each place, padding last; rank (B, G): the place of each feature; bounds (B, K+1):
    group k holds places bounds[k-1] to bounds[k]; steps (B,): the sample's own number of
    groups; even: all are the same.
    """

    order: Tensor
    rank: Tensor
    bounds: Tensor
    steps: Tensor
    even: bool


def order_features(scores: Tensor, valid: Tensor, tie_seeds: Tensor, steps: int, even: bool = False) -> Ordering:
    """Sort features by descending score; ties follow a random permutation drawn from `tie_seeds` (B,).

    Group boundaries are round(k * G / K) with K = min(steps, G), G the sample's own number of features. `even` says
    that all samples have the same number of features, which saves work.
    """
    features = scores.shape[1]
    lottery = random_bits(tie_seeds.unsqueeze(1), torch.arange(features, device=scores.device))
    shuffled = lottery.argsort(dim=1)
    keyed = scores.double().masked_fill(~valid, -float("inf")).gather(1, shuffled)
    order = shuffled.gather(1, keyed.argsort(dim=1, descending=True, stable=True))
    narrow = torch.int16 if features < 2**15 else torch.int32  # ranks are compared for every row: small is quick
    place = torch.arange(features, device=scores.device, dtype=narrow).expand_as(order)
    rank = torch.empty_like(place).scatter_(1, order, place.contiguous())
    count = valid.sum(1)
    own_steps = count.clamp(max=steps)
    k = torch.arange(steps + 1, device=scores.device)
    exact = k * count.unsqueeze(1).double() / own_steps.unsqueeze(1).clamp(min=1)
    bounds = torch.minimum(exact.round().long(), count.unsqueeze(1)).to(narrow)
    return Ordering(order, rank, bounds, own_steps, even)


@dataclass(frozen=True, eq=False)
class Runs:
    """Removal sets that are runs of one ordering: places low (inclusive) to high (exclusive)."""

    ordering: Ordering
    low: Tensor
    high: Tensor
    counted: Tensor | None

    @property
    def shape(self) -> tuple[int, int]:
        """See `Removals`."""
        return len(self.low), self.low.shape[1]

    def removed(self, sample: Tensor, which: Tensor) -> Tensor:
        """See `Removals`."""
        rank = self.ordering.rank.index_select(0, sample)
        return (rank >= self.low[sample, which, None]) & (rank < self.high[sample, which, None])

    def block(self, samples: slice, sets: slice) -> Tensor:
        """See `Removals`."""
        rank = self.ordering.rank[samples].unsqueeze(1)
        return (rank >= self.low[samples, sets, None]) & (rank < self.high[samples, sets, None])


def groups(ordering: Ordering) -> Runs:
    """Each group alone: K sets."""
    return Runs(ordering, ordering.bounds[:, :-1], ordering.bounds[:, 1:], _within(ordering, 1, 0))


def morf(ordering: Ordering, first: int = 1) -> Runs:
    """Most relevant first, k = `first`..K-1 groups removed; with k = K nothing is left, whatever the order."""
    high = ordering.bounds[:, first:-1]
    return Runs(ordering, torch.zeros_like(high), high, _within(ordering, first, 1))


def lerf(ordering: Ordering, first: int = 1) -> Runs:
    """Least relevant first, k = `first`..K-1 groups removed: the last k groups of the same ordering."""
    k = _steps(ordering, first, 1)
    low = ordering.bounds.gather(1, (ordering.steps.unsqueeze(1) - k).clamp(min=0))
    high = ordering.bounds[:, -1:].expand_as(low)
    return Runs(ordering, low, high, _within(ordering, first, 1))


def insertions(ordering: Ordering) -> Runs:
    """Insertion, k = 1..K-1 groups put back: what is still removed are the places after group k."""
    low = ordering.bounds[:, 1:-1]
    return Runs(ordering, low, ordering.bounds[:, -1:].expand_as(low), _within(ordering, 1, 1))


def _within(ordering: Ordering, first: int, short: int) -> Tensor | None:
    if ordering.even:
        return None
    return _steps(ordering, first, short) <= (ordering.steps - short).unsqueeze(1)


def _steps(ordering: Ordering, first: int, short: int) -> Tensor:
    """Return k = first..K - short, or nothing where K is too small."""
    last = ordering.bounds.shape[1] - 1 - short
    return torch.arange(first, max(first, last + 1), device=ordering.bounds.device)


def join(parts: list[Runs]) -> Runs:
    """Put runs of one ordering side by side, to be asked together."""
    if len(parts) == 1:
        return parts[0]
    low, high = torch.cat([part.low for part in parts], 1), torch.cat([part.high for part in parts], 1)
    counted = [part.counted for part in parts if part.counted is not None]
    return Runs(parts[0].ordering, low, high, torch.cat(counted, 1) if counted else None)


@dataclass(frozen=True, eq=False)
class Draws:
    """R random removal sets a sample: `size` (B,) features each, or each feature with probability 1/2 if None.

    `even` says that the task has no padding, so that all samples ever have the same number of features.
    """

    seeds: Tensor
    valid: Tensor
    subsets: int
    size: Tensor | None
    even: bool = False

    def removed(self, sample: Tensor, which: Tensor) -> Tensor:
        """Return the masks (n, G) of set `which` (n,) of `sample` (n,).

        A set of fixed size is picked among all such sets where they can be listed, and otherwise holds the features
        with the smallest random keys.
        """
        features = self.valid.shape[1]
        seeds, valid = self.seeds[sample].unsqueeze(1), self.valid[sample]
        if self.size is None:  # each draw of 64 bits serves 64 features
            words = -(-features // 64)
            counter = which.unsqueeze(1) * words + torch.arange(words, device=which.device)
            bits = random_bits(seeds, counter).unsqueeze(-1) >> torch.arange(min(64, features), device=which.device)
            return (bits & 1).flatten(1)[:, :features].bool() & valid
        if self.choices is not None:
            number = random_bits(seeds.squeeze(1), which) & torch.iinfo(torch.int64).max
            return self.choices[number % len(self.choices)]
        counter = which.unsqueeze(1) * features + torch.arange(features, device=which.device)
        keys = random_bits(seeds, counter).masked_fill(~valid, torch.iinfo(torch.int64).max)
        smallest = keys.topk(self.largest, dim=1, largest=False).values
        return (keys <= smallest.gather(1, self.size[sample].unsqueeze(1) - 1)) & valid

    @cached_property
    def choices(self) -> Tensor | None:
        """Return all sets of the one size there is, (C(G, m), G), or None where sizes may differ or sets are many."""
        features = self.valid.shape[1]
        if self.size is None or not self.even:
            return None
        if math.comb(features, self.largest) > LISTED:
            return None
        members = torch.tensor(list(itertools.combinations(range(features), self.largest)), device=self.seeds.device)
        return torch.zeros(len(members), features, dtype=torch.bool, device=members.device).scatter(1, members, True)

    @cached_property
    def largest(self) -> int:
        """Return the size of the largest set."""
        return 0 if self.size is None else int(self.size.max())

    def pack(self) -> Packed:
        """Draw all sets once and keep them as bits; a slice of rows exists unpacked at a time."""
        batch, features = self.valid.shape
        rows = torch.arange(batch * self.subsets, device=self.seeds.device)
        parts = [
            pack_bits(self.removed(part // self.subsets, part % self.subsets))
            for part in rows.split(max(1, WORKING_SET // (64 * features)))
        ]
        return Packed(torch.cat(parts).view(batch, self.subsets, -1), features)


def pack_bits(masks: Tensor) -> Tensor:
    """Return masks (..., G) bool as bytes (..., ceil(G / 8)), the first feature in the lowest bit."""
    short = -masks.shape[-1] % 8
    padded = torch.nn.functional.pad(masks.to(torch.uint8), (0, short)).unflatten(-1, (-1, 8))
    return (padded << torch.arange(8, device=masks.device, dtype=torch.uint8)).sum(-1, dtype=torch.uint8)


def unpack_bits(packed: Tensor, features: int) -> Tensor:
    """Return what `pack_bits` packed, as (..., features) bool."""
    bits = (packed.unsqueeze(-1) >> torch.arange(8, device=packed.device, dtype=torch.uint8)) & 1
    return bits.flatten(-2)[..., :features].bool()


@dataclass(frozen=True, eq=False)
class Packed:
    """Removal sets of each sample as bits (B, S, ceil(G / 8)) uint8: an eighth of a mask."""

    bits: Tensor
    features: int
    counted = None

    @property
    def shape(self) -> tuple[int, int]:
        """See `Removals`."""
        return self.bits.shape[0], self.bits.shape[1]

    @cached_property
    def masks(self) -> Tensor | None:
        """Return the masks (B, S, G) bool, or None where they would take too much memory."""
        small = 8 * self.bits.shape[0] * self.bits.shape[1] * self.features <= WORKING_SET
        return unpack_bits(self.bits, self.features) if small else None

    @cached_property
    def dense(self) -> Tensor | None:
        """Return the masks as (B, G, S) float64 for summing, or None where they would take too much memory."""
        return None if self.masks is None else self.masks.double().mT.contiguous()

    def removed(self, sample: Tensor, which: Tensor) -> Tensor:
        """See `Removals`."""
        return unpack_bits(self.bits[sample, which], self.features)

    def block(self, samples: slice, sets: slice) -> Tensor:
        """See `Removals`."""
        if self.masks is not None:
            return self.masks[samples, sets]
        return unpack_bits(self.bits[samples, sets], self.features)


@dataclass(frozen=True, eq=False)
class Listed:
    """The same S removal sets for every sample: masks (S, G)."""

    masks: Tensor
    batch: int
    counted = None

    @property
    def shape(self) -> tuple[int, int]:
        """See `Removals`."""
        return self.batch, len(self.masks)

    def removed(self, sample: Tensor, which: Tensor) -> Tensor:
        """See `Removals`."""
        return self.masks[which]

    def block(self, samples: slice, sets: slice) -> Tensor:
        """See `Removals`."""
        return self.masks[sets].expand(samples.stop - samples.start, -1, -1)


def group_mass(ordering: Ordering, scores: Tensor) -> Tensor:
    """Return scores (B, G) summed over each group, (B, K) float64; equal members in equal places sum equally."""
    start, end = ordering.bounds[:, :-1].long().unsqueeze(-1), ordering.bounds[:, 1:].unsqueeze(-1)
    batch, steps = start.shape[:2]
    width = -(-scores.shape[1] // steps)  # every group has floor or ceil of G / K features
    place = start + torch.arange(width, device=scores.device)
    ordered = scores.double().gather(1, ordering.order)
    members = ordered.gather(1, place.clamp(max=scores.shape[1] - 1).reshape(batch, steps * width))
    return (members.reshape(batch, steps, width) * (place < end)).sum(-1)


def subset_mass(removals: Packed | Listed, scores: Tensor) -> Tensor:
    """Return scores (B, G) summed over each removal set, (B, S) float64; a few samples' masks exist at a time."""
    if isinstance(removals, Listed):
        return scores.double() @ removals.masks.double().T
    if removals.dense is not None:
        return (scores.double().unsqueeze(1) @ removals.dense).squeeze(1)
    batch = max(1, WORKING_SET // (8 * removals.bits.shape[1] * removals.features))
    parts = zip(removals.bits.split(batch), scores.double().split(batch), strict=True)
    return torch.cat(
        [(unpack_bits(bits, removals.features).double() @ part.unsqueeze(-1)).squeeze(-1) for bits, part in parts]
    )


def all_subsets(features: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the 2^G removal masks (2^G, G); row i removes feature g where bit g of i is set."""
    codes = torch.arange(2**features, device=device).unsqueeze(1)
    return (codes >> torch.arange(features, device=device)) & 1 == 1


def subset_sizes(valid: Tensor, budget: Budget) -> Tensor:
    """Return each sample's FC subset size (B,): max(minimum, round(fraction * G)), at most its own G."""
    count = valid.sum(1)
    size = (count.double() * budget.subset_fraction).round().long().clamp(min=budget.subset_minimum)
    return torch.minimum(size, count.clamp(min=1))
