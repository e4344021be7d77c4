"""The result of one check, and checks as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from benchmark.scoring.evaluator import Evaluator

TOLERANCE = {torch.float64: 1e-10, torch.float32: 5e-5}


DIFFERENCES = {
    "Quantus IROF": "integrates r_1..r_K by trapezoids and subtracts from K, so a constant model scores 1, not 0; "
    "we take the mean over k = 1..K, and compare after adding the end-points back",
    'Quantus baseline "black"': "is each sample's own minimum, not 0; ours is the task's removal baseline, passed as "
    "values",
    "Quantus MonotonicityCorrelation": "sorts by |s| before grouping, ours by s; compared on |s|, where they agree; "
    "ranks effects to the last digit, and is given a correlation that ties what rounding may tell apart",
    "Quantus PixelFlipping": "has no stop at a change of class: POS and NEG cut its curve by our own loop",
    "Quantus Infidelity, captum infidelity": "are squared errors; INF is Pearson's r on the same draws, by loop; "
    "its draws, masses and drops are checked through the squared error",
    "DeepFaith's released code, MC": "averages the squared change over the batch, so that a score depends on its "
    "neighbours; ours is per sample",
    "DeepFaith's released code, spearman": "takes argsort for ranks; ours are mid-ranks",
    "DeepFaith's released code, curves": "integrate over (K-1)/K of the axis, so that a constant model scores under 1; "
    "ours are means over k = 1..K",
}
"""What other code does differently by definition, and how the comparison deals with it."""


@dataclass(frozen=True)
class Check:
    """One line of the table: a metric against a reference in one precision, over all cases it applies to."""

    metric: str
    reference: str
    precision: str
    samples: int
    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Tell whether the largest difference is within the tolerance; NaN is not."""
        return self.difference <= self.tolerance

    def row(self) -> dict[str, object]:
        """Return the check as plain data."""
        return asdict(self) | {"passed": self.passed}


def masks_of(evaluator: Evaluator, kind: str) -> Tensor:
    """Return the removal sets (N, R, G) that an evaluator uses."""
    removals = evaluator.subsets(kind, slice(0, len(evaluator.samples)))
    sample, which = torch.meshgrid(*map(torch.arange, removals.shape), indexing="ij")
    return removals.removed(sample.flatten(), which.flatten()).view(*removals.shape, -1)


def subsets_of(evaluator: Evaluator, kind: str) -> list[list[list[int]]]:
    """Return the removal sets of each sample as numbers of features."""
    return [
        [mask.nonzero().flatten().tolist() for mask in masks_of_sample] for masks_of_sample in masks_of(evaluator, kind)
    ]


def render(checks: list[Check]) -> str:
    """Return the checks as a table, and what differs by definition."""
    head = f"{'metric':<11}{'reference':<53}{'precision':<10}{'samples':>7}{'max |diff|':>12}{'tolerance':>11}  verdict"
    lines = [
        f"{c.metric:<11}{c.reference:<53}{c.precision:<10}{c.samples:>7}{c.difference:>12.1e}{c.tolerance:>11.0e}"
        f"  {'ok' if c.passed else 'DIFFERS'}"
        for c in checks
    ]
    reasons = [f"- {name} {reason}." for name, reason in DIFFERENCES.items()]
    return "\n".join([head, *lines, "", "Different by definition:", *reasons])
