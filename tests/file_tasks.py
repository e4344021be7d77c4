"""A file with tasks of every form that `--task FILE.py:NAME` takes, and some that it refuses; it registers none."""

from __future__ import annotations

import torch

from benchmark.core.sources import Located
from benchmark.core.types import Budget, Split, Task
from benchmark.modalities.removal import ColumnRemoval


def as_task():
    """A task that is made by a function."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).eval()
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(1))
    y = torch.zeros(40, dtype=torch.long)
    return Task(
        name="whatever", modality="table", source="real", model=model.requires_grad_(False),
        train=Split(x[:30], y[:30]), test=Split(x[30:], y[30:]), removal=ColumnRemoval(x[:30].mean(0)),
        budget=Budget(steps=5), feature_names=tuple("abcde"), class_names=("p", "q", "r"),
    )  # fmt: skip


class Rows:
    """A task spec as a class."""

    modality = "table"
    n_features = 5
    budget = Budget(steps=5)
    floor = 0.0

    def facts(self):
        return {}

    def locate(self, sources):
        return Located("real", "rows", "1")

    def recipe(self, source):
        return {}

    def build(self, located, name, device):
        task = as_task()
        return Task(**{**vars(task), "name": name})


def as_spec():
    """A task spec that is made by a function."""
    return Rows()


SPEC = Rows()
TASK = as_task()
NUMBER = 3
NOTHING = object()


def needs(something):
    return something


def gives_none():
    """Gives nothing."""


def fails():
    raise ValueError("no rows today")
