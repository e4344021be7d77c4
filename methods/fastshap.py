"""FastSHAP: Shapley values of the model, or of a masked surrogate, learned by weighted regression on coalitions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from benchmark.core.parameters import Space, bounded, parameters, with_defaults
from benchmark.core.types import METHODS, Attribute, Method, Modality, Task, TaskSpec
from benchmark.learning.fitting import Fitting, fit
from benchmark.learning.objective import StatelessObjective
from benchmark.models.batching import Batching
from benchmark.models.outputs import OUTPUTS, outputs
from methods.amortised import AmortisedExplainer, Labelled, Players, combined, rows_for, surrogate_of, trained

DEFAULTS: dict[Modality, dict[str, int]] = {
    "table": {"iterations": 2000, "batch": 64, "coalitions": 16},
    "text": {"iterations": 1000, "batch": 32, "coalitions": 8},
    "image": {"iterations": 1000, "batch": 32, "coalitions": 8},
}
VALUES = ("model", "surrogate")
MANY_CLASSES = 10
"""With more classes than this the explainer learns the predicted class's values alone, conditioned on which it is."""


def shapley_coalitions(valid: Tensor, pairs: int, generator: torch.Generator) -> Tensor:
    """Return coalitions (B, 2 * pairs, n) of present players, drawn as the Shapley kernel weighs them.

    Sizes s = 1..n-1 have probability proportional to 1 / (s (n - s)), n the sample's own number of players; members
    are uniform, and every second coalition is the complement of the one before. Source: Jethani et al. 2022, eq. 5.

    Args:
        valid: (B, n) bool, where there is a player; padding is never present.
        pairs: of a coalition and its complement, for each input.
        generator: draws them.
    """
    count = valid.sum(1)
    most = valid.shape[1]
    size = torch.arange(1, max(2, most), device=valid.device)
    others = (count.unsqueeze(1) - size).clamp(min=0)
    weights = torch.where(others > 0, 1.0 / (size * others.clamp(min=1)), 0.0)
    weights[count < 2, 0] = 1.0  # a single player has no proper coalition: it is alone, then absent
    drawn = torch.multinomial(weights, pairs, replacement=True, generator=generator) + 1
    keys = torch.rand(len(valid), pairs, most, generator=generator, device=valid.device)
    place = keys.masked_fill(~valid.unsqueeze(1), 2.0).argsort(2).argsort(2)
    present = (place < drawn.unsqueeze(2)) & valid.unsqueeze(1)
    return torch.stack([present, ~present & valid.unsqueeze(1)], 2).flatten(1, 2)


def normalised(phi: Tensor, valid: Tensor, total: Tensor) -> Tensor:
    """Return phi (B, n, C) shifted so that each class's values add up to `total` (B, C): additive normalisation.

    Every valid player gets the same share of the gap. Source: Jethani et al. 2022, section 3.3.
    """
    phi = phi * valid.unsqueeze(-1)
    gap = (total - phi.sum(1)) / valid.sum(1, keepdim=True).clamp(min=1)
    return phi + gap.unsqueeze(1) * valid.unsqueeze(-1)


def weighted_regression(phi: Tensor, present: Tensor, values: Tensor, empty: Tensor) -> Tensor:
    """Return n * mean of (v(empty) + sum of phi over the coalition - v(coalition))^2, a scalar.

    phi (B, n, C); present (B, k, n): coalitions drawn by the Shapley kernel; values (B, k, C); empty (B, C).
    """
    predicted = empty.unsqueeze(1) + present.to(phi) @ phi  # (B, k, C)
    return phi.shape[1] * ((predicted - values) ** 2).mean()


Value = Callable[[Tensor, Tensor], Tensor]
"""Values (B, k, C) of coalitions (B, k, n) of present players, for inputs (B, ...)."""


def ends_of(valid: Tensor) -> Tensor:
    """Return the coalitions of nobody and of all players, (B, 2, n), for players (B, n)."""
    return torch.stack([torch.zeros_like(valid), valid], 1)


class Regression(StatelessObjective):
    """The objective of a FastSHAP explainer; see `benchmark.learning.fitting.Objective`.

    Args:
        phi: maps inputs (B, ...) to values (B, n, C) of players.
        value: the game.
        x: inputs (N, ...) that are fitted.
        held: inputs that validate, under 32 coalitions each that stay the same.
        valid: maps inputs to (B, n) bool, where there is a player.
        batch: inputs a step.
        coalitions: of each input a step, in pairs.
        normalise: see `normalised`.
        penalty: weight of the squared gap that normalisation closes.
    """

    def __init__(
        self,
        phi: Callable[[Tensor], Tensor],
        value: Value,
        x: Tensor,
        held: Tensor,
        valid: Callable[[Tensor], Tensor],
        batch: int,
        coalitions: int,
        normalise: bool = True,
        penalty: float = 0.0,
    ) -> None:
        self.phi, self.value, self.x, self.held, self.valid = phi, value, x, held, valid
        self.batch, self.pairs = batch, max(1, coalitions // 2)
        self.normalise, self.penalty = normalise, penalty
        self.fixed = shapley_coalitions(valid(held), 16, torch.Generator(x.device).manual_seed(0))

    def loss(self, generator: torch.Generator) -> Tensor:
        """See `Objective`."""
        rows = torch.randint(len(self.x), (self.batch,), generator=generator, device=self.x.device)
        x = self.x[rows]
        return self._loss(x, shapley_coalitions(self.valid(x), self.pairs, generator))

    def _loss(self, x: Tensor, present: Tensor) -> Tensor:
        valid = self.valid(x)
        with torch.no_grad():
            values = self.value(x, torch.cat([ends_of(valid), present], 1))
        empty, whole, values = values[:, 0], values[:, 1], values[:, 2:]
        phi = self.phi(x) * valid.unsqueeze(-1)
        gap = whole - empty - phi.sum(1)
        penalty = self.penalty * (gap**2).mean()
        phi = normalised(phi, valid, whole - empty) if self.normalise else phi
        return weighted_regression(phi, present, values, empty) + penalty

    def validate(self) -> dict[str, float]:
        """See `Objective`."""
        return {"loss": float(self._loss(self.held, self.fixed))}


class Game:
    """The values of coalitions: each class's output with only some players present.

    Args:
        task: whose model, and whose way to remove features, is asked.
        players: who is present or removed.
        surrogate: is asked in the model's place where it is given: a masked predictor of its classes.
        predicted_only: values are of the predicted class alone, so C is 1.
        output: which output, see `benchmark.models.outputs`.
    """

    def __init__(
        self, task: Task, players: Players, surrogate: nn.Module | None, predicted_only: bool, output: str
    ) -> None:
        self.task, self.players, self.surrogate, self.predicted_only = task, players, surrogate, predicted_only
        self.output = output
        self.batching = Batching(task)

    def __call__(self, x: Tensor, present: Tensor) -> Tensor:
        """Return the values (B, k, C) of coalitions `present` (B, k, n), for inputs x (B, ...)."""
        sets = present.shape[1]
        removed = (~present & self.players.valid(x).unsqueeze(1)).flatten(0, 1)  # (B * k, n)
        repeated = x.repeat_interleave(sets, 0)
        values = self.batching.ask(
            repeated, lambda rows: outputs(self._logits(repeated[rows], removed[rows]).float(), self.output)
        ).unflatten(0, (len(x), sets))
        if not self.predicted_only:
            return values
        return values.gather(2, self.predicted(x).view(-1, 1, 1).expand(-1, sets, 1))

    def _logits(self, x: Tensor, removed: Tensor) -> Tensor:
        """Return logits (m, C) of inputs x (m, ...) without the players that are True in `removed` (m, n)."""
        without = self.players.remove(x, removed)
        if self.surrogate is None:
            return self.task.model(without)
        return self.surrogate(without, removed=self.players.features(removed))

    @torch.no_grad()
    def predicted(self, x: Tensor) -> Tensor:
        """Return the class (B,) that the model predicts for inputs x (B, ...)."""
        return self.batching.ask(x, lambda rows: self.task.model(x[rows])).argmax(1)


@METHODS.register(
    "fastshap",
    kind="learned",
    modalities=("table", "text", "image"),
    told={
        "training rows": "yes",
        "prediction": "all classes' outputs, features removed",
        "optimises": "falls over subsets by least squares, near FC and INF",
        "sign": "signed",
        "rows an explanation": "2 forward",
        "rows in training": "iterations * batch * (coalitions + 2) forward; N with value=surrogate",
    },
)
@dataclass(frozen=True)
class FastShap(Method):
    """Shapley values in one forward pass (FastSHAP, Jethani et al. 2022).

    Args:
        output: what is explained, see `benchmark.models.outputs`.
        value: the game. `model` asks the model, features removed as the task and its metrics do, which makes it the
            game of exact_shapley and kernel_shap; `surrogate` is the paper's, a masked imitation of the model, which is
            near the expected prediction given the features that are present.
        normalise: whether values are shifted so that they add up to what all players change together (section 3.3).
        penalty: weight of the squared gap that normalisation closes, at least 0.
        iterations: training steps.
        batch: inputs a step.
        coalitions: of each input a step, in pairs of complements.

    Example:
        >>> explain = FastShap(iterations=500).prepare(task, seed=0)
        >>> explain(x, target)  # (B, G)
    """

    space: ClassVar[Space] = Space(
        {"output": OUTPUTS, "value": VALUES, "coalitions": (8, 16, 32), "penalty": (0.0, 0.1)}
    )
    output: str = bounded("probability", among=OUTPUTS)
    value: str = bounded("model", among=VALUES)
    normalise: bool = True
    penalty: float = bounded(0.0, low=0)
    iterations: int | None = bounded(None, low=1)
    batch: int | None = bounded(None, low=1)
    coalitions: int | None = bounded(None, low=2)

    def resolved(self, task: Task | TaskSpec) -> Self:
        """See `Method`."""
        return with_defaults(self, DEFAULTS[task.modality])

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; the explainer is a `TrainedExplainer`.

        Raises:
            DivergedError: a loss is not finite.
        """
        settings = parameters(self.resolved(task))
        iterations = settings["iterations"]
        players, classes = Players(task), len(task.class_names)
        conditioned = classes > MANY_CLASSES
        surrogate, surrogate_report = surrogate_of(task, seed, iterations) if self.value == "surrogate" else (None, {})
        game = Game(task, players, surrogate, conditioned, self.output)

        def build() -> nn.Module:
            return Labelled(task, 1, classes) if conditioned else Labelled(task, classes)

        def phi(module: nn.Module, x: Tensor, target: Tensor | None = None) -> Tensor:
            """Return values (B, n, C) as the module predicts them; those of `target`, C = 1, where conditioned."""
            if not conditioned:
                return players.pool(module(x))
            return players.pool(module(x, game.predicted(x) if target is None else target))

        def train(module: nn.Module, checkpoint: Path) -> dict[str, Any]:
            x, held = rows_for(task, seed)
            objective = Regression(
                lambda rows: phi(module, rows),
                game,
                x[held:],
                x[:held],
                players.valid,
                settings["batch"],
                settings["coalitions"],
                self.normalise,
                self.penalty,
            )
            return {"curves": fit(module, objective, Fitting(iterations, 1e-3), seed, checkpoint, "fastshap")}

        module, report = trained(task, "fastshap", settings, seed, build, train)

        def explain(x: Tensor, target: Tensor) -> Tensor:
            valid = players.valid(x)
            values = phi(module, x, target) * valid.unsqueeze(-1)  # (B, n, C)
            if self.normalise:
                ends = game(x, ends_of(valid))  # (B, 2, C)
                values = normalised(values, valid, ends[:, 1] - ends[:, 0])
            column = torch.zeros_like(target) if conditioned else target
            of_target = values.gather(2, column.view(-1, 1, 1).expand(-1, values.shape[1], 1)).squeeze(2)
            return players.features(of_target) / players.patch**2  # a player's value is split evenly

        return AmortisedExplainer(explain, combined(report, surrogate_report, "surrogate"))
