"""Finds data: in a data folder, on the web, or as a synthetic stand-in, unless the user names one of them."""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from benchmark.core.errors import Absent, DataError, UsageError, short
from benchmark.core.files import bound, hold, mark_used, reason_of, set_aside, tag

Source = Literal["real", "synthetic"]
log = logging.getLogger("benchmark")

LAYOUT = "expected a folder laid out as docs/data.md says, such as nap/nhanes_age_prediction.csv"


def cache_folder() -> Path:
    """Return the folder of trained weights and downloads: BENCHMARK_CACHE, or the user's cache folder.

    Who has no home, as in some containers, gets a temporary one of their own.
    """
    if named := os.environ.get("BENCHMARK_CACHE"):
        return Path(named)
    if home := os.environ.get("XDG_CACHE_HOME"):
        return Path(home) / "deepfaith-benchmark"
    try:
        return Path.home() / ".cache" / "deepfaith-benchmark"
    except RuntimeError:  # neither HOME nor an entry among the users
        return Path(tempfile.gettempdir()) / f"deepfaith-benchmark-{os.getuid()}"


KINDS = ("models", "data", "downloads", "engines", "explainers", "explanations", "shared")
"""Folders of the cache folder, each of which holds entries of one kind."""
LIMIT_GB = 20.0


def cache_limit() -> int:
    """Return how many bytes the cache folder may hold: BENCHMARK_CACHE_GB, in 10^9 bytes, or 20 of them.

    Raises:
        UsageError: it is no number over 0.
    """
    text = os.environ.get("BENCHMARK_CACHE_GB") or str(LIMIT_GB)
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = math.nan
    if not 0 < gigabytes < math.inf:
        raise UsageError(f"BENCHMARK_CACHE_GB expects gigabytes, a number over 0, got {short(repr(text))}")
    return int(gigabytes * 1e9)


def make_room(cache: Path, spared: Path | None = None) -> None:
    """Keep the entries in the folder `cache` within `cache_limit()` bytes; `spared` was just made.

    What was used least recently is removed, and nothing that is locked or in use.
    """
    bound([cache / kind for kind in KINDS], cache_limit(), spared)


@dataclass(frozen=True)
class Located:
    """Where a task's data were found, before anything heavy is loaded."""

    source: Source
    origin: str
    digest: str
    notes: tuple[str, ...] = ()
    path: str | None = None
    weights: str | None = None
    """The file of pretrained weights, where the model has any."""


class Download(Protocol):
    """A file that can be downloaded into a folder; as text it is where it comes from."""

    def find(self, folder: Path) -> Path | None:
        """Return the file if it was downloaded before."""

    def fetch(self, folder: Path) -> Path:
        """Download the file and return it.

        Raises:
            DataError: it cannot be downloaded.
            OSError: it cannot be written.
        """


@dataclass(frozen=True)
class Sources:
    """What the user allows: which kind of source, which folder, whether the network may be used.

    `verify` refuses data whose digest differs from the pinned one instead of warning. `looking` only looks for what is
    here, and downloads nothing though it would be allowed.
    """

    kind: Literal["auto", "real", "synthetic"] = "auto"
    data_dir: Path | None = None
    offline: bool = False
    verify: bool = False
    looking: bool = False
    cache: Path = field(default_factory=cache_folder)

    def locate(self, name: str, real: Callable[[], Located], stand_in: Callable[[], Located], hint: str) -> Located:
        """Return the real data of `name`, or where there are none and these sources allow it, the stand-in.

        `hint` says what to do about it.

        Raises:
            DataError: real data were asked for and there are none.
        """
        if self.kind == "synthetic":
            return stand_in()
        try:
            return real()
        except Absent as why:
            if self.kind == "real":
                raise DataError(f"no real data for {name}: {why}. {hint}, or use --source synthetic") from why
            note = f"real data not found ({why}); using the synthetic stand-in"
            return replace(stand_in(), notes=(note,))

    def downloaded(self, what: Download, check: Callable[[Path], object]) -> Path:
        """Return a file of the cache, downloading it first if need be and allowed.

        Args:
            what: the file.
            check: raises DataError where a file is not what it should be. One downloaded earlier is set aside then,
                and fetched again; a new one is removed.

        Raises:
            Absent: it is not there, or damaged, and cannot be downloaded.
            DataError: it is damaged and cannot be set aside.
        """
        folder = self.cache / "downloads"
        before = "not downloaded before"
        path = what.find(folder)
        if path is not None:
            hold(path)
            try:
                check(path)
                mark_used(path)
                return path
            except (DataError, OSError) as why:
                before = f"what was downloaded to {path} is damaged ({why})"
        if self.offline:
            raise Absent(f"{before}, and --offline forbids the network")
        if self.looking:
            raise Absent("not downloaded yet" if path is None else before)
        if path is not None:
            try:
                aside = set_aside(path.resolve())  # the hub's files are links
            except OSError as error:
                raise DataError(f"{before} and cannot be set aside ({error.strerror}): remove it") from error
            log.warning(f"{before}: set aside as {aside} and fetched again")
        return self._fetched(what, folder, check)

    def _fetched(self, what: Download, folder: Path, check: Callable[[Path], object]) -> Path:
        """Return a file that was just downloaded.

        Raises:
            Absent: it cannot be downloaded or written, or is something else.
        """
        try:
            tag(folder)
            path = what.fetch(folder)
            hold(path)
            try:
                check(path)
            except DataError as why:
                path.resolve().unlink()
                raise DataError(f"{what} holds something else than expected: {why}") from why
        except DataError as error:
            raise Absent(str(error)) from error
        except OSError as error:
            raise Absent(f"{what} cannot be kept in the cache folder {folder} ({reason_of(error)})") from error
        make_room(self.cache, path)
        return path

    def file(self, name: str) -> Path | None:
        """Return the data folder's file `name`, or None where no data folder was named or it lacks it.

        Raises:
            DataError: a folder was named that does not exist or is empty, or `name` is no file that can be read.
        """
        path = self._find(name)
        if path is not None and not (path.is_file() and os.access(path, os.R_OK)):
            raise DataError(f"{path} is {'not readable' if path.is_file() else 'a folder'}: expected a file to read")
        return path

    def folder(self, name: str) -> Path | None:
        """Return the data folder's folder `name`, or None where no data folder was named or it lacks it.

        Raises:
            DataError: a folder was named that does not exist or is empty, or `name` is no folder that can be read.
        """
        path = self._find(name)
        if path is not None and not (path.is_dir() and os.access(path, os.R_OK | os.X_OK)):
            raise DataError(f"{path} is {'not readable' if path.is_dir() else 'a file'}: expected a folder to read")
        return path

    def _find(self, name: str) -> Path | None:
        if self.data_dir is None:
            return None
        if not self.data_dir.is_dir():
            what = "is a file" if self.data_dir.exists() else "does not exist"
            raise DataError(f"data folder {str(self.data_dir)!r} {what}: {LAYOUT}")
        if not any(self.data_dir.iterdir()):
            raise DataError(f"data folder {str(self.data_dir)!r} is empty: {LAYOUT}")
        path = self.data_dir / name
        return path if path.exists() else None
