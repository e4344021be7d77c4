"""What is stored of a cell: its record, which another run may have stored meanwhile, and its parts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from filelock import Timeout

from benchmark.core.errors import RecordError
from benchmark.records.record import Cell, Record, stale
from benchmark.records.store import RecordStore
from benchmark.running.built import engine_for, task_for
from benchmark.running.jobs import Job, Outcome, compare, identity_of, stored_record
from benchmark.running.parts import PartStore
from benchmark.running.plan import metric_facts
from benchmark.running.record_making import failed_record, unstorable

WAIT = 5.0
"""Seconds that pass before another run's lock is spoken of."""
log = logging.getLogger("benchmark")


def parts_of(job: Job, store: RecordStore) -> PartStore:
    """Return where the parts of a cell are kept."""
    task = task_for(job.cell, job.located, job.settings)
    engine = engine_for(job.cell, job.located, job.settings).name
    return PartStore(store, job.cell, identity_of(task, job.cell), metric_facts(list(job.metrics)), engine)


def looked_up(job: Job, store: RecordStore) -> tuple[Job, Record | None, Outcome | None]:
    """Return a cell as it has to be computed, its record of before, and its outcome where that will do."""
    record, damage = stored_record(store, job.cell)
    if damage:
        job = replace(job, why=f"{damage}; set aside as {store.set_aside(store.folder(job.cell))}")
    if record is not None and job.settings.overwrite != "always":
        judged = compare(record, job, task_for(job.cell, job.located, job.settings))
        if isinstance(judged, Outcome):
            return job, record, judged
        job = judged
    return job, record, None


def keep(job: Job, store: RecordStore, before: Record | None, record: Record, shown: list[dict[str, Any]]) -> Outcome:
    """Store the record of a cell, and return what became of it."""
    if record.status == "failed" and before is not None and _still_holds(before, record):
        reason = f"{record.reason}; the record of before is kept, since nothing that it follows from has changed"
        return Outcome(job.cell, job.choice.label, "failed", reason, record.n_total, record.n_total)
    try:
        store.write(record, shown)
    except (ValueError, TypeError, RecordError) as error:  # it holds what no record can
        record = failed_record(record, unstorable(error))
        store.write(record)
    done = record.status == "done"
    if done:
        store.remove_parts(job.cell)
    reason = "; ".join(filter(None, [job.why if done else "", record.reason]))
    return Outcome(job.cell, job.choice.label, "computed" if done else record.status, reason, record.n_failed,
                   record.n_total)  # fmt: skip


def _still_holds(before: Record, now: Record) -> bool:
    """Tell whether a finished record follows from what a failure of now followed from: the failure is of the moment."""
    return before.status == "done" and stale(before, now.identity, {}) is None


@contextmanager
def locked_cell(store: RecordStore, cell: Cell) -> Iterator[None]:
    """Hold the lock of a cell; say so where another run holds it for long."""
    lock = store.lock(cell)
    try:
        lock.acquire(timeout=WAIT)
    except Timeout:
        log.warning(f"{cell.label}: waiting for another run that computes it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
