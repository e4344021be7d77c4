"""torch.compile with its weights frozen, on CPUs and GPUs."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.core.types import Precision
from benchmark.engines.engine import Exported, Forward


def build(exported: Exported, rows: Tensor, precision: Precision) -> Forward:
    """See `Builder`. It is compiled for any number of rows, at the first call."""
    options = {"freezing": True} if rows.device.type == "cpu" else {"max_autotune": False}
    compiled = torch.compile(exported.module, dynamic=True, options=options)

    def forward(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            return compiled(x)

    with torch.inference_mode():
        forward(rows)
    return forward
