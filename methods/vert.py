"""VerT: masks of the features that a tuned copy of the model needs; masks and copy are found in alternating rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from benchmark.core.parameters import bounded, parameters, with_defaults
from benchmark.core.types import METHODS, Attribute, Method, Modality, Task, TaskSpec
from benchmark.learning.objective import StatelessObjective
from methods.vert_masks import (
    SPARSE,
    Mix,
    distance,
    masked,
    masks_for,
    sizes,
    tuned_copy,
)

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor, nn


DEFAULTS: dict[Modality, dict[str, int]] = {
    "table": {"rows": 512, "rounds": 5, "steps": 60, "tuning": 200, "search": 200, "batch": 128},
    "text": {"rows": 64, "rounds": 5, "steps": 60, "tuning": 60, "search": 200, "batch": 16},
    "image": {"rows": 64, "rounds": 5, "steps": 60, "tuning": 60, "search": 200, "batch": 32},
}

ITERATIONS: dict[Modality, dict[str, int]] = {
    "table": {"iterations": 1000},
    "text": {"iterations": 600},
    "image": {"iterations": 600},
}
KEPT = 3.0
"""The logit at which a net of masks begins, nearly 1, as masks do: from one half it falls to nothing and stays."""


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
