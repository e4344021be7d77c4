"""Settings of a run, and what a process has to set before it runs cells."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from benchmark.core.errors import UsageError
from benchmark.core.types import METHODS, TASKS
from benchmark.engines.names import EAGER
from benchmark.plugins.discovery import discover_plugins
from benchmark.plugins.task_files import include_task
from benchmark.processes.allocation import keep_freed_memory
from benchmark.processes.interruption import held

Overwrite = Literal["never", "missing", "always"]


@dataclass(frozen=True)
class Settings:
    """How cells are run. `packages`, `included` and `task_files` say where workers find methods and tasks.

    `task_files` are `FILE.py:NAME`, as `--task` takes them. `device` is auto, cpu or cuda; `jobs` None means one worker
    a core, or one a GPU. `settled` fills in both. `engine` is what answers for the model, see `benchmark.engines`.
    `shard_size` is the number of samples that are computed and kept at once; None for what takes some minutes.
    `cluster` is where shards are computed, see `benchmark.scheduling.cluster`; None for this machine.
    """

    metrics: tuple[str, ...]
    device: str
    jobs: int | None
    overwrite: Overwrite
    packages: tuple[str, ...]
    included: tuple[Path, ...]
    root: Path
    engine: str = EAGER
    allow_weak: bool = False
    task_files: tuple[str, ...] = ()
    shard_size: int | None = None
    cluster: str | None = None

    def settled(self) -> Settings:
        """Return these settings with a device that is there and a number of workers.

        Raises:
            UsageError: a GPU was asked for and there is none.
        """
        with held():
            import joblib
            import torch

        if self.device == "cuda":
            require_cuda()
        on_gpu = self.device != "cpu" and torch.cuda.is_available()
        jobs = self.jobs or (torch.cuda.device_count() if on_gpu else joblib.cpu_count())
        return replace(self, device="cuda" if on_gpu else "cpu", jobs=jobs)

    @property
    def gpus(self) -> tuple[str, ...]:
        """Return the GPUs that worker processes take in turn, as CUDA_VISIBLE_DEVICES names them; none on a CPU."""
        if self.device != "cuda":
            return ()
        import torch

        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        return tuple(visible.split(",")) if visible else tuple(map(str, range(torch.cuda.device_count())))


def require_cuda() -> None:
    """Make sure there is a GPU.

    Raises:
        UsageError: there is none.
    """
    import torch

    if not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no CUDA device here; use --device cpu or auto")


def single_threaded() -> None:
    """Use one torch thread: two fight over small models, and sums are made in one order."""
    import torch

    torch.set_num_threads(1)


def prepare_process(settings: Settings) -> None:
    """Make this process see the registered methods, use one torch thread and keep freed memory."""
    with held():
        import captum.attr  # noqa: F401 - here, so that no method's time holds the import

    single_threaded()
    keep_freed_memory()
    METHODS.discover(*settings.packages)
    TASKS.discover("benchmark.tasks")
    discover_plugins()
    for path in settings.included:
        METHODS.include(path)
    for item in settings.task_files:
        include_task(item)


prepare_worker = lru_cache(maxsize=1)(prepare_process)
"""Once for all cells of a run: reading all methods takes as long as scoring a small one."""
