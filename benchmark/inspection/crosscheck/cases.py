"""Small fixed tasks whose models, inputs and attributions follow from a formula, so that they never change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmark.core.sources import Sources
from benchmark.core.types import Attribute, Budget, Modality, Removal, Split, Task
from benchmark.modalities.removal import ColumnRemoval, PixelRemoval, TokenRemoval
from benchmark.modalities.table import TableTask
from benchmark.models.training import freeze
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.metrics import METRICS, TEN
from benchmark.tasks.breast_cancer import breast_cancer_mlp

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
    """Tokens (B, G), 0 is padding: embeddings bent by their place, mean over real tokens, linear head.

    It takes embeddings (B, G, E) as well, with `real` (B, G) bool.
    """

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        """Return logits (B, 3)."""
        real = x != 0 if real is None else real
        vectors = x if x.is_floating_point() else self.embed(x)
        place = 1 + torch.arange(x.shape[1]).to(self.head.weight).view(1, -1, 1) / 7
        real = real.unsqueeze(-1)
        return self.head(4 * (torch.tanh(vectors * place) * real).sum(1) / real.sum(1))


class TyingModel(nn.Module):
    """Columns (B, G): the second class leads the first by what may be nothing, so that the two tie exactly."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.low, self.lead, self.third = (nn.Linear(features, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 3)."""
        low = 3 + self.low(x)
        return torch.cat([low, low + (self.lead(x) - 0.6).relu(), self.third(x)], 1)


@dataclass(frozen=True)
class Case:
    """A fixed task with attributions (N, G), and how it is evaluated (see `Evaluator`).

    `lookup` says whether its value table is used; `samples` are the rows taken (None: all), under `seed`, and
    `byte_budget` cuts them into batches; `bend` changes the attributions. `others`: whether other people's code is
    asked too, which wants groups of one size. `tolerance`: how far scores may differ where numbers vary in few digits.
    """

    name: str
    build: Callable[[], Task]
    lookup: bool = False
    seed: int = 0
    samples: tuple[int, ...] | None = None
    byte_budget: int | None = None
    bend: Callable[[Tensor], Tensor] = Tensor.clone
    others: bool = False
    tolerance: float = 0.0

    def task(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Task:
        """Return the task with its model and inputs in `dtype` on `device`."""
        task = self.build()
        task.model.to(device, dtype)
        x = task.test.x.to(device)
        split = Split(x.to(dtype) if x.is_floating_point() else x, task.test.y.to(device))
        return Task(**{**vars(task), "train": split, "test": split})

    def attributions(self, task: Task) -> Tensor:
        """Return attributions (N, G) float64 of the rows taken, on the task's device."""
        made = self.bend(formula(len(task.test.x), task.n_features, key=0.77)).to(task.test.x.device)
        return made if self.samples is None else made[list(self.samples)]

    def evaluator(self, task: Task, metrics: Sequence[str] = TEN) -> Evaluator:
        """Return the evaluator of the rows taken."""
        return Evaluator(
            task, self.seed, self.samples, metrics=metrics, value_table=self.lookup, byte_budget=self.byte_budget
        )


OTHERS = tuple(name for name in METRICS if METRICS.entry(name).built_in and name not in TEN)
"""Our metrics beyond the ten."""


def slopes(task: Task) -> Attribute:
    """Return an explainer that follows from a formula: slopes of the target's probability, times the input."""

    def explain(x: Tensor, target: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        task.model(x).softmax(-1).gather(1, target.unsqueeze(1)).sum().backward()
        assert x.grad is not None
        return task.removal.pool(x.grad * x.detach())

    return explain


def _task(name: str, modality: Modality, model: nn.Module, x: Tensor, removal: Removal, budget: Budget) -> Task:
    split = Split(x, torch.zeros(len(x), dtype=torch.long))
    features = tuple(f"f{i}" for i in range(removal.n_features))
    return Task(name, modality, "synthetic", fill(model), split, split, removal, budget, features, ("a", "b", "c"))


def mlp(features: int, baseline: Tensor, classes: int = 3, budget: Budget | None = None) -> Task:
    """Return a table task on an MLP."""
    model = nn.Sequential(nn.Linear(features, 16), nn.Tanh(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, classes))
    x = 1.5 * formula(SAMPLES, features, key=0.3)
    return _task(f"mlp{features}", "table", model, x, ColumnRemoval(baseline), budget or Budget(features))


def many_classes() -> Task:
    """Return a table task of 100 columns and 300 classes, so that probabilities are small."""
    return mlp(100, formula(100, key=0.9) / 2, classes=300)


def with_garbage(attributions: Tensor) -> Tensor:
    """Return attributions (10, 70) of `long_tokens` that are not finite at padding, where they do not matter."""
    rows = attributions.clone()
    for row, length in zip(rows, LENGTHS, strict=True):
        row[length:] = torch.nan
    return rows


def near(features: int) -> Task:
    """Return a table task of 100 classes and rows ever nearer to the baseline, so that answers vary ever less."""
    baseline = formula(features, key=0.9) / 2
    task = mlp(features, baseline, classes=100)
    distance = torch.tensor([1.0, 1, 1, 1, 1, 1, 2e-5, 5e-12, 0], dtype=torch.float64).unsqueeze(1)
    x = baseline + distance * formula(len(distance), features, key=0.3)
    split = Split(x, torch.zeros(len(x), dtype=torch.long))
    return Task(**{**vars(task), "train": split, "test": split})


def nearly_constant(attributions: Tensor) -> Tensor:
    """Return attributions (9, G): tiny, varying in their last digits, constant, not finite, as they are."""
    rows = attributions.clone()
    steps = (8 * attributions).round()
    rows[0] *= 2.0**-50
    rows[1] = 1 + steps[1] * 2.0**-36  # sums of these are exact
    rows[2] = 1 + steps[2] * 2.0**-50
    rows[3] = 0.3
    rows[4] = 0.0
    rows[5, 2] = torch.nan
    rows[8] = 0.3
    return rows


def tying(features: int, steps: int) -> Task:
    """Return a table task in which classes tie exactly when some columns are gone."""
    baseline = torch.zeros(features, dtype=torch.float64)
    x = 1.5 * formula(SAMPLES, features, key=0.6)
    budget = Budget(steps, 40, 1 / steps, 1)
    return _task("tying", "table", TyingModel(features), x, ColumnRemoval(baseline), budget)


def cnn(steps: int) -> Task:
    """Return an image task, 1 x 8 x 8, on a small CNN; INS inserts into a blurred image."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2), nn.Tanh(), nn.Flatten(),
        nn.Linear(54, 3),
    )  # fmt: skip
    x = 2 * formula(SAMPLES, 1, 8, 8, key=0.4)
    removal = PixelRemoval(torch.tensor([0.05], dtype=torch.float64), 8, 8, sigma=1.0)
    return _task("cnn", "image", model, x, removal, Budget(steps, 40, 1 / steps, 1))


def colour(steps: int) -> Task:
    """Return an image task, 3 x 10 x 13, on a small CNN; INS inserts into a blurred image."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(144, 3),
    )  # fmt: skip
    x = 2 * formula(SAMPLES, 3, 10, 13, key=0.4)
    removal = PixelRemoval(torch.tensor([0.05, -0.1, 0.2], dtype=torch.float64), 10, 13, sigma=1.0)
    task = _task("colour", "image", model, x, removal, Budget(steps, 40, 1 / steps, 1))
    return Task(**{**vars(task), "spatial": "3", "evidence": formula(SAMPLES, 130, key=0.8) > 0.5})


def tokens() -> Task:
    """Return a text task with padding: 2 to 12 tokens in at most 4 steps."""
    ids = 2 + ((formula(SAMPLES, 12, key=0.5) + 1) * 14).long().clamp(max=27)
    for row, length in zip(ids, (12, 8, 4, 3, 2, 12), strict=True):
        row[length:] = 0
    return _task("tokens", "text", TokenModel(), ids, TokenRemoval(12, 1, 0), Budget(4, 40, 1 / 4, 1))


LENGTHS = (70, 66, 37, 9, 3, 1, 7, 6, 5, 4)


def long_tokens() -> Task:
    """Return a text task with padding: 1 to 70 tokens in at most 8 steps of uneven size."""
    ids = 2 + ((formula(len(LENGTHS), 70, key=0.5) + 1) * 14).long().clamp(max=27)
    for row, length in zip(ids, LENGTHS, strict=True):
        row[length:] = 0
    return _task("long tokens", "text", TokenModel(), ids, TokenRemoval(70, 1, 0), Budget(8, 40, 1 / 8, 1))


def real_rows() -> tuple[Split, Split]:
    """Return training and test rows of real data, split and scaled as a model gets them."""
    spec = breast_cancer_mlp()
    assert isinstance(spec, TableTask)
    return spec.rows(spec.locate(Sources("real", offline=True)))


ZEROS = partial(torch.zeros, dtype=torch.float64)

CASES = (
    Case("mlp7, constant baseline, value table", lambda: mlp(7, ZEROS(7)), lookup=True, others=True),
    Case("mlp10, baseline per feature", lambda: mlp(10, formula(10, key=0.9) / 2), others=True),
    Case("cnn 1x8x8, single pixels", lambda: cnn(64), others=True),
    Case("cnn 1x8x8, 16 groups", lambda: cnn(16), others=True),
    Case("tokens with padding, 4 groups", tokens, others=True),
    Case("mlp11, value table, 4 uneven groups, batches", lambda: mlp(11, formula(11, key=0.9) / 2, budget=Budget(4)),
         lookup=True, seed=3, samples=(5, 0, 2), byte_budget=2 * 11 * 256),
    Case("mlp4, value table, subsets of the least size", lambda: mlp(4, ZEROS(4)), lookup=True),
    Case("mlp100, 300 classes", many_classes),
    Case("mlp100, 300 classes, another seed, some rows in batches", many_classes,
         seed=1, samples=(4, 1, 3), byte_budget=2 * 100 * 256),
    Case("mlp30, nearly constant, batches", lambda: near(30), byte_budget=3 * 30 * 256, bend=nearly_constant,
         tolerance=1e-7),
    Case("ties of classes, 8 uneven groups", lambda: tying(30, 8)),
    Case("cnn 3x10x13, 20 uneven groups", lambda: colour(20)),
    Case("tokens with padding, 8 uneven groups, batches", long_tokens, byte_budget=4 * 70 * 256,
         bend=with_garbage),
)  # fmt: skip
IMAGE_CASE = next(case for case in CASES if case.name.startswith("cnn 3x"))
TEXT_CASE = next(case for case in CASES if case.name.startswith("tokens"))
