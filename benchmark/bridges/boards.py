"""Puts scores of others beside a board of ours: columns of their own, marked, and in no rank or mean."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import UsageError
from leaderboards.board import Board
from leaderboards.tables import TextTable, number, table_of

if TYPE_CHECKING:
    from benchmark.bridges.scores import Scores

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
        UsageError: nothing is given, or two are of one source and metric.
    """
    ours: Board = board if isinstance(board, Board) else board.board
    if not theirs:
        raise UsageError("expected scores of others to put beside the board, got none")
    table = table_of(ours)
    columns: dict[str, dict[str, float]] = {}
    for scores in theirs:
        for metric, means in scores.means().items():
            name = f"{metric}{ARROWS.get(scores.better.get(metric, ''), '')} [{scores.source}]"
            if name in columns:
                raise UsageError(f"two of the given hold {metric} by {scores.source}: keep one")
            columns[name] = means
    labels = [row.method for row in ours.rows]
    more = [method for method in dict.fromkeys(m for scores in theirs for m in scores.methods) if method not in labels]
    rows = [*table.rows, *([f"{method} (not scored here)", *["–"] * (len(table.header) - 1)] for method in more)]
    nan = float("nan")
    rows = [
        [*row, *(number(means.get(method, nan), 3) for means in columns.values())]
        for row, method in zip(rows, [*labels, *more], strict=True)
    ]
    lines = [*table.lines, *(f"[{scores.source}]: {scores.about()}." for scores in theirs)]
    lines.append(
        "Columns in brackets are theirs, as they computed them: no rank, interval or mean of this board counts them."
    )
    return replace(table, header=[*table.header, *columns], rows=rows, lines=lines)
