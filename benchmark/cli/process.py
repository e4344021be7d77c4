"""How the process of a command handles signals, output that cannot be written, and packages that shadow ours."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path

from benchmark.core.errors import UsageError

INTERRUPTED = 130
SENTENCE = "interrupted; what is finished is stored: the same command goes on from there"
BESIDE = ("methods", "deepfaith", "leaderboards")
"""The packages that stand beside this one."""


def end_on_signals() -> None:
    """Make SIGINT and SIGTERM end this process at once and quietly; a run asks for more when it has workers to end.

    What is on disk is whole at any moment, and large libraries do not survive an exception while they are imported.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as for what a shell runs in the background
            signal.signal(number, _end)


def _end(_number: int, _frame: object) -> None:
    try:
        os.write(2, f"{SENTENCE}\n".encode())
    finally:
        os._exit(INTERRUPTED)


def lost_output() -> OSError | None:
    """Return why what was printed cannot be written, or None where it can; what is left of it is dropped then."""
    if sys.stdout is None:
        return None
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None


def refuse_foreign_packages() -> None:
    """Make sure that the packages beside this one are ours, not others of the same name in the working folder.

    Raises:
        UsageError: one of them is not.
    """
    ours = Path(__file__).resolve().parents[2]
    for name in BESIDE:
        spec = importlib.util.find_spec(name)
        found = None if spec is None else next(iter(spec.submodule_search_locations or ()), spec.origin)
        if found is None:
            raise UsageError(f"the package {name} of this program is not installed: install it again")
        place = Path(found).resolve()
        if place.parent != ours:
            raise UsageError(
                f"{str(place)!r} hides the package {name} of this program, since `python -m` looks into the working "
                "folder first: rename it, run from another folder, or use the command deepfaith-benchmark, which does "
                "not look there"
            )
