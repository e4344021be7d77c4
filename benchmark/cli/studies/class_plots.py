"""Plots of settings that were tuned: of one class of costs, or of all."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmark.cli.arguments import chosen_records
from benchmark.cli.classes import ranked, tuned_on
from benchmark.core.errors import UsageError, few

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from leaderboards.board import Board
    from leaderboards.cost_class import SettingsRanking

log = logging.getLogger("benchmark")
CLASS_PLOTS = ("rows", "tuned")
"""Plots of nothing but tuned settings."""
OF_A_CLASS = ("cost", "intervals", "tuned")
"""Plots that --rows is for."""


def class_plot(arguments: argparse.Namespace) -> Figure:
    """Return a plot of tuned settings: `rows`, `tuned`, or, of a class of costs, `cost` or `intervals`.

    Raises:
        UsageError: --rows is not for this plot, there are no such records, or several boards.
        DataError: nothing was tuned.
        GapError: the board has gaps.
    """
    from leaderboards.figures import cost_figure, intervals_figure

    if arguments.rows and arguments.what not in OF_A_CLASS:
        raise UsageError(f"--rows is for plot {', '.join(OF_A_CLASS)}: leave it out of plot {arguments.what}")
    if arguments.what == "rows":
        return _rows(arguments)
    arguments.rows = arguments.rows or "any"
    made = ranked(arguments, partial=False)[1]
    board = one_board([ranking.board for ranking in made], arguments.task)
    if arguments.what == "tuned":
        return _beside_default(board, arguments)
    return cost_figure(board) if arguments.what == "cost" else intervals_figure(board)


def _rows(arguments: argparse.Namespace) -> Figure:
    """Return rank against rows of all settings that were chosen."""
    from leaderboards.class_figures import rows_figure
    from leaderboards.cost_class import NAMED, settings_rankings
    from leaderboards.selection import with_metrics

    records = with_metrics(chosen_records(arguments, methods="all"), arguments.metrics)
    tuned = tuned_on(records)
    made: list[SettingsRanking] = []
    for task, chosen in tuned.items():
        of_task = [record for record in records if record.cell.task == task]
        made += settings_rankings(of_task, chosen, arguments.methods)
    one_board([settings.ranking.board for settings in made], arguments.task)
    if made[0].absent:
        log.warning(f"not drawn, since they have no records: {few(made[0].absent, NAMED)}")
    return rows_figure(made[0])


def _beside_default(board: Board, arguments: argparse.Namespace) -> Figure:
    """Return a board of a class beside that of the same methods with their default settings."""
    from leaderboards.board import GapError, kind_of
    from leaderboards.class_figures import tuned_figure
    from leaderboards.cost_class import NAMED, in_default
    from leaderboards.rank import options, rank
    from leaderboards.selection import with_metrics

    records = with_metrics(chosen_records(arguments, methods="all"), arguments.metrics)
    methods = [row.method for row in board.rows]
    default = in_default([record for record in records if kind_of(record) == kind_of(board)], methods)
    if missing := sorted(set(methods) - {record.label for record in default}):
        raise GapError(
            f"no record of {few(missing, NAMED)} with default settings: run python -m benchmark run --task "
            f"{board.task} --methods '{','.join(missing)}'{options(board.source, board.limit, board.preset)} first"
        )
    return tuned_figure(board, rank(default, group=board.group).board)


def one_board(boards: Sequence[Board], task: str) -> Board:
    """Return the one board that there is.

    Raises:
        UsageError: there are several.
    """
    if tasks := sorted({board.task for board in boards})[1:]:
        raise UsageError(f"expected one task, got {boards[0].task}, {', '.join(tasks)}: choose with --task")
    if len(boards) > 1:
        kinds = "; ".join(
            f"{b.source}, limit {b.limit or 'all'}, preset {b.preset}, {b.precision}, {b.device}, {b.group} metrics"
            for b in boards
        )
        raise UsageError(
            f"{task} has {len(boards)} boards here ({kinds}): choose one with --source, --limit, --preset, "
            "--precision, --device or --metrics"
        )
    return boards[0]
