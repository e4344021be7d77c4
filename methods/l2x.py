"""L2X: the k features that tell most of the prediction, by a selector and a predictor trained together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from benchmark.core.parameters import Space, bounded, parameters, with_defaults
from benchmark.core.types import METHODS, Attribute, Method, Modality, Task, TaskSpec
from benchmark.learning.fitting import Fitting, fit
from benchmark.learning.objective import StatelessObjective
from methods.amortised import (
    AmortisedExplainer,
    Labelled,
    Players,
    predictions,
    predictor_for,
    rows_for,
    surrogate_of,
    trained,
)

DEFAULTS: dict[Modality, dict[str, Any]] = {
    "table": {"iterations": 1000, "batch": 128, "temperature": 0.1},
    "text": {"iterations": 1000, "batch": 32, "k": 10, "temperature": 0.5},
    "image": {"iterations": 1000, "batch": 32, "k": 10, "temperature": 0.5},
}
SHARE = 3
"""One column in three of a table is selected."""
ABSENT = -1e9
"""The logit of padding, which is never selected."""


def relaxed_k_hot(logits: Tensor, k: int, temperature: float, generator: torch.Generator | None) -> Tensor:
    """Return a relaxed selection (B, n) in [0, 1] of about k players: the largest of k Gumbel-softmax vectors.

    Draws are with replacement, so at most k players are chosen. Source: Chen et al. 2018, section 3.2.

    Args:
        logits: of players, (B, n).
        k: draws.
        temperature: of the softmax, above 0; near 0 each vector selects one player.
        generator: draws the Gumbel noise.
    """
    shape = len(logits), k, logits.shape[1]
    uniform = torch.rand(shape, generator=generator, device=logits.device).clamp(1e-10, 1 - 1e-7)
    gumbel = -(-uniform.log()).log()
    return ((logits.unsqueeze(1) + gumbel) / temperature).softmax(2).amax(1)


def inclusion(logits: Tensor, k: int) -> Tensor:
    """Return each player's chance to be among k draws with replacement, 1 - (1 - softmax)^k, (B, n) in [0, 1].

    logits (B, n).
    """
    return 1 - (1 - logits.softmax(1)) ** k


def top_k(logits: Tensor, k: int) -> Tensor:
    """Return the hard selection (B, n) bool of the k largest logits (B, n), of which padding is none."""
    picked = logits.topk(min(k, logits.shape[1]), 1).indices
    chosen = torch.zeros_like(logits, dtype=torch.bool).scatter(1, picked, True)
    return chosen & logits.isfinite() & (logits > ABSENT / 2)


class Selection(StatelessObjective):
    """The objective E sum_c p_c(x) log q_c(x_S), S drawn by the selector; see `benchmark.learning.fitting.Objective`.

    Source: Chen et al. 2018, eq. 6.

    Args:
        selector: maps inputs (B, ...) to logits (B, n) of players.
        predictor: maps inputs and a selection (B, n) in [0, 1] to class logits (B, C).
        x: inputs (N, ...), of which the first `held` validate.
        p: the model's probabilities (N, C) for them.
        held: how many validate.
        batch: inputs a step.
        k: see `relaxed_k_hot`.
        temperature: see `relaxed_k_hot`.
    """

    def __init__(
        self,
        selector: Callable[[Tensor], Tensor],
        predictor: Callable[[Tensor, Tensor], Tensor],
        x: Tensor,
        p: Tensor,
        held: int,
        batch: int,
        k: int,
        temperature: float,
    ) -> None:
        self.selector, self.predictor, self.x, self.p = selector, predictor, x, p
        self.held, self.batch, self.k, self.temperature = held, batch, k, temperature

    def loss(self, generator: torch.Generator) -> Tensor:
        """See `Objective`."""
        drawn = torch.randint(len(self.x) - self.held, (self.batch,), generator=generator, device=self.x.device)
        rows = drawn + self.held
        return self._loss(self.x[rows], self.p[rows], generator)

    def _loss(self, x: Tensor, p: Tensor, generator: torch.Generator) -> Tensor:
        selection = relaxed_k_hot(self.selector(x), self.k, self.temperature, generator)
        return -(p * self.predictor(x, selection).log_softmax(1)).sum(1).mean()

    def validate(self) -> dict[str, float]:
        """See `Objective`."""
        generator = torch.Generator(self.x.device).manual_seed(0)
        x, p = self.x[: self.held], self.p[: self.held]
        return {"loss": float(torch.stack([self._loss(x, p, generator) for _ in range(4)]).mean())}


@METHODS.register(
    "l2x",
    kind="learned",
    modalities=("table", "text", "image"),
    told={
        "training rows": "yes",
        "prediction": "all probabilities, whole inputs",
        "sign": "unsigned",
        "rows in training": "2 * N forward",
    },
)
@dataclass(frozen=True)
class L2X(Method):
    """Chance that a feature is among the k most telling ones (L2X, Chen et al. 2018), whatever the class.

    The paper explains by the k largest logits; here the attribution is each player's chance to be drawn, which ranks
    all of them. The report has the encoding diagnostic: how often the predictor trained along, and one trained on
    random masks, find the model's class from the selection; a large gap means that the choice itself tells the class
    (Jethani et al. 2021).

    Args:
        k: players that are selected, by default a third of a table's columns, ten words or ten patches.
        temperature: of the relaxation, above 0.
        iterations: training steps.
        batch: inputs a step.

    Example:
        >>> explain = L2X(k=5).prepare(task, seed=0)
        >>> explain(x, target)  # (B, G) in [0, 1]
    """

    space: ClassVar[Space] = Space(
        {"temperature": (0.1, 0.5, 1.0), "iterations": (1000, 3000)},
        {"table": {"k": (None, 1, 2, 4)}, "text": {"k": (5, 10, 20)}, "image": {"k": (5, 10, 20)}},
    )
    only_predicted: ClassVar[bool] = True
    k: int | None = bounded(None, low=1)
    temperature: float | None = bounded(None, above=0)
    iterations: int | None = bounded(None, low=1)
    batch: int | None = bounded(None, low=1)

    def resolved(self, task: Task | TaskSpec) -> Self:
        """See `Method`."""
        return with_defaults(self, {"k": -(-task.n_features // SHARE)} | DEFAULTS[task.modality])

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; the explainer is a `TrainedExplainer`.

        Raises:
            DivergedError: a loss is not finite.
        """
        settings = parameters(self.resolved(task))
        k, iterations = settings["k"], settings["iterations"]
        players = Players(task)

        def build() -> nn.Module:
            return nn.ModuleDict({"selector": Labelled(task, 1), "predictor": predictor_for(task, masked=False)})

        def logits(module: nn.Module, x: Tensor) -> Tensor:
            """Return the selector's logits (B, n) of players."""
            by_player = players.pool(module.get_submodule("selector")(x)).squeeze(-1)
            return by_player.masked_fill(~players.valid(x), ABSENT)

        def train(module: nn.Module, checkpoint: Path) -> dict[str, Any]:
            x, held = rows_for(task, seed)
            p = predictions(task, x)
            net = module.get_submodule("predictor")

            def predictor(x: Tensor, selection: Tensor) -> Tensor:
                return net(x, weights=selection)

            objective = Selection(
                lambda rows: logits(module, rows),
                predictor,
                x,
                p,
                held,
                settings["batch"],
                k,
                settings["temperature"],
            )
            curves = fit(module, objective, Fitting(iterations, 1e-3), seed, checkpoint, "l2x")
            surrogate, _ = surrogate_of(task, seed, iterations)
            with torch.no_grad():
                selected = top_k(logits(module, x[:held]), k)
                encoding = agreements(players, predictor, surrogate, x[:held], selected, p[:held].argmax(1))
            return {"curves": curves, "encoding": encoding}

        module, report = trained(task, "l2x", settings, seed, build, train)

        def explain(x: Tensor, target: Tensor) -> Tensor:
            return players.features(inclusion(logits(module, x), k).masked_fill(~players.valid(x), 0.0))

        return AmortisedExplainer(explain, report)


def agreements(
    players: Players,
    predictor: Callable[[Tensor, Tensor], Tensor],
    surrogate: nn.Module,
    x: Tensor,
    selected: Tensor,
    target: Tensor,
) -> dict[str, float]:
    """Return how often two predictors find the class `target` (B,) from the `selected` players (B, n) of x alone.

    One was trained along with the selector, the other, `surrogate`, on random masks. Source: Jethani et al. 2021.
    """
    removed = ~selected & players.valid(x)
    by_predictor = {
        "trained along": predictor(x, selected.float()).argmax(1),
        "on random masks": surrogate(players.remove(x, removed), removed=players.features(removed)).argmax(1),
    }
    return {name: float((guess == target).double().mean()) for name, guess in by_predictor.items()}
