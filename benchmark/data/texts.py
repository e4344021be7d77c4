"""Text data sets: parquet files in a data folder, or of a pinned revision on the hub."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmark.core.errors import Absent, DataError, few, short
from benchmark.core.files import file_digest
from benchmark.core.sources import Located, Sources
from benchmark.data import stand_ins
from benchmark.data.hub import HubFile
from benchmark.data.words import split_words

log = logging.getLogger("benchmark")

PARTS = ("train", "test")
STAND_IN_ROWS, STAND_IN_LENGTH = 2400, 40
ROWS_AT_ONCE = 1000
"""Rows that are read from a file together."""


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts as words, labels (N,), and where the planted evidence stands (N, length), if there is any."""

    words: list[list[str]]
    labels: np.ndarray
    evidence: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class TextFiles:
    """Texts with labels in `folder`/train.parquet and test.parquet: columns text and label, 0 to C - 1.

    `repo` at `revision` is the data set on the hub, whose files are `remote`; `pinned` holds the SHA-256 of the data
    folder's files. `stand_in` maps each class to the words that are evidence for it in the stand-in.
    """

    name: str
    folder: str
    repo: str
    revision: str
    remote: Mapping[str, str]
    pinned: Mapping[str, str]
    classes: tuple[str, ...]
    licence: str
    stand_in: Mapping[str, Sequence[str]]

    @property
    def origin(self) -> str:
        """Return where real data come from, for the task's card."""
        return f"{self.folder}/train.parquet and test.parquet in a data folder, else {self.repo} on the hub"

    @property
    def _hub(self) -> str:
        return f"{self.repo} at {self.revision[:12]} on the hub"

    def locate(self, sources: Sources) -> Located:
        """Find both files and take their digests.

        Raises:
            DataError: files differ from the pinned ones under --verify, or real data were asked for and are missing.
        """

        def real() -> Located:
            files = [sources.file(f"{self.folder}/{part}.parquet") for part in PARTS]
            if all(files):
                return self._check([file for file in files if file], sources.verify)
            gone = ", ".join(f"{self.folder}/{p}.parquet" for p, f in zip(PARTS, files, strict=True) if not f)
            missing = f"no {gone} " + ("in a data folder" if sources.data_dir is None else "there")
            try:
                parquet = [
                    sources.downloaded(HubFile(self.repo, self.revision, self.remote[part]), check_parquet)
                    for part in PARTS
                ]
            except Absent as why:
                raise Absent(f"{missing}, and {why}") from why
            note = f"of {self._hub} the revision is pinned and no digest: --verify checks nothing there"
            notes = (note,) if sources.verify else ()
            root = parquet[0].parents[self.remote[PARTS[0]].count("/")]
            return Located("real", self._hub, _digest(map(file_digest, parquet)), notes, str(root))

        files = f"{self.folder}/train.parquet and test.parquet"
        hint = f"Name a data folder with --data-dir or BENCHMARK_DATA, put {files} into it"
        return sources.locate(self.name, real, self._stand_in, hint)

    def _check(self, files: Sequence[Path], verify: bool) -> Located:
        digests = [file_digest(file) for file in files]
        notes = []
        for part, file, digest in zip(PARTS, files, digests, strict=True):
            if digest != self.pinned[part]:
                pinned = f"SHA-256 {digest[:12]} (pinned {self.pinned[part][:12]})"
                note = f"{file} is not the pinned version of {self.name}: {pinned}"
                if verify:
                    raise DataError(f"{note}; get the original file, or run without --verify to use this one")
                notes.append(f"{note}; results are recorded under this digest")
        return Located("real", str(files[0].parent), _digest(digests), tuple(notes), str(files[0].parent))

    def _stand_in(self) -> Located:
        texts = [" ".join(words) for part in self._synthetic().values() for words in part.words]
        return Located("synthetic", "synthetic stand-in", hashlib.sha256("\n".join(texts).encode()).hexdigest())

    def _synthetic(self) -> dict[str, Texts]:
        rng = np.random.default_rng(stand_ins.SEED)
        words, labels, evidence = stand_ins.sentences(rng, self.stand_in, STAND_IN_ROWS, STAND_IN_LENGTH)
        cut = STAND_IN_ROWS - 400
        rows = {"train": slice(0, cut), "test": slice(cut, None)}
        return {part: Texts(words[some], labels[some], evidence[some]) for part, some in rows.items()}

    def load(self, located: Located) -> dict[str, Texts]:
        """Return the texts of the training and the test part.

        Raises:
            DataError: a file cannot be read, lacks a column, or holds an unknown label.
        """
        if located.source == "synthetic":
            return self._synthetic()
        assert located.path is not None
        root = Path(located.path)
        on_hub = located.origin == self._hub  # where files have names of their own
        return {part: self._read(root / (self.remote[part] if on_hub else f"{part}.parquet")) for part in PARTS}

    def _read(self, file: Path) -> Texts:
        texts, labels = _columns(file)
        for row, (text, label) in enumerate(zip(texts, labels, strict=True), 1):
            if not isinstance(text, str):
                raise DataError(
                    f"{file}, row {row}, column text: expected a text, got {short(repr(text))}; drop the row"
                )
            if label not in range(len(self.classes)):
                most = len(self.classes) - 1
                raise DataError(
                    f"{file}, row {row}, column label: expected labels 0 to {most}, got {short(repr(label))}"
                )
        words = [split_words(text) for text in texts]
        written = [row for row in range(len(words)) if words[row]]
        if not written:
            raise DataError(f"{file}: expected texts with words, got {len(texts)} without any")
        if len(written) < len(texts):
            log.warning(f"{file}: {len(texts) - len(written):,} of {len(texts):,} texts hold no word and are left out")
        return Texts([words[row] for row in written], np.array([labels[row] for row in written], np.int64))


def _columns(file: Path) -> tuple[list[Any], list[Any]]:
    """Return the columns text and label of a parquet file, read in place: `datasets` makes no copy of a stream.

    Raises:
        DataError: it cannot be read, or lacks a column.
    """
    from datasets import config, load_dataset

    config.HF_UPDATE_DOWNLOAD_COUNTS = False  # else each load is told to a server, that of a local file too
    texts, labels = [], []
    try:
        with TemporaryDirectory() as scratch:  # for a lock that it makes all the same
            rows = load_dataset("parquet", data_files=str(file), split="train", streaming=True, cache_dir=scratch)
            for batch in rows.iter(ROWS_AT_ONCE):
                if not {"text", "label"} <= batch.keys():
                    raise DataError(f"{file}: expected columns text and label, got {few(list(batch))}")
                texts += batch["text"]
                labels += batch["label"]
    except (OSError, ValueError) as error:  # what Arrow raises is one of them
        raise DataError(f"{file} is not a readable parquet file: {short(error.__cause__ or error, 200)}") from error
    return texts, labels


def check_parquet(file: Path) -> None:
    """Make sure that a file begins and ends as parquet files do.

    Raises:
        DataError: it does not: it is damaged, or another thing, such as a page that asks for a login.
    """
    with file.open("rb") as opened:
        first = opened.read(40)
        opened.seek(max(0, file.stat().st_size - 4))
        last = opened.read()
    if not first.startswith(b"PAR1"):
        raise DataError(f"it is no parquet file: it begins with {first!r}")
    if last != b"PAR1" or file.stat().st_size < 12:
        raise DataError("it is a parquet file without its end")


def _digest(digests: Iterable[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()
