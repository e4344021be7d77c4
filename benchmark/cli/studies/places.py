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
    command.add_argument("--any-cost", action="store_true",
                         help="with --of: boards of methods of any cost, in place of those of classes")  # fmt: skip
    command.add_argument("--source", choices=("real", "synthetic"), default="real", help="of boards (default: real)")
    command.add_argument("--boards", type=Path, metavar="FOLDER",
                         help="with boards as leaderboard --rows --publish writes (default: our own)")  # fmt: skip
    command.add_argument("--format", choices=("table", "md", "latex"), default="table")
    command.add_argument("--write", type=Path, metavar="PAGE.md",
                         help="also put it into this page, between <!-- places --> and <!-- /places -->, or "
                         "<!-- places: METHOD --> and <!-- /places: METHOD -->, where METHOD may be followed by "
                         "' any cost' and ' synthetic'")  # fmt: skip


def places_command(arguments: argparse.Namespace) -> int:
    """Print who leads, or where a method stands."""
    from leaderboards.places import PUBLISHED, any_cost_table, leaders_table, method_table, read
    from leaderboards.tables import write

    if arguments.any_cost and not arguments.of:
        raise UsageError("--any-cost says where one method stands: name it with --of METHOD")
    synthetic = arguments.source == "synthetic"
    named = [f": {arguments.of}" * bool(arguments.of), " any cost" * arguments.any_cost, " synthetic" * synthetic]
    part = PART + "".join(named)
    page = MarkedPage("--write", arguments.write, part) if arguments.write else None
    boards = read(arguments.boards or PUBLISHED, not arguments.any_cost, arguments.source)
    of_method = any_cost_table if arguments.any_cost else method_table
    table = of_method(boards, arguments.of) if arguments.of else leaders_table(boards)
    print(write(table, arguments.format))
    if page is not None:
        of = f" --of {arguments.of}" if arguments.of else ""
        of += " --any-cost" * arguments.any_cost + " --source synthetic" * synthetic
        boards_of = f" --boards {arguments.boards.as_posix()}" if arguments.boards else ""
        made = f"python -m benchmark places{of}{boards_of} --write {arguments.write.as_posix()}"
        page.put(part, f"{write(table, 'md')}\n\nMade by `{made}`.")
        page.write()
        log.warning(f"also written: {arguments.write}")
    return 0
