"""Pretrained weights: a file in the data folder's weights/, or a download whose content is pinned by its digest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.core.errors import Absent, DataError, short
from benchmark.core.files import file_digest
from benchmark.core.sources import Sources
from benchmark.data.download import WebFile

if TYPE_CHECKING:
    from torch import Tensor


LARGEST = 2**30
"""Bytes of the largest file of weights."""


@dataclass(frozen=True)
class Pretrained:
    """Weights of a timm model on ImageNet-1k. `file` is their name under weights/ in a data folder.

    `url` holds them too, if not empty; `digest` is the SHA-256 of that content, or its beginning, as timm pins it.
    """

    name: str
    file: str
    url: str = ""
    digest: str = ""

    def locate(self, sources: Sources) -> Path:
        """Return the file of weights.

        Raises:
            Absent: there are none here, and they cannot be downloaded.
            DataError: there is something else in their place.
        """
        path = sources.file(f"weights/{self.file}")
        if path is not None:
            return path
        missing = f"no weights/{self.file} " + ("in a data folder" if sources.data_dir is None else "there")
        if not self.url:
            raise Absent(missing)
        try:
            return sources.downloaded(WebFile(self.url, self.url.rsplit("/", 1)[1], LARGEST), self._check)
        except Absent as why:
            raise Absent(f"{missing}, and {why}") from why

    def _check(self, path: Path) -> None:
        digest = file_digest(path)
        if not digest.startswith(self.digest):
            raise DataError(f"SHA-256 {digest[:16]}, expected {self.digest[:16]}")

    def digest_of(self, path: Path) -> str:
        """Return the SHA-256 of the weights found."""
        return file_digest(path)


def load_state(path: Path) -> dict[str, Tensor]:
    """Return the weights in a safetensors file, or in a .pth file that holds nothing but tensors.

    Raises:
        DataError: it cannot be read, or holds anything else.
    """
    if path.suffix == ".safetensors":
        from benchmark.core.store import read

        return read(path, "weights file")
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the reader raise nearly anything
        raise DataError(f"weights file {path} cannot be read: {short(error, 300)}; get it again") from error
    state = state.get("model", state) if isinstance(state, dict) else state  # as the authors of DeiT wrap theirs
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise DataError(f"weights file {path} holds no state dict: expected tensors by name")
    return state
