"""Small tasks of each modality that methods and metrics are tried on: models and rows by formula, in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from benchmark.core.types import Budget, Modality, Removal, Split, Task, TaskSpec
from benchmark.inspection.crosscheck.cases import TokenModel, fill, formula
from benchmark.modalities.removal import ColumnRemoval, PixelRemoval, TokenRemoval
from benchmark.plugins.given_task import GivenTask

TRAIN, TEST = 40, 6
"""Rows."""


def table_task() -> Task:
    """Return a task of 8 columns."""
    x = 1.5 * formula(TRAIN + TEST, 8, key=0.3)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
    return _task("table", model, x, ColumnRemoval(x[:TRAIN].mean(0).float()), Budget(8, 20))


def text_task() -> Task:
    """Return a task of texts of 1 to 12 words, padded."""
    x = 2 + ((formula(TRAIN + TEST, 12, key=0.5) + 1) * 14).long().clamp(max=27)
    for row, length in zip(x, (12, 8, 4, 12, 3, 7) * 8, strict=False):
        row[length:] = 0
    x[-2, 1:] = 0  # a text of one word
    return _task("text", TokenModel(), x, TokenRemoval(12, 1, 0), Budget(4, 20, 1 / 4, 1))


def image_task() -> Task:
    """Return a task of images of 3 x 16 x 16."""
    x = 2 * formula(TRAIN + TEST, 3, 16, 16, key=0.4)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(294, 3),
    )  # fmt: skip
    means = x[:TRAIN].mean((0, 2, 3)).float()
    return _task("image", model, x, PixelRemoval(means, 16, 16, sigma=1.0), Budget(8, 20, 1 / 8, 1))


def _task(modality: Modality, model: nn.Module, x: Tensor, removal: Removal, budget: Budget) -> Task:
    """Return a task of float32 inputs, labelled with what the model predicts."""
    model = fill(model).float()
    x = x.float() if x.is_floating_point() else x
    with torch.no_grad():
        y = model(x).argmax(1)
    names = tuple(f"f{i}" for i in range(removal.n_features))
    task = Task(f"trial {modality}", modality, "synthetic", model, Split(x[:TRAIN], y[:TRAIN]),
                Split(x[TRAIN:], y[TRAIN:]), removal, budget, names, ("a", "b", "c"))  # fmt: skip
    return replace(task, spatial="3") if modality == "image" else task


TRIAL_TASKS: dict[Modality, Callable[[], Task]] = {"table": table_task, "text": text_task, "image": image_task}


def spec_of(task: Task) -> TaskSpec:
    """Return a spec that says of a task what methods ask before they accept it."""
    return GivenTask(task.name, task, lambda: task, "a trial")


def first_rows(build: Callable[[], Task], rows: int = TEST) -> Callable[[], Task]:
    """Return what builds a task with its first test rows alone."""
    return partial(_shortened, build, rows)


def _shortened(build: Callable[[], Task], rows: int) -> Task:
    task = build()
    evidence = None if task.evidence is None else task.evidence[:rows]
    return replace(task, test=Split(task.test.x[:rows], task.test.y[:rows]), evidence=evidence)
