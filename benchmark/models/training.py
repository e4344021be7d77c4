"""Trains target models and measures their accuracy."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.core.seeding import seeded
from benchmark.processes.progress import tqdm

if TYPE_CHECKING:
    from benchmark.core.types import Split

BUCKET = 50
"""Texts of this many batches are sorted by length, so that those in one batch are about equally long."""
MAX_NORM = 1.0


@dataclass(frozen=True)
class TrainingRecipe:
    """How a model is trained: AdamW under a one-cycle rate. `weighted` weighs classes by inverse frequency.

    `smoothing` is that of the labels; `clip` bounds the norm of the gradient by 1; `mixed` computes in bfloat16 on a
    GPU.
    """

    epochs: int
    batch: int
    rate: float
    decay: float
    weighted: bool = False
    smoothing: float = 0.0
    clip: bool = False
    mixed: bool = False
    seed: int = 0


def train(
    build: Callable[[], nn.Module], data: Split, classes: int, recipe: TrainingRecipe, *,
    augment: Callable[[Tensor], Tensor] | None = None, lengths: Tensor | None = None, device: str | None = None,
) -> nn.Module:  # fmt: skip
    """Return a trained model in eval mode with frozen parameters; the same seed gives the same weights.

    `augment` changes a batch before the model sees it; with `lengths`
    (N,) batches hold texts of like length. Progress is shown on a terminal.
    """
    with seeded(recipe.seed):
        model_device = data.x.device if device is None else torch.device(device)
        model = build().to(model_device).train()
        mixed = recipe.mixed and model_device.type == "cuda"
        weight = None
        if recipe.weighted:
            counts = torch.bincount(data.y, minlength=classes).clamp(min=1)
            weight = (len(data.y) / (classes * counts.double())).float().to(model_device)
        optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
        batches = max(1, len(data.x) // recipe.batch)
        total = recipe.epochs * batches
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=total)
        with tqdm(total=total, desc="training", unit="batch", disable=not sys.stderr.isatty(), leave=False) as bar:
            for _ in range(recipe.epochs):
                for rows in _batches(len(data.x), batches, recipe.batch, lengths, data.x.device):
                    x = data.x[rows].to(model_device)
                    x = x if augment is None else augment(x)
                    optimiser.zero_grad()
                    with torch.autocast(model_device.type, torch.bfloat16, enabled=mixed):
                        logits = model(x)
                    labels = data.y[rows].to(model_device)
                    F.cross_entropy(logits.float(), labels, weight, label_smoothing=recipe.smoothing).backward()
                    if recipe.clip:
                        nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
                    optimiser.step()
                    schedule.step()
                    bar.update()
    return freeze(model)


def _batches(rows: int, batches: int, size: int, lengths: Tensor | None, device: torch.device) -> list[Tensor]:
    """Return the row numbers of one epoch's batches."""
    order = torch.randperm(rows, device=device)[: batches * size]
    if lengths is None:
        return list(order.chunk(batches))
    near = [part for group in order.split(size * BUCKET) for part in group[lengths[group].argsort()].split(size)]
    return [near[i] for i in torch.randperm(len(near)).tolist()][:batches]


@torch.no_grad()
def settle(model: nn.Module, x: Tensor, batch: int = 32) -> nn.Module:
    """Take the statistics of batch normalisation anew from inputs x (N, ...) as they are, and return the frozen model.

    For a model trained on parts of images and asked about whole ones, whose statistics differ (Touvron et al. 2019).
    """
    layers = [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over batches
        layer.train()
    model_device = next(model.parameters()).device
    for rows in x.split(batch) if layers else ():
        model(rows.to(model_device))
    return freeze(model)


def freeze(model: nn.Module) -> nn.Module:
    """Return `model` in eval mode, its parameters asking for no gradient."""
    return model.eval().requires_grad_(False)


@contextmanager
def all_threads() -> Iterator[None]:
    """Let torch use every core inside the block, or as many as OMP_NUM_THREADS says: for training large models."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def predict(model: nn.Module, x: Tensor, batch: int = 1024) -> Tensor:
    """Return the predicted class (N,) of each row of x, on the device of x."""
    model_device = next(model.parameters()).device
    return torch.cat([model(part.to(model_device)).argmax(-1).to(x.device) for part in x.split(batch)])


def accuracies(model: nn.Module, data: Split, classes: int, batch: int = 1024) -> dict[str, float]:
    """Return accuracy and balanced accuracy (mean recall over the classes present) on `data`."""
    predicted = predict(model, data.x, batch)
    recalls: list[Tensor] = []
    for label in range(classes):
        members = data.y == label
        if members.any():
            recalls.append((predicted[members] == label).double().mean())
    return {
        "accuracy": (predicted == data.y).double().mean().item(),
        "balanced_accuracy": torch.stack(recalls).mean().item(),
        "predicted_classes": int(predicted.unique().numel()),
    }
