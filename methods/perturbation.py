"""Perturbation methods through Captum, on the game "which features are present", so they know no modality.

Captum sees a vector of ones (present) and zeros (removed); the task's own removal turns it into an input. What is
explained is the target's logit, or its probability with `output=probability`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.registry import bounded
from benchmark.seeding import content_seeds, seeded
from benchmark.types import METHODS, Attribute, Method, Task

if TYPE_CHECKING:
    from captum import attr
    from torch import Tensor

OUTPUTS = ("logit", "probability")


def presence_game(task: Task, output: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return (present (n, G), x (n, ...), target (n,)) -> (n,), the target's logit or probability."""
    import torch

    @torch.no_grad()
    def play(present: Tensor, x: Tensor, target: Tensor) -> Tensor:
        values = task.model(task.remove(x, present < 0.5))
        values = values.softmax(-1) if output == "probability" else values
        return values.gather(1, target.unsqueeze(1)).squeeze(1)

    return play


def _whole(task: Task, x: Tensor) -> Tensor:
    import torch

    return torch.ones(len(x), task.n_features, device=x.device)


@METHODS.register("occlusion", kind="baseline", modalities=("table",))
@dataclass(frozen=True)
class Occlusion(Method):
    """Fall of the output while a window slides over the features (Zeiler and Fergus 2014, section 4.2).

    `window`: features removed together; with 1, as on tables, this is feature ablation.
    """

    window: int = bounded(1, low=1)
    output: str = bounded("logit", among=OUTPUTS)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        from captum.attr import Occlusion as Captum

        explainer = Captum(presence_game(task, self.output))
        window = (min(self.window, task.n_features),)

        def explain(x: Tensor, target: Tensor) -> Tensor:
            return explainer.attribute(
                _whole(task, x), window, baselines=0, additional_forward_args=(x, target),
                perturbations_per_eval=task.n_features,
            )  # fmt: skip

        return explain


@METHODS.register("feature_ablation", kind="baseline", modalities=("table",))
@dataclass(frozen=True)
class FeatureAblation(Method):
    """Fall of the output when one feature is removed."""

    output: str = bounded("logit", among=OUTPUTS)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        from captum.attr import FeatureAblation as Captum

        explainer = Captum(presence_game(task, self.output))

        def explain(x: Tensor, target: Tensor) -> Tensor:
            return explainer.attribute(
                _whole(task, x), baselines=0, additional_forward_args=(x, target),
                perturbations_per_eval=task.n_features,
            )  # fmt: skip

        return explain


def _one_by_one(explainer: attr.Lime, task: Task, seed: int, n_samples: int) -> Attribute:
    """Explain each sample under its own seed: Captum draws from torch's global generator."""
    import torch

    def explain(x: Tensor, target: Tensor) -> Tensor:
        whole, parts = _whole(task, x[:1]), []
        for i, own_seed in enumerate(content_seeds(seed, x)):
            with seeded(own_seed):
                parts.append(
                    explainer.attribute(
                        whole, baselines=0, additional_forward_args=(x[i : i + 1], target[i : i + 1]),
                        n_samples=n_samples, perturbations_per_eval=n_samples,
                    )
                )  # fmt: skip
        return torch.cat(parts)

    return explain


@METHODS.register("lime", kind="baseline", modalities=("table",))
@dataclass(frozen=True)
class Lime(Method):
    """Weights of a sparse linear model around the input (Ribeiro et al. 2016, section 3.4).

    `n_samples`: random subsets a sample; `penalty`: the lasso's; Captum's exponential kernel on cosine distance.
    """

    n_samples: int = bounded(100, low=2)
    penalty: float = bounded(0.01, low=0)
    output: str = bounded("logit", among=OUTPUTS)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        from captum._utils.models.linear_model import SkLearnLasso
        from captum.attr import Lime as Captum

        game = presence_game(task, self.output)
        return _one_by_one(Captum(game, SkLearnLasso(alpha=self.penalty)), task, seed, self.n_samples)


@METHODS.register("kernel_shap", kind="baseline", modalities=("table",))
@dataclass(frozen=True)
class KernelShap(Method):
    """Shapley values by regression on random subsets under the Shapley kernel (Lundberg and Lee 2017, section 4.1).

    `n_samples`: random subsets a sample.
    """

    n_samples: int = bounded(100, low=2)
    output: str = bounded("logit", among=OUTPUTS)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        from captum.attr import KernelShap as Captum

        return _one_by_one(Captum(presence_game(task, self.output)), task, seed, self.n_samples)
