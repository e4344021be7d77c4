"""Outcomes and jobs: compares stored records with planned cells."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmark.core.errors import RecordError, describe
from benchmark.core.identity import method_identity
from benchmark.core.sources import Located
from benchmark.core.types import METHODS, Method, Task
from benchmark.records.record import Cell, Record, stale
from benchmark.records.store import RecordStore
from benchmark.running.built import engine_for, identity_of_task
from benchmark.running.plan import MethodChoice, PlannedTask, metric_facts
from benchmark.running.settings import Settings
from benchmark.scoring.metrics import METRICS

log = logging.getLogger("benchmark")


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        cell: which.
        label: its method as the user wrote it.
        state: `kept` (stored before), `computed`, `skipped` or `failed`.
        reason: why it was skipped or failed.
        n_failed: samples whose attribution is not finite.
        n_total: samples.
    """

    cell: Cell
    label: str
    state: str
    reason: str = ""
    n_failed: int = 0
    n_total: int = 0

    @property
    def bad(self) -> bool:
        """Tell whether something did not work."""
        return self.state == "failed" or self.n_failed > 0


@dataclass(frozen=True)
class Job:
    """One cell for a worker, with all that it needs to build the task.

    Attributes:
        cell: what is computed.
        choice: its method as the user wrote it.
        located: where the task's data are.
        metrics: which are scored.
        settings: of the run.
        why: why a stored record will not do, where there is one.
        samples: how many the cell has; 0 where that is not known.
    """

    cell: Cell
    choice: MethodChoice
    located: Located
    metrics: tuple[str, ...]
    settings: Settings
    why: str = ""
    samples: int = 0


def pending(plan: PlannedTask, store: RecordStore, settings: Settings, task: Task | None) -> Iterator[Outcome | Job]:
    """Yield an outcome for each cell that needs no work and a job for each that does; nothing is changed on disk.

    Without the built `task` records are judged by what was asked alone, which is all that a dry run can know of a model
    that is not there yet.
    """
    for cell, choice in plan.cells:
        if cell.key in plan.skips:
            yield Outcome(cell, choice.label, "skipped", plan.skips[cell.key])
            continue
        samples = 0 if task is None else len(task.test.x[: cell.limit])
        job = Job(cell, choice, plan.located, settings.metrics, settings, samples=samples)
        record, why = stored_record(store, cell)
        yield replace(job, why=why) if record is None else compare(record, job, task)


def stored_record(store: RecordStore, cell: Cell) -> tuple[Record | None, str]:
    """Return the readable record of a cell, or None and, where something else is there, what is wrong with it."""
    folder = store.folder(cell)
    if not (folder / "run.json").exists():  # written last: without it nothing was finished
        return None, ""
    try:
        record = store.read(folder)
        store.examples(record)
        return record, ""
    except RecordError as error:
        return None, str(error)


def compare(record: Record, job: Job, task: Task | None) -> Outcome | Job:
    """Return the outcome a stored record stands for, or the job that replaces it."""
    kept = Outcome(
        record.cell, job.choice.label, "failed" if record.status == "failed" else "kept", record.reason,
        record.n_failed, record.n_total,
    )  # fmt: skip
    if job.settings.overwrite == "never":
        return kept
    if job.settings.overwrite == "always" or record.status == "failed":
        return job
    identity = record.identity if task is None else identity_of(task, job.cell)
    why = stale(record, identity, metric_facts(list(job.metrics)))
    if why is None:
        return kept
    more = [name for name in METRICS if name in record.metrics] if stale(record, identity, {}) is None else []
    return replace(job, metrics=tuple(name for name in METRICS if name in job.metrics or name in more), why=why)


def identity_of(task: Task, cell: Cell) -> dict[str, str]:
    """Return what a cell's result on `task` follows from, but for what the cell says itself.

    Where a method cannot say what it follows from, its code is empty; `make_part` meets the same error and keeps it.
    """
    entry = METHODS.entry(cell.method)
    try:
        of_method = method_identity(method_of(cell), task.modality, entry.module)
    except Exception as error:
        log.debug(f"{cell.label}: {describe(error, METHODS.get(cell.method))}")
        of_method = {"code": "", "distribution": ""}
    if entry.distribution:
        of_method["distribution"] = entry.distribution  # that of its class may be known by no file, as in a checkout
    return identity_of_task(task) | of_method


def with_engine(job: Job) -> Job:
    """Return a job for another process, which takes the engine that this one has chosen."""
    engine = engine_for(job.cell, job.located, job.settings).name
    return replace(job, settings=replace(job.settings, engine=engine))


def method_of(cell: Cell) -> Method:
    """Return the method of a cell with its parameters."""
    return METHODS.get(cell.method)(**cell.params)
