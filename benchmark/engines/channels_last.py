"""PyTorch with the channels of images last in memory, as convolutions on CPUs and tensor cores read them best."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.core.types import Precision
from benchmark.engines.engine import EngineError, Exported, Forward


def build(exported: Exported, rows: Tensor, precision: Precision) -> Forward:
    """See `Builder`. The weights of the view become others, which lie otherwise; the model keeps its own."""
    if rows.dim() != 4 or not any(isinstance(layer, nn.Conv2d) for layer in exported.module.modules()):
        raise EngineError("channels_last is for images (n, C, H, W) and models with convolutions")
    module = exported.module.to(memory_format=torch.channels_last)

    def forward(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            return module(x.contiguous(memory_format=torch.channels_last))

    return forward
