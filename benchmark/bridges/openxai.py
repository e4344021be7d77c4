"""OpenXAI: its scores, from a table of a leaderboard or from the files that its evaluation script writes."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from benchmark.bridges.scores import Scores
from benchmark.core.errors import DataError, UsageError, few, short
from benchmark.data.arrays import read

SOURCE = "OpenXAI"
BETTER = {
    "FA": "higher", "RA": "higher", "SA": "higher", "SRA": "higher", "RC": "higher", "PRA": "higher", "PGI": "higher",
    "PGU": "lower", "RIS": "lower", "RRS": "lower", "ROS": "lower",
}  # fmt: skip
"""The direction of its metrics, as Agarwal et al. 2022, section 3 say it."""
FILE = re.compile(r"^(?P<metric>[A-Z]+)_(?P<method>[A-Za-z][\w-]*?)_(?P<samples>\d+)(?P<settings>.*)\.npy$")
"""How its evaluation script names a file of scores."""
MEAN = re.compile(r"^\s*(?P<mean>[-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*(?:(?:±|\+/-|\+-|\()\s*[\d.eE+-]+\s*\)?)?\s*$")
"""A mean, and its spread where one follows, as `0.42 ± 0.03` or `0.42 (0.03)`."""


def from_openxai(path: str | Path) -> Scores:
    """Return scores that OpenXAI computed, marked as its own.

    Args:
        path: a folder of `METRIC_METHOD_SAMPLES....npy` files, each (samples,), as its evaluation script writes for one
            model and data set; or a .csv table of a leaderboard, methods in the first column and a metric in each
            other, means with or without a spread.

    Raises:
        UsageError: it is neither.
        DataError: a file or a cell does not hold what it should.
    """
    path = Path(path)
    if path.is_dir():
        return _of_folder(path)
    if path.suffix.lower() != ".csv":
        raise UsageError(f"{path}: expected a folder of .npy files or a .csv table of OpenXAI, got neither")
    return _of_table(path)


def _of_folder(folder: Path) -> Scores:
    """Return the scores of each sample."""
    scores: dict[str, dict[str, np.ndarray]] = {}
    for file in sorted(folder.glob("*.npy")):
        if found := FILE.match(file.name):
            settings = found["settings"].strip("_")
            metric = found["metric"] + (f" [{settings}]" if settings else "")
            values = read(file)
            values = values.reshape(-1) if values.ndim == 2 and 1 in values.shape else values
            if values.ndim != 1:
                raise DataError(f"{file}: expected a score a sample, got shape {values.shape}")
            if metric in scores.setdefault(found["method"], {}):
                raise DataError(f"{folder} holds {metric} of {found['method']} twice: keep one of the files")
            scores[found["method"]][metric] = values
    if not scores:
        raise DataError(
            f"{folder}: expected files such as PGI_lime_100.npy, got {few(sorted(p.name for p in folder.iterdir()))}"
        )
    return _marked(scores)


def _of_table(file: Path) -> Scores:
    """Return the means of a table."""
    if not file.is_file():
        raise DataError(f"{file}: no such file; check the path")
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: expected text in UTF-8 with commas ({short(error)}); write it again") from error
    if len(rows) < 2 or len(rows[0]) < 2:
        raise DataError(f"{file}: expected a header of metrics and a row a method, got {len(rows)} lines")
    header = [cell.strip() for cell in rows[0]]
    scores: dict[str, dict[str, float]] = {}
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            raise DataError(f"{file}, row {number}: expected {len(header)} cells, got {len(row)}; mend the row")
        method = row[0].strip()
        if method in scores:
            raise DataError(f"{file}, row {number}: the method {method!r} comes twice; keep one")
        scores[method] = {
            name: _mean(cell, f"{file}, row {number}, {name}") for name, cell in zip(header[1:], row[1:], strict=True)
        }
    return _marked(scores)


def _mean(cell: str, where: str) -> float:
    """Return the mean in a cell; NaN where it is empty or a dash."""
    if cell.strip() in ("", "-", "–", "N/A", "nan"):
        return float("nan")
    found = MEAN.match(cell)
    if found is None:
        raise DataError(f"{where}: expected a number such as 0.42 or 0.42 ± 0.03, got {short(cell, 40)!r}")
    return float(found["mean"])


def _marked(scores: dict[str, dict[str, float]] | dict[str, dict[str, np.ndarray]]) -> Scores:
    names = {name for columns in scores.values() for name in columns}
    better = {name: BETTER[name.partition(" [")[0]] for name in sorted(names) if name.partition(" [")[0] in BETTER}
    return Scores.of(SOURCE, scores, better=better)
