"""Runs planned cells: keeps valid records, computes the rest in one or several processes, stores each at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from filelock import Timeout

from benchmark.core.errors import RecordError, few
from benchmark.core.files import locked
from benchmark.core.types import METHODS
from benchmark.processes.workers import Workers
from benchmark.records.record import Cell, Record, stale
from benchmark.records.store import RecordStore
from benchmark.running.built import engine_for, evaluator_for, task_for
from benchmark.running.jobs import Job, Outcome, compare, identity_of, pending, stored_record, with_engine
from benchmark.running.parts import PartStore, content_of
from benchmark.running.plan import PlannedTask, metric_facts
from benchmark.running.record_making import failed_record, make_part, record_of, unstorable
from benchmark.running.settings import Settings, prepare_process, prepare_worker
from benchmark.scheduling.cluster import Cluster
from benchmark.scheduling.shards import Shard, shard_size, shards_of

WAIT = 5.0
"""Seconds that pass before another run's lock is spoken of."""
log = logging.getLogger("benchmark")


@dataclass(frozen=True)
class Step:
    """Some of a task's work, done.

    Attributes:
        share: of a cell's samples, in (0, 1].
        outcome: of the cell, where that was the last of it.
        progress: in words, where more is to be said than that.
    """

    share: float
    outcome: Outcome | None = None
    progress: str = ""


Result = Outcome | Record | None
"""What became of a shard: the outcome of its cell where it is whole or its process died, the failed record that it ends
the cell with, or None."""


def run_task(plan: PlannedTask, store: RecordStore, settings: Settings, pool: Workers | Cluster) -> Iterator[Step]:
    """Yield what is done of a task, as it is known.

    Args:
        plan: its cells.
        store: of their records.
        settings: of the run.
        pool: what works on several shards at once.

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
            yield Step(1.0, item)
    if not jobs:
        return
    assert task is not None
    jobs.sort(key=lambda job: METHODS.entry(job.choice.name).facts.get("kind") != "learned")  # what trains starts first
    cells = {job.cell.key: _Unfinished(job, store) for job in jobs}
    size = shard_size(task, settings.shard_size)
    elsewhere = isinstance(pool, Cluster)
    shards = [replace(s, whole=s.whole and not elsewhere) for cell in cells.values() for s in cell.cut(size)]
    for cell in cells.values():
        if cell.finished:  # killed between its last part and its record
            yield Step(1.0, cell.end())
    if not shards:
        return
    parts = {key: cell.parts for key, cell in cells.items()}
    computed = pool.compute(shards, parts) if isinstance(pool, Cluster) else _compute(shards, pool)
    for shard, result in computed:
        outcome = cells[shard.job.cell.key].add(shard, result)
        yield Step(shard.share, outcome, str(pool.progress) if isinstance(pool, Cluster) else "")


def _compute(shards: list[Shard], pool: Workers) -> Iterator[tuple[Shard, Result]]:
    """Compute shards in this process or in several."""
    settings = shards[0].job.settings
    if (first := shards[0]).whole:  # shared queries, before any worker starts
        evaluator_for(first.job.cell, first.job.located, first.job.metrics, settings)
    workers = min(settings.jobs or 1, len(shards))
    log.info(f"{first.job.cell.task}: {len(shards)} shards, {workers} at once")
    if workers == 1:
        for shard in shards:
            yield shard, work(shard)
        return
    named = [replace(shard, job=with_engine(shard.job)) for shard in shards]  # all choose as this process did
    yield from pool.each(_work_elsewhere, named, workers, _died)


def _work_elsewhere(shard: Shard) -> tuple[Shard, Result]:
    """Work on one shard in a worker process."""
    prepare_worker(shard.job.settings)
    return shard, work(shard)


def _died(shard: Shard, how: str) -> tuple[Shard, Outcome]:
    """Return what becomes of a cell whose process died: no record says anything of it, so the next run computes it."""
    job = shard.job
    reason = f"its worker process {how}; run again to try it again"
    return shard, Outcome(job.cell, job.choice.label, "failed", reason)


def work(shard: Shard) -> Result:
    """Compute a shard and store what it gave, unless another run has done so meanwhile."""
    return work_on_cell(shard.job) if shard.whole else work_on_part(shard)


def work_on_part(shard: Shard) -> Record | None:
    """Compute some samples of a cell and keep them."""
    job = shard.job
    parts = parts_of(job, RecordStore(job.settings.root))
    with locked(parts.path(shard.rows)):
        if parts.read(shard.rows) is not None:
            return None
        part = make_part(job, shard.rows)
        if part.evaluation is None:
            return part.record
        try:
            parts.write(shard.rows, content_of(part, parts.name(shard.rows)))
        except (ValueError, TypeError, RecordError) as error:
            return failed_record(part.record, unstorable(error))
    return None


def parts_of(job: Job, store: RecordStore) -> PartStore:
    """Return where the parts of a cell are kept."""
    task = task_for(job.cell, job.located, job.settings)
    engine = engine_for(job.cell, job.located, job.settings).name
    return PartStore(store, job.cell, identity_of(task, job.cell), metric_facts(list(job.metrics)), engine)


class _Unfinished:
    """A cell that shards of are computed."""

    def __init__(self, job: Job, store: RecordStore) -> None:
        self.job, self.store = job, store
        self.parts = parts_of(job, store)
        self.left = 0
        self.failed: Result = None
        if job.settings.overwrite == "always":
            self.parts.remove()

    @property
    def finished(self) -> bool:
        """Tell whether no shard is left."""
        return self.left == 0

    def cut(self, size: int) -> list[Shard]:
        """Return the shards that are not there yet."""
        shards = shards_of(self.job, size, self.parts.stored())
        self.left = len(shards)
        return shards

    def add(self, shard: Shard, result: Result) -> Outcome | None:
        """Take what became of a shard, and return the outcome of the cell where that was the last."""
        self.left -= 1
        if shard.whole:
            assert isinstance(result, Outcome)
            return result
        self.failed = self.failed or result
        return self.end() if self.finished else None

    def end(self) -> Outcome:
        """Store the record of a cell all of whose shards were computed."""
        if isinstance(self.failed, Outcome):
            return self.failed
        job, store = self.job, self.store
        with _locked(store, job.cell):
            job, before, judged = looked_up(job, store)
            if judged is not None:
                self.parts.remove()
                return judged
            if more := [name for name in job.metrics if name not in self.job.metrics]:
                reason = f"another run has stored {few(more)} of it meanwhile; run again to compute all of them"
                return Outcome(job.cell, job.choice.label, "failed", reason)
            record, shown = (self.failed, []) if self.failed is not None else self._joined()
            if record is None:
                reason = "parts of it were damaged, or another run removed them; run again to compute them again"
                return Outcome(job.cell, job.choice.label, "failed", reason)
            outcome = keep(job, store, before, record, shown)
            if outcome.state == "computed":
                self.parts.remove()
            return outcome

    def _joined(self) -> tuple[Record | None, list[dict[str, Any]]]:
        """Return the record of all parts and its examples; None where they are not all there."""
        found = self.parts.stored()
        parts = [part for part in map(self.parts.read, found) if part is not None]
        if len(parts) < len(found) or sum(map(len, found)) < self.job.samples:
            return None, []
        return record_of(parts)


def work_on_cell(job: Job) -> Outcome:
    """Evaluate one cell and store its record, unless another run has done so meanwhile."""
    store = RecordStore(job.settings.root)
    with _locked(store, job.cell):
        job, before, judged = looked_up(job, store)
        return judged or keep(job, store, before, *record_of([make_part(job)]))


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
