"""Removal sets: which features of a sample are removed together; and how they are held in memory.

This is where a mask comes from. `MaskedModel.query` takes removal sets in any of the first three forms, and those that
DeepFaith draws while it trains (deepfaith/drawing.py); `RandomSets.draw` makes one of the first two:

- `MaskSets`: masks, (S, B, G) bool;
- `PackedSets`: the same as bits, an eighth of the memory;
- `OrderedSets` (ordered_sets.py): an order of the features and two bounds a set;
- `RandomSets` (random_sets.py): a seed, and how many.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

WORKING_SET = 2**26
"""Bytes that masks may take while they are made or summed over."""


class RemovalSets(Protocol):
    """S removal sets for each of B samples."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return (B, S)."""

    @property
    def exists(self) -> Tensor | None:
        """Return (B, S) bool, False where a sample has fewer sets than its neighbours; None where all have S."""

    def removed(self, sample: Tensor, which: Tensor) -> Tensor:
        """Return the masks of chosen pairs of sample and set.

        Args:
            sample: numbers (n,) of samples, from 0 to B - 1.
            which: number (n,) of a set of each, from 0 to S - 1.

        Returns:
            Masks (n, G) bool: True where a feature is removed.
        """

    def block(self, samples: slice, sets: slice) -> Tensor:
        """Return the masks of some sets of some samples.

        Returns:
            Masks (s, b, G) bool, or (s, 1, G) where all samples have the same sets. Sets come first, so that all
            samples of a set lie side by side in memory: where features are few, one sample is too little work for a
            vector unit.
        """


@dataclass(frozen=True, eq=False)
class MaskSets:
    """Removal sets as masks: (S, B, G) bool, or (S, 1, G) where all `batch` samples have the same."""

    masks: Tensor
    batch: int
    exists: Tensor | None = None

    @classmethod
    def of(cls, masks: Tensor, exists: Tensor | None = None) -> MaskSets:
        """Return the sets of masks (B, S, G) bool; `exists` (B, S) bool is False where a sample has no such set."""
        return cls(masks.transpose(0, 1).contiguous(), len(masks), exists)

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
        """Return the row of the value table (see `all_subsets`) that each set is, (B, S)."""
        bit = (1 << torch.arange(self.masks.shape[-1], device=self.masks.device)).double()
        return (self.dense @ bit).long().T.expand(self.batch, -1)  # exact: far under 2^53


@dataclass(frozen=True, eq=False)
class PackedSets:
    """Removal sets of each sample as bits, (S, B, ceil(G / 8)) uint8."""

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


def pack_bits(masks: Tensor) -> Tensor:
    """Return masks (..., G) bool as bytes (..., ceil(G / 8)) uint8, the first feature in the lowest bit."""
    short = -masks.shape[-1] % 8
    bits = torch.nn.functional.pad(masks.to(torch.uint8), (0, short)).unflatten(-1, (-1, 8))
    packed = bits[..., 7]
    for i in range(6, -1, -1):
        packed = packed * 2 + bits[..., i]
    return packed


def unpack_bits(packed: Tensor, features: int) -> Tensor:
    """Return the masks (..., features) bool that `pack_bits` packed; bytes of any integer type."""
    codes = torch.arange(256, device=packed.device).unsqueeze(1)
    bits = (codes >> torch.arange(8, device=packed.device)) & 1 == 1  # the eight masks of every byte, to look up
    return bits.index_select(0, packed.flatten().int()).view(*packed.shape[:-1], -1)[..., :features]


def subset_mass(removals: MaskSets | PackedSets, scores: Tensor) -> Tensor:
    """Return the mass of each removal set: attributions summed over what it removes.

    Args:
        removals: S sets of B samples.
        scores: attributions (..., B, G).

    Returns:
        Masses (..., B, S) float64.
    """
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
    sums = rows @ masks.permute(1, 2, 0)  # (B, M, S)
    return sums.transpose(0, 1).reshape(*scores.shape[:-1], -1)


def all_subsets(features: int, device: torch.device | str = "cpu") -> Tensor:
    """Return all removal masks of G features, in the order of the value table.

    Returns:
        Masks (2^G, G) bool; row i removes feature g where bit g of i is set.

    Example:
        >>> all_subsets(2).int().tolist()
        [[0, 0], [1, 0], [0, 1], [1, 1]]
    """
    codes = torch.arange(2**features, device=device).unsqueeze(1)
    return (codes >> torch.arange(features, device=device)) & 1 == 1
