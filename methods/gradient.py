"""Gradient methods. What is explained, and where a way to the input begins, are parameters; words are embeddings.

Captum takes over a second to import, so methods that use it import it when they are prepared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.core.parameters import Space, bounded
from benchmark.core.seeding import content_seeds, seed_for, seeded
from benchmark.core.types import METHODS, Attribute, Method, Task, Told
from benchmark.modalities.continuous import continuous, gradient, pooled, rows_per_backward
from benchmark.models.outputs import OUTPUTS, PairedOutput, TargetOutput
from methods.references import DRAWN, REFERENCES, references_of


@METHODS.register("integrated_gradients", kind="baseline", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class IntegratedGradients(Method):
    """Gradient averaged on the way from a reference, times the way (Sundararajan et al. 2017, section 3).

    Args:
        steps: points of the Gauss-Legendre rule; each is one row forward and backward, for each reference.
        output: what is explained, see `benchmark.models.outputs`.
        reference: where the way begins, see `methods.references`.
        references: how many are drawn, of those that are; their mean is taken.

    Example:
        >>> IntegratedGradients(steps=20, output="log_odds").prepare(task, seed=0)(x, target)  # (B, G)
    """

    told: ClassVar[Told] = Told(
        training_rows="with reference=mean, background or noise", gradients=True, layers="in texts, word vectors"
    )
    space: ClassVar[Space] = Space(
        {"output": OUTPUTS, "reference": ("removal", "zero", "mean")},
        by_rows={
            5: {"steps": (1, 2)},
            60: {"steps": (3, 10, 30)},
            500: {"steps": (50, 250)},
            None: {"steps": (50, 250)},
        },
    )
    steps: int = bounded(50, low=1)
    output: str = bounded("logit", among=OUTPUTS)
    reference: str = bounded("removal", among=REFERENCES)
    references: int = bounded(10, low=1)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; what is drawn is drawn from `seed`, once for all inputs."""
        from captum.attr import IntegratedGradients as CaptumIntegratedGradients

        explainer = CaptumIntegratedGradients(TargetOutput(task.model, self.output))
        references = references_of(task, self.reference, self.references, seed)

        def explain(x: Tensor, target: Tensor) -> Tensor:
            inputs, rows = continuous(task, x), max(len(x), rows_per_backward(task, x))
            starts = references.of(inputs)
            each = [start.unsqueeze(0) for start in starts] if self.reference in DRAWN else [starts]
            total = torch.zeros_like(inputs.x)
            for start in each:
                total += explainer.attribute(
                    inputs.x,
                    start.expand_as(inputs.x),
                    additional_forward_args=(*inputs.extra, target),
                    n_steps=self.steps,
                    internal_batch_size=rows if rows < len(x) * self.steps else None,
                ).detach() / len(each)
            return pooled(task, x, total)

        return explain


@METHODS.register("gradient_shap", kind="baseline", modalities=("table", "text"))
@dataclass(frozen=True)
class GradientShap(Method):
    """Gradient at random points between references and the input, times the way (Lundberg and Lee 2017).

    Args:
        samples: random points a sample; each is one row forward and backward.
        background: references that are drawn, of those that are.
        output: what is explained, see `benchmark.models.outputs`.
        reference: where the ways begin, see `methods.references`.

    Example:
        >>> GradientShap(samples=20, background=10).prepare(task, seed=0)(x, target)  # (B, G)
    """

    told: ClassVar[Told] = Told(
        training_rows="as references, by default", gradients=True, layers="in texts, word vectors"
    )
    space: ClassVar[Space] = Space(
        {"output": OUTPUTS, "reference": REFERENCES},
        by_rows={
            5: {"samples": (2,)},
            60: {"samples": (30,)},
            500: {"samples": (250,)},
            None: {"samples": (250, 1000)},
        },
    )
    samples: int = bounded(50, low=1)
    background: int = bounded(100, low=1)
    output: str = bounded("logit", among=OUTPUTS)
    reference: str = bounded("background", among=REFERENCES)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; references are drawn from `seed`, the points from the sample's own seed."""
        from captum.attr import GradientShap as CaptumGradientShap

        explainer = CaptumGradientShap(TargetOutput(task.model, self.output))
        references = references_of(task, self.reference, self.background, seed)

        def explain_sample(x: Tensor, target: Tensor, rows: int) -> Tensor:
            """Explain one sample x (1, ...), `rows` points at a time."""
            inputs, total = continuous(task, x), torch.zeros(())
            starts = references.of(inputs)
            for done in range(0, self.samples, rows):
                points = min(rows, self.samples - done)
                mean = explainer.attribute(
                    inputs.x, starts, n_samples=points, additional_forward_args=(*inputs.extra, target)
                )
                total = total + mean.detach() * (points / self.samples)
            return total

        def explain(x: Tensor, target: Tensor) -> Tensor:
            parts, rows = [], rows_per_backward(task, x)
            for i, sample_seed in enumerate(content_seeds(seed_for(seed, "points"), x)):
                with seeded(sample_seed):  # Captum draws from the global generators
                    parts.append(explain_sample(x[i : i + 1], target[i : i + 1], rows))
            return pooled(task, x, torch.cat(parts))

        return explain


@METHODS.register("expected_gradients", kind="baseline", modalities=("image",))
@dataclass(frozen=True)
class ExpectedGradients(GradientShap):
    """Integrated gradients averaged over training images as baselines (Erion et al. 2021), by random points.

    Args:
        samples: random points an image; each is one row forward and backward.
        background: training images they start from.
        output: what is explained, see `benchmark.models.outputs`.
        reference: where the ways begin, see `methods.references`.

    Example:
        >>> ExpectedGradients(samples=20, background=10).prepare(task, seed=0)(x, target)  # (B, G)
    """

    told: ClassVar[Told] = Told(training_rows="as references, by default", gradients=True)


@METHODS.register("deeplift", kind="baseline", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class DeepLift(Method):
    """Differences from a reference passed back through each layer, rescale rule (Shrikumar et al. 2017, 3.5.1).

    The rule holds for every elementwise activation (ReLU, SiLU, GELU, ...), for pooling, and for the output that is
    explained. Where there is none, at the gates of an LSTM, in attention and in normalised layers, the gradient takes
    its place.

    Args:
        output: what is explained, see `benchmark.models.outputs`.
        reference: what differences are taken from, `removal`, `zero` or `mean`; see `methods.references`.

    Example:
        >>> DeepLift(output="probability").prepare(task, seed=0)(x, target)  # (B, G)
    """

    told: ClassVar[Told] = Told(
        training_rows="with reference=mean", gradients=True, layers="what activations take and give"
    )
    space: ClassVar[Space] = Space({"output": OUTPUTS, "reference": ("removal", "zero", "mean")})
    output: str = bounded("logit", among=OUTPUTS)
    reference: str = bounded("removal", among=tuple(kind for kind in REFERENCES if kind not in DRAWN))

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        from methods.rescale import RescaleDeepLift

        explainer = RescaleDeepLift(PairedOutput(task.model, self.output))
        references = references_of(task, self.reference, 1, seed)

        def explain(x: Tensor, target: Tensor) -> Tensor:
            inputs = continuous(task, x)
            attribution = explainer.attribute(
                inputs.x, references.of(inputs), additional_forward_args=(*inputs.extra, target)
            )
            return pooled(task, x, attribution.detach())

        return explain


@METHODS.register("deeplift_shap", kind="baseline", modalities=("image",))
@dataclass(frozen=True)
class DeepLiftShap(Method):
    """DeepLIFT averaged over training images as baselines (Lundberg and Lee 2017, section 4.2).

    Args:
        background: training images; each costs two rows forward and backward an image.
        output: what is explained, see `benchmark.models.outputs`.

    Example:
        >>> DeepLiftShap(background=5).prepare(task, seed=0)(x, target)  # (B, G)
    """

    told: ClassVar[Told] = Told(training_rows="as references", gradients=True, layers="what activations take and give")
    space: ClassVar[Space] = Space(
        {"output": OUTPUTS},
        by_rows={60: {"background": (10, 15)}, 500: {"background": (50, 100)}, None: {"background": (50, 100)}},
    )
    background: int = bounded(10, low=2)
    output: str = bounded("logit", among=OUTPUTS)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; the background images are drawn from `seed`."""
        from methods.rescale import RescaleDeepLift

        explainer = RescaleDeepLift(PairedOutput(task.model, self.output))
        background = references_of(task, "background", self.background, seed).rows
        assert background is not None

        def explain_image(x: Tensor, target: Tensor, rows: int) -> Tensor:
            """Explain one image x (channels, H, W) against `rows` background images at a time."""
            total = torch.zeros_like(x)
            for base in background.split(rows):
                repeated = x.unsqueeze(0).expand_as(base).detach().clone().requires_grad_()
                attribution = explainer.attribute(repeated, base, additional_forward_args=(target.expand(len(base)),))
                total = total + attribution.detach().sum(0) / len(background)
            return total

        def explain(x: Tensor, target: Tensor) -> Tensor:
            rows = max(1, rows_per_backward(task, x) // 2)
            maps = [explain_image(image, own, rows) for image, own in zip(x, target, strict=True)]
            return task.removal.pool(torch.stack(maps))

        return explain


@METHODS.register("saliency", kind="baseline", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class Saliency(Method):
    """Gradient of the target's output: strength, by default without sign (Simonyan et al. 2014, section 3).

    Args:
        form: of the numbers of one feature, an image's channels or a word's embedding: `absolute`, the sum of their
            sizes; `signed`, their sum; `largest`, the largest size, as the paper has it; `l2`, their Euclidean norm.
        times_input: whether the gradient is first multiplied by the way from the removal baseline.
        output: what is explained, see `benchmark.models.outputs`.

    Example:
        >>> Saliency().prepare(task, seed=0)(x, target)  # (B, G), at least 0
    """

    told: ClassVar[Told] = Told(gradients=True, layers="in texts, word vectors", signed="with form=signed")
    space: ClassVar[Space] = Space(
        {"output": OUTPUTS, "form": ("absolute", "signed"), "times_input": (False, True)},
        {
            "text": {"form": ("absolute", "signed", "largest", "l2")},
            "image": {"form": ("absolute", "signed", "largest", "l2")},
        },
    )
    form: str = bounded("absolute", among=("absolute", "signed", "largest", "l2"))
    times_input: bool = False
    output: str = bounded("logit", among=OUTPUTS)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        numbers = {"image": 1, "text": 2}.get(task.modality)  # the axis of a feature's numbers

        def explain(x: Tensor, target: Tensor) -> Tensor:
            slopes = gradient(task, x, target, self.output)
            if self.times_input:
                inputs = continuous(task, x)
                slopes = slopes * (inputs.x - inputs.base).detach()
            if self.form == "signed":
                return pooled(task, x, slopes)
            if numbers is None or self.form == "absolute":
                return pooled(task, x, slopes.abs())
            sizes = (
                slopes.abs().amax(numbers, keepdim=True)
                if self.form == "largest"
                else slopes.norm(dim=numbers, keepdim=True)
            )
            return pooled(task, x, sizes)

        return explain


@METHODS.register("input_x_gradient", kind="baseline", modalities=("image",))
@dataclass(frozen=True)
class InputXGradient(Method):
    """Gradient times the way from the baseline (Shrikumar et al. 2016): one step of integrated gradients.

    Args:
        output: what is explained, see `benchmark.models.outputs`.

    Example:
        >>> InputXGradient().prepare(task, seed=0)(x, target)  # (B, G)
    """

    told: ClassVar[Told] = Told(gradients=True)
    space: ClassVar[Space] = Space({"output": OUTPUTS})
    output: str = bounded("logit", among=OUTPUTS)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""

        def explain(x: Tensor, target: Tensor) -> Tensor:
            return task.removal.pool((x - task.removal.baseline(x)) * gradient(task, x, target, self.output))

        return explain
