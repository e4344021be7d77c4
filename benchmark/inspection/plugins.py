"""Which plug-ins are installed, where each comes from, and whether it can be used: a part of `doctor`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from benchmark.core.errors import UsageError
from benchmark.plugins.discovery import Plugin, discover_plugins
from benchmark.plugins.installed import registry_of


@dataclass(frozen=True)
class PluginState:
    """A plug-in and what is wrong with it; `problem` is empty where it can be used."""

    distribution: str
    group: str
    module: str
    names: tuple[str, ...]
    problem: str

    def plain(self) -> dict[str, Any]:
        """Return this as plain data for JSON."""
        return asdict(self)

    def text(self) -> str:
        """Return one line for a terminal."""
        what = f"{self.group} {', '.join(self.names)}" if self.names else self.group
        state = f"broken   {self.problem}" if self.problem else f"ready    {what} ({self.module})"
        return f"plug-in {self.distribution:<22} {state}"


def plugin_states() -> list[PluginState]:
    """Return the state of each plug-in; those that are known are imported."""
    return [
        PluginState(p.point.distribution, p.point.group, p.point.module, p.names, p.problem or _failure(p))
        for p in discover_plugins()
    ]


def _failure(plugin: Plugin) -> str:
    """Return why something that a plug-in registers cannot be used; empty where all can."""
    for name in plugin.names:
        try:
            registry_of(plugin.point.group).get(name)
        except UsageError as error:
            return str(error)
    return ""
