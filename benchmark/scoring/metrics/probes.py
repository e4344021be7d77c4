"""Probes: which features are removed together, and whether that follows from the attribution.

A probe is an object that yields removal sets. The six of the ten metrics are answered without asking twice
(ordered_queries.py and shared_queries.py say how); any other is asked as it stands (access/responses.py). Probes are
compared by their values: metrics with equal probes share the answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from benchmark.core.errors import in_a_line

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.core.types import Baseline, Budget
    from benchmark.scoring.ordered_sets import Ordering
    from benchmark.scoring.removal_sets import MaskSets, PackedSets, RemovalSets


@dataclass(frozen=True, eq=False)
class Samples:
    """What a probe may know of B samples.

    Attributes:
        x: inputs (B, ...).
        valid: which features exist, (B, G) bool; padding is False, and never removed.
        unpadded: whether the task has no padding, so that `valid` is True throughout.
        budget: how finely the task is probed.
        seeds: gives seeds (B,) int64 for a purpose, a word: each follows from the run's seed and the sample's number,
            so that what is drawn from it (`benchmark.core.seeding.random_bits`) is the same in every batch.
    """

    x: Tensor
    valid: Tensor
    unpadded: bool
    budget: Budget
    seeds: Callable[[str], Tensor]
    __repr__ = in_a_line


class Probe(ABC):
    """Which features are removed together: a frozen dataclass derived from `OrderedProbe` or `SharedProbe`.

    Attributes:
        kind: a word for the kind of removal sets.
        ordered: whether the sets follow from the order of the attribution; if not, all methods share them.
        mass: whether a response holds the attribution summed over each set.
        baseline: what takes the place of removed features, `removal` or `insertion`.
        cost: forward passes a sample, in words.
    """

    kind: str = "own"
    ordered: ClassVar[bool]
    mass: bool = False
    baseline: Baseline = "removal"
    cost: str = "one for each removal set; none where there is a value table"


class OrderedProbe(Probe):
    """A probe whose removal sets follow from the order of each attribution: they are asked for each method.

    Example:
        >>> from dataclasses import dataclass
        >>> from benchmark.scoring.ordered_sets import OrderedSets
        >>> @dataclass(frozen=True)
        ... class MostRelevant(OrderedProbe):
        ...     "The most relevant feature alone."
        ...     def sets(self, samples, ordering):
        ...         one = ordering.bounds[:1, :1] + 1
        ...         return OrderedSets(ordering, one - 1, one, None)
    """

    ordered = True

    @abstractmethod
    def sets(self, samples: Samples, ordering: Ordering) -> RemovalSets:
        """Return the removal sets of some samples, (B, S).

        Args:
            samples: B of them; a sample is there once for each method.
            ordering: the features of each from the most to the least relevant, in groups.
        """


class SharedProbe(Probe):
    """A probe whose removal sets no method changes: they are asked once for all of them.

    Example:
        >>> import torch
        >>> from dataclasses import dataclass
        >>> from benchmark.scoring.removal_sets import MaskSets
        >>> @dataclass(frozen=True)
        ... class Pairs(SharedProbe):
        ...     "Each pair of neighbouring features."
        ...     kind, mass = "pairs", True
        ...     def sets(self, samples):
        ...         features = samples.valid.shape[1]
        ...         one = torch.eye(features, dtype=torch.bool, device=samples.valid.device)
        ...         pairs = (one[:-1] | one[1:]).expand(len(samples.valid), -1, -1)
        ...         return MaskSets.of(pairs, (samples.valid.unsqueeze(1) | ~pairs).all(-1))
    """

    ordered = False

    @abstractmethod
    def sets(self, samples: Samples) -> RemovalSets:
        """Return the removal sets of some samples, (B, S); the same for a sample in any batch."""


@dataclass(frozen=True)
class Curve(OrderedProbe):
    """A probe that walks along the K groups of an ordering; `insert` starts from the insertion baseline.

    `kind` is one of:

    - `morf`: the first k groups, k = 1..K, the most relevant first;
    - `lerf`: the last k groups, the least relevant first;
    - `insert`: all but the first k groups, from the insertion baseline;
    - `groups`: each group alone.
    """

    kind: str

    @property
    def cost(self) -> str:  # type: ignore[override]
        """Return the forward passes a sample, in words."""
        return COSTS[self.kind]

    @property
    def mass(self) -> bool:  # type: ignore[override]
        """Tell whether responses have a mass: those to single groups do."""
        return self.kind == "groups"

    @property
    def baseline(self) -> Baseline:  # type: ignore[override]
        """Return what takes the place of removed features."""
        return "insertion" if self.kind == "insert" else "removal"

    def sets(self, samples: Samples, ordering: Ordering) -> RemovalSets:
        """See `OrderedProbe`."""
        from benchmark.scoring import ordered_sets  # boards, which read metrics, are made without torch

        return ordered_sets.curve(ordering, self.kind)


@dataclass(frozen=True)
class Subsets(SharedProbe):
    """A probe of R random subsets; where there is a value table, of all there are.

    `kind` is one of:

    - `fixed`: random subsets of one size;
    - `bernoulli`: random subsets, each feature removed with probability 1/2.
    """

    kind: str
    mass = True
    cost = "R, shared by all methods; none where there is a value table"

    def sets(self, samples: Samples) -> MaskSets | PackedSets:
        """See `SharedProbe`."""
        from benchmark.scoring.random_sets import RandomSets, subset_sizes

        size = subset_sizes(samples.valid, samples.budget) if self.kind == "fixed" else None
        seeds, subsets = samples.seeds(self.kind), samples.budget.subsets
        return RandomSets(seeds, samples.valid, subsets, size, samples.unpadded).draw()


COSTS = {
    "groups": "K a method (shared by all methods where each step removes one feature)",
    "morf": "K - 2 a method beyond the single groups; shared by DEL, POS, RP and IROF",
    "lerf": "K - 2 a method beyond the single groups; shared by NEG and INS",
    "insert": "none where both baselines are the same (read off the LeRF curve), else K - 1 a method",
}
"""Forward passes a sample that a curve costs."""
MORF, LERF, INSERT, GROUPS = Curve("morf"), Curve("lerf"), Curve("insert"), Curve("groups")
FIXED, BERNOULLI = Subsets("fixed"), Subsets("bernoulli")
