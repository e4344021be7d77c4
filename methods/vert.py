"""VerT: masks of the features that a tuned copy of the model needs; masks and copy are found in alternating rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from benchmark.core.parameters import Space, bounded, parameters, with_defaults
from benchmark.core.types import METHODS, Attribute, Method, Modality, Task, TaskSpec, Told
from benchmark.learning.fitting import fit
from benchmark.learning.objective import StatelessObjective
from benchmark.modalities.continuous import rows_per_backward
from methods.amortised import AmortisedExplainer, Labelled, Players, combined, fitting_for, halves, rows_for, trained
from methods.vert_masks import SPARSE, MaskedAnswers, distance, masked, masks_for, sizes
from methods.vert_tuning import tuned_copy

DEFAULTS: dict[Modality, dict[str, int]] = {
    "table": {"rows": 512, "rounds": 5, "steps": 60, "iterations": 1000, "search": 200, "batch": 128},
    "text": {"rows": 64, "rounds": 5, "steps": 60, "iterations": 300, "search": 200, "batch": 16},
    "image": {"rows": 64, "rounds": 5, "steps": 60, "iterations": 300, "search": 200, "batch": 32},
}

ITERATIONS: dict[Modality, dict[str, int]] = {
    "table": {"iterations": 2000},
    "text": {"iterations": 1200},
    "image": {"iterations": 1200},
}
"""Of the amortised form, whose copy and net of masks share them."""
FIRST_BIAS = 3.0
"""The first bias of the head of a net of masks: sigmoid(3) = 0.95. Begun at 0.5 the masks fall to 0 and stay there."""


class Masking(StatelessObjective):
    """The objective of a net of masks: small, and what they hide leaves the tuned copy's answers as they were.

    See `benchmark.learning.fitting.Objective`.

    Args:
        mask: maps rows (B,) of the inputs to masks (B, n) in [0, 1].
        answer: the tuned copy's probabilities for rows under masks.
        valid: (N, n) bool, where there is a player; the first `held` inputs validate.
        held: how many validate.
        batch: inputs a step.
    """

    def __init__(
        self, mask: Callable[[Tensor], Tensor], answer: MaskedAnswers, valid: Tensor, held: int, batch: int
    ) -> None:
        self.mask, self.answer, self.valid, self.held, self.batch = mask, answer, valid, held, batch

    def loss(self, generator: torch.Generator) -> Tensor:
        """See `Objective`."""
        count, device = len(self.valid) - self.held, self.valid.device
        return self._loss(torch.randint(count, (self.batch,), generator=generator, device=device) + self.held)

    def _loss(self, rows: Tensor) -> Tensor:
        masks, valid = self.mask(rows), self.valid[rows]
        with torch.no_grad():
            whole = self.answer(rows, valid.to(masks))
        return (SPARSE * sizes(masks, valid) + distance(whole, self.answer(rows, masks))).mean()

    def validate(self) -> dict[str, float]:
        """See `Objective`."""
        rows = torch.arange(self.held, device=self.valid.device)
        sums = [self._loss(part) * len(part) for part in rows.split(self.batch)]
        return {"loss": float(torch.stack(sums).sum() / self.held)}


@METHODS.register("vert", kind="learned", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class VerT(Method):
    """What a tuned copy of the model needs (VerT, Bhalla et al. 2023): a mask in [0, 1], sought for each input.

    The copy is tuned until erasing what masks hide changes little (eq. 3 and 4, in alternating rounds); what is erased
    takes the task's removal baseline. An explanation does not depend on the class, and it explains the copy: the
    report has how often copy and model agree. Departure: masks are sought by Adam, in place of gradient descent (see
    `methods.vert_masks.fit_masks`).

    Args:
        rows: training inputs on which the copy is tuned.
        rounds: of finding masks, then tuning the copy.
        steps: of each search for masks, in a round.
        iterations: training steps of the copy, in equal parts for the rounds.
        seconds: ends training in place of `iterations`, in equal parts too, the searches for masks included.
        batch: inputs a step of the tuning.
        search: steps on the frozen copy for each explanation; it costs as many rows forward and backward.

    Example:
        >>> explain = VerT(rounds=3).prepare(task, seed=0)
        >>> explain(x, target)  # (B, G) in [0, 1]
    """

    told: ClassVar[Told] = Told(
        training_rows=True, gradients=True, layers="all weights, of a copy that it tunes", signed=False
    )
    space: ClassVar[Space] = Space(
        {"rounds": (3, 5), "iterations": (300, 1000)},
        by_rows={60: {"search": (28,)}, 500: {"search": (200,)}, None: {"search": (200, 400)}},
    )
    only_predicted: ClassVar[bool] = True
    rows: int | None = bounded(None, low=2)
    rounds: int | None = bounded(None, low=1)
    steps: int | None = bounded(None, low=1)
    iterations: int | None = bounded(None, low=1)
    seconds: float | None = bounded(None, above=0)
    batch: int | None = bounded(None, low=1)
    search: int | None = bounded(None, low=1)

    def resolved(self, task: Task | TaskSpec) -> Self:
        """See `Method`."""
        return with_defaults(self, DEFAULTS[task.modality])

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; the explainer is a `TrainedExplainer`.

        Raises:
            DivergedError: a loss is not finite.
        """
        settings = parameters(self.resolved(task))
        search = settings.pop("search")
        tuned, report = tuned_copy(task, settings, seed)
        players = Players(task)

        def explain(x: Tensor, target: Tensor) -> Tensor:
            begun = players.valid(x).float()
            at_once = rows_per_backward(task, x)
            with torch.enable_grad():
                return players.features(masks_for(task, tuned, players, x, begun, SPARSE, search, at_once))

        return AmortisedExplainer(explain, report)


@METHODS.register("vert_amortised", kind="learned", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class VerTAmortised(Method):
    """The masks of `vert` in one forward pass, by a net of masks trained on such a tuned copy: our variant.

    It is not in the paper.

    Args:
        rows: training inputs on which the copy is tuned.
        rounds: of finding masks, then tuning the copy.
        steps: of each search for masks, in a round.
        iterations: training steps, one half for the copy, one for the net.
        seconds: ends training in place of `iterations`, in the same halves.
        batch: inputs a step, of the tuning and of the net.

    Example:
        >>> explain = VerTAmortised(iterations=300).prepare(task, seed=0)
        >>> explain(x, target)  # (B, G) in [0, 1]
    """

    told: ClassVar[Told] = Told(
        training_rows=True, gradients=True, layers="all weights, of a copy that it tunes", signed=False
    )
    space: ClassVar[Space] = Space({"rounds": (3, 5), "iterations": (600, 1200, 2000, 4000)})
    only_predicted: ClassVar[bool] = True
    rows: int | None = bounded(None, low=2)
    rounds: int | None = bounded(None, low=1)
    steps: int | None = bounded(None, low=1)
    iterations: int | None = bounded(None, low=1)
    seconds: float | None = bounded(None, above=0)
    batch: int | None = bounded(None, low=1)

    def resolved(self, task: Task | TaskSpec) -> Self:
        """See `Method`."""
        return with_defaults(self, DEFAULTS[task.modality] | ITERATIONS[task.modality])

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; the explainer is a `TrainedExplainer`.

        Raises:
            DivergedError: a loss is not finite.
        """
        settings = parameters(self.resolved(task))
        half = halves(settings["iterations"], self.seconds)
        tuned, copy_report = tuned_copy(task, settings | half, seed)
        players = Players(task)

        def mask(module: nn.Module, x: Tensor) -> Tensor:
            return players.pool(module(x)).squeeze(-1).sigmoid() * players.valid(x)  # (B, n)

        def train(module: nn.Module, checkpoint: Path) -> dict[str, Any]:
            x, held = rows_for(task, seed)
            answer = masked(task, tuned, players, x)
            objective = Masking(lambda rows: mask(module, x[rows]), answer, players.valid(x), held, settings["batch"])
            schedule = fitting_for(**half)
            return {"curves": fit(module, objective, schedule, seed, checkpoint, "vert_amortised")}

        def build() -> nn.Module:
            net = Labelled(task, 1)
            nn.init.constant_(net.backbone.head.bias, FIRST_BIAS)
            return net

        module, report = trained(task, "vert_amortised", settings, seed, build, train)
        report = combined(report | {"agreement": copy_report["agreement"]}, copy_report, "copy")
        return AmortisedExplainer(lambda x, target: players.features(mask(module, x)), report)
