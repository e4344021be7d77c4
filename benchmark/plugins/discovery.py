"""Makes the plug-ins of installed packages known: names, summaries and facts, read from their source text.

A plug-in never takes a name of ours, and of two that want one name neither gets it. What is wrong with one is a
sentence, and does not touch the others.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from benchmark.core.errors import UsageError, did_you_mean
from benchmark.core.registry import OURS, Entry
from benchmark.core.types import METHODS, PACKAGES, TASKS
from benchmark.plugins.installed import GROUPS, PREFIX, EntryPoint, installed, registry_of, source_of

log = logging.getLogger("benchmark")


@dataclass(frozen=True)
class Plugin:
    """A module of an installed package, and what became of it.

    Attributes:
        point: the entry point that names it.
        entries: what it registers.
        problem: why it is left out; empty where it is known.
    """

    point: EntryPoint
    entries: tuple[Entry, ...] = ()
    problem: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names that it registers."""
        return tuple(entry.name for entry in self.entries)

    def refused(self, why: str) -> Plugin:
        """Return this plug-in with the sentence for why it is left out."""
        return replace(self, problem=f"left out: {self.point.module} of {self.point.distribution}: {why}")


@cache
def discover_all() -> None:
    """Make known what is ours and what installed packages register, once a process; what is left out is warned of.

    Example:
        >>> discover_all()
        >>> "lime" in METHODS.names()
        True
    """
    METHODS.discover(*PACKAGES)
    TASKS.discover("benchmark.tasks")
    for plugin in discover_plugins():
        if plugin.problem:
            log.warning(plugin.problem)


def discover_plugins() -> tuple[Plugin, ...]:
    """Make known what installed packages register, without importing it; ours must be known before.

    Returns:
        All plug-ins, those that are left out with a `problem`.

    Example:
        >>> METHODS.discover(*PACKAGES)
        >>> [plugin.problem for plugin in discover_plugins() if plugin.problem]
        []
    """
    plugins = _without_rivals([_read(point) for point in installed()])
    plugins = [plugin if plugin.problem else _beside_others(plugin) for plugin in plugins]
    for plugin in plugins:
        for entry in () if plugin.problem else plugin.entries:
            registry_of(plugin.point.group).add(entry)
    return tuple(plugins)


@cache
def _read(point: EntryPoint) -> Plugin:
    """Read the source of a plug-in's module."""
    plugin = Plugin(point)
    if point.group not in GROUPS:
        return plugin.refused(f"no entry points are called {PREFIX + point.group!r}{did_you_mean(point.group, GROUPS)}")
    if point.module.partition(".")[0] in OURS:
        return plugin.refused(f"the entry point {point.name!r} names a module of this program: name one of its own")
    path = source_of(point.module)
    if path is None:
        return plugin.refused(f"the entry point {point.name!r} names a module that has no source file: expected one "
                              "such as my_package.my_module")  # fmt: skip
    registry = registry_of(point.group)
    try:
        entries = registry.entries_in(path, point.module)
    except UsageError as error:
        return plugin.refused(str(error))
    except (SyntaxError, ValueError, OSError) as error:
        return plugin.refused(f"its source cannot be read ({type(error).__name__}: {error})")
    if not entries:
        return plugin.refused(
            f"it registers no {registry.noun}: expected @{registry.variable}.register('name', ...) with a name in "
            "quotes, above a class or function of the module itself"
        )
    return replace(plugin, entries=tuple(replace(entry, distribution=point.distribution) for entry in entries))


def _without_rivals(plugins: Sequence[Plugin]) -> list[Plugin]:
    """Refuse plug-ins that want one name: which of them was meant nobody can tell."""
    wanted = defaultdict(list)
    for plugin in plugins:
        for name in plugin.names:
            wanted[plugin.point.group, name].append(plugin)

    def judged(plugin: Plugin) -> Plugin:
        for name in plugin.names:
            rivals = [other.point for other in wanted[plugin.point.group, name] if other is not plugin]
            if rivals:
                noun = registry_of(plugin.point.group).noun
                also = f"{rivals[0].distribution} ({rivals[0].module})"
                return plugin.refused(f"{also} has a {noun} {name!r}, too, and neither is used: remove one of them")
            if plugin.names.count(name) > 1:
                return plugin.refused(f"it registers {name!r} twice: rename one of them")
        return plugin

    return [judged(plugin) for plugin in plugins]


def _beside_others(plugin: Plugin) -> Plugin:
    """Refuse a plug-in that wants a name which is taken."""
    registry = registry_of(plugin.point.group)
    for name in plugin.names:
        if name in registry.names() and registry.entry(name).module != plugin.point.module:
            owner = "one of ours, which stays" if registry.entry(name).built_in else registry.entry(name).module
            return plugin.refused(f"its {registry.noun} {name!r} is called like {owner}: its author has to rename it")
    return plugin
