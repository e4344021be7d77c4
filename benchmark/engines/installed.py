"""Puts an engine under a model: who calls the model is answered by the engine where it can, and else by the model.

PyTorch calls `_compiled_call_impl` of a module in place of its forward where it is set, as `Module.compile` does; a
copy of the model and a saved one are without it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmark.core.types import Precision
from benchmark.engines.engine import Forward


def install(model: nn.Module, forwards: dict[Precision, Forward], like: Tensor) -> None:
    """Let a model be answered by engines.

    Args:
        model: in eval mode.
        forwards: by precision; bf16 is asked under `torch.autocast`. A precision without one is the model's own.
        like: inputs (n, ...) of the type and shape that the engines take.
    """
    model._compiled_call_impl = _Call(model, forwards, like) if forwards else None


def uninstall(model: nn.Module) -> None:
    """Let a model answer by itself again."""
    model._compiled_call_impl = None


class _Call:
    """Answers a call of a model."""

    def __init__(self, model: nn.Module, forwards: dict[Precision, Forward], like: Tensor) -> None:
        self.model, self.forwards = model, forwards
        self.dtype, self.device, self.shape = like.dtype, like.device, like.shape[1:]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the model gives."""
        precision: Precision = "bf16" if torch.is_autocast_enabled(self.device.type) else "fp32"
        forward = self.forwards.get(precision)
        if forward is None or not self._takes(*args, **kwargs):
            return self.model._call_impl(*args, **kwargs)
        logits = forward(args[0].detach())
        for hook in list(self.model._forward_hooks.values()):  # such as a meter's
            hook(self.model, args, logits)
        return logits

    def _takes(self, *args: Any, **kwargs: Any) -> bool:
        """Tell whether the engine gives all that this call is for: logits of a whole input, and no gradients."""
        if torch.is_grad_enabled() or kwargs or len(args) != 1:
            return False
        x = args[0]
        same = isinstance(x, Tensor) and (x.dtype, x.device, x.shape[1:]) == (self.dtype, self.device, self.shape)
        return same and len(x) > 0 and not self.model._forward_pre_hooks and not self._looked_into()

    def _looked_into(self) -> bool:
        """Tell whether somebody waits for what a layer gives."""
        layers = self.model.modules()
        next(layers)  # the model itself
        return any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)
