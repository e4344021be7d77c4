"""Times forwards."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from benchmark.engines.engine import Forward


def seconds_of(forward: Forward, rows: Tensor, repeats: int = 1) -> float:
    """Return the seconds of a forward of rows (n, ...), the least of several after one that does not count."""
    took = []
    with torch.no_grad():
        for _ in range(repeats + 1):
            _synchronise()
            start = time.perf_counter()
            forward(rows)
            _synchronise()
            took.append(time.perf_counter() - start)
    return min(took[1:])


def _synchronise() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
