"""Compares every metric with its references on the fixed cases, as a table with a verdict: `verify-metrics`.

References are other packages, plain loops, and what must hold of any scores: that they depend on no other sample and on
no scale, that subsets are drawn independently, that test rows play no part in how rows are scaled.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from unittest import mock

import torch
from torch import Tensor

from benchmark.core.types import METHODS
from benchmark.inspection.crosscheck import loops, other_loops
from benchmark.inspection.crosscheck.against_others import by_others
from benchmark.inspection.crosscheck.cases import CASES, IMAGE_CASE, OTHERS, TEXT_CASE, Case, real_rows, slopes
from benchmark.inspection.crosscheck.checks import TOLERANCE, Check, masks_of, subsets_of
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.metrics import BERNOULLI, FIXED, GROUPS, METRICS, TEN, ProbeMetric
from benchmark.scoring.metrics.subject import Subject

PROBED = (*TEN, *(name for name in OTHERS if isinstance(METRICS[name], ProbeMetric)))
"""Our metrics of removal sets."""
UNORDERED = (GROUPS, FIXED, BERNOULLI)
"""Probes to which the order of features does not matter; else, where attributions tie, a loop takes them as they stand.
"""
CHANCE = 0.2
"""How far the agreement of subsets drawn independently may be from chance; that of equal ones is 1."""
WORD = 10
"""Features whose membership is compared: the first of each 64, which a draw decides together."""


def verify() -> list[Check]:
    """Return all checks.

    Raises:
        DataError: Quantus is absent, or numpy is too new for it.
    """
    draws = [check for name, kind in loops.ON_SUBSETS.items() for check in of_draws(name, kind)]
    return [*by_others(), *by_loops(CASES), *by_asking(CASES), *by_rules(CASES), *draws, *of_tables(), *of_saliency()]


def by_loops(cases: Iterable[Case]) -> list[Check]:
    """Return one check a metric against plain loops in float64, and one where numbers vary in few digits."""
    return _gathered((name, "plain loops", case, apart) for case in cases for name, apart in _from_loops(case))


def _from_loops(case: Case) -> Iterator[tuple[str, float]]:
    """Yield the difference of each metric and sample; where attributions tie, an order is as good as another."""
    task = case.task()
    attributions, evaluator = case.attributions(task), case.evaluator(task, PROBED)
    ours = evaluator.score(attributions).scores
    subsets = {kind: subsets_of(evaluator, kind) for kind in loops.ON_SUBSETS.values()}
    real_attributions = [row[valid] for row, valid in zip(attributions, evaluator.valid, strict=True)]
    for name, column in loops.all_scores(task, evaluator.x, attributions, subsets, other_loops.OTHERS).items():
        for s, a, b in zip(real_attributions, ours[name].tolist(), column, strict=True):
            if not bool(s.isfinite().all()):
                yield name, _apart(a, math.nan)
            elif METRICS[name].probe in UNORDERED or len(s.unique()) == len(s):
                yield name, _apart(a, b)


def by_asking(cases: Iterable[Case]) -> list[Check]:
    """Return one check for each metric that asks the explainer, against plain loops."""
    return _gathered(
        (name, "plain loops", case, apart)
        for case in cases
        for name in other_loops.ASKING
        if not case.task().removal.pads
        for apart in _from_asking(case, name)
    )


def _from_asking(case: Case, name: str) -> Iterator[float]:
    """Yield the difference of a metric for each sample, each explained alone in the loop."""
    task = case.task()
    evaluator, explain = case.evaluator(task, [name]), slopes(task)
    target = evaluator.shared.target
    attributions = explain(evaluator.x, target)
    ours = evaluator.score(attributions, explain).scores[name].tolist()
    for i, score in enumerate(ours):
        one = slice(i, i + 1)

        def seeds(purpose: str, one: slice = one) -> Tensor:
            return evaluator.queries.seeds(f"{name} {purpose}", one)

        alone = Subject(task, evaluator.x[one], target[one], evaluator.valid[one], attributions[one], seeds, explain)
        noise = [alone.uniform(f"draw {draw}") for draw in range(10)]
        yield _apart(score, other_loops.ASKING[name](explain, evaluator.x[one], target[one], noise))


def _gathered(differences: Iterable[tuple[str, str, Case, float]]) -> list[Check]:
    """Return one check for all differences of a metric and reference under the same tolerance, in float64."""
    lines: dict[tuple[str, str, float], list[float]] = {}
    for metric, reference, case, apart in differences:
        lines.setdefault((metric, reference, case.tolerance), []).append(apart)
    return [
        Check(metric, reference + (", few digits" if loose else ""), "float64", len(all_), max(all_),
              loose or TOLERANCE[torch.float64])
        for (metric, reference, loose), all_ in lines.items()
    ]  # fmt: skip


def by_rules(cases: Iterable[Case]) -> list[Check]:
    """Return the checks of what must hold of any scores: that they know no scale, no place, no company, no memory."""
    return _gathered(("all", *difference) for case in cases if not case.others for difference in _of_scores(case))


def of_draws(name: str, kind: str) -> list[Check]:
    """Check how far subsets of neighbours, and those under another seed, agree beyond chance."""
    worst: dict[str, float] = {}
    count = 0
    for case in CASES:
        task = case.task()
        if case.samples is not None or task.removal.pads or task.n_features < WORD:
            continue
        masks, other = (masks_of(Evaluator(task, seed, metrics=[name], value_table=False), kind) for seed in (0, 1))
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
    evaluator, attributions = case.evaluator(task, PROBED), case.attributions(task)
    whole, small, large = evaluator.score_all([attributions, attributions * 2.0**-600, attributions * 2.0**600])
    rows = [1, 0] if case.samples else [4, 1, 3]
    chosen = [whole.samples[row] for row in rows]
    others = Evaluator(
        task, case.seed, chosen, metrics=PROBED, value_table=case.lookup, byte_budget=2 * 256 * task.n_features
    )
    apart = others.score(attributions[rows])
    scoring = "benchmark.scoring"
    with mock.patch(f"{scoring}.removal_sets.WORKING_SET", 2**10), mock.patch(f"{scoring}.random_sets.CACHED", 2**6):
        little = case.evaluator(task, PROBED).score(attributions)
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
        attributions = METHODS.get("saliency")().prepare(task, 0)(task.test.x, target)
        for i, x in enumerate(task.test.x):
            extra = (real[i : i + 1],) if case is TEXT_CASE else ()
            leaf = (task.model.embed(x) if extra else x).detach().clone().requires_grad_()  # type: ignore[operator]
            task.model(leaf.unsqueeze(0), *extra)[0, target[i]].backward()
            assert leaf.grad is not None
            parts = leaf.grad.unbind(-1) if extra else leaf.grad.flatten(1)
            apart.append(float((sum(part.abs() for part in parts) - attributions[i]).abs().max()))
    return [Check("saliency", "loop over slopes", "float64", len(apart), max(apart), TOLERANCE[torch.float64])]
