"""Perturbation methods through Captum, on the game "which players are present", alike for all modalities.

Players are columns, the real words of a text (padding never plays) or cells of a grid over an image. Captum sees a
vector of ones (present) and zeros (removed); the task's own removal turns it into an input. What is explained is the
target's logit, or its probability with `output=probability`.

Captum takes over a second to import, so methods import it when they are prepared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.core.errors import DataError
from benchmark.core.parameters import bounded, parameters, with_defaults
from benchmark.core.seeding import content_seeds, seeded
from benchmark.core.types import METHODS, Attribute, Method, Modality, Task, TaskSpec
from benchmark.models.batching import Batching

if TYPE_CHECKING:
    from captum import attr

OUTPUTS = ("logit", "probability")
SAMPLES: dict[Modality, int] = {"table": 100, "text": 400, "image": 1000}
CHUNK_FEATURES = 2**22
"""Features of perturbed inputs that exist at a time, whatever their number."""
GRID = 14
"""An image's players are the cells of a 14 x 14 grid, or its pixels where it has fewer a side."""


class Game:
    """What the target's output is with some features present: the value of a coalition.

    Args:
        task: model, and how its features are removed.
        output: `logit`, or `probability` for that under a softmax.
    """

    def __init__(self, task: Task, output: str) -> None:
        self.task, self.output = task, output
        self.batching = Batching(task)

    @torch.no_grad()
    def __call__(self, present: Tensor, x: Tensor, target: Tensor) -> Tensor:
        """Return the target's output with some features present, in forwards of bounded size.

        Args:
            present: (n, ...), 1 for present and 0 for removed. Features missing at the end are padding.
            x: inputs (n, ...), one for each row of `present`.
            target: classes (n,).

        Returns:
            The output (n,).

        Raises:
            DataError: the model's answer is not finite.
        """
        removed = present.flatten(1) < 0.5  # (n, G), or fewer columns

        def ask(rows: slice) -> Tensor:
            valid = self.task.removal.valid(x[rows])
            absent = F.pad(removed[rows], (0, valid.shape[1] - removed.shape[1])) & valid
            logits = self.task.model(self.task.remove(x[rows], absent))
            if not bool(logits.isfinite().all()):
                raise DataError(f"the model of {self.task.name} gives NaN or inf where features are removed")
            outputs = logits.softmax(-1) if self.output == "probability" else logits
            return outputs.gather(1, target[rows].unsqueeze(1)).squeeze(1)

        return self.batching.ask(x, ask)


def players(task: Task, x: Tensor) -> Tensor:
    """Return each feature's player (G,) for one input (1, ...), or -1 for padding."""
    if task.modality == "image":
        height, width = x.shape[-2:]
        down, across = min(GRID, height), min(GRID, width)
        row, column = torch.arange(height) * down // height, torch.arange(width) * across // width
        return (row.unsqueeze(1) * across + column).flatten().to(x.device)
    valid = task.removal.valid(x)[0]
    return torch.where(valid, valid.cumsum(0) - 1, -1)


def _side(task: Task | TaskSpec) -> int:
    return round(task.n_features**0.5)


def _slide(task: Task, output: str, window: int) -> Attribute:
    """Remove a window at each place and spread the fall of the output over what it covered."""
    from captum.attr import Occlusion as CaptumOcclusion

    explainer = CaptumOcclusion(Game(task, output))
    image = task.modality == "image"

    def slide(x: Tensor, target: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the falls (B, features of `shape`) as a window slides over features laid out in `shape`."""
        sizes = tuple(min(window, side) for side in shape)
        strides = tuple(max(1, size // 2) for size in sizes) if image else (1,)
        falls = explainer.attribute(
            torch.ones(len(x), *shape, device=x.device),
            sizes,
            strides,
            baselines=0,
            additional_forward_args=(x, target),
            perturbations_per_eval=max(1, min(task.n_features, CHUNK_FEATURES // (task.n_features * len(x)))),
        )
        return falls.flatten(1)

    def explain(x: Tensor, target: Tensor) -> Tensor:
        if not task.removal.pads:
            return slide(x, target, (_side(task), _side(task)) if image else (task.n_features,))
        parts = []  # a window never reaches into padding, which stands at the end
        for i, words in enumerate(task.removal.valid(x).sum(1).tolist()):
            falls = slide(x[i : i + 1], target[i : i + 1], (words,))
            parts.append(F.pad(falls, (0, task.n_features - words)))
        return torch.cat(parts)

    return explain


@METHODS.register("occlusion", kind="baseline", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class Occlusion(Method):
    """Fall of the output while a window slides over the features (Zeiler and Fergus 2014, section 4.2).

    Args:
        window: features a side removed together, by default 1 column (which is feature ablation), 3 words, or a 14th
            of an image's side, which moves on by half.
        output: what falls, the target's `logit` or its `probability`.

    Example:
        >>> Occlusion(window=2, output="probability").prepare(task, seed=0)(x, target)  # (B, G)
    """

    window: int | None = bounded(None, low=1)
    output: str = bounded("logit", among=OUTPUTS)

    def resolved(self, task: Task | TaskSpec) -> Self:
        """See `Method`."""
        windows = {"table": 1, "text": 3, "image": max(2, _side(task) // GRID)}
        return with_defaults(self, {"window": windows[task.modality]})

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        return _slide(task, self.output, parameters(self.resolved(task))["window"])


@METHODS.register("feature_ablation", kind="baseline", modalities=("table", "text"))
@dataclass(frozen=True)
class FeatureAblation(Method):
    """Fall of the output when one feature is removed.

    Args:
        output: what falls, the target's `logit` or its `probability`.

    Example:
        >>> FeatureAblation(output="probability").prepare(task, seed=0)(x, target)  # (B, G)
    """

    output: str = bounded("logit", among=OUTPUTS)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        from captum.attr import FeatureAblation as CaptumFeatureAblation

        explainer = CaptumFeatureAblation(Game(task, self.output))

        def explain(x: Tensor, target: Tensor) -> Tensor:
            whole = torch.ones(len(x), task.n_features, device=x.device)
            falls = explainer.attribute(
                whole, baselines=0, additional_forward_args=(x, target), perturbations_per_eval=task.n_features
            )
            # to remove padding changes nothing, but another row of a batch may be rounded otherwise
            return falls.masked_fill(~task.removal.valid(x), 0.0)

        return explain


def _regress(
    explainer: attr.Lime, game: Game, task: Task, seed: int, n_samples: int, efficient: bool = False
) -> Attribute:
    """Explain each sample under its own seed, its players' weights shared out evenly among their features.

    Where weights are `efficient` they sum to what all players change together; a single one gets all of it. Captum
    draws from torch's global generator, hence one sample at a time.
    """

    def explain_sample(x: Tensor, target: Tensor, sample_seed: int) -> Tensor:
        """Return the attribution (G,) of one sample: x (1, ...), target (1,)."""
        player = players(task, x)  # (G,)
        count = int(player.max()) + 1
        column = player.clamp(min=0)

        def value(present: Tensor) -> Tensor:
            """Return the output (n,) with some players present, (n, players)."""
            rows = x.repeat(len(present), *[1] * (x.dim() - 1))
            return game(present[:, column], rows, target.repeat(len(present)))

        if count == 1 and efficient:  # no subset is left to draw
            whole, none = value(torch.tensor([[1.0], [0.0]], device=x.device))
            return torch.where(player < 0, 0.0, whole - none)
        explainer.forward_func = value
        with seeded(sample_seed):
            weights = explainer.attribute(
                torch.ones(1, count, device=x.device),
                baselines=0,
                n_samples=n_samples,
                perturbations_per_eval=min(n_samples, max(1, CHUNK_FEATURES // task.n_features)),
            )[0]
        size = torch.bincount(column, minlength=count).clamp(min=1) if task.modality == "image" else 1
        return (weights / size)[column].masked_fill(player < 0, 0.0)

    def explain(x: Tensor, target: Tensor) -> Tensor:
        seeds = content_seeds(seed, x)
        return torch.stack([explain_sample(x[i : i + 1], target[i : i + 1], own) for i, own in enumerate(seeds)])

    return explain


@METHODS.register("lime", kind="baseline", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class Lime(Method):
    """Weights of a sparse linear model around the input (Ribeiro et al. 2016, section 3.4).

    Subsets are weighed by Captum's exponential kernel on cosine distance. An image's players are the cells of a
    14 x 14 grid.

    Args:
        n_samples: random subsets a sample, by default 100 for a table, 400 for a text, 1000 for an image; each is one
            row forward.
        penalty: the lasso's, at least 0.
        output: what is explained, the target's `logit` or its `probability`.

    Example:
        >>> Lime(n_samples=50).prepare(task, seed=0)(x, target)  # (B, G)
    """

    n_samples: int | None = bounded(None, low=1)
    penalty: float = bounded(0.01, low=0)
    output: str = bounded("logit", among=OUTPUTS)

    def resolved(self, task: Task | TaskSpec) -> Self:
        """See `Method`."""
        return with_defaults(self, {"n_samples": SAMPLES[task.modality]})

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        from captum._utils.models.linear_model import SkLearnLasso  # private, and the one lasso with a penalty
        from captum.attr import Lime as CaptumLime

        game = Game(task, self.output)
        explainer = CaptumLime(game, SkLearnLasso(alpha=self.penalty))
        return _regress(explainer, game, task, seed, parameters(self.resolved(task))["n_samples"])


@METHODS.register("kernel_shap", kind="baseline", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class KernelShap(Method):
    """Shapley values by regression on random subsets under the Shapley kernel (Lundberg and Lee 2017, section 4.1).

    An image's players are the cells of a 14 x 14 grid.

    Args:
        n_samples: random subsets a sample, by default 100 for a table, 400 for a text, 1000 for an image; each is one
            row forward.
        output: what is explained, the target's `logit` or its `probability`.

    Example:
        >>> KernelShap(n_samples=50).prepare(task, seed=0)(x, target)  # (B, G)
    """

    n_samples: int | None = bounded(None, low=1)
    output: str = bounded("logit", among=OUTPUTS)

    def resolved(self, task: Task | TaskSpec) -> Self:
        """See `Method`."""
        return with_defaults(self, {"n_samples": SAMPLES[task.modality]})

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        from captum.attr import KernelShap as CaptumKernelShap

        game = Game(task, self.output)
        explainer = CaptumKernelShap(game)
        return _regress(explainer, game, task, seed, parameters(self.resolved(task))["n_samples"], efficient=True)
