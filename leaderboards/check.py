"""What a published board says and what the records say now."""

from __future__ import annotations

import csv
import io
import math

from benchmark.core.errors import UsageError
from benchmark.scoring.metrics import PAPER

GROUP, CLASS = "metric_group", "cost_class"
TIMES = ("milliseconds", "train_seconds", "break_even")
"""Columns that no second measurement gives again."""
KEY = ("source", "task", "precision", "preset", "device", "limit", GROUP, CLASS, "method")
BEFORE = {GROUP: PAPER, CLASS: ""}
"""What boards of earlier versions are of, which have no such column."""


def differences(published: str, now: str) -> list[str]:
    """Return what differs between a published board in CSV and those of today, one line each.

    Numbers may differ by 1e-9 of their size. Boards and columns of which nothing was published do not matter, nor do
    times, which no second measurement gives again.

    Raises:
        UsageError: what was published is no board: no header, no row, or a row of another width.
    """
    header = _header(published)
    key = tuple(name for name in KEY if name in header)  # boards of earlier versions have fewer columns
    old, new = _rows(published, key), _rows(now, KEY)
    absent = {column: value for column, value in BEFORE.items() if column not in key}
    new = {
        tuple(part for column, part in zip(KEY, name, strict=True) if column not in absent): row
        for name, row in new.items()
        if all(row[column] == value for column, value in absent.items())
    }
    boards = {name[:-1] for name in old}
    new = {name: row for name, row in new.items() if name[:-1] in boards}
    lines = [f"{' '.join(name)}: no longer there" for name in old if name not in new]
    lines += [f"{' '.join(name)}: was not there" for name in new if name not in old]
    for name in [name for name in old if name in new]:
        for column, before in old[name].items():
            after = new[name].get(column, "no such column")
            if column not in TIMES and not _same(before, after):
                lines.append(f"{' '.join(name)}: {column} was {before or 'empty'}, is {after or 'empty'}")
    return lines


def class_of(published: str) -> str:
    """Return the class of costs of a published board in CSV; empty where it is of none."""
    rows = csv.DictReader(io.StringIO(published))
    return next((row.get(CLASS) or "" for row in rows), "")


def _header(text: str) -> list[str]:
    return next(csv.reader(io.StringIO(text)), [])


def _rows(text: str, key: tuple[str, ...]) -> dict[tuple[str, ...], dict[str, str]]:
    """Return the rows of a board in CSV by the columns that tell them apart."""
    lines = list(csv.reader(io.StringIO(text)))
    header = _header(text)
    if not {"source", "task", "method", "mean_rank"} <= set(header) or len(set(header)) < len(header):
        raise UsageError("--check expects a board made with --format csv: its header is not that of a board")
    if len(lines) < 2:
        raise UsageError("--check expects a board made with --format csv: it has no row")
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(header):
            raise UsageError(f"--check: line {number} of the board has {len(line)} cells, expected {len(header)}")
        row = dict(zip(header, line, strict=True))
        name = tuple(row[column] for column in key)
        if name in rows:
            raise UsageError(f"--check: line {number} of the board is there twice: {' '.join(name)}")
        rows[name] = row
    return rows


def _same(before: str, after: str) -> bool:
    if before == after:
        return True
    try:
        return math.isclose(float(before), float(after), rel_tol=1e-9, abs_tol=1e-12)
    except ValueError:
        return False
