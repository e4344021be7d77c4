"""Inputs to take gradients of: a table's or an image's own numbers, a text's word embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.core.types import Task

if TYPE_CHECKING:
    from torch import Tensor, nn

BACKWARD_BYTES = {"cpu": 2**29, "cuda": 2**33}
"""What the layer outputs that a backward pass needs may take."""


@dataclass(frozen=True, eq=False)
class Continuous:
    """`x` and its baseline `base`, both (B, ...) and a leaf; `extra` are further arguments of the model, by row."""

    x: Tensor
    base: Tensor
    extra: tuple[Tensor, ...] = ()


def continuous(task: Task, x: Tensor) -> Continuous:
    """Return inputs and their removal baseline as numbers; words become embeddings, and padding stays padding."""
    if task.modality != "text":
        return Continuous(x.detach().clone().requires_grad_(), task.removal.baseline(x).expand_as(x))
    real = task.removal.valid(x)
    embed: nn.Embedding = task.model.embed  # type: ignore[assignment]
    removed = task.remove(x, real)
    return Continuous(embed(x).detach().clone().requires_grad_(), embed(removed).detach(), (real,))


def logits(task: Task, inputs: Tensor, extra: tuple[Tensor, ...], target: Tensor) -> Tensor:
    """Return the target's logit (B,) of each row."""
    return task.model(inputs, *extra).gather(1, target.unsqueeze(1)).squeeze(1)


def gradient(task: Task, x: Tensor, target: Tensor) -> Tensor:
    """Return the gradient of the target's logit in the layout of `continuous`."""
    import torch

    seen = continuous(task, x)
    with torch.enable_grad():
        return torch.autograd.grad(logits(task, seen.x, seen.extra, target).sum(), seen.x)[0]


def rows_per_backward(task: Task, x: Tensor) -> int:
    """Return how many rows like the largest of x a forward and backward pass may hold, at least one."""
    import torch

    from benchmark.scoring.masked_model import bare, tensors_in

    held = 0
    largest = int(task.removal.valid(x).sum(1).argmax())

    def measure(_module: object, _inputs: object, output: object) -> None:
        nonlocal held
        held += sum(tensor.nelement() * tensor.element_size() for tensor in tensors_in(output))

    modules = [module for module in task.model.modules() if module is not task.model and not list(module.children())]
    hooks = [module.register_forward_hook(measure) for module in modules]
    try:
        with torch.no_grad():
            bare(task.model)(x[largest : largest + 1])
    finally:
        for hook in hooks:
            hook.remove()
    return max(1, BACKWARD_BYTES[x.device.type] // max(1, 2 * held))
