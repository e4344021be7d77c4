"""Where trained hinted explainers, and what is distilled from them, are kept between runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmark.core.identity import tensors_digest
from benchmark.core.seeding import seeded
from benchmark.core.store import EXPLAINERS, Made, Unusable
from benchmark.core.types import Task
from benchmark.learning.encoder import Shape
from benchmark.modalities.building import explainer_path, origin_of
from benchmark.models.training import freeze
from benchmark.models.weights import fill
from deepfaith.hinted.distilling import Distilling, distil, without_hints
from deepfaith.hinted.explainer import HintedExplainer
from deepfaith.hinted.hyperparameters import HintedHyperparameters
from deepfaith.hinted.training import train


def trained_member(task: Task, recipe: HintedHyperparameters, seed: int) -> tuple[HintedExplainer, dict[str, Any]]:
    """Return the explainer that is trained for a task by a recipe, and its report, from the cache where it is there."""
    path = explainer_path(
        "deepfaith_hinted", "deepfaith.hinted.training", task, recipe.plain(), origins_of(task, recipe), seed
    )
    return from_cache(task, recipe, path, lambda: train(task, recipe, seed, path.with_suffix(".pt")))


def trained_student(
    task: Task, recipe: HintedHyperparameters, teacher: Sequence[HintedExplainer], distilling: Distilling, seed: int
) -> tuple[HintedExplainer, dict[str, Any]]:
    """Return what is distilled from a teacher, and its report, from the cache where it is there.

    Args:
        task: see `train`.
        recipe: of the teacher.
        teacher: the explainers whose order and sizes are copied.
        distilling: how much.
        seed: of teacher and student.
    """
    weights = {f"{i} {key}": value for i, one in enumerate(teacher) for key, value in one.state_dict().items()}
    followed = recipe.plain(), asdict(distilling), origins_of(task, recipe), tensors_digest(weights), seed
    path = explainer_path("deepfaith_distilled", "deepfaith.hinted.distilling", task, *followed)
    return from_cache(task, without_hints(recipe), path, lambda: distil(
        task, recipe, teacher, distilling, seed, path.with_suffix(".pt")
    ))  # fmt: skip


def origins_of(task: Task, recipe: HintedHyperparameters) -> list[Any]:
    """Return what a recipe's hints follow from beside this source, as plain data."""
    return [origin_of(name, rule, task) for name, rule in recipe.hints.methods().items()]


def from_cache(
    task: Task, recipe: HintedHyperparameters, path: Path, make: Callable[[], tuple[HintedExplainer, dict[str, Any]]]
) -> tuple[HintedExplainer, dict[str, Any]]:
    """Return the explainer at a path of the cache, made where there is none of use, and its report."""

    def made() -> Made:
        explainer, report = make()
        facts = {"shape": explainer.backbone.shape.plain(), "starts": explainer.starts.tolist(), "report": report}
        return explainer.state_dict(), facts

    def built(state: dict[str, Tensor], facts: dict[str, Any]) -> HintedExplainer:
        try:
            shape, starts = Shape(**facts["shape"]), facts["starts"]
        except (KeyError, TypeError) as error:
            raise Unusable(f"holds no explainer of this version ({type(error).__name__}: {error})") from error
        with seeded(0):  # weights that are replaced, but drawing them moves the global generator
            explainer = HintedExplainer(
                shape, len(task.class_names), starts, recipe.gains, recipe.additive, recipe.separate
            )
        fill(explainer, state)
        freeze(explainer)
        return explainer

    state, facts = EXPLAINERS.get(path, made, built)
    return built(state, facts).to(task.train.x.device), facts["report"]
