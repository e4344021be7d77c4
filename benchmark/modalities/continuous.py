"""Inputs to take gradients of: a table's or an image's own numbers, a text's word embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.core.types import Task
from benchmark.modalities.grouping import single
from benchmark.models.batching import bare, tensors_in
from benchmark.models.outputs import output_of, with_gradient

BACKWARD_BYTES = {"cpu": 2**29, "cuda": 2**33}
"""Bytes that the layer outputs which a backward pass needs may take, by class of device."""


@dataclass(frozen=True, eq=False)
class Continuous:
    """Inputs and their baseline as numbers that a gradient can be taken with respect to.

    Attributes:
        x: inputs (B, ...), a leaf that requires a gradient; of a text its embeddings (B, G, E).
        base: the removal baseline, of the same shape.
        extra: further arguments of the model, each (B, ...): of a text which words are real, (B, G) bool.
    """

    x: Tensor
    base: Tensor
    extra: tuple[Tensor, ...] = ()


def continuous(task: Task, x: Tensor) -> Continuous:
    """Return inputs x (B, ...) and their removal baseline as numbers; words become embeddings, padding stays padding.

    Raises:
        AttributeError: the model of a text task has no `embed`.
    """
    if task.modality != "text":
        return Continuous(x.detach().clone().requires_grad_(), task.removal.baseline(x).expand_as(x))
    real = single(task.removal).valid(x)
    embed: nn.Embedding = task.model.embed  # type: ignore[assignment]
    removed = task.remove(x, task.removal.valid(x))
    return Continuous(embed(x).detach().clone().requires_grad_(), embed(removed).detach(), (real,))


def gradient(task: Task, x: Tensor, target: Tensor, output: str = "logit") -> Tensor:
    """Return the gradient of the target's output, in the layout of `Continuous.x`, for x (B, ...) and targets (B,).

    Raises:
        NoGradientError: none passes the model.
    """
    inputs = continuous(task, x)
    with torch.enable_grad():
        explained = output_of(with_gradient(task.model(inputs.x, *inputs.extra), inputs.x), target, output)
        return torch.autograd.grad(explained.sum(), inputs.x)[0]


def pooled(task: Task, x: Tensor, raw: Tensor) -> Tensor:
    """Return numbers laid out as in `Continuous.x` as one a feature, (B, G); those at padding count nothing."""
    if task.modality == "text":
        raw = raw.masked_fill(~single(task.removal).valid(x).unsqueeze(-1), 0.0)
    return task.removal.pool(raw)


def rows_per_backward(task: Task, x: Tensor) -> int:
    """Return how many rows like the largest of x a forward and backward pass may hold, at least one.

    A backward pass needs the outputs of all layers at once; each counts twice, for its gradient.
    """
    held_bytes = 0
    largest = int(task.removal.valid(x).sum(1).argmax())

    def measure(_module: object, _inputs: object, output: object) -> None:
        nonlocal held_bytes
        held_bytes += sum(tensor.nelement() * tensor.element_size() for tensor in tensors_in(output))

    leaves = [module for module in task.model.modules() if module is not task.model and not list(module.children())]
    hooks = [module.register_forward_hook(measure) for module in leaves]
    try:
        with torch.no_grad():
            bare(task.model)(x[largest : largest + 1])
    finally:
        for hook in hooks:
            hook.remove()
    return max(1, BACKWARD_BYTES[x.device.type] // max(1, 2 * held_bytes))
