"""Writes a result's records into a folder that may hold others, none of which is lost without a word."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pandas as pd

from benchmark.core.errors import RecordError, UsageError
from benchmark.records.record import Record
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
        UsageError: such a record is there, or one that cannot be read, and may not be replaced.
    """
    with ExitStack() as locks:
        for record in sorted(records, key=lambda record: str(store.folder(record.cell))):  # as every other process does
            locks.enter_context(store.lock(record.cell))
        whole = list(records) if overwrite else [_completed(store, record) for record in records]
        for at, record in enumerate(whole):
            store.write(record, examples[at] if at < len(examples) else None)


def _completed(store: RecordStore, record: Record) -> Record:
    """Return a record with the metrics of the one in its place, if that is of the same.

    Raises:
        UsageError: it is of something else.
    """
    folder = store.folder(record.cell)
    if stored(folder) is None:
        return record
    remedy = "save to another folder, under another label or task name, or with overwrite=True (--overwrite always)"
    try:
        before = store.read(folder)
    except RecordError as error:
        raise UsageError(f"a record of {record.label!r} is there that cannot be read, {error}: {remedy}") from error
    if before.status != "done":
        return record
    if (what := _difference(before, record)) is not None:
        raise UsageError(
            f"{str(store.root)!r} holds a record of {record.label!r} on {record.cell.task!r} of {what}: {remedy}"
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
    same = set(before.scores["sample"]) == set(record.scores["sample"])
    return None if same else "other samples"
