"""Boards over several tasks: the mean of mean ranks, for methods that are on all of them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from benchmark.core.errors import BenchmarkError
from benchmark.records.record import Record
from benchmark.scoring.metrics import PAPER
from leaderboards.board import Board
from leaderboards.bootstrap import DRAWS, across_tasks, chance_to_be_best, groups
from leaderboards.rank import Ranking
from leaderboards.significance import Pair, critical_difference, friedman, one_against_each
from leaderboards.tables import RANKS, TextTable, between, number, percent

NOT_APPLICABLE, MISSING, FAILED = "N/A", "missing", "failed"
TAIL = 0.025
DEFAULT = "deepfaith"
"""What is tested against each other method where nothing else is named."""


@dataclass(frozen=True)
class OverallRow:
    """One method over several tasks.

    Attributes:
        method: its label.
        kind: baseline, control, oracle or learned.
        cells: its mean rank by task, or why there is none: N/A, missing or failed.
        mean_rank: over all tasks; NaN where the method is not on every task.
        low: 2.5 % of the mean ranks on resampled tasks and samples lie under it.
        high: 2.5 % of them lie over it.
        best: share of resamples in which the method leads, 0 to 1.
        group: methods with one number cannot be told apart from the first of them; 0 where it is not on every task.
    """

    method: str
    kind: str
    cells: dict[str, float | str]
    mean_rank: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    best: float = float("nan")
    group: int = 0


@dataclass(frozen=True)
class Overall:
    """Methods over several tasks.

    Attributes:
        source: real or synthetic.
        tasks: their names, sorted.
        rows: the methods from the best to the worst, then those that are not on all tasks.
        tests: what tests of the differences say, in sentences.
        pairs: one method against each other, where that can be tested.
        critical: Nemenyi's critical difference of mean ranks; NaN with fewer than two methods.
        group: of the metrics that methods are ranked in.
        cost_class: what methods were tuned for, in words; empty where they stand as they were run.
    """

    source: str
    tasks: tuple[str, ...]
    rows: tuple[OverallRow, ...]
    tests: tuple[str, ...]
    pairs: tuple[Pair, ...]
    critical: float
    group: str = PAPER
    cost_class: str = ""


def overalls(rankings: Iterable[Ranking], tested: str | None = None) -> list[Overall]:
    """Return an overall board for each kind of rankings that has several tasks; see `overall` for `tested`.

    A task of fewer test samples than a limit stands with those that are limited, too: all of its samples were taken.
    """
    kinds: dict[tuple[str, ...], dict[int | None, dict[str, Ranking]]] = defaultdict(lambda: defaultdict(dict))
    for ranking in rankings:
        if not ranking.scores.metrics and ranking.board.group != PAPER:
            continue  # the metrics of this group are not for this task
        kinds[_kind(ranking)][ranking.board.limit][ranking.board.task] = ranking
    made = []
    for _, by_limit in sorted(kinds.items()):
        for limit, by_task in sorted(by_limit.items(), key=lambda item: str(item[0])):
            whole = by_limit.get(None, {}) if limit is not None else {}
            fitting = {task: ranking for task, ranking in whole.items() if ranking.board.samples <= (limit or 0)}
            together = fitting | by_task
            made += [overall(list(together.values()), tested)] if len(together) > 1 else []
    return made


def _kind(ranking: Ranking) -> tuple[str, ...]:
    board = ranking.board
    return board.source, board.precision, board.device, board.preset, board.group, _class_of(board)


def _class_of(board: Board) -> str:
    return board.cost_class.title if board.cost_class else ""


def overall(rankings: list[Ranking], tested: str | None = None) -> Overall:
    """Rank methods over several tasks.

    Args:
        rankings: one a task, of one source, precision, device, preset and limit.
        tested: label of the method that is tested against each other; by default deepfaith, if it is among the methods.

    Raises:
        BenchmarkError: fewer than two tasks, or rankings of different kinds.

    Example:
        >>> from leaderboards.overall import overall, table_of
        >>> from leaderboards.tables import write
        >>> print(write(table_of(overall(rankings(records))), "table"))  # doctest: +SKIP
    """
    _check_kinds(rankings)
    by_task = {ranking.board.task: ranking for ranking in sorted(rankings, key=lambda ranking: ranking.board.task)}
    kind = {row.method: row.kind for ranking in by_task.values() for row in ranking.board.rows}
    cells = _cells(by_task)
    everywhere = sorted(label for label, ranks in cells.items() if not any(isinstance(r, str) for r in ranks.values()))
    elsewhere = sorted(set(cells) - set(everywhere))
    observed = np.array([[cells[label][task] for label in everywhere] for task in by_task], float)  # (T, M)
    rows = []
    if everywhere:
        means = observed.mean(0)
        draws = across_tasks([_draws(ranking, everywhere) for ranking in by_task.values()])
        low, high = np.nanquantile(draws, [TAIL, 1 - TAIL], axis=0)
        low, high = np.fmin(low, means), np.fmax(high, means)
        columns = (means, low, high, chance_to_be_best(draws), groups(draws, means))
        for label, mean, least, most, best, group in zip(everywhere, *columns, strict=True):
            rows.append(
                OverallRow(
                    label, kind[label], cells[label], float(mean), float(least), float(most), float(best), int(group)
                )
            )
    rows.sort(key=lambda row: (row.mean_rank, row.method))
    rows += [OverallRow(label, kind.get(label, ""), cells[label]) for label in elsewhere]
    tests, pairs = _tests(observed, everywhere, tested)
    critical = critical_difference(len(everywhere), len(by_task)) if len(everywhere) > 1 else float("nan")
    first = rankings[0].board
    return Overall(first.source, tuple(by_task), tuple(rows), tests, pairs, critical, first.group, _class_of(first))


def _check_kinds(rankings: list[Ranking]) -> None:
    """Make sure that rankings can stand together.

    Raises:
        BenchmarkError: see `overall`.
    """
    boards = [ranking.board for ranking in rankings]
    if not boards:
        raise BenchmarkError("no records: run some first, or choose others")
    if len({board.task for board in boards}) < 2:
        raise BenchmarkError("an overall board needs two tasks at least; choose more with --task")
    limit = next((board.limit for board in boards if board.limit is not None), None)
    kinds = {(*_kind(ranking), str(limit if _all_of(ranking, limit) else ranking.board.limit)) for ranking in rankings}
    if len(kinds) > 1 or len({board.task for board in boards}) < len(boards):
        what = "; ".join(sorted(", ".join(kind) for kind in kinds))
        raise BenchmarkError(
            "records of different source, precision, device, preset, limit or group of metrics have no overall board: "
            f"{what}; choose one kind"
        )


def _all_of(ranking: Ranking, limit: int | None) -> bool:
    """Tell whether a ranking is of all samples of its task, of which there are no more than a limit."""
    return limit is not None and ranking.board.limit is None and ranking.board.samples <= limit


def _cells(by_task: dict[str, Ranking]) -> dict[str, dict[str, float | str]]:
    """Return for each label its mean rank on each task, or why there is none."""
    records = [record for ranking in by_task.values() for record in ranking.records]
    methods = {record.label: record.cell.method for record in records}
    failed = {(record.label, record.cell.task) for record in records if record.status == "failed"}
    ranks = {
        (row.method, task): row.mean_rank
        for task, ranking in by_task.items()
        for row in ranking.board.rows
        if np.isfinite(row.mean_rank)
    }
    applies = applicable(records)

    def cell(label: str, task: str) -> float | str:
        if (label, task) in ranks:
            return ranks[label, task]
        if (label, task) in failed:
            return FAILED
        return MISSING if applies(methods[label], task) else NOT_APPLICABLE

    return {label: {task: cell(label, task) for task in by_task} for label in methods}


def applicable(records: Iterable[Record]) -> Callable[[str, str], bool]:
    """Return what tells from records alone whether a method explains a task's kind of data; what is unknown may."""
    explains: dict[str, set[str]] = {}
    modality: dict[str, str] = {}
    for record in records:
        explains.setdefault(record.cell.method, set()).update(record.explains)
        modality[record.cell.task] = record.facts.get("modality", "")

    def applies(method: str, task: str) -> bool:
        return not explains.get(method) or task not in modality or modality[task] in explains[method]

    return applies


def _draws(ranking: Ranking, methods: list[str]) -> np.ndarray:
    """Return resampled mean ranks (draws, M) of methods in the given order."""
    if ranking.uncertainty is None:
        ranks = {row.method: row.mean_rank for row in ranking.board.rows}
        return np.tile([ranks[method] for method in methods], (DRAWS, 1))
    return ranking.uncertainty.ranks[:, [ranking.scores.methods.index(method) for method in methods]]


def _tests(observed: np.ndarray, methods: list[str], tested: str | None) -> tuple[tuple[str, ...], tuple[Pair, ...]]:
    """Return what tests of mean ranks (T, M) say, in sentences, and the pairs tested."""
    omnibus = friedman(observed)
    if isinstance(omnibus, str):
        sentence = omnibus
    else:
        statistic, p = omnibus
        sentence = (
            f"Friedman's test over {len(observed)} tasks and {len(methods)} methods: chi2 {statistic:.2f}, p {p:.2g}"
        )
    if tested is None and DEFAULT not in methods:
        return (sentence,), ()
    tested = tested or DEFAULT
    pairs = one_against_each(observed, methods, tested)
    if isinstance(pairs, str):
        return (sentence, f"{tested} against each: {pairs}"), ()
    sentences = [
        f"{tested} against {pair.other}: p {pair.p:.2g} after Holm, effect {pair.effect:+.2f}" for pair in pairs
    ]
    return (sentence, *sentences), tuple(pairs)


def table_of(board: Overall) -> TextTable:
    """Return an overall board as a table."""
    data = "SYNTHETIC stand-in data" if board.source == "synthetic" else "real data"
    rows = [
        [
            row.method + (f" ({row.kind})" if row.kind in ("control", "oracle") else ""),
            number(row.mean_rank, 2),
            between(row.low, row.high),
            percent(row.best),
            str(row.group or "–"),
            *(cell if isinstance(cell, str) else number(cell, 1) for cell in row.cells.values()),
        ]
        for row in board.rows
    ]
    lines = [
        "rank: mean over the tasks of the mean rank on each, for methods that are on all of them; 95 % interval: of "
        "resampled tasks and samples; best, tie: as on the boards of single tasks.",
        "N/A: the method does not explain that kind of data; missing: not run"
        + (", or not tuned for this class" if board.cost_class else "")
        + "; failed: see its board.",
    ]
    if not math.isnan(board.critical):
        lines.append(f"Nemenyi's critical difference of mean ranks over tasks: {board.critical:.1f}")
    group = "" if board.group == PAPER else f" · {board.group} metrics"
    tuned = f" · tuned for {board.cost_class} an explanation" if board.cost_class else ""
    heading = f"{len(board.tasks)} tasks together{group}{tuned} · {data}"
    return TextTable(heading, header(board), rows, [*lines, *board.tests])


def header(board: Overall) -> list[str]:
    """Return the columns of an overall board."""
    return [*RANKS, *board.tasks]
