"""Compares the paper's published numbers with ours."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau, spearmanr

from benchmark.records.record import Record
from benchmark.scoring.metrics import TEN
from leaderboards.board import kind_of
from leaderboards.rank import rankings
from leaderboards.selection import narrowed
from leaderboards.tables import TextTable, between, number, title

FOLDER = Path(__file__).parent / "published" / "paper"
LEARNED = ("deepfaith", "vert", "l2x", "cxplain", "fastshap")
"""What the paper's table of learned explainers compares."""
REASONS = (
    "Why they may differ: the target models are trained here and are not the paper's; the ten metrics are settled as "
    "docs/metrics.md says (curves with both ends, removal by the mean, subsets of a third), where the released code "
    "removes one feature at a time and leaves the whole input out of its curves; LIME and KernelSHAP have 100 samples "
    "here, 20 there; ours are test samples only.",
    "The published row of FastSHAP (FC .07, IROF .13, yet INS and NEG at the top) looks like a faulty run: with seven "
    "features a correct one is close to exact Shapley values. Ours is not tuned to match it.",
)


def read(name: str) -> list[dict[str, str]]:
    """Return the rows of one of the paper's tables: mean_rank, learning_to_explain or ablation_oct_deit."""
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@dataclass(frozen=True)
class Agreement:
    """How alike two orders of the same methods are.

    Attributes:
        task: where they were ranked.
        methods: how many there are.
        rho: Spearman's, -1 to 1; NaN under three methods or where all are tied.
        tau: Kendall's, likewise.
    """

    task: str
    methods: int
    rho: float
    tau: float


def agreement(task: str, ours: list[float], theirs: list[float]) -> Agreement:
    """Return how alike two lists of ranks of the same methods are."""
    if len(ours) < 3 or len(set(ours)) == 1 or len(set(theirs)) == 1:
        return Agreement(task, len(ours), float("nan"), float("nan"))
    return Agreement(
        task, len(ours), float(spearmanr(ours, theirs).statistic), float(kendalltau(ours, theirs).statistic)
    )


def mean_ranks(records: list[Record], partial: bool = False) -> tuple[list[TextTable], list[Agreement]]:
    """Return a table for each task whose mean ranks were published, methods ranked among those that the paper has."""
    published = {row["method"]: row for row in read("mean_rank")}
    compared = among([narrowed(record, TEN) for record in records], tuple(published))
    tables, agreements = [], []
    for ranking in rankings(compared, partial):
        board, method = ranking.board, {record.label: record.cell.method for record in ranking.records}
        rows = [(row, published[method[row.method]].get(board.task) or "") for row in board.rows]
        rows = [(row, theirs) for row, theirs in rows if theirs]
        if not rows:
            continue
        ours = [row.mean_rank for row, _ in rows]
        alike = agreement(board.task, ours, [float(theirs) for _, theirs in rows])
        agreements.append(alike)
        tables.append(
            TextTable(
                f"{title(board)} · beside the paper",
                ["method", "rank here", "95 % interval", "rank in the paper"],
                [[row.method, number(row.mean_rank, 1), between(row.low, row.high), theirs] for row, theirs in rows],
                [f"ranked among these {len(rows)} methods; {in_words(alike)}"],
            )
        )
    return tables, agreements


def in_words(alike: Agreement) -> str:
    """Return an agreement as words."""
    if np.isnan(alike.rho):
        return "too few methods, or all tied, for a rank correlation"
    return f"rank correlation with the paper: Spearman {alike.rho:+.2f}, Kendall {alike.tau:+.2f}"


def learned(records: list[Record], partial: bool = False) -> list[TextTable]:
    """Return, for each task with a published table of learned explainers or with ours, that table: ours, then theirs.

    Five metrics, and the mean of the ranks in them among the learned explainers.
    """
    published = read("learning_to_explain")
    metrics = [name for name in published[0] if name not in ("task", "method", "mean_rank")]
    compared = [narrowed(record, metrics) for record in among(records, LEARNED)]
    tables = []
    for board in [ranking.board for ranking in rankings(compared, partial, draws=0)]:
        if len(board.rows) < 2:
            continue
        rows = [
            [row.method, "here", *(number(row.means.get(m), 3) for m in metrics), number(row.mean_rank, 1)]
            for row in board.rows
        ]
        rows += [
            [row["method"], "paper", *(row[m] for m in metrics), row["mean_rank"]]
            for row in published
            if row["task"] == board.task
        ]
        header = ["method", "where", *(f"{m}{'↑' if board.metrics[m] else '↓'}" for m in metrics), "rank"]
        note = (
            "rank: among the learned explainers of the same place, in these five metrics; the paper's is among its "
            "five."
        )
        tables.append(TextTable(f"{title(board)} · learned explainers", header, rows, [note]))
    return tables


def among(records: list[Record], names: tuple[str, ...]) -> list[Record]:
    """Return the records of methods called `names` as they are by default; on a board that has none, their variants."""
    plain = {(kind_of(record), record.label) for record in records}
    return [
        record
        for record in records
        if record.cell.method in names
        and (record.label == record.cell.method or (kind_of(record), record.cell.method) not in plain)
    ]


def overall_agreement(agreements: list[Agreement]) -> str:
    """Return a line on the mean agreement over tasks."""
    known = [alike for alike in agreements if not np.isnan(alike.rho)]
    if not known:
        return "no task has enough methods for a rank correlation"
    rho, tau = np.mean([a.rho for a in known]), np.mean([a.tau for a in known])
    return f"mean over {len(known)} task{'s' * (len(known) > 1)}: Spearman {rho:+.2f}, Kendall {tau:+.2f}"
