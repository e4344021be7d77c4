"""Worker processes that do one job at a time; none outlives its parent, and one that dies loses only its job.

Parent and worker talk through the worker's standard input and output, in pickles. The system closes both when either
side ends, however it ends: a worker leaves when its input does, and a parent that reads no answer knows of the death.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice
from typing import Any, BinaryIO, TypeVar

J = TypeVar("J")
R = TypeVar("R")
BOOT = "import sys; sys.path[:] = {path!r}; from benchmark.processes.workers import serve; serve()"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""What numeric libraries read at their start: workers share the cores, so each has one thread unless told otherwise."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
log = logging.getLogger("benchmark")


class Workers:
    """Processes that are started when they are first needed and kept until the `with` block ends.

    Args:
        gpus: what CUDA_VISIBLE_DEVICES is for them, in turn; nothing where it stays as it is.
    """

    def __init__(self, gpus: Sequence[str] = ()) -> None:
        self._gpus, self._gpu_of = gpus, dict[int, str]()
        self._lock = threading.Lock()
        self._all: list[subprocess.Popen] = []
        self._idle: list[subprocess.Popen] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def each(self, work: Callable[[J], R], jobs: Iterable[J], count: int, died: Callable[[J, str], R]) -> Iterator[R]:
        """Yield what `work` returns for every job, as each is known, with `count` jobs at a time.

        A job is taken from `jobs` when its turn comes: what was yielded before may decide which one that is.

        For a job whose process died it is what `died` returns, given the job and how it died; nothing is tried twice.
        What `work` raises is raised here. All processes are ended where not all results are taken.
        """
        threads, stop, waiting = ThreadPoolExecutor(count), threading.Event(), iter(jobs)

        def begun(number: int) -> set[Future[R]]:
            return {threads.submit(self._do, work, job, died, stop) for job in islice(waiting, number)}

        try:
            running = begun(count)
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
                    running |= begun(1)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            stop.set()
            self._end()
            raise
        threads.shutdown()

    def _do(self, work: Callable[[J], R], job: J, died: Callable[[J, str], R], stop: threading.Event) -> R:
        process = self._take(stop)
        try:
            pickle.dump(pickle.dumps((work, job)), process.stdin)  # as bytes, which are read without importing anything
            process.stdin.flush()
            kind, value = pickle.load(process.stdout)
            while kind == "said":
                log.log(*value)
                kind, value = pickle.load(process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):  # cut off, maybe in the middle
            with self._lock:
                self._all = [other for other in self._all if other is not process]
            return died(job, _how(_end(process)))
        with self._lock:
            self._idle.append(process)
        if kind == "raised":
            raise value
        return value

    def _take(self, stop: threading.Event) -> Any:
        """Return a process without a job."""
        with self._lock:
            if stop.is_set():  # it would outlive `_end`
                raise RuntimeError("no more work is wanted")
            while self._idle:
                process = self._idle.pop()
                if process.poll() is None:
                    return process
            words = [sys.executable, "-c", BOOT.format(path=sys.path)]
            environment = dict.fromkeys(THREADS, "1") | os.environ | self._gpu()
            process = subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._all.append(process)
            self._gpu_of[process.pid] = environment.get(VISIBLE, "")
            return process

    def _gpu(self) -> dict[str, str]:
        """Return the variable that gives the next process a GPU: one that the fewest living ones have."""
        if not self._gpus:
            return {}
        taken = [self._gpu_of[process.pid] for process in self._all if process.poll() is None]
        return {VISIBLE: min(self._gpus, key=taken.count)}

    def _end(self) -> None:
        with self._lock:
            ending, self._all, self._idle = self._all, [], []
        for process in ending:
            process.kill()  # all, before the first is waited for
        for process in ending:
            process.wait()


def _end(process: Any) -> int:
    """End a process of which no more is wanted, and return its exit code, negative for a signal."""
    process.kill()  # does nothing to one that has ended
    with suppress(BrokenPipeError):  # what it did not read
        process.stdin.close()
    process.stdout.close()
    return process.wait()


def _how(code: int) -> str:
    """Return how a process died, in words that follow "its worker process"."""
    if code >= 0:
        return f"ended with exit code {code}"
    hint = ": out of memory?" if -code == signal.SIGKILL else ""
    return f"died (signal {-code}{hint})"


def serve() -> None:
    """Do jobs from standard input until it ends. What jobs print goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal interrupts all its processes; the parent ends this one
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(jobs, inbox), daemon=True).start()
    speaker = _Speaker(answers)
    log.handlers, log.propagate = [speaker], False
    log.setLevel(logging.INFO)  # the parent knows what to leave out
    while True:
        content = inbox.get()
        try:
            work, job = pickle.loads(content)
            speaker.send("returned", work(job))
        except BaseException as error:  # whatever it is, the parent is who can do something about it
            speaker.send("raised", _portable(error))


def _receive(jobs: BinaryIO, inbox: queue.SimpleQueue[bytes]) -> None:
    """Pass jobs on; end this process, in the middle of a job too, when the parent has ended."""
    try:
        while True:
            inbox.put(pickle.load(jobs))
    finally:
        os._exit(0)


class _Speaker(logging.Handler):
    """Sends the parent results, and what is logged meanwhile."""

    def __init__(self, answers: BinaryIO) -> None:
        super().__init__()
        self._answers, self._sending = answers, threading.Lock()

    def send(self, kind: str, value: object) -> None:
        """Send one message, whole."""
        content = pickle.dumps((kind, value))
        with self._sending:
            self._answers.write(content)
            self._answers.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """Send what was logged; what cannot be said is no reason to end a job."""
        try:
            self.send("said", (record.levelno, record.getMessage()))
        except Exception:
            self.handleError(record)


def _portable(error: BaseException) -> BaseException:
    """Return an error that the parent can read: itself, or one that says the same."""
    error.add_note("in a worker process:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
