"""Tries configurations of methods on held-out training rows, as a run does, and chooses in each class of costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from benchmark.core.errors import BenchmarkError, RecordError
from benchmark.core.sources import Sources
from benchmark.core.types import TASKS, Device
from benchmark.records.record import Cell, Record
from benchmark.records.store import RecordStore
from benchmark.running.batch import run_all
from benchmark.running.plan import MethodChoice, PlannedTask, plan_task
from benchmark.running.settings import Settings
from benchmark.scoring.metrics import TEN
from benchmark.tuned.classes import CLASSES
from benchmark.tuned.files import Trial, Tuned
from benchmark.tuning.configurations import configurations
from benchmark.tuning.judging import chosen

RANDOM = "random"
"""The control that values are scaled by."""


def plan_tuning(
    task: str, methods: Sequence[str], sources: Sources, count: int, seed: int, device: str = "cpu"
) -> PlannedTask:
    """Plan all configurations of methods on a task, and the control, each once.

    Args:
        task: its name.
        methods: their names.
        sources: where data may come from.
        count: configurations of each method in each class of costs.
        seed: of methods and of the choice of configurations.
        device: the class of device.

    Raises:
        DataError: the task's data are missing.
    """
    modality = TASKS.entry(task).facts["modality"]
    tried = [
        MethodChoice(name, tuple(sorted((key, str(value)) for key, value in given.items())))
        for name in methods
        for rows in CLASSES
        for given in configurations(name, modality, rows, count, seed)
    ]
    return plan_task(
        task,
        [MethodChoice(RANDOM), *dict.fromkeys(tried)],
        sources,
        seed,
        None,
        device=cast(Device, device),
        rows="tuning",
    )


def tune(plan: PlannedTask, store: RecordStore, settings: Settings) -> Tuned:
    """Run what is planned, keep what is stored, and choose.

    Args:
        plan: see `plan_tuning`.
        store: the records of tuning.
        settings: of the run.

    Raises:
        DataError: the task cannot be built.
        BenchmarkError: the control failed.
    """
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
            trials.setdefault(choice.name, []).append(_trial(record, cell.params))
    if control is None or control.status != "done":
        raise BenchmarkError(f"the control {RANDOM} has no scores on {plan.name}: {control.reason if control else ''}")
    means = _means(control)
    return Tuned(
        plan.name, plan.located.source, control.n_total, control.cell.seed, means, trials,
        {name: chosen(tried, means) for name, tried in trials.items()},
    )  # fmt: skip


def _stored(store: RecordStore, cell: Cell) -> Record | None:
    """Return what is stored of a cell: of all test rows, since a limit that takes nothing away is none."""
    try:
        return store.read(store.folder(cell))
    except RecordError:  # a worker died, or nothing was stored; the run has said so
        return None


def _trial(record: Record | None, params: dict[str, object]) -> Trial:
    if record is None or record.status != "done" or record.n_failed:
        return Trial(params, None, {}, record.reason if record is not None else "nothing is stored")
    return Trial(params, _rows(record), _means(record))


def _rows(record: Record) -> float:
    """Return forward and backward passes an explanation."""
    cost = record.costs["attribute"]
    return (cost["forwards"] + cost["backwards"]) / (record.n_total * record.repeats)


def _means(record: Record) -> dict[str, float]:
    """Return the mean score by metric, without those that are undefined on every row."""
    means = record.scores[record.scores["valid"]].groupby("metric", observed=True)["score"].mean()
    return {name: float(means[name]) for name in TEN if name in means and np.isfinite(means[name])}
