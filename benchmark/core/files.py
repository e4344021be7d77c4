"""Writes files whole or not at all, and removes what killed processes left half-written."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from contextlib import suppress
from functools import cache
from pathlib import Path


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
            found = PART.search(name)
            if not found:
                continue
            path = Path(place, name)
            host, pid, begun = found["host"], int(found["pid"]), found["begun"]
            with suppress(OSError):  # another run sweeps too, or the file is not ours: a leftover does no harm
                here = host == _host() != ""
                if begun != _begun(pid) if here else time.time() - path.stat().st_mtime > older_than:
                    path.unlink()


PART = re.compile(r"^\..+\.(?P<host>[0-9a-f]*)-(?P<pid>\d+)-(?P<begun>\d*)-[0-9a-f]{8}\.part$")
"""How `write_atomically` names what it has not finished."""


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
