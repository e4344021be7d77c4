"""Image data sets: files in a data folder, or images that scikit-learn ships."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.data import stand_ins
from benchmark.data.source import Sources
from benchmark.data.split import stratified
from benchmark.errors import Absent, DataError
from benchmark.seeding import seed_for
from benchmark.types import Located

PARTS = ("train", "test")
SUFFIXES = {".jpg", ".jpeg", ".png"}
STAND_IN_ROWS = 2400

Files = list[tuple[Path, int]]
"""Image files, each with its class."""


@dataclass(frozen=True, eq=False)
class Images:
    """Pixels (N, channels, side, side) uint8, labels (N,), and planted evidence (N, side * side), if there is any."""

    pixels: np.ndarray
    labels: np.ndarray
    evidence: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Square images of `side` pixels. At most `train_rows` and `test_rows` are used, drawn class by class from a seed.

    The stand-in has `stand_in_classes` classes and `stand_in_side` pixels.
    """

    name: str
    channels: int
    side: int
    train_rows: int
    test_rows: int
    licence: str
    stand_in_classes: int
    stand_in_side: int = 32

    @property
    def origin(self) -> str:
        """Return where real data come from, for the task's card."""
        raise AssertionError("each kind of image set says where it comes from")

    def locate(self, sources: Sources) -> Located:
        """Find the images and take a digest of what is there."""
        raise AssertionError("each kind of image set knows where to look")

    def classes(self, located: Located) -> tuple[str, ...]:
        """Return the names of the classes."""
        if located.source == "synthetic":
            return tuple(f"stripes {180 * label // self.stand_in_classes}°" for label in range(self.stand_in_classes))
        return self._real_classes(located)

    def load(self, located: Located) -> dict[str, Images]:
        """Return the images of the training and the test part.

        Raises:
            DataError: a file is no readable image.
        """
        return self._synthetic() if located.source == "synthetic" else self._real(located)

    def _real_classes(self, located: Located) -> tuple[str, ...]:
        raise AssertionError("each kind of image set knows its classes")

    def _real(self, located: Located) -> dict[str, Images]:
        raise AssertionError("each kind of image set knows how it is read")

    def _stand_in(self) -> Located:
        sha = hashlib.sha256()
        for part in self._synthetic().values():
            sha.update(part.pixels.tobytes() + part.labels.tobytes())
        return Located("synthetic", "synthetic stand-in", sha.hexdigest())

    def _synthetic(self) -> dict[str, Images]:
        rng = np.random.default_rng(stand_ins.SEED)
        pixels, labels, evidence = stand_ins.images(
            rng, self.stand_in_classes, STAND_IN_ROWS, self.stand_in_side, self.channels
        )
        cut = STAND_IN_ROWS - 400
        rows = {"train": slice(0, cut), "test": slice(cut, None)}
        return {part: Images(pixels[own], labels[own], evidence[own]) for part, own in rows.items()}

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

    def _read(self, files: Files) -> Images:
        pixels = np.stack([read_image(path, self.side, self.channels, self._crop) for path, _ in files])
        return Images(pixels, np.array([label for _, label in files]))

    _crop = False


@dataclass(frozen=True, kw_only=True)
class FolderImages(ImageSet):
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
            root = sources.file(self.folder)
            if root is None:
                where = "in a data folder" if sources.data_dir is None else "there"
                raise Absent(f"no folder {self.folder} {where}")
            classes = {part: _folders(root / part) for part in PARTS}
            if classes["train"] != classes["test"] or len(classes["train"]) < 2:
                raise DataError(
                    f"{root}: expected the same two or more classes in train and test, got "
                    f"{', '.join(classes['train']) or 'none'} and {', '.join(classes['test']) or 'none'}"
                )
            files = [(path, label) for part in PARTS for path, label in self._files(root, part)]
            return Located("real", str(root), _listing_digest(root, files), path=str(root))

        place = "name its place with --data-dir or BENCHMARK_DATA"
        mend = f"{self.get}, {place} so that {self.folder}/train/<class>/ is there"
        return sources.locate(self.name, real, self._stand_in, mend)

    def _files(self, root: Path, part: str) -> Files:
        return [
            (path, label)
            for label, name in enumerate(_folders(root / part))
            for path in sorted((root / part / name).iterdir())
            if path.suffix.lower() in SUFFIXES
        ]

    def _real_classes(self, located: Located) -> tuple[str, ...]:
        return tuple(_folders(Path(str(located.path)) / "train"))

    def _real(self, located: Located) -> dict[str, Images]:
        return {part: self._read(self._draw(part, self._files(Path(str(located.path)), part))) for part in PARTS}


@dataclass(frozen=True, kw_only=True)
class ListedImages(ImageSet):
    """Images whose classes stand in labels.csv (file, class_index, name) of the folders `train` and `test`.

    Shorter sides are brought to 8/7 of `side`, and the middle is cut out, unless an image has that size already.
    """

    train: str
    test: str
    n_classes: int
    _crop = True

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
            files = [item for part in PARTS for item in self._files(root, part)]
            return Located("real", str(root / self.test), _listing_digest(root, files), path=str(root))

        mend = (
            f"Name a data folder with --data-dir or BENCHMARK_DATA that holds {self.train} and {self.test}, "
            "each with images and a labels.csv of the columns file, class_index, name"
        )
        return sources.locate(self.name, real, self._stand_in, mend)

    def _rows(self, root: Path, part: str) -> list[dict[str, str]]:
        path = root / (self.train if part == "train" else self.test) / "labels.csv"
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for number, row in enumerate(rows, 2):
            index = row.get("class_index") or ""
            if not row.get("file") or not index.isdecimal() or int(index) >= self.n_classes:
                raise DataError(
                    f"{path}, line {number}: expected a file and a class_index of 0 to {self.n_classes - 1}, "
                    f"got {dict(row)}"
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

    def _real(self, located: Located) -> dict[str, Images]:
        return {part: self._read(self._draw(part, self._files(Path(str(located.path)), part))) for part in PARTS}


@dataclass(frozen=True, kw_only=True)
class BundledImages(ImageSet):
    """The 8 x 8 digits that scikit-learn ships (UCI 80): real data with no download."""

    digest: str
    test_share: float = 0.2

    @property
    def origin(self) -> str:
        """See `ImageSet`."""
        return "sklearn.datasets.load_digits"

    def locate(self, sources: Sources) -> Located:
        """See `ImageSet`.

        Raises:
            DataError: scikit-learn's copy is not the pinned one.
        """
        if sources.kind == "synthetic":
            return self._stand_in()
        whole = self._whole()
        digest = hashlib.sha256(whole.pixels.tobytes() + whole.labels.tobytes()).hexdigest()
        if digest != self.digest:
            raise DataError(f"{self.origin} is not the pinned version of {self.name}: install scikit-learn >= 1.4")
        return Located("real", self.origin, digest)

    def _real_classes(self, located: Located) -> tuple[str, ...]:
        return tuple(map(str, range(10)))

    def _real(self, located: Located) -> dict[str, Images]:
        whole = self._whole()
        parts = zip(PARTS, stratified(whole.labels, self.test_share, seed_for(0, self.name, "split")), strict=True)
        return {part: Images(whole.pixels[rows], whole.labels[rows]) for part, rows in parts}

    def _whole(self) -> Images:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        pixels = (bunch.images * 255 / 16).round().astype(np.uint8)
        return Images(pixels[:, None], bunch.target.astype(np.int64))


def read_image(path: Path, side: int, channels: int, crop: bool) -> np.ndarray:
    """Return an image as (channels, side, side) uint8, squeezed into the square or, with `crop`, its middle cut out.

    Raises:
        DataError: it is no readable image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            image = file.convert("L" if channels == 1 else "RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path} is not a readable image: {error}; mend or remove it") from error
    if image.size != (side, side) and crop:
        scale = side * 8 / 7 / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    elif image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)


def _folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _listing_digest(root: Path, files: Sequence[tuple[Path, int]]) -> str:
    """Return the SHA-256 of which files there are, how large, and of which class; reading all would take too long.

    Raises:
        DataError: a listed file is missing.
    """
    sha = hashlib.sha256()
    for path, label in files:
        if not path.is_file():
            raise DataError(f"{path} is listed but missing: get it, or remove it from the list")
        sha.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size} {label}\n".encode())
    return sha.hexdigest()
