"""Draws explanations as a figure: overlays on images, highlighted text, bars for tables, each with its ten scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from benchmark.inspection.explain import Explained, Explanation, interval_widths
from benchmark.inspection.page import page
from benchmark.inspection.shading import scale, strength, strongest
from benchmark.scoring.metrics import METRICS

COLOURS = mpl.colormaps["PuOr_r"]
"""From what speaks against the predicted class (purple) to what speaks for it (orange); told apart by all eyes."""
INK, FAINT, EVIDENCE = "#222222", "#777777", "#0072b2"
LINE = 92
"""Characters in a line of highlighted text."""
STYLE: dict[Any, Any] = {"font.family": "DejaVu Sans", "svg.hashsalt": "explain", "svg.fonttype": "path"}


def save(explained: Explained, path: Path) -> None:
    """Write explanations of a sample as a figure or a page.

    Args:
        explained: from `benchmark.inspection.explain.explain`.
        path: ends in .png, .svg or .html; its folder is made where there is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".html":
        path.write_text(page(explained), encoding="utf-8")
        return
    with mpl.rc_context(STYLE):
        figure = draw(explained)
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, dpi=110, bbox_inches="tight", facecolor="white", metadata=metadata)
        plt.close(figure)


def draw(explained: Explained) -> Figure:
    """Return one figure with all explanations."""
    kinds = {"image": _images, "text": _texts, "table": _bars}
    return kinds[explained.task.modality](explained)


def _marks(explanation: Explanation, best: dict[str, float]) -> list[tuple[str, bool]]:
    """Return each score as text, and whether no other explanation has a better one."""
    marks = []
    for name, score in explanation.scores.items():
        arrow = "↑" if METRICS[name].higher_is_better else "↓"
        text = "  –" if math.isnan(score) else f"{score:.2f}"
        marks.append((f"{name + arrow:<5} {text:>5}", not math.isnan(score) and score == best.get(name)))
    return marks


def _write_scores(axes: Axes, explanation: Explanation, best: dict[str, float], columns: int) -> None:
    """Write the scores into axes of their own; the best are bold."""
    axes.axis("off")
    marks = _marks(explanation, best)
    rows = math.ceil(len(marks) / columns)
    for at, (text, top) in enumerate(marks):
        axes.text(
            (at // rows) / columns, 1 - (at % rows + 0.5) / rows, text, transform=axes.transAxes, va="center",
            family="DejaVu Sans Mono", fontsize=7.5, color=INK if top else FAINT, weight="bold" if top else "normal",
        )  # fmt: skip


def _panels(
    explained: Explained, panels: int, across: int, size: tuple[float, float]
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with pairs of axes, a picture above its scores."""
    down = math.ceil(panels / across)
    figure = plt.figure(figsize=(size[0] * across, (size[1] + 1.0) * down), layout="constrained")
    figure.suptitle(explained.title, fontsize=11, color=INK, x=0.01, ha="left")
    grid = figure.add_gridspec(2 * down, across, height_ratios=[size[1], 0.95] * down)
    pairs = []
    for at in range(panels):
        row, column = divmod(at, across)
        pairs.append([figure.add_subplot(grid[2 * row, column]), figure.add_subplot(grid[2 * row + 1, column])])
    return figure, pairs


def _images(explained: Explained) -> Figure:
    assert explained.pixels is not None
    unsure = interval_widths(explained)
    count = len(explained.explanations) + 1 + len(unsure)
    figure, pairs = _panels(explained, count, min(5, count), (2.3, 2.3))
    shape = explained.pixels.shape[:2]
    grey = explained.pixels if explained.pixels.ndim == 2 else explained.pixels.mean(-1)
    top, below = pairs[0]
    top.imshow(explained.pixels, cmap="gray", vmin=0, vmax=1)
    top.set_title("the image", fontsize=9, color=INK)
    below.axis("off")
    lines = ["orange: for the predicted class", "purple: against it"]
    lines += ["blue: where evidence was planted"] if explained.evidence is not None else []
    below.text(0, 0.9, "\n".join([*lines, "bold: best score"]), fontsize=7.5, color=FAINT, va="top")
    best = explained.best()
    for (name, width), (axes, below) in zip(unsure, pairs[len(pairs) - len(unsure) :], strict=True):
        axes.imshow(width.reshape(shape), cmap="Greys", vmin=0, vmax=1)
        axes.set_title(name.replace(": ", ":\n"), fontsize=8, color=INK)
        below.axis("off")
        below.text(0, 0.9, "dark: a wide interval", fontsize=7.5, color=FAINT, va="top")
    for explanation, (axes, scores) in zip(explained.explanations, pairs[1 : len(pairs) - len(unsure)], strict=True):
        heat = strength(explanation.attribution).reshape(shape)
        axes.imshow(0.55 + 0.45 * grey, cmap="gray", vmin=0, vmax=1)
        axes.imshow(heat, cmap=COLOURS, vmin=-1, vmax=1, alpha=np.abs(heat) ** 0.7)
        axes.set_title(explanation.label, fontsize=9, color=INK)
        _write_scores(scores, explanation, best, 2)
    for axes, _ in pairs:
        axes.set_xticks([])
        axes.set_yticks([])
        if explained.evidence is not None:
            planted = explained.evidence.reshape(shape).astype(float)
            axes.contour(planted, levels=[0.5], colors=EVIDENCE, linewidths=1.2)
    return figure


def _layout(names: list[str]) -> list[tuple[int, int]]:
    """Return the line and the first column of each word."""
    places, line, column = [], 0, 0
    for name in names:
        if column and column + len(name) > LINE:
            line, column = line + 1, 0
        places.append((line, column))
        column += len(name) + 1
    return places


@dataclass(frozen=True)
class Block:
    """A text with its words in colours: an explanation with its `marks`, or how unsure one is."""

    title: str
    colours: list[str]
    inks: list[str]
    marks: list[tuple[str, bool]]


def _blocks(explained: Explained) -> list[Block]:
    """Return the text once for each explanation, then once for each that has intervals, greyed by their width."""
    best, blocks = explained.best(), []
    for explanation in explained.explanations:
        heat = strength(explanation.attribution[explained.valid])
        inks = ["#ffffff" if abs(value) > 0.75 else INK for value in heat]
        blocks.append(Block(explanation.label, [_shade(value) for value in heat], inks, _marks(explanation, best)))
    for title, width in interval_widths(explained):
        wide = width[explained.valid]
        greys = [to_hex(mpl.colormaps["Greys"](0.6 * float(value))) for value in wide]
        blocks.append(Block(title, greys, [INK] * len(wide), []))
    return blocks


def _texts(explained: Explained) -> Figure:
    places = _layout(explained.names)
    lines = places[-1][0] + 1
    blocks = _blocks(explained)
    height = 0.2 * lines + 0.55
    figure = plt.figure(figsize=(9.2, height * len(blocks) + 0.4), layout="constrained")
    figure.suptitle(explained.title, fontsize=11, color=INK, x=0.01, ha="left")
    for axes, block in zip(np.atleast_1d(figure.subplots(len(blocks), 1)), blocks, strict=True):
        axes.set(xlim=(0, LINE), ylim=(lines + 1.6, -1.1))
        axes.axis("off")
        axes.text(0, -0.75, block.title, fontsize=9, weight="bold", color=INK, va="center")
        for at, (name, (line, column)) in enumerate(zip(explained.names, places, strict=True)):
            box = plt.Rectangle((column - 0.2, line - 0.1), len(name) + 0.4, 0.88, color=block.colours[at], lw=0)
            axes.add_patch(box)
            axes.text(
                column + len(name) / 2, line + 0.36, name, family="DejaVu Sans Mono", fontsize=7.6, va="center",
                ha="center", color=block.inks[at],
            )  # fmt: skip
            if explained.evidence is not None and explained.evidence[explained.valid][at]:
                axes.plot([column, column + len(name)], [line + 0.86] * 2, color=EVIDENCE, lw=1.8)
        step = LINE / len(explained.metrics)
        for at, (text, top) in enumerate(block.marks):
            axes.text(
                at * step, lines + 0.75, " ".join(text.split()), fontsize=7, va="center", color=INK if top else FAINT,
                weight="bold" if top else "normal",
            )  # fmt: skip
    planted = "; underlined: where evidence was planted" if explained.evidence is not None else ""
    note = f"orange: for the predicted class, purple: against it{planted}; bold: best score"
    note += "; grey: the wider an interval, the darker" if interval_widths(explained) else ""
    figure.supxlabel(note, fontsize=7.5, color=FAINT, x=0.01, ha="left")
    return figure


def _bars(explained: Explained) -> Figure:
    assert explained.values is not None
    heats = np.stack([strength(explanation.attribution) for explanation in explained.explanations])
    shown = strongest(heats)
    count, best = len(explained.explanations), explained.best()
    across = min(4, count)
    figure, pairs = _panels(explained, count, across, (2.9 if across > 1 else 4.2, 0.24 * len(shown) + 0.4))
    names = [f"{explained.names[i]} = {explained.values[i]:+.1f}" for i in shown]
    for at, (heat, explanation, (axes, scores)) in enumerate(zip(heats, explained.explanations, pairs, strict=True)):
        axes.barh(range(len(shown)), heat[shown], color=[COLOURS(0.5 + 0.4 * np.sign(h)) for h in heat[shown]])
        if explanation.interval is not None:
            lower, upper = (np.clip(end / scale(explanation.attribution), -1, 1)[shown] for end in explanation.interval)
            axes.hlines(range(len(shown)), lower, upper, color=INK, lw=1.4)
            axes.plot(lower, range(len(shown)), "|", upper, range(len(shown)), "|", color=INK, ms=6)
        axes.set(xlim=(-1.05, 1.05), ylim=(len(shown) - 0.5, -0.5), xticks=[])
        axes.set_yticks(range(len(shown)), names if at % across == 0 else [""] * len(shown), fontsize=7.5)
        axes.tick_params(length=0)
        axes.axvline(0, color=FAINT, lw=0.8)
        for side in ("top", "right", "bottom", "left"):
            axes.spines[side].set_visible(False)
        axes.set_title(explanation.label, fontsize=9, color=INK)
        _write_scores(scores, explanation, best, 2)
    note = "orange: for the predicted class, purple: against it; bold: best score; columns in standard deviations"
    note += "; lines: intervals" if any(e.interval is not None for e in explained.explanations) else ""
    rest = (
        f"; the {len(shown)} strongest of {len(explained.names)} columns" if len(shown) < len(explained.names) else ""
    )
    figure.supxlabel(note + rest, fontsize=7.5, color=FAINT, x=0.01, ha="left")
    return figure


def _shade(value: float) -> str:
    return to_hex(COLOURS(0.5 + 0.42 * float(value)))
