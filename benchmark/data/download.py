"""Downloads files within a deadline, whatever the server does, and writes them whole or not at all."""

from __future__ import annotations

import http.client
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from benchmark.core.errors import DataError
from benchmark.core.files import file_digest

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
