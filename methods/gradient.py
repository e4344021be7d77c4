"""Gradient methods, on the target's logit. The removal baseline is the reference input; words are embeddings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.core.parameters import bounded
from benchmark.core.seeding import content_seeds, seed_for, seeded
from benchmark.core.types import METHODS, Attribute, Method, Task
from methods.continuous import continuous, gradient, rows_per_backward

if TYPE_CHECKING:
    from torch import Tensor


@METHODS.register("integrated_gradients", kind="baseline", modalities=("table", "text", "image"))
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
            seen, rows = continuous(task, x), max(len(x), rows_per_backward(task, x))
            found = explainer.attribute(
                seen.x, seen.base, target=target, additional_forward_args=seen.extra or None, n_steps=self.steps,
                internal_batch_size=rows if rows < len(x) * self.steps else None,
            )  # fmt: skip
            return task.removal.pool(found)

        return explain


@METHODS.register("gradient_shap", kind="baseline", modalities=("table", "text"))
@dataclass(frozen=True)
class GradientShap(Method):
    """Gradient at random points between training rows and the input, times the way (Lundberg and Lee 2017).

    `samples`: random points a sample; `background`: training rows they start from. In a background text padding is the
    removed word, so that each place of the explained text has a reference.
    """

    samples: int = bounded(50, low=1)
    background: int = bounded(100, low=1)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; the background rows are drawn from `seed`, the points from the sample's own seed."""
        import torch
        from captum.attr import GradientShap as Captum

        explainer = Captum(task.model)
        background = _background(task, seed, self.background)

        def explain(x: Tensor, target: Tensor) -> Tensor:
            parts, rows = [], rows_per_backward(task, x)
            for i, own_seed in enumerate(content_seeds(seed_for(seed, "points"), x)):
                seen, total = continuous(task, x[i : i + 1]), torch.zeros(())
                with seeded(own_seed):
                    for done in range(0, self.samples, rows):
                        points = min(rows, self.samples - done)
                        found = explainer.attribute(
                            seen.x, background, target=int(target[i]), n_samples=points,
                            additional_forward_args=seen.extra or None,
                        )  # fmt: skip
                        total = total + found * (points / self.samples)
                parts.append(total)
            return task.removal.pool(torch.cat(parts))

        return explain


@METHODS.register("expected_gradients", kind="baseline", modalities=("image",))
@dataclass(frozen=True)
class ExpectedGradients(GradientShap):
    """Integrated gradients averaged over training images as baselines (Erion et al. 2021), by random points.

    `samples`: random points an image; `background`: training images they start from.
    """


def _background(task: Task, seed: int, rows: int) -> Tensor:
    """Return training rows drawn from `seed`, as numbers."""
    import torch

    shuffle = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(task.train.x), generator=shuffle)[:rows].to(task.train.x.device)
    x = task.train.x[chosen]
    if task.modality == "text":
        x = torch.where(task.removal.valid(x), x, task.removal.baseline(x))
    return continuous(task, x).x.detach()


@METHODS.register("deeplift", kind="baseline", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class DeepLift(Method):
    """Differences from the baseline passed back through each layer, rescale rule (Shrikumar et al. 2017, 3.5.1).

    The rule holds for every elementwise activation (ReLU, SiLU, GELU, ...) and for pooling. Where there is none, at the
    gates of an LSTM, in attention and in normalised layers, the gradient takes its place.
    """

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        from captum.attr import DeepLift as Captum

        explainer = Captum(task.model)

        def explain(x: Tensor, target: Tensor) -> Tensor:
            seen = continuous(task, x)
            with _rescaled():
                found = explainer.attribute(
                    seen.x, seen.base, target=target, additional_forward_args=seen.extra or None
                )
            return task.removal.pool(found.detach())

        return explain


@METHODS.register("deeplift_shap", kind="baseline", modalities=("image",))
@dataclass(frozen=True)
class DeepLiftShap(Method):
    """DeepLIFT averaged over training images as baselines (Lundberg and Lee 2017, section 4.2).

    `background`: training images; each costs two rows forward and backward an image.
    """

    background: int = bounded(10, low=2)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; the background images are drawn from `seed`."""
        import torch
        from captum.attr import DeepLift as Captum

        explainer = Captum(task.model)
        background = _background(task, seed, self.background)

        def explain(x: Tensor, target: Tensor) -> Tensor:
            parts, rows = [], max(1, rows_per_backward(task, x) // 2)
            for i in range(len(x)):
                total = torch.zeros_like(x[i])
                for base in background.split(rows):
                    row = x[i : i + 1].expand(len(base), *x.shape[1:]).detach().clone().requires_grad_()
                    with _rescaled():
                        found = explainer.attribute(row, base, target=int(target[i]))
                    total = total + found.detach().sum(0) / len(background)
                parts.append(total)
            return task.removal.pool(torch.stack(parts))

        return explain


@contextmanager
def _rescaled() -> Iterator[None]:
    """Let Captum rescale the smooth activations too, which it would pass by without a word."""
    from captum.attr._core import deep_lift
    from torch import nn

    smooth = (nn.SiLU, nn.GELU, nn.ReLU6, nn.Hardswish, nn.Mish)
    added = {kind: deep_lift.nonlinear for kind in smooth if kind not in deep_lift.SUPPORTED_NON_LINEAR}
    deep_lift.SUPPORTED_NON_LINEAR.update(added)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
            yield
    finally:
        for kind in added:
            del deep_lift.SUPPORTED_NON_LINEAR[kind]


@METHODS.register("saliency", kind="baseline", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class Saliency(Method):
    """Absolute gradient of the target's logit: strength without sign (Simonyan et al. 2014, section 3)."""

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        return lambda x, target: task.removal.pool(gradient(task, x, target).abs())


@METHODS.register("input_x_gradient", kind="baseline", modalities=("image",))
@dataclass(frozen=True)
class InputXGradient(Method):
    """Gradient times the way from the baseline (Shrikumar et al. 2016): one step of integrated gradients."""

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""

        def explain(x: Tensor, target: Tensor) -> Tensor:
            return task.removal.pool((x - task.removal.baseline(x)) * gradient(task, x, target))

        return explain
