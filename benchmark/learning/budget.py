"""What every learned explainer may be trained for, given once for all of them: iterations or seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from benchmark.core.errors import UsageError
from benchmark.core.parameters import fields_of
from benchmark.core.types import METHODS

Given = tuple[tuple[str, str], ...]
"""Parameters of a method as text."""


@dataclass(frozen=True)
class TrainingBudget:
    """Iterations or seconds that each learned method is trained for, as its parameter of that name.

    An iteration is one optimiser step. Methods that train several networks divide what they get among them.

    Args:
        parameter: `iterations` or `seconds`.
        amount: how many, above 0.

    Example:
        >>> TrainingBudget.parse("2000"), TrainingBudget.parse("60s")
        (TrainingBudget(parameter='iterations', amount=2000), TrainingBudget(parameter='seconds', amount=60.0))
    """

    parameter: str
    amount: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the budget that `2000` (iterations) or `60s` (seconds) stands for.

        Raises:
            UsageError: it stands for neither, or is not above 0.
        """
        in_seconds = text.endswith("s")
        try:
            amount = float(text[:-1]) if in_seconds else int(text)
        except ValueError:
            amount = math.nan
        if not (math.isfinite(amount) and amount > 0):
            raise UsageError(
                f"--training-budget expects iterations, such as 2000, or seconds, such as 60s, above 0; got {text!r}"
            )
        return cls("seconds" if in_seconds else "iterations", amount)

    def given(self, methods: Iterable[tuple[str, Given]]) -> list[Given]:
        """Return the parameters of methods, by name and what is given for them, with this budget for learned ones.

        Raises:
            UsageError: none of them is learned, or one that is has no such parameter, or was given one of its own.
        """
        found, learned = [], False
        for name, own in methods:
            if METHODS.entry(name).facts.get("kind") == "learned":
                learned = True
                self._check(name, own)
                found.append(tuple(sorted((*own, (self.parameter, repr(self.amount).removesuffix(".0"))))))
            else:
                found.append(own)
        if not learned:
            raise UsageError("--training-budget is for learned methods, and none of --methods is: leave it out")
        return found

    def over(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters of a method with this budget in place of iterations or seconds, if it is learned.

        Args:
            name: of the method.
            given: values by parameter.

        Raises:
            UsageError: it is learned and cannot be trained so.
        """
        if METHODS.entry(name).facts.get("kind") != "learned":
            return dict(given)
        kept = {key: value for key, value in given.items() if key not in ("iterations", "seconds")}
        self._check(name, ())
        return kept | {self.parameter: self.amount}

    def _check(self, name: str, own: Given) -> None:
        if self.parameter not in fields_of(METHODS.get(name)):
            raise UsageError(
                f"--training-budget: {name} cannot be trained for a number of {self.parameter}, it has no such "
                f"parameter: leave {name} out"
            )
        for key, value in own:
            if key in ("iterations", "seconds"):
                raise UsageError(
                    f"--training-budget: {name} is given {key}={value} of its own: leave out the one or the other"
                )
