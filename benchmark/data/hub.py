"""Files of data sets on the Hugging Face hub: of a pinned revision, in the cache of `huggingface_hub` below our own."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from benchmark.core.errors import DataError, short
from benchmark.core.sources import Download
from benchmark.data.download import DEADLINE, in_thread


@dataclass(frozen=True)
class HubFile(Download):
    """File `name` of the data set `repo` at `revision`, the 40 digits of a commit: what it holds never changes.

    HF_ENDPOINT names another hub than https://huggingface.co; a token of `hf auth login` is used where there is one.
    """

    repo: str
    revision: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} of {self.repo}"

    def find(self, folder: Path) -> Path | None:
        """See `Download`. Opens no connection, as `hf_hub_download` may even with `local_files_only`."""
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(
            self.repo, self.name, cache_dir=_cache(folder), revision=self.revision, repo_type="dataset"
        )
        return Path(path) if isinstance(path, str) else None  # an object of its own says that the hub has no such file

    def fetch(self, folder: Path) -> Path:
        """See `Download`. Without an answer of the hub it is given up after ten seconds.

        What follows has the time-outs of `huggingface_hub`, which tries again, and goes on where it was cut off.
        """
        from huggingface_hub import hf_hub_download

        endpoint = os.environ.get("HF_ENDPOINT") or None
        self._ask(endpoint)
        try:
            path = hf_hub_download(
                self.repo, self.name, repo_type="dataset", revision=self.revision, cache_dir=_cache(folder),
                endpoint=endpoint, etag_timeout=DEADLINE,
            )  # fmt: skip
        except Exception as error:  # of the HTTP client, which differs from version to version
            if isinstance(error, OSError) and error.errno is not None:  # the file system's: a full disk
                raise
            raise DataError(f"{self} could not be fetched: {short(error, 300)}") from error
        return Path(path)

    def _ask(self, endpoint: str | None) -> None:
        """Make sure that the hub answers and has the file, which `hf_hub_download` would try for minutes.

        Raises:
            DataError: it does not.
        """
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        url = hf_hub_url(self.repo, self.name, repo_type="dataset", revision=self.revision, endpoint=endpoint)

        def head(_stop: threading.Event) -> None:
            try:
                get_hf_file_metadata(url, timeout=DEADLINE)
            except Exception as error:  # of the HTTP client, which differs from version to version
                raise OSError(short(error, 300)) from error

        ends = time.monotonic() + DEADLINE
        in_thread(url, head, lambda: ends, DEADLINE)


def _cache(folder: Path) -> Path:
    return folder / "hub"
