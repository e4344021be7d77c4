"""The report: one self-contained page of boards, figures and single samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader

from benchmark.core.errors import BenchmarkError
from benchmark.inspection.shading import background, bars, overlay, strength, strongest, words
from benchmark.records.record import Record
from benchmark.scoring.metrics import PAPER
from leaderboards import overall
from leaderboards.ablation import Ablation
from leaderboards.ablation import cells as ablation_cells
from leaderboards.board import Board, Row
from leaderboards.figures import cost_figure, intervals_figure, losses_figure
from leaderboards.inline_svg import inline_svg
from leaderboards.overall import Overall
from leaderboards.rank import Ranking
from leaderboards.score_array import mean_over
from leaderboards.tables import COSTS, RANKS, TRAINING, TextTable, arrowed, between, footer, number, percent, title

LARGEST = 5_000_000
"""Bytes of a page; where it would be larger, fewer samples are shown."""
LAST = 1e301
"""What a cell without a number is sorted by, after all that have one."""

Examples = Callable[[Record], list[dict[str, Any]]]


@dataclass(frozen=True)
class ScoreCell:
    """A cell of a table: its text, what to sort by, and a background from -1 (purple) over 0 (none) to 1 (orange)."""

    text: str
    sort: float | str
    shade: float = 0.0

    @property
    def style(self) -> str:
        """Background as CSS."""
        return "" if not self.shade else background(self.shade)


def page(
    rankings: Sequence[Ranking],
    examples: Examples,
    overalls: Sequence[Overall] = (),
    ablations: Sequence[Ablation] = (),
    others: Sequence[TextTable] = (),
) -> str:
    """Return the page about some rankings; the same records give the same bytes.

    Args:
        rankings: one a board.
        examples: returns the samples that were kept beside a record, see `benchmark.running.kept_samples`.
        overalls: boards of several tasks.
        ablations: of any tasks.
        others: tables of scores that others computed, marked as theirs.

    Returns:
        HTML of at most 5 MB: of each board samples are left out from the last on until it is.

    Raises:
        BenchmarkError: the page is too large without samples.
    """
    parts = [_task(ranking, examples) for ranking in rankings if ranking.scores.metrics or ranking.board.group == PAPER]
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("leaderboards"), PackageLoader("benchmark.inspection")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html.jinja")
    most = max([len(part["samples"]) for part in parts], default=0)
    for shown in range(most, -1, -1):
        text = template.render(
            tasks=[part | {"samples": part["samples"][:shown]} for part in parts],
            overalls=[_overall(board) for board in overalls],
            ablations=[_ablation(made) for made in ablations],
            others=[asdict(table) for table in others],
            synthetic=sorted({part["name"] for part in parts if part["synthetic"]}),
            left_out=most - shown,
        ).lstrip()
        if len(text.encode()) <= LARGEST:
            return text + "\n"
    raise BenchmarkError(f"the page of {len(parts)} boards would be larger than 5 MB: choose fewer with --task")


def _task(ranking: Ranking, examples: Examples) -> dict[str, Any]:
    """Return what the template shows of one board."""
    board = ranking.board
    return {
        "id": f"{board.source}-{board.task}-{board.preset}-{board.precision}-{board.device}-{board.limit or 'all'}"
        + ("" if board.group == PAPER else f"-{board.group}")
        + (f"-{board.cost_class.name}-rows" if board.cost_class else ""),
        "name": board.task
        + ("" if board.group == PAPER else f", {board.group} metrics")
        + (f", {board.cost_class.title}" if board.cost_class else ""),
        "synthetic": board.source == "synthetic",
        "title": title(board),
        "footer": footer(board),
        "header": [*RANKS, *arrowed(board), *COSTS[2:], TRAINING[1]],
        "rows": [_row(row, board) for row in board.rows],
        "kinds": sorted({row.kind for row in board.rows}),
        "metrics": arrowed(board),
        "ranks": [(row.method, [_rank(row, name, len(board.rows)) for name in board.metrics]) for row in board.rows],
        "intervals": inline_svg(
            intervals_figure(board, headed=False), f"Mean ranks of {board.task} with 95 % intervals"
        ),
        "cost": _cost(board),
        "agreement": _agreement(ranking),
        # what no metric changes stands once, with the board of the ten
        "losses": _losses(ranking) if board.group == PAPER else "",
        "samples": _samples(ranking, examples) if board.group == PAPER else [],
    }


def _row(row: Row, board: Board) -> dict[str, Any]:
    never = row.break_even is not None and math.isinf(row.break_even)
    break_even = ScoreCell("never", LAST / 10) if never else _cell(row.break_even, 0)
    cells = [
        *_rank_cells(row),
        *(_cell(row.means.get(metric), 3) for metric in board.metrics),
        _cell(row.milliseconds, 2),
        _cell(row.train_seconds, 1),
        break_even,
    ]
    return {"method": row.method, "kind": row.kind, "gaps": row.gaps, "cells": cells}


def _rank_cells(row: Row | overall.OverallRow) -> list[ScoreCell]:
    """Return the cells that a board of one task and one of several have in common: rank, interval, best, tie."""
    return [
        _cell(row.mean_rank, 2),
        ScoreCell(between(row.low, row.high), _sortable(row.low)),
        ScoreCell(percent(row.best), _sortable(row.best)),
        ScoreCell(str(row.group or "–"), row.group),
    ]


def _cell(value: float | None, digits: int) -> ScoreCell:
    return ScoreCell(number(value, digits), _sortable(value))


def _sortable(value: float | None) -> float:
    return LAST if value is None or math.isnan(value) else value


def _rank(row: Row, metric: str, methods: int) -> ScoreCell:
    rank = row.ranks.get(metric)
    return ScoreCell("–", LAST) if rank is None else ScoreCell(f"{rank:g}", rank, _better(rank, methods))


def _better(rank: float, methods: int) -> float:
    """Return how much better than the middle a rank is, from 1 for the best to -1 for the worst."""
    middle = (methods + 1) / 2
    return (middle - rank) / max(middle - 1, 0.5)


def _cost(board: Board) -> str:
    """Return rank against time as SVG; empty where there are not two methods to compare."""
    ranked = [row for row in board.rows if row.kind not in ("control", "oracle") and math.isfinite(row.mean_rank)]
    if len(ranked) < 2:
        return ""
    label = f"Mean rank of {board.task} against the milliseconds of one explanation"
    return inline_svg(cost_figure(board, ("milliseconds",), headed=False), label)


def _agreement(ranking: Ranking) -> dict[str, Any] | None:
    """Return Spearman's correlation between metrics: of the ranks that they give methods on the same samples."""
    ranks = mean_over(ranking.scores.sample_ranks, 1)  # (M, N, K)
    flat = ranks.reshape(-1, ranks.shape[-1])
    flat = flat[np.isfinite(flat).all(1)]
    varied = [k for k in range(flat.shape[1]) if len(flat) > 1 and np.ptp(flat[:, k]) > 0]
    if len(varied) < 2:
        return None
    names = [ranking.scores.metrics[k] for k in varied]
    rows = [
        (name, [ScoreCell(f"{value:.2f}", float(value), float(value) * 0.9) for value in correlations])
        for name, correlations in zip(names, np.corrcoef(flat[:, varied].T), strict=True)
    ]
    return {"names": names, "rows": rows}


def _losses(ranking: Ranking) -> str:
    figure = losses_figure(ranking.records)
    return "" if figure is None else inline_svg(figure, f"Validation losses in training on {ranking.board.task}")


def _samples(ranking: Ranking, examples: Examples) -> list[dict[str, Any]]:
    """Return the samples that were kept, each with every method's explanation and scores, for the first seed."""
    board, first = ranking.board, min(record.cell.seed for record in ranking.records)
    done = {r.label: r for r in ranking.records if r.status == "done" and r.cell.seed == first}
    samples: dict[int, dict[str, Any]] = {}
    for row in board.rows:
        if row.method not in done:
            continue
        record = done[row.method]
        for example in examples(record):
            sample = samples.setdefault(
                example["sample"], {k: v for k, v in example.items() if k != "attribution"} | {"explanations": []}
            )
            scores = record.scores[record.scores["sample"] == example["sample"]]
            by_metric = dict(zip(scores["metric"].astype(str), scores["score"], strict=True))
            sample["explanations"].append(
                {
                    "method": row.method,
                    "kind": row.kind,
                    "drawn": _drawn(example),
                    "scores": [(name, by_metric.get(name, float("nan"))) for name in board.metrics],
                }
            )
    for sample in samples.values():
        _mark_best(sample["explanations"], board)
    return [samples[number] for number in sorted(samples)]


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
    """Return what the template draws of a kept explanation: bars, words, or a heat map as a PNG in base 64."""
    attribution = np.array([float("nan") if value is None else value for value in example["attribution"]])
    if example["kind"] == "image":
        return overlay(strength(attribution).reshape(example["side"], example["side"]))
    if example["kind"] == "text":
        return words(example["words"], attribution, [f"{value:.3g}" for value in attribution])
    names = [f"{name} {value:+.1f}" for name, value in zip(example["names"], example["values"], strict=True)]
    return bars(names, attribution, strongest(strength(attribution)[None]))


def _overall(board: Overall) -> dict[str, Any]:
    rows = []
    for row in board.rows:
        cells = _rank_cells(row)
        for rank in row.cells.values():
            if isinstance(rank, str):
                cells.append(ScoreCell(rank, LAST))
            else:
                cells.append(ScoreCell(f"{rank:.1f}", rank, _better(rank, len(board.rows))))
        rows.append({"method": row.method, "kind": row.kind, "cells": cells, "gaps": ()})
    return asdict(board) | {"rows": rows, "header": overall.header(board)}


def _ablation(made: Ablation) -> dict[str, Any]:
    header, rows = ablation_cells(made)
    return {"title": made.heading, "header": header, "rows": rows, "rivals": len(made.rivals)}
