"""Makes attributions (N, G) of what a person or an explainer gives: arrays, maps, lists, tables, objects of `shap`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.api.inputs import labelled, names_of, tensor_of
from benchmark.core.errors import UsageError, few
from benchmark.core.types import Task
from benchmark.modalities.grouping import GroupedRemoval, single


@dataclass(frozen=True)
class Values:
    """Numbers as `shap` gives them, without the rest of its explanation."""

    values: Any
    base_values: Any = None


def attributions_of(given: Any, task: Task, x: Tensor, target: Tensor | None, what: str) -> Tensor:
    """Return attributions (N, G) of inputs x (N, ...).

    Maps (N, channels, side, side) are summed over channels, embeddings' (N, length, width) over their width, and single
    features over the task's groups. Lists of a number for each token are padded with 0.

    Args:
        given: tensors, arrays, lists or tables of one of these forms, or an object with such `values`, as `shap` gives.
        task: whose features are meant.
        x: the inputs.
        target: their targets (N,), by which `values` of all classes are chosen, and those of one output turned; None
            where there are none.
        what: what it is called in sentences.

    Raises:
        UsageError: it has another form.
    """
    if given is None:
        raise UsageError(f"{what} is None: expected attributions of shape {_shape(task, x)}; does a return miss?")
    if isinstance(given, tuple) and len(given) == 1:
        given = given[0]  # what Captum gives for one of several inputs
    if hasattr(given, "base_values") and hasattr(given, "values"):
        given = _of_target(given, task, x, target)
    if isinstance(given, (list, tuple)) and any(np.ndim(item) for item in given) and task.removal.pads:
        given = _padded(given, task, x, what)
    of_columns = False
    if (names := names_of(given, what)) is not None:
        given = _in_order(given, names, task, what)
        of_columns = set(names) == set(labelled(task).columns or ()) != set(task.feature_names)
    return _features(_numbers(tensor_of(given, what)), task, x, what, of_columns).to(x.device)


def _numbers(given: Tensor) -> Tensor:
    """Return numbers as float32 or float64, in which sums over channels, widths and groups lose nothing."""
    return given if given.dtype == torch.float32 else given.double()


def _features(given: Tensor, task: Task, x: Tensor, what: str, of_columns: bool = False) -> Tensor:
    """Return a number for each feature of each input, (N, G); `of_columns`: those of single features are given."""
    count, features = len(x), task.n_features
    if len(given) != count or given.dim() < 2:
        raise UsageError(
            f"{what} has the shape {tuple(given.shape)}, expected attributions of {count} inputs, {_shape(task, x)}"
        )
    if tuple(given.shape) == (count, features) and not of_columns:
        return given
    flat = _layout(given, x)
    if flat is None or flat.shape[1] != single(task.removal).n_features:
        raise UsageError(f"{what} has the shape {tuple(given.shape)}, expected {_shape(task, x)}")
    if not isinstance(task.removal, GroupedRemoval):
        return flat
    real = task.removal.inner.valid(x).to(flat.device)  # a group may reach into padding, which is no part of it
    return task.removal.sums(flat.masked_fill(~real, 0.0))


def _layout(given: Tensor, x: Tensor) -> Tensor | None:
    """Return maps, or what is laid out as inputs, as a number for each place (N, G); None where it is no such thing."""
    if x.dim() == 4 and given.dim() == 4 and given.shape[2:] == x.shape[2:]:
        return given.sum(1).flatten(1)
    if x.dim() == 4 and given.dim() == 3 and given.shape[1:] == x.shape[2:]:
        return given.flatten(1)
    if x.dim() == 2 and given.dim() == 3 and not x.is_floating_point() and given.shape[1] == x.shape[1]:
        return given.sum(2)
    return given if given.dim() == 2 else None


def _shape(task: Task, x: Tensor) -> str:
    """Return the shapes that attributions may have, in words."""
    shapes = [f"({len(x)}, {task.n_features})"]
    if x.dim() == 4:
        side = ", ".join(map(str, x.shape[2:]))
        shapes += [f"({len(x)}, {side})", f"({len(x)}, channels, {side})"]
    elif isinstance(task.removal, GroupedRemoval):
        shapes.append(f"({len(x)}, {x.shape[1]})")
    if task.removal.pads:
        shapes.append("a list of a number for each token")
    return " or ".join(shapes)


def _padded(given: Any, task: Task, x: Tensor, what: str) -> Tensor:
    """Return per-token lists as (N, length), 0 at padding, on whichever side that is."""
    valid = single(task.removal).valid(x).cpu()
    lengths = valid.sum(1).tolist()
    if len(given) != len(lengths):
        raise UsageError(f"{what} has {len(given)} lists, expected one for each of {len(lengths)} texts")
    rows = torch.zeros(x.shape, dtype=torch.float64)
    for at, (item, length) in enumerate(zip(given, lengths, strict=True)):
        row = _numbers(tensor_of(item, what))
        if row.dim() != 1 or len(row) not in (length, x.shape[1]):
            raise UsageError(
                f"{what} has {tuple(row.shape)} numbers for text {at}, expected one for each of its {length} tokens"
            )
        rows[at, valid[at] if len(row) == length else slice(None)] = row.double().cpu()
    return rows


def _in_order(given: Any, names: tuple[str, ...], task: Task, what: str) -> Any:
    """Return a table whose columns stand in the order of the task's features, or of x's columns, if called so."""
    numbered = tuple(map(str, range(len(names))))
    for known in (task.feature_names, labelled(task).columns, numbered):
        if known is not None and set(names) == set(known):
            return given[[given.columns[names.index(name)] for name in known]]
    raise UsageError(f"{what} has the columns {few(names)}, expected those of the task: {few(task.feature_names)}")


def _of_target(given: Any, task: Task, x: Tensor, target: Tensor | None) -> np.ndarray:
    """Return the values of each sample's target that an explanation of `shap` holds.

    Of values (N, ..., C) of all classes these are the target's. Where there are two classes and one output was
    explained, it is the second one's, and the first one's have the opposite sign. An explanation that was cut
    from one of all classes is of the class that a person chose.
    """
    values, classes = np.asarray(given.values), len(task.class_names)
    if target is None:
        return values
    if values.ndim == x.dim() + 1 and values.shape[-1] == classes:
        return np.stack([row[..., own] for row, own in zip(values, target.tolist(), strict=True)])
    cut = any(len(step.prev_shape) > values.ndim for step in getattr(given, "op_history", ()))
    if values.ndim == x.dim() + 1 and values.shape[-1] == 1:
        values = values[..., 0]
    if classes != 2 or cut or len(values) != len(target) or values.dtype == object:
        return values
    first = (target.cpu().numpy() == 0).reshape(-1, *[1] * (values.ndim - 1))
    return np.where(first, -values, values)
