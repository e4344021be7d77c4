"""Writes a result's records into a folder that may hold others, none of which is lost without a word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pandas as pd

from benchmark.core.errors import RecordError, UsageError
from benchmark.records.record import Record, same_metric
from benchmark.records.store import RecordStore, stored

DIFFERENT = {
    "model": "another model",  # first: where no labels were given, those are the model's
    "data": "other data or labels",
    "task": "another budget, target or removal",
    "code": "other attributions or other code",
    "distribution": "another version of the method",
    "attributions": "other attributions",
}
"""What another record of the same label may be of, by the part of the identity that differs."""
REMEDY = "save to another folder, under another label or task name, or with overwrite=True (--overwrite always)"


def write_records(
    store: RecordStore, records: Sequence[Record], examples: Sequence[list[dict[str, Any]]], overwrite: bool
) -> None:
    """Write records, all or none; those of the same attributions that are there keep the metrics that these lack.

    Args:
        store: the folder.
        records: of which no two are of one cell.
        examples: samples to keep beside each; may be fewer.
        overwrite: whether records of the same labels that are of something else are replaced.

    Raises:
        UsageError: such a record is there, one that cannot be read, another method under the same label, or the same
            method under another, and may not be replaced.
    """
    with ExitStack() as locks:
        for record in sorted(records, key=lambda record: str(store.folder(record.cell))):  # as every other process does
            locks.enter_context(store.lock(record.cell))
        rivals = [rival for record in records for rival in _rivals(store, record)]
        if rivals and not overwrite:
            before, record = rivals[0]
            raise UsageError(
                f"{str(store.root)!r} holds a record of {before.cell.method} under {before.label!r} on "
                f"{record.cell.task!r}, and this is one of {record.cell.method} under {record.label!r}, where a label "
                f"means one method with its parameters: {REMEDY}"
            )
        whole = [_completed(store, record, overwrite) for record in records]
        for before, _ in rivals:
            folder = store.folder(before.cell)
            if folder not in {store.folder(record.cell) for record in records}:
                store.forget(folder, stored(folder))
        for at, record in enumerate(whole):
            store.write(record, examples[at] if at < len(examples) else None)


def _rivals(store: RecordStore, record: Record) -> Iterator[tuple[Record, Record]]:
    """Yield records that are there of another method under this label, or of this one under another, each with this."""
    found, _ = store.scan(record.cell.source, record.cell.task)
    for before in found:
        same_label = before.label == record.label
        same_method = (before.cell.method, before.cell.params) == (record.cell.method, record.cell.params)
        if before.status == "done" and before.cell.limit == record.cell.limit and same_label != same_method:
            yield before, record


def _completed(store: RecordStore, record: Record, overwrite: bool) -> Record:
    """Return a record with the metrics of the one in its place, if that is of the same, or may be replaced.

    Raises:
        UsageError: it is of something else.
    """
    folder = store.folder(record.cell)
    if stored(folder) is None:
        return record
    try:
        before = store.read(folder)
    except RecordError as error:
        if overwrite:
            return record
        raise UsageError(f"a record of {record.label!r} is there that cannot be read, {error}: {REMEDY}") from error
    if before.status != "done":
        return record
    if (what := _difference(before, record)) is not None:
        if overwrite:
            return record
        raise UsageError(
            f"{str(store.root)!r} holds a record of {record.label!r} on {record.cell.task!r} of {what}: {REMEDY}"
        )
    kept = {name: facts for name, facts in before.metrics.items() if name not in record.metrics}
    if not kept:
        return record
    scores = pd.concat([before.scores[before.scores["metric"].isin(list(kept))], record.scores], ignore_index=True)
    return replace(record, metrics=kept | record.metrics, scores=scores)


def _difference(before: Record, record: Record) -> str | None:
    """Return what a finished record is of that another is not, or None where they are of the same."""
    for part, what in DIFFERENT.items():
        if before.identity.get(part) != record.identity.get(part):
            return what
    if record.status != "done":
        return "scores, where this one failed"
    for name in sorted(before.metrics.keys() & record.metrics.keys()):
        if not same_metric(before.metrics[name], record.metrics[name]):
            return f"another version of {name}"
    same = set(before.scores["sample"]) == set(record.scores["sample"])
    return None if same else "other samples"
