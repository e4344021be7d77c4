"""Masks of VerT: fitted to inputs, and the copy of a model that is tuned to masked inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmark.core.types import Task
from benchmark.learning.objective import StatelessObjective

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from methods.amortised import Players


MASK_RATE = 0.05
TUNING_RATE = 3e-4
SPARSE = 1.0
"""The weight of the mask's size where an input is explained."""

Mix = Callable[["Tensor", "Tensor"], "Tensor"]
"""Probabilities (B, C) of a model on rows (B,) of its inputs, weighed by masks (B, n) against distractors."""
NEGLIGIBLE = 1e-6
"""Distances under this are rounding, whose sign would move masks: it differs from batch to batch."""


def sparsity(round_: int, rounds: int) -> float:
    """Return the weight of the mask's size in a round: 1, falling towards 0.1. Source: the authors' release."""
    return 1 - 0.9 * round_ / rounds


def rounded(masks: Tensor, round_: int, rounds: int) -> Tensor:
    """Return masks as 0 and 1: a threshold of .1 in the first round, rising towards .5."""
    return (masks > 0.1 + 0.4 * round_ / rounds).to(masks)


def distance(p: Tensor, q: Tensor) -> Tensor:
    """Return the l1 distance (B,) between rows of probabilities (B, C)."""
    return (p - q).abs().sum(1)


def sizes(masks: Tensor, valid: Tensor) -> Tensor:
    """Return the mean (B,) of masks (B, n) over valid players."""
    return (masks * valid).sum(1) / valid.sum(1).clamp(min=1)


def fit_masks(
    answer: Callable[[Tensor], Tensor], masks: Tensor, valid: Tensor, weight: float, steps: int
) -> Tensor:  # fmt: skip
    """Return masks (B, n) in [0, 1], begun at `masks`, that are small and leave the answers as they were.

    `answer` gives probabilities (B, C) of masked inputs. Each row minimises, on its own, `weight` times its mean mask
    plus the l1 distance to the answer with everything there. Source: Bhalla et al. 2023, eq. 4; Adam in place of the
    authors' gradient descent, whose rate depends on batch and image size.
    """
    import torch

    with torch.no_grad():
        whole = answer(valid.to(masks))
    masks = (masks * valid).detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([masks], MASK_RATE)
    for _ in range(steps):
        with torch.enable_grad():
            far = distance(whole, answer(masks))
            loss = weight * sizes(masks, valid) + far.where(far > NEGLIGIBLE, 0.0)
            masks.grad = torch.autograd.grad(loss.sum(), masks)[0]
        optimiser.step()
        with torch.no_grad():
            masks.clamp_(0, 1).mul_(valid)
    return masks.detach()


class Tuning(StatelessObjective):
    """The objective of the tuned copy: be what the model is, and do not mind distractors being erased.

    ||f(x) - g(x)||_1 + ||g(x) - g(x masked)||_1; see `benchmark.learning.fitting.Objective`. `copy` answers rows under
    masks; `p` (N, C) is what the model says of whole inputs; the first `held` rows are for validation. Source: Bhalla
    et al. 2023, eq. 3.
    """

    def __init__(
        self, module: nn.Module, copy: Mix, p: Tensor, masks: Tensor, valid: Tensor, held: int, batch: int
    ) -> None:  # fmt: skip
        self.module, self.copy, self.p, self.masks, self.valid = module, copy, p, masks, valid
        self.held, self.batch = held, batch

    def loss(self, generator: torch.Generator) -> Tensor:
        """See `Objective`."""
        import torch

        drawn = torch.randint(len(self.p) - self.held, (self.batch,), generator=generator, device=self.p.device)
        return self._loss(drawn + self.held)

    def _loss(self, rows: Tensor) -> Tensor:
        self.module.eval()  # dropout and batch statistics stay as they are when the model is explained
        whole = self.copy(rows, self.valid[rows].to(self.masks))
        return (distance(self.p[rows], whole) + distance(whole, self.copy(rows, self.masks[rows]))).mean()

    def validate(self) -> dict[str, float]:
        """See `Objective`."""
        import torch

        rows = torch.arange(self.held, device=self.p.device)
        found = [self._loss(some) * len(some) for some in rows.split(self.batch)]
        return {"loss": float(torch.stack(found).sum() / self.held)}


def masked(task: Task, model: nn.Module, players: Players, x: Tensor) -> Mix:
    """Return how `model`, the task's or a copy of it, answers rows of x whose players are weighed by masks.

    A weight of 1 is the input as it is, 0 the task's removal baseline; words are weighed as the task's model embeds
    them.
    """
    import torch

    from methods.continuous import continuous

    def copy(rows: Tensor, masks: Tensor) -> Tensor:
        seen = continuous(task, x[rows])
        weights = task.removal.expand(players.features(masks))
        weights = weights.unsqueeze(-1) if task.modality == "text" else weights
        mixed = torch.lerp(seen.base.expand_as(seen.x), seen.x.detach(), weights.to(seen.x))
        return model(mixed, *seen.extra).softmax(1)

    return copy


def masks_for(task: Task, model: nn.Module, players: Players, x: Tensor, begun: Tensor, weight: float, steps: int,
              at_once: int) -> Tensor:  # fmt: skip
    """Return masks (B, n) of inputs x, found for each on its own under a frozen `model`, `at_once` at a time."""
    import torch

    copy, valid = masked(task, model, players, x), players.valid(x)
    parts = [
        fit_masks(lambda masks, rows=rows: copy(rows, masks), begun[rows], valid[rows], weight, steps)  # type: ignore[misc]
        for rows in torch.arange(len(x), device=x.device).split(at_once)
    ]
    return torch.cat(parts)


def tuned_copy(task: Task, own: dict[str, int], seed: int) -> tuple[nn.Module, dict[str, Any]]:
    """Return the task's model as the alternating rounds tuned it, frozen, and the report; the original stays."""
    import copy as copying

    from benchmark.core.seeding import seed_for
    from benchmark.core.store import Made, discard, load_or_make
    from benchmark.learning.fitting import Fitting, fit
    from benchmark.models.metering import count_as
    from methods.amortised import Players, predictions, rows_for, trained
    from methods.continuous import rows_per_backward

    players, rounds = Players(task), own["rounds"]

    def build() -> nn.Module:
        found = copying.deepcopy(task.model)
        count_as(found, task.model)
        return found

    def train(module: nn.Module, checkpoint: Path) -> dict[str, Any]:
        x, held = rows_for(task, seed, own["rows"])
        valid, p = players.valid(x), predictions(task, x)
        at_once = rows_per_backward(task, x)
        masks = valid.float()
        copy = masked(task, module, players, x)
        curves: list[dict[str, float]] = []
        sizes_by_round = []

        def one_round(number: int, masks: Tensor) -> Made:
            module.requires_grad_(False)
            masks = masks_for(task, module, players, x, masks, sparsity(number, rounds), own["steps"], at_once)
            size = float(sizes(masks, valid).mean())
            masks = rounded(masks, number, rounds)
            module.requires_grad_(True)
            objective = Tuning(module, copy, p, masks, valid, held, own["batch"])
            found = fit(
                module, objective, Fitting(own["tuning"], TUNING_RATE, decay=0.0, checks=5),
                seed_for(seed, "round", number), checkpoint.with_suffix(f".{number}.pt"), f"vert {number + 1}",
            )  # fmt: skip
            return module.state_dict() | {MASKS: masks}, {"curves": found, "size": size}

        files = [checkpoint.with_suffix(f".{number}.safetensors") for number in range(rounds)]
        for number, file in enumerate(files):
            state, facts = load_or_make(file, lambda n=number, m=masks: one_round(n, m), "round of vert")  # type: ignore[misc]
            masks = state.pop(MASKS).to(masks)
            module.load_state_dict(state)
            sizes_by_round.append(facts["size"])
            curves += [point | {"iteration": point["iteration"] + number * own["tuning"]} for point in facts["curves"]]
        module.requires_grad_(False)
        same = p[:held].argmax(1) == predictions(task, x[:held], module).argmax(1)
        for file in files:
            discard(file)
            discard(file.with_suffix(".lock"))
        return {"curves": curves, "agreement": float(same.double().mean()), "mask size by round": sizes_by_round}

    return trained(task, "vert", own, seed, build, train)


MASKS = "masks of the round"
"""Under which name masks are kept beside weights."""
