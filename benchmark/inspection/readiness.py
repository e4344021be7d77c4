"""Tells which data, weights and trained models of each task are ready on this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from benchmark.core.errors import DataError
from benchmark.core.sources import Sources
from benchmark.core.types import TASKS
from benchmark.modalities.building import model_path


@dataclass(frozen=True)
class Readiness:
    """Whether a task's data (and pretrained weights) are here, from where, and whether its model is trained.

    `hint` says what to do where something is missing.
    """

    task: str
    ready: bool
    origin: str = ""
    trained: bool = False
    hint: str = ""

    def plain(self) -> dict[str, Any]:
        """Return this as plain data for JSON."""
        return asdict(self)

    def text(self) -> str:
        """Return one line for a terminal."""
        if not self.ready:
            return f"{self.task:<22} missing  {self.hint}"
        model = (
            "model trained" if self.trained else f"model not made yet: python -m benchmark prepare --task {self.task}"
        )
        return f"{self.task:<22} ready    {self.origin}; {model}" + (f"; {self.hint}" if self.hint else "")


def readiness(name: str, sources: Sources) -> Readiness:
    """Look for a task's data and model without downloading anything; `sources` are offline, or only looking."""
    spec = TASKS.get(name)()
    try:
        located = spec.locate(sources)
    except DataError as error:
        return Readiness(name, False, hint=str(error))
    path = model_path(name, spec.recipe(located.source), located)
    return Readiness(name, True, located.origin, path.exists(), "; ".join(located.notes))
