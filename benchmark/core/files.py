"""Files that several runs share: written whole or not at all, locked, set aside where damaged, bounded in size.

What is written here is a cache or a record: where it cannot be written or locked, a run says so once and goes on.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from glob import escape
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from benchmark.core.errors import UsageError, shown

PATIENCE = 5.0
"""Seconds of waiting for another run after which a sentence says so."""
log = logging.getLogger("benchmark")


def path_of(given: object, what: str) -> Path:
    """Return the path that a person gave in Python.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(given, (str, Path)):
        raise UsageError(f"{what} expects a path, got {shown(given)}")
    return Path(given)


def check_file(option: str, path: Path | None, endings: Sequence[str]) -> None:
    """Make sure, before any work, that a file has one of the `endings` and a folder to be in.

    Raises:
        UsageError: it has not.
    """
    if path is None:
        return
    if path.suffix not in endings:
        raise UsageError(f"{option} expects a file that ends in {', '.join(endings)}, got {str(path)!r}")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {option} {str(path)!r}: there is no such folder; make it, or name another")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees all of it or nothing, whoever else writes there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{_writer()}-{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def sweep(folder: Path, older_than: float = 3600.0) -> None:
    """Remove, in `folder` and below, what killed runs left of files they were writing.

    What a process of this machine writes that still lives is left alone, and what one of another machine may write: all
    that was touched in the last `older_than` seconds.
    """
    for place, _, names in os.walk(folder):
        for name in names:
            writer = PART.search(name)
            if not writer:
                continue
            path = Path(place, name)
            host, pid, begun = writer["host"], int(writer["pid"]), writer["begun"]
            with suppress(OSError):  # another run sweeps too, or the file is not ours: a leftover does no harm
                here = host == _host() != ""
                if begun != _begun(pid) if here else time.time() - path.stat().st_mtime > older_than:
                    path.unlink()


PART = re.compile(r"^\..+\.(?P<host>[0-9a-f]*)-(?P<pid>\d+)-(?P<begun>\d*)-[0-9a-f]{8}\.part$")
"""How `write_atomically` names what it has not finished."""


def set_aside(path: Path) -> str:
    """Rename a damaged file or folder, in place of the one set aside before it, and return its new name.

    One damaged copy is enough to look into.

    Raises:
        OSError: it cannot be renamed.
    """
    for older in path.parent.glob(f"{escape(path.name)}.damaged-*"):
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
            # where none could be made, `unwritable` says that nothing can be written
            if os.path.lexists(lock.lock_file):
                sentence = f"{lock.lock_file} cannot be used ({reason_of(error)}): going on without it"
                _say_once("lock", path.parent, sentence)
        yield


@contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """Let the block fail to write into a cache folder, and say so once for the folder."""
    try:
        yield
    except OSError as error:
        sentence = f"the cache folder {folder} cannot be written ({reason_of(error)}): what is made is not kept"
        _say_once("folder", folder, sentence)


_reported: set[tuple[str, Path]] = set()
"""Kinds of trouble and folders of which this process has spoken."""


def _say_once(kind: str, folder: Path, sentence: str) -> None:
    if (kind, folder) not in _reported:
        _reported.add((kind, folder))
        log.warning(sentence)


def reason_of(error: Exception) -> str:
    """Return what the system says of an error, in lower case."""
    return (getattr(error, "strerror", None) or str(error)).lower()


@dataclass(frozen=True)
class Entry:
    """What was made under one key: its files, and what lies beside them (a lock, a checkpoint, a damaged copy).

    `size` is in bytes; `used` is when a file of it was last used, in nanoseconds since 1970.
    """

    files: tuple[Path, ...]
    size: int
    used: int

    def remove(self) -> bool:
        """Remove the entry's files, and return whether that could be done: not where one of them is locked or held."""
        with ExitStack() as stack:
            try:
                for path in self.files:
                    fcntl.flock(stack.enter_context(path.open("rb")), fcntl.LOCK_EX | fcntl.LOCK_NB)
                for path in self.files:
                    path.unlink(missing_ok=True)
            except OSError:  # in use, removed by another run too, or not ours to remove
                return False
        return True


ENTRY = re.compile(r"^\.?(?P<name>.*-[0-9a-f]{16})\.")
"""What the names of an entry's files begin with: up to the hash of its key."""
TAGGED = re.compile(r"^\.?(?P<name>[^.]+)(\.|$)")
"""The same in a folder whose files have names of their own, up to the first dot."""
TAG = "CACHEDIR.TAG"
"""A file that says that all of a folder is ours to remove, by which backups know a cache, too."""
SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55\n# Downloads of the faithfulness benchmark.\n"
IN_USE = 1800.0
"""Seconds for which nothing goes that was used: a run may be about to read it, or a download be under way."""


def tag(folder: Path) -> None:
    """Make `folder` and say that all that it holds is ours to remove, if it is not there yet."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        (folder / TAG).write_text(SIGNATURE)


def entries_in(folder: Path) -> list[Entry]:
    """Return what this program has stored in `folder` and below, one entry a key.

    What has no key in its name is listed only where a tag says that the folder is ours. Links are not followed, and
    neither they nor what is being written are listed, nor are locks of which nothing else is left.
    """
    if folder.is_symlink():
        return []
    pattern = TAGGED if (folder / TAG).is_file() else ENTRY
    files_by_key: dict[tuple[str, str], list[Path]] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            match = pattern.match(name)
            if match and not PART.search(name) and name != TAG:
                files_by_key.setdefault((place, match["name"]), []).append(Path(place, name))
    entries = []
    for files in files_by_key.values():
        with suppress(FileNotFoundError):  # another run removes it
            states = [path.lstat() for path in files if not path.is_symlink() and path.suffix != ".lock"]
            if states:
                used = max(max(state.st_atime_ns, state.st_mtime_ns) for state in states)
                entries.append(Entry(tuple(files), sum(state.st_size for state in states), used))
    return entries


def bound(folders: Sequence[Path], most: int, spared: Path | None = None) -> None:
    """Keep what lies in `folders` and below within `most` bytes together: the least recently used entries are removed.

    What was used in the last half hour, is locked or held stays, and so does the entry of the file `spared`, which has
    just been made.
    """
    entries = sorted((entry for folder in folders for entry in entries_in(folder)), key=lambda entry: entry.used)
    size = sum(entry.size for entry in entries)
    for entry in entries:
        if size <= most:
            return
        recent = time.time_ns() - entry.used < IN_USE * 1e9
        if not recent and spared not in entry.files and entry.remove():
            file = min(entry.files, key=lambda path: path.suffix == ".lock")
            log.info(f"{file} was used least recently and is removed: the cache is over its bound")
            size -= entry.size
    if size > most:
        sentence = (
            f"the cache holds {size / 1e9:.2g} GB, more than its bound of {most / 1e9:.2g} GB: what is left is in "
        )
        _say_once("bound", folders[0].parent, sentence + "use, was used just now or cannot be removed")


def mark_used(path: Path) -> None:
    """Let `path` count as used now, where that can be noted; its time of change stays."""
    with suppress(OSError):
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


_held: dict[Path, BinaryIO] = {}


def hold(path: Path) -> None:
    """Keep `bound` from removing `path`, where it is a file, for as long as this process lives."""
    with suppress(OSError):  # there is none, or its file system has no locks
        if path in _held:
            _held.pop(path).close()
        _held[path] = path.open("rb")
        fcntl.flock(_held[path], fcntl.LOCK_SH)


def _writer() -> str:
    """Return what tells this process from all others, those of other machines and containers too."""
    return f"{_host()}-{os.getpid()}-{_begun(os.getpid())}"


@cache
def _host() -> str:
    """Return a hash of the machine, its latest start and its space of process numbers; empty where they are unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    return hashlib.sha256(f"{os.uname().nodename} {boot} {space}".encode()).hexdigest()[:12]


def _begun(pid: int) -> str:
    """Return when process `pid` began, in clock ticks since the machine did; empty where none is alive."""
    try:
        state, *more = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else more[18]  # one that was killed may be listed long after, until it is waited for
