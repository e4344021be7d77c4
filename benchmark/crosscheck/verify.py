"""`verify-metrics`: every metric against its references on the fixed cases, as a table with a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch

from benchmark.crosscheck import references
from benchmark.crosscheck.cases import CASES, Case
from benchmark.crosscheck.references import Sample
from benchmark.evaluator import Evaluator
from benchmark.probes import Listed, subset_mass
from benchmark.types import Task

TOLERANCE = {torch.float64: 1e-10, torch.float32: 5e-5}

DIFFERENCES = {
    "Quantus IROF": "integrates r_1..r_K by trapezoids and subtracts from K, so a constant model scores 1, not 0; "
    "we take the mean over k = 1..K, and compare after adding the end-points back",
    'Quantus baseline "black"': "is each sample's own minimum, not 0; ours is the task's removal baseline, passed as "
    "values",
    "Quantus MonotonicityCorrelation": "sorts by |s| before grouping, ours by s; compared on |s|, where they agree",
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


Reference = Callable[[Sample], float]


@dataclass(frozen=True)
class Line:
    """How a metric is compared: its name in our table (or `mse` forms of INF), the other code, and where it applies."""

    metric: str
    name: str
    reference: Reference
    applies: Callable[[Case, Task], bool] = lambda _case, _task: True


def _single(_case: Case, task: Task) -> bool:
    return task.budget.steps == task.n_features


def _enumerated(case: Case, _task: Task) -> bool:
    return case.lookup


LINES = (
    Line("FC", "Quantus FaithfulnessCorrelation, same subsets", references.fc),
    Line("FC", "enumeration of all subsets", references.fc_by_enumeration, _enumerated),
    Line("FE", "Quantus FaithfulnessEstimate", references.fe),
    Line("MC", "Quantus MonotonicityCorrelation", references.mc),
    Line("INF", "loop over the same draws (Pearson)", references.inf_by_loop),
    Line("INF", "enumeration of all subsets", references.inf_by_enumeration, _enumerated),
    Line("INF draws", "captum.metrics.infidelity (squared error)", references.infidelity_by_captum),
    Line("INF raster", "Quantus Infidelity (squared error)", references.infidelity_by_quantus,
         lambda _case, task: task.modality != "text"),
    Line("DEL", "Quantus PixelFlipping", references.deletion),
    Line("INS", "Quantus PixelFlipping from the insertion baseline", references.insertion),
    Line("NEG", "Quantus PixelFlipping of max(s) - s, cut by loop", references.negative),
    Line("POS", "Quantus PixelFlipping, cut by loop", references.positive),
    Line("RP", "Quantus RegionPerturbation", references.region, _single),
    Line("IROF", "Quantus IROF", references.irof),
)  # fmt: skip


def verify() -> list[Check]:
    """Return one check a line of `LINES` and precision.

    Raises:
        DataError: Quantus is absent, or numpy is too new for it.
    """
    references.load_quantus()
    checks = []
    for dtype, tolerance in TOLERANCE.items():
        found: dict[Line, list[float]] = {}
        for case in CASES:
            for line, difference in _compare(case, dtype):
                found.setdefault(line, []).append(difference)
        for line in LINES:
            worst = float(np.max(found[line]))  # NaN stays NaN, and fails
            checks.append(Check(line.metric, line.name, str(dtype).split(".")[1], len(found[line]), worst, tolerance))
    return checks


def _compare(case: Case, dtype: torch.dtype) -> Iterator[tuple[Line, float]]:
    """Yield the difference of each line that applies, sample by sample."""
    task = case.task(dtype)
    attributions = case.attributions(task)
    evaluator = Evaluator(task, value_table=case.lookup)
    ours = {name: column.tolist() for name, column in evaluator.score(attributions).scores.items()}
    absolute = evaluator.score(attributions.abs()).scores["MC"].tolist()
    samples = _samples(evaluator, attributions)
    for line in LINES:
        if not line.applies(case, task):
            continue
        for i, sample in enumerate(samples):
            match line.metric:
                case "MC":
                    if sample.n < 2 * sample.step:  # one group: no correlation
                        continue
                    mine, theirs = absolute[i], _absolute(sample)
                case "INF draws":
                    mine, theirs = _squared_error(evaluator, i, sample, raster=False), sample
                case "INF raster":
                    mine, theirs = _squared_error(evaluator, i, sample, raster=True), sample
                case _:
                    mine, theirs = ours[line.metric][i], sample
            reference = line.reference(theirs)
            scale = max(1.0, abs(reference)) if line.metric.startswith("INF ") else 1.0
            yield line, abs(mine - reference) / scale


def _absolute(sample: Sample) -> Sample:
    return Sample(**{**vars(sample), "s": np.abs(sample.s)})


def _samples(evaluator: Evaluator, attributions: torch.Tensor) -> list[Sample]:
    """Return every sample of an evaluator with the subsets the evaluator uses for it."""
    samples = []
    removals = {kind: evaluator.subsets(kind, slice(0, len(evaluator.samples))) for kind in ("fixed", "bernoulli")}
    for i, x in enumerate(evaluator.x):
        features = evaluator.valid[i].nonzero().flatten().tolist()
        sets = {}
        for kind, removal in removals.items():
            which = torch.arange(removal.shape[1])
            masks = removal.removed(torch.full_like(which, i), which)[:, features]
            sets[kind] = [np.flatnonzero(mask) for mask in masks.numpy()]
        s = attributions[i, features].numpy()
        samples.append(Sample(evaluator.task, x, features, s, sets["fixed"], sets["bernoulli"], evaluator.uses_table))
    return samples


def _squared_error(evaluator: Evaluator, i: int, sample: Sample, raster: bool) -> float:
    """Return Yeh's squared error from our own masses and drops of one sample."""
    rows = slice(i, i + 1)
    x, target = evaluator.x[rows], evaluator.shared.target[rows]
    removals = evaluator.subsets("bernoulli", rows)
    if raster:
        removals = Listed(torch.ones(sample.n, sample.n, dtype=torch.bool).tril().unsqueeze(1), 1)
    scores = torch.zeros(1, evaluator.task.n_features, dtype=torch.float64)
    scores[0, sample.features] = torch.as_tensor(sample.s)
    drops = evaluator.shared.clean[rows].unsqueeze(1) - evaluator.prober.ask(x, target, removals).prob
    return float(((subset_mass(removals, scores) - drops) ** 2).mean())


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
