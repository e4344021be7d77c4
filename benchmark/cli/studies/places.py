"""The command places: who leads published boards, and where one method stands."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from benchmark.cli.boards import Verb
from benchmark.cli.studies.marked import MarkedPage
from benchmark.core.errors import UsageError

log = logging.getLogger("benchmark")
PART = "places"


def add_places(verb: Verb) -> None:
    """Add the command to the parser."""
    command = verb("places", places_command, "Say who leads published boards of tuned methods, by task and cost.")
    command.add_argument("--of", metavar="METHOD", help="where this method stands, in place of who leads")
    command.add_argument("--no-class", action="store_true",
                         help="with --of: boards that were published without --rows, of all costs")  # fmt: skip
    command.add_argument("--source", choices=("real", "synthetic"), default="real", help="of boards (default: real)")
    command.add_argument("--boards", type=Path, metavar="FOLDER",
                         help="with boards as leaderboard --rows --publish writes (default: our own)")  # fmt: skip
    command.add_argument("--format", choices=("table", "md", "latex"), default="table")
    command.add_argument("--write", type=Path, metavar="PAGE.md",
                         help="also put it into this page, between <!-- places --> and <!-- /places -->, or "
                         "<!-- places: METHOD --> and <!-- /places: METHOD -->, where METHOD may be followed by "
                         "' no class' and ' synthetic'")  # fmt: skip


def places_command(arguments: argparse.Namespace) -> int:
    """Print who leads, or where a method stands."""
    from leaderboards.places import PUBLISHED, leaders_table, method_table, read, unclassed_table
    from leaderboards.tables import write

    if arguments.no_class and not arguments.of:
        raise UsageError("--no-class says where one method stands: name it with --of METHOD")
    synthetic = arguments.source == "synthetic"
    part = PART
    if arguments.of:
        part += f": {arguments.of}"
    if arguments.no_class:
        part += " no class"
    if synthetic:
        part += " synthetic"
    page = MarkedPage("--write", arguments.write, part) if arguments.write else None
    boards = read(arguments.boards or PUBLISHED, not arguments.no_class, arguments.source)
    of_method = unclassed_table if arguments.no_class else method_table
    table = of_method(boards, arguments.of) if arguments.of else leaders_table(boards)
    print(write(table, arguments.format))
    if page is not None:
        of = f" --of {arguments.of}" if arguments.of else ""
        of += " --no-class" * arguments.no_class + " --source synthetic" * synthetic
        boards_of = f" --boards {arguments.boards.as_posix()}" if arguments.boards else ""
        made = f"python -m benchmark places{of}{boards_of} --write {arguments.write.as_posix()}"
        page.put(part, f"{write(table, 'md')}\n\nMade by `{made}`.")
        page.write()
        log.warning(f"also written: {arguments.write}")
    return 0
