"""Class activation maps: weighted sums of the channels of a model's last spatial map, stretched over the image.

CNNs have a map of channels at places; a vision transformer has tokens, whose grid, without the class token, is the map.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.core.errors import BenchmarkError
from benchmark.core.parameters import Space, bounded
from benchmark.core.types import METHODS, Attribute, Method, Task
from benchmark.models.batching import Batching
from benchmark.models.outputs import OUTPUTS, output_of


@contextmanager
def _watched(task: Task) -> Iterator[list[Tensor]]:
    """Collect what the task's spatial layer gives inside the block."""
    if task.spatial is None:
        raise BenchmarkError(
            f"{task.name} names no spatial layer: set Task.spatial to the last layer with a map of places"
        )
    outputs: list[Tensor] = []
    hook = task.model.get_submodule(task.spatial).register_forward_hook(lambda *call: outputs.append(call[2]))
    try:
        yield outputs
    finally:
        hook.remove()


def as_map(layer: Tensor) -> Tensor:
    """Return a layer's output as (B, C, h, w): as it is, or the grid of tokens (B, prefix + h * w, C)."""
    if layer.dim() == 4:
        return layer
    side = int(layer.shape[1] ** 0.5)
    return layer[:, layer.shape[1] - side * side :].mT.unflatten(2, (side, side))


def activations(task: Task, x: Tensor, target: Tensor, output: str = "logit") -> tuple[Tensor, Tensor]:
    """Return the spatial layer's map (B, C, h, w) and the gradient of the target's output with respect to it.

    Raises:
        BenchmarkError: the task names no spatial layer.
    """
    with torch.enable_grad(), _watched(task) as outputs:
        explained = output_of(task.model(x.detach().clone().requires_grad_()), target, output)
        slope = torch.autograd.grad(explained.sum(), outputs[0])[0]
    return as_map(outputs[0].detach()), as_map(slope)


def stretched(cam: Tensor, x: Tensor) -> Tensor:
    """Return a map (B, h, w) as attributions (B, H * W) of images x (B, channels, H, W), by bilinear interpolation."""
    return F.interpolate(cam.unsqueeze(1), x.shape[-2:], mode="bilinear", align_corners=False).flatten(1)


@METHODS.register(
    "grad_cam",
    kind="baseline",
    modalities=("image",),
    told={
        "prediction": "target's output",
        "gradients": "yes",
        "hidden states": "yes",
        "sign": "unsigned",
        "rows an explanation": "1 forward and backward",
    },
)
@dataclass(frozen=True)
class GradCam(Method):
    """Channels of the last map, each weighted by its mean gradient (Selvaraju et al. 2017, section 3).

    Args:
        output: what is explained, see `benchmark.models.outputs`.

    Example:
        >>> GradCam().prepare(task, seed=0)(x, target)  # (B, H * W), at least 0
    """

    space: ClassVar[Space] = Space({"output": OUTPUTS})
    output: str = bounded("logit", among=OUTPUTS)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""

        def explain(x: Tensor, target: Tensor) -> Tensor:
            layer, slope = activations(task, x, target, self.output)
            weight = slope.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
            return stretched((weight * layer).sum(1).relu(), x)

        return explain


@METHODS.register(
    "grad_cam_plus_plus",
    kind="baseline",
    modalities=("image",),
    told={
        "prediction": "target's output",
        "gradients": "yes",
        "hidden states": "yes",
        "sign": "unsigned",
        "rows an explanation": "1 forward and backward",
    },
)
@dataclass(frozen=True)
class GradCamPlusPlus(Method):
    """Grad-CAM that weighs each place with a positive gradient alike (Chattopadhay et al. 2018, section 3.2).

    The score is the exponential of the output, so that all its derivatives are powers of the first.

    Args:
        output: what is explained, see `benchmark.models.outputs`.

    Example:
        >>> GradCamPlusPlus().prepare(task, seed=0)(x, target)  # (B, H * W), at least 0
    """

    space: ClassVar[Space] = Space({"output": OUTPUTS})
    output: str = bounded("logit", among=OUTPUTS)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""

        def explain(x: Tensor, target: Tensor) -> Tensor:
            layer, slope = activations(task, x, target, self.output)  # both (B, C, h, w)
            below = 2 * slope**2 + layer.sum((2, 3), keepdim=True) * slope**3
            alpha = (slope**2 / below.where(below != 0, 1.0)).masked_fill(below == 0, 0.0)
            weight = (alpha * slope.relu()).sum((2, 3), keepdim=True)
            return stretched((weight * layer).sum(1).relu(), x)

        return explain


@METHODS.register(
    "score_cam",
    kind="baseline",
    modalities=("image",),
    told={
        "prediction": "target's output, features weighed",
        "hidden states": "yes",
        "optimises": "prediction through single channels, near INS",
        "sign": "unsigned",
        "rows an explanation": "channels + 1 forward",
    },
)
@dataclass(frozen=True)
class ScoreCam(Method):
    """Channels of the last map, weighted by the score of the image seen through each (Wang et al. 2020, section 3.2).

    What a channel hides takes the removal baseline, where the paper has black.

    Args:
        channels: how many channels are asked, those with the largest mean activation, by default all; each is one row
            forward.
        output: what a channel's weight is taken of, see `benchmark.models.outputs`.

    Example:
        >>> ScoreCam(channels=32).prepare(task, seed=0)(x, target)  # (B, H * W), at least 0
    """

    space: ClassVar[Space] = Space(
        {"output": OUTPUTS}, by_rows={60: {"channels": (48,)}, 500: {"channels": (450,)}, None: {"channels": (None,)}}
    )
    channels: int | None = bounded(None, low=1)
    output: str = bounded("probability", among=OUTPUTS)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        batching = Batching(task)

        def output_through(channels: Tensor, image: Tensor, target: Tensor) -> Tensor:
            """Return the target's output (C,) of an image seen through each of its channels (C, h, w)."""
            base = task.removal.baseline(image.unsqueeze(0))

            def ask(rows: slice) -> Tensor:
                size = image.shape[-2:]
                mask = F.interpolate(channels[rows].unsqueeze(1), size, mode="bilinear", align_corners=False)
                low, high = mask.amin((2, 3), keepdim=True), mask.amax((2, 3), keepdim=True)
                mask = (mask - low) / (high - low).clamp(min=1e-12)
                return output_of(task.model(base + (image - base) * mask), target.expand(len(mask)), self.output)

            return batching.ask(image.expand(len(channels), *image.shape), ask)

        def explain_image(layer: Tensor, image: Tensor, target: Tensor) -> Tensor:
            """Return the map (h, w) of an image whose spatial layer gives `layer` (C, h, w)."""
            count = min(self.channels or len(layer), len(layer))
            chosen = layer[layer.mean((1, 2)).topk(count).indices.sort().values]
            weight = output_through(chosen, image, target).softmax(0).view(-1, 1, 1)
            return (weight * chosen).sum(0).relu()

        def spatial_layer(x: Tensor) -> Tensor:
            with _watched(task) as outputs:
                task.model(x)
            return as_map(outputs[0])

        @torch.no_grad()
        def explain(x: Tensor, target: Tensor) -> Tensor:
            layers = batching.ask(x, lambda rows: spatial_layer(x[rows]))
            cams = [explain_image(*row) for row in zip(layers, x, target, strict=True)]
            return stretched(torch.stack(cams), x)

        return explain
