"""Trains target models, and says how good they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.seeding import seeded
from benchmark.types import Split


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: AdamW under a one-cycle rate. `weighted` weighs classes by inverse frequency."""

    epochs: int
    batch: int
    rate: float
    decay: float
    weighted: bool
    seed: int = 0


def train(build: Callable[[], nn.Module], data: Split, classes: int, recipe: Recipe) -> nn.Module:
    """Return a trained model in eval mode with frozen parameters; the same seed gives the same weights."""
    with seeded(recipe.seed):
        model = build().to(data.x.device).train()
        weight = None
        if recipe.weighted:
            counts = torch.bincount(data.y, minlength=classes).clamp(min=1)
            weight = len(data.y) / (classes * counts.to(data.x.dtype))
        optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
        batches = max(1, len(data.x) // recipe.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=recipe.epochs * batches)
        for _ in range(recipe.epochs):
            order = torch.randperm(len(data.x), device=data.x.device)
            for rows in order[: batches * recipe.batch].chunk(batches):
                optimiser.zero_grad()
                F.cross_entropy(model(data.x[rows]), data.y[rows], weight).backward()
                optimiser.step()
                schedule.step()
    return freeze(model)


def freeze(model: nn.Module) -> nn.Module:
    """Return `model` in eval mode, its parameters asking for no gradient."""
    return model.eval().requires_grad_(False)


@torch.inference_mode()
def accuracies(model: nn.Module, data: Split, classes: int) -> dict[str, float]:
    """Return accuracy and balanced accuracy (mean recall over the classes present) on `data`."""
    predicted = torch.cat([model(part).argmax(-1) for part in data.x.split(1024)])
    recalls: list[Tensor] = []
    for label in range(classes):
        own = data.y == label
        if own.any():
            recalls.append((predicted[own] == label).double().mean())
    return {
        "accuracy": (predicted == data.y).double().mean().item(),
        "balanced_accuracy": torch.stack(recalls).mean().item(),
        "predicted_classes": int(predicted.unique().numel()),
    }
