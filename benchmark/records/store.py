"""Per-sample records on disk: written whole or not at all, checked when read, never trusted when damaged.

A cell's folder, `<root>/<source>/<task>/<method>-<hash>/`, holds `scores.parquet` (one row a sample and metric:
sample, target, metric, score, valid, reason) and `run.json` (what was run, on what, by what, at what cost), which is
written last, carries the digests of the other files and one of itself. The hash is that of what was asked for: the
method's parameters, all filled in, the seed, the samples, the precision, the device and the preset. What computed the
answer stands in the record's `identity`. No torch here: boards read records alone.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import io
import json
import math
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from benchmark.core.errors import BenchmarkError, RecordError, UsageError, printable
from benchmark.core.files import write_atomically
from benchmark.core.identity import CHANGED, what_changed
from benchmark.core.registry import is_name
from benchmark.core.types import Device, Precision

SCHEMA = 4
STATUSES = ("done", "failed")
SOURCES = ("real", "synthetic")
EXAMPLES = "examples.json"
SET_ASIDE = "_set_aside"


@dataclass(frozen=True)
class Cell:
    """One unit of work: a method with its parameters, on a task, from a source, under a seed, on some samples.

    `params` are all parameters, defaults filled in. `limit` is the number of test samples, or None for all there are.
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

    @property
    def key(self) -> str:
        """Return the name of the cell's folder."""
        asked = [self.params, self.seed, self.limit, self.precision, self.device, self.preset]
        return f"{self.method}-{hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:10]}"

    @property
    def label(self) -> str:
        """Return the cell as a person would write it."""
        return f"{self.task} {self.method}"


@dataclass(frozen=True)
class Record:
    """What a cell gave. `status` is done or failed, `reason` says why.

    `identity` is what computed it (see `benchmark.core.identity`). `label` is the method with its given parameters,
    `kind` baseline, control, oracle or learned, `explains` the modalities it is for (empty: all). `facts` is what a
    board says of the task: `modality`, `origin` of the data, `rows` (test rows there are), `accuracy` and
    `balanced_accuracy` (None where not known), `weak`. `metrics` holds `version`, `higher_is_better`, `family`, `order`
    (of columns) and `title` by name. `costs` has forwards, backwards (rows of the model) and seconds by phase: prepare,
    attribute, probe and shared (what all methods of the task use together). `scores` is empty unless the cell is done.
    What is not `comparable` never enters a board with others. `evidence` is the mean share of the positive attribution
    that lies on planted evidence, where there is any. `report` is what a trained explainer says of its training;
    `problems` says what of it could not be kept as it was. Nothing relies on what `provenance` holds.
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
    provenance: dict[str, Any] = field(default_factory=dict)
    comparable: bool = True
    evidence: float | None = None
    report: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
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
        return self._lock(self.folder(cell))

    def _lock(self, folder: Path) -> FileLock:
        locks = self.root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        return FileLock(locks / f"{'-'.join(folder.parts[-3:])}.lock")

    def read(self, folder: Path) -> Record:
        """Return the record in `folder`.

        Raises:
            RecordError: it is damaged, was not written by this program, is in a wrong folder or has another schema.
        """
        try:
            meta = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            if not isinstance(meta, dict) or "schema" not in meta:
                raise RecordError("run.json holds no record")
            if meta["schema"] != SCHEMA:
                raise RecordError(f"schema {meta['schema']!r}, this version reads {SCHEMA}: run again")
            if meta.pop("digest", None) != _digest(meta):
                raise RecordError("run.json is not what was written: it is damaged or was edited")
            check_plain(meta)
            cell = Cell(**meta["cell"])
            if Path(*folder.absolute().parts[-3:]) != Path(cell.source, cell.task, cell.key):
                raise RecordError("the record does not belong to this folder")
            rest = {f.name: meta[f.name] for f in fields(Record) if f.name not in ("cell", "scores")}
            scores = pd.DataFrame()
            if meta["status"] == "done":
                content = (folder / "scores.parquet").read_bytes()
                if hashlib.sha256(content).hexdigest() != meta["scores_digest"]:
                    raise RecordError("scores.parquet is not what run.json says it is")
                scores = _scores(content, meta)
            return Record(cell=cell, scores=scores, **rest)
        except RecordError as error:
            raise RecordError(f"{folder}: {printable(str(error))}") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, pa.ArrowException) as error:
            said = printable(f"{type(error).__name__}: {error}"[:400])
            raise RecordError(f"{folder}: not a readable record ({said})") from error

    def examples(self, record: Record) -> list[dict[str, Any]]:
        """Return the samples that were kept with their explanations, none for a record that has none.

        Raises:
            RecordError: the file is damaged, or is not the one that was written with the record.
        """
        folder = self.folder(record.cell)
        path = folder / EXAMPLES
        try:
            wanted = json.loads((folder / "run.json").read_text(encoding="utf-8"))["examples_digest"]
            if wanted is None:
                return []
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != wanted:
                raise RecordError(f"{path} is not what run.json says it is")
            return json.loads(content)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise RecordError(f"{path}: not readable ({type(error).__name__}: {error})") from error

    def write(self, record: Record, examples: list[dict[str, Any]] | None = None) -> Path:
        """Write `record`, scores first, so that a kill at any moment leaves the old record, the new or none.

        `examples` (see `benchmark.running.kept_samples`) go into a file of their own, which no board reads.

        Raises:
            BenchmarkError: the disk is full or fails.
            ValueError, TypeError, RecordError: the record holds something that JSON or a record has no word for.
        """
        folder = self.folder(record.cell)
        meta = {key: value for key, value in asdict(replace(record, scores=None)).items() if key != "scores"}
        meta |= {"schema": SCHEMA, "scores_digest": None, "examples_digest": None}
        files: dict[str, bytes] = {}
        if record.status == "done":
            files["scores.parquet"] = scores_bytes(record.scores)
            meta["scores_digest"] = hashlib.sha256(files["scores.parquet"]).hexdigest()
            if examples:
                files[EXAMPLES] = json.dumps(examples, allow_nan=False).encode()
                meta["examples_digest"] = hashlib.sha256(files[EXAMPLES]).hexdigest()
        meta = json.loads(json.dumps(meta, allow_nan=False))  # as it will be read
        check_plain(meta)
        meta["digest"] = _digest(meta)
        files["run.json"] = json.dumps(meta, indent=1, sort_keys=True, allow_nan=False).encode()
        try:
            for name, content in files.items():
                write_atomically(folder / name, content)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            what = "the disk is full; free some space" if full else f"{folder}: {error.strerror}; mend that"
            if folder.exists() and not folder.is_dir():
                what = f"{folder} is a file where a folder should be; move it away"
            raise BenchmarkError(
                f"cannot store {record.cell.label} under {self.root}: {what} and run again, "
                "what is stored already is kept"
            ) from error
        return folder

    def forget(self, folder: Path, seen: bytes | None) -> bool:
        """Remove what is in `folder`, if its run.json still holds `seen` (None: it has none).

        Returns:
            False, and nothing is removed, where a run holds the cell's lock or has stored something else meanwhile.

        Raises:
            BenchmarkError: it cannot be removed.
        """
        try:
            with self._lock(folder).acquire(timeout=0):
                if stored(folder) != seen:
                    return False
                (folder / "run.json").unlink(missing_ok=True)  # first: what is half removed was never finished
                shutil.rmtree(folder)
        except Timeout:
            return False
        except OSError as error:
            raise BenchmarkError(f"cannot remove {folder}: {error.strerror}") from error
        return True

    def tasks(self, source: str | None = None) -> list[str]:
        """Return the names of the tasks that have records, none of which is read."""
        return sorted({folder.parts[-2] for folder in self._folders(source or "*", "*")})

    def scan(self, source: str | None = None, task: str | None = None) -> tuple[list[Record], list[str]]:
        """Return all readable records, and one sentence for each folder that holds none."""
        records, problems = [], []
        for folder in self.folders(source, task):
            try:
                records.append(self.read(folder))
            except RecordError as error:
                problems.append(str(error))
        return records, problems

    def folders(self, source: str | None = None, task: str | None = None) -> Iterator[Path]:
        """Yield the folders of records, readable or not."""
        yield from self._folders(source or "*", task or "*")

    def _folders(self, source: str, task: str) -> Iterator[Path]:
        for folder in sorted(self.root.glob(f"{source}/{glob.escape(task) if task != '*' else task}/*")):
            if folder.is_dir() and folder.parts[-3] in SOURCES:
                yield folder

    def set_aside(self, folder: Path) -> Path:
        """Move a damaged record out of the way, and return where it is now."""
        stem = "-".join(folder.relative_to(self.root).parts)
        target = self.root / SET_ASIDE / f"{stem}-{time.time_ns()}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, target)
        return target


def stored(folder: Path) -> bytes | None:
    """Return what the run.json of a record's folder holds, or None where there is none."""
    path = folder / "run.json"
    return path.read_bytes() if path.is_file() else None


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
        if record.metrics[name]["version"] != facts["version"]:
            return f"metric {name} changed"
    return None


def _digest(meta: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _scores(content: bytes, meta: Mapping[str, Any]) -> pd.DataFrame:
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
    """Make sure that what stands in a run.json has the kinds that boards rely on.

    Raises:
        RecordError: it has not; the sentence names the first place.
    """
    _check(meta, _KINDS, "run.json")
    _check(meta["cell"], _CELL, "cell")
    _check(meta["facts"], _FACTS, "facts")
    _check(meta["identity"], dict.fromkeys(CHANGED, _TEXT), "identity")
    for name, facts in meta["metrics"].items():
        _check(facts, _METRIC, f"metric {name}")
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


def _check(found: Any, kinds: Mapping[str, Any], where: str) -> None:
    if not isinstance(found, dict):
        raise RecordError(f"{where}: expected names and values, got {type(found).__name__}")
    for name, kind in kinds.items():
        value = found.get(name, kinds)
        real = isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)
        if not real or (isinstance(value, str) and not value.isprintable() and name not in ("reason", "origin")):
            what = "nothing" if value is kinds else f"{value!r}"[:60]
            raise RecordError(f"{where}: {name} is {what}, which is not what a record holds there")
