"""CXPlain: learns how much removing each feature raises the loss, with intervals from a bootstrap ensemble."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from benchmark.core.parameters import bounded, parameters, with_defaults
from benchmark.core.types import METHODS, Attribute, Method, Modality, Task, TaskSpec
from benchmark.learning.objective import StatelessObjective

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from methods.amortised import Players

DEFAULTS: dict[Modality, dict[str, int]] = {
    "table": {"iterations": 800, "batch": 64, "rows": 2000, "members": 5},
    "text": {"iterations": 800, "batch": 32, "rows": 400, "members": 3},
    "image": {"iterations": 800, "batch": 32, "rows": 400, "members": 3},
}
LEAST = 1e-7
"""What a removal that lowers the loss counts as."""
SILENT = 1e-4
"""Inputs whose removals together raise the loss by less than this are noise, and dropped."""
LEVEL = 0.9
"""The share of ensemble members between the ends of an interval, as quantiles of a line through them."""


def causal_targets(whole: Tensor, without: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return targets omega (B, n), which sum to 1 over players, and whether each input has any signal, (B,) bool.

    whole (B,): log-probability of the predicted class; without (B, n): the same without each player; valid (B, n).
    omega_i is the fall of the log-probability, at least 1e-7, over their sum. Source: Schwab and Karlen 2019, eq. 2
    to 4, with the predicted class in place of the label, since the prediction is what is explained.

    Raises:
        ValueError: one number for the whole batch where there should be one for each sample.
    """
    if whole.dim() != 1 or len(whole) != len(without):
        raise ValueError(
            f"expected a log-probability for each of {len(without)} samples, got shape {tuple(whole.shape)}"
        )
    delta = (whole.unsqueeze(1) - without).clamp(min=LEAST).masked_fill(~valid, 0.0)
    total = delta.sum(1, keepdim=True)
    return delta / total.clamp(min=LEAST), total.squeeze(1) > SILENT


def single_removals(task: Task, players: Players, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-probabilities of the predicted class on x (B,), and without each player (B, n).

    Asks n + 1 rows a sample, n its own number of players.
    """
    import torch

    from benchmark.scoring.masked_model import MaskedModel

    masked_model, parts = MaskedModel(task), []
    rows = max(1, masked_model.rows_per_forward(x))
    with torch.no_grad():
        whole = torch.cat([task.model(some).double().log_softmax(1) for some in x.split(rows)])
        target = whole.argmax(1)
        for i, row in enumerate(x):
            real = players.valid(row.unsqueeze(0))[0].nonzero().squeeze(1)
            found = torch.zeros(players.count, dtype=torch.float64, device=x.device)
            for own in real.split(rows):
                gone = torch.nn.functional.one_hot(own, players.count).bool()
                without = players.remove(row.expand(len(own), *row.shape), gone)
                found[own] = task.model(without).double().log_softmax(1)[:, target[i]]
            parts.append(found)
    return whole.gather(1, target.unsqueeze(1)).squeeze(1), torch.stack(parts)


def shares(logits: Tensor, valid: Tensor) -> Tensor:
    """Return the softmax of logits (B, n) over valid players, (B, n)."""
    return logits.masked_fill(~valid, -1e9).softmax(1) * valid


class Divergence(StatelessObjective):
    """The objective KL(omega || A(x)) on the rows of a bootstrap sample; see `benchmark.learning.fitting.Objective`."""

    def __init__(
        self, explain: Callable[[Tensor], Tensor], x: Tensor, omega: Tensor, valid: Tensor, held: int, batch: int,
        bootstrap: torch.Generator | None = None,
    ) -> None:  # fmt: skip
        import torch

        self.explain, self.x, self.omega, self.valid, self.held, self.batch = explain, x, omega, valid, held, batch
        count = len(x) - held
        pool = torch.arange(count, device=x.device)
        if bootstrap is not None:
            pool = torch.randint(count, (count,), generator=bootstrap, device=x.device)
        self.pool = pool + held

    def loss(self, generator: torch.Generator) -> Tensor:
        """See `Objective`."""
        import torch

        return self._loss(
            self.pool[torch.randint(len(self.pool), (self.batch,), generator=generator, device=self.x.device)]
        )

    def _loss(self, rows: Tensor) -> Tensor:
        omega, valid = self.omega[rows], self.valid[rows]
        found = self.explain(self.x[rows]).masked_fill(~valid, -1e9).log_softmax(1)
        return (omega * (omega.clamp(min=1e-12).log() - found) * valid).sum(1).mean()

    def validate(self) -> dict[str, float]:
        """See `Objective`."""
        import torch

        return {"loss": float(self._loss(torch.arange(self.held, device=self.x.device)))}


def median_and_interval(members: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return median, lower and upper end (B, n) of members (M, B, n): percentiles (1 - level) / 2 and its mirror."""
    lower, upper = members.quantile((1 - LEVEL) / 2, dim=0), members.quantile((1 + LEVEL) / 2, dim=0)
    return members.quantile(0.5, dim=0), lower, upper


@METHODS.register("cxplain", kind="learned", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class CXPlain(Method):
    """Share of the loss that each feature's removal causes (CXPlain, Schwab and Karlen 2019), never negative.

    `rows`: training inputs that are asked once, with each player removed; `members`: bootstrap ensemble, whose median
    is the attribution.
    """

    rows: int | None = bounded(None, low=2)
    members: int | None = bounded(None, low=1)
    iterations: int | None = bounded(None, low=1)
    batch: int | None = bounded(None, low=1)

    def resolved(self, task: Task | TaskSpec) -> Self:
        """See `Method`."""
        return with_defaults(self, DEFAULTS[task.modality])

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; the explainer has a `report` and intervals.

        Raises:
            DivergedError: a loss is not finite.
        """
        import torch

        from benchmark.core.errors import BenchmarkError
        from benchmark.core.seeding import seed_for
        from benchmark.learning.fitting import Fitting, fit
        from methods.amortised import AmortisedExplainer, Labelled, Players, rows_for, trained

        own = parameters(self.resolved(task))
        players = Players(task)

        def build() -> nn.Module:
            return torch.nn.ModuleList([Labelled(task, 1) for _ in range(own["members"])])

        def logits(member: nn.Module, x: Tensor) -> Tensor:
            return players.pool(member(x)).squeeze(-1)

        def train(module: nn.Module, checkpoint: Path) -> dict[str, Any]:
            x, held = rows_for(task, seed, own["rows"])
            valid = players.valid(x)
            omega, has_signal = causal_targets(*single_removals(task, players, x), valid)
            held_with_signal = int(has_signal[:held].sum())
            x, omega, valid = x[has_signal], omega[has_signal].float(), valid[has_signal]
            if held_with_signal == 0 or len(x) == held_with_signal:
                raise BenchmarkError(
                    f"cxplain: removing single features of {task.name} never changes its prediction: nothing to learn"
                )
            curves: list[dict[str, float]] = []
            for i, member in enumerate(module.children()):
                bootstrap = torch.Generator(x.device).manual_seed(seed_for(seed, "bootstrap", i))
                objective = Divergence(
                    partial(logits, member), x, omega, valid, held_with_signal, own["batch"],
                    bootstrap if own["members"] > 1 else None,
                )  # fmt: skip
                found = fit(
                    member, objective, Fitting(own["iterations"], 1e-3), seed_for(seed, "member", i),
                    checkpoint.with_suffix(f".{i}.pt"), f"cxplain {i + 1}",
                )  # fmt: skip
                curves += [point | {"member": float(i)} for point in found]
            return {"curves": curves, "rows": {"asked": len(has_signal), "with signal": int(has_signal.sum())}}

        module, report = trained(task, "cxplain", own, seed, build, train)

        def ensemble(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            valid = players.valid(x)
            members = torch.stack([shares(logits(member, x), valid) for member in module.children()])
            median, lower, upper = (players.features(part) / players.patch**2 for part in median_and_interval(members))
            return median, lower, upper

        def interval(x: Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                return ensemble(x)[1:]

        return AmortisedExplainer(lambda x, target: ensemble(x)[0], report, interval if own["members"] > 1 else None)
