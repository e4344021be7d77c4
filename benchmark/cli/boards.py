"""Commands about stored records: leaderboard, report, compare. None of them loads torch."""

from __future__ import annotations

import argparse
import json
import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.cli.arguments import add_out
from benchmark.cli.choices import add_choice, chosen_records
from benchmark.core.errors import BenchmarkError, UsageError
from benchmark.core.selection import select_labels
from benchmark.scoring.metrics import select_metrics

if TYPE_CHECKING:
    from benchmark.records.record import Record
    from leaderboards.overall import Overall
    from leaderboards.rank import Board
    from leaderboards.tables import TextTable

log = logging.getLogger("benchmark")

Verb = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]
FORMS = ("table", "md", "csv", "json", "latex")


def add_boards(verb: Verb) -> None:
    """Add the commands to the parser."""
    board = verb("leaderboard", leaderboard_command, "Print mean-rank boards made from stored records.")
    add_choice(board)
    board.add_argument("--metrics", default="all", help="names separated by commas (default: all ten)")
    board.add_argument("--format", choices=FORMS, default="table")
    board.add_argument("--partial", action="store_true", help="show boards with gaps, and the gaps")
    board.add_argument("--one", metavar="METHOD",
                       help="what is tested against each other method over tasks (default: deepfaith)")  # fmt: skip
    board.add_argument("--pairs", action="store_true", help="also test all pairs of methods within each task")
    board.add_argument("--compare", choices=("paper",), help="print the paper's numbers beside ours")
    board.add_argument("--check", type=Path, metavar="FILE.csv",
                       help="fail unless the records still give this board, made before with --format csv")  # fmt: skip
    board.add_argument("--publish", type=Path, metavar="FOLDER",
                       help="write each board as .csv, .md and .png, headed by what made it")  # fmt: skip
    add_out(board)

    report = verb("report", report_command, "Make one self-contained page from stored records.")
    add_choice(report)
    report.add_argument("--page", type=Path, default=Path("report.html"), metavar="FILE.html",
                        help="where to write it (default: report.html)")  # fmt: skip
    report.add_argument("--partial", action="store_true", help="show boards with gaps, and the gaps")
    add_out(report)

    both = verb("compare", compare_command, "Compare two folders of records, or two records: what moved.")
    both.add_argument("before", type=Path, help="a folder of records, or that of one record")
    both.add_argument("after", type=Path, help="another")
    both.add_argument("--format", choices=FORMS, default="table")
    both.add_argument("--gate", action="store_true", help="exit with 1 if anything moved or cannot be compared")


def leaderboard_command(arguments: argparse.Namespace) -> int:
    """Print boards made from stored records."""
    from leaderboards.overall import table_of as overall_table
    from leaderboards.rank import boards
    from leaderboards.selection import narrowed
    from leaderboards.tables import in_json, render, write

    records = chosen_records(arguments)
    if arguments.metrics != "all":
        wanted = select_metrics(arguments.metrics)
        records = [narrowed(record, wanted) for record in records]
    if arguments.compare:
        return _beside_the_paper(records, arguments)
    made = boards(records, arguments.partial)
    if arguments.check:
        return _check(arguments.check, made)
    if arguments.publish:
        return _publish(arguments.publish, made, records)
    if arguments.one is not None:
        found = select_labels(arguments.one, sorted({r.label for r in records}))
        if len(found) > 1:
            raise UsageError(f"--one expects one method, got {', '.join(found)}")
        (arguments.one,) = found
    together = _together(records, arguments.partial, arguments.one)
    tests = _pairs(records, arguments.partial) if arguments.pairs else []
    if arguments.format == "json":
        plain = {"boards": json.loads(render(made, "json")), "overall": [asdict(o) for o in together],
                 "pairs": [asdict(table) for table in tests]}  # fmt: skip
        print(in_json(plain))
        return 0
    parts = [render(made, arguments.format)]
    if arguments.format != "csv":
        parts += [write(table, arguments.format) for table in [*map(overall_table, together), *tests]]
    print("\n\n".join(parts))
    return 0


def _together(records: list[Record], partial: bool, one: str | None = None) -> list[Overall]:
    """Return an overall board of each kind of records that has several tasks."""
    from leaderboards.overall import overall

    several = [group for group in _kinds(records) if len({record.cell.task for record in group}) > 1]
    return [overall(group, partial, one) for group in several]


def _kinds(records: list[Record]) -> list[list[Record]]:
    """Return records by what an overall board has to share: source, precision, device, preset, limit.

    A task of fewer rows than a limit stands with those that are limited, too: all of its rows were taken.
    """
    kinds: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    limits: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for record in records:
        limits[_kind(record)] |= set() if record.cell.limit is None else {record.cell.limit}
    for record in records:
        kind, limit = _kind(record), record.cell.limit
        kinds[*kind, str(limit)].append(record)
        for other in limits[kind] if limit is None else ():
            if record.facts["rows"] <= other:
                kinds[*kind, str(other)].append(record)
    return [kinds[key] for key in sorted(kinds)]


def _kind(record: Record) -> tuple[str, ...]:
    cell = record.cell
    return cell.source, cell.precision, cell.device, cell.preset


def _pairs(records: list[Record], partial: bool) -> list[TextTable]:
    from leaderboards.rank import scores_of
    from leaderboards.significance import all_pairs
    from leaderboards.significance import table_of as pairs_table

    tables = []
    for group in _kinds(records):
        for task in sorted({record.cell.task for record in group}):
            own = [record for record in group if record.cell.task == task]
            tables.append(pairs_table(f"{task}, {own[0].cell.source} data", all_pairs(scores_of(own, partial))))
    return tables


def _beside_the_paper(records: list[Record], arguments: argparse.Namespace) -> int:
    from leaderboards.paper import REASONS, learned, mean_ranks, overall_agreement
    from leaderboards.tables import in_csv, in_json, write

    tables, found = mean_ranks(records, arguments.partial)
    tables += learned(records, arguments.partial)
    if not tables:
        raise UsageError("the paper has no numbers for these tasks and methods: see leaderboards/published/paper")
    if arguments.format == "json":
        print(in_json({"tables": [asdict(t) for t in tables], "agreement": [asdict(a) for a in found], "why": REASONS}))
    elif arguments.format == "csv":
        print("\n\n".join(in_csv(table.header, table.rows) for table in tables))
    else:
        lines = [overall_agreement(found), *REASONS]
        print("\n\n".join([*(write(table, arguments.format) for table in tables), "\n".join(lines)]))
    return 0


def _check(path: Path, made: list[Board]) -> int:
    """Compare boards with a published one, and say what differs."""
    from leaderboards.tables import differences, render

    expected = f"--check expects a board made with --format csv or --publish, got {str(path)!r}"
    if path.is_dir():
        raise UsageError(f"{expected}: it is a folder; name one of the .csv files in it")
    if not path.is_file():
        raise UsageError(f"{expected}: no such file")
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except UnicodeDecodeError:
        raise UsageError(f"{expected}: it holds no text; name the .csv beside it") from None
    except OSError as error:
        raise UsageError(f"{expected}: {error.strerror}") from error
    text = "".join(line for line in lines if not line.startswith("#"))
    found = differences(text, render(made, "csv"))
    for line in found:
        print(line)
    if found:
        raise BenchmarkError(f"{path} can no longer be made from these records: {len(found)} differences")
    print(f"{path}: the records give the same board")
    return 0


def report_command(arguments: argparse.Namespace) -> int:
    """Write a page about stored records."""
    from benchmark.records.store import RecordStore
    from benchmark.running.plan import MethodChoice
    from deepfaith.ablations import VARIANTS
    from leaderboards.ablation import ablations
    from leaderboards.report import page

    if arguments.page.suffix != ".html":
        raise UsageError(f"--page expects a file that ends in .html, got {str(arguments.page)!r}")
    records, store = chosen_records(arguments), RecordStore(arguments.out)
    labels = {name: MethodChoice("deepfaith", tuple(sorted(given.items()))).label for name, given in VARIANTS.items()}
    ablated = [found for group in _kinds(records) for found in ablations(group, labels)]
    parts = {label for label in labels.values() if label != "deepfaith"}
    records = [record for record in records if record.label not in parts]  # they have tables of their own
    text = page(records, store.examples, _together(records, arguments.partial), ablated, arguments.partial)
    if not arguments.page.parent.is_dir():
        raise UsageError(
            f"cannot write --page {str(arguments.page)!r}: there is no such folder; make it, or name another"
        )
    try:
        arguments.page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write --page {str(arguments.page)!r}: {error.strerror}; name another") from error
    print(arguments.page)
    return 0


def _publish(folder: Path, made: list[Board], records: list[Record]) -> int:
    from leaderboards.publish import name_of, publish
    from leaderboards.rank import kind_of

    names = [name_of(board) for board in made]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"--publish: several boards would be called {twice[0]}, of other numbers of samples: choose "
                         "one with --limit")  # fmt: skip
    for board in made:
        try:
            paths = publish(board, [record for record in records if kind_of(record) == kind_of(board)], folder)
        except OSError as error:
            raise UsageError(f"cannot write --publish {str(folder)!r}: {error.strerror}; name another") from error
        print("\n".join(map(str, paths)))
    return 0


def compare_command(arguments: argparse.Namespace) -> int:
    """Print what moved between two sets of records."""
    from leaderboards.compare import compare, table_of
    from leaderboards.tables import in_csv, in_json, write

    (before, one), (after, other) = _records_at(arguments.before), _records_at(arguments.after)
    found = compare(before, after, damaged=(len(one), len(other)))
    table = table_of(found)
    if arguments.format == "json":
        print(in_json(asdict(found)))
    elif arguments.format == "csv":
        print(in_csv(table.header, table.rows))
    else:
        print(write(table, arguments.format))
    if not arguments.gate:
        return 0
    reasons = found.reasons()
    for reason in reasons[:20]:
        log.error(f"gate: {reason}")
    if len(reasons) > 20:
        log.error(f"gate: and {len(reasons) - 20} more")
    return int(bool(reasons))


def _records_at(path: Path) -> tuple[list[Record], list[str]]:
    """Return the records of a folder, or of the folder of one record, and what is wrong with those left out."""
    from benchmark.records.store import RecordStore

    if (path / "run.json").is_file():
        return [RecordStore(path.absolute().parent.parent.parent).read(path)], []
    if not path.is_dir():
        raise UsageError(f"compare expects a folder of records, or that of one record, got {str(path)!r}")
    records, problems = RecordStore(path).scan()
    for problem in problems:
        log.warning(f"left out: {problem}")
    if not records and not problems:
        inside = any(path.glob("*/run.json")) or any(path.glob("*/*/run.json"))
        more = ": it is a part of one, name the whole" if inside else ""
        raise UsageError(f"no records in {str(path)!r}{more}; compare expects what `run --out` made")
    return records, problems
