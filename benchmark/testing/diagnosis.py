"""Finds how scores differ: the variant of the metric, or the two variants, that give them, or the nearest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmark.testing.observed import Observed, distance, matches, scores_of
from benchmark.testing.variants.catalogue import BY_NAME, Variant, variants_of
from benchmark.testing.variants.recipes import Recipe

SINGLE = 5e-5
"""Up to this, differences may be those of numbers in single precision."""


@dataclass(frozen=True)
class Diagnosis:
    """How scores differ.

    Attributes:
        variants: names of the variants that the scores are those of, or of the nearest one.
        exact: whether they are, on every judged sample.
        sentence: the same in words.
    """

    variants: tuple[str, ...]
    exact: bool
    sentence: str


def diagnose(metric: str, recipe: Recipe, observed: list[Observed], tolerance: float) -> Diagnosis:
    """Return how observed scores differ from those of a recipe of a metric."""
    possible = [variant for variant in variants_of(metric) if variant.applies(recipe)]
    found = [variant for variant in possible if matches(variant.applied(recipe), observed, tolerance)]
    if found:
        others = " and ".join(variant.described(metric) for variant in found[1:])
        cannot = f"; the cases do not tell it from {others}" if others else ""
        sentence = f"On all judged samples it equals the variant {found[0].described(metric)}{cannot}."
        return Diagnosis((found[0].name,), True, sentence)
    for first, second in _pairs(possible):
        if matches(second.applied(first.applied(recipe)), observed, tolerance):
            both = f"{first.described(metric)} and {second.described(metric)}"
            sentence = f"On all judged samples it equals two variants together: {both}."
            return Diagnosis((first.name, second.name), True, sentence)
    worst = max(float(one.apart().max()) for one in observed)
    if worst <= SINGLE:
        return Diagnosis((), False, f"Differences of at most {worst:.1g} come of rounding, of single precision or of a "
                         "small number added to a denominator: compute in float64, or give a tolerance.")  # fmt: skip
    return _nearest(metric, recipe, possible, observed, tolerance)


def tie_rule(recipe: Recipe, observed: list[Observed], tolerance: float) -> list[str]:
    """Return, as a sentence, how equal attributions were ordered on samples that are not judged, if there are any."""
    tied = [Observed(one.golden, one.expected, one.got, one.golden.tied & ~one.judged) for one in observed]
    if not (count := sum(int(one.judged.sum()) for one in tied)):
        return []
    rules = (BY_NAME[name] for name in ("ties in order", "ties reversed"))
    found = [rule.sentence for rule in rules if rule.applies(recipe) and matches(rule.applied(recipe), tied, tolerance)]
    what = found[0] if found else "equal attributions follow an order of its own"
    samples = "1 sample" if count == 1 else f"{count} samples"
    return [
        f"Not judged: {samples} whose score depends on the order of equal attributions, which parameter `ties` gives; "
        f"here {what}."
    ]


def _pairs(possible: list[Variant]) -> Iterator[tuple[Variant, Variant]]:
    """Yield two variants at a time that replace different parts."""
    for i, first in enumerate(possible):
        for second in possible[i + 1 :]:
            if not first.parts.keys() & second.parts.keys():
                yield first, second


def _nearest(
    metric: str, recipe: Recipe, possible: list[Variant], observed: list[Observed], tolerance: float
) -> Diagnosis:
    """Return the variant that leaves the fewest samples apart, and of these the one that is nearest on average."""

    def left(candidate: Recipe) -> tuple[int, float]:
        apart = [
            distance(scores_of(candidate, one.golden), one.got)[one.judged] for one in observed if one.judged.any()
        ]
        joined = np.concatenate(apart)
        return int((joined > tolerance).sum()), float(np.minimum(joined, 1e3).mean())

    ours, total = left(recipe), sum(int(one.judged.sum()) for one in observed)
    ranked = sorted((left(variant.applied(recipe)), i) for i, variant in enumerate(possible))
    if not ranked or ranked[0][0] >= ours or (ranked[0][0][0] == ours[0] and ranked[0][0][1] > ours[1] / 2):
        return Diagnosis((), False, "No known variant, and no two together, is nearer to it than the metric itself.")
    (count, _), i = ranked[0]
    nearest = possible[i]
    for one in observed:
        apart = np.where(one.judged, distance(scores := scores_of(nearest.applied(recipe), one.golden), one.got), 0.0)
        if (apart > tolerance).any():
            row = int((apart > tolerance).argmax())
            return Diagnosis(
                (nearest.name,), False,
                f"Neither a known variant nor two give its scores; the nearest is {nearest.described(metric)}, "
                f"from which {count} of {total} samples differ, the first of them {where(one, row)}: that variant "
                f"gives {scores[row]:.6g}, yours {one.got[row]:.6g}.",
            )  # fmt: skip
    raise AssertionError("a variant from which nothing differs is exact")


def where(one: Observed, row: int) -> str:
    """Return which sample of which case is meant."""
    return f"sample {row} of case {one.name!r}"
