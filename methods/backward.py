"""Methods that change the backward pass by rules: guided backpropagation, layer-wise relevance propagation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmark.core.parameters import Space, bounded
from benchmark.core.types import METHODS, Attribute, Method, Task, Told
from benchmark.modalities.continuous import gradient
from benchmark.models.outputs import OUTPUTS

ACTIVATIONS = ("ReLU", "ReLU6", "SiLU", "GELU", "Hardswish", "Mish", "ELU", "LeakyReLU")

Hook = Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]
"""A forward hook: of a module, its inputs and its output makes the output that takes its place."""
Folded = dict[int, tuple[nn.Module, Tensor]]
"""The convolution behind a tensor, by the tensor's id, and the convolution's input."""


def is_activation(module: nn.Module) -> bool:
    """Tell whether a module is an elementwise activation."""
    return any(kind.__name__ in ACTIVATIONS for kind in type(module).__mro__)


@contextmanager
def _hooked(model: nn.Module, choose: Callable[[str, nn.Module], Hook | None]) -> Iterator[None]:
    """Let forward hooks replace the outputs of modules inside the block; values stay, gradients change."""
    handles = []
    try:
        for name, module in model.named_modules():
            hook = choose(name, module)
            if hook is not None:
                handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Guided(torch.autograd.Function):
    """An activation's output as it is, whose gradient passes where it and the unit's input are positive."""

    @staticmethod
    def forward(context: Any, output: Tensor, before: Tensor) -> Tensor:
        context.save_for_backward(before > 0)
        return output.clone()

    @staticmethod
    def backward(context: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (positive,) = context.saved_tensors
        return slopes[0].clamp(min=0) * positive, None


def _guide(_module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    return _Guided.apply(output, inputs[0])


@METHODS.register("guided_backprop", kind="baseline", modalities=("image",))
@dataclass(frozen=True)
class GuidedBackprop(Method):
    """Gradient that passes an activation only where it and the unit's input are positive (Springenberg et al. 2015).

    The paper's rule is for ReLU. Here it holds for every elementwise activation: behind SiLU or GELU, too, nothing
    negative passes, and nothing through a unit whose input is negative. A model without activations is refused.

    Args:
        output: what is explained, see `benchmark.models.outputs`.

    Example:
        >>> GuidedBackprop().prepare(task, seed=0)(x, target)  # (B, H * W)
    """

    told: ClassVar[Told] = Told(gradients=True, layers="what activations take")
    space: ClassVar[Space] = Space({"output": OUTPUTS})
    output: str = bounded("logit", among=OUTPUTS)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`.

        Raises:
            ValueError: the model has no activation to guide.
        """
        if not any(map(is_activation, task.model.modules())):
            raise ValueError("the model has no activation module, so its guided gradient would be the plain one")

        def explain(x: Tensor, target: Tensor) -> Tensor:
            with _hooked(task.model, lambda _name, module: _guide if is_activation(module) else None):
                return task.removal.pool(gradient(task, x, target, self.output))

        return explain


@METHODS.register("lrp", kind="baseline", modalities=("image",))
@dataclass(frozen=True)
class LRP(Method):
    """Relevance of the output passed back layer by layer (Bach et al. 2015; Montavon et al. 2019, section 10.2).

    Written as gradient times input of a model whose layers have other slopes: convolutions, each together with the
    batch normalisation behind it, follow the gamma rule in its form for inputs of either sign (Andéol et al. 2021),
    linear layers the basic rule; activations pass relevance on as it is; sums share it in proportion by themselves;
    gates, attention weights and the scale of layer normalisation count as constants (Ali et al. 2022, section 3).

    Args:
        gamma: how much positive contributions are favoured; 0 is the basic rule.
        output: what is explained, see `benchmark.models.outputs`: relevance begins at the logits, each weighed by the
            output's slope.

    Example:
        >>> LRP(gamma=0.1).prepare(task, seed=0)(x, target)  # (B, H * W)
    """

    told: ClassVar[Told] = Told(gradients=True, layers="what all layers take and give, and their weights")
    space: ClassVar[Space] = Space({"output": OUTPUTS, "gamma": (0.0, 0.1, 0.25, 0.5)})
    gamma: float = bounded(0.25, low=0)
    output: str = bounded("logit", among=OUTPUTS)

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""

        def explain(x: Tensor, target: Tensor) -> Tensor:
            folded: Folded = {}
            with _hooked(task.model, lambda name, module: _rule(name, module, self.gamma, folded)):
                return task.removal.pool(x * gradient(task, x, target, self.output))

        return explain


def _rule(name: str, module: nn.Module, gamma: float, folded: Folded) -> Hook | None:
    """Return the hook that gives a module the slopes of its rule, or None where its own slopes are right."""
    if isinstance(module, nn.Conv2d):
        return lambda module, inputs, output: _convolution(module, inputs[0], output, gamma, folded)
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return lambda module, inputs, output: _normalised(module, inputs[0], output, gamma, folded)
    if isinstance(module, nn.LayerNorm):
        return _layer_norm
    if type(module).__name__ == "SqueezeExcite" or is_activation(module):
        return lambda _module, inputs, output: _as_is(inputs[0], output)
    return _values_only if name.endswith("attn.qkv") else None


def _ratio(of: Tensor, by: Tensor) -> Tensor:
    """Return of / by without a slope, 0 where `by` is."""
    by = by.detach()
    return (of.detach() / by.where(by != 0, 1.0)).masked_fill(by == 0, 0.0)


def _as_is(before: Tensor, after: Tensor) -> Tensor:
    """Return `after` such that relevance passes to `before` unchanged."""
    return before * _ratio(after, before)


def _favoured(convolve: Callable[..., Tensor], weight: Tensor, bias: Tensor | None, x: Tensor, gamma: float) -> Tensor:
    """Return what a convolution gives when contributions of the output's own sign count 1 + gamma times."""
    up, down = x.clamp(min=0), x.clamp(max=0)
    strong, weak = weight.clamp(min=0), weight.clamp(max=0)
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    plain = convolve(x, weight, bias)
    positive = convolve(up, strong, bias.clamp(min=0)) + convolve(down, weak, None)
    negative = convolve(down, strong, bias.clamp(max=0)) + convolve(up, weak, None)
    return plain + gamma * positive.where(plain > 0, negative)


def _convolver(module: nn.Module) -> Callable[..., Tensor]:
    """Return the convolution of `module` as a function of input, weight and bias, padding included."""
    if type(module).forward is nn.Conv2d.forward:
        return module._conv_forward  # type: ignore[return-value]
    bare = copy.copy(module)  # a subclass that pads in its own way, such as timm's Conv2dSame
    bare._forward_hooks, bare._parameters = type(module._forward_hooks)(), dict(module._parameters)

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        bare._parameters["weight"], bare._parameters["bias"] = weight, bias  # type: ignore[assignment]
        return bare.forward(x)

    return convolve


def _convolution(module: nn.Module, x: Tensor, output: Tensor, gamma: float, folded: Folded) -> Tensor:
    """Apply the gamma rule to one convolution."""
    favoured = _favoured(_convolver(module), module.weight, module.bias, x, gamma)  # type: ignore[arg-type]
    result = favoured * _ratio(output, favoured)
    folded[id(result)] = (module, x)
    return result


def _normalised(module: nn.Module, x: Tensor, output: Tensor, gamma: float, folded: Folded) -> Tensor:
    """Apply the gamma rule to a convolution and the batch normalisation (and activation) behind it as one layer."""
    if id(x) not in folded:
        return output
    convolution, before = folded[id(x)]
    norm: dict[str, Any] = dict(module.named_parameters()) | dict(module.named_buffers()) | {"eps": module.eps}
    scale = norm["weight"] / (norm["running_var"] + norm["eps"]).sqrt()
    kernel: dict[str, Any] = dict(convolution.named_parameters())
    shift = norm["bias"] + (kernel.get("bias", 0.0) - norm["running_mean"]) * scale
    weight = kernel["weight"] * scale.view(-1, 1, 1, 1)
    favoured = _favoured(_convolver(convolution), weight, shift, before, gamma)
    return favoured * _ratio(output, favoured)


def _layer_norm(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """Return the normalised input with its standard deviation held constant."""
    x = inputs[0]
    norm: dict[str, Any] = dict(module.named_parameters()) | {"eps": module.eps, "shape": module.normalized_shape}
    dims = tuple(range(-len(norm["shape"]), 0))
    scale = (x.var(dims, keepdim=True, correction=0) + norm["eps"]).rsqrt().detach()
    return (x - x.mean(dims, keepdim=True)) * scale * norm["weight"] + norm["bias"]


def _values_only(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """Return queries, keys and values of which only the values have a slope: attention weights are constants."""
    values = output.shape[-1] // 3
    return torch.cat([output[..., : 2 * values].detach(), output[..., 2 * values :]], -1)
