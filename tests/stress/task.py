"""A small task for --include that keeps on disk all that a large one does: trained weights and decoded data."""

from __future__ import annotations

import torch
from torch import nn

from benchmark.core.seeding import seeded
from benchmark.core.sources import Located, cache_folder
from benchmark.core.store import load_or_make
from benchmark.core.types import TASKS, Budget, Split, Task
from benchmark.modalities.removal import ColumnRemoval
from benchmark.models.weights import trained

FEATURES = 6


def net():
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, 3))


def decode():
    with seeded(1):
        x = torch.randn(132, FEATURES)
    return {"x": x, "y": (x[:, 0] > 0).long() + (x[:, 1] * x[:, 2] > 0).long()}, {}


def train(x, y):
    with seeded(2):
        model = net()
        optimiser = torch.optim.Adam(model.parameters(), 0.02)
        for _ in range(150):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimiser.step()
    return model, {}


class Stressed:
    modality = "table"
    n_features = FEATURES
    budget = Budget(steps=FEATURES)
    floor = 0.0

    def facts(self):
        return {}

    def locate(self, sources):
        return Located("synthetic", "rows drawn from a seed", "seed 1")

    def recipe(self, source):
        return {}

    def build(self, located, name, device):
        data, _ = load_or_make(cache_folder() / "data" / "stressed.safetensors", decode, "decoded data")
        x, y = data["x"], data["y"]
        model, _ = trained(cache_folder() / "models" / "stressed.safetensors", net, lambda: train(x[:120], y[:120]))
        return Task(
            name=name, modality="table", source="synthetic", model=model, train=Split(x[:120], y[:120]),
            test=Split(x[120:], y[120:]), removal=ColumnRemoval(x[:120].mean(0)), budget=self.budget,
            feature_names=tuple("abcdef"), class_names=("p", "q", "r"),
        )  # fmt: skip


@TASKS.register("stressed", modality="table")
def stressed() -> Stressed:
    """A small task for runs that are killed."""
    return Stressed()
