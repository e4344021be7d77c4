"""What a person writes to choose tasks, methods or records: items between commas, and `!item` to take away.

An item is a name, a glob, a group, `all`, or a label such as `lime[n_samples=20,penalty=0.1]`, whose commas separate
nothing. Items that take away never add: alone, they take away from all there is.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from benchmark.errors import UsageError
from benchmark.registry import did_you_mean


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


def wanted_and_unwanted(text: str) -> tuple[list[str], list[str]]:
    """Return the items that add, which are `all` where none does, and those that take away.

    Raises:
        UsageError: there is no item.
    """
    items = items_of(text)
    if not items:
        raise UsageError(f"expected names separated by commas, got {text!r}")
    wanted = [item for item in items if not item.startswith("!")]
    return wanted or ["all"], [item[1:].strip() for item in items if item.startswith("!")]


def select_labels(text: str, labels: Iterable[str], noun: str = "method") -> list[str]:
    """Return which of the `labels` a selection chooses, in their order.

    What is a label means just that: `lime` is not `lime[n_samples=20]`, but where nothing is called `lime` it is all of
    lime's; `lime*` is both.

    Raises:
        UsageError: an item matches nothing, or nothing is left.
    """
    known = list(dict.fromkeys(labels))

    def matches(item: str) -> set[str]:
        if item == "all":
            return set(known)
        if item in known:
            return {item}
        glob = item.replace("[", "[[]")  # brackets belong to labels here
        found = {label for label in known if fnmatchcase(label, glob) or fnmatchcase(name_of(label), glob)}
        if not found:
            raise UsageError(f"no {noun} {item!r} here{did_you_mean(item, known)}")
        return found

    wanted, unwanted = wanted_and_unwanted(text)
    chosen = set().union(*map(matches, wanted)) - set().union(*map(matches, unwanted))
    if not chosen:
        raise UsageError(f"{text!r} leaves no {noun}: known: {', '.join(known)}")
    return [label for label in known if label in chosen]


def name_of(label: str) -> str:
    """Return the name in a label."""
    return label.partition("[")[0].strip()
