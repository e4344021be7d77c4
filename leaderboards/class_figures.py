"""Figures of classes of costs: rank against rows, and tuned settings beside default ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from benchmark.tuned.classes import CLASSES
from leaderboards.board import Board, Row
from leaderboards.cost_class import SettingsRanking
from leaderboards.figures import ACCENT, FAINT, INK, PLAIN, join_ties, theme
from leaderboards.tables import between, title

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#56b4e9", "#e69f00")
"""Those of Okabe and Ito 2008, which the colour-blind tell apart, without yellow, which is faint on white."""
MARKERS, STYLES = ("o", "s", "^", "v", "P"), ("-", "--", "-.")
DODGE = 0.06
"""Decades over which methods of the same rows are spread."""


@dataclass(frozen=True)
class Line:
    """How a method is drawn.

    Attributes:
        name: of the method.
        rows: of its settings, from the least rows an explanation to the most.
        cost: rows of each as drawn: spread where methods have the same, above 0.
    """

    name: str
    rows: tuple[Row, ...]
    cost: np.ndarray

    @property
    def learned(self) -> bool:
        """Tell whether the method was trained."""
        return self.rows[0].kind == "learned"


def rows_figure(settings: SettingsRanking) -> Figure:
    """Draw the mean rank of all chosen settings against the rows of an explanation: a line a method.

    Intervals are those of 95 %. Controls are dashed lines across, stars are trained methods. Settings that ask no row
    stand at the left, marked (0).

    Args:
        settings: in one ranking.
    """
    board = settings.ranking.board
    lines = _lines(settings)
    controls = [row for row in board.rows if row.kind == "control"]
    theme("whitegrid")
    figure, axes = plt.subplots(figsize=(11, max(5.2, 0.27 * len(lines) + 2)))
    ends = []
    looks = zip(cycle(COLOURS), cycle(MARKERS), (style for style in cycle(STYLES) for _ in COLOURS), strict=False)
    for line, (colour, marker, style) in zip(lines, looks, strict=False):
        ranks = [row.mean_rank for row in line.rows]
        axes.plot(line.cost, ranks, style, color=colour, linewidth=1.3, alpha=0.85, zorder=2)
        for cost, row in zip(line.cost, line.rows, strict=True):
            tip = f"{row.method}: rank {row.mean_rank:.2f}, {row.forwards + row.backwards:.1f} rows an explanation"
            if np.isfinite(row.low):
                axes.plot([cost, cost], [row.low, row.high], color=colour, linewidth=1.1, alpha=0.4, zorder=1)
                tip += f"; 95 % interval {between(row.low, row.high)}"
            axes.plot(cost, row.mean_rank, "*" if line.learned else marker, color=colour, zorder=3, label=tip,
                      markersize=14 if line.learned else 6.5, markeredgecolor="white")  # fmt: skip
        none = any(row.forwards + row.backwards == 0 for row in line.rows)
        name = line.name + (" (0)" if none else "") + (" (trained)" if line.learned else "")
        ends.append((name, float(line.cost[-1]), ranks[-1], colour))
    axes.set_xscale("log")
    axes.invert_yaxis()
    _mark_classes(axes, np.concatenate([line.cost for line in lines]))
    for row in controls:
        axes.axhline(row.mean_rank, color=FAINT, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
        ends.append((f"{row.method} (control)", axes.get_xlim()[1], row.mean_rank, FAINT))
    _name_ends(axes, ends)
    axes.set_xlabel("forward and backward passes, an explanation (log scale)")
    axes.set_ylabel("mean rank among all settings, best at the top")
    reading = "as tuned for each class of costs; equal rows are drawn apart; bars: 95 % intervals; stars: trained"
    reading += "; (0): asks no row" if any(" (0)" in name for name, *_ in ends) else ""
    axes.set_title(f"{title(board)}\n{reading}", fontsize=9, loc="left", wrap=True, pad=22)
    figure.subplots_adjust(left=0.07, right=0.76)
    return figure


def _lines(settings: SettingsRanking) -> list[Line]:
    """Return the methods, by their best rank."""
    rows: dict[str, list[Row]] = {}
    for row in settings.ranking.board.rows:
        if row.method in settings.methods:
            rows.setdefault(settings.methods[row.method], []).append(row)
    asked = [row.forwards + row.backwards for each in rows.values() for row in each]
    least = min((cost for cost in asked if cost > 0), default=1.0)
    shifts = np.linspace(-DODGE, DODGE, len(rows)) if len(rows) > 1 else [0.0]
    lines = []
    for (name, each), shift in zip(rows.items(), shifts, strict=True):
        ordered = sorted(each, key=lambda row: row.forwards + row.backwards)
        cost = np.array([max(row.forwards + row.backwards, least / 2) for row in ordered])
        lines.append(Line(name, tuple(ordered), cost * 10**shift))
    return lines


def _mark_classes(axes: Axes, costs: np.ndarray) -> None:
    """Draw where each class of costs ends, as far as there are settings."""
    axes.set_xlim(costs.min() / 1.6, costs.max() * 1.6)
    for most in [rows for rows in CLASSES if rows is not None and costs.min() < rows < costs.max() * 1.6]:
        edge = most * 10 ** (1.3 * DODGE)
        axes.axvline(edge, color=FAINT, linewidth=1, alpha=0.6, zorder=0)
        axes.annotate(f"at most {most}", (edge, 1), (2, 4), xycoords=axes.get_xaxis_transform(), color=FAINT,
                      textcoords="offset points", ha="right", fontsize=8.5)  # fmt: skip


def _name_ends(axes: Axes, ends: Sequence[tuple[str, float, float, str]]) -> None:
    """Write each line's name at the right, with a dotted line from its last point, so that no two names overlap."""
    ordered = sorted(ends, key=lambda end: end[2])
    bottom, top = axes.get_ylim()  # the best rank is at the top
    places = spread([(rank - top) / (bottom - top) for _, _, rank, _ in ordered], 0.98 / max(len(ordered), 22))
    for (name, cost, rank, colour), place in zip(ordered, places, strict=True):
        axes.annotate(name, (cost, rank), (1.03, 1 - place), textcoords=axes.transAxes, va="center", fontsize=9,
                      color=colour, annotation_clip=False,
                      arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.8, "alpha": 0.6, "shrinkB": 5,
                                  "linestyle": ":",
                                  "relpos": (0, 0.5)})  # fmt: skip


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Return places in [0, 1], as near to ascending ones that are wanted as a gap between them allows.

    Example:
        >>> spread([0.1, 0.1, 0.9], 0.25)
        [0.1, 0.35, 0.9]
    """
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + gap) if places else place)
    most = 1.0
    for at in reversed(range(len(places))):
        places[at] = min(places[at], most)
        most = places[at] - gap
    return places


def tuned_figure(tuned: Board, default: Board) -> Figure:
    """Draw mean ranks with 95 % intervals under tuned settings and, lighter, under those that methods have by default.

    Ranks are those within each board. A bar at the left joins methods that cannot be told apart as tuned; numbers at
    the right are the ties of both boards.

    Args:
        tuned: of a class of costs.
        default: of the same methods.
    """
    rows = [row for row in tuned.rows if np.isfinite(row.mean_rank)]
    before = {row.method: row for row in default.rows}
    theme("whitegrid")
    figure, axes = plt.subplots(figsize=(9.5, max(0.46 * len(rows) + 2.0, 3.4)))
    for at, row in enumerate(rows):
        colour = ACCENT if row.kind == "learned" else PLAIN
        _interval(axes, at - 0.15, row, colour, "tuned", 1.0)
        if row.method in before:
            _interval(axes, at + 0.2, before[row.method], colour, "default", 0.4)
        for across, of in ((1.04, row), (1.11, before.get(row.method))):
            axes.annotate(str(of.group or "–") if of else "–", (across, at), xycoords=axes.get_yaxis_transform(),
                          ha="center", va="center", fontsize=9, annotation_clip=False,
                          color=INK if of is row else FAINT)  # fmt: skip
    for across, word in ((1.04, "tie"), (1.11, "by\ndefault")):
        axes.annotate(word, (across, -0.6), xycoords=axes.get_yaxis_transform(), ha="center", va="bottom", fontsize=8,
                      annotation_clip=False, color=FAINT)  # fmt: skip
    join_ties(axes, [row.group for row in rows])
    axes.set_yticks(range(len(rows)), [
        row.method + (f" ({row.kind})" if row.kind in ("control", "oracle") else "") for row in rows
    ])  # fmt: skip
    axes.set(ylim=(len(rows) - 0.5, -0.6), xlim=(0, len(tuned.rows) + 0.5))
    axes.set_xlabel("mean rank over the metrics, with 95 % intervals (orange: trained)")
    axes.grid(axis="y", visible=False)
    drawn = {"tuned": (1.0, 7, "o"), "default settings": (0.4, 5, "o")}
    axes.legend(
        handles=[Line2D([], [], color=PLAIN, alpha=alpha, marker=marker, markersize=size, linewidth=4, label=word)
                 for word, (alpha, size, marker) in drawn.items()],
        loc="upper center", fontsize=9, frameon=False, ncol=2, bbox_to_anchor=(0.5, 0.0),
        bbox_transform=axes.transAxes + ScaledTranslation(0, -0.55, figure.dpi_scale_trans),
    )  # fmt: skip
    axes.set_title(f"{title(tuned)}; bars at the left join ties", fontsize=9, loc="left", wrap=True,
                   pad=26)  # fmt: skip
    figure.tight_layout()
    return figure


def _interval(axes: Axes, at: float, row: Row, colour: str, word: str, strength: float) -> None:
    tip = f"{row.method}, {word}: {row.mean_rank:.2f}"
    if np.isfinite(row.low):
        axes.plot([row.low, row.high], [at, at], color=colour, alpha=0.5 * strength, linewidth=4,
                  solid_capstyle="round")  # fmt: skip
        tip += f"; 95 % interval {between(row.low, row.high)}"
    axes.plot(row.mean_rank, at, "o", color=colour, alpha=strength, markersize=7 if strength == 1 else 5, label=tip)
