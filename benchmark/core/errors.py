"""Errors that a user can act on: one sentence says what was expected, what came and what to do."""

from __future__ import annotations

import difflib
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path


class BenchmarkError(Exception):
    """An error that a user can do something about; `exit_code` is what the command line returns for it."""

    exit_code = 1


class UsageError(BenchmarkError):
    """The call is wrong: an unknown name, a value of the wrong type or range."""

    exit_code = 2


class DataError(BenchmarkError):
    """Data or weights are missing, or are not what they should be."""

    exit_code = 3


class Absent(Exception):  # noqa: N818 - no error: the next source is tried
    """A source does not have what was looked for. The text says why, without a full stop, for a longer sentence."""


class RecordError(BenchmarkError):
    """A stored record is damaged or was not written by this program."""


def describe(error: BaseException, made: Callable[..., object]) -> str:
    """Return one line that says what was raised, and where.

    Args:
        error: what was raised.
        made: the class or function at fault: of the traceback, the last line in its file is named.

    Returns:
        Such as "ValueError: no (mine.py, line 3)".
    """
    file = getattr(sys.modules.get(made.__module__), "__file__", None)
    frames = traceback.extract_tb(error.__traceback__)
    last = ([frame for frame in frames if frame.filename == file] or frames)[-1:]
    place = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in last)
    return f"{type(error).__name__}: {printable(short(error, 400))}{place}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of an error sentence: the nearest known name, then all of them.

    Example:
        >>> "unknown metric 'DLE'" + did_you_mean("DLE", ["DEL", "FC"])
        "unknown metric 'DLE'; did you mean 'DEL'? known: DEL, FC"
    """
    known = list(known)
    lowered = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), lowered, n=1)
    hint = f"; did you mean {lowered[near[0]]!r}?" if near else ";"
    return f"{hint} known: {few(known, 60)}"


def printable(text: str) -> str:
    """Return a text with its control characters spelt out: a record or an error from elsewhere may hold some."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def few(names: Sequence[object], most: int = 8) -> str:
    """Return the first names of a list that may be long, and how many more there are; "none" where there are none.

    Example:
        >>> few(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(short(name) for name in names[:most]) + more or "none"


def shown(value: object) -> str:
    """Return the repr of a value of a person's, which may be long, on one line.

    Example:
        >>> shown("text"), shown(list(range(1000)))[-22:]
        ("'text'", '... (4,890 characters)')
    """
    return short(repr(value))


def short(value: object, most: int = 80) -> str:
    """Return a value as text on one line, cut after `most` letters."""
    text = " ".join(str(value).split())
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"
