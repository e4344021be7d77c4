"""Gradient methods through Captum, on the target's logit. An input's removal baseline is their reference."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.registry import bounded
from benchmark.seeding import content_seeds, seed_for, seeded
from benchmark.types import METHODS, Attribute, Method, Task

if TYPE_CHECKING:
    from torch import Tensor


def _leaf(x: Tensor) -> Tensor:
    return x.detach().clone().requires_grad_()


@METHODS.register("integrated_gradients", kind="baseline", modalities=("table",))
@dataclass(frozen=True)
class IntegratedGradients(Method):
    """Gradient averaged on the way from the baseline, times the way (Sundararajan et al. 2017, section 3).

    `steps`: points of the Gauss-Legendre rule; each is one row forward and backward.
    """

    steps: int = bounded(50, low=1)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        from captum.attr import IntegratedGradients as Captum

        explainer = Captum(task.model)

        def explain(x: Tensor, target: Tensor) -> Tensor:
            base = task.removal.baseline(x).expand_as(x)
            return task.removal.pool(explainer.attribute(_leaf(x), base, target=target, n_steps=self.steps))

        return explain


@METHODS.register("gradient_shap", kind="baseline", modalities=("table",))
@dataclass(frozen=True)
class GradientShap(Method):
    """Gradient at random points between training rows and the input, times the way (Lundberg and Lee 2017).

    `samples`: random points a sample; `background`: training rows they start from.
    """

    samples: int = bounded(50, low=1)
    background: int = bounded(100, low=1)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; the background rows are drawn from `seed`, the points from the sample's own seed."""
        import torch
        from captum.attr import GradientShap as Captum

        explainer = Captum(task.model)
        shuffle = torch.Generator().manual_seed(seed)
        rows = torch.randperm(len(task.train.x), generator=shuffle)[: self.background]
        background = task.train.x[rows.to(task.train.x.device)]

        def explain(x: Tensor, target: Tensor) -> Tensor:
            parts = []
            for i, own_seed in enumerate(content_seeds(seed_for(seed, "points"), x)):
                with seeded(own_seed):
                    parts.append(
                        explainer.attribute(
                            _leaf(x[i : i + 1]), background, target=int(target[i]), n_samples=self.samples
                        )
                    )
            return task.removal.pool(torch.cat(parts))

        return explain


@METHODS.register("deeplift", kind="baseline", modalities=("table",))
@dataclass(frozen=True)
class DeepLift(Method):
    """Differences from the baseline passed back through each layer, rescale rule (Shrikumar et al. 2017, 3.5.1)."""

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        from captum.attr import DeepLift as Captum

        explainer = Captum(task.model)

        def explain(x: Tensor, target: Tensor) -> Tensor:
            base = task.removal.baseline(x).expand_as(x)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
                return task.removal.pool(explainer.attribute(_leaf(x), base, target=target))

        return explain


@METHODS.register("saliency", kind="baseline", modalities=("table",))
@dataclass(frozen=True)
class Saliency(Method):
    """Absolute gradient of the target's logit: strength without sign (Simonyan et al. 2014, section 3)."""

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        from captum.attr import Saliency as Captum

        explainer = Captum(task.model)
        return lambda x, target: task.removal.pool(explainer.attribute(_leaf(x), target=target))
