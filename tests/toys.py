"""Small random tasks of each modality, in float64, for comparing fast code with its slow twin."""

from __future__ import annotations

import torch
from torch import nn

from benchmark.core.seeding import seeded
from benchmark.core.types import Budget, Split, Task
from benchmark.modalities.removal import ColumnRemoval, PixelRemoval, TokenRemoval
from benchmark.models.training import freeze

SAMPLES = 11


def make(model, x, removal, budget, modality, name="toy"):
    labels = torch.zeros(len(x), dtype=torch.long)
    return Task(
        name=name,
        modality=modality,
        source="synthetic",
        model=freeze(model.double()),
        train=Split(x, labels),
        test=Split(x, labels),
        removal=removal,
        budget=budget,
        feature_names=tuple(f"f{i}" for i in range(removal.n_features)),
        class_names=("a", "b", "c"),
    )


def table(features=7, samples=SAMPLES, seed=0):
    with seeded(seed):
        model = nn.Sequential(nn.Linear(features, 16), nn.Tanh(), nn.Linear(16, 3))
        x, means = torch.randn(samples, features).double() * 2, torch.randn(features).double()
    return make(model, x, ColumnRemoval(means), Budget(features), "table")


class BagOfTokens(nn.Module):
    """Attention-free token model that honours padding: mean of embeddings of real tokens, then an MLP."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30, 8)
        self.head = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))

    def forward(self, ids, real=None):
        """Word numbers (B, L), or embeddings (B, L, 8) and which words are real (B, L), to logits."""
        embedded = self.embed(ids) if real is None else ids
        real = (ids != 0 if real is None else real).unsqueeze(-1)
        place = 1 + torch.arange(ids.shape[1], device=ids.device).view(1, -1, 1) / 10
        vectors = torch.sin(embedded * place * 3)
        return self.head((vectors * real).sum(1) / real.sum(1) * 3)


def text(length=23, steps=6, samples=SAMPLES, seed=0):
    """Texts of 1 to `length` tokens: shorter than, equal to and longer than the number of steps."""
    with seeded(seed):
        model = BagOfTokens()
        x = torch.randint(2, 30, (samples, length))
        lengths = [1, 2, steps - 1, steps, steps + 1, length, length, *torch.randint(1, length, (samples,)).tolist()]
    for row, keep in zip(x, lengths, strict=False):
        row[keep:] = 0
    budget = Budget(steps, subsets=13, subset_fraction=1 / steps, subset_minimum=1)
    return make(model, x, TokenRemoval(length, mask_id=1, pad_id=0), budget, "text")


def image(side=6, steps=5, samples=SAMPLES, seed=0):
    with seeded(seed):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * (side - 2) ** 2, 3))
        x, means = torch.randn(samples, 3, side, side).double(), torch.randn(3).double()
    budget = Budget(steps, subsets=13, subset_fraction=1 / steps, subset_minimum=1)
    return make(model, x, PixelRemoval(means, side, side, sigma=1.0), budget, "image")


def flat_image():
    """Images that are inserted into the same baseline that removal uses."""
    task = image()
    return make(task.model, task.test.x, PixelRemoval(task.removal.means, 6, 6, sigma=None), task.budget, "image")


TASKS = {"table": table, "text": text, "image": image}


def scores(task, seed=1):
    """Return tie-free random attributions for the task's test samples."""
    with seeded(seed):
        return torch.randn(len(task.test.x), task.n_features).double()


class Linear(nn.Module):
    """A model whose target probability is exactly linear in which features are there (two classes)."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x):
        p = 0.6 + x @ self.weights
        return torch.stack([p, 1 - p], -1).log()


class Tight:
    """Raises as a GPU does when a forward of a model has more than `rows` rows, until `hook` is removed."""

    def __init__(self, model, rows):
        self.rows, self.hook = rows, model.register_forward_pre_hook(self.check)

    def check(self, _module, inputs):
        if len(inputs[0]) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
