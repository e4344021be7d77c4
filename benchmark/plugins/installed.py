"""Finds what installed packages offer, by their entry points, without importing any of them."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from benchmark.core.registry import Registry

PREFIX = "deepfaith_benchmark."
"""What the names of our entry-point groups begin with."""
GROUPS = {
    "methods": "benchmark.core.types:METHODS",
    "tasks": "benchmark.core.types:TASKS",
    "metrics": "benchmark.scoring.metrics:METRICS",
    "removals": "benchmark.modalities.removals:REMOVALS",
}
"""Groups of entry points, without the prefix, and the registry of each: imported only where a package has some."""


@dataclass(frozen=True)
class EntryPoint:
    """What an installed package offers.

    Attributes:
        distribution: name and version of the package: `my-method 1.0`.
        group: without our prefix: `methods`.
        name: of the entry point, which only its author reads.
        module: that registers something.
    """

    distribution: str
    group: str
    name: str
    module: str


@cache
def installed() -> tuple[EntryPoint, ...]:
    """Return the entry points of our groups of all installed packages; looked for once in a process.

    Of a package that is there twice the first on the path counts, as it does for imports.
    """
    found: dict[str, list[EntryPoint]] = {}
    for distribution in distributions():
        if PREFIX in (distribution.read_text("entry_points.txt") or ""):
            found.setdefault(distribution.metadata["Name"].lower(), _offered(distribution))
    return tuple(point for name in sorted(found) for point in found[name])


def _offered(distribution: Distribution) -> list[EntryPoint]:
    """Return the entry points of our groups of one package; a module that is named twice counts once."""
    title = f"{distribution.metadata['Name']} {distribution.version}"
    points = [
        EntryPoint(title, point.group.removeprefix(PREFIX), point.name, point.module)
        for point in distribution.entry_points
        if point.group.startswith(PREFIX)
    ]
    return list({(point.group, point.module): point for point in reversed(points)}.values())[::-1]


def registry_of(group: str) -> Registry[Any]:
    """Return the registry that a group of entry points fills."""
    module, _, name = GROUPS[group].partition(":")
    return getattr(importlib.import_module(module), name)


def source_of(module: str) -> Path | None:
    """Return the source file of a module, or None where there is none.

    Neither the module nor the packages that it is in are imported.
    """
    head, *rest = module.split(".")
    try:
        spec: ModuleSpec | None = importlib.util.find_spec(head)
    except (ImportError, ValueError):  # what is loaded under this name says nothing of where it is from
        return None
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(part, list(spec.submodule_search_locations))
    path = Path(spec.origin) if spec is not None and spec.origin is not None else None
    return path if path is not None and path.suffix == ".py" and path.is_file() else None
