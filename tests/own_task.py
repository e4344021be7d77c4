"""A task of a person's own, as `--include` takes it: a model and rows, and nothing said of either."""

from __future__ import annotations

import os

import torch

from benchmark.core.sources import Located
from benchmark.core.types import TASKS, Budget, Split, Task
from benchmark.modalities.removal import ColumnRemoval


class Own:
    modality = "table"
    n_features = 5
    budget = Budget(steps=5)
    floor = 0.0

    def facts(self):
        return {}

    def locate(self, sources):
        return Located("real", "own rows", "whatever")

    def recipe(self, source):
        return {}

    def build(self, located, name, device):
        torch.manual_seed(int(os.environ.get("OWN_SEED", "0")))
        model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).eval()
        model.requires_grad_(False)
        x = torch.randn(40, 5, generator=torch.Generator().manual_seed(1))
        y = torch.zeros(40, dtype=torch.long)
        return Task(
            name=name, modality="table", source="real", model=model, train=Split(x[:30], y[:30]),
            test=Split(x[30:], y[30:]), removal=ColumnRemoval(x[:30].mean(0)), budget=self.budget,
            feature_names=tuple("abcde"), class_names=("p", "q", "r"),
            evidence=torch.ones(10, 5).bool() if "OWN_EVIDENCE" in os.environ else None,
        )  # fmt: skip


@TASKS.register("own", modality="table")
def own() -> Own:
    """A task of my own."""
    return Own()
