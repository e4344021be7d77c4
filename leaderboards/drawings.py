"""Drawings of the report: inline SVG that takes its colours from the page, for light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from leaderboards.rank import Board

WIDTH, ROW, LEFT, RIGHT = 640, 24, 190, 24


def _svg(height: float, label: str, body: Sequence[str], width: int = WIDTH) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height:g}" role="img" aria-label="{escape(label)}"><title>{escape(label)}</title>'
        f"{''.join(body)}</svg>"
    )


def _text(x: float, y: float, text: str, anchor: str = "start", css: str = "") -> str:
    css = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{css}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>'


def intervals(board: Board) -> str:
    """Return each method's mean rank with its interval; bars at the left join methods that cannot be told apart."""
    rows = [row for row in board.rows if math.isfinite(row.mean_rank)]
    most = max(2, len(rows))

    def across(rank: float) -> float:
        return LEFT + (rank - 1) / (most - 1) * (WIDTH - LEFT - RIGHT)

    bottom = ROW * len(rows) + 8
    step = max(1, math.ceil(most / 10))
    body = []
    for rank in range(1, most + 1, step):
        body += [_line(across(rank), 4, across(rank), bottom, "grid"),
                 _text(across(rank), bottom + 16, str(rank), "middle", "small")]  # fmt: skip
    for at, row in enumerate(rows):
        y = ROW * at + ROW / 2 + 4
        body.append(_text(LEFT - 14, y + 4, row.method, "end", "muted" if row.kind in ("control", "oracle") else ""))
        if math.isfinite(row.low):
            body.append(_line(across(row.low), y, across(row.high), y, "interval"))
            title = f"{row.method}: {row.mean_rank:.2f}; 95 % interval {row.low:.1f} to {row.high:.1f}"
        else:
            title = f"{row.method}: {row.mean_rank:.2f}"
        css = "learned" if row.kind == "learned" else "dot"
        body.append(f'<circle cx="{across(row.mean_rank):.1f}" cy="{y:.1f}" r="5" class="{css}">'
                    f"<title>{escape(title)}</title></circle>")  # fmt: skip
    for number in sorted({row.group for row in rows if row.group}):
        own = [at for at, row in enumerate(rows) if row.group == number]
        if len(own) > 1:
            body.append(_line(LEFT - 7, ROW * own[0] + 9, LEFT - 7, ROW * own[-1] + ROW - 1, "tie"))
    return _svg(bottom + 24, f"Mean ranks of {board.task} with 95 % intervals", body)


def pareto(board: Board) -> str:
    """Return mean rank against milliseconds an explanation; a line joins methods that no other beats in both."""
    rows = [r for r in board.rows if r.kind not in ("control", "oracle") and math.isfinite(r.mean_rank)]
    if len(rows) < 2:
        return ""
    height, top, left, base = 360, 16, 56, 320
    least = min((row.milliseconds for row in rows if row.milliseconds > 0), default=1e-3)
    cost = {row.method: math.log10(max(row.milliseconds, least / 2)) for row in rows}
    low, high = math.floor(min(cost.values())), math.ceil(max(cost.values()) + 1e-9)
    high = max(high, low + 1)
    worst = max(row.mean_rank for row in rows)

    def across(value: float) -> float:
        return left + (value - low) / (high - low) * (WIDTH - left - 120)

    def down(rank: float) -> float:
        return top + (rank - 1) / max(worst - 1, 1) * (base - top - 22)

    body = []
    for power in range(low, high + 1):
        label = f"{10.0**power:g} ms"
        body += [_line(across(power), top, across(power), base, "grid"),
                 _text(across(power), base + 18, label, "middle", "small")]  # fmt: skip
    for rank in range(1, math.floor(worst) + 1, max(1, math.ceil(worst / 8))):
        body += [_line(left, down(rank), WIDTH - 120, down(rank), "grid"),
                 _text(left - 8, down(rank) + 4, str(rank), "end", "small")]  # fmt: skip
    front, best = [], math.inf
    for row in sorted(rows, key=lambda row: (cost[row.method], row.mean_rank)):
        if row.mean_rank < best:
            front.append(row)
            best = row.mean_rank
    path = " ".join(f"{across(cost[r.method]):.1f},{down(r.mean_rank):.1f}" for r in front)
    body.append(f'<polyline points="{path}" class="front"/>')
    written: list[tuple[float, float]] = []
    for row in sorted(rows, key=lambda row: row.mean_rank):
        x, y = across(cost[row.method]), down(row.mean_rank)
        place = y
        while any(abs(place - other) < 13 and abs(x - column) < 150 for column, other in written):
            place += 13
        written.append((x, place))
        css = "learned" if row.kind == "learned" else "dot"
        what = f"{row.method}: rank {row.mean_rank:.2f}, {row.milliseconds:.3g} ms an explanation"
        body += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" class="{css}"><title>{escape(what)}</title></circle>',
                 _text(x + 9, place + 4, row.method, css="small")]  # fmt: skip
    body.append(_text(left, 11, "mean rank, best at the top", css="small muted"))
    return _svg(height, f"Mean rank of {board.task} against the milliseconds of one explanation", body)


def curve(label: str, series: Sequence[Sequence[tuple[float, float]]]) -> str:
    """Return a small chart of validation losses by iteration, one line for each seed."""
    points = [point for line in series for point in line]
    if len(points) < 2:
        return ""
    width, base, top, left = 260, 116, 24, 44
    last = max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    span = (high - low) or 1.0

    def place(x: float, y: float) -> str:
        return f"{left + x / last * (width - left - 10):.1f},{base - (y - low) / span * (base - top):.1f}"

    body = [_text(0, 12, label), _line(left, base, width - 10, base, "grid"), _line(left, top, left, base, "grid"),
            _text(left - 4, top + 8, f"{high:.3g}", "end", "small"),
            _text(left - 4, base, f"{low:.3g}", "end", "small"),
            _text(width - 10, base + 14, f"{last:g} iterations", "end", "small")]  # fmt: skip
    body += [f'<polyline points="{" ".join(place(*point) for point in line)}" class="front"/>' for line in series]
    return _svg(134, f"Validation loss of {label} in training", body, width)
