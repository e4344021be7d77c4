"""Removal sets: which features of a sample are removed together.

A removal set becomes a mask only when it goes through the model: cumulative sets are an order and two bounds, random
sets are a seed. Random bits come from a counter-based generator (a hash of seed, row and feature), so a set is the same
on every device, in every batch and whichever sets were made before it.
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
