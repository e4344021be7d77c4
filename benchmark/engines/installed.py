"""Puts an engine under a model: who calls the model is answered by the engine where it can, and else by the model.

PyTorch calls `_compiled_call_impl` of a module in place of its forward where it is set, as `Module.compile` does; a
copy of the model and a saved one are without it.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from benchmark.core.types import Precision
from benchmark.engines.engine import Forward


def install(model: nn.Module, forwards: dict[Precision, Forward], like: Tensor) -> None:
    """Let a model be answered by engines.

    Args:
        model: in eval mode.
        forwards: by precision; bf16 is asked under `torch.autocast`. A precision without one is the model's own.
        like: inputs (n, ...) of the type and shape that the engines take.
    """
    uninstall(model)
    if forwards:
        model._compiled_call_impl = _Call(model, forwards, like)


def uninstall(model: nn.Module) -> None:
    """Let a model answer as before: by itself, or as somebody compiled it."""
    if isinstance(model._compiled_call_impl, _Call):
        model._compiled_call_impl = model._compiled_call_impl.before


class _Call:
    """Answers a call of a model, as long as the model is what it was when the engine was made."""

    def __init__(self, model: nn.Module, forwards: dict[Precision, Forward], like: Tensor) -> None:
        self._model, self.forwards = weakref.ref(model), forwards  # in a circle the engine would outlive its task
        self.dtype, self.device, self.shape = like.dtype, like.device, like.shape[1:]
        self.state, self.before = _state(model), model._compiled_call_impl

    @property
    def model(self) -> nn.Module:
        """Return the model, which is there as long as somebody calls it."""
        model = self._model()
        assert model is not None
        return model

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the model gives."""
        forward = self._forward()
        if forward is None or not self._takes(*args, **kwargs):
            return self.model._call_impl(*args, **kwargs)
        logits = forward(args[0].detach())
        for hook in list(self.model._forward_hooks.values()):  # such as a meter's
            changed = hook(self.model, args, logits)
            logits = logits if changed is None else changed
        return logits

    def _forward(self) -> Forward | None:
        """Return the engine's forward in the precision of now, or None where it has none."""
        kind = self.device.type
        if not torch.is_autocast_enabled(kind):
            return self.forwards.get("fp32")
        return self.forwards.get("bf16") if torch.get_autocast_dtype(kind) == torch.bfloat16 else None

    def _takes(self, *args: Any, **kwargs: Any) -> bool:
        """Tell whether the engine gives all that this call is for: logits of a whole input, and no gradients."""
        if torch.is_grad_enabled() or kwargs or len(args) != 1:
            return False
        x = args[0]
        same = isinstance(x, Tensor) and (x.dtype, x.device, x.shape[1:]) == (self.dtype, self.device, self.shape)
        if not same or len(x) == 0 or _transformed(x):
            return False
        return not _hooked(self.model) and _state(self.model) == self.state


def _transformed(x: Tensor) -> bool:
    """Tell whether derivatives are taken forward, or a transformation of `torch.func` is under way."""
    return torch._C._functorch.is_functorch_wrapped_tensor(x) or forward_ad.unpack_dual(x).tangent is not None


def _hooked(model: nn.Module) -> bool:
    """Tell whether hooks wait for more than what the whole model gives."""
    of_all = nn.modules.module
    if of_all._global_forward_hooks or of_all._global_forward_pre_hooks or model._forward_pre_hooks:
        return True
    if model._forward_hooks_with_kwargs or model._forward_hooks_always_called:
        return True
    layers = model.modules()
    next(layers)  # the model itself
    return any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)


def _state(model: nn.Module) -> list[object]:
    """Return what differs where layers, their mode or their weights are others: PyTorch counts what is written to.

    It does not count what is written through `Tensor.data`.
    """
    state: list[object] = []
    for layer in model.modules():
        state += [id(layer), layer.training]
        for held in (layer._parameters, layer._buffers):
            for tensor in held.values():
                if tensor is not None:
                    state += [id(tensor), tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version]
    return state
