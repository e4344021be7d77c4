"""Who leads published boards, of classes of costs or of methods of any cost, and where one method stands on them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.core.errors import DataError, UsageError
from benchmark.core.types import FIXED
from benchmark.scoring.metrics import PAPER
from benchmark.tuned.classes import CLASSES, name_of
from leaderboards.tables import TextTable, between

PUBLISHED = Path(__file__).parent / "published"
NAMES = tuple(map(name_of, CLASSES))
UNSAID = {"metric_group": PAPER, "cost_class": "", "models": "1"}
"""What boards of earlier versions leave unsaid."""


@dataclass(frozen=True)
class Place:
    """A method on a published board.

    Attributes:
        method: its name.
        rank: mean rank among all that stands there.
        low: the least rank of the 95 % interval.
        high: the largest.
        tie: number of the group of methods that cannot be told from the first of them.
        rows: forward and backward passes an explanation.
        training_seconds: once.
    """

    method: str
    rank: float
    low: float
    high: float
    tie: int
    rows: float
    training_seconds: float

    def __str__(self) -> str:
        """Return the name and the rank."""
        return f"{self.method} {self.rank:.1f}"


@dataclass(frozen=True)
class PublishedBoard:
    """What a published board says of the methods on it.

    Attributes:
        task: its name.
        cost_class: name of the class; empty where methods of any cost stand there.
        samples: test samples.
        seeds: how many.
        models: how many.
        places: of methods, neither controls nor oracles, from the best rank.
        source: of the data, `real` or `synthetic`.
    """

    task: str
    cost_class: str
    samples: int
    seeds: int
    models: int
    places: tuple[Place, ...]
    source: str = "real"

    @property
    def leaders(self) -> tuple[Place, ...]:
        """Return the first method and those of its tie."""
        return tuple(place for place in self.places if place.tie == self.places[0].tie)

    def of(self, method: str) -> Place | None:
        """Return the place of a method, if it is there."""
        return next((place for place in self.places if place.method == method), None)


def read(folder: Path, classes: bool = True, source: str = "real") -> list[PublishedBoard]:
    """Return published boards, by task and class.

    Args:
        folder: what `leaderboard --publish FOLDER`, with `--rows ROWS` where `classes`, wrote to.
        classes: whether boards of classes of costs are read, or the others.
        source: of the data, `real` or `synthetic`.

    Raises:
        DataError: there is none, a board of a class stands there twice, or one cannot be read.
    """
    found: dict[tuple[str, str], PublishedBoard] = {}
    for path in sorted(folder.glob("*-rows*.csv" if classes else "*.csv")):
        try:
            board = _board(path, source)
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise DataError(
                f"{path} is no published board ({type(error).__name__}: {error}): publish it again, or move it away"
            ) from error
        if board is None or bool(board.cost_class) != classes:
            continue
        key = (board.task, board.cost_class)
        if key in found:
            of_class = f" for {board.cost_class} rows" if classes else ""
            raise DataError(f"{folder} has two boards of {board.task}{of_class}: leave one there")
        found[key] = board
    if not found:
        what, option = (" of a class of costs", " --rows 60") if classes else ("", "")
        raise DataError(
            f"{str(folder)!r} has no board{what} of {source} data: write some there with python -m benchmark "
            f"leaderboard{option} --publish FOLDER"
        )
    return sorted(found.values(), key=lambda board: (board.task, ("", *NAMES).index(board.cost_class)))


def _board(path: Path, source: str) -> PublishedBoard | None:
    """Return the board of a file; None where it is of another source, of other metrics or of no default preset."""
    text = "".join(line for line in path.read_text(encoding="utf-8").splitlines(True) if not line.startswith("#"))
    rows = list(csv.DictReader(io.StringIO(text)))
    first = UNSAID | rows[0]
    if first["source"] != source or first["metric_group"] != PAPER or first["preset"] != "standard":
        return None
    places = [
        Place(
            row["method"], float(row["mean_rank"]), float(row["low"]), float(row["high"]), int(row["group"]),
            float(row["forwards"]) + float(row["backwards"]), float(row["train_seconds"]),
        )
        for row in rows
        if row["kind"] not in FIXED
    ]  # fmt: skip
    return PublishedBoard(
        first["task"], first["cost_class"], int(first["samples"]), int(first["seeds"]), int(first["models"]),
        tuple(sorted(places, key=lambda place: place.rank)), source,
    )  # fmt: skip


def leaders_table(boards: Sequence[PublishedBoard]) -> TextTable:
    """Return who leads, a row a task and a column a class of costs."""
    tasks = list(dict.fromkeys(board.task for board in boards))
    by_key = {(board.task, board.cost_class): board for board in boards}
    rows = []
    for task in tasks:
        of_task = [by_key.get((task, name)) for name in NAMES]
        cells = ["–" if board is None else ", ".join(map(str, board.leaders)) for board in of_task]
        made_on = next(board for board in of_task if board is not None)
        rows.append([task, _made_on(made_on), *cells])
    header = ["task", "test samples", *(_rows_of(name) for name in NAMES)]
    return TextTable(f"who leads, with mean ranks, by rows an explanation{_synthetic(boards)}", header, rows, [
        "Methods in one cell cannot be told apart on test samples, seeds and models drawn again; ranks are those among "
        "all that stands on the board.",
    ])  # fmt: skip


def method_table(boards: Sequence[PublishedBoard], method: str) -> TextTable:
    """Return where a method stands, a row a board, beside the best other method there.

    Raises:
        UsageError: it stands on none of them.
    """
    rows = []
    for board, place in _of(boards, method):
        other = next((one for one in board.places if one.method != method), None)
        rows.append([
            board.task, _rows_of(board.cost_class), f"{place.rank:.1f}", between(place.low, place.high),
            f"{board.places.index(place) + 1} of {len(board.places)}", _standing(board, place), f"{place.rows:g}",
            f"{place.training_seconds:.0f}", _other(other),
        ])  # fmt: skip
    header = ["task", "class", "rank", "95 % interval", "place", "standing", "rows", "training s", "best other"]
    return TextTable(f"{method} on boards of tuned methods{_synthetic(boards)}", header, rows, [
        "place: among methods, without controls and oracles; standing: level with what cannot be told from it; rows: "
        "forward and backward passes an explanation.",
    ])  # fmt: skip


def unclassed_table(boards: Sequence[PublishedBoard], method: str) -> TextTable:
    """Return where a method stands, a row a board, beside the best others in no more rows and in any number of them.

    Args:
        boards: of methods of any cost.
        method: its label.

    Raises:
        UsageError: it stands on none of them.
    """
    rows = []
    for board, place in _of(boards, method):
        others = [one for one in board.places if one.method != method]
        cheap = next((one for one in others if one.rows <= place.rows), None)
        rows.append([
            board.task, _made_on(board), f"{place.rank:.1f}", between(place.low, place.high), _standing(board, place),
            f"{place.rows:g}", f"{place.training_seconds:.0f}", _other(cheap), _other(others[0] if others else None),
        ])  # fmt: skip
    header = ["task", "test samples", "rank", "95 % interval", "standing", "rows", "training s",
              "best other in no more rows", "best other"]  # fmt: skip
    return TextTable(f"{method} beside methods of any cost{_synthetic(boards)}", header, rows, [
        "standing: level with what cannot be told from it, among methods, without controls and oracles; rows: forward "
        "and backward passes an explanation.",
    ])  # fmt: skip


def _synthetic(boards: Sequence[PublishedBoard]) -> str:
    return ", on SYNTHETIC stand-ins" if boards[0].source == "synthetic" else ""


def _other(place: Place | None) -> str:
    return "–" if place is None else f"{place} ({between(place.low, place.high)}; {place.rows:g} rows)"


def _of(boards: Sequence[PublishedBoard], method: str) -> list[tuple[PublishedBoard, Place]]:
    """Return the boards on which a method stands, each with its place there.

    Raises:
        UsageError: it stands on none of them.
    """
    found = [(board, place) for board in boards if (place := board.of(method)) is not None]
    if not found:
        there = sorted({place.method for board in boards for place in board.places})
        raise UsageError(f"{method} stands on none of these boards: expected one of {', '.join(there)}")
    return found


def _standing(board: PublishedBoard, place: Place) -> str:
    """Return how a method compares with the first of a board."""
    if place not in board.leaders:
        return f"behind {board.places[0].method}"
    level = [one.method for one in board.leaders if one is not place]
    if not level:
        return "first alone"
    return f"{'first, ' if place is board.places[0] else ''}level with {', '.join(level)}"


def _made_on(board: PublishedBoard) -> str:
    return f"{board.samples} ({_count(board.seeds, 'seed')}, {_count(board.models, 'model')})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number > 1)}"


def _rows_of(name: str) -> str:
    return "any" if name == "any" else f"at most {name}"
