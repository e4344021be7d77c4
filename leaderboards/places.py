"""Who leads published boards of classes of costs, and where one method stands on them."""

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
    """What a published board of a class of costs says of the methods on it.

    Attributes:
        task: its name.
        cost_class: name of the class.
        samples: test samples.
        seeds: how many.
        models: how many.
        places: of methods, neither controls nor oracles, from the best rank.
    """

    task: str
    cost_class: str
    samples: int
    seeds: int
    models: int
    places: tuple[Place, ...]

    @property
    def leaders(self) -> tuple[Place, ...]:
        """Return the first method and those of its tie."""
        return tuple(place for place in self.places if place.tie == self.places[0].tie)

    def of(self, method: str) -> Place | None:
        """Return the place of a method, if it is there."""
        return next((place for place in self.places if place.method == method), None)


def read(folder: Path) -> list[PublishedBoard]:
    """Return the published boards of real data and of classes of costs, by task and class.

    Args:
        folder: what `leaderboard --rows ROWS --publish FOLDER` wrote to.

    Raises:
        DataError: there is none, a board of a class stands there twice, or one cannot be read.
    """
    found: dict[tuple[str, str], PublishedBoard] = {}
    for path in sorted(folder.glob("*-rows*.csv")):
        try:
            board = _board(path)
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise DataError(
                f"{path} is no published board ({type(error).__name__}: {error}): publish it again"
            ) from error
        if board is None:
            continue
        key = (board.task, board.cost_class)
        if key in found:
            raise DataError(f"{folder} has two boards of {board.task} for {board.cost_class} rows: leave one there")
        found[key] = board
    if not found:
        raise DataError(
            f"{str(folder)!r} has no board of a class of costs of real data: write some there with python -m benchmark "
            "leaderboard --rows 60 --publish FOLDER"
        )
    return sorted(found.values(), key=lambda board: (board.task, NAMES.index(board.cost_class)))


def _board(path: Path) -> PublishedBoard | None:
    """Return the board of a file; None where it is of synthetic data, of other metrics or of no default preset."""
    text = "".join(line for line in path.read_text(encoding="utf-8").splitlines(True) if not line.startswith("#"))
    rows = list(csv.DictReader(io.StringIO(text)))
    first = rows[0]
    if first["source"] != "real" or first["metric_group"] != PAPER or first["preset"] != "standard":
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
        tuple(sorted(places, key=lambda place: place.rank)),
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
    return TextTable("who leads, with mean ranks, by rows an explanation", header, rows, [
        "Methods in one cell cannot be told apart on test samples, seeds and models drawn again; ranks are those among "
        "all that stands on the board.",
    ])  # fmt: skip


def method_table(boards: Sequence[PublishedBoard], method: str) -> TextTable:
    """Return where a method stands, a row a board, beside the best other method there.

    Raises:
        UsageError: it stands on none of them.
    """
    rows = []
    for board in boards:
        place = board.of(method)
        if place is None:
            continue
        other = next((one for one in board.places if one.method != method), None)
        rows.append([
            board.task, _rows_of(board.cost_class), f"{place.rank:.1f}", between(place.low, place.high),
            f"{board.places.index(place) + 1} of {len(board.places)}", _standing(board, place), f"{place.rows:g}",
            f"{place.training_seconds:.0f}",
            "–" if other is None else f"{other} ({between(other.low, other.high)}; {other.rows:g} rows)",
        ])  # fmt: skip
    if not rows:
        there = sorted({place.method for board in boards for place in board.places})
        raise UsageError(f"{method} stands on none of these boards: expected one of {', '.join(there)}")
    header = ["task", "class", "rank", "95 % interval", "place", "standing", "rows", "training s", "best other"]
    return TextTable(f"{method} on boards of tuned methods", header, rows, [
        "place: among methods, without controls and oracles; standing: level with what cannot be told from it; rows: "
        "forward and backward passes an explanation.",
    ])  # fmt: skip


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
