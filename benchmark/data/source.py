"""Where data may come from: a data folder, then the hub, then the synthetic stand-in, unless one is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from benchmark.errors import Absent, DataError
from benchmark.types import Located

LAYOUT = "expected a folder laid out as docs/data.md says, such as nap/nhanes_age_prediction.csv"


def cache_folder() -> Path:
    """Return the folder of trained weights and downloads: BENCHMARK_CACHE, or the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("BENCHMARK_CACHE") or Path(home) / "deepfaith-benchmark")


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

    def locate(self, name: str, real: Callable[[], Located], stand_in: Callable[[], Located], mend: str) -> Located:
        """Return the real data of `name`, or where there are none and these sources allow it, the stand-in.

        `mend` says what to do about it.

        Raises:
            DataError: real data were asked for and there are none.
        """
        if self.kind == "synthetic":
            return stand_in()
        try:
            return real()
        except Absent as why:
            if self.kind == "real":
                raise DataError(f"no real data for {name}: {why}. {mend}, or use --source synthetic") from why
            note = f"real data not found ({why}); using the synthetic stand-in"
            return replace(stand_in(), notes=(note,))

    def kept(self, name: str, download: Callable[[Path], None]) -> Path:
        """Return file `name` of the cache, downloading it first if need be and allowed.

        Raises:
            Absent: it was never downloaded, and cannot be.
        """
        path = self.cache / "data" / name
        if path.is_file():
            return path
        if self.offline:
            raise Absent("not downloaded before, and --offline forbids the network")
        if self.looking:
            raise Absent("not downloaded yet")
        try:
            download(path)
        except DataError as error:
            raise Absent(str(error)) from error
        return path

    def file(self, name: str) -> Path | None:
        """Return the data folder's file or folder `name`, or None where no data folder was named or it lacks it.

        Raises:
            DataError: a folder was named that does not exist or is empty.
        """
        if self.data_dir is None:
            return None
        if not self.data_dir.is_dir():
            what = "is a file" if self.data_dir.exists() else "does not exist"
            raise DataError(f"data folder {str(self.data_dir)!r} {what}: {LAYOUT}")
        if not any(self.data_dir.iterdir()):
            raise DataError(f"data folder {str(self.data_dir)!r} is empty: {LAYOUT}")
        path = self.data_dir / name
        return path if path.exists() else None
