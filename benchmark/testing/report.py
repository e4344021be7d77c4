"""What a comparison with the golden cases found, as sentences and as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from benchmark.core.errors import BenchmarkError


class DifferenceError(BenchmarkError, AssertionError):
    """An implementation of a metric differs from the metric; the text is the report."""


@dataclass(frozen=True)
class CaseResult:
    """One case.

    Attributes:
        case: its name.
        samples: how many were judged.
        differing: how many of them differ by more than the tolerance.
        largest: the largest difference; infinite where one alone of two scores is undefined.
        problem: what the function did in place of giving scores, or None.
    """

    case: str
    samples: int
    differing: int
    largest: float
    problem: str | None = None


@dataclass(frozen=True, repr=False)
class Report:
    """How someone's implementation of a metric compares with the metric; true where it is the same.

    Attributes:
        metric: the name of the metric.
        implementation: the name of the function.
        tolerance: up to which scores count as equal.
        expected_variants: variants of the metric that the function was said to be.
        cases: one result a case, in the order of the cases.
        variants: the known variants that its scores are those of, or of the nearest; none where it is the same.
        exact: whether its scores are those of `variants` on every judged sample that it gave scores of.
        sentences: the report.
    """

    metric: str
    implementation: str
    tolerance: float
    expected_variants: tuple[str, ...]
    cases: tuple[CaseResult, ...]
    variants: tuple[str, ...] = ()
    exact: bool = True
    sentences: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Tell whether the function gives the metric's scores on every judged sample of every case."""
        return all(case.problem is None and not case.differing for case in self.cases)

    def __bool__(self) -> bool:
        """Tell whether it passed, so that a test can `assert check_metric(...)`."""
        return self.passed

    def __str__(self) -> str:
        """Return the sentences, one a line."""
        return "\n".join(self.sentences)

    __repr__ = __str__

    def raise_for_difference(self) -> None:
        """Raise where the function differs.

        Raises:
            DifferenceError: with the report as its text; it is an AssertionError too.
        """
        if not self.passed:
            raise DifferenceError(str(self))

    def row(self) -> dict[str, Any]:
        """Return the report as plain data."""
        cases = [{**asdict(case), "largest": str(case.largest)} if case.largest == float("inf") else asdict(case)
                 for case in self.cases]  # fmt: skip
        return {**{key: value for key, value in vars(self).items() if key != "cases"}, "passed": self.passed,
                "cases": cases}  # fmt: skip
