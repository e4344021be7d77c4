"""Forking a process for a test, and waiting for it, which must not keep the suite for ever."""

from __future__ import annotations

import gc
import os
import signal
import time

LIMIT = 600.0
"""Seconds after which a process of a test is stuck."""


def fork() -> int:
    """Return what `os.fork` does, in a process whose objects the child never destroys.

    Those of libraries with threads of their own, such as the engines of a task, would wait for theirs for ever.
    """
    gc.collect()
    gc.freeze()
    pid = os.fork()
    if pid:
        gc.unfreeze()
    return pid


def ended(pid: int, seconds: float = LIMIT) -> int:
    """Wait for a child process and return its exit code, negative for a signal.

    One that is still there after some seconds is made to show where it stands (pytest has the fault handler print all
    threads at this signal), and the test fails.
    """
    end, pause = time.monotonic() + seconds, 0.0002
    while not (found := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGABRT)
            os.waitpid(pid, 0)
            raise AssertionError(f"process {pid} did not end within {seconds:g} s; above is where it stood")
        time.sleep(pause)
        pause = min(2 * pause, 0.02)
    return os.waitstatus_to_exitcode(found[1])
