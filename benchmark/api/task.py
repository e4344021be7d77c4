"""`task`: a task of a person's own model and inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from benchmark.api.classes import class_names_of, classes_in, target_of
from benchmark.api.inputs import (
    check_inputs,
    in_order_of,
    labels_of,
    modality_of,
    names_given,
    names_of,
    remember,
    tensor_of,
    texts_in,
    tokens_of,
)
from benchmark.api.names import known_modality
from benchmark.api.removing import check_removal, grouped, removal_of
from benchmark.core.errors import UsageError, did_you_mean, few, shown
from benchmark.core.provenance import DataProvenance, ModelProvenance, Provenance
from benchmark.core.registry import is_name
from benchmark.core.seeding import seeded
from benchmark.core.sources import Source
from benchmark.core.types import Budget, Modality, Removal, Split, Target, Task
from benchmark.modalities.removals import Inputs
from benchmark.models.others.adapters import Output
from benchmark.models.others.wrapping import is_text_model, names_fitted, place_of, wrap

STEPS: dict[Modality, int] = {"table": 100, "text": 20, "image": 48}
"""The most groups of features along a curve, where no budget is given."""


def task(
    model: Any,
    x: Any,
    *,
    background: Any = None,
    labels: Any = None,
    target: Target | int | Any = "predicted",
    modality: Modality | None = None,
    removal: str | float | Removal | Any = None,
    groups: Any = None,
    output: Output | None = None,
    budget: Budget | int | None = None,
    name: str = "own",
    source: Source = "real",
    feature_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    tokenizer: Any = None,
    mask_id: int | None = None,
    pad_id: int | None = None,
    spatial: str | None = None,
) -> Task:
    """Make a task of a model and the inputs whose explanations are to be scored.

    Example:
        >>> import torch
        >>> import benchmark as fb
        >>> model, x = torch.nn.Linear(4, 3), torch.randn(20, 4)
        >>> own = fb.task(model, x[:5], background=x)
        >>> own.modality, own.n_features, own.budget.steps
        ('table', 4, 4)

    Args:
        model: gives logits or probabilities (B, C), or one column of two classes. An `nn.Module` (timm's, and Hugging
            Face's classifiers), or as a black box, which only methods that ask for predictions can explain, an
            estimator with `predict_proba` or a function of tensors or of arrays. It is left as it is.
        x: the inputs to explain: a table (N, G), images (N, channels, side, side) or token ids (N, length), as a
            tensor, an array or a pandas table; with a tokenizer also a list of texts.
        background: rows of the same kind that say what is usual, such as training rows; x itself where none are given.
        labels: the right classes (N,), as numbers, or as the estimator's own where it has `classes_`.
        target: the class whose attribution is asked for: `predicted`, `label`, a class for all, or one each (N,), as in
            `labels`.
        modality: `table`, `image` or `text`, where it cannot be told from x.
        removal: how a feature is removed: the name of one of `list_removals()`, with settings in brackets
            (`blur[sigma=3]`), a number or a row (columns or channels) that takes its place, or an object with the
            members of `benchmark.core.types.Removal`. By default `mean` for tables and images, `mask` for texts.
        groups: features that are removed together: the group's number for each column (G,), pixel (side, side) or place
            of a token (length,). Attributions are then summed over groups.
        output: what the model gives, `logits` or `probabilities`, where that is not to be found out.
        budget: how finely a curve is probed: a `Budget`, or its number of steps, of which there are never more than
            features. By default a step a column, up to 100; 48 steps for images and 20 for texts.
        name: of the task; random subsets and the order of ties follow from it.
        source: `synthetic` where x was drawn or made up: boards and records say so.
        feature_names: of the features; those of a pandas table by default.
        class_names: of the classes; those that an estimator knows by default.
        tokenizer: of Hugging Face; says `mask_id` and `pad_id`.
        mask_id: the token that a removed one becomes.
        pad_id: the token of padding, which is no feature.
        spatial: the submodule of an image model that CAM methods look at.

    Returns:
        A task that `evaluate`, `score` and every method take.

    Raises:
        UsageError: something is not as it should be; the sentence says what to do.
    """
    if not is_name(name):
        raise UsageError(f"name expects up to 64 letters, digits, spaces, '_', '-', '+' and '.', got {name!r}")
    if source not in get_args(Source):
        raise UsageError(f"source expects real or synthetic, got {shown(source)}")
    if callable(x) or hasattr(x, "predict_proba"):
        raise UsageError(f"x expects inputs, got a {type(x).__name__}: the model comes first, task(model, x)")
    if (texts := texts_in(x)) is not None:
        x = tokens_of(texts, tokenizer)
    called = labels_of(x)
    names = called.columns
    of_text = {"tokenizer": tokenizer, "mask_id": mask_id, "pad_id": pad_id}
    mask_id = getattr(tokenizer, "mask_token_id", None) if mask_id is None else mask_id
    pad_id = _padding(model, tokenizer) if pad_id is None else pad_id
    rows = _on_device(tensor_of(x, "x"), x, model, "x")
    text = mask_id is not None or is_text_model(model)
    if modality is None:
        known = names is not None or hasattr(model, "predict_proba")
        modality = "table" if known and rows.dim() == 2 else modality_of(rows, text)
    else:
        modality = known_modality(modality)
    _check_suits(modality, "text", **of_text)
    _check_suits(modality, "image", spatial=spatial)
    place = place_of(model)  # a black box has none, and numbers for it stay as they are
    rows = check_inputs(rows, "x", modality, None if place is None else place[1])
    usual = _background(background, rows, names or names_fitted(model) or _columns(feature_names), model, modality)
    with seeded(0), torch.no_grad():
        wrapped = wrap(model, rows, output, modality == "text", pad_id, usual, names)
    if not bool(wrapped.logits.isfinite().any()):
        raise UsageError("the model answers NaN or infinity for all of x: is it trained, and x scaled as it expects?")
    removes = removal_of(removal, Inputs(modality, usual, mask_id, pad_id))
    check_removal(removes, rows, usual is rows)
    if groups is not None:
        removes = grouped(removes, groups, modality, rows)
        modality = "table" if modality == "image" else modality  # of groups of pixels: methods see no grid of them
    classes = class_names_of(class_names, wrapped)
    given = classes_in(in_order_of(labels, called.rows, "labels"), wrapped, len(rows), "labels")
    y = wrapped.logits.argmax(1) if given is None else given
    if isinstance(target, str) and target == "label" and given is None:
        raise UsageError('target="label" explains the labelled class, and no labels are given: pass labels=')
    made = Task(
        name=name,
        modality=modality,
        source=source,
        model=wrapped.model,
        train=Split(usual, wrapped.usual.argmax(1)),
        test=Split(rows, y),
        removal=removes,
        budget=_budget(budget, modality, removes.n_features, groups is not None),
        feature_names=_feature_names(feature_names, None if groups is not None else names, removes.n_features),
        class_names=classes,
        provenance=_provenance(name, len(usual), wrapped.logits, given),
        words=None if tokenizer is None else _words(tokenizer, pad_id),
        spatial=None if spatial is None else _layer(spatial, wrapped.model),
        target=target_of(in_order_of(target, called.rows, "target"), wrapped, len(rows)),
    )
    return remember(made, called)


def _check_suits(modality: Modality, only: Modality, **given: Any) -> None:
    """Make sure that nothing is given that plays no part in a modality.

    Raises:
        UsageError: something is.
    """
    for name, value in given.items():
        if value is not None and modality != only:
            raise UsageError(f"{name} is for {only}, and x is a {modality}: leave it out")


def _padding(model: Any, tokenizer: Any) -> int:
    """Return the token of padding that a tokenizer or a text model names, or -1, which no token is."""
    known = [getattr(tokenizer, "pad_token_id", None), getattr(getattr(model, "config", None), "pad_token_id", None)]
    return next((each for each in known if each is not None), -1)


def _on_device(rows: Tensor, given: object, model: object, what: str) -> Tensor:
    """Return rows on the device of the model: arrays have none, a tensor must be there.

    Raises:
        UsageError: a tensor is elsewhere.
    """
    place = place_of(model)
    if place is None or rows.device == place[0]:
        return rows
    if isinstance(given, Tensor):
        raise UsageError(f"{what} is on {rows.device} and the model on {place[0]}: move one of them with .to(...)")
    return rows.to(place[0])


def _background(given: Any, x: Tensor, names: tuple[str, ...] | None, model: Any, modality: Modality) -> Tensor:
    """Return the background as rows like x."""
    if given is None:
        return x
    others = names_of(given, "background")
    if names is not None and others is not None and names != others:
        if set(names) != set(others):
            raise UsageError(f"background has the columns {few(others)}, expected those of x: {few(names)}")
        given = given[list(given.columns[[others.index(each) for each in names]])]
    there = _on_device(tensor_of(given, "background"), given, model, "background")
    rows = check_inputs(there, "background", modality, x.dtype)
    if rows.shape[1:] != x.shape[1:]:
        raise UsageError(
            f"background expects rows like those of x, {tuple(x.shape[1:])}, got {tuple(rows.shape[1:])}: give rows of "
            "the same features"
        )
    return rows.to(x.device)


def _columns(given: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return names of features by which the columns of a background are found."""
    return tuple(map(str, given)) if isinstance(given, (list, tuple)) else None


def _feature_names(given: Sequence[str] | None, columns: tuple[str, ...] | None, count: int) -> tuple[str, ...]:
    if given is None:
        return columns or tuple(f"feature {i + 1}" for i in range(count))
    called = names_given(given, count, "feature_names", f"the {count} features")
    if not all(isinstance(name, str) for name in called):
        raise UsageError(f"feature_names expects texts, got {few(called)}: give list(map(str, names))")
    return called


def _budget(given: Budget | int | None, modality: Modality, features: int, are_groups: bool) -> Budget:
    """Return how finely a task is probed."""
    if isinstance(given, Budget):
        return given
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
        raise UsageError(f"budget expects a Budget, or a number of steps of at least 1, got {given!r}")
    steps = min(given or STEPS[modality], features)
    if modality == "table" or are_groups:
        return Budget(steps)
    return Budget(steps, subset_fraction=1 / STEPS[modality], subset_minimum=1)


def _layer(name: str, model: nn.Module) -> str:
    """Return the name of a layer in the module that a model was made into.

    Raises:
        UsageError: there is none.
    """
    layers = dict(model.named_modules())
    if not name or (name not in layers and f"model.{name}" not in layers):
        own = [each.removeprefix("model.") for each in layers if each]
        known = did_you_mean(name, own) if own else ", and the model has none: leave it out"
        raise UsageError(f"spatial expects a layer of the model, got {shown(name)}{known}")
    return name if name in layers else f"model.{name}"


def _words(tokenizer: Any, pad_id: int) -> Any:
    """Return what tells the words of a text."""

    def words(ids: Tensor) -> list[str]:
        return list(map(str, tokenizer.convert_ids_to_tokens([each for each in ids.tolist() if each != pad_id])))

    return words


def _provenance(name: str, background: int, logits: Tensor, labels: Tensor | None) -> Provenance:
    """Return what is known of the data and of the model: its accuracy where there are labels."""
    data = DataProvenance(name, "given in Python", train_rows=background, test_rows=len(logits))
    if labels is None:
        return Provenance(data)
    right = logits.argmax(1) == labels
    recalls = [right[labels == each].double().mean() for each in labels.unique()]
    model = ModelProvenance(accuracy=float(right.double().mean()), balanced_accuracy=float(torch.stack(recalls).mean()))
    return Provenance(data, model)
