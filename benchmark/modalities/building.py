"""What building a task needs in any modality: its hash, its cached model, the least accuracy of the model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import DataError
from benchmark.core.identity import method_identity, source_digest, training_digest
from benchmark.core.parameters import parameters
from benchmark.core.provenance import ModelProvenance, shown
from benchmark.core.sources import Located
from benchmark.core.types import METHODS, Method, Task

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger("benchmark")

BUILD_VERSION = 1
"""Raised when the way tasks are made changes, so that no cached model outlives it."""
MAKERS = ("benchmark.models.mlp", "benchmark.models.text", "benchmark.models.image", "benchmark.models.training")
"""Modules whose source, with what it imports, says what a model is before it is trained, and how it is trained."""


def model_path(name: str, recipe: dict[str, Any], located: Located) -> Path:
    """Return where the weights of a task's model are, or will be.

    The name hashes the recipe, the digest of the data and the source of `MAKERS`; that the model was trained on the
    rows that the data give now is checked when it is loaded.

    Args:
        name: of the task.
        recipe: every setting that the model depends on, as plain data.
        located: the task's data.
    """
    from benchmark.core.store import MODELS

    return MODELS.path(name, recipe, located.source, located.digest, [source_digest(module) for module in MAKERS])


def explainer_path(method: str, code: str, task: Task, *settings: Any) -> Path:
    """Return where the explainer that a method trains for a task is, or will be.

    Args:
        method: its name.
        code: the module whose source trains it.
        task: the task, of which the test rows play no part.
        settings: all else that it depends on, as plain data.
    """
    from benchmark.core.store import EXPLAINERS

    return EXPLAINERS.path(f"{method}-{task.name}", source_digest(code), training_digest(task), *settings)


def origin_of(name: str, method: Method, task: Task) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Return what explanations by a method that others learn from follow from: all its parameters, and its code."""
    return name, parameters(method.resolved(task)), method_identity(method, task.modality, METHODS.entry(name).module)


def target_model(
    name: str, recipe: dict[str, Any], located: Located, build: Callable[[], nn.Module],
    fit: Callable[[], tuple[nn.Module, dict[str, Any]]], rows: str,
) -> tuple[nn.Module, dict[str, Any]]:  # fmt: skip
    """Return the frozen model of a task, trained where no weights are cached, and facts about it.

    Args:
        name: of the task.
        recipe: every setting that the model depends on, as plain data.
        located: the task's data.
        build: returns the untrained model.
        fit: returns the trained model and facts about it, as plain data.
        rows: a digest of the rows that it is trained on; a cached model of other rows is set aside and trained again.
    """
    from benchmark.core.store import Unusable
    from benchmark.models.weights import trained

    def train() -> tuple[nn.Module, dict[str, Any]]:
        model, facts = fit()
        return model, facts | {"rows": rows}

    def check(facts: dict[str, Any]) -> None:
        if facts.get("rows") != rows:
            raise Unusable("was trained on other rows than the data hold now")

    model, facts = trained(model_path(name, recipe, located), build, train, check)
    del facts["rows"]
    return model, facts


def refuse_weak(task: Task, allowed: bool) -> None:
    """Make sure that a task's model is worth explaining, or that the user wants it all the same.

    Raises:
        DataError: its balanced accuracy is under the floor.
    """
    model = task.provenance.model
    if model.weak and not allowed:
        raise DataError(
            f"the model of {task.name} is too weak to be worth explaining: balanced accuracy "
            f"{shown(model.balanced_accuracy)}, expected at least {model.floor or 'its floor'}; "
            "use --allow-weak-model to explain it all the same"
        )


def judged(name: str, facts: dict[str, Any], recipe: dict[str, Any], floor: float) -> ModelProvenance:
    """Return a model's provenance; a balanced accuracy under `floor` is marked as weak."""
    if facts["predicted_classes"] == 1:
        log.warning(f"the model of {name} predicts one class for every test row; its explanations say little")
    weak = facts["balanced_accuracy"] < floor
    return ModelProvenance.of({"recipe": recipe, "floor": floor, "weak": weak, **facts})


def task_facts(task: Task) -> dict[str, Any]:
    """Return what a board says of a task: all of it is kept in each record; what the task does not say is None."""
    model = task.provenance.model
    return {
        "modality": task.modality,
        "origin": task.provenance.data.origin,
        "rows": len(task.test.x),
        "accuracy": model.accuracy,
        "balanced_accuracy": model.balanced_accuracy,
        "weak": model.weak,
    }
