"""What a person's function gave on a golden case, beside what was expected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmark.scoring.metrics import REASONS
from benchmark.testing.golden import Golden
from benchmark.testing.report import CaseResult
from benchmark.testing.variants.recipes import Recipe


@dataclass(frozen=True, eq=False)
class Observed:
    """Scores of a case: `expected` and `got` (N,), and which samples are judged, (N,) bool."""

    golden: Golden
    expected: np.ndarray
    got: np.ndarray
    judged: np.ndarray

    @property
    def name(self) -> str:
        """Return the name of the case."""
        return self.golden.case.name

    def apart(self) -> np.ndarray:
        """Return how far each judged sample is from what was expected, (N,); infinite where one alone is undefined."""
        return np.where(self.judged, distance(self.expected, self.got), 0.0)

    def result(self, tolerance: float) -> CaseResult:
        """Return the result of the case."""
        apart = self.apart()
        return CaseResult(self.name, int(self.judged.sum()), int((apart > tolerance).sum()), float(apart.max()))

    def reason(self, row: int) -> str:
        """Return why the expected score of a sample is flagged; nothing where it is not."""
        return REASONS.get(int(self.golden.reasons[row]), "")


def distance(expected: np.ndarray, got: np.ndarray) -> np.ndarray:
    """Return |expected - got|: 0 where both are undefined or the same infinity, infinite where one alone is.

    Example:
        >>> distance(np.array([0.5, np.nan, np.nan]), np.array([0.25, np.nan, 1.0])).tolist()
        [0.25, 0.0, inf]
    """
    with np.errstate(invalid="ignore"):
        apart = np.abs(expected - got)
    same = (expected == got) | (np.isnan(expected) & np.isnan(got))
    return np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))


def scores_of(recipe: Recipe, golden: Golden) -> np.ndarray:
    """Return a recipe's scores (N,) of a case."""
    return np.array([recipe.score(golden, row) for row in range(len(golden.x))])


def matches(recipe: Recipe, observed: list[Observed], tolerance: float) -> bool:
    """Tell whether a recipe gives what was got, on all judged samples; the first that it does not give ends it."""
    for one in observed:
        for row in np.flatnonzero(one.judged):
            score = np.array(recipe.score(one.golden, int(row)))
            if distance(score, one.got[row]) > tolerance:
                return False
    return True
