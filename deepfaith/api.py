"""DeepFaith for a user's own model and data, with no task registered."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.core.errors import UsageError
from benchmark.core.identity import source_digest, training_digest
from benchmark.core.parameters import configured
from benchmark.core.seeding import seed_for
from benchmark.core.store import key_of
from benchmark.core.types import METHODS, Budget, Method, Modality, Removal, Split, Task
from benchmark.modalities.building import origin_of
from benchmark.modalities.removal import ColumnRemoval, PixelRemoval
from benchmark.models.batching import Batching
from deepfaith.fitted import Fitted
from deepfaith.hyperparameters import Hyperparameters
from deepfaith.method import DeepFaith, explanations_path, priors_for
from deepfaith.supervision import Prior, PriorPath
from deepfaith.training import train

log = logging.getLogger("benchmark")

STEPS: dict[Modality, int] = {"table": 2**31, "text": 20, "image": 48}
NEEDS_EMBEDDING = ("saliency", "input_x_gradient", "integrated_gradients", "gradient_shap", "deeplift")
"""Methods that differentiate a text model by its embeddings."""


def fit(
    model: nn.Module,
    x: Tensor,
    remove: Removal | None = None,
    *,
    priors: Sequence[str] | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    **settings: Any,
) -> Fitted:
    """Train an explainer of `model` on inputs without labels.

    Example:
        >>> explainer = deepfaith.fit(model, x, iterations=500)
        >>> explainer.attribute(x[:10])  # (10, G)
        >>> explainer.save("explainer.safetensors")

    Args:
        model: maps inputs to logits (B, C). It is put into eval mode, and its parameters need no gradient afterwards.
        x: numbers (N, G) for a table, word numbers (N, L) for texts, pixels (N, channels, side, side) for images.
        remove: how a feature is removed. By default a column takes its mean over x, a pixel its channel's; texts need
            a `benchmark.modalities.removal.TokenRemoval`.
        priors: names of the methods whose explanations are copied first; by default all of the benchmark's baselines,
            and () for none.
        seed: of everything that is drawn.
        folder: interrupted work on the same model, inputs and settings goes on from what is stored here.
        settings: those of the method `deepfaith`: `python -m benchmark show deepfaith`.

    Raises:
        UsageError: inputs or settings of another kind than these.
        DivergedError: a loss is not finite.
    """
    METHODS.discover("methods")
    method = configured(DeepFaith, "deepfaith", settings)
    task = _task(model, x, remove)
    chosen = _choose(priors_for(task.modality, method.priors), priors, task)
    recipe = method.recipe(task.modality)
    if not chosen:
        recipe = replace(recipe, schedule=replace(recipe.schedule, fixed=0.0))
    own = seed_for(seed, task.name, "deepfaith", 0)  # what it validates on must not be what an evaluator asks
    paths = (None, None) if folder is None else _paths(Path(folder), task, recipe, chosen, own)
    explainer, report = train(task, recipe, own, chosen, *paths)
    return Fitted(explainer, task.model, report)


def _choose(known: list[Prior], names: Sequence[str] | None, task: Task) -> list[Prior]:
    """Return the prior methods that are called so, or all.

    Raises:
        UsageError: one is not known, or cannot explain the task's model.
    """
    if names is not None:
        unknown = sorted(set(names) - {name for name, _ in known})
        if unknown:
            words = ", ".join(name for name, _ in known)
            raise UsageError(f"no prior method {unknown[0]!r} explains a {task.modality}; known: {words}")
        known = [(name, prior) for name, prior in known if name in names]
    lacking = [name for name, _ in known if name in NEEDS_EMBEDDING]
    if task.modality == "text" and lacking and not hasattr(task.model, "embed"):
        raise UsageError(
            f"{', '.join(lacking)} differentiate a text model by its embeddings, and this one has no .embed: "
            "pass priors= without them, such as ('occlusion', 'lime')"
        )
    return known


def _paths(folder: Path, task: Task, recipe: Hyperparameters, priors: list[Prior], seed: int) -> tuple[Path, PriorPath]:
    """Return where the checkpoint and the explanations are: bound to what they are made from, as in the cache."""
    copied = [origin_of(name, prior, task) for name, prior in priors]
    made_from = source_digest("deepfaith.training"), training_digest(task), recipe.plain(), copied, seed

    def prior_path(name: str, prior: Method) -> Path:
        return folder.joinpath(*explanations_path(task, recipe, seed, name, prior).parts[-2:])

    return folder / f"checkpoint-{key_of(*made_from)}.pt", prior_path


def _task(model: nn.Module, x: Tensor, remove: Removal | None) -> Task:
    """Return a task of inputs x, whose labels are what the model predicts.

    Raises:
        UsageError: x is no table, text or image, or nothing says how a word is removed.
    """
    modality = _modality(x)
    if remove is None:
        remove = _default_removal(x, modality)
    features, table = remove.n_features, modality == "table"
    split = Split(x, torch.zeros(len(x), dtype=torch.long, device=x.device))
    task = Task(
        name="own",
        modality=modality,
        source="real",
        model=model.eval().requires_grad_(False),
        train=split,
        test=split,
        removal=remove,
        budget=Budget(
            min(STEPS[modality], features),
            subset_fraction=1 / 3 if table else 1 / STEPS[modality],
            subset_minimum=2 if table else 1,
        ),
        feature_names=tuple(f"feature {i + 1}" for i in range(features)),
        class_names=(),
    )
    with torch.no_grad():
        logits = Batching(task).ask(x, lambda rows: model(x[rows]))
    split = Split(x, logits.argmax(1))
    class_names = tuple(f"class {i}" for i in range(logits.shape[1]))
    return replace(task, train=split, test=split, class_names=class_names)


def _modality(x: Tensor) -> Modality:
    if not isinstance(x, Tensor):
        raise UsageError(f"fit expects inputs as one tensor, got {type(x).__name__}: torch.as_tensor makes one")
    if x.dim() == 2:
        modality: Modality = "table" if x.is_floating_point() else "text"
    elif x.dim() == 4 and x.is_floating_point() and x.shape[2] == x.shape[3]:
        modality = "image"
    else:
        raise UsageError(
            "fit expects inputs (N, G) of numbers, (N, L) of word numbers or (N, channels, side, side) of pixels, "
            f"got {tuple(x.shape)} of {x.dtype}"
        )
    if len(x) < 2:
        raise UsageError(f"fit expects at least 2 inputs, got {len(x)}")
    return modality


def _default_removal(x: Tensor, modality: Modality) -> Removal:
    if modality == "text":
        raise UsageError("fit needs to know how a word is removed: pass remove=TokenRemoval(length, mask_id, pad_id)")
    if modality == "table":
        return ColumnRemoval(x.mean(0))
    side = x.shape[-1]
    return PixelRemoval(x.mean((0, 2, 3)), side, side, sigma=side / 20)
