"""A task that is given as it is, under the protocol of task specs: what it says is read off the task itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import is_dataclass, replace
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import DataError
from benchmark.core.identity import rows_digest
from benchmark.core.sources import Located, Source, Sources
from benchmark.core.types import Modality, Split, Task

if TYPE_CHECKING:
    import torch


class GivenTask:
    """A task spec around a task.

    Args:
        name: that it is registered under.
        task: what was made first, which the first `build` uses up.
        again: makes the same task, for later builds.
        origin: where it is from, for people.
    """

    floor = 0.0

    def __init__(self, name: str, task: Task, again: Callable[[], Task], origin: str) -> None:
        self.name, self.origin, self._again = name, origin, again
        self.modality: Modality = task.modality
        self.n_features, self.budget = task.n_features, task.budget
        self._source: Source = task.source
        self._digest = rows_digest(task.train, task.test)
        self._first: Task | None = task

    def facts(self) -> dict[str, str]:
        """Return where it is from."""
        return {"from": self.origin}

    def locate(self, sources: Sources) -> Located:
        """Return that the data are those of the task.

        Raises:
            DataError: data of the other kind were asked for.
        """
        if sources.kind not in ("auto", self._source):
            raise DataError(f"{self.origin} has {self._source} data and no {sources.kind} data: leave out --source")
        return Located(self._source, self.origin, self._digest)

    def recipe(self, source: Source) -> dict[str, Any]:
        """Return nothing: results are bound to the weights themselves."""
        return {}

    def build(self, located: Located, name: str, device: str) -> Task:
        """Return the task under its registered name on a device."""
        task, self._first = self._first or self._again(), None
        return moved(replace(task, name=name), device)


def moved(task: Task, device: str | torch.device) -> Task:
    """Return a task on a device, its model and its removal's tensors included."""
    evidence = None if task.evidence is None else task.evidence.to(device)
    return replace(
        task,
        model=task.model.to(device),
        train=Split(task.train.x.to(device), task.train.y.to(device)),
        test=Split(task.test.x.to(device), task.test.y.to(device)),
        removal=_moved(task.removal, device),
        evidence=evidence,
    )


def _moved(removal: Any, device: str | torch.device) -> Any:
    """Return a removal whose tensors, and those of removals in it, are on a device."""
    there = copy.copy(removal)
    for name, value in vars(removal).items():
        if hasattr(value, "untyped_storage"):
            object.__setattr__(there, name, value.to(device))  # it may be frozen
        elif is_dataclass(value):
            object.__setattr__(there, name, _moved(value, device))
    return there
