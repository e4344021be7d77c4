"""Compares two sets of records: what moved, sample by sample, and by how much."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.stats import t as student

from benchmark.core.errors import BenchmarkError
from benchmark.core.identity import what_changed
from benchmark.records.record import Record
from leaderboards.board import Kind, kind_of
from leaderboards.selection import distinctly_labelled
from leaderboards.tables import TextTable, number

LEVEL = 0.05
"""How often a comparison of any number of scores that did not move may say that one has."""
ROUNDING = 1e-9
"""Scores that differ by no more, absolutely or relatively, are the same."""
SHOWN = 5


@dataclass(frozen=True)
class Move:
    """How a metric's mean of one cell changed.

    Attributes:
        cell: task, source, method, seed and what else tells it apart.
        metric: its name.
        before: mean score over the samples that are valid in both.
        after: likewise.
        low: lower end of the interval of the change; all intervals of a comparison together leave scores that did not
            move alone in 95 % of comparisons.
        high: upper end of it.
        better: whether the change is an improvement.
        largest: the largest change of one sample.
        differ: number of samples that differ by more than rounding.
        invalid: number of samples whose score was valid and no longer is.
        missing: number of samples that are gone.
    """

    cell: str
    metric: str
    before: float
    after: float
    low: float
    high: float
    better: bool
    largest: float
    differ: int = 0
    invalid: int = 0
    missing: int = 0

    @property
    def change(self) -> float:
        """Return after minus before."""
        return self.after - self.before

    @property
    def moved(self) -> bool:
        """Tell whether the interval leaves out 0."""
        return self.differ > 0 and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Comparison:
    """What moved between two sets of records.

    Attributes:
        moves: one for each cell and metric that both have.
        only_before: names of cells that only the first has.
        only_after: names of cells that only the second has.
        refused: what cannot be compared, and why.
        broken: what failed in one of them, or is gone.
        damaged: how many records of each could not be read.
    """

    moves: tuple[Move, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    refused: tuple[str, ...]
    broken: tuple[str, ...] = ()
    damaged: tuple[int, int] = (0, 0)

    def reasons(self) -> list[str]:
        """Return why what came after does not pass for what was before: nothing where it does."""
        reasons = [
            f"{count} records of the {which} are damaged"
            for which, count in zip(("first", "second"), self.damaged, strict=True)
            if count
        ]
        reasons += [*self.broken, *self.refused]
        reasons += [] if self.moves else ["nothing was compared: no cell is finished in both"]
        reasons += [f"{name}: is not in the second" for name in self.only_before]
        for move in self.moves:
            if move.missing:
                reasons.append(f"{move.cell} {move.metric}: {move.missing} samples are missing")
            if move.invalid:
                reasons.append(f"{move.cell} {move.metric}: {move.invalid} scores are no longer valid")
            if move.differ:
                reasons.append(f"{move.cell} {move.metric}: {move.differ} scores differ, by {move.largest:.2g} at most")
        return reasons


def compare(before: list[Record], after: list[Record], damaged: tuple[int, int] = (0, 0)) -> Comparison:
    """Compare records that stand for the same cell, paired by sample.

    Args:
        before: the first set, of any tasks, methods and seeds.
        after: the second.
        damaged: how many records of each could not be read.

    Raises:
        BenchmarkError: the two have no cell in common, or none of those can be compared.
    """
    old, new = _by_name(before), _by_name(after)
    shared = [name for name in old if name in new]
    if not shared:
        raise BenchmarkError("these two have no cell in common: expected the same tasks, methods, seeds and limits")
    pairs: list[_Pair] = []
    refused: list[str] = []
    broken: list[str] = []
    for name in shared:
        first, second = old[name], new[name]
        if "failed" in (first.status, second.status):
            if first.status != second.status:
                which = "first" if first.status == "failed" else "second"
                broken.append(
                    f"{name}: failed in the {which} ({(first.reason if which == 'first' else second.reason)})"
                )
        elif reason := unlike(first, second):
            refused.append(f"{name}: {reason}")
        else:
            broken += [f"{name}: {metric} is gone" for metric in first.metrics if metric not in second.metrics]
            pairs += _pairs(name, first, second)
    if not pairs and refused:
        raise BenchmarkError("nothing can be compared: " + "; ".join(refused[:SHOWN]))
    moves = _moves(pairs)
    only_before, only_after = tuple(n for n in old if n not in new), tuple(n for n in new if n not in old)
    return Comparison(tuple(moves), only_before, only_after, tuple(refused), tuple(broken), damaged)


def unlike(before: Record, after: Record) -> str:
    """Return why two records of a cell cannot be compared, or nothing where they can."""
    parts = ("task", "data", "model")
    if reason := what_changed(*({part: record.identity[part] for part in parts} for record in (before, after))):
        return reason
    for metric in [name for name in before.metrics if name in after.metrics]:
        versions = before.metrics[metric]["version"], after.metrics[metric]["version"]
        if versions[0] != versions[1]:
            return f"different versions of {metric} ({versions[0]} and {versions[1]})"
    return ""


def _by_name(records: list[Record]) -> dict[str, Record]:
    kinds: dict[Kind, list[Record]] = defaultdict(list)
    for record in records:
        kinds[kind_of(record)].append(record)
    return {_name(record): record for group in kinds.values() for record in distinctly_labelled(group)}


def _name(record: Record) -> str:
    cell = record.cell
    limit = f", limit {cell.limit}" if cell.limit else ""
    usual = ((cell.precision, "fp32"), (cell.preset, "standard"), (cell.device, "cpu"))
    more = "".join(f", {word}" for word, default in usual if word != default)
    return f"{cell.task} ({cell.source}) {record.label}, seed {cell.seed}{limit}{more}"


@dataclass(frozen=True, eq=False)
class _Pair:
    """The scores of one metric of one cell in both, sample by sample where both are valid."""

    cell: str
    metric: str
    higher_is_better: bool
    before: np.ndarray
    after: np.ndarray
    invalid: int
    missing: int


def _pairs(name: str, first: Record, second: Record) -> Iterator[_Pair]:
    columns = [_columns(record) for record in (first, second)]
    for metric in (metric for metric in first.metrics if metric in second.metrics):
        (samples, before, valid), (others, after, still) = (by_metric[metric] for by_metric in columns)
        missing = 0
        if not np.array_equal(samples, others):
            missing = len(np.setdiff1d(samples, others))
            _, at, at_after = np.intersect1d(samples, others, return_indices=True)
            before, valid, after, still = before[at], valid[at], after[at_after], still[at_after]
        both = valid & still
        invalid = int((valid & ~still).sum())
        yield _Pair(
            name, metric, first.metrics[metric]["higher_is_better"], before[both], after[both], invalid, missing
        )


def _columns(record: Record) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return samples, scores and whether they are valid, by metric, in the order of the samples."""
    sample, score = record.scores["sample"].to_numpy(), record.scores["score"].to_numpy(float)
    valid = record.scores["valid"].to_numpy(bool)
    metric = record.scores["metric"].astype("category")
    codes, columns = metric.cat.codes.to_numpy(), {}
    for code, name in enumerate(metric.cat.categories):
        rows = np.flatnonzero(codes == code)
        rows = rows[np.argsort(sample[rows], kind="stable")]
        columns[str(name)] = sample[rows], score[rows], valid[rows]
    return columns


def _moves(pairs: list[_Pair]) -> list[Move]:
    """Return how each mean changed, with intervals for all of them together (Bonferroni)."""
    moves = []
    for pair in pairs:
        if not len(pair.before):
            nan = float("nan")
            moves.append(Move(pair.cell, pair.metric, nan, nan, nan, nan, False, 0.0, 0, pair.invalid, pair.missing))
            continue
        difference = pair.after - pair.before
        with np.errstate(invalid="ignore"):
            near = np.isclose(pair.before, pair.after, rtol=ROUNDING, atol=ROUNDING)
        low, high = interval(difference, LEVEL / len(pairs))
        better = pair.higher_is_better == (difference.mean() > 0)
        largest = float(np.abs(difference).max())
        means = float(pair.before.mean()), float(pair.after.mean())
        differ = int((~near).sum())
        moves.append(
            Move(pair.cell, pair.metric, *means, low, high, bool(better), largest, differ, pair.invalid, pair.missing)
        )
    return moves


def interval(difference: np.ndarray, level: float) -> tuple[float, float]:
    """Return Student's interval of the mean of paired differences (N,) that leaves it out with probability `level`.

    Not by resampling: among thousands of scores the tails that matter are rarer than any number of draws can tell.
    """
    count, centre = len(difference), float(difference.mean())
    if count < 2:
        return (centre, centre) if abs(centre) > ROUNDING else (0.0, 0.0)
    error = float(difference.std(ddof=1)) / math.sqrt(count)
    reach = _quantile(1 - level / 2, count - 1) * error
    return centre - reach, centre + reach


@cache
def _quantile(probability: float, freedom: int) -> float:
    return float(student.ppf(probability, freedom))


def table_of(comparison: Comparison) -> TextTable:
    """Return what moved as a table; what did not is counted."""
    moved = sorted((move for move in comparison.moves if move.moved), key=lambda move: (move.cell, move.metric))
    rows = [
        [
            move.cell,
            move.metric,
            number(move.before, 4),
            number(move.after, 4),
            f"{move.change:+.4f}",
            f"{move.low:+.4f} to {move.high:+.4f}",
            "better" if move.better else "worse",
        ]
        for move in moved
    ]
    lines = [
        "change: of the mean over samples, paired; intervals are Student's, widened (Bonferroni) so that in 95 % of "
        "comparisons none of the scores that did not move leaves out 0.",
    ]
    lines += [f"not compared: {reason}" for reason in comparison.refused]
    lines += list(comparison.broken)
    for move in comparison.moves:
        lines += [f"{move.cell} {move.metric}: {move.invalid} scores are no longer valid"] if move.invalid else []
        lines += [f"{move.cell} {move.metric}: {move.missing} samples are missing"] if move.missing else []
    lines += [f"only in the first: {name}" for name in comparison.only_before]
    lines += [f"only in the second: {name}" for name in comparison.only_after]
    cells = len({move.cell for move in comparison.moves})
    same = sum(move.differ == 0 for move in comparison.moves)
    heading = (
        f"{len(moved)} of {len(comparison.moves)} scores of {cells} cells moved; {same} are the same but for rounding, "
        f"{len(comparison.moves) - len(moved) - same} differ by no more than chance"
    )
    return TextTable(heading, ["cell", "metric", "before", "after", "change", "interval", "verdict"], rows, lines)
