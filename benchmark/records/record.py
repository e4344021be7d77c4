"""A record: what a cell gave, its score table, and the checks of a stored one."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.core.errors import RecordError, short
from benchmark.core.identity import CHANGED, what_changed
from benchmark.core.registry import is_name
from benchmark.core.types import Device, Precision
from benchmark.records.provenance import RecordProvenance

SCHEMA = 6
STATUSES = ("done", "failed")
SOURCES = ("real", "synthetic")


@dataclass(frozen=True)
class Cell:
    """One unit of work: a method with its parameters, on a task, from a source, under a seed, on some samples.

    Attributes:
        source: of the data, `real` or `synthetic`.
        task: its name.
        method: its name.
        params: all parameters by name, defaults filled in.
        seed: the user's.
        limit: number of test samples, the first ones; None for all.
        precision: of forwards.
        device: class of device.
        preset: what bounds samples, budget and methods (see `benchmark.running.presets`).
        model: the seed that the task's model was trained from.
        split: what is explained: the `test` rows, or training rows that were held out for `tuning`.
    """

    source: str
    task: str
    method: str
    params: dict[str, Any]
    seed: int
    limit: int | None
    precision: Precision = "fp32"
    device: Device = "cpu"
    preset: str = "standard"
    model: int = 0
    split: str = "test"

    @property
    def key(self) -> str:
        """Return the name of the cell's folder."""
        asked = [self.params, self.seed, self.limit, self.precision, self.device, self.preset, self.model, self.split]
        return f"{self.method}-{hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:10]}"

    @property
    def label(self) -> str:
        """Return the cell as a person would write it."""
        return f"{self.task} {self.method}"


@dataclass(frozen=True)
class Record:
    """What a cell gave.

    Attributes:
        cell: what was asked for.
        status: `done` or `failed`.
        reason: why it failed, or what is wrong with what it gave.
        identity: digests of what computed it (see `benchmark.core.identity`).
        label: the method with the parameters that the user gave for it.
        kind: of the method: baseline, control, oracle or learned.
        explains: the modalities that the method is for; empty for all.
        facts: what a board says of the task: `modality`, `origin` of the data, `rows` of the test split, `accuracy` and
            `balanced_accuracy` of the model (None where not known), `weak`.
        metrics: by name: `version`, `higher_is_better`, `family`, `order` (of columns), `title`, `group`, which
            records of before metrics had groups have not, and for metrics that are not ours `digest`, of the source.
        n_total: samples.
        n_failed: those whose attribution is not finite.
        repeats: seeds that the scores are averaged over.
        costs: `forwards`, `backwards` (rows of the model) and `seconds` by phase: prepare, attribute, probe, and shared
            (what all methods of the task use together).
        provenance: where data, model, code and machine come from; no board is made from it.
        comparable: whether it may enter a board with others.
        evidence: the mean share of the positive attribution that lies on planted evidence, in [0, 1]; None where none
            was planted.
        report: what a trained explainer says of its training.
        problems: what of the report could not be kept as it was.
        scores: a row a sample and metric, see `SCORES_SCHEMA`; empty unless the cell is done.
    """

    cell: Cell
    status: str
    reason: str = ""
    identity: dict[str, str] = field(default_factory=dict)
    label: str = ""
    kind: str = ""
    explains: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    n_total: int = 0
    n_failed: int = 0
    repeats: int = 1
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    provenance: RecordProvenance = field(default_factory=RecordProvenance)
    comparable: bool = True
    evidence: float | None = None
    report: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    scores: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def rows(self) -> float:
        """Return the forward and backward passes that an explanation of a finished record took, mean over samples."""
        cost = self.costs["attribute"]
        return (cost["forwards"] + cost["backwards"]) / (self.n_total * self.repeats)

    def __repr__(self) -> str:
        """Return in a line what was asked for and what became of it."""
        what = f"{self.n_total} samples, {len(self.metrics)} metrics" if self.status == "done" else self.reason
        return f"Record({self.label or self.cell.method} on {self.cell.task}: {self.status}, {short(what)})"


SCORES_SCHEMA = pa.schema(
    [
        ("sample", pa.int32()),
        ("target", pa.int32()),
        ("metric", pa.dictionary(pa.int8(), pa.string())),
        ("score", pa.float64()),
        ("valid", pa.bool_()),
        ("reason", pa.dictionary(pa.int8(), pa.string())),
    ]
)


def scores_bytes(scores: pd.DataFrame) -> bytes:
    """Return a score table as parquet; equal tables give equal bytes."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(scores, SCORES_SCHEMA, preserve_index=False), sink)
    return sink.getvalue()


def stale(record: Record, identity: Mapping[str, str], metrics: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return why a finished `record` does not answer for `identity` and `metrics` (facts by name), if it does not."""
    if reason := what_changed(record.identity, identity):
        return reason
    for name, facts in metrics.items():
        if name not in record.metrics:
            return f"metric {name} is missing"
        if not same_metric(record.metrics[name], facts):
            return f"metric {name} changed"
    return None


def same_metric(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two records' facts of a metric are of one version of it, and of one source where it is another's."""
    return (one["version"], one.get("digest")) == (other["version"], other.get("digest"))


def digest_of_meta(meta: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what a run.json holds, but for the digest itself."""
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def scores_in(content: bytes, meta: Mapping[str, Any]) -> pd.DataFrame:
    """Return the score table of a finished record.

    Raises:
        RecordError: it has other columns, more rows than samples and metrics make, or other metrics.
    """
    file = pq.ParquetFile(io.BytesIO(content))
    most = meta["n_total"] * len(meta["metrics"])
    if file.metadata.num_rows != most:  # before it is read: a small file may hold very many
        raise RecordError(f"scores.parquet has {file.metadata.num_rows} rows, expected {most}")
    scores = file.read().to_pandas()
    if list(scores.columns) != SCORES_SCHEMA.names:
        raise RecordError(f"scores.parquet has the columns {', '.join(map(str, scores.columns))}")
    if not pd.Series(scores["metric"].astype(str).unique()).isin(list(meta["metrics"])).all():
        raise RecordError("scores.parquet holds metrics that run.json does not know")
    return scores


_NUMBER, _TEXT = (int, float), str
_KINDS: dict[str, Any] = {
    "status": _TEXT, "reason": _TEXT, "identity": dict, "label": _TEXT, "kind": _TEXT, "explains": list, "facts": dict,
    "metrics": dict, "n_total": int, "n_failed": int, "repeats": int, "costs": dict, "provenance": dict,
    "comparable": bool, "evidence": (int, float, type(None)), "report": dict, "problems": list,
}  # fmt: skip
_CELL: dict[str, Any] = {
    "source": _TEXT, "task": _TEXT, "method": _TEXT, "params": dict, "seed": int, "limit": (int, type(None)),
    "precision": _TEXT, "device": _TEXT, "preset": _TEXT,
}  # fmt: skip
_FACTS: dict[str, Any] = {
    "modality": _TEXT, "origin": _TEXT, "rows": int, "accuracy": (int, float, type(None)),
    "balanced_accuracy": (int, float, type(None)), "weak": bool,
}  # fmt: skip
_METRIC: dict[str, Any] = {"version": int, "higher_is_better": bool, "family": _TEXT, "order": int, "title": _TEXT}
_COST: dict[str, Any] = {"forwards": _NUMBER, "backwards": _NUMBER, "seconds": _NUMBER}


def check_plain(meta: Mapping[str, Any]) -> None:
    """Check the types and ranges of what a run.json holds.

    Args:
        meta: as parsed, without the digest.

    Raises:
        RecordError: something is not what a record holds; the sentence names the first place.
    """
    _check(meta, _KINDS, "run.json")
    _check(meta["cell"], _CELL, "cell")
    _check(meta["facts"], _FACTS, "facts")
    _check(meta["identity"], dict.fromkeys(CHANGED, _TEXT), "identity")
    for name, facts in meta["metrics"].items():
        _check(facts, _METRIC | ({"group": _TEXT} if "group" in facts else {}), f"metric {name}")
    for phase, cost in meta["costs"].items():
        _check(cost, _COST, f"costs of {phase}")
        if not all(math.isfinite(cost[key]) and cost[key] >= 0 for key in _COST):
            raise RecordError(f"costs of {phase}: expected numbers of at least 0")
    cell = meta["cell"]
    for name in (cell["task"], cell["method"], *meta["metrics"]):
        if not is_name(name):
            raise RecordError(
                f"the name {name[:64]!r} is none: expected up to 64 letters, digits, spaces, '_', '-', '+' and '.'"
            )
    if meta["status"] not in STATUSES or cell["source"] not in SOURCES:
        raise RecordError(f"a status or source that is none: {meta['status']!r}, {cell['source']!r}")
    if meta["n_total"] < 1 or meta["repeats"] < 1 or (meta["status"] == "done" and not meta["metrics"]):
        raise RecordError("a record of no samples, no metrics or no repeats")
    if not all(isinstance(item, str) for item in [*meta["explains"], *meta["problems"]]):
        raise RecordError("explains and problems: expected texts")
    if meta["status"] == "done" and not {"prepare", "attribute", "probe"} <= set(meta["costs"]):
        raise RecordError("costs: expected those of prepare, attribute and probe")


def _check(values: Any, kinds: Mapping[str, Any], where: str) -> None:
    if not isinstance(values, dict):
        raise RecordError(f"{where}: expected names and values, got {type(values).__name__}")
    for name, kind in kinds.items():
        value = values.get(name, kinds)
        real = isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)
        if not real or (isinstance(value, str) and not value.isprintable() and name not in ("reason", "origin")):
            what = "nothing" if value is kinds else f"{value!r}"[:60]
            raise RecordError(f"{where}: {name} is {what}, which is not what a record holds there")
