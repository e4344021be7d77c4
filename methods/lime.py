"""LIME, as its authors wrote it and as Captum does, on the game of `methods.game`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from benchmark.core.parameters import Space, bounded, parameters, with_defaults
from benchmark.core.seeding import seeded
from benchmark.core.types import METHODS, Attribute, Method, Modality, Task, TaskSpec, Told
from benchmark.models.outputs import OUTPUTS
from methods.game import CHUNK_FEATURES, REMOVALS, Game, Value, no_deletion, one_by_one
from methods.surrogates import Subsets, together

SAMPLES: dict[Modality, int] = {"table": 100, "text": 400, "image": 1000}
COSINE_WIDTH: dict[Modality, float] = {"text": 0.25, "image": 0.25}
"""Widths of the authors' kernel on cosine distance; that for texts counts it in hundredths, and is 25 there."""
TABLE_WIDTH = 0.75
"""That on Euclidean distance for tables, times the square root of the number of columns."""


@METHODS.register("lime", kind="baseline", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class Lime(Method):
    """Weights of a linear model around the input (Ribeiro et al. 2016, section 3.4).

    With `estimator=lime` subsets, kernel and ridge are those of the authors' package, for 0/1 players as everywhere
    here: its tables draw other values for removed columns, and it keeps the ten largest weights. With
    `estimator=captum` they are Captum's: a lasso under an exponential kernel of width 1 on cosine distance. An image's
    players are the cells of a 14 x 14 grid.

    Args:
        n_samples: random subsets a sample, by default 100 for a table, 400 for a text, 1000 for an image; each is one
            row forward. The package's own defaults are 5000, 5000 and 1000.
        estimator: `lime` or `captum`.
        penalty: of the ridge, by default 1, or of Captum's lasso, by default 0.01; at least 0.
        output: what is explained, see `benchmark.models.outputs`.
        removal: how, see `methods.game`.

    Example:
        >>> Lime(n_samples=50, output="probability").prepare(task, seed=0)(x, target)  # (B, G)
    """

    told: ClassVar[Told] = Told(
        layers="with removal=zero in texts, word vectors", optimises="fits random removal sets, near what INF asks"
    )
    space: ClassVar[Space] = Space(
        {"output": OUTPUTS, "estimator": ("lime", "captum"), "penalty": (None, 1e-4)},
        {"text": {"removal": REMOVALS}},
        {60: {"n_samples": (60,)}, 500: {"n_samples": (500,)}, None: {"n_samples": (5000,), "estimator": ("lime",)}},
    )
    n_samples: int | None = bounded(None, low=1)
    estimator: str = bounded("lime", among=("lime", "captum"))
    penalty: float | None = bounded(None, low=0)
    output: str = bounded("logit", among=OUTPUTS)
    removal: str = bounded("task", among=REMOVALS)

    def unsupported(self, spec: TaskSpec) -> str | None:
        """See `Method`."""
        return no_deletion(self.removal, spec)

    def resolved(self, task: Task | TaskSpec) -> Self:
        """See `Method`."""
        given: dict[str, Any] = {
            "n_samples": SAMPLES[task.modality], "penalty": 1.0 if self.estimator == "lime" else 0.01
        }  # fmt: skip
        return with_defaults(self, given)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        settings = parameters(self.resolved(task))
        game, samples, penalty = Game(task, self.output, self.removal), settings["n_samples"], settings["penalty"]
        if self.estimator == "captum":
            from captum._utils.models.linear_model import SkLearnLasso  # private, and the one lasso with a penalty
            from captum.attr import Lime as CaptumLime

            explainer = CaptumLime(game, SkLearnLasso(alpha=penalty))
            return one_by_one(game, task, seed, captum_weights(explainer, samples, task.n_features))
        return together(game, task, seed, Ridge(task.modality, samples, penalty))


@dataclass(frozen=True)
class Ridge:
    """The surrogate of the authors' package, see `methods.surrogates.Surrogate`: random subsets, kernel, ridge."""

    modality: Modality
    samples: int
    penalty: float = 1.0

    def draw(self, count: int, seeds: Sequence[int]) -> list[Subsets]:
        """See `Surrogate`."""
        present = subsets(self.modality, self.samples, count, seeds)
        return list(zip(present, kernel(self.modality, present), strict=True))

    def fit(self, present: Tensor, weights: Tensor, answers: Tensor) -> Tensor:
        """See `Surrogate`."""
        return ridge(present, answers, weights, self.penalty)


def captum_weights(explainer: Any, samples: int, features: int) -> Any:
    """Return the weights that an explainer of Captum gives players, as `one_by_one` asks for them.

    Captum draws from torch's global generator, hence under a seed and one sample at a time. Its lasso takes at most a
    thousand steps, and would say so for each input where these do not suffice.
    """
    from sklearn.exceptions import ConvergenceWarning

    def weigh(value: Value, count: int, sample_seed: int) -> Tensor:
        explainer.forward_func = value
        with seeded(sample_seed), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return explainer.attribute(
                torch.ones(1, count),
                baselines=0,
                n_samples=samples,
                perturbations_per_eval=min(samples, max(1, CHUNK_FEATURES // features)),
            )[0]

    return weigh


def subsets(modality: Modality, samples: int, count: int, seeds: Sequence[int]) -> Tensor:
    """Return subsets of players (n, samples, players) bool, True for present, for n seeds; the first holds them all.

    Tables and images keep each player with chance 1/2; of a text a number of words drawn uniformly is removed.
    """
    keys = torch.empty(len(seeds), samples, count)
    removed = torch.empty(len(seeds), samples, 1, dtype=torch.int64)
    generator = torch.Generator()
    for own, size, seed in zip(keys, removed, seeds, strict=True):
        generator.manual_seed(seed)
        own.uniform_(generator=generator)
        if modality == "text":
            size.random_(1, count + 1, generator=generator)
    present = ranks_below(keys, removed).logical_not_() if modality == "text" else keys < 0.5
    present[:, 0] = True
    return present


def ranks_below(keys: Tensor, sizes: Tensor) -> Tensor:
    """Return which keys (..., players) are among the `sizes` (..., 1) smallest."""
    return torch.zeros_like(keys, dtype=torch.bool).scatter_(-1, keys.argsort(-1), torch.arange(keys.shape[-1]) < sizes)


def kernel(modality: Modality, present: Tensor) -> Tensor:
    """Return the weight (...) float64 of each subset (..., players): how near it is to the whole input."""
    players = present.shape[-1]
    share = present.double().mean(-1)
    if modality == "table":
        distance = ((1 - share) * players).sqrt()
        width = TABLE_WIDTH * players**0.5
    else:
        distance, width = 1 - share.sqrt(), COSINE_WIDTH[modality]  # the cosine of a subset with the whole input
    return (-(distance**2) / width**2 / 2).exp()


def ridge(z: Tensor, values: Tensor, weights: Tensor, penalty: float) -> Tensor:
    """Return the coefficients (b, players) of weighted ridge regressions of values (b, n) on z (b, n, players)."""
    share = (weights / weights.sum(1, keepdim=True)).unsqueeze(1)  # (b, 1, n)
    z, values = z - share @ z, values.unsqueeze(2) - share @ values.unsqueeze(2)
    weighted = (z * weights.unsqueeze(2)).mT
    normal = weighted @ z + penalty * torch.eye(z.shape[2], dtype=z.dtype)
    return torch.linalg.lstsq(normal, weighted @ values, driver="gelsd").solution.squeeze(2)
