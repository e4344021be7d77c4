"""Distils hinted explainers into one that is given no hints, and so explains in a single forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

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
HELD_SHARE = 0.1
"""Of the inputs that are explained, those that validate."""


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

    @classmethod
    def of(cls, part: Fitting, shares: int, rows: int) -> Self:
        """Return what takes as long as so many fits of `part`."""
        return cls(rows, shares * part.iterations, None if part.seconds is None else shares * part.seconds)


def without_hints(recipe: HintedHyperparameters) -> HintedHyperparameters:
    """Return the recipe of an explainer that sees the input alone, with class and margin of the prediction."""
    return replace(recipe, hints=Hints(0, False), gains=False, additive=True, start=NOTHING)


@dataclass(frozen=True, eq=False)
class Copied:
    """Inputs (n, ...) with what an explainer without hints is given of them, and what the teacher gives.

    Attributes:
        given: inputs, without hints.
        order, size: the teacher's, (n, G), with a mean square of 1 over an input's features.
        valid: (n, G) bool, False for padding.
    """

    given: Answered
    order: Tensor
    size: Tensor
    valid: Tensor

    def distance(self, order: Tensor, size: Tensor) -> Tensor:
        """Return how far order and size (n, G) are from the teacher's: mean squares, over features and then inputs."""
        squares = (order - self.order).square() + (size - self.size).square()
        return (squares.masked_fill(~self.valid, 0.0).sum(1) / self.valid.sum(1)).mean()

    def __getitem__(self, rows: Tensor) -> Copied:
        return Copied(self.given[rows], self.order[rows], self.size[rows], self.valid[rows])


@dataclass
class Copying(StatelessObjective):
    """The objective: order and size as the teacher gives them.

    Args:
        student: is trained.
        copied: what it is trained on.
        held: what validates.
        batch: inputs a step.
    """

    student: HintedExplainer
    copied: Copied
    held: Copied
    batch: int

    def loss(self, generator: torch.Generator) -> Tensor:
        """See `Objective`."""
        count = len(self.copied.order)
        rows = self.copied[torch.randint(count, (self.batch,), generator=generator, device=self.copied.order.device)]
        return rows.distance(*self.student(*rows.given.inputs))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """See `Objective`."""
        return {"loss": float(self.held.distance(*explained(self.student, self.held.given, self.batch)))}


def inputs_to_copy(task: Task, rows: int, mix: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return inputs to train on, and inputs to validate on, together up to `rows`.

    They are training rows, and beyond these, where inputs are mixed, further ones with some features from other rows.
    A row of one part has no share in the other.

    Raises:
        UsageError: there are fewer than two training inputs.
    """
    generator = torch.Generator().manual_seed(seed_for(seed, "copied"))
    x = task.train.x[task.removal.valid(task.train.x).any(1)]
    if len(x) < 2:
        raise UsageError(f"deepfaith_hinted needs 2 training inputs at least, one of which validates, got {len(x)}")
    x = x[torch.randperm(len(x), generator=generator).to(x.device)[:rows]]
    held = max(1, round(HELD_SHARE * len(x)))
    counts = (rows - round(HELD_SHARE * rows), round(HELD_SHARE * rows))
    parts = zip((x[held:], x[:held]), counts, ("trained on", "held"), strict=True)
    copied, validated = (_filled(task, part, count, mix, seed_for(seed, name)) for part, count, name in parts)
    return copied, validated


def _filled(task: Task, x: Tensor, count: int, mix: float, seed: int) -> Tensor:
    """Return x (n, ...), and mixtures of its rows until there are `count`, where inputs are mixed."""
    if not mix or len(x) >= count:
        return x
    generator = torch.Generator(x.device).manual_seed(seed)
    first, other = (torch.randint(len(x), (count - len(x),), generator=generator, device=x.device) for _ in range(2))
    drawing = Drawing(subsets=1, low=1.0, high=1.0, mix=mix, hide=0.0)
    return torch.cat([x, drawing.inputs(task, x[first], x[other], generator)])


def taught(task: Task, recipe: HintedHyperparameters, teacher: Sequence[HintedExplainer], x: Tensor) -> Copied:
    """Return inputs x (n, ...) with what the teacher gives of them."""
    given, _ = prepared(task, recipe, x, MaskedModel(task))
    with torch.no_grad():
        order, size = agreed(teacher, given, recipe.batch)
    valid = task.removal.valid(x)
    length = valid.sum(1, keepdim=True).sqrt()
    without = replace(given, hints=given.hints.new_zeros(*given.hints.shape[:-1], 0))
    return Copied(without, F.normalize(order) * length, F.normalize(size) * length, valid)


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
    inputs = inputs_to_copy(task, distilling.rows, recipe.mix, seed)
    with meter.phase("explaining", task.model):
        copied, held = (taught(task, recipe, teacher, x) for x in inputs)
    student = untrained(task, own, Start(NOTHING, NOTHING, ([], [])), seed)
    fitting = Fitting(distilling.iterations, recipe.fitting.rate, checks=CHECKS, patience=PATIENCE,
                      seconds=distilling.seconds)  # fmt: skip
    with meter.phase("distilling", task.model):
        used = meter.phases["explaining"].seconds
        fitting = fitting.less(used, f"explaining {sum(map(len, inputs))} inputs to copy, which `copied` bounds,")
        objective = Copying(student, copied, held, recipe.batch)
        curves = fit(student, objective, fitting, seed, checkpoint, "deepfaith_hinted, distilled")
    return student, {  # the distance is no loss like that of the members, whose curves stand beside
        "curves": [{"iteration": point["iteration"], "distance": point["loss"]} for point in curves],
        "iterations": iterations(curves), "costs": meter.summary(), "copied": sum(map(len, inputs)), "hints": [],
    }  # fmt: skip
