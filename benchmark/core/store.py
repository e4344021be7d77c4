"""Files in the cache, each under a key that hashes what it was made from, and checked whenever it is read.

A file that is not what was written is set aside and made again. A folder that cannot be written costs time, not a run.
The folder is bounded in size: what was used least recently goes first.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from benchmark.core.errors import DataError
from benchmark.core.files import locked, mark_used, set_aside, unwritable, write_atomically
from benchmark.core.identity import tensors_digest
from benchmark.core.sources import cache_folder, make_room

T = TypeVar("T")
Made = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors by name, and plain facts about them."""
Check = Callable[[dict[str, Tensor], dict[str, Any]], object]
"""Is given what was made, and raises `Unusable` where that is not what is asked for."""
log = logging.getLogger("benchmark")


class Unusable(Exception):  # noqa: N818 - no error: the entry is made again
    """A file is not what was written, or not what is asked for; the text says why, after "it"."""


@dataclass(frozen=True)
class Store:
    """Entries of one kind in the cache folder: tensors with plain facts, under keys that hash what they follow from.

    `kind` is the folder, one of `benchmark.core.sources.KINDS`; `noun` is what sentences call an entry.

    Example:
        >>> import os, tempfile, torch
        >>> os.environ["BENCHMARK_CACHE"], before = tempfile.mkdtemp(), os.environ.get("BENCHMARK_CACHE", "")
        >>> path = EXPLAINERS.path("mine-nap_mlp", {"rate": 1e-3}, 0)  # all that it follows from
        >>> weights, report = EXPLAINERS.get(path, lambda: ({"weight": torch.ones(2)}, {"loss": 0.5}))
        >>> EXPLAINERS.get(path, lambda: 1 / 0)[1]  # it is there, so nothing is made
        {'loss': 0.5}
        >>> os.environ["BENCHMARK_CACHE"] = before
    """

    kind: str
    noun: str

    def path(self, name: str, *identity: object) -> Path:
        """Return where an entry is or will be.

        Args:
            name: what a person sees of it; it may begin with a folder.
            identity: plain data, of all that the entry follows from.
        """
        return cache_folder() / self.kind / f"{name}-{key_of(*identity)}.safetensors"

    def get(self, path: Path, make: Callable[[], Made], check: Check | None = None) -> Made:
        """Return the entry at `path`, making it where there is none of use; see `load_or_make`."""
        return load_or_make(path, make, self.noun, check)


MODELS = Store("models", "weights file")
DECODED = Store("data", "decoded images")
ENCODED = Store("data", "encoded texts")
EXPLAINERS = Store("explainers", "explainer")
EXPLANATIONS = Store("explanations", "explanations")
SHARED = Store("shared", "shared answers")


def load_or_make(path: Path, make: Callable[[], Made], noun: str, check: Check | None = None) -> Made:
    """Return the tensors and facts of the file at `path`, making it where there is none of use.

    Processes that ask for it at once make it once. A file of no use is set aside and made again; what cannot be written
    is returned all the same.

    Args:
        path: of the file.
        make: returns the tensors and the facts.
        noun: what sentences call the file.
        check: whether it is what is asked for.

    Raises:
        DataError: what was made does not pass `check`.
    """

    def look(path: Path) -> Made:
        made = unseal(path, path.name)
        if check is not None:
            check(*made)
        return made

    for paths in _watching:
        paths.append(path)
    made = recall(path, look, noun)
    if made is not None:
        return made
    with locked(path):
        made = intact(path, look, noun)  # another process may have made it meanwhile
        if made is None:
            made = plain(*make())
            try:
                if check is not None:
                    check(*made)
            except Unusable as why:
                raise DataError(f"{noun} just made for {path} {why}") from why
            store(path, sealed(*made, path.name))
    return made


_watching: list[list[Path]] = []
"""Lists to which the paths that are asked for are added."""


@contextmanager
def used_meanwhile(kind: str) -> Iterator[list[Path]]:
    """Give a list that holds at the end of the block the entries of one kind that were read or made inside it.

    Args:
        kind: a folder of the cache.
    """
    paths: list[Path] = []
    _watching.append(paths)
    try:
        yield paths
    finally:
        _watching[:] = [others for others in _watching if others is not paths]
        paths[:] = [path for path in dict.fromkeys(paths) if path.is_relative_to(cache_folder() / kind)]


def written_if_new(path: Path, content: bytes) -> None:
    """Write the content of an entry that another process made, where there is none; see `store`."""
    with locked(path):
        if not path.exists():
            store(path, content)


def written(path: Path, content: bytes) -> None:
    """Write the content of an entry that another process made, in the place of another; see `store`."""
    with locked(path):
        if not path.exists() or path.read_bytes() != content:
            store(path, content)


def recall(path: Path, look: Callable[[Path], T], noun: str) -> T | None:
    """Return what `look` makes of the file at `path`, or None where there is none of use; see `intact`.

    A good file is read without a lock: also where none can be made. It counts as used now.
    """
    try:
        result = look(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, Unusable):
        with locked(path):
            return intact(path, look, noun)
    mark_used(path)
    return result


def intact(path: Path, look: Callable[[Path], T], noun: str) -> T | None:
    """Return what `look` makes of the file at `path`, or None where there is none.

    `look` raises `Unusable` where it does not know what to make of the file, which is then set aside, with a warning.
    Two processes must not do this at once.
    """
    try:
        return look(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Unusable as why:
        reason = str(why)
    except OSError as error:
        reason = f"cannot be read ({error.strerror or error})"
    try:
        aside = f"set aside as {set_aside(path)} and made again"
    except OSError as error:
        aside = f"made again and not kept, because it cannot be set aside ({error.strerror or error})"
    log.warning(f"{noun} {path} {reason}: {aside}")
    return None


def store(path: Path, content: bytes) -> None:
    """Write `content` to `path` if that can be done; where it cannot, say so once for the folder.

    Where that makes the cache folder too large, what was used least recently is removed from it.
    """
    with unwritable(path.parent):
        write_atomically(path, content)
        if path.is_relative_to(cache_folder()):
            make_room(cache_folder(), path)


def discard(path: Path) -> None:
    """Remove the file at `path` if there is one and it can be removed; where it cannot, say so once for the folder."""
    with unwritable(path.parent):
        path.unlink(missing_ok=True)


def plain(tensors: dict[str, Tensor], facts: dict[str, Any]) -> Made:
    """Return tensors and facts as a file gives them back."""
    return {key: value.detach().cpu().contiguous() for key, value in tensors.items()}, json.loads(json.dumps(facts))


def sealed(tensors: dict[str, Tensor], facts: dict[str, Any], name: str = "") -> bytes:
    """Return the content of a safetensors file that holds its own digest; `name` is that of the file, if it matters."""
    tensors, facts = plain(tensors, facts)
    seal = {"facts": facts, "name": name, "sha256": digest_of(tensors, facts, name)}
    return save(tensors, {"seal": json.dumps(seal)})


def unseal(path: Path, name: str | None = None) -> Made:
    """Return the tensors and facts of a file that `sealed` gave, whose content is for `name` where one is given.

    Raises:
        FileNotFoundError: there is none.
        Unusable: it is damaged, or another file.
    """
    tensors, metadata = _opened(path)
    try:
        seal = json.loads(metadata["seal"])
        facts, own, digest = seal["facts"], seal["name"], seal["sha256"]
    except (KeyError, TypeError, ValueError) as error:
        raise Unusable("holds no digest of its content") from error
    if digest_of(tensors, facts, own) != digest:
        raise Unusable("is damaged (its digest does not match)")
    if name is not None and own != name:
        raise Unusable(f"holds the content of another file ({own or 'unnamed'})")
    return tensors, facts


def digest_of(tensors: dict[str, Tensor], *more: object) -> str:
    """Return the SHA-256 of tensors with their names, kinds and shapes, and of plain data."""
    return hashlib.sha256(json.dumps([tensors_digest(tensors), *more], sort_keys=True).encode()).hexdigest()


def read(path: Path, what: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file from elsewhere.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return _opened(path)[0]
    except (Unusable, OSError) as why:
        raise DataError(f"{what} {path} {why}; get it again") from why


def _opened(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        if path.exists() and not path.is_file():
            raise Unusable("is no file")
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError, RuntimeError) as error:  # the last: replaced while it was read
        raise Unusable(f"cannot be read ({error})") from error


def key_of(*identity: object) -> str:
    """Return a short hash of plain data, for a file name."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
