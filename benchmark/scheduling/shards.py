"""Cuts cells into shards: ranges of samples that are computed, kept and resumed on their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmark.core.types import Task
from benchmark.engines.timing import seconds_of
from benchmark.running.jobs import Job
from benchmark.scoring.evaluator import samples_at_once

SECONDS = 120.0
"""What a shard takes where nobody says how many samples it has, about."""
EXPLAINING = 1000
"""Rows of the model that an explanation is taken to cost: what the dearest of common methods ask by default."""


@dataclass(frozen=True)
class Shard:
    """Some samples of a cell.

    Attributes:
        job: the cell, with all that is needed to compute it.
        rows: the samples, by number.
        whole: whether these are all of the cell and its record is stored at once, without a part.
    """

    job: Job
    rows: range
    whole: bool

    @property
    def share(self) -> float:
        """Return the share of the cell's samples that these are, in (0, 1]."""
        return len(self.rows) / self.job.samples

    @property
    def label(self) -> str:
        """Return the shard in words."""
        first, last = self.rows.start + 1, self.rows.stop
        return self.job.cell.label + ("" if self.whole else f", samples {first} to {last}")


def shards_of(job: Job, size: int, done: list[range]) -> list[Shard]:
    """Return a cell's shards.

    Args:
        job: the cell.
        size: samples of a shard, see `shard_size`.
        done: samples that are not needed any more.
    """
    if not done and size >= job.samples:
        return [Shard(job, range(job.samples), whole=True)]
    return [Shard(job, rows, whole=False) for gap in _gaps(done, job.samples) for rows in _cut(gap, size)]


def _gaps(done: list[range], samples: int) -> Iterator[range]:
    """Yield the samples that are in none of some ranges, which are in their order."""
    start = 0
    for rows in [*done, range(samples, samples)]:
        if rows.start > start:
            yield range(start, rows.start)
        start = rows.stop


def _cut(rows: range, size: int) -> Iterator[range]:
    """Yield ranges of `size` samples; the last may have fewer."""
    for start in range(rows.start, rows.stop, size):
        yield range(start, min(start + size, rows.stop))


def shard_size(task: Task, asked: int | None) -> int:
    """Return the samples of a shard: whole batches of the evaluator, so that the bytes of a record follow from no cut.

    Args:
        task: what is explained.
        asked: what the user wants, which is rounded up; None for what takes about `SECONDS`.
    """
    batch = samples_at_once(task)
    if asked is None:
        asked = max(1, int(SECONDS / seconds_a_sample(task)))
        return max(1, asked // batch) * batch
    return -(-asked // batch) * batch


def seconds_a_sample(task: Task) -> float:
    """Return what one sample of a cell takes the model in seconds, about: its forward, times rows.

    Of a model that cannot answer it is next to nothing.
    """
    budget = task.budget
    rows = 2 + 2 * budget.subsets + 3 * min(budget.steps, task.n_features) + EXPLAINING
    some = task.train.x[:8]
    try:
        return seconds_of(task.model, some, 2) / len(some) * rows
    except Exception:  # the evaluator says what is wrong with a model, in words
        return 1e-9
