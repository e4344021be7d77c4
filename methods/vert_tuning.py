"""The copy of a model that VerT tunes to masked inputs, in rounds: find masks, then tune the copy under them."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.core.seeding import seed_for
from benchmark.core.store import Made, discard, load_or_make
from benchmark.core.types import Task
from benchmark.learning.fitting import Curves, Fitting, fit
from benchmark.learning.objective import StatelessObjective
from benchmark.modalities.continuous import rows_per_backward
from benchmark.models.metering import count_as, spent
from methods.amortised import Players, predictions, rows_for, trained
from methods.vert_masks import MaskedAnswers, distance, masked, masks_for, sizes

TUNING_RATE = 3e-4
MASKS = "masks of the round"
"""The name under which masks are stored beside weights."""


def sparsity(round_: int, rounds: int) -> float:
    """Return the weight of the mask's size in a round: 1, falling towards 0.1. Source: the authors' release."""
    return 1 - 0.9 * round_ / rounds


def rounded(masks: Tensor, round_: int, rounds: int) -> Tensor:
    """Return masks as 0 and 1: a threshold of .1 in the first round, rising towards .5."""
    return (masks > 0.1 + 0.4 * round_ / rounds).to(masks)


class Tuning(StatelessObjective):
    """The objective of the tuned copy g: answer as the model f does, and alike where distractors are erased.

    ||f(x) - g(x)||_1 + ||g(x) - g(x masked)||_1; see `benchmark.learning.fitting.Objective`. Source: Bhalla et al.
    2023, eq. 3.

    Args:
        module: the copy.
        answer: the copy's probabilities for rows under masks.
        p: the model's probabilities (N, C) for whole inputs, of which the first `held` validate.
        masks: of the inputs, (N, n).
        valid: (N, n) bool, where there is a player.
        held: how many validate.
        batch: inputs a step.
    """

    def __init__(
        self, module: nn.Module, answer: MaskedAnswers, p: Tensor, masks: Tensor, valid: Tensor, held: int, batch: int
    ) -> None:
        self.module, self.answer, self.p, self.masks, self.valid = module, answer, p, masks, valid
        self.held, self.batch = held, batch

    def loss(self, generator: torch.Generator) -> Tensor:
        """See `Objective`."""
        drawn = torch.randint(len(self.p) - self.held, (self.batch,), generator=generator, device=self.p.device)
        return self._loss(drawn + self.held)

    def _loss(self, rows: Tensor) -> Tensor:
        self.module.eval()  # dropout and batch statistics stay as they are when the model is explained
        whole = self.answer(rows, self.valid[rows].to(self.masks))
        return (distance(self.p[rows], whole) + distance(whole, self.answer(rows, self.masks[rows]))).mean()

    def validate(self) -> dict[str, float]:
        """See `Objective`."""
        rows = torch.arange(self.held, device=self.p.device)
        sums = [self._loss(part) * len(part) for part in rows.split(self.batch)]
        return {"loss": float(torch.stack(sums).sum() / self.held)}


class Alternation:
    """The rounds in which a copy of a task's model is tuned. Each begins with the masks of the one before.

    Args:
        task: model, training inputs and removal.
        module: the copy, changed in place.
        settings: `rows`, `rounds`, `steps`, `iterations`, `seconds` and `batch`; see `methods.vert.VerT`.
        seed: base of what is drawn.
    """

    def __init__(self, task: Task, module: nn.Module, settings: dict[str, Any], seed: int) -> None:
        self.task, self.module, self.settings, self.seed = task, module, settings, seed
        self.players = Players(task)
        self.x, self.held = rows_for(task, seed, settings["rows"])
        self.valid = self.players.valid(self.x)
        self.p = predictions(task, self.x)
        self.at_once = rows_per_backward(task, self.x)
        self.answer = masked(task, module, self.players, self.x)

    def run(self, checkpoint: Path) -> dict[str, Any]:
        """Tune the copy, and return the report; rounds that were done before a kill are read from beside `checkpoint`.

        Returns:
            `curves`, `agreement`, how often copy and model predict the same class, and `mask size by round`.
        """
        rounds = self.settings["rounds"]
        files = [checkpoint.with_suffix(f".{number}.safetensors") for number in range(rounds)]
        masks, mask_sizes = self.valid.float(), []
        curves: Curves = []
        for number, file in enumerate(files):
            make = partial(self.round, number, masks, checkpoint.with_suffix(f".{number}.pt"))
            state, facts = load_or_make(file, make, "round of vert")
            masks = state.pop(MASKS).to(masks)
            self.module.load_state_dict(state)
            mask_sizes.append(facts["size"])
            begun = curves[-1]["iteration"] if curves else 0
            curves += [point | {"iteration": point["iteration"] + begun} for point in facts["curves"]]
        self.module.requires_grad_(False)
        for file in files:
            discard(file)
            discard(file.with_suffix(".lock"))
        return {"curves": curves, "agreement": self.agreement(), "mask size by round": mask_sizes}

    def round(self, number: int, masks: Tensor, checkpoint: Path) -> Made:
        """Return what a round leaves: weights and masks, and the facts about it."""
        begun = spent().seconds
        rounds = self.settings["rounds"]
        self.module.requires_grad_(False)
        masks = masks_for(
            self.task,
            self.module,
            self.players,
            self.x,
            masks,
            sparsity(number, rounds),
            self.settings["steps"],
            self.at_once,
        )
        size = float(sizes(masks, self.valid).mean())
        masks = rounded(masks, number, rounds)
        curves = self.tune(number, masks, checkpoint, spent().seconds - begun)
        return self.module.state_dict() | {MASKS: masks}, {"curves": curves, "size": size}

    def tune(self, number: int, masks: Tensor, checkpoint: Path, searched: float) -> Curves:
        """Fit the copy to the inputs under masks (N, n), the search for which took so many seconds.

        One without parameters, such as a formula, stays the model.
        """
        if not any(True for _ in self.module.parameters()):
            return []
        self.module.requires_grad_(True)
        objective = Tuning(self.module, self.answer, self.p, masks, self.valid, self.held, self.settings["batch"])
        whole = Fitting(self.settings["iterations"], TUNING_RATE, decay=0.0, checks=5, seconds=self.settings["seconds"])
        settings = whole.part(self.settings["rounds"]).less(searched, "a search for masks")
        return fit(
            self.module, objective, settings, seed_for(self.seed, "round", number), checkpoint, f"vert {number + 1}"
        )

    def agreement(self) -> float:
        """Return how often the copy predicts what the model does, on the rows that validate."""
        of_copy = predictions(self.task, self.x[: self.held], self.module).argmax(1)
        return float((self.p[: self.held].argmax(1) == of_copy).double().mean())


def tuned_copy(task: Task, settings: dict[str, Any], seed: int) -> tuple[nn.Module, dict[str, Any]]:
    """Return the task's model as the alternating rounds tuned it, frozen, and the report; the original stays."""

    def build() -> nn.Module:
        module = copy.deepcopy(task.model)
        count_as(module, task.model)
        return module

    def train(module: nn.Module, checkpoint: Path) -> dict[str, Any]:
        return Alternation(task, module, settings, seed).run(checkpoint)

    return trained(task, "vert", settings, seed, build, train)
