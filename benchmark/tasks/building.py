"""What building a task of any modality has in common: its hash, its cached model, the floor under its accuracy."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.data.source import cache_folder
from benchmark.errors import DataError
from benchmark.types import Budget, Located, Task

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger("benchmark")

BUILD_VERSION = 1
"""Raised when the way tasks are made changes, so that no cached model outlives it."""


def fingerprint(recipe: dict[str, Any], budget: Budget, located: Located) -> str:
    """Return the hash of what a task is made from."""
    identity = [recipe, asdict(budget), located.source, located.digest]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def model_path(name: str, recipe: dict[str, Any], located: Located) -> Path:
    """Return where the weights of a task's model are, or will be."""
    identity = json.dumps([recipe, located.source, located.digest], sort_keys=True)
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return cache_folder() / "models" / f"{name}-{key}.safetensors"


def kept_path(method: str, version: int, task: Task, *identity: Any) -> Path:
    """Return where what `method` trains for a task is, or will be; `identity` is all else it depends on."""
    from benchmark.models.cache import key_of

    key = key_of(version, *task_identity(task), *identity)
    return cache_folder() / "explainers" / f"{method}-{task.name}-{key}.safetensors"


def task_identity(task: Task) -> tuple[Any, ...]:
    """Return what identifies a built task, as plain data."""
    data, model = task.provenance["data"], task.provenance["model"]
    return task.name, task.source, data.get("digest"), model["digest"], asdict(task.budget)


def target_model(
    name: str, recipe: dict[str, Any], located: Located, build: Callable[[], nn.Module],
    fit: Callable[[], tuple[nn.Module, dict[str, Any]]],
) -> tuple[nn.Module, dict[str, Any]]:  # fmt: skip
    """Return the frozen model of a task, trained by `fit` where no weights are cached, and what `fit` said of it."""
    from benchmark.models.cache import trained

    return trained(model_path(name, recipe, located), build, fit)


def refuse_weak(task: Task, allowed: bool) -> None:
    """Make sure that a task's model is worth explaining, or that the user wants it all the same.

    Raises:
        DataError: its balanced accuracy is under the floor.
    """
    facts = task.provenance["model"]
    if facts.get("weak") and not allowed:
        raise DataError(
            f"the model of {task.name} is too weak to be worth explaining: balanced accuracy "
            f"{facts['balanced_accuracy']:.3f}, expected at least {facts['floor']}; "
            "use --allow-weak-model to explain it all the same"
        )


def judged(name: str, facts: dict[str, Any], recipe: dict[str, Any], floor: float) -> dict[str, Any]:
    """Return a model's provenance; a balanced accuracy under `floor` is marked as weak."""
    if facts["predicted_classes"] == 1:
        log.warning(f"the model of {name} predicts one class for every test row; its explanations say little")
    weak = facts["balanced_accuracy"] < floor
    return {"recipe": recipe, "floor": floor, "weak": weak, **facts}
