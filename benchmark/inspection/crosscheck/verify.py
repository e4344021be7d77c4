"""`verify-metrics`: every metric against its references on the fixed cases, as a table with a verdict.

References are other people's code, plain loops, and what must hold of any scores: that they know no company and no
scale, that subsets are drawn independently, that test rows play no part in how rows are scaled.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmark.core.types import METHODS, Task
from benchmark.inspection.crosscheck import loops, references
from benchmark.inspection.crosscheck.cases import CASES, IMAGE_CASE, TEXT_CASE, Case, real_rows
from benchmark.inspection.crosscheck.references import Sample
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.removal_sets import MaskSets, subset_mass

CHANCE = 0.2
"""How far the agreement of subsets drawn independently may be from chance; that of equal ones is 1."""
WORD = 10
"""Features whose membership is compared: the first of each 64, which a draw decides together."""
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
    """Return all checks.

    Raises:
        DataError: Quantus is absent, or numpy is too new for it.
    """
    draws = [check for name, kind in loops.ON_SUBSETS.items() for check in of_draws(name, kind)]
    return [*by_others(), *by_loops(CASES), *by_rules(CASES), *draws, *of_tables(), *of_saliency()]


def by_others() -> list[Check]:
    """Return one check a line of `LINES` and precision.

    Raises:
        DataError: Quantus is absent, or numpy is too new for it.
    """
    references.load_quantus()
    checks = []
    for dtype, tolerance in TOLERANCE.items():
        found: dict[Line, list[float]] = {}
        for case in CASES:
            for line, difference in _compare(case, dtype) if case.others else ():
                found.setdefault(line, []).append(difference)
        for line in LINES:
            worst = float(np.max(found[line]))  # NaN stays NaN, and fails
            checks.append(Check(line.metric, line.name, str(dtype).split(".")[1], len(found[line]), worst, tolerance))
    return checks


def by_loops(cases: Iterable[Case]) -> list[Check]:
    """Return one check a metric against plain loops in float64, and one where numbers vary in few digits."""
    return _gathered((name, "plain loops", case, apart) for case in cases for name, apart in _from_loops(case))


def _from_loops(case: Case) -> Iterator[tuple[str, float]]:
    """Yield the difference of each metric and sample; where attributions tie, an order is as good as another."""
    task = case.task()
    attributions, evaluator = case.attributions(task), case.evaluator(task)
    ours = evaluator.score(attributions).scores
    subsets = {kind: _subsets(evaluator, kind) for kind in loops.ON_SUBSETS.values()}
    own = [row[valid] for row, valid in zip(attributions, evaluator.valid, strict=True)]
    for name, column in loops.all_scores(task, evaluator.x, attributions, subsets).items():
        for s, a, b in zip(own, ours[name].tolist(), column, strict=True):
            if not bool(s.isfinite().all()):
                yield name, _apart(a, math.nan)
            elif name not in loops.ORDERED or len(s.unique()) == len(s):
                yield name, _apart(a, b)


def _gathered(found: Iterable[tuple[str, str, Case, float]]) -> list[Check]:
    """Return one check for all differences of a metric and reference under the same tolerance, in float64."""
    lines: dict[tuple[str, str, float], list[float]] = {}
    for metric, reference, case, apart in found:
        lines.setdefault((metric, reference, case.tolerance), []).append(apart)
    return [
        Check(metric, reference + (", few digits" if loose else ""), "float64", len(all_), max(all_),
              loose or TOLERANCE[torch.float64])
        for (metric, reference, loose), all_ in lines.items()
    ]  # fmt: skip


def by_rules(cases: Iterable[Case]) -> list[Check]:
    """Return the checks of what must hold of any scores: that they know no scale, no place, no company, no memory."""
    return _gathered(("all", *found) for case in cases if not case.others for found in _of_scores(case))


def of_draws(name: str, kind: str) -> list[Check]:
    """Check how far subsets of neighbours, and those under another seed, agree beyond chance."""
    worst: dict[str, float] = {}
    count = 0
    for case in CASES:
        task = case.task()
        if case.samples is not None or task.removal.pads or task.n_features < WORD:
            continue
        masks, other = (_masks(Evaluator(task, seed, metrics=[name], value_table=False), kind) for seed in (0, 1))
        count += len(masks) * masks.shape[1]
        for what, a, b in (
            ("features of a subset", masks, masks),
            ("neighbouring subsets", masks[:, 1:], masks[:, :-1]),
            ("neighbouring samples", masks[1:], masks[:-1]),
            ("another seed", masks, other),
        ):
            worst[what] = max(worst.get(what, 0.0), *_agreements(a, b, itself=a is b))
    return [
        Check(name, f"chance: agreement of {what}", "bits", count, agreement, CHANCE)
        for what, agreement in worst.items()
    ]


def _agreements(a: Tensor, b: Tensor, itself: bool) -> Iterator[float]:
    """Yield how far words of masks (..., G) agree: 0 by chance, 1 where they are equal (Cohen's kappa)."""
    starts = range(0, a.shape[-1] - WORD + 1, 64)
    for i, j in itertools.product(starts, starts):
        if itself and i == j:
            continue
        left, right = a[..., i : i + WORD], b[..., j : j + WORD]
        share = float(left.double().mean())
        chance = share**2 + (1 - share) ** 2
        yield abs(float((left == right).double().mean()) - chance) / (1 - chance)
    yield 0.0


def _of_scores(case: Case) -> Iterator[tuple[str, Case, float]]:
    """Yield how far scores and reasons move with the attribution's scale, a sample's place and company, and memory."""
    task = case.task()
    evaluator, attributions = case.evaluator(task), case.attributions(task)
    whole, small, large = evaluator.score_all([attributions, attributions * 2.0**-600, attributions * 2.0**600])
    rows = [1, 0] if case.samples else [4, 1, 3]
    chosen = [whole.samples[row] for row in rows]
    others = Evaluator(task, case.seed, chosen, value_table=case.lookup, byte_budget=2 * 256 * task.n_features)
    apart = others.score(attributions[rows])
    with mock.patch.multiple("benchmark.scoring.removal_sets", WORKING_SET=2**10, CACHED=2**6):
        little = case.evaluator(task).score(attributions)
    every = list(range(len(whole.samples)))
    for rule, part, at in (
        ("the attribution, scaled", small, every),
        ("the attribution, scaled", large, every),
        ("the sample, among others", apart, rows),
        ("the sample, in little memory", little, every),
    ):
        for name in whole.scores:
            for before, after in ((whole.scores, part.scores), (whole.reasons, part.reasons)):
                for a, b in zip(before[name][at].tolist(), after[name].tolist(), strict=True):
                    yield rule, case, _apart(a, b)
        if whole.evidence is not None and part.evidence is not None:
            yield rule, case, float((whole.evidence[at] - part.evidence).abs().max())


def _apart(a: float, b: float) -> float:
    """Return the difference of two scores: none where both are undefined, infinite where one is."""
    if math.isnan(a) or math.isnan(b):
        return 0.0 if math.isnan(a) and math.isnan(b) else math.inf
    return abs(a - b)


def of_tables() -> list[Check]:
    """Columns are scaled by training rows alone, so of these the mean is 0 and the deviation 1."""
    train = real_rows()[0].x.double()
    worst = max(float(train.mean(0).abs().max()), float((train.std(0, correction=0) - 1).abs().max()))
    return [Check("tables", "training rows: mean 0, deviation 1", "float32", len(train), worst, 1e-6)]


def of_saliency() -> list[Check]:
    """Channels of a pixel and numbers of a word are added as strengths: slopes of opposite signs do not cancel."""
    apart = []
    for case in (IMAGE_CASE, TEXT_CASE):
        task = case.task()
        real = task.removal.valid(task.test.x)
        target = task.model(task.test.x).argmax(1)
        found = METHODS.get("saliency")().prepare(task, 0)(task.test.x, target)
        for i, x in enumerate(task.test.x):
            extra = (real[i : i + 1],) if case is TEXT_CASE else ()
            leaf = (task.model.embed(x) if extra else x).detach().clone().requires_grad_()  # type: ignore[operator]
            task.model(leaf.unsqueeze(0), *extra)[0, target[i]].backward()
            assert leaf.grad is not None
            parts = leaf.grad.unbind(-1) if extra else leaf.grad.flatten(1)
            apart.append(float((sum(part.abs() for part in parts) - found[i]).abs().max()))
    return [Check("saliency", "loop over slopes", "float64", len(apart), max(apart), TOLERANCE[torch.float64])]


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
    masks = {kind: _masks(evaluator, kind) for kind in loops.ON_SUBSETS.values()}
    for i, x in enumerate(evaluator.x):
        features = evaluator.valid[i].nonzero().flatten().tolist()
        sets = {kind: [np.flatnonzero(mask) for mask in drawn[i][:, features].numpy()] for kind, drawn in masks.items()}
        s = attributions[i, features].numpy()
        samples.append(
            Sample(evaluator.task, x, features, s, sets["fixed"], sets["bernoulli"], evaluator.queries.uses_table)
        )
    return samples


def _masks(evaluator: Evaluator, kind: str) -> Tensor:
    """Return the removal sets (N, R, G) that an evaluator uses."""
    removals = evaluator.subsets(kind, slice(0, len(evaluator.samples)))
    sample, which = torch.meshgrid(*map(torch.arange, removals.shape), indexing="ij")
    return removals.removed(sample.flatten(), which.flatten()).view(*removals.shape, -1)


def _subsets(evaluator: Evaluator, kind: str) -> list[list[list[int]]]:
    """Return the removal sets of each sample as numbers of features."""
    return [[mask.nonzero().flatten().tolist() for mask in own] for own in _masks(evaluator, kind)]


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
