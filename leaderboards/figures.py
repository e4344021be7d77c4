"""Figures of records: faithfulness against cost, training curves, ablations, distance from the optimum."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from benchmark.core.errors import UsageError
from benchmark.records.record import Record
from leaderboards.ablation import Ablation
from leaderboards.board import Board
from leaderboards.overall import Overall
from leaderboards.tables import between, title

ENDINGS = (".png", ".svg", ".pdf")
ACCENT, PLAIN = "#d95f02", "#5b6b7b"
"""The colours of what is trained, and of what is not."""
INK, FAINT, GRID = "#222222", "#777777", "#cccccc"
COSTS = {"passes": "forward and backward passes", "milliseconds": "milliseconds"}
CURVES = {
    "copying": "pattern consistency loss, training",
    "correlation": "local correlation loss, training",
    "loss": "local correlation loss, validation",
    "alpha": "alpha, weight of pattern consistency",
    "mean_rank": "mean rank among prior methods, validation",
}
LOSSES_ACROSS = 4
NEAR, NEAR_ACROSS = 0.03, 0.3
"""Points nearer than these shares of the axes would write over each other's names."""


def theme(style: str) -> None:
    """Set seaborn's style, in our colours."""
    inked = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
    sns.set_theme(style=style, context="notebook", color_codes=False,
                  rc={**dict.fromkeys(inked, INK), "grid.color": GRID, "axes.edgecolor": GRID})  # fmt: skip


def save(figure: Figure, path: Path) -> Path:
    """Write a figure and close it.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130, bbox_inches="tight", metadata={"Date": None} if path.suffix == ".svg" else None)
    except OSError as error:
        raise UsageError(f"cannot write {str(path)!r}: {error.strerror}; name another") from error
    finally:
        plt.close(figure)
    return path


def cost_figure(board: Board, costs: Sequence[str] = ("passes", "milliseconds"), headed: bool = True) -> Figure:
    """Draw each method's mean rank against what one explanation costs.

    A line joins the methods that no other beats in both. Controls and oracles are left out.

    Args:
        board: with two such methods at least.
        costs: a panel for each: passes (forward and backward passes) or milliseconds.
        headed: write what the board was made from above.
    """
    theme("whitegrid")
    figure, panels = plt.subplots(1, len(costs), figsize=(max(9.0, 6.5 * len(costs)), 5.6), sharey=True, squeeze=False)
    rows = [row for row in board.rows if row.kind not in ("control", "oracle") and np.isfinite(row.mean_rank)]
    for axes, cost in zip(panels[0], costs, strict=True):
        spent = [row.forwards + row.backwards if cost == "passes" else row.milliseconds for row in rows]
        least = min([value for value in spent if value > 0], default=1.0)
        frame = pd.DataFrame(
            {
                "cost": [max(value, least / 2) for value in spent],
                "rank": [row.mean_rank for row in rows],
                "kind": ["trained" if row.kind == "learned" else "made as asked" for row in rows],
                "name": [row.method + (" (0)" if value == 0 else "") for row, value in zip(rows, spent, strict=True)],
                "tip": [f"{row.method}: rank {row.mean_rank:.2f}, {value:.3g} {COSTS[cost]} an explanation"
                        for row, value in zip(rows, spent, strict=True)],
            }
        )  # fmt: skip
        front = _front(frame)
        axes.plot(front["cost"], front["rank"], color=ACCENT, linewidth=1.2, alpha=0.6, zorder=1,
                  label="none better in both" if axes is panels[0][0] else None)  # fmt: skip
        sns.scatterplot(frame, x="cost", y="rank", hue="kind", style="kind", s=90, ax=axes,
                        palette={"trained": ACCENT, "made as asked": PLAIN}, legend=axes is panels[0][0])  # fmt: skip
        axes.set_xscale("log")
        _mark_decades(axes)
        axes.set_xlabel(f"{COSTS[cost]}, an explanation (log scale)")
        _name_points(axes, frame)
    first = panels[0][0]
    first.invert_yaxis()
    first.set_ylabel("mean rank, best at the top")
    if headed:
        figure.suptitle(title(board), fontsize=11)
        figure.tight_layout()
    sns.move_legend(first, "lower center", bbox_to_anchor=(0.5, -0.02), ncol=3, title=None, frameon=False,
                    bbox_transform=figure.transFigure)  # fmt: skip
    figure.subplots_adjust(bottom=0.2)
    return figure


def _mark_decades(axes: Axes) -> None:
    """Write numbers along a logarithmic axis, between powers of ten only where there are few of them."""
    least, most = axes.get_xlim()
    if most / least < 300:
        axes.xaxis.set_major_locator(MaxNLocator(5) if most / least < 5 else LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _front(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the points that no other beats in both cost and rank, by cost."""
    ordered = frame.sort_values(["cost", "rank"], kind="stable")
    return ordered[ordered["rank"] < ordered["rank"].cummin().shift(fill_value=np.inf)]


def _name_points(axes: Axes, frame: pd.DataFrame) -> None:
    """Write each point's name on the side where there is room, names of neighbours above and below one another."""
    across = np.log10(frame["cost"].to_numpy())
    across = (across - across.min()) / max(np.ptp(across), 1e-9)
    ranks = frame["rank"].to_numpy()
    span = max(np.ptp(ranks), 1e-9)
    for i, (name, tip) in enumerate(zip(frame["name"], frame["tip"], strict=True)):
        near = (np.abs(ranks - ranks[i]) < NEAR * span) & (np.abs(across - across[i]) < NEAR_ACROSS)
        place, of = int(near[:i].sum()), int(near.sum())
        down = 0.0 if of == 1 else 11.0 * (place - (of - 1) / 2)
        left = across[i] > 0.6
        axes.annotate(name, (frame["cost"].iloc[i], ranks[i]), (-8 if left else 8, -down), textcoords="offset points",
                      va="center", ha="right" if left else "left", fontsize=8.5, label=tip)  # fmt: skip


def intervals_figure(board: Board, headed: bool = True) -> Figure:
    """Draw mean ranks with 95 % intervals; a bar at the left joins methods that cannot be told apart.

    Args:
        board: whose methods are drawn, those that have a mean rank.
        headed: write what the board was made from above.
    """
    rows = [row for row in board.rows if np.isfinite(row.mean_rank)]
    theme("whitegrid")
    figure, axes = plt.subplots(figsize=(9, 0.36 * len(rows) + (1.8 if headed else 1.0)))
    for at, row in enumerate(rows):
        colour = ACCENT if row.kind == "learned" else PLAIN
        tip = f"{row.method}: {row.mean_rank:.2f}"
        if np.isfinite(row.low):
            axes.plot([row.low, row.high], [at, at], color=colour, alpha=0.45, linewidth=4, solid_capstyle="round")
            tip += f"; 95 % interval {between(row.low, row.high)}"
        axes.plot(row.mean_rank, at, "o", color=colour, markersize=7, label=tip)
    join_ties(axes, [row.group for row in rows])
    names = [row.method + (f" ({row.kind})" if row.kind in ("control", "oracle") else "") for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0, len(rows) + 0.5))
    axes.set_xlabel("mean rank over the metrics, with 95 % intervals (orange: trained)")
    axes.grid(axis="y", visible=False)
    if headed:
        axes.set_title(f"{title(board)}; bars at the left join ties", fontsize=9, loc="left", wrap=True)
        figure.tight_layout()
    return figure


def join_ties(axes: Axes, groups: list[int]) -> None:
    """Draw a bar at the left along rows that cannot be told apart."""
    for group in sorted({number for number in groups if number}):
        members = [at for at, number in enumerate(groups) if number == group]
        if len(members) > 1:
            axes.plot([0.25, 0.25], [members[0] - 0.25, members[-1] + 0.25], color=INK, linewidth=2.5)


def critical_figure(overall: Overall) -> Figure:
    """Draw mean ranks over tasks on a line, with bars over methods that Nemenyi's test cannot tell apart.

    Source: Demsar 2006. With few tasks the bar spans everything, and says so.

    Raises:
        UsageError: fewer than two methods are on all tasks.
    """
    rows = [row for row in overall.rows if np.isfinite(row.mean_rank)]
    if len(rows) < 2:
        raise UsageError("a critical-difference diagram needs two methods that are on all tasks")
    half = (len(rows) + 1) // 2
    most = max(row.mean_rank for row in rows) + 0.5
    theme("white")
    bars = _cliques([row.mean_rank for row in rows], overall.critical)
    figure, axes = plt.subplots(figsize=(11, 0.34 * half + 0.14 * len(bars) + 1.7))
    axes.plot([1, most], [0, 0], color=INK, linewidth=1.2)
    for rank in range(1, int(most) + 1):
        axes.plot([rank, rank], [0, 0.15], color=INK, linewidth=1)
        axes.annotate(str(rank), (rank, 0.2), ha="center", va="bottom", fontsize=9)
    first = -0.35 * len(bars) - 0.6
    for at, row in enumerate(rows):
        left = at < half
        y = first - 0.75 * (at if left else len(rows) - 1 - at)
        edge = 0.6 if left else most + 0.4
        colour = ACCENT if row.kind == "learned" else PLAIN
        axes.plot([row.mean_rank, row.mean_rank, edge], [0, y, y], color=colour, linewidth=1)
        axes.annotate(f"{row.method} {row.mean_rank:.2f}", (edge, y), (-4 if left else 4, 0), va="center", fontsize=9,
                      textcoords="offset points", ha="right" if left else "left", color=INK)  # fmt: skip
    for at, (low, high) in enumerate(bars):
        axes.plot([low - 0.06, high + 0.06], [-0.35 * (at + 1)] * 2, color=INK, linewidth=3.5)
    axes.axis("off")
    axes.set_xlim(-0.8, most + 1.8)
    axes.set_title(f"{len(overall.tasks)} tasks, {_data(overall.source)} · critical difference {overall.critical:.1f} "
                   "(Nemenyi, 0.05); bars join what cannot be told apart", fontsize=10, loc="left")  # fmt: skip
    figure.tight_layout()
    return figure


def _cliques(ranks: list[float], critical: float) -> list[tuple[float, float]]:
    """Return the ends of the longest runs of sorted ranks within a critical difference, none inside another."""
    runs: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = max(i for i in range(len(ranks)) if ranks[i] - ranks[first] <= critical)
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return [(ranks[first], ranks[last]) for first, last in runs]


def curves_figure(records: Sequence[Record]) -> Figure:
    """Draw the training curves of trained explainers, one line for each record.

    Raises:
        UsageError: no record has any.
    """
    rows = [
        {"explainer": f"{record.label}, seed {record.cell.seed}"} | point
        for record in records
        for point in record.report.get("curves", [])
    ]
    if not rows:
        raise UsageError("no record here holds training curves: run a method that is trained, such as deepfaith")
    frame = pd.DataFrame(rows)
    recorded = [key for key in CURVES if key in frame and frame[key].notna().any()]
    theme("whitegrid")
    figure, panels = plt.subplots(1, len(recorded), figsize=(4.6 * len(recorded), 4), squeeze=False)
    for axes, key in zip(panels[0], recorded, strict=True):
        sns.lineplot(frame, x="iteration", y=key, hue="explainer", ax=axes, legend=axes is panels[0][-1])
        axes.set_title(CURVES[key], fontsize=10)
        axes.set_ylabel("")
    if legend := panels[0][-1].get_legend():
        legend.set_title("")
        sns.move_legend(panels[0][-1], "center left", bbox_to_anchor=(1.02, 0.5), fontsize=9)
    cells = sorted({(record.cell.task, record.cell.source) for record in records})
    figure.suptitle("training · " + ", ".join(f"{task}, {_data(source)}" for task, source in cells), fontsize=11)
    figure.tight_layout()
    return figure


def losses_figure(records: Sequence[Record]) -> Figure | None:
    """Draw the validation loss of each trained explainer in training, a line a seed; None where no record has any."""
    rows = [
        {"explainer": record.label, "line": f"{record.cell.seed} {point.get('member', 0.0)}"} | point
        for record in sorted(records, key=lambda record: (record.label, record.cell.seed))
        for point in record.report.get("curves", [])
        if "loss" in point
    ]
    frame = pd.DataFrame(rows, columns=["explainer", "line", "iteration", "loss"])
    frame = frame[frame.groupby("explainer")["loss"].transform("size") > 1]
    if frame.empty:
        return None
    theme("whitegrid")
    names = list(frame["explainer"].unique())
    across = min(len(names), LOSSES_ACROSS)
    down = -(-len(names) // across)
    figure, panels = plt.subplots(down, across, figsize=(2.7 * across, 2.0 * down), squeeze=False)
    figure.subplots_adjust(hspace=0.75, wspace=0.35)
    for axes, name in zip(panels.flat, names, strict=False):
        of_name = frame[frame["explainer"] == name]
        sns.lineplot(of_name, x="iteration", y="loss", units="line", estimator=None, color=ACCENT, ax=axes)
        axes.set_title(name, fontsize=10)
        axes.set(xlabel="", ylabel="")
        axes.tick_params(labelsize=8)
    for axes in panels.flat[len(names) :]:
        axes.set_visible(False)
    return figure


def ablation_figure(ablation: Ablation) -> Figure:
    """Draw each variant's mean rank: a dot for each seed, a bar for their mean."""
    rows = [{"variant": v.name, "mean rank": rank} for v in ablation.variants for rank in v.ranks]
    frame = pd.DataFrame(rows)
    theme("whitegrid")
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(ablation.variants) + 1.6))
    names = [v.name for v in ablation.variants]
    colours = {name: ACCENT if name == names[0] else "#b8c2cc" for name in names}
    sns.barplot(frame, x="mean rank", y="variant", hue="variant", order=names, palette=colours, errorbar=None, ax=axes,
                legend=False)  # fmt: skip
    sns.stripplot(frame, x="mean rank", y="variant", order=names, color=INK, size=5, jitter=False, ax=axes)
    axes.set_ylabel("")
    axes.set_xlabel(f"mean rank among {len(ablation.rivals)} other methods (lower is better); a dot is a seed")
    axes.set_title(ablation.heading, fontsize=9, wrap=True)
    figure.tight_layout()
    return figure


def optimum_figure(frame: pd.DataFrame, heading: str) -> Figure:
    """Draw how much of the way from `random` to each metric's own optimum explanations go.

    `frame` has the columns metric, explanation and share (0 at random, 1 at the optimum).
    """
    theme("whitegrid")
    figure, axes = plt.subplots(figsize=(10, 4.4))
    markers = ["D", "s", "o", "^", "v", "P"][: frame["explanation"].nunique()]
    sns.pointplot(frame, x="metric", y="share", hue="explanation", linestyle="none", dodge=0.4, errorbar=None,
                  markers=markers, palette="colorblind", ax=axes)  # fmt: skip
    axes.axhline(1, color=INK, linewidth=1)
    axes.set_ylabel("share of the way from random\nto the metric's own optimum")
    axes.set_xlabel("")
    axes.set_title(heading, fontsize=11)
    sns.move_legend(axes, "center left", bbox_to_anchor=(1.01, 0.5), title=None, fontsize=9, frameon=False)
    figure.tight_layout()
    return figure


def _data(source: str) -> str:
    return "SYNTHETIC data" if source == "synthetic" else "real data"
