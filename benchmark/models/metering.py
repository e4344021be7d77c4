"""Counts forward passes, backward passes and seconds of a model by phase."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn


@dataclass
class Cost:
    """Rows through the model forward and backward, and wall seconds."""

    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.forwards - other.forwards, self.backwards - other.backwards, self.seconds - other.seconds)

    @classmethod
    def total(cls, costs: Iterable[Cost]) -> Cost:
        """Return the sum of several costs."""
        found = list(costs)
        return cls(sum(c.forwards for c in found), sum(c.backwards for c in found), sum(c.seconds for c in found))


@dataclass
class Meter:
    """Costs by phase. A row is counted when it passes the model, whoever sends it (Captum's hooks included)."""

    phases: dict[str, Cost] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str, model: nn.Module) -> Iterator[Cost]:
        """Add what `model` is asked inside the block, and its seconds, to phase `name`."""
        cost = self.phases.setdefault(name, Cost())

        def forward(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            cost.forwards += len(output)
            if output.requires_grad:
                output.register_hook(backward)

        def backward(gradient: Tensor) -> None:
            cost.backwards += len(gradient)

        hook = model.register_forward_hook(forward)
        _synchronise()
        start = time.perf_counter()
        _under_way.append((cost, start))
        try:
            yield cost
        finally:
            _under_way.pop()
            _synchronise()
            cost.seconds += time.perf_counter() - start
            hook.remove()

    def summary(self) -> dict[str, dict[str, float]]:
        """Return the costs as plain numbers for a record."""
        return {name: asdict(cost) for name, cost in self.phases.items()}


_under_way: list[tuple[Cost, float]] = []
"""Phases that have begun and not ended, and when they began, the innermost last."""


def spent() -> Cost:
    """Return what the phase that is under way has cost so far, or nothing where none is."""
    if not _under_way:
        return Cost()
    cost, start = _under_way[-1]
    return Cost(cost.forwards, cost.backwards, cost.seconds + time.perf_counter() - start)


def charge(cost: Cost) -> None:
    """Add what another process spent to the phase that is under way, if one is."""
    if _under_way:
        under_way = _under_way[-1][0]
        under_way.forwards += cost.forwards
        under_way.backwards += cost.backwards
        under_way.seconds += cost.seconds


def count_as(copy: nn.Module, model: nn.Module) -> None:
    """Let rows through `copy` count as rows of `model`, whoever counts them and whenever they begin to."""
    copy._forward_hooks = model._forward_hooks


def _synchronise() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
