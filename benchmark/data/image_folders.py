"""Image data sets in a data folder: a folder a class, or a list of classes beside the images."""

from __future__ import annotations

import csv
import hashlib
import logging
import os
import sys
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from benchmark.core.errors import Absent, DataError, few, short
from benchmark.core.seeding import seed_for
from benchmark.core.sources import Located, Sources
from benchmark.data.image_files import SUFFIXES, Files, decoded
from benchmark.data.images import PARTS, Images, ImageSet
from benchmark.processes.progress import tqdm

log = logging.getLogger("benchmark")


@dataclass(frozen=True, kw_only=True)
class FileImages(ImageSet):
    """Images that lie in files: which of them are used, and how they are decoded."""

    @abstractmethod
    def _files(self, root: Path, part: str) -> Files:
        """Return all files of the training or the test part below the folder `root`."""

    def _drawn(self, located: Located) -> dict[str, Files]:
        """Return the files of each part that are used."""
        return {part: self._draw(part, self._files(Path(str(located.path)), part)) for part in PARTS}

    def _files_state(self, located: Located) -> dict[str, Any]:
        drawn = self._drawn(located)
        return {part: [_state(path, label) for path, label in files] for part, files in drawn.items()}

    def _real(self, located: Located) -> dict[str, Images]:
        """Decode the files drawn, and show how far that is on a terminal."""
        drawn = self._drawn(located)
        total, largest = sum(map(len, drawn.values())), 0
        parts: dict[str, Images] = {}
        bar = tqdm(total=total, desc=f"decoding {self.name}", disable=not sys.stderr.isatty(), leave=False)
        with bar:
            for part, files in drawn.items():
                pixels = np.empty((len(files), self.channels, self.side, self.side), np.uint8)
                for row, (path, _) in zip(pixels, files, strict=True):
                    row[:], top = decoded(path, self.side, self.channels, self.crops, self.bits)
                    largest = max(largest, top)
                    bar.update()
                parts[part] = Images(pixels, np.array([label for _, label in files]))
        if 0 < largest < 2 ** (self.bits - 1):
            log.warning(
                f"no value of the 16-bit files in {located.path} is over {largest}: they are scaled by "
                f"{2**self.bits - 1:,} and come out dark; if they hold {largest.bit_length()} bits, give the image set "
                f"bits={largest.bit_length()}"
            )
        return parts

    def _draw(self, part: str, files: Files) -> Files:
        """Return files in a seeded order in which classes take turns, up to the number of rows of `part`."""
        most = self.train_rows if part == "train" else self.test_rows
        rng = np.random.default_rng(seed_for(0, self.name, part))
        turn: dict[int, int] = {}
        keyed: list[tuple[int, int, int]] = []
        for at in rng.permutation(len(files)):
            label = files[at][1]
            turn[label] = turn.get(label, -1) + 1
            keyed.append((turn[label], len(keyed), int(at)))
        return [files[at] for _, _, at in sorted(keyed)[:most]]

    def _nonempty(self, files: dict[str, Files], located: Path, classes: Sequence[str]) -> None:
        """Make sure that there is an image of every class that must have one.

        Raises:
            DataError: there is none.
        """
        for part, found in files.items():
            labels = {label for _, label in found}
            empty = [name for label, name in enumerate(classes) if label not in labels]
            if empty or not found:
                what = f"of class {few(empty)}" if empty else "at all"
                raise DataError(f"{located}: expected .jpg or .png files, got none {what} for the {part} part")


@dataclass(frozen=True, kw_only=True)
class FolderImages(FileImages):
    """Images in `folder`/train/<class>/ and `folder`/test/<class>/ of a data folder; classes are the folders there."""

    folder: str
    get: str
    """How a person gets the original."""

    @property
    def origin(self) -> str:
        """See `ImageSet`."""
        return f"{self.folder}/train/<class>/ and {self.folder}/test/<class>/ in a data folder ({self.get})"

    def locate(self, sources: Sources) -> Located:
        """See `ImageSet`.

        Raises:
            DataError: the two parts hold different classes, or real data were asked for and are missing.
        """

        def real() -> Located:
            root = sources.folder(self.folder)
            if root is None:
                where = "in a data folder" if sources.data_dir is None else "there"
                raise Absent(f"no folder {self.folder} {where}")
            classes = {part: _folders(root / part) for part in PARTS}
            if classes["train"] != classes["test"] or len(classes["train"]) < 2:
                raise DataError(
                    f"{root}: expected the same two or more classes in train and test, got "
                    f"{few(classes['train'])} and {few(classes['test'])}"
                )
            files = {part: self._files(root, part) for part in PARTS}
            self._nonempty(files, root, classes["train"])
            return _located(self.name, root, root, files, sources.verify)

        place = "name its place with --data-dir or BENCHMARK_DATA"
        hint = f"{self.get}, {place} so that {self.folder}/train/<class>/ is there"
        return sources.locate(self.name, real, self._stand_in, hint)

    def _files(self, root: Path, part: str) -> Files:
        return [
            (root / part / name / file, label)
            for label, name in enumerate(_folders(root / part))
            for file in sorted(os.listdir(root / part / name))  # quicker than paths, where there are many
            if os.path.splitext(file)[1].lower() in SUFFIXES
        ]

    def _real_classes(self, located: Located) -> tuple[str, ...]:
        return tuple(_folders(Path(str(located.path)) / "train"))


@dataclass(frozen=True, kw_only=True)
class ListedImages(FileImages):
    """Images whose classes stand in labels.csv (file, class_index, name) of the folders `train` and `test`.

    Shorter sides are brought to 8/7 of `side`, and the middle is cut out, unless an image has that size already.
    """

    train: str
    test: str
    n_classes: int
    crops = True

    @property
    def origin(self) -> str:
        """See `ImageSet`."""
        return f"{self.train} and {self.test} in a data folder, each with images/ and labels.csv"

    def locate(self, sources: Sources) -> Located:
        """See `ImageSet`.

        Raises:
            DataError: a list is damaged, or real data were asked for and are missing.
        """

        def real() -> Located:
            roots = [sources.file(f"{folder}/labels.csv") for folder in (self.train, self.test)]
            gone = [f"{f}/labels.csv" for f, r in zip((self.train, self.test), roots, strict=True) if r is None]
            if gone:
                where = "in a data folder" if sources.data_dir is None else "there"
                raise Absent(f"no {' and no '.join(gone)} {where}")
            root = Path(str(roots[1])).parent.parent
            files = {part: self._files(root, part) for part in PARTS}
            self._nonempty(files, root, ())
            return _located(self.name, root, root / self.test, files, sources.verify)

        hint = (
            f"Name a data folder with --data-dir or BENCHMARK_DATA that holds {self.train} and {self.test}, "
            "each with images and a labels.csv of the columns file, class_index, name"
        )
        return sources.locate(self.name, real, self._stand_in, hint)

    def _rows(self, root: Path, part: str) -> list[dict[str, str]]:
        path = root / (self.train if part == "train" else self.test) / "labels.csv"
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path} is not a readable CSV file: {short(error)}") from error
        for number, row in enumerate(rows, 2):
            name, index = row.get("file") or "", row.get("class_index") or ""
            if not name or not (index.isdecimal() and len(index) < 10 and int(index) < self.n_classes):
                raise DataError(
                    f"{path}, line {number}: expected a file and a class_index of 0 to {self.n_classes - 1}, "
                    f"got {short(dict(row), 200)}"
                )
            if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
                raise DataError(
                    f"{path}, line {number}: expected a file below {path.parent}, got {short(name)}; "
                    "copy the image there and list it as it lies from that folder"
                )
        return rows

    def _files(self, root: Path, part: str) -> Files:
        folder = root / (self.train if part == "train" else self.test)
        return [(folder / row["file"], int(row["class_index"])) for row in self._rows(root, part)]

    def _real_classes(self, located: Located) -> tuple[str, ...]:
        names = {
            int(row["class_index"]): row.get("name") or row["class_index"]
            for part in PARTS
            for row in self._rows(Path(str(located.path)), part)
        }
        return tuple(names.get(label, f"class {label}") for label in range(self.n_classes))


def _folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _located(name: str, root: Path, origin: Path, files: dict[str, Files], verify: bool) -> Located:
    """Return where images lie, with the SHA-256 of which files there are, how large, and of which class.

    Reading all of them would take too long.

    Raises:
        DataError: a listed file is missing.
    """
    sha, above = hashlib.sha256(), len((root / "x").as_posix()) - 1
    for path, label in (item for part in PARTS for item in files[part]):
        if not path.is_file():
            raise DataError(f"{path} is listed but missing: get it, or remove it from the list")
        line = f"{path.as_posix()[above:]} {path.stat().st_size} {label}\n"
        sha.update(line.encode(errors="surrogateescape"))
    note = f"no version of {name} is pinned: --verify checks nothing there; results are recorded under what was found"
    return Located("real", str(origin), sha.hexdigest(), (note,) if verify else (), str(root))


def _state(path: Path, label: int) -> list[str | int]:
    found = path.stat()
    return [str(path), label, found.st_size, found.st_mtime_ns]
