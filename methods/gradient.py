"""Gradient methods, on the target's logit. An input's removal baseline is their reference; words are embeddings.

Captum takes over a second to import, so methods that use it import it when they are prepared.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.core.parameters import bounded
from benchmark.core.seeding import content_seeds, seed_for, seeded
from benchmark.core.types import METHODS, Attribute, Method, Task
from benchmark.modalities.grouping import single
from methods.continuous import continuous, gradient, pooled, rows_per_backward


@METHODS.register("integrated_gradients", kind="baseline", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class IntegratedGradients(Method):
    """Gradient averaged on the way from the baseline, times the way (Sundararajan et al. 2017, section 3).

    Args:
        steps: points of the Gauss-Legendre rule; each is one row forward and backward.

    Example:
        >>> IntegratedGradients(steps=20).prepare(task, seed=0)(x, target)  # (B, G)
    """

    steps: int = bounded(50, low=1)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        from captum.attr import IntegratedGradients as CaptumIntegratedGradients

        explainer = CaptumIntegratedGradients(task.model)

        def explain(x: Tensor, target: Tensor) -> Tensor:
            inputs, rows = continuous(task, x), max(len(x), rows_per_backward(task, x))
            attribution = explainer.attribute(
                inputs.x,
                inputs.base,
                target=target,
                additional_forward_args=inputs.extra or None,
                n_steps=self.steps,
                internal_batch_size=rows if rows < len(x) * self.steps else None,
            )
            return pooled(task, x, attribution)

        return explain


@METHODS.register("gradient_shap", kind="baseline", modalities=("table", "text"))
@dataclass(frozen=True)
class GradientShap(Method):
    """Gradient at random points between training rows and the input, times the way (Lundberg and Lee 2017).

    In a background text padding is the removed word, so that each place of the explained text has a reference.

    Args:
        samples: random points a sample; each is one row forward and backward.
        background: training rows they start from.

    Example:
        >>> GradientShap(samples=20, background=10).prepare(task, seed=0)(x, target)  # (B, G)
    """

    samples: int = bounded(50, low=1)
    background: int = bounded(100, low=1)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; the background rows are drawn from `seed`, the points from the sample's own seed."""
        from captum.attr import GradientShap as CaptumGradientShap

        explainer = CaptumGradientShap(task.model)
        background = _background(task, seed, self.background)

        def explain_sample(x: Tensor, target: int, rows: int) -> Tensor:
            """Explain one sample x (1, ...), `rows` points at a time."""
            inputs, total = continuous(task, x), torch.zeros(())
            for done in range(0, self.samples, rows):
                points = min(rows, self.samples - done)
                mean = explainer.attribute(
                    inputs.x,
                    background,
                    target=target,
                    n_samples=points,
                    additional_forward_args=inputs.extra or None,
                )
                total = total + mean * (points / self.samples)
            return total

        def explain(x: Tensor, target: Tensor) -> Tensor:
            parts, rows = [], rows_per_backward(task, x)
            for i, sample_seed in enumerate(content_seeds(seed_for(seed, "points"), x)):
                with seeded(sample_seed):  # Captum draws from the global generators
                    parts.append(explain_sample(x[i : i + 1], int(target[i]), rows))
            return pooled(task, x, torch.cat(parts))

        return explain


@METHODS.register("expected_gradients", kind="baseline", modalities=("image",))
@dataclass(frozen=True)
class ExpectedGradients(GradientShap):
    """Integrated gradients averaged over training images as baselines (Erion et al. 2021), by random points.

    Args:
        samples: random points an image; each is one row forward and backward.
        background: training images they start from.

    Example:
        >>> ExpectedGradients(samples=20, background=10).prepare(task, seed=0)(x, target)  # (B, G)
    """


def _background(task: Task, seed: int, rows: int) -> Tensor:
    """Return training rows (rows, ...) drawn from `seed`, as numbers."""
    shuffle = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(task.train.x), generator=shuffle)[:rows].to(task.train.x.device)
    x = task.train.x[chosen]
    if task.modality == "text":
        removal = single(task.removal)
        x = torch.where(removal.valid(x), x, removal.baseline(x))
    return continuous(task, x).x.detach()


@METHODS.register("deeplift", kind="baseline", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class DeepLift(Method):
    """Differences from the baseline passed back through each layer, rescale rule (Shrikumar et al. 2017, 3.5.1).

    The rule holds for every elementwise activation (ReLU, SiLU, GELU, ...) and for pooling. Where there is none, at the
    gates of an LSTM, in attention and in normalised layers, the gradient takes its place.

    Example:
        >>> DeepLift().prepare(task, seed=0)(x, target)  # (B, G)
    """

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        from methods.rescale import RescaleDeepLift

        explainer = RescaleDeepLift(task.model)

        def explain(x: Tensor, target: Tensor) -> Tensor:
            inputs = continuous(task, x)
            attribution = explainer.attribute(
                inputs.x, inputs.base, target=target, additional_forward_args=inputs.extra or None
            )
            return pooled(task, x, attribution.detach())

        return explain


@METHODS.register("deeplift_shap", kind="baseline", modalities=("image",))
@dataclass(frozen=True)
class DeepLiftShap(Method):
    """DeepLIFT averaged over training images as baselines (Lundberg and Lee 2017, section 4.2).

    Args:
        background: training images; each costs two rows forward and backward an image.

    Example:
        >>> DeepLiftShap(background=5).prepare(task, seed=0)(x, target)  # (B, G)
    """

    background: int = bounded(10, low=2)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; the background images are drawn from `seed`."""
        from methods.rescale import RescaleDeepLift

        explainer = RescaleDeepLift(task.model)
        background = _background(task, seed, self.background)

        def explain_image(x: Tensor, target: int, rows: int) -> Tensor:
            """Explain one image x (channels, H, W) against `rows` background images at a time."""
            total = torch.zeros_like(x)
            for base in background.split(rows):
                repeated = x.unsqueeze(0).expand_as(base).detach().clone().requires_grad_()
                attribution = explainer.attribute(repeated, base, target=target)
                total = total + attribution.detach().sum(0) / len(background)
            return total

        def explain(x: Tensor, target: Tensor) -> Tensor:
            rows = max(1, rows_per_backward(task, x) // 2)
            maps = [explain_image(image, int(own), rows) for image, own in zip(x, target, strict=True)]
            return task.removal.pool(torch.stack(maps))

        return explain


@METHODS.register("saliency", kind="baseline", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class Saliency(Method):
    """Absolute gradient of the target's logit: strength without sign (Simonyan et al. 2014, section 3).

    Example:
        >>> Saliency().prepare(task, seed=0)(x, target)  # (B, G), at least 0
    """

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        return lambda x, target: pooled(task, x, gradient(task, x, target).abs())


@METHODS.register("input_x_gradient", kind="baseline", modalities=("image",))
@dataclass(frozen=True)
class InputXGradient(Method):
    """Gradient times the way from the baseline (Shrikumar et al. 2016): one step of integrated gradients.

    Example:
        >>> InputXGradient().prepare(task, seed=0)(x, target)  # (B, G)
    """

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""

        def explain(x: Tensor, target: Tensor) -> Tensor:
            return task.removal.pool((x - task.removal.baseline(x)) * gradient(task, x, target))

        return explain
