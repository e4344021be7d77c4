"""Random removal sets, for FC and INF: a seed a sample, from which masks are drawn.

Bits come from a counter-based generator, `random_bits(seed, counter)`, so a set is the same on every device, in every
batch, and whichever sets were drawn before it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from benchmark.core.seeding import random_bits
from benchmark.core.types import Budget
from benchmark.scoring import removal_sets
from benchmark.scoring.removal_sets import MaskSets, PackedSets, pack_bits, unpack_bits

CACHED = 2**16
"""Random numbers that are made together on a CPU: few enough for its cache."""
LISTED = 2**14
"""Up to this many subsets of one size are listed, so that a draw only picks one."""


@dataclass(frozen=True, eq=False)
class RandomSets:
    """R random removal sets for each of B samples.

    seeds (B,) int64; valid (B, G) bool, False for padding, which is never removed; subsets R; size (B,): how many
    features each set of a sample removes, or None, where each feature is removed with probability 1/2. `unpadded` says
    that the task has no padding, so that `valid` is True throughout, in every batch.
    """

    seeds: Tensor
    valid: Tensor
    subsets: int
    size: Tensor | None
    unpadded: bool = False

    def removed(self, sample: Tensor, which: Tensor) -> Tensor:
        """Return the masks (n, G) of set `which` (n,) of `sample` (n,): see `RemovalSets`."""
        if self.size is None:
            return self._halves(sample, which)
        if self.choices is not None:
            return self._listed(self.choices, sample, which)
        return self._smallest_keys(self.size, sample, which)

    def _halves(self, sample: Tensor, which: Tensor) -> Tensor:
        """Remove each feature with probability 1/2: one draw of 64 bits serves 64 features.

        With G = 70 a set needs two words of 64 bits: those of set 3 have the counters 6 and 7.
        """
        features = self.valid.shape[1]
        words = -(-features // 64)
        counter = which.unsqueeze(1) * words + torch.arange(words, device=which.device)
        drawn = random_bits(self.seeds.index_select(0, sample).unsqueeze(1), counter)
        octets = [drawn >> 8 * i & 255 for i in range(min(8, -(-features // 8)))]
        masks = unpack_bits(torch.stack(octets, -1).flatten(1), features)
        return masks if self.unpadded else masks & self.valid.index_select(0, sample)

    def _listed(self, choices: Tensor, sample: Tensor, which: Tensor) -> Tensor:
        """Pick a set among all sets of the size, `choices` (C(G, m), G)."""
        number = random_bits(self.seeds.index_select(0, sample), which) & torch.iinfo(torch.int64).max
        return choices.index_select(0, number % len(choices))

    def _smallest_keys(self, size: Tensor, sample: Tensor, which: Tensor) -> Tensor:
        """Remove the `size` features with the smallest random keys, one key a feature.

        With G = 70 the keys of set 3 have the counters 210 to 279.
        """
        features = self.valid.shape[1]
        counter = which.unsqueeze(1) * features + torch.arange(features, device=which.device)
        keys = random_bits(self.seeds.index_select(0, sample).unsqueeze(1), counter)
        valid = self.valid if self.unpadded else self.valid.index_select(0, sample)
        if not self.unpadded:
            keys = keys.masked_fill(~valid, torch.iinfo(torch.int64).max)
        smallest = keys.topk(self.largest, dim=1, largest=False).values
        chosen = keys <= smallest.gather(1, size[sample].unsqueeze(1) - 1)
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
        """Return all R sets of the B samples, as masks, or as bits where masks would take too much memory."""
        batch, features = self.valid.shape
        fits = 8 * batch * self.subsets * features <= removal_sets.WORKING_SET
        pairs = torch.arange(batch * self.subsets, device=self.seeds.device)  # set by set, all samples each
        numbers = CACHED if self.seeds.device.type == "cpu" else removal_sets.WORKING_SET // 16
        parts = []
        for part in pairs.split(max(1, numbers // features)):
            masks = self.removed(part % batch, part // batch)
            parts.append(masks if fits else pack_bits(masks))
        drawn = torch.cat(parts).view(self.subsets, batch, -1)
        return MaskSets(drawn, batch) if fits else PackedSets(drawn, features)


def subset_sizes(valid: Tensor, budget: Budget) -> Tensor:
    """Return how many features each random subset of FC removes.

    Args:
        valid: which features exist, (B, G) bool.
        budget: of the task.

    Returns:
        Sizes (B,): max(minimum, round(fraction * G)), G being the sample's own number of features, at most G.
    """
    count = valid.sum(1)
    size = (count.double() * budget.subset_fraction).round().long().clamp(min=budget.subset_minimum)
    return torch.minimum(size, count.clamp(min=1))
