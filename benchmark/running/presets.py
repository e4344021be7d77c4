"""Presets, which say how much work a run is: samples, steps, subsets and samples of methods. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmark.core.types import Budget, Modality


@dataclass(frozen=True)
class Preset:
    """Samples by modality, None for all, and bounds of a task's budget.

    `params` are defaults of method parameters, for the methods that have them. What is not `comparable` shares no board
    with anything else.
    """

    samples: Mapping[Modality, int | None]
    steps: int | None = None
    subsets: int | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    comparable: bool = True

    def budget(self, budget: Budget) -> Budget:
        """Return a task's budget under this preset."""
        return dataclasses.replace(
            budget,
            steps=min(budget.steps, self.steps or budget.steps),
            subsets=min(budget.subsets, self.subsets or budget.subsets),
        )

    def given(self, method: type[Any], given: Mapping[str, str]) -> dict[str, str]:
        """Return a method's parameters: those the user gave, and this preset's where the method has them."""
        names = {f.name for f in dataclasses.fields(method)}
        return {key: value for key, value in self.params.items() if key in names} | dict(given)


QUICK = {
    "n_samples": "50", "steps": "16", "samples": "16", "background": "4", "channels": "16",
    "iterations": "40", "rows": "10", "priors": "quick", "coalitions": "2", "members": "2", "rounds": "2",
    "search": "20", "copied": "20",
}  # fmt: skip
PRESETS = {
    "quick": Preset({"table": 100, "text": 12, "image": 4}, 8, 20, QUICK, comparable=False),
    "standard": Preset({"table": None, "text": 200, "image": 50}),
    "paper": Preset(
        {"table": None, "text": None, "image": None},
        params={"n_samples": "20", "estimator": "captum", "priors": "paper"},
    ),
}
"""quick is for a look; standard for boards; paper asks all test samples and, as the code the paper's authors released,
spends 20 samples on LIME and KernelSHAP, in Captum's form."""
