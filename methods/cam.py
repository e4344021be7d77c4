"""Class activation maps: weighted sums of the channels of a model's last spatial map, stretched over the image.

CNNs have a map of channels at places; a vision transformer has tokens, whose grid, without the class token, is the map.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.core.errors import BenchmarkError
from benchmark.core.parameters import bounded
from benchmark.core.types import METHODS, Attribute, Method, Task

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def _watched(task: Task) -> Iterator[list[Tensor]]:
    """Collect what the task's spatial layer gives inside the block."""
    if task.spatial is None:
        raise BenchmarkError(
            f"{task.name} names no spatial layer: set Task.spatial to the last layer with a map of places"
        )
    seen: list[Tensor] = []
    hook = task.model.get_submodule(task.spatial).register_forward_hook(lambda *call: seen.append(call[2]))
    try:
        yield seen
    finally:
        hook.remove()


def as_map(layer: Tensor) -> Tensor:
    """Return a layer's output as (B, C, h, w): as it is, or the grid of tokens (B, prefix + h * w, C)."""
    if layer.dim() == 4:
        return layer
    side = int(layer.shape[1] ** 0.5)
    return layer[:, layer.shape[1] - side * side :].mT.unflatten(2, (side, side))


def activations(task: Task, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the spatial layer's map (B, C, h, w) and the gradient of the target's logit with respect to it."""
    import torch

    with torch.enable_grad(), _watched(task) as seen:
        score = task.model(x.detach().clone().requires_grad_()).gather(1, target.unsqueeze(1)).sum()
        slope = torch.autograd.grad(score, seen[0])[0]
    return as_map(seen[0].detach()), as_map(slope)


def stretched(cam: Tensor, x: Tensor) -> Tensor:
    """Return a map (B, h, w) as attributions (B, H * W), by bilinear interpolation."""
    from torch.nn import functional as F

    return F.interpolate(cam.unsqueeze(1), x.shape[-2:], mode="bilinear", align_corners=False).flatten(1)


@METHODS.register("grad_cam", kind="baseline", modalities=("image",))
@dataclass(frozen=True)
class GradCam(Method):
    """Channels of the last map, each weighted by its mean gradient (Selvaraju et al. 2017, section 3)."""

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""

        def explain(x: Tensor, target: Tensor) -> Tensor:
            layer, slope = activations(task, x, target)
            weight = slope.mean((2, 3), keepdim=True)
            return stretched((weight * layer).sum(1).relu(), x)

        return explain


@METHODS.register("grad_cam_plus_plus", kind="baseline", modalities=("image",))
@dataclass(frozen=True)
class GradCamPlusPlus(Method):
    """Grad-CAM that weighs each place with a positive gradient alike (Chattopadhay et al. 2018, section 3.2).

    The score is the exponential of the logit, so that all its derivatives are powers of the first.
    """

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""

        def explain(x: Tensor, target: Tensor) -> Tensor:
            layer, slope = activations(task, x, target)
            below = 2 * slope**2 + layer.sum((2, 3), keepdim=True) * slope**3
            alpha = (slope**2 / below.where(below != 0, 1.0)).masked_fill(below == 0, 0.0)
            weight = (alpha * slope.relu()).sum((2, 3), keepdim=True)
            return stretched((weight * layer).sum(1).relu(), x)

        return explain


@METHODS.register("score_cam", kind="baseline", modalities=("image",))
@dataclass(frozen=True)
class ScoreCam(Method):
    """Channels of the last map, weighted by the score of the image seen through each (Wang et al. 2020, section 3.2).

    What a channel hides takes the removal baseline, where the paper has black. `channels`: how many are asked, those
    with the largest mean activation, by default all.
    """

    channels: int | None = bounded(None, low=1)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        import torch
        from torch.nn import functional as F

        from benchmark.scoring.masked_model import MaskedModel

        def explain(x: Tensor, target: Tensor) -> Tensor:
            rows = MaskedModel(task).rows_per_forward(x)
            with torch.no_grad():
                with _watched(task) as seen:
                    task.model(x)
                layers, cams = as_map(seen[0]), []
                for layer, image, own in zip(layers, x, target, strict=True):
                    most = min(self.channels or len(layer), len(layer))
                    chosen = layer[layer.mean((1, 2)).topk(most).indices.sort().values]
                    base = task.removal.baseline(image.unsqueeze(0))
                    scores = []
                    for part in chosen.split(rows):
                        mask = F.interpolate(part.unsqueeze(1), image.shape[-2:], mode="bilinear", align_corners=False)
                        low, high = mask.amin((2, 3), keepdim=True), mask.amax((2, 3), keepdim=True)
                        mask = (mask - low) / (high - low).clamp(min=1e-12)
                        scores.append(task.model(base + (image - base) * mask).softmax(-1)[:, own])
                    weight = torch.cat(scores).softmax(0).view(-1, 1, 1)
                    cams.append((weight * chosen).sum(0).relu())
            return stretched(torch.stack(cams), x)

        return explain
