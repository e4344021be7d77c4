"""A task whose model is known: it tells whether two columns have opposite signs, and hears a little of a third."""

import torch
from torch import nn

from benchmark.core.sources import Located
from benchmark.core.types import TASKS, Budget, Split, Task
from benchmark.modalities.removal import ColumnRemoval

ROWS, TEST = 400, 100


class Product(nn.Module):
    """Logits of two classes: the second is that the first two columns have opposite signs."""

    def forward(self, x):
        """Return logits (B, 2) of inputs (B, 6)."""
        evidence = -2 * x[:, 0] * x[:, 1] + 0.3 * x[:, 2]
        return torch.stack([-evidence, evidence], 1)


class OppositeSigns:
    """The task spec."""

    modality = "table"
    n_features = 6
    budget = Budget(steps=6)
    floor = 0.0

    def facts(self):
        """Return what `show opposite_signs` says."""
        return {"data": "normal rows, made here", "model": "a formula"}

    def locate(self, sources):
        """Return that the data are made, and which version of them."""
        return Located("synthetic", "normal rows", "1")

    def recipe(self, source):
        """Return what the model follows from: it is not trained."""
        return {}

    def build(self, located, name, device):
        """Return the task."""
        x = torch.randn(ROWS, self.n_features, generator=torch.Generator().manual_seed(0))
        model = Product().eval()
        y = model(x).argmax(1)
        x, y = x.to(device), y.to(device)
        return Task(
            name=name,
            modality="table",
            source=located.source,
            model=model.to(device),
            train=Split(x[TEST:], y[TEST:]),
            test=Split(x[:TEST], y[:TEST]),
            removal=ColumnRemoval(x[TEST:].mean(0)),
            budget=self.budget,
            feature_names=("left", "right", "hint", "d", "e", "f"),
            class_names=("same", "opposite"),
        )


@TASKS.register("opposite_signs", modality="table")
def opposite_signs():
    """Whether two of six columns have opposite signs; the model is a formula."""
    return OppositeSigns()
