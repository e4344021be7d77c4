"""Ranks variants of one method on the same board, each beside the same other methods, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from benchmark.records.record import Record
from leaderboards.board import Board, GapError
from leaderboards.rank import by_board, rank
from leaderboards.tables import TextTable, arrowed, in_csv, in_json, number, title, write


@dataclass(frozen=True)
class Variant:
    """One variant of a method.

    Attributes:
        name: of the variant.
        label: that of its records.
        ranks: its mean rank on the board of each seed.
        means: mean over the seeds of its mean score, by metric.
        spreads: standard deviation (n - 1) over the seeds of its mean score, by metric; NaN with one seed.
        train_seconds: seconds of training, mean over the seeds.
    """

    name: str
    label: str
    ranks: tuple[float, ...]
    means: dict[str, float]
    spreads: dict[str, float]
    train_seconds: float

    @property
    def rank(self) -> float:
        """Mean over seeds of the mean rank."""
        return float(np.mean(self.ranks))

    @property
    def rank_spread(self) -> float:
        """Standard deviation of the mean rank over seeds; NaN with one seed."""
        return _spread(self.ranks)


@dataclass(frozen=True)
class Ablation:
    """Variants of one method, each ranked alone among other methods.

    Attributes:
        board: what the variants were ranked on; without rows, since each variant and seed has its own.
        seeds: all seeds.
        rivals: labels of the other methods.
        variants: in the order given.
    """

    board: Board
    seeds: tuple[int, ...]
    rivals: tuple[str, ...]
    variants: tuple[Variant, ...]

    @property
    def heading(self) -> str:
        """Say of which method it is, and on what."""
        return f"ablation of {self.variants[0].label.split('[')[0]} · {title(self.board)}"


def ablation(records: list[Record], labels: Mapping[str, str]) -> Ablation:
    """Rank variants of one method, each alone among all other records.

    Args:
        records: of one board, those of the variants and of the other methods.
        labels: by name of a variant, the label of its records.

    Raises:
        GapError: a record is missing or failed.
    """
    if not labels:
        raise GapError("no variant to compare")
    seeds = tuple(sorted({record.cell.seed for record in records}))
    rivals = [record for record in records if record.label not in labels.values()]
    variants = []
    for name, label in labels.items():
        boards = [_board_of(label, seed, rivals, records) for seed in seeds]
        rows = [next(row for row in board.rows if row.method == label) for board in boards]
        scores = {metric: [row.means[metric] for row in rows] for metric in rows[0].means}
        variants.append(
            Variant(
                name,
                label,
                tuple(row.mean_rank for row in rows),
                {metric: float(np.mean(values)) for metric, values in scores.items()},
                {metric: _spread(values) for metric, values in scores.items()},
                float(np.mean([row.train_seconds for row in rows])),
            )
        )
    names = tuple(dict.fromkeys(record.label for record in rivals))
    return Ablation(replace(boards[-1], seeds=seeds, rows=()), seeds, names, tuple(variants))


def _board_of(label: str, seed: int, rivals: list[Record], records: list[Record]) -> Board:
    """Return the board of one variant among its rivals under one seed, without intervals, which nobody looks at.

    Raises:
        GapError: the variant has no record under this seed.
    """
    of_variant = [record for record in records if record.label == label and record.cell.seed == seed]
    if not of_variant:
        raise GapError(f"no record of {label} for seed {seed}: run again to make it")
    return rank([*(record for record in rivals if record.cell.seed == seed), *of_variant], draws=0).board


def ablations(records: list[Record], labels: Mapping[str, str]) -> list[Ablation]:
    """Return an ablation for each board of which two variants at least were run on every seed, beside baselines."""
    made = []
    for group in by_board(records):
        usable = [record for record in group if record.status == "done" and record.comparable]
        seeds = {name: {r.cell.seed for r in usable if r.label == label} for name, label in labels.items()}
        most = max(map(len, seeds.values()), default=0)
        complete = {name: labels[name] for name, ran in seeds.items() if ran and len(ran) == most}
        rivals = [r for r in usable if r.kind in ("baseline", "control") and r.label not in labels.values()]
        if len(complete) > 1 and rivals:
            shared = set.union(*(seeds[name] for name in complete))
            variants = [record for record in usable if record.label in complete.values()]
            made.append(ablation([r for r in [*rivals, *variants] if r.cell.seed in shared], complete))
    return made


def _spread(values: tuple[float, ...] | list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def render(ablation: Ablation, form: str) -> str:
    """Return an ablation as text in one of the forms table, md, latex, csv, json."""
    if form == "json":
        return in_json(asdict(ablation) | {"variants": [asdict(v) | {"rank": v.rank} for v in ablation.variants]})
    if form == "csv":
        header = ["variant", "method", "seeds", "rank", "rank_spread", *ablation.board.metrics]
        return in_csv(
            header,
            [[v.name, v.label, len(v.ranks), v.rank, v.rank_spread, *v.means.values()] for v in ablation.variants],
        )
    header, rows = cells(ablation)
    rivals = f"{len(ablation.rivals)} other methods ({', '.join(ablation.rivals)})"
    lines = [
        f"rank: mean rank of the variant alone among {rivals}, "
        f"mean ± standard deviation over seeds {', '.join(map(str, ablation.seeds))}; metrics likewise.",
        *(f"{v.name}: {v.label}" for v in ablation.variants),
    ]
    return write(TextTable(ablation.heading, header, rows, lines), form)


def cells(ablation: Ablation) -> tuple[list[str], list[list[str]]]:
    """Return header and rows as text."""
    header = ["variant", "rank", *arrowed(ablation.board), "training s"]
    rows = [
        [
            variant.name,
            _with_spread(variant.rank, variant.rank_spread, 2),
            *(_with_spread(variant.means[m], variant.spreads[m], 3) for m in ablation.board.metrics),
            number(variant.train_seconds, 0),
        ]
        for variant in ablation.variants
    ]
    return header, rows


def _with_spread(mean: float, spread: float, digits: int) -> str:
    return number(mean, digits) + ("" if np.isnan(spread) else f" ± {spread:.{digits}f}")
