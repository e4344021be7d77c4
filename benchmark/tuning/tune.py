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
from benchmark.running.batch import run_all
from benchmark.running.plan import MethodChoice, PlannedTask, plan_task, spec_of
from benchmark.running.settings import Settings
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
    """

    plan: PlannedTask
    classes: dict[str, tuple[str, ...]]
    count: int


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
    return PlannedTuning(plan, {key: tuple(names) for key, names in classes.items()}, count)


def tune(planned: PlannedTuning, store: RecordStore, settings: Settings) -> Tuned:
    """Run what is planned, keep what is stored, and choose.

    Args:
        planned: see `plan_tuning`.
        store: the records of tuning.
        settings: of the run.

    Raises:
        DataError: the task cannot be built.
        BenchmarkError: the control failed.
    """
    plan = planned.plan
    _, unbuilt = run_all([plan], store, settings)
    if unbuilt:
        raise unbuilt[0]
    trials: dict[str, list[Trial]] = {}
    control: Record | None = None
    for cell, choice in plan.cells:
        if cell.key in plan.skips:
            continue
        record = _stored(store, cell)
        if choice.name == RANDOM:
            control = record
        else:
            trials.setdefault(choice.name, []).append(_trial(record, cell.params, planned.classes[cell.key]))
    if control is None or control.status != "done":
        raise BenchmarkError(f"the control {RANDOM} has no scores on {plan.name}: {control.reason if control else ''}")
    means = _means(control)
    return Tuned(
        plan.name, plan.located.source, control.n_total, control.cell.seed, _judged_on(control), means, trials,
        {name: chosen(tried, means) for name, tried in trials.items()},
        planned.count,
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


def _trial(record: Record | None, params: dict[str, Any], classes: tuple[str, ...]) -> Trial:
    if record is None or record.status != "done" or record.n_failed:
        return Trial(params, classes, None, {}, record.reason if record is not None else "nothing is stored")
    return Trial(params, classes, record.rows, _means(record))


def _means(record: Record) -> dict[str, float]:
    """Return the mean score by metric, without those that are undefined on every row."""
    means = record.scores[record.scores["valid"]].groupby("metric", observed=True)["score"].mean()
    return {name: float(means[name]) for name in TEN if name in means and np.isfinite(means[name])}
