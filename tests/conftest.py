"""What all tests share: one torch thread, a cache of their own, real data where they are."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from benchmark.core.types import METHODS, PACKAGES, TASKS
from benchmark.modalities.removals import REMOVALS
from benchmark.running.built import forget_tasks
from benchmark.scoring.metrics import METRICS
from tests import model_cache
from tests.web_server import server  # noqa: F401 - a fixture

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # for training, too, and for what tests start
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would leave it ignored
TASKS.discover("benchmark.tasks")
METHODS.discover(*PACKAGES)


@pytest.fixture(scope="session", autouse=True)
def _session_cache(tmp_path_factory):
    """Keep what tests train in a folder of this session, never in the user's; parallel workers share it."""
    base = tmp_path_factory.getbasetemp()
    cache = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    model_cache.fetch(cache / "models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHMARK_CACHE", str(cache))
        yield
    model_cache.keep(cache / "models")


@pytest.fixture(autouse=True)
def forget_registered():
    """Return a function that forgets what a test has registered so far; it is called after every test, too."""
    known = {registry: set(registry.names()) for registry in (TASKS, METHODS, METRICS, REMOVALS)}
    modules, folders = set(sys.modules), list(sys.path)

    def forget():
        for registry, names in known.items():
            for name in set(registry.names()) - names:
                registry._entries.pop(name), registry._objects.pop(name, None), registry._checked.pop(name, None)
                forget_tasks()
        for module in [name for name in sys.modules if name.startswith("included_") and name not in modules]:
            del sys.modules[module]

    yield forget
    forget()
    sys.path[:] = folders  # those of included files


@pytest.fixture
def replace_task(monkeypatch):
    """Return a function that puts another maker in place of a task's, until the test is over."""

    def replace(name, make):
        monkeypatch.setitem(TASKS._objects, name, make)
        forget_tasks()

    yield replace
    forget_tasks()


@pytest.fixture
def replace_metric(monkeypatch):
    """Return a function that puts another metric in place of one, until the test is over."""

    def replace(name, metric):
        monkeypatch.setitem(METRICS._objects, name, lambda: metric)

    return replace


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data, or skip."""
    folder = os.environ.get("BENCHMARK_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("BENCHMARK_DATA names no folder of real data")
    return Path(folder).resolve()
