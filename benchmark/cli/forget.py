"""The command forget, which lists stored records and removes them once that is confirmed."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.cli.arguments import Verb, add_choice, add_out, chosen_tasks, of_kind
from benchmark.core.errors import BenchmarkError, UsageError
from benchmark.core.selection import select_labels

if TYPE_CHECKING:
    from benchmark.records.store import RecordStore

log = logging.getLogger("benchmark")

KINDS = ("limit", "seed", "models", "preset", "precision", "device")
"""Choices that need a record which can be read."""


@dataclass(frozen=True)
class Chosen:
    """A record that was chosen: what its run.json held (None: there is none), and a line that says what it is."""

    folder: Path
    content: bytes | None
    label: str
    line: str


def add_forget(verb: Verb) -> None:
    """Add the command to the parser."""
    forget = verb("forget", forget_command, "Remove stored records; says which first, and asks.")
    add_choice(forget)
    which = forget.add_mutually_exclusive_group()
    which.add_argument("--failed", action="store_true", help="only records of methods that failed")
    which.add_argument("--damaged", action="store_true",
                       help="only what cannot be read: damaged, unfinished or of another version")  # fmt: skip
    forget.add_argument("--dry-run", action="store_true", help="say what would be removed, remove nothing")
    forget.add_argument("--yes", action="store_true", help="do not ask")
    add_out(forget)


def forget_command(arguments: argparse.Namespace) -> int:
    """Remove the records that were chosen, but for those that another run computes."""
    from benchmark.records.store import RecordStore

    store = RecordStore(arguments.out)
    tasks = chosen_tasks(arguments, store)
    chosen = [record for task in tasks for record in _chosen(store, task, arguments)]
    what = "damaged record" if arguments.damaged else "failed record" if arguments.failed else "record"
    if not chosen:
        raise UsageError(f"no {what} of {', '.join(tasks)} answers to these choices in {str(arguments.out)!r}: "
                         "nothing was removed")  # fmt: skip
    labels = set(select_labels(arguments.methods, [record.label for record in chosen]))
    chosen = [record for record in chosen if record.label in labels]
    number = f"{len(chosen)} {what}{'s' if len(chosen) > 1 else ''}"
    print("\n".join(record.line for record in chosen))
    if arguments.dry_run:
        print(f"{number} would be removed from {store.root}")
        return 0
    if not arguments.yes:
        _confirm(number, _narrowed(arguments), store.root)
    busy = [record for record in chosen if not store.forget(record.folder, record.content)]
    for record in busy:
        log.error(f"left alone, since another run computes it or has just done so: {record.line}")
    print(f"{len(chosen) - len(busy)} of {number} removed from {store.root}")
    return int(bool(busy))


def _chosen(store: RecordStore, task: str, arguments: argparse.Namespace) -> list[Chosen]:
    """Return the records of a task that are of the kind that was chosen, whatever their method."""
    from benchmark.records.store import RecordError, stored

    chosen = []
    for folder in store.folders(None if arguments.source == "auto" else arguments.source, task):
        content = stored(folder)
        try:
            record = store.read(folder)
        except RecordError as error:
            if arguments.damaged:
                chosen.append(Chosen(folder, content, folder.name.rpartition("-")[0] or folder.name, str(error)))
            continue
        if arguments.damaged or (arguments.failed and record.status != "failed") or not of_kind(record, arguments):
            continue
        cell, state = record.cell, record.status + (f": {record.reason}" if record.reason else "")
        model = f"model {cell.model}, " if cell.model else ""
        line = (
            f"{cell.source} {task} {record.label}, seed {cell.seed}, "
            f"{model}limit {cell.limit or 'all'}, {cell.preset}, {cell.precision}, {cell.device}: {state}"
        )
        chosen.append(Chosen(folder, content, record.label, line))
    if arguments.damaged and (given := [f"--{name}" for name in KINDS if getattr(arguments, name) is not None]):
        raise UsageError(f"--damaged cannot be chosen by {', '.join(given)}: what cannot be read does not tell; choose "
                         "with --task, --methods or --source")  # fmt: skip
    return chosen


def _narrowed(arguments: argparse.Namespace) -> bool:
    """Tell whether anything but everything was chosen."""
    kinds = any(getattr(arguments, name) is not None for name in KINDS)
    words = (arguments.task, arguments.methods) != ("all", "all") or arguments.source != "auto"
    return kinds or words or arguments.failed or arguments.damaged


def _confirm(number: str, narrowed: bool, root: Path) -> None:
    """Ask on a terminal whether to go on.

    Raises:
        UsageError: there is no terminal to ask on, or everything was chosen.
        BenchmarkError: the answer was not yes.
    """
    if not narrowed:
        raise UsageError(f"these are all {number} in {str(root)!r}: nothing was removed; choose with --task, --methods "
                         "or --failed, or say --yes")  # fmt: skip
    if not (sys.stdin and sys.stdin.isatty()):
        raise UsageError(f"nothing was removed: say --yes to remove {number}")
    print(f"Remove {number} from {root}? [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise BenchmarkError("nothing was removed")
