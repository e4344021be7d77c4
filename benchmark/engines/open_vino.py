"""OpenVINO, on CPUs in fp32 or bf16."""

from __future__ import annotations

import os
import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor

from benchmark.core.types import Precision
from benchmark.engines.engine import EngineError, Exported, Forward

HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16"}


def build(exported: Exported, rows: Tensor, precision: Precision) -> Forward:
    """See `Builder`."""
    import openvino

    if rows.device.type != "cpu":
        raise EngineError(f"openvino runs on a CPU here, got {rows.device.type}")
    free = {0, *exported.dynamic}
    shape = openvino.PartialShape([-1 if i in free else size for i, size in enumerate(rows.shape)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = openvino.convert_model(exported.module, example_input=rows.clone(), input=[shape])
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = _core(os.getpid()).compile_model(graph, "CPU", settings)

    def forward(x: Tensor) -> Tensor:
        return torch.from_numpy(compiled(x.contiguous().numpy())[0].copy())  # the next call writes into the same memory

    return forward


@cache
def _core(_process: int) -> Any:
    """Return the core of a process, this one.

    Each core puts a stack for signal handlers in the place of the one that it finds, and puts that back when it ends.
    Of two, the one that ends last may put back what has been freed: the next signal would end the process. A fork has
    one of its own, since the threads of the other are not in it.
    """
    import openvino

    return openvino.Core()
