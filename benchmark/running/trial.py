"""Runs methods one after the other; an error of one ends that one alone."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from benchmark.core.errors import BenchmarkError, describe

if TYPE_CHECKING:
    from benchmark.core.types import Method, Task
    from benchmark.scoring.evaluator import Evaluation, Evaluator

T = TypeVar("T")
log = logging.getLogger("benchmark")


def reason_of(error: BaseException, method: Method) -> str:
    """Return the sentence for what a method raised."""
    return str(error) if isinstance(error, BenchmarkError) else describe(error, type(method))


def refuse_non_finite(evaluation: Evaluation) -> Evaluation:
    """Return an evaluation unchanged, if any of its attributions is finite.

    Raises:
        BenchmarkError: the attribution of every sample is not finite.
    """
    if bool(evaluation.failed.all()):
        raise BenchmarkError("the attribution of every sample is not finite")
    return evaluation


class Trial:
    """An evaluator for methods of which some may fail; `failed` are the labels of those that did.

    Args:
        task: what is explained.
        make: makes the evaluator of a task.
        build: builds the task anew where a method spoils it; without it, those that follow fail then.
    """

    def __init__(self, task: Task, make: Callable[[Task], Evaluator], build: Callable[[], Task] | None = None) -> None:
        self._make, self._build = make, build
        self.evaluator = make(task)
        self.failed: list[str] = []

    def run(self, label: str, method: Method, work: Callable[[Evaluator], T]) -> T | None:
        """Return what `work` returns, or None where it raises, which is logged in a sentence.

        Args:
            label: the method with its parameters, for the sentence.
            method: that is at work.
            work: is given the evaluator.
        """
        try:
            return work(self.evaluator)
        except (Exception, SystemExit) as error:
            log.warning(f"failed: {label}: {reason_of(error, method)}")
            log.info(traceback.format_exc())
            self.failed.append(label)
            if self._build is not None and not self.evaluator.guard.intact:
                self.evaluator = self._make(self._build())
            return None

    def require(self, left: object) -> None:
        """Check that not all methods failed.

        Args:
            left: what the others gave.

        Raises:
            BenchmarkError: it is empty.
        """
        if not left:
            raise BenchmarkError(f"no method is left: {', '.join(self.failed)} failed")
