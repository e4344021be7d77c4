"""Runs planned cells: keeps valid records, has the rest computed in shards, stores each cell at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from benchmark.core.types import METHODS
from benchmark.records.store import RecordStore
from benchmark.running.built import engine_for, task_for
from benchmark.running.jobs import Job, Outcome, pending
from benchmark.running.plan import PlannedTask
from benchmark.running.settings import Settings, prepare_process
from benchmark.scheduling.shards import Shard, shard_size
from benchmark.scheduling.unfinished import Result, Unfinished

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


class Pool(Protocol):
    """What computes shards: `Local` or `Cluster`.

    Attributes:
        stores: whether who computes the whole of a cell stores its record, too.
        progress: in words, where more is to be said than what is done.
    """

    stores: bool
    progress: object

    def compute(self, shards: Sequence[Shard], cells: Mapping[str, Unfinished]) -> Iterator[tuple[Shard, Result]]:
        """Compute shards of one task, and yield what became of each. Once a cell is hopeless, no more of it is begun.

        Who takes a result tells its cell of it (`Unfinished.add`) before taking the next.

        Args:
            shards: of one task.
            cells: those that the shards are of, by key.
        """
        ...


def run_task(plan: PlannedTask, store: RecordStore, settings: Settings, pool: Pool) -> Iterator[Step]:
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
        first = applicable[0][0]
        task = task_for(first, plan.located, settings)
        log.info(f"{plan.title}: engine {engine_for(first, plan.located, settings).name}")
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
    cells = {job.cell.key: Unfinished(job, store) for job in jobs}
    size = shard_size(task, settings.shard_size)
    if (asked := settings.shard_size) is not None and size > asked:
        log.warning(f"{plan.title}: --shard-size {asked} is rounded up to {size}, what is asked about at once")
    shards = [replace(s, whole=s.whole and pool.stores) for cell in cells.values() for s in cell.cut(size)]
    for cell in cells.values():
        if cell.finished:  # killed between its last part and its record
            yield Step(1.0, cell.end())
    if not shards:
        return
    for shard, result in pool.compute(shards, cells):
        outcome = cells[shard.job.cell.key].add(shard, result)
        yield Step(shard.share, outcome, str(pool.progress))
