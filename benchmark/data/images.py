"""Image data sets: what they have in common, and the images that scikit-learn ships."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from benchmark.core.errors import DataError
from benchmark.core.seeding import seed_for
from benchmark.core.sources import Located, Sources
from benchmark.data import stand_ins
from benchmark.data.split import stratified

PARTS = ("train", "test")
STAND_IN_ROWS = 2400


@dataclass(frozen=True, eq=False)
class Images:
    """Pixels (N, channels, side, side) uint8, labels (N,), and planted evidence (N, side * side), if there is any."""

    pixels: np.ndarray
    labels: np.ndarray
    evidence: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class ImageSet(ABC):
    """Square images of `side` pixels. At most `train_rows` and `test_rows` are used, drawn class by class from a seed.

    Grey files of 16 bits hold values of `bits` bits, all alike. The stand-in has `stand_in_classes` classes and
    `stand_in_side` pixels.
    """

    crops: ClassVar[bool] = False
    """Whether images keep their proportions: the middle is cut out; otherwise the whole is squeezed into a square."""

    name: str
    channels: int
    side: int
    train_rows: int
    test_rows: int
    licence: str
    stand_in_classes: int
    stand_in_side: int = 32
    bits: int = 16

    @property
    @abstractmethod
    def origin(self) -> str:
        """Return where real data come from, for the task's card."""

    @abstractmethod
    def locate(self, sources: Sources) -> Located:
        """Find the images, or the stand-in where these sources allow it, and take their digest."""

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

    def stamp(self, located: Located) -> str:
        """Return a hash of all that decoded images depend on: of a file its name, size and time of change.

        `Located.digest` holds no times, so that it is the same for a copy of the data.
        """
        files = self._files_state(located) if located.source == "real" else {}
        settings = [located.digest, self.side, self.channels, self.bits, self.crops, self.train_rows, self.test_rows]
        return hashlib.sha256(json.dumps([settings, files]).encode()).hexdigest()

    def _files_state(self, located: Located) -> dict[str, Any]:
        """Return the state of each file that is used, as plain data; nothing where the images do not lie in files."""
        return {}

    @abstractmethod
    def _real_classes(self, located: Located) -> tuple[str, ...]:
        """Return the names of the classes of the real images."""

    @abstractmethod
    def _real(self, located: Located) -> dict[str, Images]:
        """Return the real images of both parts."""

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
        return {part: Images(pixels[some], labels[some], evidence[some]) for part, some in rows.items()}


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
