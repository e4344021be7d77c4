"""The base of objectives that have no state of their own; it imports no torch."""

from __future__ import annotations

from typing import Any


class StatelessObjective:
    """An objective (see `benchmark.learning.fitting.Objective`) of which a checkpoint has nothing to keep."""

    def state(self) -> dict[str, Any]:
        """See `Objective`."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Objective`."""
