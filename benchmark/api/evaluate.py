"""`evaluate` and `score`: from attributions, methods and callables to scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from benchmark.api.attributions import attributions_of
from benchmark.api.explainers import Callback, asked, is_explainer
from benchmark.api.inputs import in_order_of, labelled, tensor_of
from benchmark.api.making_records import record_of
from benchmark.api.names import registered_as
from benchmark.core.errors import BenchmarkError, SomeFailedError, UsageError, describe, few, shown
from benchmark.core.identity import task_identity
from benchmark.core.provenance import UNKNOWN
from benchmark.core.seeding import checked_seed
from benchmark.core.selection import several
from benchmark.core.types import Method, Task
from benchmark.engines.choosing import answering
from benchmark.engines.engine import Engine
from benchmark.engines.names import EAGER
from benchmark.plugins.discovery import discover_all
from benchmark.running.kept_samples import examples
from benchmark.running.plan import suited
from benchmark.scoring.evaluator import Evaluation, Evaluator
from benchmark.scoring.metrics import select_metrics

if TYPE_CHECKING:
    from benchmark.api.result import Result
    from benchmark.records.record import Record


def evaluate(
    task: Task,
    attributions: Mapping[str, Any] | Iterable[tuple[str, Any]],
    *,
    metrics: str | Sequence[str] = "ten",
    seed: int = 0,
    samples: Sequence[int] | None = None,
    engine: str = EAGER,
) -> Result:
    """Score attributions, methods and callables on a task.

    Example:
        >>> import torch
        >>> import benchmark as fb
        >>> model, x = torch.nn.Linear(4, 3), torch.randn(20, 4)
        >>> own = fb.task(model, x[:5], background=x)
        >>> result = fb.evaluate(own, {"mine": torch.randn(5, 4), "ig": fb.method("integrated_gradients")})
        >>> result.scores["DEL"].shape
        (5, 2)

    Args:
        task: made by `task`.
        attributions: by label: numbers for each feature (N, G) as a tensor, an array, a table or lists, larger for
            what speaks more for the target; maps (N, side, side) or (N, channels, side, side), which are summed over
            channels; an object with such `values`; a `method`; or a callable `(x, target) -> attribution`, of which
            Captum's `attribute`, explainers of `shap` and a Quantus `explain_func` are such.
        metrics: `ten`, `all`, a group, names and globs between commas, or a list of names.
        seed: of random subsets, of the order of ties, and of methods.
        samples: row numbers of the task's inputs that are explained, which given attributions belong to; None for all.
        engine: what answers for the model where no gradients are asked: `eager`, `auto` for the fastest that answers
            as the model does, or one of `benchmark.engines.names.ENGINES`. It is compared with the model first, and the
            model is as it was afterwards.

    Returns:
        Scores, and the board that they make.

    Raises:
        UsageError: something is not as it should be; the sentence says what to do.
        SomeFailedError: a method or callable failed, or left the model changed; its `result` holds the others.
    """
    entries = _entries(task, attributions)
    with answering(task, engine) as chosen:
        return _result(_evaluator(task, metrics, seed, samples), entries, chosen)


def _result(evaluator: Evaluator, entries: dict[str, Any], engine: Engine) -> Result:
    """Return what `evaluate` does, of entries by label."""
    from benchmark.api.result import Result

    task = evaluator.task
    numbers = {label: _numbers(evaluator, label, given) for label, given in entries.items()}
    made: dict[str, tuple[Evaluation, Record, list[dict[str, Any]]]] = {}
    failures: dict[str, str] = {}
    unsuited: list[str] = []
    task_digests = task_identity(task)  # once, and before any method can change it
    for label, entry in sorted(entries.items(), key=lambda item: isinstance(item[1], Method)):  # numbers before methods
        try:
            evaluation = _evaluated(evaluator, label, entry, numbers[label])
            record = record_of(evaluator, evaluation, label, entry, task_digests, engine)
            made[label] = evaluation, record, _examples(evaluator, evaluation)
        except BenchmarkError as error:
            failures[label] = str(error)
            if isinstance(error, UsageError) and not isinstance(entry, Callback):
                unsuited.append(label)
    done = {label: made[label] for label in entries if label in made}
    evaluations = {label: evaluation for label, (evaluation, _, _) in done.items()}
    result = Result(
        tuple(record for _, record, _ in done.values()), tuple(kept for *_, kept in done.values()), evaluations
    )
    if failures:
        raise SomeFailedError(failures, result if done else None, unsuited)
    return result


def score(metric: str, task: Task, attributions: Any, *, seed: int = 0) -> np.ndarray:
    """Score one set of attributions by one metric.

    Example:
        >>> import torch
        >>> import benchmark as fb
        >>> own = fb.task(torch.nn.Linear(4, 3), torch.randn(5, 4))
        >>> fb.score("DEL", own, torch.randn(5, 4)).shape
        (5,)

    Args:
        metric: its name.
        task: made by `task`.
        attributions: what `evaluate` takes under a label.
        seed: see `evaluate`.

    Returns:
        A score for each input, (N,) float64; NaN where it is undefined.

    Raises:
        UsageError: see `evaluate`; or more than one metric is named.
        SomeFailedError: see `evaluate`.
    """
    label = "attributions"
    entries = _entries(task, {label: attributions})
    evaluator = _evaluator(task, _one_metric(metric), seed, None)
    numbers = _numbers(evaluator, label, entries[label])
    try:
        evaluation = _evaluated(evaluator, label, entries[label], numbers)
    except BenchmarkError as error:
        raise SomeFailedError({label: str(error)}) from error
    return evaluation.scores[evaluator.metrics[0]].numpy()


def _evaluator(task: Task, metrics: str | Sequence[str], seed: int, samples: Sequence[int] | None) -> Evaluator:
    """Return the evaluator, whose checks restore what they draw; that the task is one, `_entries` has seen to."""
    rows = None if samples is None else _rows(samples)
    return Evaluator(task, checked_seed(seed), rows, metrics=_metrics(metrics))


def _rows(samples: Any) -> list[int]:
    """Return row numbers.

    Raises:
        UsageError: they are none, or one is there twice.
    """
    numbers = None if isinstance(samples, (str, slice)) else tensor_of(samples, "samples")
    if numbers is not None and numbers.dtype == torch.bool:
        raise UsageError("samples expects row numbers, got a mask: np.flatnonzero(mask) gives them")
    if numbers is None or numbers.dim() != 1 or not len(numbers) or numbers.is_floating_point():
        raise UsageError(f"samples expects row numbers, such as range(3), or None for all, got {shown(samples)}")
    rows = numbers.tolist()
    if len(set(rows)) < len(rows):
        raise UsageError(f"samples expects row numbers that are different, got {few(rows)}")
    return rows


def _one_metric(given: Any) -> list[str]:
    """Return the name of a metric.

    Raises:
        UsageError: it is none, or chooses several as a group or a glob does.
    """
    if not isinstance(given, str):
        raise UsageError(f"score expects the name of one metric, got {type(given).__name__}: evaluate takes several")
    discover_all()
    names = select_metrics(given)
    if [name.lower() for name in names] != [given.strip().lower()]:
        raise UsageError(
            f"score expects the name of one metric, got {given!r}, which chooses {few(names)}: "
            f"evaluate(task, attributions, metrics={given!r}) scores them"
        )
    return names


def _metrics(given: str | Sequence[str]) -> list[str]:
    """Return the names of the metrics that are chosen."""
    text = ",".join(map(str, several(given, "metrics")))
    discover_all()
    return select_metrics(text)


def _entries(task: Task, given: Any) -> dict[str, Any]:
    """Return what is evaluated by label: methods, and what else was given.

    Raises:
        UsageError: labels are missing, twice the same or none; or a method does not apply.
    """
    if not isinstance(task, Task):
        raise UsageError(f"expected a task, as benchmark.task(model, x) makes it, got {type(task).__name__}")
    if not isinstance(given, (Mapping, list, tuple)) or not len(given):
        raise UsageError(
            f'expected attributions by label, such as {{"mine": attributions}}, got {type(given).__name__}'
            + (" of nothing" if isinstance(given, (Mapping, list, tuple)) else "")
        )
    pairs = list(given.items()) if isinstance(given, Mapping) else list(given)
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        raise UsageError('expected attributions by label, such as {"mine": attributions}, got a list of other things')
    entries: dict[str, Any] = {}
    for label, value in pairs:
        if not isinstance(label, str) or not label.strip() or not label.isprintable() or len(label) > 64:
            raise UsageError(f"a label expects up to 64 printable letters, got {label!r}")
        if label in entries:
            raise UsageError(f"two sets of attributions are called {label!r}: rename one of them")
        entries[label] = _entry(task, label, value)
    methods = [(label, value) for label, value in entries.items() if isinstance(value, Method)]
    for at, (label, value) in enumerate(methods):
        for other, earlier in methods[:at]:
            if not isinstance(value, Callback) and value == earlier:
                raise UsageError(f"{other!r} and {label!r} are the same method with the same parameters: drop one")
    return entries


def _entry(task: Task, label: str, value: Any) -> Any:
    """Return a method or given attributions as they are, a callable as a method."""
    if isinstance(value, type) and issubclass(value, Method):
        value = value()
    if isinstance(value, Method):
        return _applied(task, label, value)
    if isinstance(value, str):
        raise UsageError(f"{label} is the text {value!r}: benchmark.method({value!r}) is the method of this name")
    if isinstance(value, Tensor) or not is_explainer(value):
        return value
    try:
        asked(value, task)
    except UsageError as error:
        raise UsageError(f"{label}: {error}") from error
    return Callback(value)


def _applied(task: Task, label: str, method: Method) -> Method:
    """Return a method with all its parameters on the task.

    Raises:
        UsageError: it cannot explain it.
    """
    method, why = suited(method, task, registered_as(method), label)
    if why is not None:
        raise UsageError(f"{label} cannot explain this task: it {why}")
    return method


def _numbers(evaluator: Evaluator, label: str, entry: Any) -> Tensor | None:
    """Return attributions that were given, or None for a method.

    Raises:
        UsageError: they are none.
    """
    if isinstance(entry, Method):
        return None
    rows = labelled(evaluator.task).rows
    entry = in_order_of(entry, None if rows is None else rows[evaluator.samples], label)
    return attributions_of(entry, evaluator.task, evaluator.x, evaluator.shared.target, label)


def _evaluated(evaluator: Evaluator, label: str, entry: Any, numbers: Tensor | None) -> Evaluation:
    """Return the evaluation of one entry, of the attributions that were given or of a method.

    Raises:
        BenchmarkError: a method failed.
    """
    try:
        return evaluator.evaluate(entry, registered_as(entry) or label) if numbers is None else evaluator.score(numbers)
    except BenchmarkError:
        raise
    except Exception as error:  # of a method or a metric of a person's own
        raise BenchmarkError(f"it failed: {describe(error, type(entry))}") from error


def _examples(evaluator: Evaluator, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return samples to keep for a report, which draws single features; a label that nobody gave is unknown."""
    if hasattr(evaluator.task.removal, "groups"):
        return []
    kept = examples(evaluator, evaluation)
    has_labels = evaluator.task.provenance.model.accuracy is not None
    return kept if has_labels else [sample | {"label": UNKNOWN} for sample in kept]
