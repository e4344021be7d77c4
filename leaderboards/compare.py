"""Two sets of records: what moved, sample by sample, and by how much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmark.errors import BenchmarkError
from benchmark.identity import what_changed
from benchmark.records import Record
from leaderboards.tables import Table, number

DRAWS, TAIL = 1000, 0.025


@dataclass(frozen=True)
class Move:
    """How a metric's mean of one cell changed, with 95 % of resampled samples; positive `better` is an improvement."""

    cell: str
    metric: str
    before: float
    after: float
    low: float
    high: float
    better: bool
    largest: float

    @property
    def change(self) -> float:
        """Return after minus before."""
        return self.after - self.before

    @property
    def moved(self) -> bool:
        """Tell whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Comparison:
    """What two sets share, metric by metric; what only one has; and what cannot be compared, and why."""

    moves: tuple[Move, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    refused: tuple[str, ...]


def compare(before: list[Record], after: list[Record]) -> Comparison:
    """Compare records that stand for the same cell, paired by sample.

    Raises:
        BenchmarkError: the two have no cell in common, or none of those can be compared.
    """
    one, other = ({_name(r): r for r in records if r.status == "done"} for records in (before, after))
    shared = [name for name in one if name in other]
    if not shared:
        raise BenchmarkError("these two have no cell in common: expected the same tasks, methods, seeds and limits")
    moves: list[Move] = []
    refused: list[str] = []
    for name in shared:
        reason = unlike(one[name], other[name])
        if reason:
            refused.append(f"{name}: {reason}")
        else:
            moves += _moves(name, one[name], other[name])
    if not moves:
        raise BenchmarkError("nothing can be compared: " + "; ".join(refused))
    only_before, only_after = tuple(n for n in one if n not in other), tuple(n for n in other if n not in one)
    return Comparison(tuple(moves), only_before, only_after, tuple(refused))


def unlike(one: Record, other: Record) -> str:
    """Return why two records of a cell cannot be compared, or nothing where they can."""
    parts = ("task", "data", "model")
    if reason := what_changed(*({part: record.identity[part] for part in parts} for record in (one, other))):
        return reason
    for metric in [name for name in one.metrics if name in other.metrics]:
        versions = one.metrics[metric]["version"], other.metrics[metric]["version"]
        if versions[0] != versions[1]:
            return f"different versions of {metric} ({versions[0]} and {versions[1]})"
    return ""


def _name(record: Record) -> str:
    cell = record.cell
    limit = f", limit {cell.limit}" if cell.limit else ""
    more = "".join(
        f", {word}" for word, usual in ((cell.precision, "fp32"), (cell.preset, "standard")) if word != usual
    )
    return f"{cell.task} ({cell.source}) {record.label}, seed {cell.seed}{limit}{more}"


def _moves(name: str, one: Record, other: Record) -> list[Move]:
    keys = ["metric", "sample"]
    frames = [
        record.scores.assign(metric=record.scores["metric"].astype(str))[[*keys, "score", "valid"]]
        for record in (one, other)
    ]
    both = frames[0].merge(frames[1], on=keys, suffixes=("_one", "_other"))
    both = both[both["valid_one"] & both["valid_other"]]
    found = []
    for metric in [m for m in one.metrics if m in other.metrics]:
        own = both[both["metric"] == metric]
        if own.empty:
            continue
        before, after = own["score_one"].to_numpy(float), own["score_other"].to_numpy(float)
        difference = after - before
        low, high = _interval(difference)
        up = one.metrics[metric]["higher_is_better"] == (difference.mean() > 0)
        largest = float(np.abs(difference).max())
        found.append(Move(name, metric, float(before.mean()), float(after.mean()), low, high, bool(up), largest))
    return found


def _interval(difference: np.ndarray) -> tuple[float, float]:
    """Return the percentile interval of the mean of paired differences over resampled samples."""
    count = len(difference)
    weights = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), DRAWS) / count
    low, high = np.quantile(weights @ difference, [TAIL, 1 - TAIL])
    return float(low), float(high)


def table_of(found: Comparison) -> Table:
    """Return what moved as a table; what did not is counted."""
    moved = sorted((move for move in found.moves if move.moved), key=lambda move: (move.cell, move.metric))
    rows = [
        [move.cell, move.metric, number(move.before, 4), number(move.after, 4), f"{move.change:+.4f}",
         f"{move.low:+.4f} to {move.high:+.4f}", "better" if move.better else "worse"]
        for move in moved
    ]  # fmt: skip
    lines = ["change: of the mean over samples, paired, with 95 % of resampled samples."]
    lines += [f"not compared: {reason}" for reason in found.refused]
    lines += [f"only in the first: {name}" for name in found.only_before]
    lines += [f"only in the second: {name}" for name in found.only_after]
    cells = len({move.cell for move in found.moves})
    same = sum(move.largest == 0 for move in found.moves)
    heading = (
        f"{len(moved)} of {len(found.moves)} scores of {cells} cells moved; {same} are the same to the last digit, "
        f"{len(found.moves) - len(moved) - same} differ by no more than chance"
    )
    return Table(heading, ["cell", "metric", "before", "after", "change", "interval", ""], rows, lines)
