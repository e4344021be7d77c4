"""Fetches files within a deadline, whatever the server does, and writes them whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import secrets
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from filelock import FileLock

from benchmark.errors import DataError

DEADLINE = 10.0
"""Seconds for the whole of a small download, or without a single new byte of a large one."""
LIMIT = 2**26
"""No file fetched into memory is larger than 64 MiB."""
TRIES = 3
"""How often a large download that was cut off goes on before it is given up."""


def fetch(url: str, deadline: float = DEADLINE) -> bytes:
    """Return the content of a small file at `url`.

    Raises:
        DataError: no answer, an error status, a content cut short or over the deadline; it says which.
    """
    content = bytearray()

    def take(chunk: bytes, _first: bool) -> None:
        content.extend(chunk)
        if len(content) > LIMIT:
            raise ValueError(f"more than {LIMIT} bytes")

    ends = time.monotonic() + deadline
    try:
        _in_thread(url, lambda stop: _read(url, 0, take, stop, deadline), lambda: ends, deadline)
    except _CutOffError as error:
        raise DataError(f"{url} could not be fetched: {error}") from error
    return bytes(content)


def download(
    url: str, path: Path, sha256: str = "", stall: float = DEADLINE, check: Callable[[Path], object] | None = None
) -> None:
    """Put the file at `url` to `path`; what an earlier try left is gone on from.

    `sha256` is the digest of the content, or its beginning; it is not compared if it is empty. `check` raises DataError
    where the file is not what it should be, and it is not kept. A download is given up after `stall` seconds without a
    new byte. Progress is shown on a terminal.

    Raises:
        DataError: no answer, an error status, a stall, a content cut short again and again, or another content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.exists():
            return
        for left in reversed(range(TRIES)):
            try:
                _go_on(url, part, stall)
                break
            except _CutOffError as error:
                if not left:
                    raise DataError(
                        f"{url} could not be fetched: {error}; the same command goes on from there"
                    ) from error
        try:
            if not (digest := file_digest(part)).startswith(sha256):
                raise DataError(f"SHA-256 {digest[:16]}, expected {sha256[:16]}")
            if check is not None:
                check(part)
        except DataError as why:
            part.unlink()
            raise DataError(f"{url} holds something else than expected: {why}") from why
        part.replace(path)


class _CutOffError(ConnectionError):
    """The server stopped before the end."""


def _go_on(url: str, part: Path, stall: float) -> None:
    """Append to `part` what is missing, or begin again where the server cannot go on."""
    from tqdm import tqdm

    begin = part.stat().st_size if part.exists() else 0
    latest = time.monotonic() + stall
    with part.open("ab") as file, tqdm(
        desc=part.name[1:-5], initial=begin, unit="B", unit_scale=True, disable=not sys.stderr.isatty(), leave=False
    ) as bar:  # fmt: skip

        def take(chunk: bytes, anew: bool) -> None:
            nonlocal latest
            if anew:
                file.truncate(0)
            file.write(chunk)
            bar.update(len(chunk))
            latest = time.monotonic() + stall

        _in_thread(url, lambda stop: _read(url, begin, take, stop, stall), lambda: latest, stall)


def _in_thread(
    url: str, work: Callable[[threading.Event], None], deadline: Callable[[], float], seconds: float
) -> None:
    """Do `work` in a thread of its own, because a name look-up cannot be given a time-out, until `deadline()`."""
    stop, failed = threading.Event(), []

    def body() -> None:
        try:
            work(stop)
        except (OSError, ValueError, http.client.HTTPException) as error:  # a cut chunk is one of the last
            failed.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    while thread.is_alive() and (left := deadline() - time.monotonic()) > 0:
        thread.join(left)
    if thread.is_alive():
        stop.set()
        thread.join(0.2)
        raise DataError(f"{url} was not there after {seconds:g} s")
    if failed:
        if isinstance(failed[0], _CutOffError):
            raise failed[0]
        raise DataError(f"{url} could not be fetched: {failed[0]}") from failed[0]


def _read(url: str, begin: int, take: Callable[[bytes, bool], None], stop: threading.Event, timeout: float) -> None:
    """Hand the content from byte `begin` on to `take`, with True where it begins anew from byte 0."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={begin}-"} if begin else {})
    try:
        answer = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and begin:  # nothing is left to fetch
            return
        raise
    with answer:
        anew = bool(begin) and answer.status != 206
        announced, got = answer.headers.get("Content-Length"), 0
        while chunk := answer.read1(2**16):
            if stop.is_set():
                return
            take(chunk, anew)
            anew, got = False, got + len(chunk)
        if announced is not None and got != int(announced):
            raise _CutOffError(f"cut off after {got} of {announced} bytes")


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
