"""What objectives without a state of their own have in common."""

from __future__ import annotations

from typing import Any


class StatelessObjective:
    """An objective (see `benchmark.learning.fitting.Objective`) of which a checkpoint has nothing to store."""

    progress: float = 0.0

    def state(self) -> dict[str, Any]:
        """See `Objective`."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Objective`."""
