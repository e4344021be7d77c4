"""Per-sample records on disk: written whole or not at all, checked when read, never trusted when damaged.

A cell's folder, `<root>/<source>/<task>/<method>-<hash>/`, holds `scores.parquet` (one row a sample and metric:
sample, target, metric, score, valid, reason) and `run.json` (what was run, on what, at what cost), which is
written last and carries the digest of the scores. The hash is that of the method's parameters, the seed, the
samples, the precision and the preset. No torch here: boards read records alone.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from benchmark.data.download import write_atomically
from benchmark.errors import BenchmarkError, RecordError, UsageError
from benchmark.types import Precision

SCHEMA = 3
STATUSES = ("done", "failed")
EXAMPLES = "examples.json"
SET_ASIDE = "_set_aside"


@dataclass(frozen=True)
class Cell:
    """One unit of work: a method with its parameters, on a task, from a source, under a seed, on some samples.

    `limit` is the number of test samples, or None for all of them. `fingerprint` is that of the task under `preset`.
    """

    source: str
    task: str
    method: str
    params: dict[str, Any]
    seed: int
    limit: int | None
    fingerprint: str
    precision: Precision = "fp32"
    preset: str = "standard"

    @property
    def key(self) -> str:
        """Return the name of the cell's folder."""
        identity = json.dumps([self.params, self.seed, self.limit, self.precision, self.preset], sort_keys=True)
        return f"{self.method}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}"

    @property
    def label(self) -> str:
        """Return the cell as a person would write it."""
        return f"{self.task} {self.method}"


@dataclass(frozen=True)
class Record:
    """What a cell gave. `status` is done or failed, `reason` says why; `metrics` holds version and direction by name.

    `label` is the method with its given parameters, `kind` is baseline, control, oracle or learned.
    `costs` has forwards, backwards (rows of the model) and seconds by phase: prepare, attribute, probe and shared
    (what all methods of the task use together). `scores` is empty unless the cell is done. What is not `comparable`
    never enters a board with others. `evidence` is the mean share of the positive attribution that lies on planted
    evidence, where there is any. `report` is what a trained explainer says of its training.
    """

    cell: Cell
    status: str
    reason: str = ""
    label: str = ""
    kind: str = ""
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    n_total: int = 0
    n_failed: int = 0
    repeats: int = 1
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    comparable: bool = True
    evidence: float | None = None
    report: dict[str, Any] = field(default_factory=dict)
    scores: pd.DataFrame = field(default_factory=pd.DataFrame)


class RecordStore:
    """The records under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self) -> RecordStore:
        """Make the folder, and check that it can be written.

        Raises:
            UsageError: it cannot.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise UsageError(f"cannot write to --out {str(self.root)!r}: {error.strerror}; name another") from error
        return self

    def folder(self, cell: Cell) -> Path:
        """Return where the record of `cell` is or will be."""
        return self.root / cell.source / cell.task / cell.key

    def lock(self, cell: Cell) -> FileLock:
        """Return the lock that one run at a time holds on `cell`; it dies with its process."""
        folder = self.root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{cell.source}-{cell.task}-{cell.key}.lock")

    def read(self, folder: Path) -> Record:
        """Return the record in `folder`.

        Raises:
            RecordError: it is damaged, was not written by this program, or has another schema version.
        """
        try:
            meta = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            if meta["schema"] != SCHEMA:
                raise RecordError(f"{folder}: schema {meta['schema']}, this version reads {SCHEMA}")
            cell = Cell(**meta["cell"])
            if meta["status"] not in STATUSES or folder.name != cell.key:
                raise RecordError(f"{folder}: the record does not belong to this folder")
            rest = {f.name: meta[f.name] for f in fields(Record) if f.name not in ("cell", "scores")}
            scores = pd.DataFrame()
            if meta["status"] == "done":
                content = (folder / "scores.parquet").read_bytes()
                if hashlib.sha256(content).hexdigest() != meta["scores_digest"]:
                    raise RecordError(f"{folder}: scores.parquet is not what run.json says it is")
                scores = pq.read_table(io.BytesIO(content)).to_pandas()
            return Record(cell=cell, scores=scores, **rest)
        except RecordError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
            raise RecordError(f"{folder}: not a readable record ({type(error).__name__}: {error})") from error

    def examples(self, record: Record) -> list[dict[str, Any]]:
        """Return the samples that were kept with their explanations, none for a record that has none.

        Raises:
            RecordError: the file is damaged.
        """
        path = self.folder(record.cell) / EXAMPLES
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        except (OSError, ValueError) as error:
            raise RecordError(f"{path}: not readable ({type(error).__name__}: {error})") from error

    def write(self, record: Record, examples: list[dict[str, Any]] | None = None) -> Path:
        """Write `record`, scores first, so that a kill at any moment leaves the old record, the new or none.

        `examples` (see `benchmark.examples`) go into a file of their own, which no board reads.

        Raises:
            BenchmarkError: the disk is full or fails.
        """
        folder = self.folder(record.cell)
        meta = {key: value for key, value in asdict(record).items() if key != "scores"} | {"schema": SCHEMA}
        try:
            if record.status == "done":
                content = scores_bytes(record.scores)
                meta["scores_digest"] = hashlib.sha256(content).hexdigest()
                write_atomically(folder / "scores.parquet", content)
                if examples:
                    write_atomically(folder / EXAMPLES, json.dumps(examples, allow_nan=False).encode())
            text = json.dumps(meta, indent=1, sort_keys=True, allow_nan=False)
            write_atomically(folder / "run.json", text.encode())
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            what = "the disk is full" if full else str(error.strerror)
            raise BenchmarkError(
                f"cannot store {record.cell.label} under {self.root}: {what}; free some space and run again, "
                "what is stored already is kept"
            ) from error
        return folder

    def scan(self, source: str | None = None, task: str | None = None) -> tuple[list[Record], list[str]]:
        """Return all readable records, and one sentence for each folder that holds none."""
        records, problems = [], []
        for folder in self._folders(source or "*", task or "*"):
            try:
                records.append(self.read(folder))
            except RecordError as error:
                problems.append(str(error))
        return records, problems

    def _folders(self, source: str, task: str) -> Iterator[Path]:
        for folder in sorted(self.root.glob(f"{source}/{task}/*")):
            if folder.is_dir() and folder.parts[-3] != SET_ASIDE and not folder.parts[-3].startswith("."):
                yield folder

    def set_aside(self, folder: Path) -> Path:
        """Move a damaged record out of the way, and return where it is now."""
        stem = "-".join(folder.relative_to(self.root).parts)
        target = self.root / SET_ASIDE / f"{stem}-{time.time_ns()}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, target)
        return target


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


def same_work(record: Record, cell: Cell, metrics: dict[str, dict[str, Any]]) -> str | None:
    """Return why `record` does not answer for `cell` and `metrics` (name to version), or None where it does."""
    if record.cell.fingerprint != cell.fingerprint:
        return "the task's data, model or budget changed"
    for name, facts in metrics.items():
        if name not in record.metrics and record.status == "done":
            return f"metric {name} is missing"
        if record.status == "done" and record.metrics[name]["version"] != facts["version"]:
            return f"metric {name} changed"
    return None
