"""CXPlain: learns how much removing each feature raises the loss, with intervals from a bootstrap ensemble."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from benchmark.core.errors import BenchmarkError
from benchmark.core.parameters import Space, bounded, parameters, with_defaults
from benchmark.core.seeding import seed_for
from benchmark.core.types import METHODS, Attribute, Method, Modality, Task, TaskSpec, Told
from benchmark.learning.beside import GIVEN, Beside, methods_beside, nothing
from benchmark.learning.fitting import Curves, fit
from benchmark.learning.objective import StatelessObjective
from benchmark.models.batching import Batching
from benchmark.models.outputs import OUTPUTS, outputs
from methods.amortised import (
    AmortisedExplainer,
    AmortisedExplainerWithInterval,
    Labelled,
    Players,
    fitting_for,
    rows_for,
    trained,
)

DEFAULTS: dict[Modality, dict[str, int]] = {
    "table": {"iterations": 4000, "batch": 64, "rows": 2000, "members": 5},
    "text": {"iterations": 2400, "batch": 32, "rows": 400, "members": 3},
    "image": {"iterations": 2400, "batch": 32, "rows": 400, "members": 3},
}
LOSS = "log_probability"
"""What falls by as much as the loss of the predicted class rises."""
LEAST = 1e-7
"""What a removal that lowers the loss counts as."""
LEAST_TOTAL = 1e-4
"""Inputs whose removals together raise the loss by less than this are noise, and dropped."""
LEVEL = 0.9
"""The share of ensemble members between the ends of an interval, as quantiles of a line through them."""


def causal_targets(whole: Tensor, without: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return each player's share of the loss that removals cause, and which inputs have any signal.

    omega_i is the fall of the output, at least 1e-7, over their sum. Source: Schwab and Karlen 2019, eq. 2
    to 4, with the predicted class in place of the label, since the prediction is what is explained.

    Args:
        whole: output of the predicted class, (B,).
        without: the same without each player, (B, n).
        valid: (B, n) bool, where there is a player.

    Returns:
        omega (B, n), which sums to 1 over players, and (B,) bool.

    Raises:
        ValueError: one number for the whole batch where there should be one for each sample.
    """
    if whole.dim() != 1 or len(whole) != len(without):
        raise ValueError(f"expected an output for each of {len(without)} samples, got shape {tuple(whole.shape)}")
    delta = (whole.unsqueeze(1) - without).clamp(min=LEAST).masked_fill(~valid, 0.0)
    total = delta.sum(1, keepdim=True)
    return delta / total.clamp(min=LEAST), total.squeeze(1) > LEAST_TOTAL


def single_removals(task: Task, players: Players, x: Tensor, output: str = LOSS) -> tuple[Tensor, Tensor]:
    """Return outputs of the predicted class on x (B,), and without each player (B, n).

    Asks n + 1 rows a sample, n its own number of players.
    """
    batching = Batching(task)

    def answer(x: Tensor) -> Tensor:
        logits = task.model(x).double()
        return logits.log_softmax(1) if output == LOSS else outputs(logits, output)

    def without_each(x: Tensor, target: Tensor) -> Tensor:
        """Return outputs (n,) of `target` on one input x without each of its players; 0 for padding."""
        real = players.valid(x.unsqueeze(0))[0].nonzero().squeeze(1)
        repeated = x.expand(len(real), *x.shape)

        def ask(rows: slice) -> Tensor:
            removed = nn.functional.one_hot(real[rows], players.count).bool()
            return answer(players.remove(repeated[rows], removed))[:, target]

        answers = torch.zeros(players.count, dtype=torch.float64, device=x.device)
        if len(real):
            answers[real] = batching.ask(repeated, ask)
        return answers

    with torch.no_grad():
        whole = batching.ask(x, lambda rows: answer(x[rows]))  # (B, C)
        target = whole.argmax(1)
        without = torch.stack([without_each(*row) for row in zip(x, target, strict=True)])
    return whole.gather(1, target.unsqueeze(1)).squeeze(1), without


def shares(logits: Tensor, valid: Tensor) -> Tensor:
    """Return the softmax of logits (B, n) over valid players, (B, n)."""
    return logits.masked_fill(~valid, -1e9).softmax(1) * valid


class Divergence(StatelessObjective):
    """The objective KL(omega || A(x)) on the rows of a bootstrap sample; see `benchmark.learning.fitting.Objective`.

    Args:
        explain: maps inputs, and what is given beside them, to logits (B, n) of shares.
        x: inputs (N, ...), of which the first `held` validate.
        omega: their targets, (N, n).
        valid: (N, n) bool, where there is a player.
        held: how many validate.
        batch: inputs a step.
        bootstrap: draws as many of the other rows as there are, with replacement; without it each is used.
        given: maps rows of x to what is given beside them.
    """

    def __init__(
        self,
        explain: Callable[..., Tensor],
        x: Tensor,
        omega: Tensor,
        valid: Tensor,
        held: int,
        batch: int,
        bootstrap: torch.Generator | None = None,
        given: Callable[[Tensor], tuple[Tensor, ...]] = nothing,
    ) -> None:
        self.explain, self.x, self.omega, self.valid, self.held, self.batch = explain, x, omega, valid, held, batch
        self.given, self.held_given = given, given(torch.arange(held, device=x.device))
        count = len(x) - held
        pool = torch.arange(count, device=x.device)
        if bootstrap is not None:
            pool = torch.randint(count, (count,), generator=bootstrap, device=x.device)
        self.pool = pool + held

    def loss(self, generator: torch.Generator) -> Tensor:
        """See `Objective`."""
        drawn = torch.randint(len(self.pool), (self.batch,), generator=generator, device=self.x.device)
        rows = self.pool[drawn]
        return self._loss(rows, *self.given(rows))

    def _loss(self, rows: Tensor, *given: Tensor) -> Tensor:
        omega, valid = self.omega[rows], self.valid[rows]
        log_shares = self.explain(self.x[rows], *given).masked_fill(~valid, -1e9).log_softmax(1)
        return (omega * (omega.clamp(min=1e-12).log() - log_shares) * valid).sum(1).mean()

    def validate(self) -> dict[str, float]:
        """See `Objective`."""
        return {"loss": float(self._loss(torch.arange(self.held, device=self.x.device), *self.held_given))}


def median_and_interval(members: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return median, lower and upper end (B, n) of members (M, B, n): percentiles (1 - level) / 2 and its mirror."""
    lower, upper = members.quantile((1 - LEVEL) / 2, dim=0), members.quantile((1 + LEVEL) / 2, dim=0)
    return members.quantile(0.5, dim=0), lower, upper


@dataclass(frozen=True, eq=False)
class Targets:
    """What an ensemble is trained on: the inputs whose removals have any signal.

    Attributes:
        x: inputs (N, ...).
        omega: their targets, (N, n).
        valid: (N, n) bool, where there is a player.
        held: how many of them, at the head, validate.
    """

    x: Tensor
    omega: Tensor
    valid: Tensor
    held: int


def targets_for(task: Task, players: Players, x: Tensor, held: int, output: str = LOSS) -> Targets:
    """Return the targets of inputs x (N, ...), the first `held` of which validate, without those that are noise.

    Raises:
        BenchmarkError: none of those that validate, or none of the others, have any signal.
    """
    valid = players.valid(x)
    omega, has_signal = causal_targets(*single_removals(task, players, x, output), valid)
    held_with_signal = int(has_signal[:held].sum())
    if held_with_signal in (0, int(has_signal.sum())):
        raise BenchmarkError(
            f"cxplain: removing single features of {task.name} never changes its prediction: nothing to learn"
        )
    return Targets(x[has_signal], omega[has_signal].float(), valid[has_signal], held_with_signal)


@METHODS.register("cxplain", kind="learned", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class CXPlain(Method):
    """Share of the loss that each feature's removal causes (CXPlain, Schwab and Karlen 2019), never negative.

    The loss is that of the predicted class, where the paper has the label's (eq. 2 to 4): the prediction is explained.
    The attribution is the median of a bootstrap ensemble, whose quantiles give an interval.

    Args:
        rows: training inputs that are asked once, with each player removed.
        members: networks in the bootstrap ensemble; one has no interval.
        iterations: training steps, in equal parts for the members.
        seconds: ends training in place of `iterations`, in equal parts too.
        batch: inputs a step.
        output: what falls, `log_probability`, which is minus the loss of the paper, or see `benchmark.models.outputs`.
        given: what the encoder is given beside the input: `nothing`; or `gradient`, what `deepfaith_hinted` is given by
            default, gradients of the predicted class (on images LRP and DeepLIFT, too), the class and its margin.

    Example:
        >>> explain = CXPlain(members=3).prepare(task, seed=0)
        >>> explain(x, target)  # (B, G), at least 0
        >>> lower, upper = explain.interval(x)
    """

    told: ClassVar[Told] = Told(
        training_rows=True,
        prediction="with given=gradient, class and margin",
        gradients="with given=gradient",
        layers="in texts, word vectors; with given=gradient also what all layers of image models take and give, and "
        "their weights",
        optimises="learns what FE and MC ask, of single features",
        signed=False,
    )
    space: ClassVar[Space] = Space({"output": (LOSS, *OUTPUTS), "rows": (400, 2000), "members": (1, 5)})
    only_predicted: ClassVar[bool] = True
    rows: int | None = bounded(None, low=2)
    members: int | None = bounded(None, low=1)
    iterations: int | None = bounded(None, low=1)
    seconds: float | None = bounded(None, above=0)
    batch: int | None = bounded(None, low=1)
    output: str = bounded(LOSS, among=(LOSS, *OUTPUTS))
    given: str = bounded("nothing", among=GIVEN)

    def resolved(self, task: Task | TaskSpec) -> Self:
        """See `Method`."""
        return with_defaults(self, DEFAULTS[task.modality])

    def learns_from(self, modality: Modality) -> Sequence[Method]:
        """See `Method`."""
        return methods_beside(self.given, modality)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; the explainer is a `TrainedExplainer`, and with several members an `UncertainExplainer`.

        Raises:
            BenchmarkError: no removal of a single player ever changes a prediction.
            DivergedError: a loss is not finite.
            NoGradientError: gradients are to be given, and none passes the model.
        """
        settings = parameters(self.resolved(task))
        players, members = Players(task), settings["members"]
        beside = Beside(task, self.given, "cxplain")
        classes = len(task.class_names) if beside.count else 0  # the paper's explainer is not told the class

        def build() -> nn.Module:
            return nn.ModuleList([Labelled(task, 1, classes, beside.count) for _ in range(members)])

        def logits(member: nn.Module, x: Tensor, *given: Tensor) -> Tensor:
            return players.pool(member(x, *given)).squeeze(-1)  # (B, n)

        def train(module: nn.Module, checkpoint: Path) -> dict[str, Any]:
            x, held = rows_for(task, seed, settings["rows"])
            targets = targets_for(task, players, x, held, self.output)
            given = beside.of_rows(targets.x)
            fitting = fitting_for(settings["iterations"], self.seconds).part(members)
            curves: Curves = []
            for i, member in enumerate(module.children()):
                bootstrap = torch.Generator(x.device).manual_seed(seed_for(seed, "bootstrap", i))
                objective = Divergence(
                    partial(logits, member),
                    targets.x,
                    targets.omega,
                    targets.valid,
                    targets.held,
                    settings["batch"],
                    bootstrap if members > 1 else None,
                    given,
                )
                member_curves = fit(
                    member,
                    objective,
                    fitting,
                    seed_for(seed, "member", i),
                    checkpoint.with_suffix(f".{i}.pt"),
                    f"cxplain {i + 1}",
                )
                curves += [point | {"member": float(i)} for point in member_curves]
            return {"curves": curves, "rows": {"asked": len(x), "with signal": len(targets.x)}}

        module, report = trained(task, "cxplain", [settings, beside.origins()], seed, build, train)

        def ensemble(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """Return the median and the ends of the interval, each (B, G): a player's share is split evenly."""
            valid, given = players.valid(x), beside(x)
            by_member = torch.stack([shares(logits(member, x, *given), valid) for member in module.children()])
            median, lower, upper = (players.features(y) / players.patch**2 for y in median_and_interval(by_member))
            return median, lower, upper

        def explain(x: Tensor, target: Tensor) -> Tensor:
            return ensemble(x)[0]

        if members == 1:
            return AmortisedExplainer(explain, report)
        return AmortisedExplainerWithInterval(explain, report, lambda x: ensemble(x)[1:])
