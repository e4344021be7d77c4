"""Puts scores of others beside a board of ours: columns of their own, marked, and in no rank or mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.bridges.scores import Scores
from benchmark.core.errors import UsageError, few
from leaderboards.board import Board, kind_of
from leaderboards.tables import TextTable, number, table_of

ARROWS = {"higher": "↑", "lower": "↓"}


def beside(board: Board | Any, *theirs: Scores) -> TextTable:
    """Return a board of ours with the scores of others beside it.

    A method is found by its label. One that only others scored has a row of its own at the end, with dashes where ours
    stand: it has no rank.

    Args:
        board: a board, or what has one (`board`), as a ranking and a result.
        theirs: scores of others, each of one source.

    Returns:
        A table that prints itself; `leaderboards.tables.write` makes Markdown and LaTeX of it.

    Raises:
        UsageError: nothing or something else is given, or two are of one source and metric.
    """
    ours = _board(board)
    table, extra = table_of(ours), only_theirs(ours, *theirs)
    dashes = ["–"] * (len(table.header) - 1)
    rows = [*table.rows, *([row[0], *dashes] for row in extra.rows[len(table.rows) :])]
    return TextTable(
        table.heading,
        [*table.header, *extra.header[1:]],
        [[*row, *more[1:]] for row, more in zip(rows, extra.rows, strict=True)],
        [*table.lines, *extra.lines],
    )


def _board(given: Any) -> Board:
    """Return a board, or that of a ranking or a result."""
    found = given if isinstance(given, Board) else getattr(given, "board", None)
    found = found() if callable(found) else found
    if not isinstance(found, Board):
        raise UsageError(f"expected a board, a ranking or a result, got {type(given).__name__}")
    return found


def only_theirs(board: Board, *theirs: Scores) -> TextTable:
    """Return the mean scores of others for the methods of a board, then for those that only others scored.

    Raises:
        UsageError: see `beside`.
    """
    if not theirs:
        raise UsageError("expected scores of others to put beside the board, got none")
    if wrong := [each for each in theirs if not isinstance(each, Scores)]:
        came = type(wrong[0]).__name__
        raise UsageError(f"expected scores of others to put beside the board, such as from_quantus makes, got {came}")
    columns: dict[str, dict[str, float]] = {}
    for scores in theirs:
        for metric, means in scores.means().items():
            name = f"{metric}{ARROWS.get(scores.better.get(metric, ''), '')} [{scores.source}]"
            if name in columns:
                raise UsageError(f"two of the given hold {metric} by {scores.source}: keep one")
            columns[name] = means
    labels = [row.method for row in board.rows]
    named = {label: label for label in labels}
    for method in (method for scores in theirs for method in scores.methods):
        named.setdefault(method, f"{method} (not scored here)")
    rows = [[text, *(number(means.get(key), 3) for means in columns.values())] for key, text in named.items()]
    lines = [f"[{scores.source}]: {scores.about()}." for scores in theirs]
    lines.append(
        "Columns in brackets are theirs, as they computed them: no rank, interval or mean of this board counts them."
    )
    return TextTable(f"Scores by others on {board.task}", ["method", *columns], rows, lines)


def board_of(boards: Sequence[Board], paths: Sequence[Path]) -> tuple[Board, list[Scores]]:
    """Return the one board that files of scores are put beside, and the scores.

    Raises:
        UsageError: there are several boards, and the files do not say which they are of.
        DataError: a file holds something else.
    """
    if len({kind_of(board) for board in boards}) != 1:
        names = few([f"{board.task} ({board.source})" for board in boards])
        raise UsageError(f"--beside expects one board, got {len(boards)} ({names}): choose with --task and --source")
    return boards[0], [Scores.load(path) for path in paths]
