"""Runs planned cells: keeps valid records, computes the rest in one or several processes, stores each at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from filelock import Timeout

from benchmark.core.errors import RecordError
from benchmark.core.types import METHODS
from benchmark.processes.workers import Workers
from benchmark.records.record import Cell, Record, stale
from benchmark.records.store import RecordStore
from benchmark.running.built import evaluator_for, task_for
from benchmark.running.jobs import Job, Outcome, compare, pending, stored_record
from benchmark.running.plan import PlannedTask
from benchmark.running.record_making import failed_record, make_record
from benchmark.running.settings import Settings, prepare_process, prepare_worker

WAIT = 5.0
"""Seconds that pass before another run's lock is spoken of."""
log = logging.getLogger("benchmark")


def run_task(plan: PlannedTask, store: RecordStore, settings: Settings, pool: Workers) -> Iterator[Outcome]:
    """Yield the outcome of every cell of a task, as each is known; where several are worked on at once, by `pool`.

    Raises:
        DataError: the task cannot be built.
        BenchmarkError: a record cannot be stored.
    """
    settings = settings.settled()
    prepare_process(settings)
    applicable = [item for item in plan.cells if item[0].key not in plan.skips]
    task = None
    if applicable:
        task = task_for(applicable[0][0], plan.located, settings)
        plan = plan.bound(len(task.test.x))
    jobs: list[Job] = []
    for item in pending(plan, store, settings, task):
        if isinstance(item, Job):
            jobs.append(item)
        else:
            yield item
    if not jobs:
        return
    jobs.sort(key=lambda job: METHODS.entry(job.choice.name).facts.get("kind") != "learned")  # what trains starts first
    first = jobs[0]
    evaluator_for(first.cell, first.located, first.metrics, settings)  # shared queries, before any worker starts
    workers = min(settings.jobs or 1, len(jobs))
    if workers == 1:
        for job in jobs:
            yield work(job)
        return
    yield from pool.each(_work_elsewhere, jobs, workers, _died)


def _work_elsewhere(job: Job) -> Outcome:
    """Work on one cell in a worker process."""
    prepare_worker(job.settings)
    return work(job)


def _died(job: Job, how: str) -> Outcome:
    """Return what becomes of a cell whose process died: no record says anything of it, so the next run computes it."""
    return Outcome(job.cell, job.choice.label, "failed", f"its worker process {how}; run again to try it again")


def work(job: Job) -> Outcome:
    """Evaluate one cell and store its record, unless another run has done so meanwhile."""
    store = RecordStore(job.settings.root)
    with _locked(store, job.cell):
        record, damage = stored_record(store, job.cell)
        if damage:
            job = replace(job, why=f"{damage}; set aside as {store.set_aside(store.folder(job.cell))}")
        if record is not None and job.settings.overwrite != "always":
            judged = compare(record, job, task_for(job.cell, job.located, job.settings))
            if isinstance(judged, Outcome):
                return judged
            job = judged
        before = record
        record, shown = make_record(job)
        if record.status == "failed" and before is not None and _still_holds(before, record):
            reason = f"{record.reason}; the record of before is kept, since nothing that it follows from has changed"
            return Outcome(job.cell, job.choice.label, "failed", reason, record.n_total, record.n_total)
        try:
            store.write(record, shown)
        except (ValueError, TypeError, RecordError) as error:  # it holds what no record can
            record = failed_record(record, f"the result cannot be stored: {type(error).__name__}: {error}")
            store.write(record)
    done = record.status == "done"
    reason = "; ".join(filter(None, [job.why if done else "", record.reason]))
    return Outcome(job.cell, job.choice.label, "computed" if done else record.status, reason, record.n_failed,
                   record.n_total)  # fmt: skip


def _still_holds(before: Record, now: Record) -> bool:
    """Tell whether a finished record follows from what a failure of now followed from: the failure is of the moment."""
    return before.status == "done" and stale(before, now.identity, {}) is None


@contextmanager
def _locked(store: RecordStore, cell: Cell) -> Iterator[None]:
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
