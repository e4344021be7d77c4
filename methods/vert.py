"""VerT: masks of what a tuned copy of the model needs, found with the copy in alternating rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from benchmark.core.registry import bounded, parameters, with_defaults
from benchmark.core.types import METHODS, Attribute, Method, Modality, Task, TaskSpec
from benchmark.learning.objective import StatelessObjective

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from methods.amortised import Players

DEFAULTS: dict[Modality, dict[str, int]] = {
    "table": {"rows": 512, "rounds": 5, "steps": 60, "tuning": 200, "search": 200, "batch": 128},
    "text": {"rows": 64, "rounds": 5, "steps": 60, "tuning": 60, "search": 200, "batch": 16},
    "image": {"rows": 64, "rounds": 5, "steps": 60, "tuning": 60, "search": 200, "batch": 32},
}
MASK_RATE = 0.05
TUNING_RATE = 3e-4
SPARSE = 1.0
"""The weight of the mask's size where an input is explained."""

ITERATIONS: dict[Modality, dict[str, int]] = {
    "table": {"iterations": 1000},
    "text": {"iterations": 600},
    "image": {"iterations": 600},
}

Mix = Callable[["Tensor", "Tensor"], "Tensor"]
"""Probabilities (B, C) of a model on rows (B,) of its inputs, weighed by masks (B, n) against distractors."""
KEPT = 3.0
"""The logit at which a net of masks begins, nearly 1, as masks do: from one half it falls to nothing and stays."""
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


class Masking(StatelessObjective):
    """The objective of a net of masks: small, and what they hide leaves the tuned copy's answers as they were.

    See `benchmark.learning.fitting.Objective`. `mask` gives masks (B, n) of rows (B,); the first `held` of `count` rows
    are for validation.
    """

    def __init__(
        self, mask: Callable[[Tensor], Tensor], copy: Mix, valid: Tensor, held: int, batch: int
    ) -> None:  # fmt: skip
        self.mask, self.copy, self.valid, self.held, self.batch = mask, copy, valid, held, batch

    def loss(self, generator: torch.Generator) -> Tensor:
        """See `Objective`."""
        import torch

        count, device = len(self.valid) - self.held, self.valid.device
        return self._loss(torch.randint(count, (self.batch,), generator=generator, device=device) + self.held)

    def _loss(self, rows: Tensor) -> Tensor:
        import torch

        masks, valid = self.mask(rows), self.valid[rows]
        with torch.no_grad():
            whole = self.copy(rows, valid.to(masks))
        return (SPARSE * sizes(masks, valid) + distance(whole, self.copy(rows, masks))).mean()

    def validate(self) -> dict[str, float]:
        """See `Objective`."""
        import torch

        rows = torch.arange(self.held, device=self.valid.device)
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
    from benchmark.core.store import Made, discard, kept
    from benchmark.learning.fitting import Fitting, fit
    from benchmark.scoring.metering import count_as
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
            state, facts = kept(file, lambda n=number, m=masks: one_round(n, m), "round of vert")  # type: ignore[misc]
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


@METHODS.register("vert", kind="learned", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class VerT(Method):
    """What a tuned copy of the model needs (VerT, Bhalla et al. 2023): a mask in [0, 1], sought for each input.

    The copy is tuned on `rows` training inputs until erasing what masks hide changes little; what is erased takes the
    task's removal baseline. An explanation is `search` steps on the frozen copy, so it costs as many rows forward and
    backward. It does not depend on the class, and it explains the copy: the report has how often copy and model agree.
    `rounds` of `steps` for masks and `tuning` for the copy.
    """

    rows: int | None = bounded(None, low=2)
    rounds: int | None = bounded(None, low=1)
    steps: int | None = bounded(None, low=1)
    tuning: int | None = bounded(None, low=1)
    batch: int | None = bounded(None, low=1)
    search: int | None = bounded(None, low=1)

    def resolved(self, task: Task | TaskSpec) -> Self:
        """See `Method`."""
        return with_defaults(self, DEFAULTS[task.modality])

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; the explainer has a `report`.

        Raises:
            DivergedError: a loss is not finite.
        """
        import torch

        from methods.amortised import AmortisedExplainer, Players
        from methods.continuous import rows_per_backward

        own = parameters(self.resolved(task))
        search = own.pop("search")
        model, report = tuned_copy(task, own, seed)
        players = Players(task)

        def explain(x: Tensor, target: Tensor) -> Tensor:
            begun = players.valid(x).float()
            at_once = rows_per_backward(task, x)
            with torch.enable_grad():
                return players.features(masks_for(task, model, players, x, begun, SPARSE, search, at_once))

        return AmortisedExplainer(explain, report)


@METHODS.register("vert_amortised", kind="learned", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class VerTAmortised(Method):
    """The masks of `vert` in one forward pass, by a net of masks trained on such a tuned copy: our variant.

    It is not in the paper. `iterations` train the net; the rest is as in `vert`.
    """

    rows: int | None = bounded(None, low=2)
    rounds: int | None = bounded(None, low=1)
    steps: int | None = bounded(None, low=1)
    tuning: int | None = bounded(None, low=1)
    batch: int | None = bounded(None, low=1)
    iterations: int | None = bounded(None, low=1)

    def resolved(self, task: Task | TaskSpec) -> Self:
        """See `Method`."""
        return with_defaults(self, DEFAULTS[task.modality] | ITERATIONS[task.modality])

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; the explainer has a `report`.

        Raises:
            DivergedError: a loss is not finite.
        """
        import torch

        from benchmark.learning.fitting import Fitting, fit
        from methods.amortised import AmortisedExplainer, Labelled, Players, combined, rows_for, trained

        own = parameters(self.resolved(task))
        iterations = own.pop("iterations")
        copy, first = tuned_copy(task, own, seed)
        players = Players(task)

        def mask(module: nn.Module, x: Tensor) -> Tensor:
            return players.pool(module(x)).squeeze(-1).sigmoid() * players.valid(x)

        def train(module: nn.Module, checkpoint: Path) -> dict[str, Any]:
            x, held = rows_for(task, seed)
            answer = masked(task, copy, players, x)
            objective = Masking(lambda rows: mask(module, x[rows]), answer, players.valid(x), held, own["batch"])
            return {"curves": fit(module, objective, Fitting(iterations, 1e-3), seed, checkpoint, "vert_amortised")}

        def build() -> nn.Module:
            net = Labelled(task, 1)
            torch.nn.init.constant_(net.backbone.head.bias, KEPT)
            return net

        identity = own | {"iterations": iterations}
        module, report = trained(
            task, "vert_amortised", identity, seed, build, train
        )  # fmt: skip
        report = report | {"agreement": first["agreement"]}
        return AmortisedExplainer(lambda x, target: players.features(mask(module, x)), combined(report, first, "copy"))
