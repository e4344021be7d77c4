"""Our scores as one tidy table, for csv, parquet and other programs: a row a score, with its unit and direction."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.core.errors import DataError, UsageError, few
from benchmark.core.files import check_file, path_of, write_atomically
from benchmark.records.record import Record
from benchmark.records.store import RecordStore

UNITS = {
    "source": "real or synthetic: a stand-in's numbers say nothing about real data",
    "task": "name of the task",
    "modality": "table, text or image",
    "origin": "where the data come from",
    "method": "name of the method",
    "label": "the method with the parameters that were given for it",
    "params": "all parameters of the method, JSON",
    "kind": "baseline, control, oracle or learned",
    "seed": "base of every random draw",
    "precision": "of the model's forward passes, fp32 or bf16",
    "device": "class of device, cpu or cuda",
    "preset": "how much work the run was; results of quick are not comparable",
    "sample": "row of the test split, from 0",
    "target": "class that was explained, from 0",
    "metric": "short name of the metric",
    "metric_version": "raised when scores of the metric change",
    "family": "metrics that are nearly functions of one another share it",
    "better": "higher or lower: which scores are better",
    "score": "the score; empty where it is undefined",
    "unit": "of the score: 1, since probabilities, shares of them and correlations have no dimension",
    "valid": "whether the score is defined",
    "reason": "why it is not, or what is to be known of it",
}
"""The columns and what is in them."""


def to_frame(records: Any) -> pd.DataFrame:
    """Return scores as a tidy table, a row for each record, sample and metric.

    Args:
        records: a folder of records, records, or what has them (`records`), as a result.

    Returns:
        A table with the columns of `UNITS`, sorted by source, task, label, seed, metric (as on a board) and sample.

    Raises:
        UsageError: no record is done.
        DataError: a record in the folder is damaged.
    """
    done = [record for record in records_of(records) if record.status == "done"]
    if not done:
        raise UsageError("expected at least one finished record, got none: run methods first")
    ordered = sorted(done, key=lambda r: (r.cell.source, r.cell.task, r.label, r.cell.seed, r.cell.key))
    return pd.concat([_of_record(record) for record in ordered], ignore_index=True)[list(UNITS)]


def _of_record(record: Record) -> pd.DataFrame:
    """Return the rows of one record, and the order of their metrics."""
    scores, cell = record.scores, record.cell
    metric = scores["metric"].astype(str)
    facts = {name: metric.map({key: stated[name] for key, stated in record.metrics.items()}) for name in FACTS}
    frame = pd.DataFrame(
        {
            "source": cell.source,
            "task": cell.task,
            "modality": record.facts["modality"],
            "origin": record.facts["origin"],
            "method": cell.method,
            "label": record.label,
            "params": json.dumps(cell.params, sort_keys=True),
            "kind": record.kind,
            "seed": cell.seed,
            "precision": cell.precision,
            "device": cell.device,
            "preset": cell.preset,
            "sample": scores["sample"].astype("int32"),
            "target": scores["target"].astype("int32"),
            "metric": metric,
            "metric_version": facts["version"],
            "family": facts["family"],
            "better": facts["higher_is_better"].map({True: "higher", False: "lower"}),
            "score": scores["score"].astype("float64"),
            "unit": "1",
            "valid": scores["valid"].astype(bool),
            "reason": scores["reason"].astype(object).where(scores["reason"].notna(), "").astype(str),
            "order": facts["order"],
        }
    )
    return frame.sort_values(["order", "metric", "sample"], kind="stable")


FACTS = ("version", "family", "higher_is_better", "order")
"""What records say of a metric that rows are made of."""


def records_of(records: Any) -> list[Record]:
    """Return the records of a folder, of a result, or as they are.

    Raises:
        DataError: a record in the folder is damaged, or there is none.
        UsageError: it is something else.
    """
    if isinstance(records, str | Path):
        found, problems = RecordStore(Path(records)).scan()
        if problems:
            raise DataError(
                f"{len(problems)} of the records in {records} cannot be read ({problems[0]}): forget them first"
            )
        if not found:
            raise DataError(f"{records} holds no records, expected a folder that `run` or `save` wrote")
        return found
    records = getattr(records, "records", records)
    records = [records] if isinstance(records, Record) else records
    if not isinstance(records, Iterable):
        raise UsageError(f"expected a folder, records or a result, got {type(records).__name__}")
    records = list(records)
    if wrong := [type(item).__name__ for item in records if not isinstance(item, Record)]:
        raise UsageError(f"expected records, got {few(sorted(set(wrong)))}")
    return records


def to_csv(records: Any, path: str | Path) -> Path:
    """Write scores as a .csv file: see `to_frame` for what is in it. Numbers are unrounded; they read back the same."""
    path = _file(path, ".csv")
    write_atomically(path, to_frame(records).to_csv(index=False, lineterminator="\n").encode())
    return path


def to_parquet(records: Any, path: str | Path) -> Path:
    """Write scores as a .parquet file: see `to_frame` for what is in it."""
    path = _file(path, ".parquet")
    write_atomically(path, parquet_bytes(to_frame(records)))
    return path


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """Return a table as parquet, without an index."""
    sink = io.BytesIO()
    frame.to_parquet(sink, index=False)
    return sink.getvalue()


def _file(given: str | Path, ending: str) -> Path:
    """Return the path of a file to write, before anything is made of records.

    Raises:
        UsageError: it has another ending, or its folder is missing.
    """
    path = path_of(given, "path")
    check_file("path", path, (ending,))
    return path
