"""What all tests share: one torch thread, a cache of their own, real data where they are."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from benchmark.core.types import METHODS, PACKAGES, TASKS

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # for training, too, and for what tests start
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would leave it ignored
TASKS.discover("benchmark.tasks")
METHODS.discover(*PACKAGES)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Keep trained weights in a folder of this session, never the user's; parallel workers share it."""
    before = os.environ.get("BENCHMARK_CACHE")
    base = tmp_path_factory.getbasetemp()
    parallel = "PYTEST_XDIST_WORKER" in os.environ
    os.environ["BENCHMARK_CACHE"] = str((base.parent if parallel else base) / "cache")
    yield
    if before is None:
        del os.environ["BENCHMARK_CACHE"]
    else:
        os.environ["BENCHMARK_CACHE"] = before


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data, or skip."""
    folder = os.environ.get("BENCHMARK_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("BENCHMARK_DATA names no folder of real data")
    return Path(folder).resolve()
