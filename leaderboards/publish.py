"""Writes boards as files to commit: numbers, a page and a picture, headed by what made them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from benchmark.core.files import write_atomically
from benchmark.core.provenance import UNKNOWN
from benchmark.records.record import Record
from benchmark.scoring.metrics import PAPER
from leaderboards.board import Board
from leaderboards.tables import in_markdown, table_of, to_csv


def heading(board: Board, records: list[Record]) -> list[str]:
    """Return lines that say which commands, data, model, code and versions a board comes from."""
    identity = records[0].identity
    source = f" --source {board.source}"
    limit = f" --limit {board.limit}" if board.limit else ""
    options = "" if board.preset == "standard" else f" --preset {board.preset}"
    options += "" if board.precision == "fp32" else f" --precision {board.precision}"
    options += f" --device {board.device}"
    options += "" if board.group == PAPER else f" --metrics {board.group}"
    rows = f" --rows {board.cost_class.name}" if board.cost_class else ""
    labels = ",".join(_methods(board, records))
    models = "" if board.models == (0,) else f" --models {','.join(map(str, board.models))}"
    run = f"run --task {board.task} --methods '{labels}' --seed S{models}{source}{limit}{options}"
    chosen = f"{source}{models}{rows}{limit or ' --limit all'}"
    made = f"leaderboard --task {board.task}{chosen}{options} --publish FOLDER"
    lines = [
        f"{board.task}, {'SYNTHETIC stand-in' if board.source == 'synthetic' else 'real'} data, {board.samples} test "
        f"samples; records by `python -m benchmark {run}`, S in {', '.join(map(str, board.seeds))}; board by "
        f"`python -m benchmark {made}`, checked by `--check FOLDER/{name_of(board)}.csv`",
        f"rows: sha256 {identity['data']}",
        f"model: sha256 {', '.join(dict.fromkeys(record.identity['model'] for record in records))}",
        f"source of the methods: sha256 {_together({record.label: record.identity['code'] for record in records})}",
    ]
    environments = [record.provenance.environment for record in records]
    for what in ("code", "commit", "device"):
        values = sorted({getattr(environment, what) for environment in environments} - {None, UNKNOWN})
        lines += [f"{what}: {', '.join(values)}"] if values else []
    versions: dict[str, set[str]] = {}
    for environment in environments:
        for package, version in environment.versions.items():
            versions.setdefault(package, set()).add(version)
    if versions:
        parts = ", ".join(f"{package} {'/'.join(sorted(numbers))}" for package, numbers in sorted(versions.items()))
        lines.append(f"versions: {parts}")
    metrics = {f"{name} {facts['version']}" for record in records for name, facts in record.metrics.items()
               if name in board.metrics}  # fmt: skip
    lines.append(f"versions of metrics: {', '.join(sorted(metrics))}")
    return lines


def _methods(board: Board, records: list[Record]) -> list[str]:
    """Return what `run --methods` is given for the records of a board."""
    labels = sorted({record.label for record in records})
    if board.cost_class is None:
        return labels
    return [f"tuned={board.cost_class.name}", *(name for name in labels if name not in board.cost_class.settings)]


def _together(codes: dict[str, str]) -> str:
    """Return one digest of several by name."""
    return hashlib.sha256(json.dumps(codes, sort_keys=True).encode()).hexdigest()


def name_of(board: Board) -> str:
    """Return the name of a board's files."""
    parts = [board.task, *(["synthetic"] if board.source == "synthetic" else [])]
    parts += [board.preset] if board.preset != "standard" else []
    parts += [board.precision] if board.precision != "fp32" else []
    parts += [board.device] if board.device != "cpu" else []
    parts += [board.group] if board.group != PAPER else []
    parts += [f"{board.cost_class.name}-rows"] if board.cost_class else []
    parts += [f"{len(board.models)}-models"] if len(board.models) > 1 else []
    parts += [f"model-{board.models[0]}"] if len(board.models) == 1 and board.models != (0,) else []
    return "-".join(parts)


def publish(board: Board, records: list[Record], folder: Path) -> list[Path]:
    """Write a board as .csv, .md and .png.

    Args:
        board: what is written.
        records: those that it was made from.
        folder: where to; made where there is none.

    Returns:
        The paths of the three files.
    """
    from leaderboards.figures import intervals_figure, save

    lines = heading(board, records)
    table, document, picture = (folder / f"{name_of(board)}.{ending}" for ending in ("csv", "md", "png"))
    head = "".join(f"# {line}\n" for line in lines)
    write_atomically(table, (head + to_csv([board]) + "\n").encode())
    page = in_markdown(table_of(board)) + "\n\n" + "\n".join(f"- {line}" for line in lines) + "\n"
    write_atomically(document, page.encode())
    return [table, document, save(intervals_figure(board), picture)]
