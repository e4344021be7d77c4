"""Perturbation methods through Captum, on the game "which players are present", alike for all modalities.

Players are columns, the real words of a text (padding never plays) or cells of a grid over an image. Captum sees a
vector of ones (present) and zeros (removed); the task's own removal turns it into an input. What is explained is the
target's logit, or its probability with `output=probability`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from benchmark.core.parameters import bounded, parameters, with_defaults
from benchmark.core.seeding import content_seeds, seeded
from benchmark.core.types import METHODS, Attribute, Method, Modality, Task, TaskSpec

if TYPE_CHECKING:
    from captum import attr
    from torch import Tensor

OUTPUTS = ("logit", "probability")
SAMPLES: dict[Modality, int] = {"table": 100, "text": 400, "image": 1000}
HELD = 2**22
"""Features of perturbed inputs that exist at a time, whatever their number."""
GRID = 14
"""An image's players are the cells of a 14 x 14 grid, or its pixels where it has fewer a side."""


class Game:
    """Answers what the target's output is with some features present."""

    def __init__(self, task: Task, output: str) -> None:
        from benchmark.scoring.masked_model import MaskedModel

        self.task, self.output = task, output
        self.masked_model = MaskedModel(task)

    def __call__(self, present: Tensor, x: Tensor, target: Tensor) -> Tensor:
        """Return (n,) for features present (n, ...), inputs (n, ...) and targets (n,), in forwards of bounded size.

        Features missing at the end of `present` are padding.

        Raises:
            DataError: the model's answer is not finite.
        """
        import torch

        from benchmark.core.errors import DataError

        rows, parts = self.masked_model.rows_per_forward(x), []
        with torch.no_grad():
            for some, inputs, classes in zip(
                present.flatten(1).split(rows), x.split(rows), target.split(rows), strict=True
            ):
                valid = self.task.removal.valid(inputs)
                absent = torch.nn.functional.pad(some < 0.5, (0, valid.shape[1] - some.shape[1]))
                removed = absent & valid
                values = self.task.model(self.task.remove(inputs, removed))
                if not bool(values.isfinite().all()):
                    raise DataError(f"the model of {self.task.name} gives NaN or inf where features are removed")
                values = values.softmax(-1) if self.output == "probability" else values
                parts.append(values.gather(1, classes.unsqueeze(1)).squeeze(1))
        return torch.cat(parts)


def players(task: Task, x: Tensor) -> Tensor:
    """Return each feature's player (G,) for one input (1, ...), or -1 for padding."""
    import torch

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
    import torch
    from captum.attr import Occlusion as Captum

    explainer = Captum(Game(task, output))
    image = task.modality == "image"

    def slide(x: Tensor, target: Tensor, shape: tuple[int, ...]) -> Tensor:
        sizes = tuple(min(window, side) for side in shape)
        strides = tuple(max(1, size // 2) for size in sizes) if image else (1,)
        found = explainer.attribute(
            torch.ones(len(x), *shape, device=x.device), sizes, strides, baselines=0,
            additional_forward_args=(x, target),
            perturbations_per_eval=max(1, min(task.n_features, HELD // (task.n_features * len(x)))),
        )  # fmt: skip
        return found.flatten(1)

    def explain(x: Tensor, target: Tensor) -> Tensor:
        if not task.removal.pads:
            return slide(x, target, (_side(task), _side(task)) if image else (task.n_features,))
        parts = []  # a window never reaches into padding, which stands at the end
        for row, count in enumerate(task.removal.valid(x).sum(1).tolist()):
            own = slide(x[row : row + 1], target[row : row + 1], (count,))
            parts.append(torch.nn.functional.pad(own, (0, task.n_features - count)))
        return torch.cat(parts)

    return explain


@METHODS.register("occlusion", kind="baseline", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class Occlusion(Method):
    """Fall of the output while a window slides over the features (Zeiler and Fergus 2014, section 4.2).

    `window`: features a side removed together, by default 1 column (which is feature ablation), 3 words, or a 14th of
    an image's side, which moves on by half.
    """

    window: int | None = bounded(None, low=1)
    output: str = bounded("logit", among=OUTPUTS)

    def resolved(self, task: Task | TaskSpec) -> Self:
        """See `Method`."""
        usual = {"table": 1, "text": 3, "image": max(2, _side(task) // GRID)}
        return with_defaults(self, {"window": usual[task.modality]})

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        return _slide(task, self.output, parameters(self.resolved(task))["window"])


@METHODS.register("feature_ablation", kind="baseline", modalities=("table", "text"))
@dataclass(frozen=True)
class FeatureAblation(Method):
    """Fall of the output when one feature is removed."""

    output: str = bounded("logit", among=OUTPUTS)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        import torch
        from captum.attr import FeatureAblation as Captum

        explainer = Captum(Game(task, self.output))

        def explain(x: Tensor, target: Tensor) -> Tensor:
            whole = torch.ones(len(x), task.n_features, device=x.device)
            return explainer.attribute(
                whole, baselines=0, additional_forward_args=(x, target), perturbations_per_eval=task.n_features
            )

        return explain


def _regress(
    explainer: attr.Lime, game: Game, task: Task, seed: int, n_samples: int, efficient: bool = False
) -> Attribute:
    """Explain each sample under its own seed, its players' weights shared out evenly among their features.

    Where weights are `efficient` they sum to what all players change together; a single one gets all of it. Captum
    draws from torch's global generator, hence one sample at a time.
    """
    import torch

    def explain(x: Tensor, target: Tensor) -> Tensor:
        parts = []
        for i, own_seed in enumerate(content_seeds(seed, x)):
            own = players(task, x[i : i + 1])
            count = int(own.max()) + 1
            place = own.clamp(min=0)

            def play(present: Tensor, row: int = i, place: Tensor = place) -> Tensor:
                rows = [len(present), *[1] * (x.dim() - 1)]
                return game(present[:, place], x[row : row + 1].repeat(rows), target[row].repeat(len(present)))

            explainer.forward_func = play
            if count == 1 and efficient:  # no subset is left to draw
                whole, none = play(torch.tensor([[1.0], [0.0]], device=x.device))
                parts.append(torch.where(own < 0, 0.0, whole - none))
                continue
            with seeded(own_seed):
                found = explainer.attribute(
                    torch.ones(1, count, device=x.device), baselines=0, n_samples=n_samples,
                    perturbations_per_eval=min(n_samples, max(1, HELD // task.n_features)),
                )[0]  # fmt: skip
            size = torch.bincount(place, minlength=count).clamp(min=1) if task.modality == "image" else 1
            parts.append((found / size)[place].masked_fill(own < 0, 0.0))
        return torch.stack(parts)

    return explain


@METHODS.register("lime", kind="baseline", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class Lime(Method):
    """Weights of a sparse linear model around the input (Ribeiro et al. 2016, section 3.4).

    `n_samples`: random subsets a sample, by default 100 for a table, 400 for a text, 1000 for an image; `penalty`: the
    lasso's; Captum's exponential kernel on cosine distance. An image's players are the cells of a 14 x 14 grid.
    """

    n_samples: int | None = bounded(None, low=1)
    penalty: float = bounded(0.01, low=0)
    output: str = bounded("logit", among=OUTPUTS)

    def resolved(self, task: Task | TaskSpec) -> Self:
        """See `Method`."""
        return with_defaults(self, {"n_samples": SAMPLES[task.modality]})

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        from captum._utils.models.linear_model import SkLearnLasso
        from captum.attr import Lime as Captum

        game = Game(task, self.output)
        explainer = Captum(game, SkLearnLasso(alpha=self.penalty))
        return _regress(explainer, game, task, seed, parameters(self.resolved(task))["n_samples"])


@METHODS.register("kernel_shap", kind="baseline", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class KernelShap(Method):
    """Shapley values by regression on random subsets under the Shapley kernel (Lundberg and Lee 2017, section 4.1).

    `n_samples`: random subsets a sample, by default 100 for a table, 400 for a text, 1000 for an image, whose players
    are the cells of a 14 x 14 grid.
    """

    n_samples: int | None = bounded(None, low=1)
    output: str = bounded("logit", among=OUTPUTS)

    def resolved(self, task: Task | TaskSpec) -> Self:
        """See `Method`."""
        return with_defaults(self, {"n_samples": SAMPLES[task.modality]})

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        from captum.attr import KernelShap as Captum

        game = Game(task, self.output)
        return _regress(Captum(game), game, task, seed, parameters(self.resolved(task))["n_samples"], efficient=True)
