"""Reads what a person has into tensors: arrays, tables, lists, texts with a tokenizer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmark.core.errors import UsageError, few, short, shown
from benchmark.core.types import Modality, Task

NAMED = {"table": "numbers (N, columns)", "image": "pixels (N, channels, side, side)", "text": "token ids (N, length)"}


def tensor_of(given: Any, what: str) -> Tensor:
    """Return what a person gave as a tensor of real numbers, which may share its memory.

    Args:
        given: a tensor, an array, a pandas table or nested lists of one shape.
        what: what it is called in sentences.

    Raises:
        UsageError: it is none of these, or holds no real numbers.
    """
    if isinstance(given, Tensor):
        if given.is_complex() or given.is_quantized:
            raise UsageError(f"{what} expects real numbers, got a tensor of {given.dtype}")
        if given.is_meta:
            raise UsageError(f"{what} is on the device meta, which holds no numbers: give a tensor that does")
        return given.detach() if given.layout == torch.strided else given.detach().to_dense()
    if isinstance(given, str):
        raise UsageError(f"{what} expects numbers, got the text {short(repr(given))}: load the file first")
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise UsageError(f"{what} has masked cells, and a mask is not looked at: fill them in with .filled(...)")
    if isinstance(given, pd.DataFrame):
        kinds = zip(given.columns, given.dtypes, strict=True)
        if odd := [name for name, kind in kinds if not pd.api.types.is_numeric_dtype(kind)]:
            raise UsageError(f"{what} expects columns of numbers, got others in {few(odd)}: encode them as numbers")
    try:
        array = given.to_numpy() if hasattr(given, "to_numpy") else np.asarray(given)
    except Exception as error:  # numpy's of ragged lists, and those of objects that only look like arrays
        raise UsageError(
            f"{what} expects an array, got a {type(given).__name__} that makes none: are all its rows of one length?"
        ) from error
    if not _is_real(array.dtype):
        raise UsageError(
            f"{what} expects numbers, got {_came(given)} of type {array.dtype}: give a tensor or an array of numbers"
        )
    if isinstance(given, pd.DataFrame) and array.dtype.kind == "f":
        for name, column in given.items():
            whole = column.dtype.kind in "iu"
            if whole and (column.to_numpy().astype(array.dtype).astype(column.dtype) != column.to_numpy()).any():
                raise _inexact(f"{what}, column {name!r},", f"{array.dtype}, the type of its other columns,")
    if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        raise _inexact(what, "int64")
    number: Any = np.int64 if array.dtype.kind in "iu" else array.dtype if array.dtype.itemsize <= 8 else np.float64
    plain = array.astype(np.dtype(number).newbyteorder("="), copy=False)
    return torch.from_numpy(np.require(plain, requirements=("C", "W")))


def _inexact(what: str, kind: object) -> UsageError:
    return UsageError(
        f"{what} holds whole numbers that {kind} cannot hold exactly: scale or split them, or say by .astype(float) "
        "that they may be rounded"
    )


def _is_real(kind: np.dtype) -> bool:
    return kind.kind in "biuf"


def _came(given: object) -> str:
    return "an array" if isinstance(given, np.ndarray) else f"a {type(given).__name__}"


def names_of(given: object, what: str) -> tuple[str, ...] | None:
    """Return the names of a table's columns, or None where they have none.

    Raises:
        UsageError: two columns are called alike.
    """
    if not (hasattr(given, "columns") and hasattr(given, "to_numpy")):
        return None
    return _different(tuple(map(str, given.columns)), what)


def names_given(given: Any, count: int, what: str, of: str) -> tuple[Any, ...]:
    """Return the names that a person gave to features or classes.

    Args:
        given: one for each.
        count: how many there are.
        what: what the names are called in sentences.
        of: what is named, in words.

    Raises:
        UsageError: they are no list, too few or too many, or two are alike.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise UsageError(f"{what} expects a list of names, got {shown(given)}")
    names = tuple(given)
    if len(names) != count:
        raise UsageError(f"{what} expects a name for each of {of}, got {len(names)}")
    _different(tuple(map(str, names)), what)
    return names


def _different(names: tuple[str, ...], what: str) -> tuple[str, ...]:
    """Return names that are different.

    Raises:
        UsageError: they are not.
    """
    if len(set(names)) < len(names):
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise UsageError(f"{what} holds the name {short(twice)!r} twice: rename or drop one")
    return names


@dataclass(frozen=True)
class Labels:
    """What the rows and columns of a pandas table are called.

    Attributes:
        columns: the names of its columns, or None where x is no table.
        rows: its index, or None where that only counts from 0 and so says nothing.
    """

    columns: tuple[str, ...] | None = None
    rows: pd.Index | None = None


_labels: WeakKeyDictionary[Task, Labels] = WeakKeyDictionary()
"""How the table was labelled that a task was made of."""


def labels_of(given: object) -> Labels:
    """Return what the rows and columns of x are called."""
    return Labels(names_of(given, "x"), _index_of(given))


def remember(task: Task, labels: Labels) -> Task:
    """Return a task of which `labelled` knows what the rows and columns of x are called."""
    _labels[task] = labels
    return task


def labelled(task: Task) -> Labels:
    """Return what the rows and columns of x are called that a task was made of."""
    return _labels.get(task, Labels())


def in_order_of(given: Any, rows: pd.Index | None, what: str) -> Any:
    """Return a pandas table or series with its rows in the order of x, if both have an index that says which is which.

    Raises:
        UsageError: it has other rows.
    """
    index = _index_of(given)
    if rows is None or index is None or len(index) != len(rows) or index.equals(rows):
        return given
    if index.has_duplicates or rows.has_duplicates or not index.isin(rows).all():
        raise UsageError(
            f"{what} has the rows {few(index.tolist())}, expected those of x: {few(rows.tolist())}: where they are the "
            "same in this order, give it with .reset_index(drop=True)"
        )
    return given.loc[rows]


def _index_of(given: object) -> pd.Index | None:
    """Return the index of a pandas table or series, or None where it only counts from 0."""
    known = isinstance(given, (pd.DataFrame, pd.Series)) and not given.index.equals(pd.RangeIndex(len(given)))
    return given.index if known else None  # type: ignore[attr-defined]


def modality_of(x: Tensor, text: bool) -> Modality:
    """Return which kind of input x (N, ...) is.

    Args:
        x: inputs.
        text: something else says that they are token ids.

    Raises:
        UsageError: that cannot be told.
    """
    if x.dim() == 2 and text:
        return "text"
    if x.dim() == 2 and x.is_floating_point():
        return "table"
    if x.dim() == 4 and x.is_floating_point():
        return "image"
    hint = {
        2: 'whole numbers (N, length) may be token ids or columns: say modality="text" or modality="table"',
        3: "images need an axis of channels: x[:, None] for grey ones, (N, channels, side, side)",
        4: "pixels are what the model takes, so floating-point numbers: scale them as it expects",
    }.get(x.dim(), f"it is one of {'; '.join(f'{name}: {form}' for name, form in NAMED.items())}")
    raise UsageError(f"the modality of x, {tuple(x.shape)} of {x.dtype}, cannot be told: {hint}")


def check_inputs(x: Tensor, what: str, modality: Modality, kind: torch.dtype | None = None) -> Tensor:
    """Return inputs of a modality, token ids as int64.

    Args:
        x: inputs (N, ...).
        what: what they are called in sentences.
        modality: of them.
        kind: the type for numbers, that of the model's weights; None for their own, which is float64 for whole numbers.

    Raises:
        UsageError: they are of another shape or type, empty or not finite, or the type cannot hold them.
    """
    if x.dim() != (4 if modality == "image" else 2) or (modality == "image" and x.shape[2] != x.shape[3]):
        raise UsageError(f"{what} of modality {modality} expects {NAMED[modality]}, got {tuple(x.shape)}")
    if 0 in x.shape:
        raise UsageError(f"{what} is empty, {tuple(x.shape)}: expected at least one input with one feature")
    if modality == "text":
        if x.is_floating_point():
            raise UsageError(f"{what} of a text expects token ids, which are whole numbers, got {x.dtype}")
        return x.long()
    if not x.is_floating_point():
        if modality == "image":
            raise UsageError(f"{what} of an image expects floating-point pixels as the model takes them, got {x.dtype}")
        numbers = x.to(kind or torch.float64)
        if not torch.equal(numbers.to(x.dtype), x):
            raise _inexact(what, numbers.dtype)
        return numbers
    bad = (~x.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
    if bad:
        raise UsageError(f"{what} holds NaN or infinity in row {few(bad)}: drop these rows, or fill them in")
    numbers = x if kind is None else x.to(kind)
    if not bool(numbers.isfinite().all()):
        raise UsageError(f"{what} holds {float(x.abs().max()):.3g}, more than {kind} can hold: scale its columns")
    return numbers


def texts_in(given: Any) -> list[str] | None:
    """Return the texts of a list, an array or a pandas series, or None where it holds something else.

    Raises:
        UsageError: some of it are texts, and some are not.
    """
    one_axis = isinstance(given, (np.ndarray, pd.Series)) and given.ndim == 1 and not _is_number(given.dtype)
    items = list(given) if one_axis or isinstance(given, (list, tuple)) else []
    if not any(isinstance(item, str) for item in items):
        return None
    if odd := [at for at, item in enumerate(items) if not isinstance(item, str)]:
        raise UsageError(f"x expects texts, got {shown(items[odd[0]])} in row {odd[0]}: fill it in, or drop the row")
    return items


def _is_number(kind: Any) -> bool:
    return pd.api.types.is_numeric_dtype(kind)


def tokens_of(texts: list[str], tokenizer: Any) -> Tensor:
    """Return texts as token ids (N, length), padded at the end.

    Raises:
        UsageError: there is no tokenizer.
    """
    if tokenizer is None:
        raise UsageError("x holds texts, and there is no tokenizer: pass tokenizer=, or token ids (N, length)")
    return torch.as_tensor(np.asarray(tokenizer(texts, padding=True, truncation=True)["input_ids"]))
