"""Files in the cache, each under a key that hashes what it was made from, and checked whenever it is read.

A file that is not what was written is set aside and made again. A folder that cannot be written costs time, not a run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from glob import escape
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from benchmark.core.errors import DataError
from benchmark.core.files import write_atomically
from benchmark.core.identity import tensors_digest

T = TypeVar("T")
Made = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors by name, and plain facts about them."""
PATIENCE = 5.0
"""Seconds of waiting for another run after which it is said."""
log = logging.getLogger("benchmark")
_said: set[tuple[str, Path]] = set()


class Unusable(Exception):  # noqa: N818 - no error: what was kept is made again
    """What is kept is not what was written, or not what is wanted; the text says why, after "it"."""


def kept(path: Path, make: Callable[[], Made], what: str, check: Callable[..., object] | None = None) -> Made:
    """Return what is kept at `path`, making it first if it is not there. Two processes that want it make it once.

    `check` is given the tensors and the facts, and raises `Unusable` where they are not what is wanted. A file of no
    use is set aside and made again; one that cannot be written is not kept. `what` names it.

    Raises:
        DataError: what was made does not pass `check`.
    """

    def look(path: Path) -> Made:
        found = unseal(path, path.name)
        if check is not None:
            check(*found)
        return found

    found = recall(path, look, what)
    if found is not None:
        return found
    with locked(path):
        found = intact(path, look, what)  # another process may have made it meanwhile
        if found is None:
            found = plain(*make())
            try:
                if check is not None:
                    check(*found)
            except Unusable as why:
                raise DataError(f"{what} just made for {path} {why}") from why
            store(path, sealed(*found, path.name))
    return found


def recall(path: Path, look: Callable[[Path], T], what: str) -> T | None:
    """Return what `look` makes of the file at `path`, or None where there is none of use; see `intact`.

    A good file is read without a lock: also where none can be made.
    """
    try:
        return look(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, Unusable):
        with locked(path):
            return intact(path, look, what)


def intact(path: Path, look: Callable[[Path], T], what: str) -> T | None:
    """Return what `look` makes of the file at `path`, or None where there is none of use, which is set aside and said.

    `look` raises `Unusable` where it does not know what to make of it. Two processes must not do this at once.
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
        aside = f"set aside as {_set_aside(path)} and made again"
    except OSError as error:
        aside = f"made again and not kept, because it cannot be set aside ({error.strerror or error})"
    log.warning(f"{what} {path} {reason}: {aside}")
    return None


def _set_aside(path: Path) -> str:
    for older in path.parent.glob(f"{escape(path.name)}.damaged-*"):  # one is enough to look into
        if older.is_dir():
            shutil.rmtree(older)
        else:
            older.unlink()
    return path.rename(path.with_name(f"{path.name}.damaged-{secrets.token_hex(4)}")).name


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other runs from making the file at `path` meanwhile, where there can be a lock."""
    lock = FileLock(path.with_suffix(".lock"))
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(lock.acquire(timeout=PATIENCE))
            except Timeout:
                log.warning(f"waiting for another run that makes {path}")
                stack.enter_context(lock.acquire())
        except (OSError, NotImplementedError) as error:  # at worst two runs make the same
            if os.path.lexists(lock.lock_file):  # where none could be made, `store` says that nothing can be written
                said = f"{lock.lock_file} cannot be used ({_reason(error)}): going on without it"
                _say_once("lock", path.parent, said)
        yield


def store(path: Path, content: bytes) -> None:
    """Write `content` to `path` if that can be done; where it cannot, say so once for the folder."""
    with _unwritable(path.parent):
        write_atomically(path, content)


def discard(path: Path) -> None:
    """Remove the file at `path` if there is one and it can be removed; where it cannot, say so once for the folder."""
    with _unwritable(path.parent):
        path.unlink(missing_ok=True)


@contextmanager
def _unwritable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        said = f"the cache folder {folder} cannot be written ({_reason(error)}): what is made is not kept"
        _say_once("folder", folder, said)


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def _say_once(kind: str, folder: Path, sentence: str) -> None:
    if (kind, folder) not in _said:
        _said.add((kind, folder))
        log.warning(sentence)


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
