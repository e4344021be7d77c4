"""Boards as text: aligned for a terminal, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict
from typing import Any

from leaderboards.rank import ORDER, Board, Row

COSTS = ("forwards", "ms", "train s")
TRAINING = ("train rows", "pays after")
PAYING = (
    "train rows: rows of the model asked in training, once; pays after: how many explanations cost KernelSHAP as much "
    "time as training and explaining does."
)


def render(boards: list[Board], form: str) -> str:
    """Return boards in one of the forms table, md, csv, json."""
    match form:
        case "csv":
            return to_csv(boards)
        case "json":
            return in_json([asdict(board) for board in boards])
        case "md":
            return "\n\n".join(to_markdown(board) for board in boards)
        case _:
            return "\n\n".join(to_text(board) for board in boards)


def title(board: Board) -> str:
    """Return one line that says what a board was made from."""
    data = "SYNTHETIC stand-in data" if board.source == "synthetic" else "real data"
    rows = f"{board.samples} test samples" + (f" (limit {board.limit})" if board.limit else "")
    seeds = f"seed{'s' * (len(board.seeds) > 1)} {', '.join(map(str, board.seeds))}"
    quality = ", ".join(f"{key.replace('_', ' ')} {value:.3f}" for key, value in board.quality.items())
    precision = "" if board.precision == "fp32" else f" · {board.precision}"
    preset = "" if board.preset == "standard" else f" · preset {board.preset}"
    preset += "" if board.comparable else ", NOT COMPARABLE"
    quality += ", WEAK: under the task's floor" if board.weak else ""
    return f"{board.task} · {data} · {rows} · {seeds}{precision}{preset} · model: {quality}"


def footer(board: Board) -> list[str]:
    """Return the lines under a board: how to read it, and its gaps."""
    lines = [
        "↑ higher is better, ↓ lower is better. rank: mean over the metrics of the rank among these methods, ties "
        "shared; fam. rank: nearly equal metrics count once.",
        "valid: scores averaged / scores expected. forwards, ms: rows of the model and milliseconds an explanation; "
        "train s: seconds of training, once.",
        *([PAYING] if _trained(board) else []),
        *(["planted: share of the positive attribution that lies on the planted evidence."] if _planted(board) else []),
        *board.notes,
    ]
    lines += [f"{row.method}*: {gap}" for row in board.rows for gap in row.gaps]
    return lines


def cells(board: Board) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a board as text."""
    planted = ["planted"] if _planted(board) else []
    training = TRAINING if _trained(board) else ()
    header = ["method", "rank", "fam. rank", *arrowed(board), "valid", *planted, *COSTS, *training]
    return header, [_line(row, board) for row in board.rows]


def arrowed(board: Board) -> list[str]:
    """Return the board's metrics with the direction that is better."""
    return [f"{name}{'↑' if higher else '↓'}" for name, higher in board.metrics.items()]


def _planted(board: Board) -> bool:
    """Tell whether the board's data know where the evidence is."""
    return any(row.evidence is not None for row in board.rows)


def _trained(board: Board) -> bool:
    """Tell whether the board says after how many explanations training pays."""
    return any(row.pays_after is not None for row in board.rows)


def _line(row: Row, board: Board) -> list[str]:
    name = row.method + (f" ({row.kind})" if row.kind in ("control", "oracle") else "") + ("*" if row.gaps else "")
    scores = [number(row.means.get(metric), 3) for metric in board.metrics]
    costs = [number(row.forwards, 0), number(row.milliseconds, 2), number(row.train_seconds, 1)]
    return [
        name, number(row.mean_rank, 2), number(row.family_rank, 2), *scores, f"{row.valid[0]}/{row.valid[1]}",
        *([number(row.evidence, 3)] if _planted(board) else []), *costs, *(_training(row) if _trained(board) else []),
    ]  # fmt: skip


def _training(row: Row) -> list[str]:
    if row.pays_after is None:
        return ["–", "–"]
    return [number(row.train_rows, 0), "never" if math.isinf(row.pays_after) else number(row.pays_after, 0)]


def to_text(board: Board) -> str:
    """Return a board aligned for a terminal."""
    return in_text(title(board), *cells(board), footer(board))


def in_text(heading: str, header: list[str], rows: list[list[str]], lines: list[str]) -> str:
    """Return a table aligned for a terminal, under its heading and above its lines."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    table = [
        "  ".join(
            text.ljust(w) if i == 0 else text.rjust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in [header, ["-" * w for w in widths], *rows]
    ]
    return "\n".join([heading, "", *table, "", *lines])


def to_markdown(board: Board) -> str:
    """Return a board as a Markdown table."""
    return in_markdown(title(board), *cells(board), footer(board))


def in_markdown(heading: str, header: list[str], rows: list[list[str]], lines: list[str]) -> str:
    """Return a Markdown table under its heading and above its lines."""
    table = ["| " + " | ".join(row) + " |" for row in [header, ["---"] + ["---:"] * (len(header) - 1), *rows]]
    return "\n".join([f"**{heading}**", "", *table, "", *(f"{line}  " for line in lines)])


def to_csv(boards: list[Board]) -> str:
    """Return boards as CSV: one row a method; task, method, mean_rank, then one column a metric."""
    named = [name for name in ORDER if any(name in board.metrics for board in boards)]
    rows = [
        [board.task, row.method, row.mean_rank, *(row.means.get(name, "") for name in named)]
        for board in boards
        for row in board.rows
    ]
    return in_csv(["task", "method", "mean_rank", *named], rows)


def in_csv(header: list[str], rows: list[list[Any]]) -> str:
    """Return CSV with a header."""
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerows([header, *rows])
    return sink.getvalue().rstrip("\n")


def in_json(found: Any) -> str:
    """Return JSON, NaN as null."""
    return json.dumps(_plain(found), indent=1)


def number(value: float | None, digits: int) -> str:
    """Return a number as text, or a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _plain(value: object) -> object:
    """Return `value` with null for what is not finite, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
