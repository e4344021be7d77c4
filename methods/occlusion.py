"""Fall of the output where features are removed, alone or in windows, by Captum.

Captum takes over a second to import, so methods import it when they are prepared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.core.parameters import Space, bounded, parameters, with_defaults
from benchmark.core.types import METHODS, Attribute, Method, Task, TaskSpec
from benchmark.models.outputs import OUTPUTS
from methods.game import CHUNK_FEATURES, GRID, REMOVALS, Game, no_deletion


def _side(task: Task | TaskSpec) -> int:
    return round(task.n_features**0.5)


def _slide(task: Task, game: Game, window: int, stride: int) -> Attribute:
    """Remove a window at each place and spread the fall of the output over what it covered."""
    from captum.attr import Occlusion as CaptumOcclusion

    explainer = CaptumOcclusion(game)
    image = task.modality == "image"

    def slide(x: Tensor, target: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the falls (B, features of `shape`) as a window slides over features laid out in `shape`."""
        sizes = tuple(min(window, side) for side in shape)
        falls = explainer.attribute(
            torch.ones(len(x), *shape, device=x.device),
            sizes,
            tuple(min(stride, size) for size in sizes),
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


@METHODS.register(
    "occlusion",
    kind="baseline",
    modalities=("table", "text", "image"),
    told={
        "prediction": "target's output, features removed",
        "optimises": "falls of windows; with window=1 of single features, which FE and MC ask",
        "sign": "signed",
        "rows an explanation": "places + 1 forward",
    },
)
@dataclass(frozen=True)
class Occlusion(Method):
    """Fall of the output while a window slides over the features (Zeiler and Fergus 2014, section 4.2).

    Args:
        window: features a side removed together, by default 1 column (which is feature ablation), 3 words, or a 14th
            of an image's side.
        stride: features by which the window moves on, at most the window; by default 1, on images half the window.
        output: what falls, see `benchmark.models.outputs`.
        removal: how, see `methods.game`.

    Example:
        >>> Occlusion(window=2, output="probability").prepare(task, seed=0)(x, target)  # (B, G)
    """

    space: ClassVar[Space] = Space(
        {"output": OUTPUTS},
        {
            "table": {"window": (1, 2, 3)},
            "text": {"window": (1, 2, 3), "removal": REMOVALS},
            "image": {"window": (1, 2, 3, 4), "stride": (1, 2), "removal": ("task", "zero")},
        },
    )
    window: int | None = bounded(None, low=1)
    stride: int | None = bounded(None, low=1)
    output: str = bounded("logit", among=OUTPUTS)
    removal: str = bounded("task", among=REMOVALS)

    def unsupported(self, spec: TaskSpec) -> str | None:
        """See `Method`."""
        return no_deletion(self.removal, spec)

    def resolved(self, task: Task | TaskSpec) -> Self:
        """See `Method`."""
        windows = {"table": 1, "text": 3, "image": max(2, _side(task) // GRID)}
        window = self.window or windows[task.modality]
        given: dict[str, Any] = {"window": window, "stride": max(1, window // 2) if task.modality == "image" else 1}
        return with_defaults(self, given)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        settings = parameters(self.resolved(task))
        return _slide(task, Game(task, self.output, self.removal), settings["window"], settings["stride"])


@METHODS.register(
    "feature_ablation",
    kind="baseline",
    modalities=("table", "text"),
    told={
        "prediction": "target's output, features removed",
        "optimises": "falls of single features, which FE and MC ask",
        "sign": "signed",
        "rows an explanation": "n + 1 forward",
    },
)
@dataclass(frozen=True)
class FeatureAblation(Method):
    """Fall of the output when one feature is removed.

    Args:
        output: what falls, see `benchmark.models.outputs`.
        removal: how, see `methods.game`.

    Example:
        >>> FeatureAblation(output="probability").prepare(task, seed=0)(x, target)  # (B, G)
    """

    space: ClassVar[Space] = Space({"output": OUTPUTS}, {"text": {"removal": REMOVALS}})
    output: str = bounded("logit", among=OUTPUTS)
    removal: str = bounded("task", among=REMOVALS)

    def unsupported(self, spec: TaskSpec) -> str | None:
        """See `Method`."""
        return no_deletion(self.removal, spec)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        from captum.attr import FeatureAblation as CaptumFeatureAblation

        explainer = CaptumFeatureAblation(Game(task, self.output, self.removal))

        def explain(x: Tensor, target: Tensor) -> Tensor:
            whole = torch.ones(len(x), task.n_features, device=x.device)
            falls = explainer.attribute(
                whole, baselines=0, additional_forward_args=(x, target), perturbations_per_eval=task.n_features
            )
            # to remove padding changes nothing, but another row of a batch may be rounded otherwise
            return falls.masked_fill(~task.removal.valid(x), 0.0)

        return explain
