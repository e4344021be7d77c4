"""Gradients along the way from the baseline to the input."""

from dataclasses import dataclass

from benchmark.core.parameters import bounded
from benchmark.core.types import METHODS, Method


@METHODS.register("path_gradient", kind="baseline", modalities=("table", "image"))
@dataclass(frozen=True)
class PathGradient(Method):
    """Mean gradient on the way from baseline to input, times the way (after Sundararajan et al. 2017).

    Args:
        points: at which the gradient is taken.
    """

    points: int = bounded(8, low=1)

    def prepare(self, task, seed):
        """Return the explainer."""

        def explain(x, target):
            start, total = task.removal.baseline(x), 0
            for point in range(self.points):
                there = (start + (point + 0.5) / self.points * (x - start)).detach().requires_grad_()
                task.model(there).gather(1, target.unsqueeze(1)).sum().backward()
                total = total + there.grad
            return task.removal.pool(total / self.points * (x - start))

        return explain
