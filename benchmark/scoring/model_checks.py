"""Checks that a model is fit to be explained, on a few rows, before any query."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.core.errors import DataError, UsageError
from benchmark.core.types import Precision, Task
from benchmark.models.batching import bare, check_logits

ROWS = 3
"""Test rows that a model is tried on, once whole and once with every other feature removed."""
TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "bf16": 2e-2}
"""Probabilities of one row that are nearer than this are the same: rounding differs from batch to batch."""


def check_task(task: Task) -> None:
    """Check that a task's rows are tensors and that its model is in eval mode.

    Raises:
        DataError: they are not; the sentence says what to do.
    """
    for name, value in {
        "train.x": task.train.x,
        "train.y": task.train.y,
        "test.x": task.test.x,
        "test.y": task.test.y,
    }.items():
        if not isinstance(value, Tensor):
            raise DataError(
                f"{task.name}: {name} is a {type(value).__name__}, expected a tensor: torch.as_tensor makes one"
            )
    training = [name or "the model itself" for name, module in task.model.named_modules() if module.training]
    if training:
        raise DataError(f"the model of {task.name} is in training mode ({training[0]}): call its eval() first")


def check_model(task: Task, x: Tensor, precision: Precision = "fp32") -> None:
    """Check that a model gives logits, leaves its input as it is, and answers a row alike whenever it is asked.

    Its forwards run without the hooks on the model, so that no meter counts them.

    Args:
        task: with the model.
        x: test rows (N, ...), of which the first few are tried.
        precision: of the forwards.

    Raises:
        DataError: it does not; the sentence says what to do.
    """
    try:
        _check_rows(task, x[:ROWS], precision)
    except torch.OutOfMemoryError:
        _check_rows(task, x[:1], precision)


def _check_rows(task: Task, x: Tensor, precision: Precision) -> None:
    removed = torch.arange(task.n_features, device=x.device).remainder(2).eq(0) & task.removal.valid(x)
    rows = torch.cat([x, task.remove(x, removed)])
    asked = rows.clone()
    logits = _asked(task, asked, precision)
    if not torch.equal(asked, rows):
        raise DataError(f"the model of {task.name} changes its input: let its forward work on a copy (inplace=False)")
    if len(logits) != len(rows):
        raise DataError(f"the model of {task.name} gives {len(logits)} rows of logits for {len(rows)} inputs")
    if _are_probabilities(logits):
        raise DataError(
            f"the model of {task.name} gives probabilities, expected logits: leave out its softmax, or return the "
            "logarithm of what it gives"
        )
    whole = logits.softmax(1)
    if _differ(whole, _asked(task, rows.clone(), precision).softmax(1), precision):
        raise DataError(
            f"the model of {task.name} answers the same rows differently when asked again: switch off what it draws"
        )
    alone = torch.cat([_asked(task, rows[i : i + 1].clone(), precision) for i in (0, len(rows) - 1)]).softmax(1)
    if _differ(whole[[0, -1]], alone, precision):
        raise DataError(
            f"the model of {task.name} answers a row differently in other company: each row's answer must be its own "
            "(normalisation over the batch, for one, must use stored statistics)"
        )


def _asked(task: Task, rows: Tensor, precision: Precision) -> Tensor:
    """Return logits (n, C), float64."""
    try:
        with torch.inference_mode(), torch.autocast(rows.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = bare(task.model)(rows)
    except (torch.OutOfMemoryError, UsageError):
        raise  # memory says nothing of the model, and an error of ours says enough
    except Exception as error:
        raise DataError(
            f"the model of {task.name} cannot answer its test rows ({tuple(rows.shape)}, {rows.dtype}): "
            f"{type(error).__name__}: {error}"
        ) from error
    return check_logits(logits).double()


def _are_probabilities(logits: Tensor) -> bool:
    sums = logits.sum(1)
    return bool((logits >= 0).all() and (sums - 1).abs().max() < 1e-3)


def _differ(a: Tensor, b: Tensor, precision: Precision) -> bool:
    return bool(((a - b).abs() > TOLERANCE[precision]).any())  # what is not finite is named elsewhere
