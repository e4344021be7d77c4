"""torch.compile, on CPUs with frozen weights, and on GPUs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmark.core.types import Precision
from benchmark.engines.engine import Exported, Forward


def build(exported: Exported, rows: Tensor, precision: Precision) -> Forward:
    """See `Builder`. It is compiled here, for any number of rows.

    Sizes that stay the same are compiled in: with an image's sides left open, those of padding that follows from them
    are simplified for hours.
    """
    options: dict[str, Any] = {"freezing": True} if rows.device.type == "cpu" else {}
    compiled = torch.compile(exported.module, options=options)

    def forward(x: Tensor) -> Tensor:
        x = x[:]  # a tensor of its own to mark, laid out alike
        for dimension in range(x.dim()):
            if dimension in (0, *exported.dynamic):
                torch._dynamo.maybe_mark_dynamic(x, dimension)
            else:
                torch._dynamo.mark_static(x, dimension)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            return compiled(x)

    with torch.no_grad():
        forward(rows)
    return forward
