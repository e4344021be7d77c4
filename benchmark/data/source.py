"""Where data may come from: a data folder, then the hub, then the synthetic stand-in, unless one is named."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmark.errors import DataError

LAYOUT = "expected a folder laid out as docs/data.md says, such as nap/nhanes_age_prediction.csv"


def cache_folder() -> Path:
    """Return the folder of trained weights and downloads: BENCHMARK_CACHE, or the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("BENCHMARK_CACHE") or Path(home) / "deepfaith-benchmark")


@dataclass(frozen=True)
class Sources:
    """What the user allows: which kind of source, which folder, whether the network may be used.

    `verify` refuses data whose digest differs from the pinned one instead of warning.
    """

    kind: Literal["auto", "real", "synthetic"] = "auto"
    data_dir: Path | None = None
    offline: bool = False
    verify: bool = False
    cache: Path = field(default_factory=cache_folder)

    def file(self, name: str) -> Path | None:
        """Return the data folder's file `name`, or None where no folder was named or it lacks the file.

        Raises:
            DataError: a folder was named that does not exist or is empty.
        """
        if self.data_dir is None:
            return None
        if not self.data_dir.is_dir():
            raise DataError(f"data folder {str(self.data_dir)!r} does not exist: {LAYOUT}")
        if not any(self.data_dir.iterdir()):
            raise DataError(f"data folder {str(self.data_dir)!r} is empty: {LAYOUT}")
        path = self.data_dir / name
        return path if path.is_file() else None
