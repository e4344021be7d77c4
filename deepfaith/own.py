"""Trains DeepFaith for a user's own model and data, with no task registered."""

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
from benchmark.core.store import key_of
from benchmark.core.types import METHODS, Budget, Method, Modality, Removal, Split, Task
from benchmark.modalities.removal import ColumnRemoval, PixelRemoval
from deepfaith.fitted import Fitted
from deepfaith.method import DeepFaith, explanations_path, plain_prior, priors_for
from deepfaith.supervision import Prior, PriorPath
from deepfaith.training import Hyperparameters, train

log = logging.getLogger("benchmark")

STEPS: dict[Modality, int] = {"table": 2**31, "text": 20, "image": 48}
NEEDS_EMBEDDING = ("saliency", "input_x_gradient", "integrated_gradients", "gradient_shap", "deeplift")


def fit(
    model: nn.Module, x: Tensor, remove: Removal | None = None, *, priors: Sequence[str] | None = None, seed: int = 0,
    folder: str | Path | None = None, **settings: Any,
) -> Fitted:  # fmt: skip
    """Train an explainer of `model` on inputs x (N, ...) without labels.

    `model` maps inputs to logits (B, C). Inputs are numbers (N, G) for a table, word numbers (N, L) for texts, pixels
    (N, channels, side, side) for images. `remove` says how a feature is removed: by default a column takes its mean
    over x, a pixel its channel's; texts need a `benchmark.modalities.removal.TokenRemoval`. `priors` are the methods
    whose explanations are copied first (default: the benchmark's baselines; none of them: ()). With `folder`,
    interrupted work on the same model, inputs and settings goes on. `settings` are those of the method `deepfaith`:
    `python -m benchmark show deepfaith`.

    Raises:
        UsageError: inputs or settings of another kind than these.
        DivergedError: a loss is not finite.
    """
    METHODS.discover("methods")
    method = configured(DeepFaith, "deepfaith", settings)
    task = _task(model, x, remove)
    chosen = priors_for(task.modality, method.priors)
    if priors is not None:
        unknown = sorted(set(priors) - {name for name, _ in chosen})
        if unknown:
            known = ", ".join(name for name, _ in chosen)
            raise UsageError(f"no prior method {unknown[0]!r} explains a {task.modality}; known: {known}")
        chosen = [(name, prior) for name, prior in chosen if name in priors]
    lacking = [name for name, _ in chosen if name in NEEDS_EMBEDDING]
    if task.modality == "text" and lacking and not hasattr(model, "embed"):
        raise UsageError(
            f"{', '.join(lacking)} differentiate a text model by its embeddings, and this one has no .embed: "
            "pass priors= without them, such as ('occlusion', 'lime')"
        )
    recipe = method.recipe(task.modality)
    if not chosen:
        recipe = replace(recipe, schedule=replace(recipe.schedule, fixed=0.0))
    kept = (None, None) if folder is None else _places(Path(folder), task, recipe, chosen, seed)
    explainer, report = train(task, recipe, seed, chosen, *kept)
    return Fitted(explainer, task.model, report)


def _places(
    folder: Path, task: Task, recipe: Hyperparameters, priors: list[Prior], seed: int
) -> tuple[Path, PriorPath]:
    """Return where the checkpoint and the explanations are: bound to what they are made from, as in the cache."""
    copied = [plain_prior(name, prior, task) for name, prior in priors]
    made_from = source_digest("deepfaith.training"), training_digest(task), recipe.plain(), copied, seed

    def prior_path(name: str, prior: Method) -> Path:
        return folder.joinpath(*explanations_path(task, recipe, seed, name, prior).parts[-2:])

    return folder / f"checkpoint-{key_of(*made_from)}.pt", prior_path


def _task(model: nn.Module, x: Tensor, remove: Removal | None) -> Task:
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
    if remove is None and modality == "text":
        raise UsageError("fit needs to know how a word is removed: pass remove=TokenRemoval(length, mask_id, pad_id)")
    if remove is None and modality == "table":
        remove = ColumnRemoval(x.mean(0))
    elif remove is None:
        side = x.shape[-1]
        remove = PixelRemoval(x.mean((0, 2, 3)), side, side, sigma=side / 20)
    assert remove is not None
    model = model.eval().requires_grad_(False)
    with torch.no_grad():
        logits = torch.cat([model(part) for part in x.split(256)])
    split = Split(x, logits.argmax(1))
    features = remove.n_features
    third = modality == "table"
    return Task(
        name="own",
        modality=modality,
        source="real",
        model=model,
        train=split,
        test=split,
        removal=remove,
        budget=Budget(min(STEPS[modality], features), subset_fraction=1 / 3 if third else 1 / STEPS[modality],
                      subset_minimum=2 if third else 1),
        feature_names=tuple(f"feature {i + 1}" for i in range(features)),
        class_names=tuple(f"class {i}" for i in range(logits.shape[1])),
    )  # fmt: skip
