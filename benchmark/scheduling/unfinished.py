"""A cell that shards of are computed: which are left, and its record when none is."""

from __future__ import annotations

from typing import Any

from benchmark.core.errors import few
from benchmark.records.record import Record
from benchmark.records.store import RecordStore
from benchmark.running.jobs import Job, Outcome
from benchmark.running.record_making import record_of
from benchmark.scheduling.shards import Shard, shards_of
from benchmark.scheduling.storing import keep, locked_cell, looked_up, parts_of

Result = Outcome | Record | None
"""What became of a shard: the outcome of its cell where it is whole or its process died, the failed record that it, or
another shard of its cell before it, ends the cell with, or None."""


class Unfinished:
    """A cell that shards of are computed."""

    def __init__(self, job: Job, store: RecordStore) -> None:
        self.job, self.store = job, store
        self.parts = parts_of(job, store)
        self.left = 0
        self.failed: Result = None
        if job.settings.overwrite == "always":
            self.parts.remove()

    @property
    def hopeless(self) -> Record | None:
        """Return the failed record that the cell will end with, so that no other shard of it need be begun.

        The death of a process is none: the next run tries that shard again, and is spared the others.
        """
        return self.failed if isinstance(self.failed, Record) else None

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
        with locked_cell(store, job.cell):
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
