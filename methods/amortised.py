"""What learned explainers share: players, coalitions, the encoder, training, and the cache of trained explainers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.core.seeding import seeded
from benchmark.core.store import EXPLAINERS, Made
from benchmark.core.types import Task
from benchmark.learning.encoder import SPREAD, Backbone, Shape, shape_of
from benchmark.learning.fitting import Fitting, fit, iterations
from benchmark.learning.objective import StatelessObjective
from benchmark.learning.prediction import Lead
from benchmark.learning.sizes import HEADS, SIZES
from benchmark.modalities.building import explainer_path
from benchmark.models.batching import Batching
from benchmark.models.metering import Meter, spent
from benchmark.models.training import freeze
from benchmark.models.weights import fill

VALIDATION = 64
"""Rows that validate, at most."""


class Players:
    """The players of the removal game: a table's columns, a text's real words, or the encoder's patches of an image.

    Padding never plays.

    Attributes:
        count: players n of the largest input.
        patch: pixels a side of a player, 1 where a player is one feature.
        side: players a side of an image.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.patch = shape_of(task, 1, 4, 1, 1).patch if task.modality == "image" else 1
        self.side = round(task.n_features**0.5) // self.patch
        self.count = self.side**2 if task.modality == "image" else task.n_features

    def valid(self, x: Tensor) -> Tensor:
        """Return (B, n) bool for inputs x (B, ...): True where there is a player."""
        if self.task.modality == "image":
            return torch.ones(len(x), self.count, dtype=torch.bool, device=x.device)
        return self.task.removal.valid(x)

    def features(self, players: Tensor) -> Tensor:
        """Return each feature's value (..., G) from that of its player, (..., n)."""
        if self.patch == 1:
            return players
        grid = players.unflatten(-1, (self.side, self.side))
        return grid.repeat_interleave(self.patch, -1).repeat_interleave(self.patch, -2).flatten(-2)

    def pool(self, features: Tensor) -> Tensor:
        """Return the mean over each player's features: (B, G, ...) to (B, n, ...)."""
        if self.patch == 1:
            return features
        n, p = self.side, self.patch
        return features.unflatten(1, (n, p, n, p)).mean((2, 4)).flatten(1, 2)

    def remove(self, x: Tensor, removed: Tensor) -> Tensor:
        """Return x (B, ...) without the players that are True in `removed` (B, n)."""
        return self.task.remove(x, self.features(removed))


def encoder_shape(task: Task, outputs: int) -> Shape:
    """Return the shape of the encoder that every learned explainer has on `task`."""
    return shape_of(task, outputs, **SIZES[task.modality], heads=HEADS)


def uniform_size(valid: Tensor, sets: int, generator: torch.Generator) -> Tensor:
    """Return sets (B, k, n) of uniform cardinality, none and all included: one threshold a set."""
    shape = len(valid), sets, valid.shape[1]
    threshold = torch.rand(*shape[:2], 1, generator=generator, device=valid.device)
    return (torch.rand(shape, generator=generator, device=valid.device) < threshold) & valid.unsqueeze(1)


def predictions(task: Task, x: Tensor, model: nn.Module | None = None) -> Tensor:
    """Return the probabilities (N, C), float32, of the task's model or a copy of it, in forwards of bounded size."""
    asked = task.model if model is None else model
    with torch.no_grad():
        return Batching(task).ask(x, lambda rows: asked(x[rows]).float().softmax(1))


def rows_for(task: Task, seed: int, rows: int | None = None) -> tuple[Tensor, int]:
    """Return `rows` of the task's training inputs, all by default, and how many of them, at the head, validate.

    A tenth does, at most 64 and at least one.
    """
    x = task.train.x
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).to(x.device)
    x = x[order[:rows]]
    return x, max(1, min(VALIDATION, len(x) // 10))


class Predictor(nn.Module):
    """Class logits (B, C), the mean over tokens, from an input of which some features are removed, or seen in part."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.backbone = Backbone(shape)

    def forward(
        self, x: Tensor, *, removed: Tensor | None = None, shown: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Return class logits (B, C).

        Args:
            x: inputs (B, ...).
            removed: (B, G) bool: the features that are replaced in x already.
            shown: in its place, the share (B, n) in [0, 1] of each player, and inputs (B, ...) without any player.
        """
        logits = self.backbone(x, removed=removed, shown=shown)  # (B, G, C)
        valid = self.backbone.valid(x)
        return (logits * valid.unsqueeze(-1)).sum(1) / valid.sum(1, keepdim=True).clamp(min=1)


class Imitation(StatelessObjective):
    """The objective of a masked predictor: KL(p(x) || g(x without S)), S of uniform cardinality.

    Its minimum is the conditional expectation of the prediction given the features that are left.
    Source: Jethani et al. 2022, eq. 7.

    Args:
        predictor: see `Predictor`, masked.
        players: who is removed.
        x: inputs (N, ...), of which the first `held` validate.
        p: the model's probabilities (N, C) for them.
        held: how many validate.
        batch: inputs a step.
    """

    def __init__(self, predictor: nn.Module, players: Players, x: Tensor, p: Tensor, held: int, batch: int) -> None:
        self.predictor, self.players, self.batch = predictor, players, batch
        self.x, self.p, self.held_x, self.held_p = x[held:], p[held:], x[:held], p[:held]

    def loss(self, generator: torch.Generator) -> Tensor:
        """See `Objective`."""
        rows = torch.randint(len(self.x), (self.batch,), generator=generator, device=self.x.device)
        return self._loss(self.x[rows], self.p[rows], generator)

    def _loss(self, x: Tensor, p: Tensor, generator: torch.Generator) -> Tensor:
        removed = uniform_size(self.players.valid(x), 1, generator)[:, 0]
        logits = self.predictor(self.players.remove(x, removed), removed=self.players.features(removed))
        return nn.functional.kl_div(logits.log_softmax(1), p, reduction="batchmean")

    def validate(self) -> dict[str, float]:
        """See `Objective`."""
        generator = torch.Generator(self.x.device).manual_seed(0)
        losses = [self._loss(self.held_x, self.held_p, generator) for _ in range(8)]
        return {"loss": float(torch.stack(losses).mean())}


@dataclass(frozen=True, eq=False)
class AmortisedExplainer:
    """An attribution function with the report of its training: a `TrainedExplainer`.

    Attributes:
        explain: maps inputs (B, ...) and targets (B,) to attributions (B, G).
        report: see `TrainedExplainer`.
    """

    explain: Callable[[Tensor, Tensor], Tensor]
    report: dict[str, Any]

    def __call__(self, x: Tensor, target: Tensor) -> Tensor:
        """Return attributions (B, G)."""
        with torch.no_grad():
            return self.explain(x, target)


@dataclass(frozen=True, eq=False)
class AmortisedExplainerWithInterval(AmortisedExplainer):
    """An amortised explainer that also knows how sure it is: an `UncertainExplainer`.

    Attributes:
        ends: maps inputs (B, ...) to the lower and upper ends (B, G) of what the attribution may be.
    """

    ends: Callable[[Tensor], tuple[Tensor, Tensor]]

    def interval(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `UncertainExplainer`."""
        with torch.no_grad():
            return self.ends(x)


class Labelled(nn.Module):
    """The encoder with numbers for each feature (B, G, outputs), conditioned on the class where `classes` is not 0.

    Args:
        task: what is explained; the encoder begins with its model's word vectors.
        outputs: numbers for each feature.
        classes: how many classes the encoder is told apart by, 0 for none.
        hints: J, where the encoder is also given hints and the margin of the class, 0 otherwise.
    """

    def __init__(self, task: Task, outputs: int, classes: int = 0, hints: int = 0) -> None:
        super().__init__()
        assert classes or not hints, "hints are of a class"
        self.backbone = Backbone(replace(encoder_shape(task, outputs), given=hints))
        self.backbone.start_from(task)
        self.label = nn.Parameter(SPREAD * torch.randn(classes, self.backbone.shape.width)) if classes else None
        self.lead = Lead(self.backbone.shape.width) if hints else None

    def forward(
        self, x: Tensor, target: Tensor | None = None, margin: Tensor | None = None, hints: Tensor | None = None
    ) -> Tensor:
        """Return (B, G, outputs) for inputs and, where given, targets and margins (B,), and hints (B, G, J)."""
        if self.label is None:
            return self.backbone(x)
        assert target is not None, "an encoder that is conditioned on the class needs it"
        token = self.label[target]
        if self.lead is not None:
            assert margin is not None, "an encoder that is given the margin needs it"
            token = token + self.lead(margin)
        return self.backbone(x, token.unsqueeze(1), given=hints)


def predictor_for(task: Task) -> Predictor:
    """Return an untrained masked predictor of the task's classes that starts from its model's word vectors."""
    predictor = Predictor(replace(encoder_shape(task, len(task.class_names)), masked=True))
    predictor.backbone.start_from(task)
    return predictor


def trained(
    task: Task,
    method: str,
    settings: Any,
    seed: int,
    build: Callable[[], nn.Module],
    train: Callable[[nn.Module, Path], dict[str, Any]],
) -> tuple[nn.Module, dict[str, Any]]:
    """Return a trained module from the cache, or build and train it and store it there.

    Args:
        task: what it is trained on.
        method: the name under which it is stored.
        settings: all that the module depends on but task, seed and the source of `train`, as plain data.
        seed: of its first weights, and of the file.
        build: makes the module, untrained.
        train: trains the module; it also gets a path for its checkpoint, and returns the report.

    Returns:
        The module, frozen, and the report with the costs of training added.
    """
    path = explainer_path(method, train.__module__, task, settings, seed)

    def untrained() -> nn.Module:
        with seeded(seed):
            return build().to(task.train.x.device)

    def make() -> Made:
        module, meter = untrained(), Meter()
        with meter.phase("training", task.model):
            report = train(module, path.with_suffix(".pt"))
        report |= {"iterations": iterations(report["curves"]), "costs": meter.summary()}
        return module.state_dict(), report

    module = untrained()
    _, report = EXPLAINERS.get(path, make, lambda state, _: fill(module, state))
    return freeze(module), report


def combined(report: dict[str, Any], first: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return `report` with the iterations of what was trained before it, `what`, and its costs, told apart by name."""
    costs = {f"{what} {key}": cost for key, cost in first.get("costs", {}).items()}
    count = first.get("iterations", 0) + report["iterations"]
    return report | {"iterations": count, "costs": costs | report["costs"]}


def halves(iterations: int, seconds: float | None) -> dict[str, Any]:
    """Return `iterations` and `seconds` of each of two trainings that share them."""
    return {"iterations": -(-iterations // 2), "seconds": None if seconds is None else seconds / 2}


def fitting_for(iterations: int, seconds: float | None) -> Fitting:
    """Return how a learned explainer is fitted; of `seconds`, what its training has taken so far is no longer left."""
    return Fitting(iterations, 1e-3, seconds=seconds).less(spent().seconds, "preparing the rows")


def surrogate_of(
    task: Task, seed: int, iterations: int, seconds: float | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """Return a masked predictor of the task's model, trained on random removals, and the report of its training."""
    players = Players(task)

    def train(module: nn.Module, checkpoint: Path) -> dict[str, Any]:
        x, held = rows_for(task, seed)
        objective = Imitation(module, players, x, predictions(task, x), held, 64)
        return {"curves": fit(module, objective, fitting_for(iterations, seconds), seed, checkpoint, "surrogate")}

    return trained(task, "surrogate", [iterations, seconds], seed, lambda: predictor_for(task), train)
