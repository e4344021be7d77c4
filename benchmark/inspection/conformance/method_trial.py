"""A method at work on one task, watched as the evaluator watches it; what it does is done once and kept."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.core.types import Attribute, Method, Task
from benchmark.models.batching import bare
from benchmark.scoring.isolation import ChangedTaskError, Guard, check_attribution, for_methods

SEED, OTHER_SEED = 3, 4
"""What methods are given."""


class MethodTrial:
    """A method on a task.

    Args:
        name: that it is registered under.
        method: with its parameters.
        build: makes the task.

    Attributes:
        changed: what the method left changed of the task, as a sentence; empty where nothing.
        left: what of the process it left changed: threads, generators, modes.
    """

    def __init__(self, name: str, method: Method, build: Callable[[], Task]) -> None:
        self.name, self.method, self.build = name, method, build
        self.changed, self.left = "", list[str]()
        self._renew()

    def _renew(self) -> None:
        self.task = self.build()
        self.x = self.task.test.x
        with torch.no_grad():
            self.target = bare(self.task.model)(self.x).argmax(1)
        self.valid = self.task.removal.valid(self.x)
        self.guard = Guard(self.task)

    def prepared(self, seed: int = SEED, state: int = 0) -> Attribute:
        """Return the explainer; nothing that was trained before is used.

        Args:
            seed: that the method is given.
            state: of the global generators meanwhile.
        """
        with own_cache(), self._watched(state):
            return self.method.prepare(for_methods(self.task), seed)

    def ask(self, explain: Attribute, rows: list[int] | None = None, state: int = 0) -> Tensor:
        """Return attributions (B, G) of test rows, None for all, in one batch of copies."""
        chosen = slice(None) if rows is None else rows
        with own_cache(), self._watched(state):
            found = explain(self.x[chosen].clone(), self.target[chosen].clone())
        return check_attribution(found, (len(self.x[chosen]), self.task.n_features))

    @cached_property
    def explain(self) -> Attribute:
        """Return the explainer, prepared once."""
        return self.prepared()

    @cached_property
    def attribution(self) -> Tensor:
        """Return the attribution (B, G) of all test rows, explained once."""
        return self.ask(self.explain)

    @contextmanager
    def _watched(self, state: int) -> Iterator[None]:
        """Run a block as the evaluator does, and note what it leaves changed in place of raising it."""
        try:
            with self.guard.watch(state):
                before = process_state()
                yield
                now = process_state()
                self.left += [what for what in before if before[what] != now[what] and what not in self.left]
        except ChangedTaskError as error:
            self.changed = self.changed or str(error)
            if not self.guard.intact:
                self._renew()


def process_state() -> dict[str, Any]:
    """Return what of a process a method must leave as it was, by what it is called."""
    name, keys, *rest = np.random.get_state()
    return {
        "the state of torch's global generator": torch.random.get_rng_state().numpy().tobytes(),
        "the state of NumPy's global generator": (name, np.asarray(keys).tobytes(), *rest),
        "the state of Python's global generator": random.getstate(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's default type": torch.get_default_dtype(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "the working folder": os.getcwd(),
    }


@contextmanager
def own_cache() -> Iterator[None]:
    """Run a block with an empty cache folder, so that what is trained is trained, not read."""
    before = os.environ.get("BENCHMARK_CACHE")
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        os.environ["BENCHMARK_CACHE"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["BENCHMARK_CACHE"]
            else:
                os.environ["BENCHMARK_CACHE"] = before
