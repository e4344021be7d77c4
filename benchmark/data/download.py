"""Files at plain addresses on the web, fetched whole or gone on with, and given up where the server stalls."""

from __future__ import annotations

import http.client
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmark.core.errors import DataError
from benchmark.core.files import locked
from benchmark.core.sources import Download
from benchmark.processes.progress import tqdm

DEADLINE = 10.0
"""Seconds without an answer or a new byte after which a server is given up."""
TRIES = 3
"""How often a download that was cut off goes on before it is given up."""


@dataclass(frozen=True)
class WebFile(Download):
    """The file at `url`, called `name` in the folder of downloads.

    It is refused where it has more than `most` bytes, and given up after `stall` seconds without a new byte.
    """

    url: str
    name: str
    most: int = 2**26
    stall: float = DEADLINE

    def __str__(self) -> str:
        return self.url

    def find(self, folder: Path) -> Path | None:
        """See `Download`."""
        path = folder / self.name
        return path if path.exists() else None

    def fetch(self, folder: Path) -> Path:
        """See `Download`. What an earlier try left is gone on from; progress is shown on a terminal.

        Raises:
            DataError: no answer, an error status, a stall, too many bytes, or a content cut short again and again.
            OSError: the folder cannot be written.
        """
        path = folder / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        with locked(path):
            if path.exists():
                return path
            for left in reversed(range(TRIES)):
                try:
                    self._go_on(part)
                    break
                except _CutOffError as error:
                    if not left:
                        again = "the same command goes on from there"
                        raise DataError(f"{self.url} could not be fetched: {error}; {again}") from error
            part.replace(path)
        return path

    def _go_on(self, part: Path) -> None:
        """Append to `part` what is missing, or begin again where the server cannot go on."""
        begin = part.stat().st_size if part.exists() else 0
        latest = time.monotonic() + self.stall
        shown = sys.stderr.isatty()
        bar = tqdm(desc=part.name[1:-5], initial=begin, unit="B", unit_scale=True, disable=not shown, leave=False)
        with part.open("ab") as file, bar:

            def take(chunk: bytes, anew: bool) -> None:
                nonlocal latest
                if anew:
                    file.truncate(0)
                if file.tell() + len(chunk) > self.most:
                    raise ValueError(f"more than {self.most:,} bytes")
                file.write(chunk)
                bar.update(len(chunk))
                latest = time.monotonic() + self.stall

            in_thread(self.url, lambda stop: _read(self.url, begin, take, stop, self.stall), lambda: latest, self.stall)


class _CutOffError(ConnectionError):
    """The server stopped before the end."""


def in_thread(url: str, work: Callable[[threading.Event], None], deadline: Callable[[], float], seconds: float) -> None:
    """Do `work` in a thread of its own, because a name look-up cannot be given a time-out, until `deadline()`.

    Args:
        url: what is fetched, for sentences.
        work: is given an event that is set when it is given up.
        deadline: returns until when to wait, on the clock of `time.monotonic`; it may move while `work` goes on.
        seconds: how long that is, for the sentence.

    Raises:
        DataError: `work` failed, or was given up.
    """
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
