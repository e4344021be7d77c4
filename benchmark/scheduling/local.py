"""Computes shards in this process or in several of this machine, each of which stores what it computes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Self

from benchmark.core.errors import RecordError
from benchmark.core.files import locked
from benchmark.processes.workers import Workers
from benchmark.records.record import Record
from benchmark.records.store import RecordStore
from benchmark.running.built import evaluator_for
from benchmark.running.jobs import Job, Outcome, with_engine
from benchmark.running.parts import content_of
from benchmark.running.record_making import failed_record, make_part, record_of, unstorable
from benchmark.running.settings import prepare_worker
from benchmark.scheduling.shards import Shard
from benchmark.scheduling.storing import keep, locked_cell, looked_up, parts_of
from benchmark.scheduling.unfinished import Result, Unfinished

log = logging.getLogger("benchmark")


class Local:
    """This process and its worker processes, for the length of a `with` block; see `Workers` for the arguments."""

    stores = True
    progress: object = ""

    def __init__(self, gpus: Sequence[str] = ()) -> None:
        self._workers = Workers(gpus)

    def __enter__(self) -> Self:
        self._workers.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._workers.__exit__(*error)

    def compute(self, shards: Sequence[Shard], cells: Mapping[str, Unfinished]) -> Iterator[tuple[Shard, Result]]:
        """Compute shards of one task; see `Pool`."""
        first, settings = shards[0], shards[0].job.settings
        if first.whole:  # shared queries, before any worker starts
            evaluator_for(first.job.cell, first.job.located, first.job.metrics, settings)
        workers = min(settings.jobs or 1, len(shards))
        log.info(f"{first.job.cell.task}: {len(shards)} shard{'s' if len(shards) > 1 else ''}, {workers} at once")

        if workers == 1:
            for shard in shards:
                yield shard, cells[shard.job.cell.key].hopeless or work(shard)
            return
        given_up: list[Shard] = []

        def wanted() -> Iterator[Shard]:
            for shard in shards:
                if cells[shard.job.cell.key].hopeless is None:
                    yield replace(shard, job=with_engine(shard.job))  # all choose as this process did
                else:
                    given_up.append(shard)

        def ended() -> Iterator[tuple[Shard, Result]]:
            while given_up:
                shard = given_up.pop()
                yield shard, cells[shard.job.cell.key].hopeless

        for result in self._workers.each(_work_elsewhere, wanted(), workers, _died):
            yield result
            yield from ended()
        yield from ended()


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


def work_on_cell(job: Job) -> Outcome:
    """Evaluate one cell and store its record, unless another run has done so meanwhile."""
    store = RecordStore(job.settings.root)
    with locked_cell(store, job.cell):
        job, before, judged = looked_up(job, store)
        return judged or keep(job, store, before, *record_of([make_part(job)]))
