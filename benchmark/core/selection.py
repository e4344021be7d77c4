"""Selections of tasks, methods, metrics or records, as users write them: items between commas, `!item` to leave out.

An item is a name, a glob, a group, `all`, or a label such as `lime[n_samples=20,penalty=0.1]`, whose commas separate
nothing. A selection of nothing but `!items` starts from all names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from benchmark.core.errors import UsageError, did_you_mean, shown

T = TypeVar("T")


def items_of(text: str) -> list[str]:
    """Return the items of a selection: what stands between commas that are in no brackets.

    Raises:
        UsageError: brackets that do not match.
    """
    items, depth = [""], 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if depth not in (0, 1):
            break
        if letter == "," and not depth:
            items.append("")
        else:
            items[-1] += letter
    if depth:
        raise UsageError(f"cannot read {text!r}: brackets do not match; write name or name[parameter=value,...]")
    return [item.strip() for item in items if item.strip()]


def added_and_removed(text: str) -> tuple[list[str], list[str]]:
    """Return the items that add, which are `all` where none does, and those that take away.

    Raises:
        UsageError: there is no item.
    """
    items = items_of(text)
    if not items:
        raise UsageError(f"expected names separated by commas, got {text!r}")
    added = [item for item in items if not item.startswith("!")]
    return added or ["all"], [item[1:].strip() for item in items if item.startswith("!")]


def chosen(text: str, matching: Callable[[str], Iterable[T]], noun: str) -> list[T]:
    """Return what a selection chooses, in its order; `matching` gives what an item means, or raises.

    Raises:
        UsageError: there is no item, or nothing is left.
    """
    added, removed = added_and_removed(text)
    excluded: set[T] = set()
    for item in removed:
        try:
            excluded |= set(matching(item))
        except UsageError:
            if not set(item) & set("*?"):  # a pattern may take away nothing, a name is one that there is
                raise
    matched = dict.fromkeys(each for item in added for each in matching(item) if each not in excluded)
    if not matched:
        raise UsageError(f"{text!r} leaves no {noun}")
    return list(matched)


def several(given: Any, what: str) -> list[Any]:
    """Return what a person gave in Python as a list: one text is one item.

    Args:
        given: a text or items.
        what: what it is called in sentences.

    Raises:
        UsageError: it is neither.

    Example:
        >>> several("DEL", "metrics"), several(("DEL", "FC"), "metrics")
        (['DEL'], ['DEL', 'FC'])
    """
    if isinstance(given, str):
        return [given]
    if not isinstance(given, Iterable):
        raise UsageError(f"{what} expects a name or a list of names, got {shown(given)}")
    return list(given)


def select_labels(text: str, labels: Iterable[str], noun: str = "method", place: str = " here") -> list[str]:
    """Return which of the `labels` a selection chooses, in their order; `place` ends "unknown {noun} {item}".

    What is a label means just that: `lime` is not `lime[n_samples=20]`, but where nothing is called `lime` it is all of
    lime's; `lime*` is both.

    Raises:
        UsageError: an item matches nothing, or nothing is left.
    """
    known = list(dict.fromkeys(labels))

    def matches(item: str) -> set[str]:
        if item in known:
            return {item}
        if item.lower() == "all":
            return set(known)
        glob = item.replace("[", "[[]")  # brackets belong to labels here
        matched = {label for label in known if fnmatchcase(label, glob) or fnmatchcase(name_of(label), glob)}
        if not matched:
            raise UsageError(f"unknown {noun} {item!r}{place}{did_you_mean(item, known)}")
        return matched

    matched = chosen(text, matches, noun)
    return [label for label in known if label in matched]


def name_of(label: str) -> str:
    """Return the name in a label."""
    return label.partition("[")[0].strip()
