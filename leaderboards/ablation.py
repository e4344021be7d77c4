"""Ranks variants of one method on the same board, each beside the same other methods, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from benchmark.records.record import Record
from leaderboards.rank import Board, GapError, board
from leaderboards.tables import TextTable, arrowed, in_csv, in_json, number, title, write


@dataclass(frozen=True)
class Variant:
    """One variant. `ranks`: its mean rank on the board of each seed; `means` and `spreads` over the seeds, by metric.

    A spread is a standard deviation (n - 1), NaN with one seed.
    """

    name: str
    label: str
    ranks: tuple[float, ...]
    means: dict[str, float]
    spreads: dict[str, float]
    train_seconds: float

    @property
    def rank(self) -> float:
        """Return the mean over seeds of the mean rank."""
        return float(np.mean(self.ranks))

    @property
    def rank_spread(self) -> float:
        """Return the standard deviation of the mean rank over seeds."""
        return _spread(self.ranks)


@dataclass(frozen=True)
class Ablation:
    """Variants in the order given, on boards of `rivals`."""

    board: Board
    seeds: tuple[int, ...]
    rivals: tuple[str, ...]
    variants: tuple[Variant, ...]


def ablation(records: list[Record], labels: Mapping[str, str]) -> Ablation:
    """Return the variants named in `labels` (name to the record's label), each ranked among all other records.

    Raises:
        GapError: a record is missing or failed.
    """
    own = set(labels.values())
    seeds = tuple(sorted({record.cell.seed for record in records}))
    rivals = [record for record in records if record.label not in own]
    variants, last = [], None
    for name, label in labels.items():
        rows = []
        for seed in seeds:
            group = [r for r in rivals if r.cell.seed == seed]
            group += [r for r in records if r.label == label and r.cell.seed == seed]
            last = board(group)
            found = [row for row in last.rows if row.method == label]
            if not found:
                raise GapError(f"no record of {label} for seed {seed}: run again to make it")
            rows.append(found[0])
        metrics = list(rows[0].means)
        columns = {metric: [row.means[metric] for row in rows] for metric in metrics}
        variants.append(
            Variant(
                name,
                label,
                tuple(row.mean_rank for row in rows),
                {metric: float(np.mean(values)) for metric, values in columns.items()},
                {metric: _spread(values) for metric, values in columns.items()},
                float(np.mean([row.train_seconds for row in rows])),
            )
        )
    if last is None:
        raise GapError("no variant to compare")
    return Ablation(
        replace(last, seeds=seeds), seeds, tuple(dict.fromkeys(record.label for record in rivals)), tuple(variants)
    )


def ablations(records: list[Record], labels: Mapping[str, str]) -> list[Ablation]:
    """Return an ablation for each task of which two variants at least were run on every seed, beside baselines."""
    found = []
    for task in sorted({record.cell.task for record in records}):
        own = [r for r in records if r.cell.task == task and r.status == "done" and r.comparable]
        seeds = [{r.cell.seed for r in own if r.label == label} for label in labels.values()]
        most = max(map(len, seeds), default=0)
        there = {
            name: label for (name, label), ran in zip(labels.items(), seeds, strict=True) if ran and len(ran) == most
        }
        rivals = [r for r in own if r.kind in ("baseline", "control") and r.label not in labels.values()]
        if len(there) > 1 and rivals:
            kept = set.union(*(ran for ran in seeds if len(ran) == most))
            used = [r for r in [*rivals, *(r for r in own if r.label in there.values())] if r.cell.seed in kept]
            found.append(ablation(used, there))
    return found


def _spread(values: tuple[float, ...] | list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def render(found: Ablation, form: str) -> str:
    """Return an ablation as table, md, latex, csv or json."""
    if form == "json":
        return in_json(asdict(found) | {"variants": [asdict(v) | {"rank": v.rank} for v in found.variants]})
    if form == "csv":
        header = ["variant", "method", "seeds", "rank", "rank_spread", *found.board.metrics]
        return in_csv(header, [[v.name, v.label, len(v.ranks), v.rank, v.rank_spread, *v.means.values()]
                               for v in found.variants])  # fmt: skip
    header, rows = cells(found)
    lines = [
        f"rank: mean rank of the variant alone among {len(found.rivals)} other methods ({', '.join(found.rivals)}), "
        f"mean ± standard deviation over seeds {', '.join(map(str, found.seeds))}; metrics likewise.",
        *(f"{v.name}: {v.label}" for v in found.variants),
    ]
    heading = f"ablation · {title(found.board)}"
    return write(TextTable(heading, header, rows, lines), form)


def cells(found: Ablation) -> tuple[list[str], list[list[str]]]:
    """Return header and rows as text."""
    header = ["variant", "rank", *arrowed(found.board), "training s"]
    rows = [
        [
            variant.name,
            _with_spread(variant.rank, variant.rank_spread, 2),
            *(_with_spread(variant.means[m], variant.spreads[m], 3) for m in found.board.metrics),
            number(variant.train_seconds, 0),
        ]
        for variant in found.variants
    ]
    return header, rows


def _with_spread(mean: float, spread: float, digits: int) -> str:
    return number(mean, digits) + ("" if np.isnan(spread) else f" ± {spread:.{digits}f}")
