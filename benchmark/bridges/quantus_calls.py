"""Our metrics and methods as Quantus calls them: with a model and arrays. Quantus itself is never imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmark.api.evaluate import score
from benchmark.api.names import method as method_called
from benchmark.api.names import registered_as
from benchmark.api.task import task as make_task
from benchmark.core.errors import UsageError, few
from benchmark.core.seeding import checked_seed, method_seed
from benchmark.core.types import Method, Task
from benchmark.models.batching import Batching
from benchmark.plugins.discovery import discover_all
from benchmark.running.plan import suited
from benchmark.scoring.isolation import Guard, check_attribution, for_methods
from benchmark.scoring.metrics import select_metrics

Metric = Callable[..., list[float]]
ExplainFunc = Callable[..., np.ndarray]


def as_quantus(metric: str, *, seed: int = 0, **how: Any) -> Metric:
    """Return one of our metrics as what Quantus calls a metric: `quantus.evaluate` takes it among its own.

    The class explained is `y_batch`. Scores are those of `benchmark.score`, to the last bit: of probabilities, whatever
    `softmax` says, and of attributions as they are, neither normalised nor made absolute.

    Args:
        metric: its name.
        seed: of random subsets and of the order of ties.
        how: arguments of `benchmark.task` but for the inputs and the target: `background`, `removal`, `budget`, ...

    Returns:
        A function `(model, x_batch, y_batch, a_batch, **rest) -> list[float]`. Where `a_batch` is None, `explain_func`
        is asked for it with `explain_func_kwargs`; of the rest only `channel_first` is looked at.

    Raises:
        UsageError: there is no such metric; the function raises it for what `benchmark.task` refuses.

    Example:
        >>> import numpy as np
        >>> deletion, x = as_quantus("DEL"), np.random.randn(5, 4).astype("float32")
        >>> len(deletion(torch.nn.Linear(4, 3), x, np.array([0, 1, 2, 0, 1]), np.ones((5, 4))))
        5
    """
    discover_all()
    names = select_metrics(metric)
    if len(names) > 1:
        raise UsageError(f"as_quantus expects the name of one metric, got {metric!r}, which means {few(names)}")
    name = names[0]
    seed = checked_seed(seed)
    _refuse_given(how)

    def of_ours(
        model: Any,
        x_batch: np.ndarray,
        y_batch: np.ndarray,
        a_batch: np.ndarray | None = None,
        *,
        explain_func: ExplainFunc | None = None,
        explain_func_kwargs: dict[str, Any] | None = None,
        channel_first: bool | None = None,
        **_rest: Any,
    ) -> list[float]:
        _refuse_channels_last(channel_first)
        if a_batch is None:
            if explain_func is None:
                raise UsageError(f"{name} expects a_batch, or an explain_func that makes it, got neither")
            a_batch = explain_func(model=model, inputs=x_batch, targets=y_batch, **(explain_func_kwargs or {}))
        task = make_task(model, x_batch, target=_classes(y_batch), **how)
        return score(name, task, a_batch, seed=seed).tolist()

    of_ours.__name__ = of_ours.__qualname__ = name
    return of_ours


def as_explain_func(method: str | Method, *, seed: int = 0, **how: Any) -> ExplainFunc:
    """Return one of our methods as what Quantus calls an explain_func.

    Args:
        method: its name, or a `benchmark.method` with parameters. One that is trained is trained anew in each call.
        seed: base of its random draws.
        how: see `as_quantus`; `groups` are not possible, since Quantus expects a number for each place of an input.

    Returns:
        A function `(model, inputs, targets, **rest) -> attributions`: (N, G) for tables and texts, (N, 1, side, side)
        for images. Of the rest only `channel_first` is looked at.

    Raises:
        UsageError: there is no such method; the function raises it where the method cannot explain the inputs.
    """
    if "groups" in how:
        raise UsageError("as_explain_func expects no groups: Quantus wants a number for each place of an input")
    _refuse_given(how)
    seed = checked_seed(seed)
    made = method_called(method) if isinstance(method, str) else method
    name = registered_as(made) or type(made).__name__

    def explain(
        model: Any, inputs: np.ndarray, targets: np.ndarray, *, channel_first: bool | None = None, **_rest: Any
    ) -> np.ndarray:
        _refuse_channels_last(channel_first)
        task = make_task(model, inputs, target=_classes(targets), **how)
        attributions = _attributions(made, name, task, seed).cpu().numpy()
        return attributions.reshape(len(inputs), 1, *inputs.shape[2:]) if task.modality == "image" else attributions

    explain.__name__ = explain.__qualname__ = name
    return explain


def _attributions(method: Method, name: str, task: Task, seed: int) -> torch.Tensor:
    """Return what the evaluator would have a method give for the task's inputs."""
    resolved, why = suited(method, task, registered_as(method), name)
    if why is not None:
        raise UsageError(f"{name} cannot explain these inputs: it {why}")
    guard, own = Guard(task), method_seed(seed, task.name, name)
    x, target = task.test.x, task.target
    assert isinstance(target, torch.Tensor)
    batch = max(1, Batching(task).byte_budget // (task.n_features * 256))
    with guard.watch(own):
        explain = resolved.prepare(for_methods(task), own)
    with guard.watch(own):
        parts = [
            check_attribution(explain(rows.clone(), classes.clone()), (len(rows), task.n_features))
            for rows, classes in zip(x.split(batch), target.split(batch), strict=True)
        ]
    return torch.cat(parts)


def _classes(given: Any) -> np.ndarray:
    """Return classes as whole numbers: Quantus hands them on as they were loaded."""
    return np.asarray(given).astype(np.int64)


def _refuse_channels_last(channel_first: bool | None) -> None:
    if channel_first is False:
        raise UsageError("expected channels before height and width, got channel_first=False: transpose the inputs")


def _refuse_given(how: dict[str, Any]) -> None:
    """Refuse what each call says itself."""
    if twice := [name for name in ("target", "labels", "x", "model") if name in how]:
        raise UsageError(f"{twice[0]} is what Quantus passes in each call: leave it out")
