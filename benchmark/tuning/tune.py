"""Tries configurations of methods on held-out training rows, as a run does, and chooses in each class of costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from benchmark.core.errors import BenchmarkError, RecordError
from benchmark.core.sources import Sources
from benchmark.core.types import Device
from benchmark.learning.budget import TrainingBudget
from benchmark.records.record import Cell, Record
from benchmark.records.store import RecordStore
from benchmark.running.plan import MethodChoice, PlannedTask, plan_task, spec_of
from benchmark.running.settings import Settings
from benchmark.scheduling.batch import run_all
from benchmark.scoring.metrics import TEN
from benchmark.tuned.classes import CLASSES, name_of
from benchmark.tuned.files import Trial, Tuned
from benchmark.tuning.configurations import configurations
from benchmark.tuning.judging import chosen

RANDOM = "random"
"""The control that values are scaled by."""


@dataclass(frozen=True, eq=False)
class PlannedTuning:
    """What is tried on a task.

    Attributes:
        plan: a cell for each configuration, and the control.
        classes: names of the classes of costs that a configuration is tried for, by the key of its cell.
        count: configurations of each method in each class of costs, at most.
        budget: what each learned method is trained for; None for as long as each configuration says.
    """

    plan: PlannedTask
    classes: dict[str, tuple[str, ...]]
    count: int
    budget: TrainingBudget | None = None


def plan_tuning(
    task: str, methods: Sequence[str], sources: Sources, count: int, seed: int, device: str = "cpu",
    budget: TrainingBudget | None = None,
) -> PlannedTuning:  # fmt: skip
    """Plan all configurations of methods on a task, and the control, each once.

    Args:
        task: its name.
        methods: their names.
        sources: where data may come from.
        count: configurations of each method in each class of costs.
        seed: of methods and of the choice of configurations.
        device: the class of device.
        budget: what each learned method is trained for; otherwise as long as each configuration says.

    Raises:
        DataError: the task's data are missing.
        UsageError: a method is learned and cannot be trained within the budget.
    """
    spec = spec_of(task)
    tries = {
        (name, rows): configurations(name, spec, rows, count, seed, budget) for name in methods for rows in CLASSES
    }
    choices = [MethodChoice(RANDOM), *dict.fromkeys(choice for tried in tries.values() for choice in tried)]
    plan = plan_task(task, choices, sources, seed, None, device=cast(Device, device), split="tuning")
    classes: dict[str, list[str]] = {}
    for cell, _ in plan.cells:
        of_method = {rows: tried.values() for (name, rows), tried in tries.items() if name == cell.method}
        classes[cell.key] = [name_of(rows) for rows, tried in of_method.items() if cell.params in tried]
    return PlannedTuning(plan, {key: tuple(names) for key, names in classes.items()}, count, budget)


def tune(planned: PlannedTuning, store: RecordStore, settings: Settings) -> Tuned:
    """Run what is planned, keep what is stored, and choose.

    What failed now counts as failed, also where a record of before lies there: it is of other code or metrics.

    Args:
        planned: see `plan_tuning`.
        store: the records of tuning.
        settings: of the run.

    Raises:
        DataError: the task cannot be built.
        BenchmarkError: the control failed.
    """
    plan = planned.plan
    outcomes, unbuilt = run_all([plan], store, settings)
    if unbuilt:
        raise unbuilt[0]
    failed = {outcome.cell.key: outcome.reason for outcome in outcomes if outcome.state == "failed"}
    trials: dict[str, list[Trial]] = {}
    control: Record | None = None
    missing = ""
    for cell, choice in plan.cells:
        if cell.key in plan.skips:
            continue
        record = _stored(store, cell) if cell.key not in failed else None
        why = failed.get(cell.key, "nothing is stored")
        if choice.name == RANDOM:
            control, missing = record, why
        else:
            trials.setdefault(choice.name, []).append(_trial(record, cell.params, planned.classes[cell.key], why))
    if control is None or control.status != "done":
        reason = control.reason if control is not None else missing
        raise BenchmarkError(f"the control {RANDOM} has no scores on {plan.name}: {reason}")
    means = _means(control)
    return Tuned(
        plan.name, plan.located.source, control.n_total, control.cell.seed, _judged_on(control), means, trials,
        {name: chosen(tried, means) for name, tried in trials.items()},
        planned.count, _in_words(planned.budget),
    )  # fmt: skip


def _stored(store: RecordStore, cell: Cell) -> Record | None:
    """Return what is stored of a cell, or None."""
    try:
        return store.read(store.folder(cell))
    except RecordError:  # a worker died, or nothing was stored; the run has said so
        return None


def _judged_on(record: Record) -> dict[str, str]:
    """Return digests of the rows, the model and the task that a record is of."""
    return {part: record.identity[part] for part in ("data", "model", "task")}


def _in_words(budget: TrainingBudget | None) -> str:
    return f"{repr(budget.amount).removesuffix('.0')} {budget.parameter}" if budget is not None else ""


def _trial(record: Record | None, params: dict[str, Any], classes: tuple[str, ...], why: str) -> Trial:
    """Return what a record says of a configuration; without a record, why there is none."""
    if record is None or record.status != "done" or record.n_failed:
        return Trial(params, classes, None, {}, record.reason if record is not None else why)
    return Trial(params, classes, record.rows, _means(record))


def _means(record: Record) -> dict[str, float]:
    """Return the mean score by metric, without those that are undefined on every row."""
    means = record.scores[record.scores["valid"]].groupby("metric", observed=True)["score"].mean()
    return {name: float(means[name]) for name in TEN if name in means and np.isfinite(means[name])}
