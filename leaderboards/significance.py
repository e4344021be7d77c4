"""Tests of differences between methods, or a sentence that says why there is no test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, studentized_range, wilcoxon

from leaderboards.score_array import ScoreArray, mean_over
from leaderboards.tables import TextTable

ALPHA = 0.05


@dataclass(frozen=True)
class Pair:
    """One method against another.

    Attributes:
        one: label of the first.
        other: label of the second.
        p: of Wilcoxon's signed ranks, after Holm's correction.
        effect: matched-pairs rank-biserial correlation, 1 where `one` is better on every unit, -1 where `other` is.
    """

    one: str
    other: str
    p: float
    effect: float

    @property
    def significant(self) -> bool:
        """Tell whether p is under 0.05."""
        return self.p < ALPHA


def holm(p: np.ndarray) -> np.ndarray:
    """Return p values (T,) adjusted for T tests. Source: Holm 1979."""
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty_like(steps)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def rank_biserial(difference: np.ndarray) -> float:
    """Return the matched-pairs rank-biserial correlation of differences (N,), in [-1, 1]; 0 where all are 0.

    It is the sum of the ranks of positive differences less that of negative ones, over both. Source: Kerby 2014.
    """
    moved = difference[difference != 0]
    if not len(moved):
        return 0.0
    ranks = rankdata(np.abs(moved))
    return float((ranks * np.sign(moved)).sum() / ranks.sum())


def friedman(ranks: np.ndarray) -> tuple[float, float] | str:
    """Return Friedman's statistic and p for ranks (T, M) of M methods on T tasks, or why there is no test."""
    tasks, methods = ranks.shape
    if methods < 3 or tasks < 2:
        return f"no test possible: Friedman's needs three methods and two tasks, here are {methods} and {tasks}"
    test = friedmanchisquare(*ranks.T)
    return float(test.statistic), float(test.pvalue)


def least_p(units: int) -> float:
    """Return the smallest p that a two-sided signed-rank test of so many units can give."""
    return min(1.0, 2.0 / 2**units)


def one_against_each(ranks: np.ndarray, names: list[str], one: str) -> list[Pair] | str:
    """Return `one` against each other method by Wilcoxon's signed ranks over tasks, or why there is no test.

    ranks (T, M): mean ranks by task, lower is better.
    """
    tasks, methods = ranks.shape
    if one not in names:
        return f"no test possible: {one} is not among the methods"
    if least_p(tasks) * (methods - 1) > ALPHA:
        return (
            f"no test possible: with {tasks} tasks p is {least_p(tasks):.2g} at least, times {methods - 1} comparisons "
            f"that is never under {ALPHA}"
        )
    against = {name: ranks[:, i] - ranks[:, names.index(one)] for i, name in enumerate(names) if name != one}
    p = holm(np.array([_signed_ranks(difference) for difference in against.values()]))
    return [
        Pair(one, name, float(value), rank_biserial(difference))
        for (name, difference), value in zip(against.items(), p, strict=True)
    ]


def all_pairs(array: ScoreArray) -> list[Pair] | str:
    """Return every pair of methods of one task by signed ranks over samples, or why there is no test.

    A sample's unit is its rank, averaged over metrics and seeds.
    """
    units = mean_over(array.sample_ranks, (1, 3))  # (M, N)
    units = units[:, np.isfinite(units).all(0)]
    methods, samples = units.shape
    pairs = [(i, j) for i in range(methods) for j in range(i + 1, methods)]
    if not pairs or least_p(samples) * len(pairs) > ALPHA:
        return f"no test possible: {samples} samples that all have a score, for {len(pairs)} pairs of methods"
    p = holm(np.array([_signed_ranks(units[j] - units[i]) for i, j in pairs]))
    return [
        Pair(array.methods[i], array.methods[j], float(value), rank_biserial(units[j] - units[i]))
        for (i, j), value in zip(pairs, p, strict=True)
    ]


def critical_difference(methods: int, tasks: int, alpha: float = ALPHA) -> float:
    """Return how far mean ranks over tasks have to be apart in Nemenyi's test. Source: Demsar 2006, section 3.2.2."""
    quantile = studentized_range.ppf(1 - alpha, methods, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(methods * (methods + 1) / (6 * tasks)))


def _signed_ranks(difference: np.ndarray) -> float:
    difference = np.round(difference, 12)
    if not difference.any():
        return 1.0
    ties = len(np.unique(np.abs(difference))) < len(difference) or bool((difference == 0).any())
    exact = len(difference) <= 50 and not ties
    return float(wilcoxon(difference, method="exact" if exact else "approx").pvalue)


def table_of(what: str, pairs: list[Pair] | str) -> TextTable:
    """Return tests of pairs as a table, the strongest first; `what` says of which task and data."""
    if isinstance(pairs, str):
        return TextTable(f"all pairs · {what} · {pairs}", ["pair"], [], [])
    ordered = sorted(pairs, key=lambda pair: (pair.p, -abs(pair.effect), pair.one, pair.other))
    rows = [
        [f"{pair.one} – {pair.other}", f"{pair.p:.2g}", f"{pair.effect:+.2f}", "differ" if pair.significant else ""]
        for pair in ordered
    ]
    lines = [
        "Wilcoxon's signed ranks over samples, a sample's unit being its rank averaged over metrics and seeds; p after "
        "Holm; effect: matched-pairs rank-biserial correlation, positive where the first is better."
    ]
    return TextTable(f"all pairs · {what}", ["pair", "p", "effect", "verdict"], rows, lines)
