"""The report: one self-contained page of boards, figures and single samples."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from PIL import Image

from benchmark.core.errors import BenchmarkError
from benchmark.records.record import Record
from leaderboards import drawings
from leaderboards.ablation import Ablation
from leaderboards.ablation import cells as ablation_cells
from leaderboards.bootstrap import mean_over
from leaderboards.overall import Overall
from leaderboards.rank import Board, Row, boards, kind_of, scores_of
from leaderboards.score_array import sample_ranks
from leaderboards.selection import told_apart
from leaderboards.tables import arrowed, between, footer, number, percent, title

LARGEST = 5_000_000
"""Bytes of a page; where it would be larger, fewer samples are shown."""
ORANGE, PURPLE = (217, 95, 2), (117, 82, 178)

Examples = Callable[[Record], list[dict[str, Any]]]


@dataclass(frozen=True)
class ScoreCell:
    """A cell of a table: its text, what to sort by, and a background from -1 (purple) over 0 (none) to 1 (orange)."""

    text: str
    sort: float | str
    shade: float = 0.0

    @property
    def style(self) -> str:
        """Return the background as CSS."""
        return "" if not self.shade else background(self.shade)


def background(shade: float) -> str:
    """Return a colour that lets the page's own show through, so that text reads in light and in dark."""
    red, green, blue = ORANGE if shade > 0 else PURPLE
    return f"background:rgba({red},{green},{blue},{0.6 * min(1.0, abs(shade)):.2f})"


def page(
    records: list[Record], examples: Examples, together: Sequence[Overall] = (), ablations: Sequence[Ablation] = (),
    partial: bool = False,
) -> str:  # fmt: skip
    """Return the page for records of any tasks; the same records give the same bytes.

    `examples` gives what was kept beside a record. Samples are left out from the last until the page is under 5 MB.

    Raises:
        GapError: a board has holes and `partial` is False.
        BenchmarkError: records that do not belong together, or a page that is too large without samples.
    """
    made = boards(records, partial)
    parts = [_task(board, records, examples, partial) for board in made]
    environment = Environment(loader=PackageLoader("leaderboards"), autoescape=True, trim_blocks=True,
                              lstrip_blocks=True)  # fmt: skip
    template = environment.get_template("report.html.jinja")
    most = max([len(part["samples"]) for part in parts], default=0)
    for shown in range(most, -1, -1):
        found = template.render(
            tasks=[part | {"samples": part["samples"][:shown]} for part in parts],
            together=[_together(found) for found in together], ablations=[_ablation(found) for found in ablations],
            synthetic=sorted({board.task for board in made if board.source == "synthetic"}),
            left_out=most - shown,
        )  # fmt: skip
        if len(found.encode()) <= LARGEST:
            return found + "\n"
    raise BenchmarkError(f"the page of {len(made)} boards would be larger than 5 MB: choose fewer with --task")


def _task(board: Board, records: list[Record], examples: Examples, partial: bool) -> dict[str, Any]:
    own = told_apart([record for record in records if kind_of(record) == kind_of(board)])
    return {
        "id": f"{board.source}-{board.task}-{board.preset}-{board.precision}-{board.device}-{board.limit or 'all'}",
        "name": board.task,
        "synthetic": board.source == "synthetic",
        "title": title(board),
        "footer": footer(board),
        "header": ["method", "rank", "95 % interval", "best", "tie", *arrowed(board), "ms", "training s", "break-even"],
        "rows": [_row(row, board) for row in board.rows],
        "kinds": sorted({row.kind for row in board.rows}),
        "metrics": arrowed(board),
        "ranks": [(row.method, [_rank(row, name, len(board.rows)) for name in board.metrics]) for row in board.rows],
        "intervals": drawings.intervals(board),
        "pareto": drawings.pareto(board),
        "agreement": _agreement(own, partial),
        "curves": _curves(own),
        "samples": _samples(own, board, examples),
    }


def _row(row: Row, board: Board) -> dict[str, Any]:
    never = row.break_even is not None and math.isinf(row.break_even)
    pays = "never" if never else number(row.break_even, 0)
    scores = [ScoreCell(number(row.means.get(m), 3), _sortable(row.means.get(m))) for m in board.metrics]
    cells = [
        ScoreCell(number(row.mean_rank, 2), _sortable(row.mean_rank)),
        ScoreCell(between(row.low, row.high), _sortable(row.low)),
        ScoreCell(percent(row.best), _sortable(row.best)),
        ScoreCell(str(row.group or "–"), row.group),
        *scores,
        ScoreCell(number(row.milliseconds, 2), _sortable(row.milliseconds)),
        ScoreCell(number(row.train_seconds, 1), _sortable(row.train_seconds)),
        ScoreCell(pays, 1e300 if never else _sortable(row.break_even)),
    ]
    return {"method": row.method, "kind": row.kind, "gaps": row.gaps, "cells": cells}


def _sortable(value: float | None) -> float:
    return 1e301 if value is None or math.isnan(value) else value


def _rank(row: Row, metric: str, methods: int) -> ScoreCell:
    rank = row.ranks.get(metric)
    if rank is None:
        return ScoreCell("–", 1e301)
    middle = (methods + 1) / 2
    return ScoreCell(f"{rank:g}", rank, (middle - rank) / max(middle - 1, 0.5))


def _agreement(records: list[Record], partial: bool) -> dict[str, Any] | None:
    """Return Spearman's correlation between metrics: of the ranks that they give methods on the same samples."""
    found = scores_of(records, partial)
    ranks = mean_over(sample_ranks(found), 1)  # (M, N, K)
    flat = ranks.reshape(-1, ranks.shape[-1])
    flat = flat[np.isfinite(flat).all(1)]
    known = [k for k in range(flat.shape[1]) if len(flat) > 1 and np.ptp(flat[:, k]) > 0]
    if len(known) < 2:
        return None
    matrix = np.corrcoef(flat[:, known].T)
    names = [found.metrics[k] for k in known]
    rows = [(names[i], [ScoreCell(f"{value:.2f}", float(value), float(value) * 0.9) for value in matrix[i]])
            for i in range(len(names))]  # fmt: skip
    return {"names": names, "rows": rows}


def _curves(records: list[Record]) -> list[str]:
    found: dict[str, list[list[tuple[float, float]]]] = {}
    for record in sorted(records, key=lambda record: (record.label, record.cell.seed)):
        lines: dict[float, list[tuple[float, float]]] = {}
        for point in record.report.get("curves", []):
            if "loss" in point:
                lines.setdefault(point.get("member", 0.0), []).append((point["iteration"], point["loss"]))
        if lines:
            found.setdefault(record.label, []).extend(lines.values())
    drawn = [drawings.curve(label, series) for label, series in found.items()]
    return [svg for svg in drawn if svg]


def _samples(records: list[Record], board: Board, examples: Examples) -> list[dict[str, Any]]:
    """Return the samples that were kept, each with every method's explanation and scores, for the first seed."""
    first = min(record.cell.seed for record in records)
    done = {record.label: record for record in records if record.status == "done" and record.cell.seed == first}
    found: dict[int, dict[str, Any]] = {}
    for row in board.rows:
        record = done.get(row.method)
        for example in examples(record) if record is not None else []:
            seen = found.setdefault(example["sample"], {k: v for k, v in example.items() if k != "attribution"})
            own = record.scores[record.scores["sample"] == example["sample"]] if record is not None else None
            assert own is not None
            by_metric = dict(zip(own["metric"].astype(str), own["score"], strict=True))
            seen.setdefault("explanations", []).append(
                {"method": row.method, "kind": row.kind, "drawn": _drawn(example),
                 "scores": [(name, by_metric.get(name, float("nan"))) for name in board.metrics]}
            )  # fmt: skip
    for seen in found.values():
        _mark_best(seen["explanations"], board)
    return [found[sample] for sample in sorted(found)]


def _mark_best(explanations: list[dict[str, Any]], board: Board) -> None:
    """Turn scores into (metric, text, whether it is the best)."""
    best: dict[str, float] = {}
    for explanation in explanations:
        for name, score in explanation["scores"]:
            if not math.isnan(score):
                better = max if board.metrics[name] else min
                best[name] = better(best.get(name, score), score)
    for explanation in explanations:
        explanation["scores"] = [
            (name, number(score, 2), score == best.get(name)) for name, score in explanation["scores"]
        ]


def _drawn(example: dict[str, Any]) -> Any:
    """Return what the template draws: bars (name, value, share), words (word, CSS, value), or an overlay PNG."""
    raw = np.array([float("nan") if value is None else value for value in example["attribution"]])
    size = np.nan_to_num(np.abs(raw))
    top = np.quantile(size, 0.995) or size.max() or 1.0
    heat = np.clip(np.nan_to_num(raw) / top, -1, 1)
    if example["kind"] == "image":
        return _overlay(heat.reshape(example["side"], example["side"]))
    if example["kind"] == "text":
        return [(word, background(h) if abs(h) > 0.02 else "", f"{value:.3g}")
                for word, h, value in zip(example["words"], heat, raw, strict=True)]  # fmt: skip
    order = np.argsort(-np.abs(heat), kind="stable")[:14]
    return [(example["names"][i], f"{example['values'][i]:+.1f}", round(100 * float(heat[i]))) for i in sorted(order)]


def _overlay(heat: np.ndarray) -> str:
    """Return a map (n, n) in [-1, 1] as a transparent PNG in base 64: orange for, purple against."""
    pixels = np.zeros((*heat.shape, 4), np.uint8)
    pixels[heat > 0, :3], pixels[heat <= 0, :3] = ORANGE, PURPLE
    pixels[..., 3] = (np.abs(heat) ** 0.7 * 235).round()
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG", optimize=True)
    return base64.b64encode(sink.getvalue()).decode()


def _together(found: Overall) -> dict[str, Any]:
    most = max([len(found.rows), 2])
    rows = []
    for row in found.rows:
        cells = [ScoreCell(number(row.mean_rank, 2), _sortable(row.mean_rank)),
                 ScoreCell(between(row.low, row.high), _sortable(row.low)),
                 ScoreCell(percent(row.best), _sortable(row.best)),
                 ScoreCell(str(row.group or "–"), row.group)]  # fmt: skip
        for value in row.cells.values():
            if isinstance(value, str):
                cells.append(ScoreCell(value, 1e301))
            else:
                cells.append(ScoreCell(f"{value:.1f}", value, ((most + 1) / 2 - value) / ((most - 1) / 2)))
        rows.append({"method": row.method, "kind": row.kind, "cells": cells, "gaps": ()})
    return asdict(found) | {
        "rows": rows, "header": ["method", "rank", "interval", "best", "tie", *found.tasks], "critical": found.critical
    }  # fmt: skip


def _ablation(found: Ablation) -> dict[str, Any]:
    header, rows = ablation_cells(found)
    return {"title": title(found.board), "header": header, "rows": rows, "rivals": len(found.rivals),
            "labels": [(variant.name, variant.label) for variant in found.variants]}  # fmt: skip
