"""What is costly to make, on disk: safetensors under a key that hashes what it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from benchmark.data.download import file_digest, write_atomically
from benchmark.errors import DataError
from benchmark.models.training import freeze

Made = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors by name, and plain facts about them."""


def kept(path: Path, make: Callable[[], Made], what: str) -> Made:
    """Return what is kept at `path`, making it first if it is not there. Two processes that want it make it once.

    Raises:
        DataError: the file is damaged. It is never overwritten. `what` names it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            tensors, facts = make()
            state = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
            write_atomically(path, save(state, {"facts": json.dumps(facts)}))
    return read(path, what)


def read(path: Path, what: str) -> Made:
    """Return the tensors and facts of a safetensors file.

    Raises:
        DataError: it is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            return tensors, json.loads((file.metadata() or {}).get("facts", "{}"))
    except (SafetensorError, ValueError) as error:
        raise DataError(f"{what} {path} cannot be read: {error}; delete it to make it again") from error


def trained(
    path: Path, build: Callable[[], nn.Module], train: Callable[[], tuple[nn.Module, dict[str, Any]]]
) -> tuple[nn.Module, dict[str, Any]]:
    """Return the frozen model whose weights are at `path`, training it first if they are not, and facts about it.

    The facts are what `train` gave, and the digest of the weights file.

    Raises:
        DataError: the file holds other weights than the model's, or is damaged. It is never overwritten.
    """

    def make() -> Made:
        model, facts = train()
        return model.state_dict(), facts

    state, facts = kept(path, make, "weights file")
    model = build()
    load_strictly(model, state, f"weights file {path}", "delete it to train again")
    return freeze(model), facts | {"digest": file_digest(path)}


def load_strictly(model: nn.Module, state: dict[str, Tensor], what: str, mend: str) -> None:
    """Load weights into `model`.

    Raises:
        DataError: a key is missing, extra or of another shape.
    """
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{what} does not fit the model: {reason}; {mend}") from error


def key_of(*identity: object) -> str:
    """Return a short hash of plain data, for a file name."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
