"""Commands about stored records: leaderboard, report, compare. They load torch for --rows alone."""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.cli.arguments import Verb, add_choice, add_metrics, add_out, chosen_records
from benchmark.cli.classes import add_rows, ranked
from benchmark.core.errors import BenchmarkError, UsageError
from benchmark.core.selection import select_labels
from benchmark.scoring.metrics import PAPER

if TYPE_CHECKING:
    from benchmark.records.record import Record
    from leaderboards.board import Board
    from leaderboards.rank import Ranking
    from leaderboards.tables import TextTable

log = logging.getLogger("benchmark")

FORMS = ("table", "md", "csv", "json", "latex")


def add_boards(verb: Verb) -> None:
    """Add the commands to the parser."""
    board = verb("leaderboard", leaderboard_command, "Print mean-rank boards made from stored records.")
    add_choice(board)
    add_rows(board)
    add_metrics(board, "all", "all that the records have, each group on a board of its own")
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
    add_beside(board)
    add_out(board)

    report = verb("report", report_command, "Make one self-contained page from stored records.")
    add_choice(report)
    add_rows(report)
    add_metrics(report, "all", "all that the records have, each group on a board of its own")
    report.add_argument("--page", type=Path, default=Path("report.html"), metavar="FILE.html",
                        help="where to write it (default: report.html)")  # fmt: skip
    report.add_argument("--partial", action="store_true", help="show boards with gaps, and the gaps")
    add_beside(report)
    add_out(report)

    both = verb("compare", compare_command, "Compare two folders of records, or two records: what moved.")
    both.add_argument("before", type=Path, help="a folder of records, or that of one record")
    both.add_argument("after", type=Path, help="another")
    both.add_argument("--format", choices=FORMS, default="table")
    both.add_argument("--gate", action="store_true", help="exit with 1 if anything moved or cannot be compared")


def add_beside(parser: argparse.ArgumentParser) -> None:
    """Add scores of others."""
    parser.add_argument("--beside", type=Path, action="append", default=[], metavar="FILE.parquet",
                        help="scores of others (bridges.Scores.save), shown beside the one board, in no rank "
                        "(may be given several times)")  # fmt: skip


def leaderboard_command(arguments: argparse.Namespace) -> int:
    """Print boards made from stored records."""
    from leaderboards.overall import overalls
    from leaderboards.overall import table_of as overall_table
    from leaderboards.selection import with_metrics
    from leaderboards.tables import in_json, render, write

    if arguments.compare:
        if arguments.rows:
            raise UsageError(f"--compare {arguments.compare} is of settings as they were run: leave out --rows")
        return _beside_the_paper(with_metrics(chosen_records(arguments), arguments.metrics), arguments)
    published = _published(arguments.check, arguments.rows) if arguments.check else ""
    records, made = ranked(arguments, arguments.partial)
    boards = [ranking.board for ranking in made]
    if arguments.check:
        return _check(arguments.check, published, boards)
    if arguments.publish:
        return _publish(arguments.publish, made, records)
    if arguments.beside:
        return _beside_others(boards, arguments)
    together = overalls(made, _one(arguments.one, [record for ranking in made for record in ranking.records]))
    tests = [_pairs(ranking) for ranking in made] if arguments.pairs else []
    if arguments.format == "json":
        plain = {"boards": json.loads(render(boards, "json")), "overall": [asdict(board) for board in together],
                 "pairs": [asdict(table) for table in tests]}  # fmt: skip
        print(in_json(plain))
        return 0
    parts = [render(boards, arguments.format)]
    if arguments.format != "csv":
        parts += [write(table, arguments.format) for table in [*map(overall_table, together), *tests]]
    print("\n\n".join(parts))
    return 0


def _beside_others(boards: list[Board], arguments: argparse.Namespace) -> int:
    """Print the one board with the scores of others."""
    from benchmark.bridges.boards import beside, board_of
    from leaderboards.tables import in_csv, in_json, write

    board, theirs = board_of(boards, arguments.beside)
    table = beside(board, *theirs)
    if arguments.format == "json":
        print(in_json(asdict(table)))
    else:
        print(in_csv(table.header, table.rows) if arguments.format == "csv" else write(table, arguments.format))
    return 0


def _one(text: str | None, records: list[Record]) -> str | None:
    """Return the label of the method that --one names.

    Raises:
        UsageError: it names several, or none.
    """
    if text is None:
        return None
    labels = select_labels(text, sorted({record.label for record in records}))
    if len(labels) > 1:
        raise UsageError(f"--one expects one method, got {', '.join(labels)}")
    return labels[0]


def _pairs(ranking: Ranking) -> TextTable:
    from leaderboards.significance import all_pairs, table_of

    board = ranking.board
    group = "" if board.group == PAPER else f", {board.group} metrics"
    return table_of(f"{board.task}{group}, {board.source} data", all_pairs(ranking.scores))


def _beside_the_paper(records: list[Record], arguments: argparse.Namespace) -> int:
    from leaderboards.paper import REASONS, learned, mean_ranks, overall_agreement
    from leaderboards.tables import in_csv, in_json, write

    tables, agreements = mean_ranks(records, arguments.partial)
    tables += learned(records, arguments.partial)
    if not tables:
        raise UsageError("the paper has no numbers for these tasks and methods: see leaderboards/published/paper")
    if arguments.format == "json":
        print(in_json({"tables": [asdict(table) for table in tables],
                       "agreement": [asdict(agreement) for agreement in agreements],
                       "why": REASONS}))  # fmt: skip
    elif arguments.format == "csv":
        print("\n\n".join(in_csv(table.header, table.rows) for table in tables))
    else:
        lines = [overall_agreement(agreements), *REASONS]
        print("\n\n".join([*(write(table, arguments.format) for table in tables), "\n".join(lines)]))
    return 0


def _published(path: Path, rows: str | None) -> str:
    """Return the table of a published board.

    Raises:
        UsageError: there is none, or --rows is not the class of costs that it is of.
    """
    from leaderboards.check import class_of

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
    if (stated := class_of(text)) != (rows or ""):
        hint = f"add --rows {stated}" if stated else "leave out --rows"
        raise UsageError(f"{path} is a board of {f'the class of {stated} rows' if stated else 'no class'}: {hint}")
    return text


def _check(path: Path, published: str, boards: list[Board]) -> int:
    """Compare boards with a published one, and say what differs."""
    from leaderboards.check import differences
    from leaderboards.tables import render

    moved = differences(published, render(boards, "csv"))
    for line in moved:
        print(line)
    if moved:
        raise BenchmarkError(f"{path} can no longer be made from these records: {len(moved)} differences")
    print(f"{path}: the records give the same board")
    return 0


def report_command(arguments: argparse.Namespace) -> int:
    """Write a page about stored records."""
    from benchmark.bridges.boards import board_of, only_theirs
    from benchmark.records.store import RecordStore
    from benchmark.running.plan import MethodChoice
    from deepfaith.ablations import VARIANTS
    from leaderboards.ablation import ablations
    from leaderboards.overall import overalls
    from leaderboards.report import page

    if arguments.page.suffix != ".html":
        raise UsageError(f"--page expects a file that ends in .html, got {str(arguments.page)!r}")
    labels = {
        method: {name: MethodChoice(method, tuple(sorted(given.items()))).label for name, given in variants.items()}
        for method, variants in VARIANTS.items()
    }
    variants = {label for method, of in labels.items() for label in of.values() if label != method}
    records, made = ranked(arguments, arguments.partial, without=variants)  # these have tables of their own
    others = []
    if arguments.beside:
        board, theirs = board_of([ranking.board for ranking in made], arguments.beside)
        others = [only_theirs(board, *theirs)]
    ablated = [one for of in labels.values() for one in ablations(records, of)]
    text = page(made, RecordStore(arguments.out).examples, overalls(made), ablated, others)
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


def _publish(folder: Path, rankings: list[Ranking], records: list[Record]) -> int:
    from leaderboards.board import kind_of
    from leaderboards.publish import name_of, publish

    names = [name_of(ranking.board) for ranking in rankings]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"--publish: several boards would be called {twice[0]}, of other numbers of samples: choose "
                         "one with --limit")  # fmt: skip
    for ranking in rankings:
        board = ranking.board
        if board.cost_class is None:  # labelled as they are run: a ranking tells two ways to make one label apart
            made_from = [record for record in records if kind_of(record) == kind_of(board)]
        else:  # of all that are stored, those that were chosen
            made_from = list(ranking.records)
        try:
            paths = publish(board, made_from, folder)
        except OSError as error:
            raise UsageError(f"cannot write --publish {str(folder)!r}: {error.strerror}; name another") from error
        print("\n".join(map(str, paths)))
    return 0


def compare_command(arguments: argparse.Namespace) -> int:
    """Print what moved between two sets of records."""
    from leaderboards.compare import compare, table_of
    from leaderboards.tables import in_csv, in_json, write

    (before, damaged_before), (after, damaged_after) = _records_at(arguments.before), _records_at(arguments.after)
    comparison = compare(before, after, damaged=(len(damaged_before), len(damaged_after)))
    table = table_of(comparison)
    if arguments.format == "json":
        print(in_json(asdict(comparison)))
    elif arguments.format == "csv":
        print(in_csv(table.header, table.rows))
    else:
        print(write(table, arguments.format))
    if not arguments.gate:
        return 0
    reasons = comparison.reasons()
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
