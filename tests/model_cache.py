"""Keeps the stand-in models that tests train from one test run to the next, in the folder BENCHMARK_TEST_CACHE.

A model is kept under digests of the code that made it: an edit of a task, of its data or of the training trains anew.
Nothing else is kept: explainers are trained in every run, because tests are about their training.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch

from benchmark.core.files import write_atomically
from benchmark.core.identity import source_digest
from benchmark.core.store import key_of
from benchmark.core.types import TASKS


def folders() -> dict[str, Path]:
    """Return the folder of each task's models; empty where no folder is named."""
    root = os.environ.get("BENCHMARK_TEST_CACHE")
    machine = [torch.__version__, torch.backends.cpu.get_cpu_capability()]  # both change the last bits of weights
    return {
        name: Path(root, f"{name}@{key_of(source_digest(TASKS.entry(name).module), *machine)}")
        for name in (TASKS.names() if root else ())
    }


def fetch(models: Path) -> None:
    """Copy the models that earlier runs kept into the folder `models` of this run's cache."""
    for folder in folders().values():
        for path in folder.glob("*.safetensors"):
            if not (models / path.name).exists():  # parallel workers share that folder
                write_atomically(models / path.name, path.read_bytes())


def keep(models: Path) -> None:
    """Copy the models that this run trained to where the next one finds them, in place of those of older code."""
    for name, folder in folders().items():
        for path in models.glob(f"{name}-*.safetensors"):
            if not (folder / path.name).exists():
                write_atomically(folder / path.name, path.read_bytes())
        if folder.exists():
            for older in folder.parent.glob(f"{name}@*"):
                if older != folder:
                    shutil.rmtree(older, ignore_errors=True)  # a parallel worker may be quicker
