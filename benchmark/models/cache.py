"""Trained weights on disk: safetensors under a key that hashes what they were made from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from benchmark.data.download import write_atomically
from benchmark.errors import DataError
from benchmark.models.training import freeze


def trained(path: Path, build: Callable[[], nn.Module], train: Callable[[], nn.Module]) -> tuple[nn.Module, str]:
    """Return the frozen model whose weights are at `path`, training it first if they are not, and their digest.

    Two processes that want the same model train it once.

    Raises:
        DataError: the file holds other weights than the model's, or is damaged. It is never overwritten.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            state = {key: value.detach().cpu().contiguous() for key, value in train().state_dict().items()}
            write_atomically(path, save(state))
    model = build()
    try:
        model.load_state_dict(load_file(path), strict=True)
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"weights file {path} does not fit the model: {reason}; delete it to train again") from error
    return freeze(model), hashlib.sha256(path.read_bytes()).hexdigest()
