"""Errors that a user can act on: one sentence says what was expected, what came and what to do."""

from __future__ import annotations

import difflib
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""What terminals take for a colour: some libraries write it into what they raise."""


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


class SomeFailedError(BenchmarkError):
    """Some of what was to be evaluated failed, and the rest did not.

    Args:
        failures: the sentence of each that failed, by label.
        result: of the others (`benchmark.api.result.Result`), or None where there are none.
        unsuited: labels of the methods among them that did not fail but do not suit the task or its model.
    """

    def __init__(self, failures: Mapping[str, str], result: Any = None, unsuited: Iterable[str] = ()) -> None:
        self.failures, self.result, self.unsuited = dict(failures), result, frozenset(unsuited)
        others = "" if result is None else f"; the scores of {few(result.labels)} are in the error's .result"
        super().__init__("; ".join(f"{label}: {sentence}" for label, sentence in failures.items()) + others)


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
    return f"{type(error).__name__}: {printable(short(COLOURS.sub('', str(error)), 400))}{place}"


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return the end of an error sentence: the nearest known name, then all of them.

    Example:
        >>> "unknown metric 'DLE'" + did_you_mean("DLE", ["DEL", "FC"])
        "unknown metric 'DLE'; did you mean 'DEL'? known: DEL, FC"
    """
    known = list(known)
    lowered = {name.lower(): name for name in known}
    near = difflib.get_close_matches(str(word).lower(), lowered, n=1)
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


def in_a_line(held: object) -> str:
    """Return a dataclass as a short line, for `__repr__`: what its tensors, tables and models hold would fill pages."""
    named = [(field.name, getattr(held, field.name)) for field in fields(held) if field.repr]  # type: ignore[arg-type]
    said = [f"{name}={_in_words(value)}" for name, value in named if not _is_empty(value)]
    return f"{type(held).__name__}({', '.join(said)})"


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, (str, list, tuple, dict)) and not value)


def _in_words(value: object) -> str:
    """Return what a value is: tensors and tables by their shape, modules and functions by their name."""
    kind = type(value).__name__
    if isinstance(value, (list, tuple, set, dict)):
        return repr(value) if len(repr(value)) <= 30 else f"{kind} of {len(value)}"
    if hasattr(value, "shape"):
        return f"{kind} {tuple(value.shape)}"
    if hasattr(value, "named_modules"):
        return kind
    if callable(value):
        return getattr(value, "__qualname__", kind)
    return short(repr(value), 60)
