"""The rows of a task: types, shapes, names, labels, planted evidence."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.core.types import Split, Task
from benchmark.inspection.conformance.findings import Checks, Untried

SHARED = 0.05
"""The share of test rows that may be training rows as well, as where a table has few different rows."""
ROWS: Checks[Task] = Checks()


@ROWS.add("training and test rows have one type and one shape, and a label each")
def shapes(task: Task) -> str | None:
    """Inputs are (N, ...), labels (N,) whole numbers."""
    for name, split in (("train", task.train), ("test", task.test)):
        if len(split.x) == 0:
            return f"there is no {name} row"
        if split.y.shape != (len(split.x),) or split.y.dtype != torch.long:
            return f"{name}.y is {tuple(split.y.shape)} {split.y.dtype}, expected ({len(split.x)},) torch.int64"
    a, b = task.train.x, task.test.x
    if a.shape[1:] != b.shape[1:] or a.dtype != b.dtype:
        return f"train.x is {tuple(a.shape)} {a.dtype} and test.x {tuple(b.shape)} {b.dtype}: expected one kind of row"
    return None


@ROWS.add("rows are finite")
def finite(task: Task) -> str | None:
    """Missing values have to be filled in."""
    for name, split in (("train", task.train), ("test", task.test)):
        bad = int((~split.x.flatten(1).isfinite()).any(1).sum())
        if bad:
            return f"{bad} of {len(split.x)} {name} rows hold NaN or infinity: fill them in or drop them"
    return None


@ROWS.add("labels are classes that have a name")
def labels(task: Task) -> str | None:
    """From 0 on."""
    classes = len(task.class_names)
    for name, split in (("train", task.train), ("test", task.test)):
        low, high = int(split.y.min()), int(split.y.max())
        if low < 0 or high >= classes:
            return f"labels of {name} rows are {low} to {high}, and there are {classes} class names"
    return None


@ROWS.add("each feature has a name")
def feature_names(task: Task) -> str | None:
    """Pixels need none."""
    if task.modality == "image" and not task.feature_names:
        return None
    if len(task.feature_names) == task.n_features:
        return None
    return f"there are {len(task.feature_names)} feature names and {task.n_features} features"


@ROWS.add("no test row is a training row")
def disjoint(task: Task) -> str | None:
    """What learned from a row knows it."""
    known = set(_bytes(task.train))
    shared = sum(row in known for row in _bytes(task.test))
    if shared > SHARED * len(task.test.x):
        return f"{shared} of {len(task.test.x)} test rows are training rows as well: split them apart"
    if shared:
        raise Untried(f"{shared} of {len(task.test.x)} test rows are training rows as well")
    return None


def _bytes(split: Split) -> list[bytes]:
    return [row.numpy().tobytes() for row in split.x.detach().cpu().contiguous()]


@ROWS.add("planted evidence marks features of each test row")
def evidence(task: Task) -> str | None:
    """Stand-ins know where they wrote the class."""
    marks = task.evidence
    if marks is None:
        raise Untried("nothing is planted")
    shape = (len(task.test.x), task.n_features)
    if not isinstance(marks, Tensor) or tuple(marks.shape) != shape or marks.dtype != torch.bool:
        found = f"{tuple(marks.shape)} {marks.dtype}" if isinstance(marks, Tensor) else type(marks).__name__
        return f"evidence is {found}, expected {shape} torch.bool"
    if not bool(marks.any(1).all()):
        return f"{int((~marks.any(1)).sum())} test rows have no mark: let evidence be None where nothing is planted"
    if bool((marks & ~task.removal.valid(task.test.x)).any()):
        return "evidence marks padding, which is no feature"
    return None


@ROWS.add("a text has one word for each of its features")
def words(task: Task) -> str | None:
    """Pictures write them out."""
    if task.words is None:
        raise Untried("it does not say words")
    for x in task.test.x[:8]:
        found, expected = len(task.words(x)), int(task.removal.valid(x.unsqueeze(0)).sum())
        if found != expected:
            return f"words gives {found} words for a text of {expected} features"
    return None
