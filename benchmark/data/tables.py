"""Tabular data sets: where a table is found, what it must hold, and how it is checked."""

from __future__ import annotations

import csv
import hashlib
import io
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.core.errors import Absent, DataError, few, short
from benchmark.core.sources import Located, Sources
from benchmark.data.download import WebFile

SYNTHETIC_SEED = 0
FAR = 1e6
"""A cell that is this many times further from its column's median than other cells are makes them all alike."""
WITHIN = "a number within reach of the others of its column, which scaled by their deviation would become one value"


@dataclass(frozen=True, kw_only=True)
class Table(ABC):
    """A table with a label. `classes` maps each label in the data to its name, in class order.

    `digest` is that of the parsed content (see `content_digest`), so it does not depend on how a file is written.
    `synthesise` makes the stand-in: same columns, a known mechanism.
    """

    name: str
    features: tuple[str, ...]
    label: str
    classes: dict[str, str]
    rows: int
    digest: str
    licence: str
    synthesise: Callable[[np.random.Generator], pd.DataFrame]

    @property
    @abstractmethod
    def origin(self) -> str:
        """Return where real data come from, for the task's card."""

    @abstractmethod
    def locate(self, sources: Sources) -> Located:
        """Find the table and check it, or take the stand-in where these sources allow it."""

    @abstractmethod
    def read(self, located: Located) -> pd.DataFrame:
        """Return the real table that was located."""

    def load(self, located: Located) -> tuple[np.ndarray, np.ndarray]:
        """Return features (N, G) float64 and class numbers (N,) int64.

        Raises:
            DataError: a column is missing, or a cell holds no finite number or no known label.
        """
        synthetic = located.source == "synthetic"
        frame = self._synthetic() if synthetic else self.read(located)
        return self._parse(frame, located.origin)

    def _synthetic(self) -> pd.DataFrame:
        return self.synthesise(np.random.default_rng(SYNTHETIC_SEED))

    def _stand_in(self) -> Located:
        features, labels = self._parse(self._synthetic(), "the synthetic stand-in")
        return Located("synthetic", "synthetic stand-in", content_digest(features, labels))

    def _parse(self, frame: pd.DataFrame, origin: str) -> tuple[np.ndarray, np.ndarray]:
        wanted = [*self.features, self.label]
        absent = [column for column in wanted if column not in frame.columns]
        if absent:
            raise DataError(
                f"{origin} has no column {few(absent)}: expected {', '.join(wanted)}, got {few(list(frame.columns))}"
            )
        columns = []
        for column in self.features:
            numbers = pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64)
            _refuse(~np.isfinite(numbers), frame[column], origin, "a finite number", "mend or drop the row")
            _refuse(_far(numbers), frame[column], origin, WITHIN, "mend it, drop the row, or take logarithms")
            columns.append(numbers)
        labels = frame[self.label].map(_label_text)
        codes = {label: code for code, label in enumerate(self.classes)}
        unknown = ~labels.isin(codes.keys())
        if unknown.any():
            row = int(unknown.to_numpy().argmax())
            raise DataError(
                f"{origin}, data row {row + 1}, column {self.label}: expected one of {', '.join(codes)}, "
                f"got {short(labels.iloc[row])!r}"
            )
        y = labels.map(codes).to_numpy(np.int64)
        counts = np.bincount(y, minlength=len(codes))
        if counts.min() < 5:
            raise DataError(f"{origin}: expected at least 5 rows of each class of {self.label}, got {counts.tolist()}")
        return np.stack(columns, 1), y


@dataclass(frozen=True, kw_only=True)
class TableFile(Table):
    """A table that lies in a data folder as `file`, or on the web at `url`."""

    file: str
    url: str

    @property
    def origin(self) -> str:
        """See `Table`."""
        return f"{self.file} in a data folder, else {self.url}"

    def locate(self, sources: Sources) -> Located:
        """Find the table and check it.

        Raises:
            DataError: the table is damaged, or `sources` ask for real data and there are none.
        """

        def real() -> Located:
            path = sources.file(self.file)
            if path is not None:
                return self._check(path, path.read_bytes(), str(path), verify=sources.verify)
            missing = f"no {self.file} " + ("in a data folder" if sources.data_dir is None else "there")
            checked: list[Located] = []

            def check(path: Path) -> None:
                checked.append(self._check(path, path.read_bytes(), self.url, pinned="it"))

            try:
                sources.downloaded(WebFile(self.url, f"{self.name}-{self.digest[:16]}.csv"), check)
            except Absent as why:
                raise Absent(f"{missing}, and {why}") from why
            return checked[-1]

        hint = f"Name a data folder with --data-dir or BENCHMARK_DATA, put {self.file} into it"
        return sources.locate(self.name, real, self._stand_in, hint)

    def read(self, located: Located) -> pd.DataFrame:
        """See `Table`."""
        assert located.path is not None
        return _read_csv(Path(located.path).read_bytes(), located.path, (*self.features, self.label))

    def _check(self, path: Path, content: bytes, origin: str, verify: bool = False, pinned: str = "") -> Located:
        """Check a table; `pinned` names one that must be the pinned version, whether the user asked for it or not."""
        where = pinned or origin
        features, labels = self._parse(_read_csv(content, where, (*self.features, self.label)), where)
        digest = content_digest(features, labels)
        notes: tuple[str, ...] = ()
        if digest != self.digest:
            note = (
                f"{where} is not the pinned version of {self.name}: {len(labels)} rows (pinned {self.rows}), "
                f"digest {digest[:12]} (pinned {self.digest[:12]})"
            )
            if pinned:
                raise DataError(note)
            if verify:
                raise DataError(f"{note}; get the original file, or run without --verify to use this one")
            notes = (f"{note}; results are recorded under this digest",)
        return Located("real", origin, digest, notes, str(path))


@dataclass(frozen=True, kw_only=True)
class BundledTable(Table):
    """A table that scikit-learn ships: real data with no download. `loader` is its function in sklearn.datasets."""

    loader: str

    @property
    def origin(self) -> str:
        """See `Table`."""
        return f"sklearn.datasets.{self.loader}"

    def locate(self, sources: Sources) -> Located:
        """See `Table`.

        Raises:
            DataError: scikit-learn's copy is not the pinned one.
        """
        if sources.kind == "synthetic":
            return self._stand_in()
        digest = content_digest(*self._parse(self._frame(), self.origin))
        if digest != self.digest:
            raise DataError(f"{self.origin} is not the pinned version of {self.name}: install scikit-learn >= 1.4")
        return Located("real", self.origin, digest)

    def read(self, located: Located) -> pd.DataFrame:
        """See `Table`."""
        return self._frame()

    def _frame(self) -> pd.DataFrame:
        from sklearn import datasets

        bunch = getattr(datasets, self.loader)()
        return pd.DataFrame(bunch.data, columns=list(self.features)).assign(**{self.label: bunch.target.astype(str)})


def _label_text(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _read_csv(content: bytes, origin: str, wanted: Collection[str]) -> pd.DataFrame:
    """Return a table that holds the columns `wanted` once each.

    Raises:
        DataError: the file is no table, or lacks one of them, or holds it twice.
    """
    try:
        names = next(filter(None, csv.reader(io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline=""))), [])
        doubled = [name for name, times in Counter(names).items() if times > 1 and name in wanted]
        if doubled:
            raise DataError(f"{origin} has more than one column {few(doubled)}: rename or drop all but one")
        missing = [name for name in wanted if name not in names]
        if missing:
            raise DataError(f"{origin} has no column {few(missing)}: expected {', '.join(wanted)}, got {few(names)}")
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(io.BytesIO(content), index_col=False)
    except pd.errors.ParserWarning as error:  # without index_col, columns would move by one
        sentence = f"{origin} has rows of more cells than its first line has names: expected one name a column"
        raise DataError(sentence) from error
    except (ValueError, csv.Error) as error:
        raise DataError(f"{origin} is not a readable CSV file: {short(error, 200)}") from error


def _refuse(bad: np.ndarray, cells: pd.Series, origin: str, expected: str, hint: str) -> None:
    """Make sure that no cell is `bad`.

    Raises:
        DataError: one is; the first is named.
    """
    if bad.any():
        row = int(bad.argmax())
        value = "no value" if pd.isna(cells.iloc[row]) else repr(short(cells.iloc[row]))
        more = f" ({int(bad.sum()):,} such cells)" if bad.sum() > 1 else ""
        raise DataError(
            f"{origin}, data row {row + 1}, column {cells.name}: expected {expected}, got {value}{more}; {hint}"
        )


def _far(numbers: np.ndarray) -> np.ndarray:
    """Tell which numbers are so far from the median of finite numbers that they take up all of their deviation.

    Distances are compared with their median, of those cells that are not the median itself: a column may hold one value
    nearly everywhere.
    """
    half = numbers / 2  # so that no difference overflows
    distance = np.abs(half - np.median(half)) if len(half) else half
    others = distance[distance > 0]
    return distance / FAR > np.median(others) if len(others) else np.zeros(len(half), bool)


def content_digest(features: np.ndarray, labels: np.ndarray) -> str:
    """Return the SHA-256 of a parsed table: shape, features as little-endian doubles, labels."""
    sha = hashlib.sha256(repr(features.shape).encode())
    sha.update(np.ascontiguousarray(features, "<f8").tobytes())
    sha.update(np.ascontiguousarray(labels, "<i8").tobytes())
    return sha.hexdigest()
