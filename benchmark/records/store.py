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
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from filelock import FileLock, Timeout

from benchmark.core.errors import BenchmarkError, RecordError, UsageError, printable
from benchmark.core.files import write_atomically
from benchmark.records.provenance import RecordProvenance
from benchmark.records.record import SCHEMA, SOURCES, Cell, Record, check_plain, digest_of_meta, scores_bytes, scores_in

EXAMPLES = "examples.json"
SET_ASIDE, PARTS = "_set_aside", "_parts"
LATELY = 86400.0
"""Seconds after which nobody is taken to be at work on parts."""


class RecordStore:
    """The records under one folder.

    Args:
        root: the folder; `open` makes it.

    Example:
        >>> import tempfile
        >>> store = RecordStore(Path(tempfile.mkdtemp())).open()
        >>> cell = Cell("real", "nap_mlp", "saliency", {}, seed=0, limit=None)
        >>> store.folder(cell).relative_to(store.root).as_posix().partition('-')[0]
        'real/nap_mlp/saliency'
        >>> store.scan()  # records, and what is wrong with the rest
        ([], [])
    """

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

    def parts(self, cell: Cell) -> Path:
        """Return where parts of an unfinished cell are kept."""
        return self.root / PARTS / cell.source / cell.task / cell.key

    def remove_parts(self, cell: Cell, key: str = "") -> None:
        """Remove the parts `key` of a cell, and those of other weights, code or metrics that nobody added to lately."""
        for folder in self.parts(cell).glob("*"):
            with suppress(OSError):  # another run removes them, too
                if folder.name == key or time.time() - folder.stat().st_mtime > LATELY:
                    shutil.rmtree(folder)
        with suppress(OSError):  # others are there
            self.parts(cell).rmdir()

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
            if meta.pop("digest", None) != digest_of_meta(meta):
                raise RecordError("run.json is not what was written: it is damaged or was edited")
            record = record_from(meta)
            cell = record.cell
            if Path(*folder.absolute().parts[-3:]) != Path(cell.source, cell.task, cell.key):
                raise RecordError("the record does not belong to this folder")
            if meta["status"] == "done":
                content = (folder / "scores.parquet").read_bytes()
                if hashlib.sha256(content).hexdigest() != meta["scores_digest"]:
                    raise RecordError("scores.parquet is not what run.json says it is")
                record = replace(record, scores=scores_in(content, meta))
            return record
        except RecordError as error:
            raise RecordError(f"{folder}: {printable(str(error))}") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, pa.ArrowException) as error:
            reason = printable(f"{type(error).__name__}: {error}"[:400])
            raise RecordError(f"{folder}: not a readable record ({reason})") from error

    def examples(self, record: Record) -> list[dict[str, Any]]:
        """Return the samples that were kept with their explanations, none for a record that has none.

        Raises:
            RecordError: the file is damaged, or is not the one that was written with the record.
        """
        folder = self.folder(record.cell)
        path = folder / EXAMPLES
        try:
            digest = json.loads((folder / "run.json").read_text(encoding="utf-8"))["examples_digest"]
            if digest is None:
                return []
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != digest:
                raise RecordError(f"{path} is not what run.json says it is")
            return json.loads(content)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise RecordError(f"{path}: not readable ({type(error).__name__}: {error})") from error

    def write(self, record: Record, examples: list[dict[str, Any]] | None = None) -> Path:
        """Write `record`, scores first, so that a kill at any moment leaves the old record, the new or none.

        Args:
            record: what a cell gave.
            examples: a few samples with their explanations (see `benchmark.running.kept_samples`), for a file beside
                it that no board reads.

        Returns:
            The record's folder.

        Raises:
            BenchmarkError: the disk is full or fails.
            ValueError, TypeError, RecordError: the record holds something that JSON or a record has no word for.
        """
        folder = self.folder(record.cell)
        meta = plain_record(record) | {"schema": SCHEMA, "scores_digest": None, "examples_digest": None}
        files: dict[str, bytes] = {}
        if record.status == "done":
            files["scores.parquet"] = scores_bytes(record.scores)
            meta["scores_digest"] = hashlib.sha256(files["scores.parquet"]).hexdigest()
            if examples:
                files[EXAMPLES] = json.dumps(examples, allow_nan=False).encode()
                meta["examples_digest"] = hashlib.sha256(files[EXAMPLES]).hexdigest()
        meta = json.loads(json.dumps(meta, allow_nan=False))  # as it will be read
        check_plain(meta)
        meta["digest"] = digest_of_meta(meta)
        files["run.json"] = json.dumps(meta, indent=1, sort_keys=True, allow_nan=False).encode()
        with stored_or_said(self, record.cell, folder):
            for name, content in files.items():
                write_atomically(folder / name, content)
        return folder

    def forget(self, folder: Path, content_before: bytes | None) -> bool:
        """Remove a record, unless it has changed.

        Args:
            folder: of the record.
            content_before: what its run.json held (see `stored`) when it was decided to remove it.

        Returns:
            False, and nothing is removed, where a run holds the cell's lock or has stored something else meanwhile.

        Raises:
            BenchmarkError: it cannot be removed.
        """
        try:
            with self._lock(folder).acquire(timeout=0):
                if stored(folder) != content_before:
                    return False
                (folder / "run.json").unlink(missing_ok=True)  # first: what is half removed was never finished
                shutil.rmtree(folder)
                shutil.rmtree(self.root / PARTS / Path(*folder.parts[-3:]), ignore_errors=True)
        except Timeout:
            return False
        except OSError as error:
            raise BenchmarkError(f"cannot remove {folder}: {error.strerror}") from error
        return True

    def tasks(self, source: str | None = None) -> list[str]:
        """Return the names of the tasks that have records, none of which is read."""
        return sorted({folder.parts[-2] for folder in self._folders(source or "*", "*")})

    def scan(self, source: str | None = None, task: str | None = None) -> tuple[list[Record], list[str]]:
        """Return all readable records, and one sentence for each folder that holds none.

        Args:
            source: `real` or `synthetic`; None for both.
            task: its name; None for all.
        """
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


def plain_record(record: Record) -> dict[str, Any]:
    """Return a record without its scores as plain data."""
    meta = {key: value for key, value in asdict(replace(record, scores=None)).items() if key != "scores"}
    return meta | {"provenance": record.provenance.plain()}


def record_from(meta: dict[str, Any]) -> Record:
    """Return the record, without scores, that `plain_record` gave.

    Raises:
        RecordError: something is not what a record holds.
    """
    check_plain(meta)
    rest = {f.name: meta[f.name] for f in fields(Record) if f.name not in ("cell", "scores")}
    return Record(cell=Cell(**meta["cell"]), **rest | {"provenance": RecordProvenance.from_plain(meta["provenance"])})


@contextmanager
def stored_or_said(store: RecordStore, cell: Cell, folder: Path) -> Iterator[None]:
    """Write something of a cell into a folder inside the block.

    Raises:
        BenchmarkError: the disk is full or fails.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        what = "the disk is full; free some space" if full else f"{folder}: {error.strerror}; mend that"
        if folder.exists() and not folder.is_dir():
            what = f"{folder} is a file where a folder should be; move it away"
        raise BenchmarkError(
            f"cannot store {cell.label} under {store.root}: {what} and run again, what is stored already is kept"
        ) from error


def stored(folder: Path) -> bytes | None:
    """Return what the run.json of a record's folder holds, or None where there is none."""
    path = folder / "run.json"
    return path.read_bytes() if path.is_file() else None
