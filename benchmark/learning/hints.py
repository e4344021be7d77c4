"""Hints: untrained attributions of an input by gradients, which an explainer may be given beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmark.core.errors import BenchmarkError
from benchmark.core.parameters import configured
from benchmark.core.types import METHODS, Method, Modality, Task
from benchmark.modalities.continuous import continuous, pooled, rows_per_backward
from benchmark.models.outputs import output_of, with_gradient

OUTPUT = "log_odds"
"""What hints explain: all ten metrics ask the target's probability, which is a function of its log odds alone."""
RULES = ("lrp", "deeplift")
"""Methods that pass relevance back by rules of their own, and are hints on images."""
RULE_ROWS = 8
"""A rule's backward pass holds up to so many times what that of a gradient does."""
LEAST = 1e-12


@dataclass(frozen=True)
class Hints:
    """Which hints there are.

    Args:
        points: J, of the Gauss-Legendre rule on the way from the removal baseline to the input. The gradient of the
            log odds at each, times the way and the rule's weight, is a hint; their sum is integrated gradients.
        rules: whether LRP and DeepLIFT of the log odds are hints too.

    Example:
        >>> Hints(points=2).of(task, x, target).shape  # (B, G, 2)
    """

    points: int
    rules: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Return what each hint is called."""
        places = [f"gradient at {place:.3f}" for place, _ in self._rule()]
        return (*places, *(RULES if self.rules else ()))

    def methods(self) -> dict[str, Method]:
        """Return the methods whose attributions are hints, by name."""
        METHODS.discover("methods")
        names = RULES if self.rules else ()
        return {name: configured(METHODS.get(name), name, {"output": OUTPUT}) for name in names}

    def candidates(self) -> dict[str, list[float]]:
        """Return combinations of hints that an explainer may start at, as factors by name."""
        points, count = self.points, len(self.names)
        found = {"integrated gradients": [1.0] * points + [0.0] * (count - points)} if points else {}
        for at, name in enumerate(self.names):
            if count > 1 or not points:
                found[name] = [float(at == other) for other in range(count)]
        if self.rules:
            found["mean"] = [1.0] * count
        return found or {"nothing": []}

    def of(self, task: Task, x: Tensor, target: Tensor, otherwise: str = "hints without rules") -> Tensor:
        """Return the hints (B, G, names) of inputs x (B, ...) and targets (B,), 0 at padding.

        Each input is scaled such that its integrated gradients have a mean square of 1, and what a rule gives such that
        it has as much: no metric asks for an attribution's scale.

        Args:
            task: whose model is asked.
            x: inputs (B, ...).
            target: the classes (B,) that hints are of.
            otherwise: what to use where LRP or DeepLIFT cannot be taken of the model, for the error.

        Raises:
            NoGradientError: no gradient passes the model.
            BenchmarkError: LRP or DeepLIFT cannot be taken of the model.
        """
        rows = rows_per_backward(task, x)
        parts = zip(x.split(rows), target.split(rows), strict=True)
        by_point = torch.cat([self._gradients(task, *part) for part in parts])
        scale = _size(by_point.sum(-1))
        hints = by_point / scale.unsqueeze(-1)
        if not self.rules:
            return hints
        rows = max(1, rows // RULE_ROWS)
        by_rule = [
            _by_rule(name, method, task, x, target, rows, otherwise).to(hints)
            for name, method in self.methods().items()
        ]
        return torch.cat([hints, *((hint / _size(hint)).unsqueeze(-1) for hint in by_rule)], -1)

    def _rule(self) -> list[tuple[float, float]]:
        """Return places on the way, in (0, 1), and their weights, which sum to 1."""
        if not self.points:
            return []
        places, weights = np.polynomial.legendre.leggauss(self.points)
        return list(zip(((places + 1) / 2).tolist(), (weights / 2).tolist(), strict=True))

    def _gradients(self, task: Task, x: Tensor, target: Tensor) -> Tensor:
        """Return the hints (b, G, points) of some inputs by their gradients."""
        if not self.points:
            return x.new_zeros(len(x), task.n_features, 0, dtype=torch.float32)
        inputs = continuous(task, x)
        way = inputs.x.detach() - inputs.base
        found = []
        for place, weight in self._rule():
            point = (inputs.base + place * way).requires_grad_()
            with torch.enable_grad():
                explained = output_of(with_gradient(task.model(point, *inputs.extra), point), target, OUTPUT)
                slopes = torch.autograd.grad(explained.sum(), point)[0]
            found.append(pooled(task, x, slopes * way) * weight)
        return torch.stack(found, -1).float()


USUAL: dict[Modality, Hints] = {
    "table": Hints(points=3, rules=False),
    "text": Hints(points=2, rules=False),
    "image": Hints(points=3, rules=True),
}
"""The hints that every learned explainer is given, where it is given any, unless it is told otherwise."""


def _by_rule(name: str, method: Method, task: Task, x: Tensor, target: Tensor, rows: int, otherwise: str) -> Tensor:
    """Return the attributions (B, G) of a method, `rows` inputs at a time.

    Raises:
        BenchmarkError: the method cannot take the model.
    """
    try:
        explain = method.prepare(task, 0)
        return torch.cat([explain(*part) for part in zip(x.split(rows), target.split(rows), strict=True)])
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, KeyError) as error:
        raise BenchmarkError(
            f"{name}, a hint on images, cannot take this model ({type(error).__name__}: {error}): use {otherwise}"
        ) from error


def _size(attribution: Tensor) -> Tensor:
    """Return the root mean square (B, 1) of attributions (B, G), or 1 where they are 0."""
    size = attribution.square().mean(1, keepdim=True).sqrt()
    return size.where(size > LEAST, 1.0)
