"""The recipe of FC, FE, MC and INF: removed attribution compared with what the removal does to the prediction."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmark.testing.golden import Golden
from benchmark.testing.variants import parts
from benchmark.testing.variants.curves import most_relevant, one_at_a_time
from benchmark.testing.variants.samples import Baseline, Sample, sample

Bounds = Callable[[int, int], list[int]]

# removal sets (S, n) bool of a sample, whose features are ordered


def groups(one: Sample, order: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Remove each group of the order alone."""
    return one_at_a_time(order, bounds(one.n, one.steps))[1:]


def groups_ascending(one: Sample, order: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Remove each group alone, cut from the least relevant on."""
    return groups(one, order[::-1], bounds)


def first_groups(one: Sample, order: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Remove the first k groups together."""
    return most_relevant(order, bounds(one.n, one.steps))[1:]


def subsets(one: Sample, order: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Remove the random subsets of the case, which are of one size."""
    assert one.subsets is not None
    return one.subsets


def halves(one: Sample, order: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Remove the random subsets of the case, which hold each feature with probability 1/2."""
    return subsets(one, order, bounds)


def distinct_subsets(one: Sample, order: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Remove each of the subsets once, however often it was drawn."""
    return np.unique(subsets(one, order, bounds), axis=0)


def filled_subsets(one: Sample, order: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Remove those subsets that hold a feature."""
    drawn = subsets(one, order, bounds)
    return drawn[drawn.any(1)]


def singles(one: Sample, order: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Remove each feature alone."""
    return np.eye(one.n, dtype=bool)


def raster(one: Sample, order: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Remove the first j features in the order of the input, j = 1..n."""
    return np.tri(one.n, dtype=bool)


# the attribution of each removal set


def summed(removed: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Return the sum over what is removed, added in the order of the features."""
    return np.array([math.fsum(s[mask]) for mask in removed])


def magnitude_of_sum(removed: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Return the magnitude of the sum."""
    return np.abs(summed(removed, s))


def sum_of_magnitudes(removed: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Return the sum of magnitudes."""
    return summed(removed, np.abs(s))


def averaged(removed: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Return the mean over what is removed."""
    return summed(removed, s) / np.maximum(removed.sum(1), 1)


# how attributions a (S,) and effects b (S,) of removal sets are compared


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Return Pearson's r."""
    a, b = a - a.mean(), b - b.mean()
    return (a @ b) / np.sqrt((a @ a) * (b @ b))


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return Spearman's rho with mid-ranks."""
    return pearson(_mid_ranks(a), _mid_ranks(b))


def spearman_by_argsort(a: np.ndarray, b: np.ndarray) -> float:
    """Return Pearson's r of what argsort gives, which are no ranks."""
    return pearson(a.argsort(kind="stable").astype(float), b.argsort(kind="stable").astype(float))


def spearman_without_mid_ranks(a: np.ndarray, b: np.ndarray) -> float:
    """Return Spearman's rho, equal values ranked in the order in which they stand."""
    return pearson(*(x.argsort(kind="stable").argsort().astype(float) for x in (a, b)))


def kendall(a: np.ndarray, b: np.ndarray) -> float:
    """Return Kendall's tau-b."""
    signs = [np.sign(x[:, None] - x[None, :]).ravel() for x in (a, b)]
    return (signs[0] @ signs[1]) / np.sqrt((signs[0] @ signs[0]) * (signs[1] @ signs[1]))


def damped_pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Return Pearson's r with 1e-5 added inside both roots."""
    a, b = a - a.mean(), b - b.mean()
    return (a @ b) / (np.sqrt(a @ a + 1e-5) * np.sqrt(b @ b + 1e-5))


def mixed_freedom(a: np.ndarray, b: np.ndarray) -> float:
    """Return a covariance over S - 1 divided by deviations over S."""
    return pearson(a, b) * len(a) / (len(a) - 1)


def covariance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the covariance, over S."""
    return ((a - a.mean()) @ (b - b.mean())) / len(a)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the cosine, Pearson's r about zero."""
    return (a @ b) / np.sqrt((a @ a) * (b @ b))


def squared_error(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean of (a - b)^2."""
    return ((a - b) ** 2).mean()


def scaled_squared_error(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean of (beta a - b)^2, where beta makes it smallest."""
    return ((b - a * ((a @ b) / (a @ a))) ** 2).mean()


def squared_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return r squared."""
    return pearson(a, b) ** 2


def _mid_ranks(values: np.ndarray) -> np.ndarray:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[which]


@dataclass(frozen=True)
class Correlation:
    """A score of one sample, part by part; a variant replaces some of the parts.

    Attributes:
        attribution: as what the attributions (n,) are taken.
        gap: whether each is multiplied by the distance of its feature from the baseline.
        ties: which order equal ones keep.
        bounds: how many features go with the first k groups, k = 0..K.
        sets: the removal sets (S, n).
        baseline: what stands in the place of what is removed.
        padding: whether padding counts as features.
        kept: whether the sets are kept, and everything else removed.
        mass: the attribution of each set.
        read: the number that is read of the model's answer.
        effect: what is made of it and of the number with nothing removed.
        together: whether effects are averaged over all samples of the case that have as many sets.
        statistic: how masses and effects are compared.
        constant: the score where all attributions, or all masses, are one.
        finish: how the score is reported.
    """

    attribution: Callable[[np.ndarray], np.ndarray] = parts.signed
    gap: bool = False
    ties: Callable[[Sample], np.ndarray] = parts.ties_as_given
    bounds: Bounds = parts.bounds_rounded
    sets: Callable[[Sample, np.ndarray, Bounds], np.ndarray] = subsets
    baseline: Baseline = parts.own_baseline
    padding: bool = False
    kept: bool = False
    mass: Callable[[np.ndarray, np.ndarray], np.ndarray] = summed
    read: Callable[[np.ndarray, int], np.ndarray] = parts.probability
    effect: Callable[[np.ndarray, float], np.ndarray] = parts.drop
    together: bool = False
    statistic: Callable[[np.ndarray, np.ndarray], float] = pearson
    constant: float = 0.0
    finish: Callable[[float], float] = parts.as_it_is

    @property
    def unused(self) -> frozenset[str]:
        """Return the parts that no score depends on: random subsets know no order and no padding."""
        return frozenset({"ties", "bounds", "padding"} if self.sets in (subsets, halves) else ())

    def score(self, golden: Golden, row: int) -> float:
        """Return the score of one sample of a case."""
        with np.errstate(all="ignore"):
            mass, effects, v = self._compared(golden, row)
            if self.together:
                others = [self._compared(golden, other)[1] for other in range(len(golden.x))]
                effects = np.mean([other for other in others if len(other) == len(effects)], axis=0)
            if _flat(v, 1.0) or _flat(effects):
                return math.nan
            flat = _flat(self.attribution(sample(golden, row, self.padding).s)) or _flat(mass)
            return float(self.finish(self.constant if flat else self.statistic(mass, effects)))

    def _compared(self, golden: Golden, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return masses, effects and readings (S,) of the removal sets."""
        one = sample(golden, row, self.padding)
        s = self.attribution(one.s)
        removed = self.sets(one, parts.descending(s, self.ties(one)), self.bounds)
        gone = ~removed if self.kept else removed
        v = self.read(one.logits(gone, self.baseline), one.target)
        effects = self.effect(v, float(self.read(one.whole(), one.target)[0]))
        return self.mass(removed, s * self._gap(one) if self.gap else s), effects, v

    def _gap(self, one: Sample) -> np.ndarray:
        """Return how far each feature of a sample is from the baseline, its channels together, (n,)."""
        apart = (one.golden.x[one.row] - one.base(self.baseline)[0]).double()
        image = one.golden.task.modality == "image"
        return (apart.sum(0).flatten() if image else apart).numpy()[one.features]


def _flat(values: np.ndarray, floor: float = 0.0) -> bool:
    """Tell whether values are one value seen through rounding."""
    if len(values) < 2:
        return True
    return bool(np.ptp(values) <= 1e-12 * max(floor, float(np.abs(values).max())))
