"""Boards as records have them, or of a class of costs: what --rows chooses."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

from benchmark.cli.arguments import chosen_records
from benchmark.core.errors import DataError
from benchmark.tuned.classes import CLASSES, name_of

if TYPE_CHECKING:
    from benchmark.records.record import Record
    from benchmark.tuned.files import Tuned
    from leaderboards.rank import Ranking

log = logging.getLogger("benchmark")


def add_rows(parser: argparse.ArgumentParser) -> None:
    """Add the class of costs."""
    parser.add_argument("--rows", choices=tuple(map(name_of, CLASSES)),
                        help="only methods with the settings that tune chose for at most so many rows, forward and "
                        "backward passes, an explanation")  # fmt: skip


def ranked(
    arguments: argparse.Namespace, partial: bool, without: Collection[str] = ()
) -> tuple[list[Record], list[Ranking]]:
    """Return the records that arguments choose, and the rankings of their boards or of those of a class of costs.

    Args:
        arguments: of the command.
        partial: see `leaderboards.rank.rankings`.
        without: labels of records that stand on no board of settings as they were run.

    Raises:
        UsageError: there are no such records.
        DataError: nothing was tuned.
        GapError: a board has gaps, and `partial` is False.
    """
    from leaderboards.rank import rankings
    from leaderboards.selection import with_metrics

    if arguments.rows is None:
        records = with_metrics(chosen_records(arguments), arguments.metrics)
        return records, rankings([record for record in records if record.label not in without], partial)
    from leaderboards.cost_class import class_rankings

    records = with_metrics(chosen_records(arguments, methods="all"), arguments.metrics)
    tuned = tuned_on(records)
    records = [record for record in records if record.cell.task in tuned]
    return records, class_rankings(records, tuned, arguments.rows, partial, methods=arguments.methods)


def tuned_on(records: list[Record]) -> dict[str, Tuned]:
    """Return what was chosen on each task of some records, saying on which nothing was.

    Raises:
        DataError: nothing was chosen on any.
    """
    from benchmark.tuned.files import read

    tuned, problems = {}, []
    for task in sorted({record.cell.task for record in records}):
        try:
            tuned[task] = read(task)
        except DataError as error:
            problems.append(error)
    if not tuned:
        raise problems[0]
    for problem in problems:
        log.warning(f"left out: {problem}")
    return tuned
