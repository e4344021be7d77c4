"""Boards as text: aligned for a terminal, Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from benchmark.core.types import TOLD, told_of
from benchmark.scoring.metrics import PAPER
from leaderboards.board import Board, Row

RANKS = ("method", "rank", "95 % interval", "best", "tie")
COSTS = ("forward passes", "backward passes", "ms", "training s")
TRAINING = ("training passes", "break-even explanations")
TOLD_LINE = (
    "As methods say of themselves; with, unless: by their parameters. Rows through the model are measured: forward "
    "passes and backward passes, an explanation; training passes, once."
)
BREAK_EVEN = (
    "training passes: forward and backward passes of the model in training, once; break-even explanations: how many "
    "cost KernelSHAP as much time as training and explaining them does."
)


@dataclass(frozen=True)
class TextTable:
    """What is printed, in whatever form.

    Attributes:
        heading: one line that says what the table is made from.
        header: names of the columns.
        rows: of text, as wide as the header.
        lines: under the table, how to read it.
    """

    heading: str
    header: list[str]
    rows: list[list[str]]
    lines: list[str]

    def __str__(self) -> str:
        """Return the table aligned for a terminal."""
        return in_text(self)


def render(boards: list[Board], form: str) -> str:
    """Return boards as text.

    Args:
        boards: of any tasks.
        form: table (aligned for a terminal), md, latex, csv or json; csv and json hold numbers unrounded.

    Example:
        >>> from leaderboards.rank import rankings
        >>> print(render([ranking.board for ranking in rankings(records)], "md"))  # doctest: +SKIP
    """
    if form == "csv":
        return to_csv(boards)
    if form == "json":
        return in_json([asdict(board) for board in boards])
    return "\n\n".join(write(table_of(board), form) for board in boards)


def table_of(board: Board) -> TextTable:
    """Return a board as a table."""
    return TextTable(title(board), *cells(board), footer(board))


def told_table(board: Board) -> TextTable | None:
    """Return what each method of a board is told and what it asked, or None where no record says what it is told."""
    if not any(row.told for row in board.rows):
        return None
    stated = [item for item in TOLD if not item.startswith("rows ")]  # which are measured
    rows = [
        [
            row.method,
            row.kind,
            *(told_of(row.told)[item] for item in stated),
            *(number(value, 0) for value in (row.forwards, row.backwards, row.train_passes)),
        ]
        for row in board.rows
    ]
    return TextTable("Who was told what", ["method", "kind", *stated, *COSTS[:2], TRAINING[0]], rows, [TOLD_LINE])


def write(table: TextTable, form: str) -> str:
    """Return a table aligned for a terminal, as Markdown or as LaTeX."""
    return {"table": in_text, "md": in_markdown, "latex": in_latex}[form](table)


def title(board: Board) -> str:
    """Return one line that says what a board was made from."""
    data = "SYNTHETIC stand-in data" if board.source == "synthetic" else "real data"
    rows = f"{board.samples} test samples" + (f" (limit {board.limit})" if board.limit else "")
    seeds = f"seed{'s' * (len(board.seeds) > 1)} {', '.join(map(str, board.seeds))}"
    seeds += "" if board.models == (0,) else f" · models {', '.join(map(str, board.models))}"
    quality = ", ".join(f"{key.replace('_', ' ')} {value:.3f}" for key, value in board.quality.items())
    precision = "" if board.precision == "fp32" else f" · {board.precision}"
    precision += "" if board.device == "cpu" else f" · {board.device}"
    preset = "" if board.preset == "standard" else f" · preset {board.preset}"
    preset += "" if board.comparable else ", NOT COMPARABLE"
    quality += ", WEAK: under the task's floor" if board.weak else ""
    group = (
        ""
        if board.group == PAPER
        else f" · {board.group} metrics: {', '.join(board.metrics) or 'none is defined here'}"
    )
    model = f" · model: {quality}" if quality else ""
    return f"{board.task}{group} · {data} · {rows} · {seeds}{precision}{preset}{model}"


def footer(board: Board) -> list[str]:
    """Return the lines under a board: how to read it, and its gaps."""
    lines = [
        "↑ higher is better, ↓ lower is better. rank: mean over the metrics of the rank among these methods, ties "
        "shared; fam. rank: nearly equal metrics count once; smp. rank: ranked on each sample, then averaged.",
        "95 % interval: of the rank, counting methods that are better, or worse, in 97.5 % of resampled test "
        "samples; best: how often it leads there; tie: methods with one number cannot be told from the first of them.",
        "valid: scores averaged / scores expected. forward passes, backward passes (an input each) and ms: "
        "an explanation; training s: once.",
        *([BREAK_EVEN] if _trained(board) else []),
        *(["planted: share of the positive attribution that lies on the planted evidence."] if _planted(board) else []),
        *board.notes,
    ]
    lines += [f"{row.method}*: {gap}" for row in board.rows for gap in row.gaps]
    return lines


def cells(board: Board) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a board as text."""
    planted = ["planted"] if _planted(board) else []
    training = TRAINING if _trained(board) else ()
    header = [*RANKS, "fam. rank", "smp. rank", *arrowed(board), "valid", *planted, *COSTS, *training]
    return header, [_line(row, board) for row in board.rows]


def arrowed(board: Board) -> list[str]:
    """Return the board's metrics with the direction that is better."""
    return [f"{name}{'↑' if higher else '↓'}" for name, higher in board.metrics.items()]


def _planted(board: Board) -> bool:
    """Tell whether the board's data know where the evidence is."""
    return any(row.evidence is not None for row in board.rows)


def _trained(board: Board) -> bool:
    """Tell whether the board says after how many explanations training pays."""
    return any(row.break_even is not None for row in board.rows)


def _line(row: Row, board: Board) -> list[str]:
    name = row.method + (f" ({row.kind})" if row.kind in ("control", "oracle") else "") + ("*" if row.gaps else "")
    return [
        name,
        number(row.mean_rank, 2),
        between(row.low, row.high),
        percent(row.best),
        str(row.group or "–"),
        number(row.family_rank, 2),
        number(row.sample_rank, 2),
        *(number(row.means.get(metric), 3) for metric in board.metrics),
        f"{row.valid[0]}/{row.valid[1]}",
        *([number(row.evidence, 3)] if _planted(board) else []),
        number(row.forwards, 0),
        number(row.backwards, 0),
        number(row.milliseconds, 2),
        number(row.train_seconds, 1),
        *(_training(row) if _trained(board) else []),
    ]


def _training(row: Row) -> list[str]:
    if row.break_even is None:
        return ["–", "–"]
    return [number(row.train_passes, 0), "never" if math.isinf(row.break_even) else number(row.break_even, 0)]


def _printable(table: TextTable) -> TextTable:
    rows = [[one_line(cell) for cell in row] for row in table.rows]
    return TextTable(one_line(table.heading), list(map(one_line, table.header)), rows, list(map(one_line, table.lines)))


def in_text(table: TextTable) -> str:
    """Return a table aligned for a terminal."""
    table = _printable(table)
    widths = [max(map(len, column)) for column in zip(table.header, *table.rows, strict=True)]
    rows = [
        "  ".join(
            text.ljust(w) if i == 0 else text.rjust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in [table.header, ["-" * w for w in widths], *table.rows]
    ]
    return "\n".join([table.heading, "", *rows, "", *table.lines])


def in_markdown(table: TextTable) -> str:
    """Return a table as Markdown."""
    table = _printable(table)
    rows = [table.header, ["---"] + ["---:"] * (len(table.header) - 1), *table.rows]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([f"**{table.heading}**", "", *lines, "", *(f"{line}  " for line in table.lines)])


TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--",
    "·": r"$\cdot$", "±": r"$\pm$",
}  # fmt: skip


def in_latex(table: TextTable) -> str:
    """Return a table as LaTeX; it needs the package booktabs."""
    table = _printable(table)

    def tex(text: str) -> str:
        return "".join(TEX.get(letter, letter) for letter in text)

    rows = [" & ".join(map(tex, row)) + r" \\" for row in table.rows]
    return "\n".join(
        [
            r"\begin{table}", r"\centering", rf"\caption{{{tex(' '.join([table.heading + '.', *table.lines]))}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", r"\toprule",
            " & ".join(map(tex, table.header)) + r" \\", r"\midrule", *rows, r"\bottomrule", r"\end{tabular}",
            r"\end{table}",
        ]
    )  # fmt: skip


def to_csv(boards: list[Board]) -> str:
    """Return boards as CSV, one row a method: mean rank, scores, how sure, costs, what it was evaluated on."""
    metrics = list(dict.fromkeys(name for board in boards for name in board.metrics))
    rows = [
        [
            board.task,
            row.method,
            _exact(row.mean_rank),
            *(_exact(row.means.get(name)) for name in metrics),
            *(_exact(getattr(row, column)) for column in COLUMNS),
            row.kind,
            board.source,
            board.samples,
            len(board.seeds),
            len(board.models),
            board.precision,
            board.preset,
            board.device,
            board.limit or "all",
            board.group,
        ]
        for board in boards
        for row in board.rows
    ]
    about = ["kind", "source", "samples", "seeds", "models", "precision", "preset", "device", "limit", "metric_group"]
    return in_csv(["task", "method", "mean_rank", *metrics, *COLUMNS, *about], rows)


COLUMNS = (
    "low", "high", "best", "group", "family_rank", "sample_rank", "forwards", "backwards", "milliseconds",
    "train_seconds", "train_passes", "break_even",
)  # fmt: skip
"""Columns of the CSV that are named as in `Row`."""


def _exact(value: float | None) -> str:
    """Return a number with all that a reader can use of it; empty where there is none."""
    return "" if value is None or math.isnan(value) else f"{value:.10g}"


def in_csv(header: list[str], rows: list[list[Any]]) -> str:
    """Return CSV with a header."""
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerows([[_harmless(cell) for cell in row] for row in [header, *rows]])
    return sink.getvalue().rstrip("\n")


def _harmless(cell: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula: a number as it is, any other such text behind a quote."""
    text = one_line(str(cell))
    if not text.startswith(("=", "+", "-", "@")) or _is_number(text):
        return text
    return "'" + text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def one_line(text: str) -> str:
    """Return text without control characters, which would move a terminal's cursor or break a table's row."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def in_json(value: Any) -> str:
    """Return JSON, null for numbers that are not finite."""
    return json.dumps(_plain(value), indent=1)


def between(low: float, high: float) -> str:
    """Return an interval as text, or a dash."""
    return "–" if math.isnan(low) else f"{low:.1f} to {high:.1f}"


def percent(share: float) -> str:
    """Return a share as text, or a dash."""
    return "–" if math.isnan(share) else f"{100 * share:.0f} %"


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
