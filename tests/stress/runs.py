"""Runs in forks of this process, which has all libraries loaded, and what they leave on disk."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import benchmark.processes.workers
from benchmark.cli.parser import main
from benchmark.learning import fitting
from benchmark.processes.workers import serve
from benchmark.running.built import forget_tasks
from tests.processes import ended, fork

TASK = Path(__file__).with_name("task.py")
LEARNED = "fastshap[iterations=20],cxplain[iterations=8,members=2]"
METHODS = f"saliency,random,lime[n_samples=8],{LEARNED}"
CELLS = 5
EVERY = 0.25
"""Seconds between two checkpoints."""
TIMES = {"seconds", "created", "peak_bytes", "rival ms", "samples", "rows_per_forward"}
"""What no two runs have in common: times, and after how many samples training pays, which follows from them."""


class ForkedWorker:
    """A worker process as `subprocess.Popen` gives it, but forked, so that it need not load its libraries."""

    def __init__(self, _words: list[str], **_options: object) -> None:
        (their_in, our_in), (our_out, their_out) = os.pipe(), os.pipe()
        self.returncode: int | None = None
        self._waiting = threading.Lock()
        self.pid = fork()
        if not self.pid:
            os.dup2(their_in, 0)
            os.dup2(their_out, 1)
            os.closerange(3, 1024)  # the other ends too, as exec does
            try:
                serve()
            finally:
                os._exit(98)
        os.close(their_in)
        os.close(their_out)
        self.stdin, self.stdout = os.fdopen(our_in, "wb"), os.fdopen(our_out, "rb")

    def poll(self) -> int | None:
        with self._waiting:
            if self.returncode is None and os.waitpid(self.pid, os.WNOHANG)[0]:
                self.returncode = 0
            return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        with self._waiting:
            if self.returncode is None:
                self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            return self.returncode


@cache
def prepare() -> None:
    """Run once in this process, so that no fork has to import what a run needs; what was made is forgotten."""
    with TemporaryDirectory() as folder:
        before = os.environ.get("BENCHMARK_CACHE")
        os.environ["BENCHMARK_CACHE"] = str(Path(folder) / "cache")
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            assert main(words_for(Path(folder) / "out", METHODS, 1)) == 0
        del os.environ["BENCHMARK_CACHE"]
        if before is not None:
            os.environ["BENCHMARK_CACHE"] = before
    forget_tasks()


def words_for(out: Path, methods: str, jobs: int) -> list[str]:
    """Return the words of a run."""
    return ["run", "--task", "stressed", "--include", str(TASK), "--methods", methods, "--jobs", str(jobs),
            "--device", "cpu", "--out", str(out)]  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A folder with results and a cache."""

    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def stderr(self) -> str:
        """What the last run wrote to standard error."""
        return (self.folder / "stderr").read_text()

    def start(self, jobs=1, methods=METHODS, before=None, words=(), environment=None) -> int:
        """Start a run in a fork and return its process id; `before` is called in it first."""
        prepare()
        self.folder.mkdir(parents=True, exist_ok=True)
        # a signal waits until the child is a process of its own
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        pid = fork()
        if pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            return pid
        code = 97
        try:
            os.environ["BENCHMARK_CACHE"] = str(self.cache)
            for key, value in (environment or {}).items():
                os.environ.pop(key, None)
                if value is not None:
                    os.environ[key] = value
            null = os.open(os.devnull, os.O_RDWR)
            error = os.open(self.folder / "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for number, file in enumerate((null, null, error)):
                os.dup2(file, number)
            sys.stdin = io.StringIO()
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            logging.getLogger().handlers.clear()
            signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a new process
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            torch.set_num_threads(1)
            benchmark.processes.workers.subprocess = type(
                "Forking", (), {"Popen": ForkedWorker, "PIPE": subprocess.PIPE}
            )
            fitting.CHECKPOINT_SECONDS = EVERY
            if before is not None:
                before()
            code = main([*words_for(self.out, methods, jobs), *words])
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def run(self, **how) -> int:
        """Run to the end and return the exit code."""
        return ended(self.start(**how))

    def scores(self) -> dict[str, bytes]:
        return {path.parent.name: path.read_bytes() for path in sorted(self.out.glob("s*/*/*/scores.parquet"))}

    def records(self) -> dict[str, object]:
        """Return run.json of every cell, but for what no two runs have in common."""
        return {path.parent.name: lasting(path) for path in sorted(self.out.glob("s*/*/*/run.json"))}

    def leftovers(self) -> list[str]:
        """Return what a run must not leave: half-written files, and what was set aside."""
        paths = [*self.folder.rglob("*.part"), *self.folder.rglob("*.damaged-*"), *self.out.glob("_set_aside/*")]
        return [str(path.relative_to(self.folder)) for path in paths]

    def half_done(self) -> bool:
        """Tell whether a part of the work is here: some records, a checkpoint, or a file half written."""
        some = 0 < len(self.records()) < CELLS
        return some or any(self.folder.rglob("*.part")) or any(self.cache.glob("explainers/*.pt"))


def lasting(path: Path) -> object:
    """Return a run.json without times and what follows from them."""
    meta = json.loads(path.read_text())
    del meta["digest"]

    def strip(value):
        if isinstance(value, dict):
            return {key: strip(item) for key, item in value.items() if key not in TIMES}
        return [strip(item) for item in value] if isinstance(value, list) else value

    return strip(meta)


def children(pid: int) -> list[int]:
    """Return the processes that the threads of `pid` started."""
    try:
        texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [int(child) for text in texts for child in text.split()]


def all_end(pids: list[int], seconds: float = 3.0) -> bool:
    """Tell whether these processes end within some seconds."""
    end = time.monotonic() + seconds
    while any(_alive(pid) for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
