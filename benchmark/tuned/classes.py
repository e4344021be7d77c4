"""Classes of costs: how many rows an explanation may ask the model, forward and backward passes together."""

from __future__ import annotations

from benchmark.core.errors import UsageError

CLASSES: tuple[int | None, ...] = (5, 60, 500, None)
"""The most rows of each; None for any number."""


def class_named(text: str) -> int | None:
    """Return the class that a text names: one of its numbers, or `any`.

    Raises:
        UsageError: there is none.

    Example:
        >>> class_named("60"), class_named("any")
        (60, None)
    """
    known = {name_of(rows): rows for rows in CLASSES}
    if text not in known:
        raise UsageError(f"expected a class of costs, the most rows an explanation: {', '.join(known)}; got {text!r}")
    return known[text]


def name_of(rows: int | None) -> str:
    """Return a class as a person writes it."""
    return "any" if rows is None else str(rows)
