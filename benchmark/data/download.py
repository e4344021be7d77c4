"""Fetches one small file within a deadline, whatever the server does."""

from __future__ import annotations

import os
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from benchmark.errors import DataError

DEADLINE = 10.0
"""Seconds for a whole download: name look-up, connection and content."""
LIMIT = 2**26
"""No file fetched here is larger than 64 MiB."""


def fetch(url: str, deadline: float = DEADLINE) -> bytes:
    """Return the content of `url`.

    The work is done in a thread of its own, because a name look-up cannot be given a time-out.

    Raises:
        DataError: no answer, an error status, a content cut short or over the deadline; it says which.
    """
    result: list[bytes | Exception] = []
    ends = time.monotonic() + deadline
    thread = threading.Thread(target=_read, args=(url, ends, result), daemon=True)
    thread.start()
    thread.join(deadline)
    if not result:
        raise DataError(f"{url} was not there after {deadline:g} s")
    if isinstance(result[0], Exception):
        raise DataError(f"{url} could not be fetched: {result[0]}") from result[0]
    return result[0]


def _read(url: str, ends: float, result: list[bytes | Exception]) -> None:
    try:
        with urllib.request.urlopen(url, timeout=max(0.1, ends - time.monotonic())) as answer:
            announced = answer.headers.get("Content-Length")
            content = b""
            while chunk := answer.read1(2**16):
                content += chunk
                if time.monotonic() > ends:
                    raise TimeoutError("the server is too slow")
                if len(content) > LIMIT:
                    raise ValueError(f"more than {LIMIT} bytes")
            if announced is not None and len(content) != int(announced):
                raise ConnectionError(f"cut off after {len(content)} of {announced} bytes")
        result.append(content)
    except (OSError, ValueError, urllib.error.URLError) as error:
        result.append(error)


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
