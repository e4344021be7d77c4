"""Classes that a person names or numbers: names, labels, targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast, get_args

import numpy as np
import torch
from torch import Tensor

from benchmark.api.inputs import names_given, tensor_of
from benchmark.core.errors import UsageError, few
from benchmark.core.types import Target
from benchmark.models.others.wrapping import Wrapped


def class_names_of(given: Sequence[str] | None, wrapped: Wrapped) -> tuple[str, ...]:
    """Return the names of the classes.

    Raises:
        UsageError: there is not one for each, or two are alike.
    """
    count = wrapped.logits.shape[1]
    if given is None:
        return tuple(map(str, wrapped.classes)) if wrapped.classes else tuple(f"class {i}" for i in range(count))
    return tuple(map(str, names_given(given, count, "class_names", f"the model's {count} classes")))


def classes_in(given: Any, wrapped: Wrapped, rows: int, what: str) -> Tensor | None:
    """Return classes (N,) as numbers from 0, those of an estimator by its own labels.

    Raises:
        UsageError: they are not a class for each input.
    """
    if given is None:
        return None
    count = wrapped.logits.shape[1]
    if wrapped.classes is not None:
        listed = list(given.tolist() if hasattr(given, "tolist") else given)
        if any(isinstance(label, (list, tuple)) for label in listed):
            raise UsageError(f"{what} expects a class for each of {rows} inputs, got {np.shape(given)}")
        given = _places(listed, wrapped.classes, what)
    classes = tensor_of(given, what)
    if classes.is_floating_point() or classes.dtype == torch.bool or tuple(classes.shape) != (rows,):
        raise UsageError(
            f"{what} expects a class, a whole number from 0, for each of {rows} inputs, got {tuple(classes.shape)} of "
            f"{classes.dtype}"
        )
    if bool(((classes < 0) | (classes >= count)).any()):
        span = f"{int(classes.min())} to {int(classes.max())}"
        raise UsageError(f"{what} expects classes from 0 to {count - 1}, as many as the model gives, got {span}")
    return classes.long().to(wrapped.logits.device)


def _places(given: Sequence[Any], classes: Sequence[Any], what: str) -> list[int]:
    """Return the numbers of an estimator's own classes.

    Raises:
        UsageError: one of them is none.
    """
    place = {label: i for i, label in enumerate(classes)}
    if unknown := [label for label in given if label not in place]:
        words = ' (or "predicted", "label")' if what == "target" else ""
        raise UsageError(f"{what} expects the estimator's classes {few(classes)}{words}, got {few(unknown)}")
    return [place[label] for label in given]


def target_of(given: Any, wrapped: Wrapped, rows: int) -> Target | int | Tensor:
    """Return the target as a task has it; classes of an estimator are its own labels, as in `classes_in`.

    Raises:
        UsageError: it is none.
    """
    count = wrapped.logits.shape[1]
    given = given.item() if getattr(given, "ndim", None) == 0 else given
    if isinstance(given, str) and given in get_args(Target):
        return cast(Target, given)
    if wrapped.classes is not None and given is not None and np.ndim(given) == 0:
        return _places([given], wrapped.classes, "target")[0]
    if isinstance(given, str):
        raise UsageError(f'target expects "predicted", "label", a class or one for each input, got {given!r}')
    if isinstance(given, int) and not isinstance(given, bool):
        if not 0 <= given < count:
            raise UsageError(f"target expects a class from 0 to {count - 1}, as many as the model gives, got {given}")
        return given
    classes = classes_in(given, wrapped, rows, "target")
    if classes is None:
        raise UsageError('target expects "predicted", "label", a class or one for each input, got None')
    return classes
