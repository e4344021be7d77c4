"""Ends a run on SIGINT and SIGTERM at any moment, with all finished cells stored."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_asked, _held = False, False


def stop_on_signals() -> None:
    """Make SIGTERM end this process as SIGINT does, by KeyboardInterrupt. None that came before counts."""
    global _asked  # noqa: PLW0603 - a process has one
    _asked = False
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as for what a shell runs in the background
            signal.signal(number, _interrupt)


def _interrupt(_signal: int, _frame: object) -> None:
    global _asked  # noqa: PLW0603
    _asked = True
    if not _held:
        raise KeyboardInterrupt


def stop_if_asked() -> None:
    """Raise the KeyboardInterrupt that is due: one raised in a destructor, for instance, reaches nobody.

    Raises:
        KeyboardInterrupt: a signal came since `stop_on_signals`.
    """
    if _asked:
        raise KeyboardInterrupt


@contextmanager
def held() -> Iterator[None]:
    """Put signals off until the block ends: large libraries do not survive them while they are imported."""
    global _held  # noqa: PLW0603
    _held = True
    try:
        yield
    finally:
        _held = False
    stop_if_asked()
