"""The golden cases: small fixed tasks with attributions, and the scores that a metric has on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from benchmark.core.errors import UsageError, did_you_mean, shown
from benchmark.core.selection import several
from benchmark.core.types import Baseline, Split, Task
from benchmark.inspection.crosscheck.cases import CASES, Case, formula, mlp
from benchmark.inspection.crosscheck.checks import masks_of
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.metrics import GROUPS, METRICS
from benchmark.scoring.metrics.probes import Subsets
from benchmark.scoring.ordered_sets import shuffle

CHOICES = str | Sequence[str | Case] | None
"""Cases, or names or globs of cases; None for all."""


def golden_cases() -> tuple[Case, ...]:
    """Return the cases that an implementation is compared on.

    They are those of `regress` in which numbers vary in many digits, with finite attributions, and three more: ties of
    attributions with and without groups, and a task in which some attributions and one response are constant.

    Example:
        >>> [case.name for case in golden_cases()][:2]
        ['mlp7, constant baseline, value table', 'mlp10, baseline per feature']
    """
    exact = [case for case in CASES if not case.tolerance]
    plain = [replace(case, bend=_plain) for case in exact]
    tied = [replace(case, name=f"{case.name}, ties of attributions", bend=_tied) for case in (exact[1], exact[5])]
    return (*plain, *tied, Case("mlp10, some constant", _constant_task, bend=_constant_rows))


def select_cases(choices: CHOICES) -> list[Case]:
    """Return the chosen cases.

    Raises:
        UsageError: a name or glob is that of no case, or nothing is chosen.
    """
    known = {case.name: case for case in golden_cases()}
    chosen: list[Case] = []
    for item in known.values() if choices is None else several(choices, "cases"):
        found = [item] if isinstance(item, Case) else [known[name] for name in known if fnmatchcase(name, item)]
        if not found:
            raise UsageError(f"unknown golden case {shown(item)}{did_you_mean(str(item), known)}")
        chosen += [case for case in found if case not in chosen]
    if not chosen:
        raise UsageError("expected some of the golden cases, got none: leave cases out for all of them")
    return chosen


def _plain(attributions: Tensor) -> Tensor:
    return attributions.clone()


def _tied(attributions: Tensor) -> Tensor:
    return attributions.mul(2).round()


def _constant_task() -> Task:
    """Return the task of `mlp10`, in which one row is the baseline, so that nothing changes when features go."""
    baseline = formula(10, key=0.9) / 2
    task = mlp(10, baseline)
    x = task.test.x.clone()
    x[2] = baseline
    split = Split(x, task.test.y)
    return replace(task, train=split, test=split)


def _constant_rows(attributions: Tensor) -> Tensor:
    rows = attributions.clone()
    rows[0], rows[1] = 0.3, 0.0
    return rows


@dataclass(frozen=True, eq=False)
class Golden:
    """A case as a metric meets it: N samples of G features, with the scores that the metric has on them.

    Attributes:
        case: what it was made from.
        task: of the case, its model in float64.
        kind: which baseline the metric inserts into or removes to.
        x: inputs (N, ...).
        target: predicted classes (N,).
        attributions: (N, G) float64.
        valid: which features exist, (N, G) bool; False is padding.
        ties: the order (N, G) that equal attributions keep, as numbers of features.
        subsets: the random removal sets (N, R, G) bool of a metric that has any, else None.
        steps: K, the most groups that features are removed in.
        expected: scores (N,) float64.
        reasons: why scores are flagged (N,), 0 or a key of `benchmark.scoring.metrics.REASONS`.
        tied: samples (N,) bool whose score depends on the order of equal attributions.
    """

    case: Case
    task: Task
    kind: Baseline
    x: Tensor
    target: Tensor
    attributions: Tensor
    valid: Tensor
    ties: Tensor
    subsets: Tensor | None
    steps: int
    expected: np.ndarray
    reasons: np.ndarray
    tied: np.ndarray
    kept: dict[object, object] = field(default_factory=dict)
    """What recipes have asked already."""

    @property
    def padded(self) -> bool:
        """Tell whether some sample has padding."""
        return not bool(self.valid.all())

    @cached_property
    def even(self) -> bool:
        """Tell whether all groups of all samples have one size."""
        counts = self.valid.sum(1)
        return bool((counts % counts.clamp(max=self.steps) == 0).all())


def golden(metric: str, case: Case) -> Golden:
    """Return a case with the scores of a metric that the evaluator gives."""
    task = case.task()
    evaluator = Evaluator(
        task, case.seed, case.samples, metrics=[metric], value_table=case.lookup, byte_budget=case.byte_budget
    )
    attributions = case.attributions(task)
    evaluation = evaluator.score(attributions)
    every = slice(0, len(evaluator.samples))
    probe = getattr(METRICS[metric], "probe", None)
    drawn = probe.kind if isinstance(probe, Subsets) else None
    steps, count = min(task.budget.steps, task.n_features), evaluator.valid.sum(1)
    repeats = [
        len(row[real].unique()) < int(real.sum()) for row, real in zip(attributions, evaluator.valid, strict=True)
    ]
    ordered = torch.tensor(repeats) & (probe is None or probe.ordered)
    if probe == GROUPS:
        ordered &= count.cpu() > steps  # where each feature is a group, all groups are asked in any order
    return Golden(
        case=case,
        task=case.task(),
        kind="removal" if probe is None else probe.baseline,
        x=evaluator.x.clone(),
        target=evaluator.shared.target.clone(),
        attributions=attributions,
        valid=evaluator.valid,
        ties=shuffle(evaluator.queries.seeds("ties", every), task.n_features),
        subsets=masks_of(evaluator, drawn) if drawn is not None else None,
        steps=steps,
        expected=evaluation.scores[metric].numpy(),
        reasons=evaluation.reasons[metric].numpy(),
        tied=ordered.numpy(),
    )
