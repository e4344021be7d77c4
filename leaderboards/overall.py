"""Boards over several tasks: the mean of mean ranks, for methods that are on all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmark.core.errors import BenchmarkError
from benchmark.records.record import Record
from leaderboards.bootstrap import RankUncertainty, across_tasks, chance_to_be_best, groups
from leaderboards.rank import Board, applicable, ranked
from leaderboards.selection import told_apart
from leaderboards.significance import Pair, critical_difference, friedman, one_against_each
from leaderboards.tables import TextTable, between, number, percent

NOT_APPLICABLE, MISSING, FAILED = "N/A", "missing", "failed"
TAIL = 0.025
DEFAULT = "deepfaith"
"""What is tested against each other method where nothing else is named."""


@dataclass(frozen=True)
class OverallRow:
    """One method: its mean rank by task, or why there is none (N/A, missing, failed), and over all tasks.

    `mean_rank` is NaN where it is not on every task; `low` to `high` hold 95 % of resampled tasks and samples.
    """

    method: str
    kind: str
    cells: dict[str, float | str]
    mean_rank: float
    low: float
    high: float
    best: float
    group: int


@dataclass(frozen=True)
class Overall:
    """Methods over several tasks, the best first, then those that are not on all. `tests` are sentences."""

    source: str
    tasks: tuple[str, ...]
    rows: tuple[OverallRow, ...]
    tests: tuple[str, ...]
    pairs: tuple[Pair, ...]
    critical: float


def overall(records: list[Record], partial: bool = False, one: str | None = None) -> Overall:
    """Rank methods over the tasks of `records`, which share source, precision, device, preset and limit.

    `one` is tested against each other method: deepfaith by default, where it is there.

    Raises:
        BenchmarkError: fewer than two tasks, or records of different kinds.
    """
    if not records:
        raise BenchmarkError("no records: run some first, or choose others")
    kinds = {(r.cell.source, r.cell.precision, r.cell.device, r.cell.preset, r.cell.limit) for r in records}
    tasks = sorted({record.cell.task for record in records})
    if len(tasks) < 2:
        raise BenchmarkError("an overall board needs two tasks at least; choose more with --task")
    if len(kinds) > 1:
        what = "; ".join(sorted(", ".join(map(str, kind)) for kind in kinds))
        raise BenchmarkError(
            f"records of different source, precision, device, preset or limit have no overall board: {what}; "
            "choose one kind"
        )
    applies = applicable(records)
    records = [named for task in tasks for named in told_apart([r for r in records if r.cell.task == task])]
    found = {task: ranked([r for r in records if r.cell.task == task], partial) for task in tasks}
    names = {record.label: record.cell.method for record in records}
    failed = {(r.label, r.cell.task) for r in records if r.status == "failed"}
    cells = {
        label: {task: _cell(label, name, task, found[task][0], failed, applies) for task in tasks}
        for label, name in names.items()
    }
    whole = sorted(label for label in names if not any(isinstance(cell, str) for cell in cells[label].values()))
    observed = np.array([[cells[label][task] for label in whole] for task in tasks], float)  # (T, M)
    kind = {row.method: row.kind for board, _ in found.values() for row in board.rows}
    rows = []
    if whole:
        means = observed.mean(0)
        draws = across_tasks([_draws(*found[task], whole) for task in tasks])
        low, high = np.nanquantile(draws, [TAIL, 1 - TAIL], axis=0)
        low, high = np.fmin(low, means), np.fmax(high, means)
        best, group = chance_to_be_best(draws), groups(draws, means)
        rows = [
            OverallRow(label, kind[label], cells[label], float(means[i]), float(low[i]), float(high[i]),
                       float(best[i]), int(group[i]))
            for i, label in enumerate(whole)
        ]  # fmt: skip
    nan = float("nan")
    rest = [OverallRow(m, kind.get(m, ""), cells[m], nan, nan, nan, nan, 0) for m in sorted(set(names) - set(whole))]
    rows.sort(key=lambda row: (row.mean_rank, row.method))
    sentences, pairs = _tests(observed, whole, one)
    critical = critical_difference(len(whole), len(tasks)) if len(whole) > 1 else nan
    return Overall(records[0].cell.source, tuple(tasks), (*rows, *rest), sentences, pairs, critical)


def _cell(
    label: str, name: str, task: str, board: Board, failed: set[tuple[str, str]], applies: Callable[[str, str], bool]
) -> float | str:
    row = next((row for row in board.rows if row.method == label), None)
    if row is not None and np.isfinite(row.mean_rank):
        return row.mean_rank
    if (label, task) in failed:
        return FAILED
    return MISSING if applies(name, task) else NOT_APPLICABLE


def _draws(board: Board, sure: RankUncertainty | None, methods: list[str]) -> np.ndarray:
    """Return resampled mean ranks (draws, M) of methods in the given order."""
    place = {method: at for at, method in enumerate(sorted(row.method for row in board.rows))}
    if sure is None:
        ranks = {row.method: row.mean_rank for row in board.rows}
        return np.tile([ranks[m] for m in methods], (1000, 1))
    return sure.ranks[:, [place[m] for m in methods]]


def _tests(observed: np.ndarray, names: list[str], one: str | None) -> tuple[tuple[str, ...], tuple[Pair, ...]]:
    sentences = []
    omnibus = friedman(observed)
    if isinstance(omnibus, str):
        sentences.append(omnibus)
    else:
        sentences.append(
            f"Friedman's test over {len(observed)} tasks and {len(names)} methods: chi2 {omnibus[0]:.2f}, "
            f"p {omnibus[1]:.2g}"
        )
    if one is None and DEFAULT not in names:
        return tuple(sentences), ()
    one = one or DEFAULT
    against = one_against_each(observed, names, one)
    if isinstance(against, str):
        return (*sentences, f"{one} against each: {against}"), ()
    sentences += [
        f"{one} against {pair.other}: p {pair.p:.2g} after Holm, effect {pair.effect:+.2f}" for pair in against
    ]
    return tuple(sentences), tuple(against)


def table_of(found: Overall) -> TextTable:
    """Return an overall board as a table."""
    data = "SYNTHETIC stand-in data" if found.source == "synthetic" else "real data"
    rows = [
        [
            row.method + (f" ({row.kind})" if row.kind in ("control", "oracle") else ""),
            number(row.mean_rank, 2), between(row.low, row.high), percent(row.best), str(row.group or "–"),
            *(cell if isinstance(cell, str) else number(cell, 1) for cell in row.cells.values()),
        ]
        for row in found.rows
    ]  # fmt: skip
    lines = [
        "rank: mean over the tasks of the mean rank on each, for methods that are on all of them; interval: 95 % of "
        "resampled tasks and samples; best, tie: as on the boards of single tasks.",
        "N/A: the method does not explain that kind of data; missing: not run; failed: see its board.",
        *([] if math.isnan(found.critical) else
          [f"Nemenyi's critical difference of mean ranks over tasks: {found.critical:.1f}"]),
        *found.tests,
    ]  # fmt: skip
    heading = f"{len(found.tasks)} tasks together · {data}"
    return TextTable(heading, ["method", "rank", "interval", "best", "tie", *found.tasks], rows, lines)
