"""The recipe of DEL, INS, NEG, POS, RP and IROF: predictions along a path of removal sets, folded into a score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from benchmark.testing.golden import Golden
from benchmark.testing.variants import parts
from benchmark.testing.variants.samples import Baseline, sample

# removal sets along the order (n,), cut at bounds: (K + 1, n) bool for k = 0..K


def most_relevant(order: np.ndarray, bounds: Sequence[int]) -> np.ndarray:
    """Remove the first k groups."""
    return _runs(order, [(0, high) for high in bounds])


def least_relevant(order: np.ndarray, bounds: Sequence[int]) -> np.ndarray:
    """Remove the last k groups."""
    return _runs(order, [(low, len(order)) for low in reversed(bounds)])


def least_relevant_cut_anew(order: np.ndarray, bounds: Sequence[int]) -> np.ndarray:
    """Remove the first k groups of the order turned round, which is cut into groups from its own front."""
    return most_relevant(order[::-1], bounds)


def inserted(order: np.ndarray, bounds: Sequence[int]) -> np.ndarray:
    """Remove all but the first k groups."""
    return _runs(order, [(low, len(order)) for low in bounds])


def kept_most_relevant(order: np.ndarray, bounds: Sequence[int]) -> np.ndarray:
    """Keep the first k groups and remove all others."""
    return ~most_relevant(order, bounds)


def kept_least_relevant(order: np.ndarray, bounds: Sequence[int]) -> np.ndarray:
    """Keep the last k groups and remove all others."""
    return ~least_relevant(order, bounds)


def one_at_a_time(order: np.ndarray, bounds: Sequence[int]) -> np.ndarray:
    """Remove nothing, then each group alone."""
    return _runs(order, [(0, 0), *pairwise(bounds)])


def _runs(order: np.ndarray, places: Sequence[tuple[int, int]]) -> np.ndarray:
    removed = np.zeros((len(places), len(order)), dtype=bool)
    for mask, (low, high) in zip(removed, places, strict=True):
        mask[order[low:high]] = True
    return removed


# how far a curve is used, k = 0..K


def to_the_end(effects: np.ndarray, logits: np.ndarray, target: int) -> np.ndarray:
    """Use the whole curve."""
    return effects


def at_the_flip(effects: np.ndarray, logits: np.ndarray, target: int) -> np.ndarray:
    """Stop after the first step at which another class has a higher logit."""
    return effects[: _flip(logits[:, target] < logits.max(1)) + 1]


def before_the_flip(effects: np.ndarray, logits: np.ndarray, target: int) -> np.ndarray:
    """Stop before the first step at which another class has a higher logit."""
    flips = logits[:, target] < logits.max(1)
    return effects[: _flip(flips)] if flips[1:].any() else effects


def at_the_first_tie(effects: np.ndarray, logits: np.ndarray, target: int) -> np.ndarray:
    """Stop after the first step at which argmax gives another class, which a tie may bring about."""
    return effects[: _flip(logits.argmax(1) != target) + 1]


def frozen_at_the_flip(effects: np.ndarray, logits: np.ndarray, target: int) -> np.ndarray:
    """Hold the value of the flip to the end."""
    flip = _flip(logits[:, target] < logits.max(1))
    return np.where(np.arange(len(effects)) > flip, effects[flip], effects)


def below_one_half(effects: np.ndarray, logits: np.ndarray, target: int) -> np.ndarray:
    """Stop after the first step at which the target has less than half of the probability."""
    return effects[: _flip(parts.probability(logits, target) < 0.5) + 1]


def _flip(flips: np.ndarray) -> int:
    """Return the first k >= 1 at which `flips` is True, or K."""
    return 1 + int(flips[1:].argmax()) if flips[1:].any() else len(flips) - 1


# effects and sizes of their groups as one number


def mean(effects: np.ndarray, sizes: np.ndarray) -> float:
    """Return the mean."""
    return effects.sum() / len(effects) if len(effects) else np.nan


def weighted_mean(effects: np.ndarray, sizes: np.ndarray) -> float:
    """Return the mean in which a step counts as many times as it removes features."""
    return (effects * sizes).sum() / sizes.sum()


def area(effects: np.ndarray, sizes: np.ndarray) -> float:
    """Return the trapezoid rule with steps of width 1."""
    return ((effects[1:] + effects[:-1]) / 2).sum()


def trapezoid(effects: np.ndarray, sizes: np.ndarray) -> float:
    """Return the trapezoid rule over an axis of length 1."""
    return area(effects, sizes) / (len(effects) - 1) if len(effects) > 1 else mean(effects, sizes)


def short_trapezoid(effects: np.ndarray, sizes: np.ndarray) -> float:
    """Return the trapezoid rule divided by the number of points, which is one more than that of steps."""
    return area(effects, sizes) / len(effects)


def over_one_more(effects: np.ndarray, sizes: np.ndarray) -> float:
    """Return the sum divided by one more than there are."""
    return effects.sum() / (len(effects) + 1)


def total(effects: np.ndarray, sizes: np.ndarray) -> float:
    """Return the sum."""
    return effects.sum()


def steps_less_area(effects: np.ndarray, sizes: np.ndarray) -> float:
    """Return the number of points less the area under them."""
    return len(effects) - area(effects, sizes)


@dataclass(frozen=True)
class Curve:
    """A score of one sample, part by part; a variant replaces some of the parts.

    Attributes:
        attribution: as what the attributions (n,) are taken.
        ties: which order equal ones keep.
        bounds: how many features go with the first k groups, k = 0..K.
        path: the removal sets (K + 1, n) of k = 0..K.
        baseline: what stands in the place of what is removed.
        padding: whether padding counts as features.
        read: the number that is read of the model's answer.
        effect: what is made of it and of the number with nothing removed.
        cut: how many steps of the curve are used, and with which effects.
        first: the first k.
        last: how many of the last k are left out.
        rule: how effects and sizes of their groups become a number.
        finish: how that is reported.
    """

    attribution: Callable[[np.ndarray], np.ndarray] = parts.signed
    ties: Callable[..., np.ndarray] = parts.ties_as_given
    bounds: Callable[[int, int], list[int]] = parts.bounds_rounded
    path: Callable[[np.ndarray, Sequence[int]], np.ndarray] = most_relevant
    baseline: Baseline = parts.own_baseline
    padding: bool = False
    read: Callable[[np.ndarray, int], np.ndarray] = parts.probability
    effect: Callable[[np.ndarray, float], np.ndarray] = parts.value
    cut: Callable[[np.ndarray, np.ndarray, int], np.ndarray] = to_the_end
    first: int = 1
    last: int = 0
    rule: Callable[[np.ndarray, np.ndarray], float] = mean
    finish: Callable[[float], float] = parts.as_it_is

    def score(self, golden: Golden, row: int) -> float:
        """Return the score of one sample of a case."""
        one = sample(golden, row, self.padding)
        order = parts.descending(self.attribution(one.s), self.ties(one))
        bounds = self.bounds(one.n, one.steps)
        logits = one.logits(self.path(order, bounds), self.baseline)
        with np.errstate(all="ignore"):
            v0 = float(self.read(one.whole(), one.target)[0])
            effects = self.cut(self.effect(self.read(logits, one.target), v0), logits, one.target)
            used = slice(self.first, len(effects) - self.last)
            sizes = np.diff(bounds, prepend=0)[: len(effects)]
            return float(self.finish(self.rule(effects[used], sizes[used])))
