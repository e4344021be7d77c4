"""SENS: how far an explanation moves when its input hardly does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.scoring.metrics import METRICS, ExplainerMetric

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.core.types import Task
    from benchmark.scoring.metrics.subject import Subject

RADIUS = 0.02
"""How far each number of an input may move, in its own unit: standard deviations on tables and in images."""
DRAWS = 10


@METRICS.register("SENS", group="stability", higher_is_better=False)
class MaxSensitivity(ExplainerMetric):
    """Largest relative change of the attribution in a small neighbourhood of the input."""

    title = "Max-sensitivity"
    low, high = 0.0, float("inf")
    formula = (
        f"max over {DRAWS} draws x' of |s(x') - s(x)| / |s(x)|, Euclidean norms; each number of x' is drawn uniformly "
        f"within {RADIUS:g} of that of x; the target stays that of x; where s(x) is 0 the change itself is taken"
    )
    meaning = "Do inputs that hardly differ have explanations that hardly differ?"
    blind_to = "Faithfulness: an attribution that is always the same is perfectly stable."
    redundancy = "None of the others asks the explainer again."
    source = (
        "Yeh et al. 2019, definition 2, by random draws as there; relative to the norm of the attribution, so that "
        "scale cannot matter"
    )
    cost = f"{DRAWS} explanations"

    def unsupported(self, task: Task) -> str | None:
        """Return why texts have no score: their words cannot be moved a little."""
        return None if task.test.x.is_floating_point() else "words cannot be moved a little"

    def score(self, subject: Subject) -> Tensor:
        """Return the largest relative change of each sample, (B,)."""
        norm = subject.attribution.norm(dim=1)
        largest = norm.new_zeros(len(norm))
        for draw in range(DRAWS):
            moved = subject.explain(subject.x + RADIUS * subject.uniform(f"draw {draw}"), subject.target)
            largest = largest.maximum((moved - subject.attribution).norm(dim=1))  # NaN stays
        return largest / norm.masked_fill(norm == 0, 1.0)
