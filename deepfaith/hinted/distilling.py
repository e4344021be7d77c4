"""Distils hinted explainers into one that is given no hints, and so explains in a single forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.core.errors import UsageError
from benchmark.core.seeding import seed_for
from benchmark.core.types import Task
from benchmark.learning.fitting import Fitting, fit, iterations
from benchmark.learning.hints import Hints
from benchmark.learning.objective import StatelessObjective
from benchmark.models.metering import Meter
from benchmark.scoring.masked_model import MaskedModel
from deepfaith.drawing import Drawing
from deepfaith.hinted.ensemble import agreed
from deepfaith.hinted.explainer import HintedExplainer
from deepfaith.hinted.hyperparameters import HintedHyperparameters
from deepfaith.hinted.training import NOTHING, Answered, Start, explained, prepared, untrained

CHECKS, PATIENCE = 20, 5
HELD_SHARE, HELD_MOST = 0.1, 256
"""Of the inputs that are explained, those that validate: this share of them, and no more than so many."""


@dataclass(frozen=True)
class Distilling:
    """How much is copied.

    Args:
        rows: inputs that the teacher explains, training rows first.
        iterations: training steps.
        seconds: ends training in place of `iterations`.
    """

    rows: int
    iterations: int
    seconds: float | None = None


def without_hints(recipe: HintedHyperparameters) -> HintedHyperparameters:
    """Return the recipe of an explainer that sees the input alone, with class and margin of the prediction."""
    return replace(recipe, hints=Hints(0, False), gains=False, additive=True, start=NOTHING)


@dataclass
class Copying(StatelessObjective):
    """The objective: order and size, in units of their root mean square, as the teacher gives them.

    Args:
        student: is trained.
        given: inputs (N, ...) with what the student is given of them.
        order, size: the teacher's, (N, G).
        held: how many of the last inputs validate.
        batch: inputs a step.
    """

    student: HintedExplainer
    given: Answered
    order: Tensor
    size: Tensor
    held: int
    batch: int

    def loss(self, generator: torch.Generator) -> Tensor:
        """See `Objective`."""
        count = len(self.order) - self.held
        rows = torch.randint(count, (self.batch,), generator=generator, device=self.order.device)
        order, size = self.student(*self.given[rows].inputs)
        return self._distance(order, size, rows)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """See `Objective`."""
        rows = torch.arange(len(self.order) - self.held, len(self.order), device=self.order.device)
        order, size = explained(self.student, self.given[rows], self.batch)
        return {"loss": float(self._distance(order, size, rows))}

    def _distance(self, order: Tensor, size: Tensor, rows: Tensor) -> Tensor:
        return F.mse_loss(order, self.order[rows]) + F.mse_loss(size, self.size[rows])


def inputs_to_copy(task: Task, rows: int, mix: float, seed: int) -> Tensor:
    """Return up to `rows` inputs (n, ...) in a drawn order.

    They are training rows, and beyond these, where inputs are mixed, further ones with some features from other rows.
    """
    generator = torch.Generator().manual_seed(seed_for(seed, "copied"))
    x = task.train.x[task.removal.valid(task.train.x).any(1)]
    x = x[torch.randperm(len(x), generator=generator).to(x.device)[:rows]]
    if mix and len(x) < rows:
        first, other = (torch.randint(len(x), (rows - len(x),), generator=generator).to(x.device) for _ in range(2))
        drawing = Drawing(subsets=1, low=1.0, high=1.0, mix=mix, hide=0.0)
        generator = torch.Generator(x.device).manual_seed(seed_for(seed, "mixed"))
        x = torch.cat([x, drawing.inputs(task, x[first], x[other], generator)])
        x = x[torch.randperm(len(x), generator=generator, device=x.device)]
    return x


def distil(
    task: Task,
    recipe: HintedHyperparameters,
    teacher: Sequence[HintedExplainer],
    distilling: Distilling,
    seed: int,
    checkpoint: Path | None = None,
) -> tuple[HintedExplainer, dict[str, Any]]:
    """Train an explainer to give the order and sizes that hinted ones give, from the input alone.

    Departs from knowledge distillation (Hinton, Vinyals and Dean 2015, arXiv 1503.02531), which copies class
    probabilities: what is copied here is attributions. Inputs that mixing makes validate too: no label is needed.

    Args:
        task: its training inputs are used, without their labels.
        recipe: of the teacher.
        teacher: the hinted explainers whose order and sizes are copied.
        distilling: how much.
        seed: of everything that is drawn.
        checkpoint: from which work that was interrupted goes on; the teacher's attributions are made anew.

    Returns:
        The trained explainer, of the recipe `without_hints`, and a report: `curves`, `iterations`, `costs`, `copied`.

    Raises:
        DivergedError: a loss is not finite.
        UsageError: there are fewer than two training inputs.
    """
    meter, own = Meter(), without_hints(recipe)
    x = inputs_to_copy(task, distilling.rows, recipe.mix, seed)
    if len(x) < 2:
        raise UsageError(f"deepfaith_hinted needs 2 training inputs at least, one of which validates, got {len(x)}")
    with meter.phase("explaining", task.model):
        given, _ = prepared(task, recipe, x, MaskedModel(task))
        with torch.no_grad():
            order, size = agreed(teacher, given, recipe.batch)
    order, size = (F.normalize(part) * task.n_features**0.5 for part in (order, size))
    seen = replace(given, hints=given.hints[..., :0])
    student = untrained(task, own, Start(NOTHING, NOTHING, ([], [])), seed)
    held = max(1, min(HELD_MOST, round(HELD_SHARE * len(x))))
    fitting = Fitting(distilling.iterations, recipe.fitting.rate, checks=CHECKS, patience=PATIENCE,
                      seconds=distilling.seconds)  # fmt: skip
    with meter.phase("distilling", task.model):
        fitting = fitting.less(meter.phases["explaining"].seconds, "explaining what is copied")
        objective = Copying(student, seen, order, size, held, recipe.batch)
        curves = fit(student, objective, fitting, seed, checkpoint, "deepfaith_hinted, distilled")
    return student, {
        "curves": curves, "iterations": iterations(curves), "costs": meter.summary(), "copied": len(x), "hints": [],
    }  # fmt: skip
