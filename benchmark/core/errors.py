"""Errors that a user can act on: one sentence says what was expected, what came and what to do."""

from __future__ import annotations

import difflib
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path


class BenchmarkError(Exception):
    """Something a user can mend; `exit_code` is what the command line returns for it."""

    exit_code = 1


class UsageError(BenchmarkError):
    """The call is wrong: an unknown name, a value of the wrong type or range."""

    exit_code = 2


class DataError(BenchmarkError):
    """Data or weights are missing, or are not what they should be."""

    exit_code = 3


class Absent(Exception):  # noqa: N818 - no error: the next source is tried
    """What was looked for is not here; the text says why, for a sentence that goes on."""


class RecordError(BenchmarkError):
    """A stored record is damaged or was not written by this program."""


def describe(error: BaseException, made: Callable[..., object]) -> str:
    """Return one line that says what was raised and where in the file of the class or function `made`.

    Example: "ValueError: no (mine.py, line 3)".
    """
    file = getattr(sys.modules.get(made.__module__), "__file__", None)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file] or frames
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {printable(short(error, 400))}{place}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of an error sentence: the nearest known name, then all of them."""
    known = list(known)
    lowered = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), lowered, n=1)
    hint = f"; did you mean {lowered[near[0]]!r}?" if near else ";"
    return f"{hint} known: {', '.join(known)}"


def printable(text: str) -> str:
    """Return a text with its control characters spelt out, such as a stranger's record or error may hold."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def few(names: Sequence[object], most: int = 8) -> str:
    """Return the first names of a list that may be long, and how many more there are; "none" where there are none."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(short(name) for name in names[:most]) + more or "none"


def short(thing: object, most: int = 80) -> str:
    """Return a thing as text on one line, cut where it is long."""
    text = " ".join(str(thing).split())
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"
