"""Small fixed tasks whose models, inputs and attributions come from a formula, so that they never change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.models.training import freeze
from benchmark.tasks.removal import ColumnRemoval, PixelRemoval, TokenRemoval
from benchmark.types import Budget, Modality, Removal, Split, Task

SAMPLES = 6


def formula(*shape: int, key: float) -> Tensor:
    """Return numbers of both signs, without ties, in [-1, 1): float64."""
    index = torch.arange(1, 1 + torch.Size(shape).numel(), dtype=torch.float64)
    return (torch.sin(index * (1.7 + key) + key) * 997.0).frac().reshape(shape)


def fill(model: nn.Module, gain: float = 2.0) -> nn.Module:
    """Give every parameter of `model` a value by formula, scaled by its fan-in; return it frozen, in float64."""
    model = model.double()
    for number, parameter in enumerate(model.parameters()):
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 4
        parameter.data = formula(*parameter.shape, key=0.1 * (number + 1)) * gain / fan_in**0.5
    return freeze(model)


class TokenModel(nn.Module):
    """Tokens (B, G), 0 is padding: embeddings bent by their place, mean over real tokens, linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits (B, 3)."""
        real = (ids != 0).unsqueeze(-1)
        place = 1 + torch.arange(ids.shape[1]).to(self.head.weight).view(1, -1, 1) / 7
        vectors = torch.tanh(self.embedding(ids) * place)
        return self.head(4 * (vectors * real).sum(1) / real.sum(1))


@dataclass(frozen=True)
class Case:
    """A fixed task with attributions (N, G). `lookup` says whether its value table is used."""

    name: str
    build: Callable[[], Task]
    lookup: bool = False

    def task(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Task:
        """Return the task with its model and inputs in `dtype` on `device`."""
        task = self.build()
        task.model.to(device, dtype)
        x = task.test.x.to(device)
        split = Split(x.to(dtype) if x.is_floating_point() else x, task.test.y.to(device))
        return Task(**{**vars(task), "train": split, "test": split})

    def attributions(self, task: Task) -> Tensor:
        """Return attributions (N, G) float64 on the task's device."""
        return formula(len(task.test.x), task.n_features, key=0.77).to(task.test.x.device)


def _task(name: str, modality: Modality, model: nn.Module, x: Tensor, removal: Removal, budget: Budget) -> Task:
    split = Split(x, torch.zeros(len(x), dtype=torch.long))
    features = tuple(f"f{i}" for i in range(removal.n_features))
    return Task(name, modality, "synthetic", fill(model), split, split, removal, budget, features, ("a", "b", "c"))


def mlp(features: int, baseline: Tensor) -> Task:
    """Return a table task on an MLP."""
    model = nn.Sequential(nn.Linear(features, 16), nn.Tanh(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    x = 1.5 * formula(SAMPLES, features, key=0.3)
    return _task(f"mlp{features}", "table", model, x, ColumnRemoval(baseline), Budget(features))


def cnn(steps: int) -> Task:
    """Return an image task, 1 x 8 x 8, on a small CNN; INS inserts into a blurred image."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2), nn.Tanh(), nn.Flatten(),
        nn.Linear(54, 3),
    )  # fmt: skip
    x = 2 * formula(SAMPLES, 1, 8, 8, key=0.4)
    removal = PixelRemoval(torch.tensor([0.05], dtype=torch.float64), 8, 8, sigma=1.0)
    return _task("cnn", "image", model, x, removal, Budget(steps, 40, 1 / steps, 1))


def tokens() -> Task:
    """Return a text task with padding: 2 to 12 tokens in at most 4 steps."""
    ids = 2 + ((formula(SAMPLES, 12, key=0.5) + 1) * 14).long().clamp(max=27)
    for row, length in zip(ids, (12, 8, 4, 3, 2, 12), strict=True):
        row[length:] = 0
    return _task("tokens", "text", TokenModel(), ids, TokenRemoval(12, 1, 0), Budget(4, 40, 1 / 4, 1))


CASES = (
    Case("mlp7, constant baseline, value table", lambda: mlp(7, torch.zeros(7, dtype=torch.float64)), lookup=True),
    Case("mlp10, baseline per feature", lambda: mlp(10, formula(10, key=0.9) / 2)),
    Case("cnn 1x8x8, single pixels", lambda: cnn(64)),
    Case("cnn 1x8x8, 16 groups", lambda: cnn(16)),
    Case("tokens with padding, 4 groups", tokens),
)
