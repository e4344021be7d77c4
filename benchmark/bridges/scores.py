"""Scores that another library computed: a table of their own, marked with who computed them."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.core.errors import DataError, UsageError, printable, short
from benchmark.core.files import check_file, path_of, write_atomically

COLUMNS = ["method", "metric", "sample", "score"]
MARK = b"scores_of_others"
"""The entry of a parquet's metadata that holds the source and the directions."""
Direction = Mapping[str, str]
BETTER = ("higher", "lower")


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores that others computed. They never enter a rank or a mean of ours (see `benchmark.bridges.boards`).

    Attributes:
        source: who computed them, such as "Quantus".
        frame: a row a method, metric and sample: `method`, `metric` (text), `sample` (whole numbers from 0; none where
            only a mean is known) and `score` (float64; NaN where their library gave none).
        better: "higher" or "lower" by metric, where known.

    Example:
        >>> theirs = Scores.of("Quantus", {"lime": {"ROAD": [0.5, 0.7]}, "random": {"ROAD": [0.1, 0.3]}})
        >>> theirs.means()
        {'ROAD': {'lime': 0.6, 'random': 0.2}}
    """

    source: str
    frame: pd.DataFrame
    better: Direction = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the source, the columns and the directions.

        Raises:
            UsageError: one is not what it must be.
        """
        if not self.source.strip() or not self.source.isprintable():
            raise UsageError(f"expected the name of who computed the scores, got {self.source!r}: name the library")
        if list(self.frame.columns) != COLUMNS or self.frame.empty:
            raise UsageError(
                f"expected rows of {', '.join(COLUMNS)}, got {len(self.frame)} rows of "
                f"{', '.join(map(str, self.frame.columns))}: see Scores.of"
            )
        for metric, direction in self.better.items():
            if direction not in BETTER:
                raise UsageError(f"better[{metric!r}]: expected higher or lower, got {direction!r}")
            if metric not in self.metrics:
                raise UsageError(f"better names {metric!r}, of which there are no scores: {', '.join(self.metrics)}")

    @classmethod
    def of(cls, source: str, scores: Mapping[str, Mapping[str, Any]], *, better: Direction | None = None) -> Scores:
        """Return scores from dictionaries.

        Args:
            source: who computed them.
            scores: by method and then metric a list or array (N,) of one score a sample, or one number, a mean. All
                methods must have been scored by a metric on the same number of samples.
            better: "higher" or "lower" by metric, where known.

        Raises:
            UsageError: something is no number, or methods have different numbers of samples under one metric.
        """
        rows = []
        sizes: dict[str, tuple[str, int | None]] = {}
        for method, columns in _items(scores, "scores by method"):
            for metric, values in _items(columns, f"scores of {method} by metric"):
                where = f"{metric} of {method}"
                array = _numbers(values, where)
                size = None if array.ndim == 0 else len(array)
                first, known = sizes.setdefault(metric, (method, size))
                if size != known:
                    raise UsageError(
                        f"{where}: expected {_count(known)}, as {first} has, got {_count(size)}: score all methods on "
                        "the same samples"
                    )
                samples = [pd.NA] if size is None else range(size)
                rows += [
                    (method, metric, sample, score) for sample, score in zip(samples, np.atleast_1d(array), strict=True)
                ]
        if not rows:
            raise UsageError(f"expected scores of {source} by method and metric, got none")
        frame = pd.DataFrame(rows, columns=COLUMNS).astype({"sample": "Int64", "score": "float64"})
        return cls(source, frame, dict(better or {}))

    @property
    def methods(self) -> list[str]:
        """Names of the methods, in the order of the rows."""
        return list(dict.fromkeys(self.frame["method"]))

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, in the order of the rows."""
        return list(dict.fromkeys(self.frame["metric"]))

    def means(self) -> dict[str, dict[str, float]]:
        """Return the mean score by metric and method over the samples that have a number; NaN where none has."""
        finite = self.frame.assign(score=self.frame["score"].where(np.isfinite(self.frame["score"])))
        means = finite.groupby(["metric", "method"], sort=False)["score"].mean()
        return {
            metric: {method: float(means[metric, method]) for method in self.methods if (metric, method) in means}
            for metric in self.metrics
        }

    def about(self) -> str:
        """Return one sentence that says what they are: how many samples, and how many scores are no number."""
        samples = self.frame.groupby("metric", sort=False)["sample"].nunique()
        counts = sorted(set(samples) - {0})
        over = f"means over {' or '.join(map(str, counts))} samples" if counts else "means as published"
        missing = int((~np.isfinite(self.frame["score"])).sum())
        gaps = f"; {missing:,} of {len(self.frame):,} scores are no finite number and left out" if missing else ""
        return f"scores by {self.source}: {over}{gaps}"

    def save(self, path: str | Path) -> Path:
        """Write them to a .parquet file that `Scores.load` reads, who computed them included.

        Raises:
            UsageError: the path has another ending, or its folder is missing.
        """
        path = path_of(path, "path")
        check_file("path", path, (".parquet",))
        table = pa.Table.from_pandas(self.frame, preserve_index=False)
        mark = json.dumps({"source": self.source, "better": dict(self.better)}).encode()
        sink = io.BytesIO()
        pq.write_table(table.replace_schema_metadata((table.schema.metadata or {}) | {MARK: mark}), sink)
        write_atomically(path, sink.getvalue())
        return path

    @classmethod
    def load(cls, path: str | Path) -> Scores:
        """Read what `save` wrote.

        Raises:
            DataError: there is no such file, or it holds something else.
        """
        path = path_of(path, "path")
        if not path.is_file():
            raise DataError(f"{path}: no such file; write one with Scores.save")
        try:
            table = pq.read_table(path)
            mark = json.loads(table.schema.metadata[MARK])
            frame = table.select(COLUMNS).to_pandas()
            return cls(mark["source"], frame.astype({"sample": "Int64", "score": "float64"}), mark["better"])
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, UsageError) as error:
            why = printable(short(f"{type(error).__name__}: {error}"))
            raise DataError(f"{path} does not hold scores of others as Scores.save writes them ({why})") from error


def _items(values: object, what: str) -> list[tuple[str, Any]]:
    """Return the entries of a dictionary whose keys are names."""
    if not isinstance(values, Mapping):
        raise UsageError(f"expected a dictionary of {what}, got {type(values).__name__}")
    for name in values:
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise UsageError(f"expected names in the dictionary of {what}, got {name!r}")
    return list(values.items())


def _numbers(values: object, where: str) -> np.ndarray:
    """Return a number () or a score a sample (N,), float64."""
    try:
        array = np.asarray(_plain(values), dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{where}: expected a number a sample, got {short(repr(values))}") from error
    if array.ndim > 1 and math.prod(array.shape[1:]) == 1:
        array = array.reshape(len(array))
    if array.ndim > 1:
        raise UsageError(
            f"{where}: expected a number a sample, got shape {array.shape}, as of curves: take one number of each "
            "(return_auc_per_sample=True or aggregating, in Quantus)"
        )
    if array.size == 0:
        raise UsageError(f"{where}: expected a number a sample, got none: leave it out, or score it again")
    return array


def _plain(values: object) -> object:
    """Return what NumPy reads as numbers: a tensor on the CPU, None as NaN; text is no number."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        return [_plain(value) for value in values]
    if isinstance(values, str | bytes | bool):
        raise TypeError(f"{values!r} is no number")
    return math.nan if values is None else values


def _count(size: int | None) -> str:
    return "one number, a mean" if size is None else f"{size} scores"
