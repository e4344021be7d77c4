"""Compares every metric with other packages on the same samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmark.core.types import Task
from benchmark.inspection.crosscheck import loops, references
from benchmark.inspection.crosscheck.cases import CASES, Case
from benchmark.inspection.crosscheck.checks import TOLERANCE, Check, masks_of
from benchmark.inspection.crosscheck.references import Sample
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.removal_sets import MaskSets, subset_mass

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


def by_others() -> list[Check]:
    """Return one check a line of `LINES` and precision.

    Raises:
        DataError: Quantus is absent, or numpy is too new for it.
    """
    references.load_quantus()
    checks = []
    for dtype, tolerance in TOLERANCE.items():
        differences: dict[Line, list[float]] = {}
        for case in CASES:
            for line, difference in _compare(case, dtype) if case.others else ():
                differences.setdefault(line, []).append(difference)
        for line in LINES:
            worst = float(np.max(differences[line]))  # NaN stays NaN, and fails
            checks.append(
                Check(line.metric, line.name, str(dtype).split(".")[1], len(differences[line]), worst, tolerance)
            )
    return checks


def _compare(case: Case, dtype: torch.dtype) -> Iterator[tuple[Line, float]]:
    """Yield the difference of each line that applies, sample by sample."""
    task = case.task(dtype)
    attributions = case.attributions(task)
    evaluator = case.evaluator(task)
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


def _samples(evaluator: Evaluator, attributions: Tensor) -> list[Sample]:
    """Return every sample of an evaluator with the subsets the evaluator uses for it."""
    samples = []
    masks = {kind: masks_of(evaluator, kind) for kind in loops.ON_SUBSETS.values()}
    for i, x in enumerate(evaluator.x):
        features = evaluator.valid[i].nonzero().flatten().tolist()
        sets = {kind: [np.flatnonzero(mask) for mask in drawn[i][:, features].numpy()] for kind, drawn in masks.items()}
        s = attributions[i, features].numpy()
        samples.append(
            Sample(evaluator.task, x, features, s, sets["fixed"], sets["bernoulli"], evaluator.queries.uses_table)
        )
    return samples


def _squared_error(evaluator: Evaluator, i: int, sample: Sample, raster: bool) -> float:
    """Return Yeh's squared error from our own masses and drops of one sample."""
    rows = slice(i, i + 1)
    x, target = evaluator.x[rows], evaluator.shared.target[rows]
    removals = evaluator.subsets("bernoulli", rows)
    if raster:
        removals = MaskSets(torch.ones(sample.n, sample.n, dtype=torch.bool).tril().unsqueeze(1), 1)
    scores = torch.zeros(1, evaluator.task.n_features, dtype=torch.float64)
    scores[0, sample.features] = torch.as_tensor(sample.s)
    drops = evaluator.shared.clean[rows].unsqueeze(1) - evaluator.masked_model.query(x, target, removals).prob
    return float(((subset_mass(removals, scores) - drops) ** 2).mean())
