"""FastSHAP: Shapley values of the model, or of a masked surrogate, learned by weighted regression on coalitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from benchmark.core.parameters import Space, bounded, parameters, with_defaults
from benchmark.core.types import METHODS, Attribute, Method, Modality, Task, TaskSpec, Told
from benchmark.learning.beside import GIVEN, Beside, methods_beside, nothing
from benchmark.learning.fitting import fit
from benchmark.learning.objective import StatelessObjective
from benchmark.models.batching import Batching
from benchmark.models.outputs import OUTPUTS, outputs
from methods.amortised import (
    AmortisedExplainer,
    Labelled,
    Players,
    combined,
    fitting_for,
    halves,
    rows_for,
    surrogate_of,
    trained,
)

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


Value = Callable[..., Tensor]
"""Values (B, k, C) of coalitions (B, k, n) of present players, for inputs (B, ...) and, where known, classes (B,)."""


def ends_of(valid: Tensor) -> Tensor:
    """Return the coalitions of nobody and of all players, (B, 2, n), for players (B, n)."""
    return torch.stack([torch.zeros_like(valid), valid], 1)


class Regression(StatelessObjective):
    """The objective of a FastSHAP explainer; see `benchmark.learning.fitting.Objective`.

    Args:
        phi: maps inputs (B, ...), and what is given beside them, to values (B, n, C) of players.
        value: the game.
        x: inputs (N, ...) that are fitted.
        held: inputs that validate, under 32 coalitions each that stay the same.
        valid: maps inputs to (B, n) bool, where there is a player.
        batch: inputs a step.
        coalitions: of each input a step, in pairs.
        normalise: see `normalised`.
        penalty: weight of the squared gap that normalisation closes.
        given: maps rows of x to what is given beside them: nothing, or first the class that values are of.
        held_given: the same of `held`.
    """

    def __init__(
        self,
        phi: Callable[..., Tensor],
        value: Value,
        x: Tensor,
        held: Tensor,
        valid: Callable[[Tensor], Tensor],
        batch: int,
        coalitions: int,
        normalise: bool = True,
        penalty: float = 0.0,
        given: Callable[[Tensor], tuple[Tensor, ...]] = nothing,
        held_given: tuple[Tensor, ...] = (),
    ) -> None:
        self.phi, self.value, self.x, self.held, self.valid = phi, value, x, held, valid
        self.batch, self.pairs = batch, max(1, coalitions // 2)
        self.normalise, self.penalty = normalise, penalty
        self.given, self.held_given = given, held_given
        self.fixed = shapley_coalitions(valid(held), 16, torch.Generator(x.device).manual_seed(0))

    def loss(self, generator: torch.Generator) -> Tensor:
        """See `Objective`."""
        rows = torch.randint(len(self.x), (self.batch,), generator=generator, device=self.x.device)
        x = self.x[rows]
        return self._loss(x, shapley_coalitions(self.valid(x), self.pairs, generator), *self.given(rows))

    def _loss(self, x: Tensor, present: Tensor, *given: Tensor) -> Tensor:
        valid = self.valid(x)
        with torch.no_grad():
            values = self.value(x, torch.cat([ends_of(valid), present], 1), *given[:1])
        empty, whole, values = values[:, 0], values[:, 1], values[:, 2:]
        phi = self.phi(x, *given) * valid.unsqueeze(-1)
        gap = whole - empty - phi.sum(1)
        penalty = self.penalty * (gap**2).mean()
        phi = normalised(phi, valid, whole - empty) if self.normalise else phi
        return weighted_regression(phi, present, values, empty) + penalty

    def validate(self) -> dict[str, float]:
        """See `Objective`."""
        return {"loss": float(self._loss(self.held, self.fixed, *self.held_given))}


class Game:
    """The values of coalitions: each class's output with only some players present.

    Args:
        task: whose model, and whose way to remove features, is asked.
        players: who is present or removed.
        surrogate: is asked in the model's place where it is given: a masked predictor of its classes.
        predicted_only: values are of one class alone, the predicted one unless another is asked for, so C is 1.
        output: which output, see `benchmark.models.outputs`.
    """

    def __init__(
        self, task: Task, players: Players, surrogate: nn.Module | None, predicted_only: bool, output: str
    ) -> None:
        self.task, self.players, self.surrogate, self.predicted_only = task, players, surrogate, predicted_only
        self.output = output
        self.batching = Batching(task)

    def __call__(self, x: Tensor, present: Tensor, target: Tensor | None = None) -> Tensor:
        """Return the values (B, k, C) of coalitions `present` (B, k, n), for inputs x (B, ...).

        With `predicted_only` they are those of `target` (B,), by default of the class predicted.
        """
        sets = present.shape[1]
        removed = (~present & self.players.valid(x).unsqueeze(1)).flatten(0, 1)  # (B * k, n)
        repeated = x.repeat_interleave(sets, 0)
        values = self.batching.ask(
            repeated, lambda rows: outputs(self._logits(repeated[rows], removed[rows]).float(), self.output)
        ).unflatten(0, (len(x), sets))
        if not self.predicted_only:
            return values
        target = self.predicted(x) if target is None else target
        return values.gather(2, target.view(-1, 1, 1).expand(-1, sets, 1))

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


@METHODS.register("fastshap", kind="learned", modalities=("table", "text", "image"))
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
        iterations: training steps, of which a surrogate has one half.
        seconds: ends training in place of `iterations`; a surrogate has one half of them too.
        batch: inputs a step.
        coalitions: of each input a step, in pairs of complements.
        given: what the encoder is given beside the input: `nothing`; or `gradient`, what `deepfaith_hinted` is given by
            default, gradients of the predicted class (on images LRP and DeepLIFT, too), the class and its margin;
            values are then of this class alone.

    Example:
        >>> explain = FastShap(iterations=500).prepare(task, seed=0)
        >>> explain(x, target)  # (B, G)
    """

    told: ClassVar[Told] = Told(
        training_rows=True,
        prediction="the sum of the attributions; above 10 classes, the class; with given=gradient, class and margin",
        gradients="with given=gradient",
        layers="in texts, word vectors; with given=gradient also what all layers of image models take and give, and "
        "their weights",
        optimises="fits removal sets, under the Shapley kernel",
    )
    space: ClassVar[Space] = Space(
        {"output": OUTPUTS, "value": VALUES, "coalitions": (8, 16, 32), "penalty": (0.0, 0.1)}
    )
    output: str = bounded("probability", among=OUTPUTS)
    value: str = bounded("model", among=VALUES)
    normalise: bool = True
    penalty: float = bounded(0.0, low=0)
    iterations: int | None = bounded(None, low=1)
    seconds: float | None = bounded(None, above=0)
    batch: int | None = bounded(None, low=1)
    coalitions: int | None = bounded(None, low=2)
    given: str = bounded("nothing", among=GIVEN)

    @property
    def only_predicted(self) -> bool:  # type: ignore[override]  # it follows from a parameter here
        """See `Method`: hints are of the predicted class."""
        return self.given != "nothing"

    def resolved(self, task: Task | TaskSpec) -> Self:
        """See `Method`."""
        defaults = DEFAULTS[task.modality]
        trained_nets = 2 if self.value == "surrogate" else 1
        return with_defaults(self, defaults | {"iterations": trained_nets * defaults["iterations"]})

    def learns_from(self, modality: Modality) -> Sequence[Method]:
        """See `Method`."""
        return methods_beside(self.given, modality)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; the explainer is a `TrainedExplainer`.

        Raises:
            DivergedError: a loss is not finite.
            NoGradientError: gradients are to be given, and none passes the model.
        """
        settings = parameters(self.resolved(task))
        budget = {"iterations": settings["iterations"], "seconds": self.seconds}
        if self.value == "surrogate":
            budget = halves(**budget)
        players, classes = Players(task), len(task.class_names)
        beside = Beside(task, self.given, "fastshap")
        conditioned = self.only_predicted or classes > MANY_CLASSES
        surrogate, surrogate_report = surrogate_of(task, seed, **budget) if self.value == "surrogate" else (None, {})
        game = Game(task, players, surrogate, conditioned, self.output)

        def build() -> nn.Module:
            return Labelled(task, 1, classes, beside.count) if conditioned else Labelled(task, classes)

        def phi(module: nn.Module, x: Tensor, *given: Tensor) -> Tensor:
            """Return values (B, n, C) as the module predicts them.

            Where it is conditioned, C = 1: those of the class that `given` begins with, by default the predicted one.
            """
            if conditioned and not given:
                given = (game.predicted(x),)
            return players.pool(module(x, *given))

        def train(module: nn.Module, checkpoint: Path) -> dict[str, Any]:
            x, held = rows_for(task, seed)
            objective = Regression(
                partial(phi, module),
                game,
                x[held:],
                x[:held],
                players.valid,
                settings["batch"],
                settings["coalitions"],
                self.normalise,
                self.penalty,
                beside.of_rows(x[held:]),
                beside(x[:held]),
            )
            return {"curves": fit(module, objective, fitting_for(**budget), seed, checkpoint, "fastshap")}

        module, report = trained(task, "fastshap", [settings, beside.origins()], seed, build, train)

        def explain(x: Tensor, target: Tensor) -> Tensor:
            valid, given = players.valid(x), beside(x) or (target,)
            target = given[0]
            values = phi(module, x, *given) * valid.unsqueeze(-1)  # (B, n, C)
            if self.normalise:
                ends = game(x, ends_of(valid), target)  # (B, 2, C)
                values = normalised(values, valid, ends[:, 1] - ends[:, 0])
            column = torch.zeros_like(target) if conditioned else target
            of_target = values.gather(2, column.view(-1, 1, 1).expand(-1, values.shape[1], 1)).squeeze(2)
            return players.features(of_target) / players.patch**2  # a player's value is split evenly

        return AmortisedExplainer(explain, combined(report, surrogate_report, "surrogate"))
