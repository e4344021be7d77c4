"""Turns what a method reports, which may be anything, into plain data for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def plain_data(value: Any, place: str = "") -> tuple[Any, list[str]]:
    """Return `value` as numbers, texts, lists and dictionaries, and a word on each part that could not stay as it was.

    Numbers that are not finite become None; what JSON has no word for becomes its `repr`, cut at 200 characters.
    """
    if hasattr(value, "tolist"):  # of torch and NumPy
        value = value.tolist()
    if value is None or isinstance(value, (bool, int)):
        return value, []
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode(), []
    if isinstance(value, float):
        finite = math.isfinite(value)
        return (value if finite else None), ([] if finite else [f"{place or 'value'} is {value}"])
    if isinstance(value, Mapping):
        parts = {str(key): plain_data(part, f"{place}.{key}" if place else str(key)) for key, part in value.items()}
        return {key: part for key, (part, _) in parts.items()}, [word for _, words in parts.values() for word in words]
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [plain_data(part, f"{place}[{at}]") for at, part in enumerate(value)]
        return [part for part, _ in items], [word for _, words in items for word in words]
    return repr(value)[:200], [f"{place or 'value'} is a {type(value).__name__}"]
