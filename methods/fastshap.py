"""FastSHAP: Shapley values of the model, or of a masked surrogate, learned by weighted regression on coalitions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from benchmark.core.parameters import bounded, parameters, with_defaults
from benchmark.core.types import METHODS, Attribute, Method, Modality, Task, TaskSpec
from benchmark.learning.objective import StatelessObjective

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor, nn

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
    """
    import torch

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
    found = empty.unsqueeze(1) + present.to(phi) @ phi
    return phi.shape[1] * ((found - values) ** 2).mean()


Value = Callable[["Tensor", "Tensor"], "Tensor"]
"""Values (B, k, C) of coalitions (B, k, n) of present players, for inputs (B, ...)."""


class Regression(StatelessObjective):
    """The objective of a FastSHAP explainer; see `benchmark.learning.fitting.Objective`."""

    def __init__(
        self, phi: Callable[[Tensor], Tensor], value: Value, x: Tensor, held: Tensor, valid: Callable[[Tensor], Tensor],
        batch: int, coalitions: int, normalise: bool = True, penalty: float = 0.0,
    ) -> None:  # fmt: skip
        import torch

        self.phi, self.value, self.x, self.held, self.valid = phi, value, x, held, valid
        self.batch, self.pairs = batch, max(1, coalitions // 2)
        self.normalise, self.penalty = normalise, penalty
        self.fixed = shapley_coalitions(valid(held), 16, torch.Generator(x.device).manual_seed(0))

    def loss(self, generator: torch.Generator) -> Tensor:
        """See `Objective`."""
        import torch

        rows = torch.randint(len(self.x), (self.batch,), generator=generator, device=self.x.device)
        x = self.x[rows]
        return self._loss(x, shapley_coalitions(self.valid(x), self.pairs, generator))

    def _loss(self, x: Tensor, present: Tensor) -> Tensor:
        import torch

        valid = self.valid(x)
        ends = torch.stack([torch.zeros_like(valid), valid], 1)
        with torch.no_grad():
            values = self.value(x, torch.cat([ends, present], 1))
        empty, whole, values = values[:, 0], values[:, 1], values[:, 2:]
        phi = self.phi(x) * valid.unsqueeze(-1)
        gap = whole - empty - phi.sum(1)
        penalty = self.penalty * (gap**2).mean()
        phi = normalised(phi, valid, whole - empty) if self.normalise else phi
        return weighted_regression(phi, present, values, empty) + penalty

    def validate(self) -> dict[str, float]:
        """See `Objective`."""
        return {"loss": float(self._loss(self.held, self.fixed))}


@METHODS.register("fastshap", kind="learned", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class FastShap(Method):
    """Shapley values in one forward pass (FastSHAP, Jethani et al. 2022).

    `value` is the game: `model` asks the model, features removed as the task and its metrics do, which makes it the
    game of exact_shapley and kernel_shap; `surrogate` is the paper's, a masked imitation of the model, which is near
    the expected prediction given the features that are there. `penalty` weighs the gap that normalisation closes.
    """

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
        """See `Method`; the explainer has a `report`.

        Raises:
            DivergedError: a loss is not finite.
        """
        import torch

        from benchmark.learning.fitting import Fitting, fit
        from benchmark.scoring.masked_model import MaskedModel
        from methods.amortised import AmortisedExplainer, Labelled, Players, combined, rows_for, surrogate_of, trained

        own = parameters(self.resolved(task))
        players, classes = Players(task), len(task.class_names)
        conditioned = classes > MANY_CLASSES
        at_once = MaskedModel(task).rows_per_forward(task.train.x)
        surrogate, first = surrogate_of(task, seed, own["iterations"]) if self.value == "surrogate" else (None, {})

        def value(x: Tensor, present: Tensor) -> Tensor:
            valid = players.valid(x)
            sets = present.shape[1]
            removed = (~present & valid.unsqueeze(1)).flatten(0, 1)
            parts = []
            for rows, gone in zip(x.repeat_interleave(sets, 0).split(at_once), removed.split(at_once), strict=True):
                without = players.remove(rows, gone)
                logits = (
                    task.model(without) if surrogate is None else surrogate(without, removed=players.features(gone))
                )
                parts.append(logits.float().softmax(1))
            found = torch.cat(parts).unflatten(0, (len(x), sets))
            return found.gather(2, target_of(x).view(-1, 1, 1).expand(-1, sets, 1)) if conditioned else found

        def target_of(x: Tensor) -> Tensor:
            with torch.no_grad():
                return task.model(x).argmax(1)

        def build() -> nn.Module:
            return Labelled(task, 1 if conditioned else classes, classes if conditioned else 0)

        def phi(module: nn.Module, x: Tensor, target: Tensor | None = None) -> Tensor:
            given_class = (target_of(x) if target is None else target) if conditioned else None
            return players.pool(module(x, given_class))

        def train(module: nn.Module, checkpoint: Path) -> dict[str, Any]:
            x, held = rows_for(task, seed)
            objective = Regression(
                lambda rows: phi(module, rows), value, x[held:], x[:held], players.valid, own["batch"],
                own["coalitions"], self.normalise, self.penalty,
            )  # fmt: skip
            curves = fit(module, objective, Fitting(own["iterations"], 1e-3), seed, checkpoint, "fastshap")
            return {"curves": curves}

        module, report = trained(task, "fastshap", own, seed, build, train)

        def explain(x: Tensor, target: Tensor) -> Tensor:
            valid = players.valid(x)
            found = phi(module, x, target) * valid.unsqueeze(-1)
            if self.normalise:
                ends = value(x, torch.stack([torch.zeros_like(valid), valid], 1))
                found = normalised(found, valid, ends[:, 1] - ends[:, 0])
            own_class = torch.zeros_like(target) if conditioned else target
            chosen = found.gather(2, own_class.view(-1, 1, 1).expand(-1, found.shape[1], 1)).squeeze(2)
            return players.features(chosen) / players.patch**2

        return AmortisedExplainer(explain, combined(report, first, "surrogate"))
