"""Tasks and evaluators, built once in a process and shared by its cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from benchmark.core.errors import BenchmarkError, DataError, describe
from benchmark.core.files import locked
from benchmark.core.identity import (
    metric_digest,
    model_digest,
    rows_digest,
    rows_near,
    settings_digest,
    source_digest,
    task_identity,
)
from benchmark.core.sources import Located
from benchmark.core.types import TASKS, Precision, Split, Task
from benchmark.modalities.building import model_path, refuse_weak
from benchmark.records.record import Cell
from benchmark.running.plan import PlannedTask, spec_of
from benchmark.running.presets import PRESETS
from benchmark.running.settings import Settings, prepare_process

if TYPE_CHECKING:
    from benchmark.engines.engine import Engine
    from benchmark.scoring.evaluator import Evaluator


@lru_cache(maxsize=1)
def identity_of_task(task: Task) -> dict[str, str]:
    """Return the digests of the task that this process works on: the evaluator sees to it that no method changes it.

    Raises:
        DataError: the model cannot answer.
    """
    with _said(task.name, type(task.model).forward):
        return task_identity(task)


@contextmanager
def _said(name: str, made: Callable[..., object]) -> Iterator[None]:
    """Say what a task's model raises inside the block.

    Raises:
        DataError: it raised something.
    """
    try:
        yield
    except (BenchmarkError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"the model of {name} cannot answer: {describe(error, made)}") from error


@dataclass(frozen=True)
class Basis:
    """What a task is built from."""

    task: str
    located: Located
    preset: str
    device: str
    engine: str
    precision: Precision = "fp32"
    model: int = 0
    split: str = "test"


def task_for(cell: Cell, located: Located, settings: Settings) -> Task:
    """Return the built task of a cell; made once in a process."""
    return _built(cell, located, settings)[0]


def engine_for(cell: Cell, located: Located, settings: Settings) -> Engine:
    """Return what answers for the model of a cell's task."""
    return _built(cell, located, settings)[1]


def _built(cell: Cell, located: Located, settings: Settings) -> tuple[Task, Engine]:
    return _task(_basis(cell, located, settings))


def _basis(cell: Cell, located: Located, settings: Settings) -> Basis:
    return Basis(
        cell.task, located, cell.preset, settings.device, settings.engine, cell.precision, cell.model, cell.split
    )


_given: dict[Basis, tuple[str, Callable[[str], Task]]] = {}
"""The task that another process built, where one did: a digest, and how to make it on a device."""


def give(cell: Cell, located: Located, settings: Settings, make: Callable[[str], Task], digest: str) -> None:
    """Let the task of a cell be what another process built.

    Args:
        cell: whose task it is.
        located: where that process found its data.
        settings: of the run.
        make: returns the task, on a device; it is called again where a method spoilt the last.
        digest: of what it is made from; where it is another than before, the task is made anew.
    """
    basis = _basis(cell, located, settings)
    if basis not in _given or _given[basis][0] != digest:
        forget_tasks()
        _given.clear()  # a task may be large: none but the last is kept
        _given[basis] = digest, make


def forget_tasks() -> None:
    """Build tasks and evaluators anew when they are next asked for, as a new process would."""
    for made in (_task, identity_of_task, _evaluator):
        made.cache_clear()


def known_task(plan: PlannedTask, settings: Settings) -> Task | None:
    """Return a plan's task where nothing has to be trained for it, else None: for a dry run."""
    cells = [cell for cell, _ in plan.cells if cell.key not in plan.skips]
    recipe = plan.spec.recipe(plan.located.source)
    if not cells or not model_path(plan.name, recipe, plan.located).exists():
        return None
    prepare_process(settings)
    return task_for(cells[0], plan.located, settings)


@lru_cache(maxsize=1)
def _task(basis: Basis) -> tuple[Task, Engine]:
    from benchmark.engines.choosing import equip

    task = _given[basis][1](basis.device) if basis in _given else _made(basis)
    with _said(task.name, type(task.model).forward):
        return task, equip(task, basis.engine, basis.precision)


def _made(basis: Basis) -> Task:
    """Return a task made from its data."""
    made = TASKS.get(basis.task)
    try:
        task = spec_of(basis.task, basis.model).build(basis.located, basis.task, basis.device)
    except BenchmarkError:
        raise
    except Exception as error:  # of a task of one's own
        raise DataError(f"the task cannot be built: {describe(error, made)}") from error
    if not isinstance(task, Task):
        raise DataError(f"the task cannot be built: expected a Task, got {type(task).__name__}")
    task = replace(task, budget=PRESETS[basis.preset].budget(task.budget))
    if basis.split == "tuning":
        from benchmark.scoring.isolation import for_tuning

        task = for_tuning(task)
    return task


def evaluator_for(
    cell: Cell, located: Located, metrics: tuple[str, ...], settings: Settings, rows: range | None = None
) -> Evaluator:
    """Return the evaluator of a cell's task, seed and samples, of all or of some of them; made once in a process.

    Raises:
        DataError: the task cannot be built, or its model is not what it must be.
    """
    task, engine = _built(cell, located, settings)
    refuse_weak(task, settings.allow_weak)
    rows = range(len(task.test.x[: cell.limit])) if rows is None else rows
    return _evaluator(task, cell.seed, rows, metrics, cell.precision, engine.name)


@lru_cache(maxsize=1)
def _evaluator(
    task: Task, seed: int, rows: range, metrics: tuple[str, ...], precision: Precision, engine: str
) -> Evaluator:
    from benchmark.core.store import SHARED
    from benchmark.models.metering import Cost
    from benchmark.scoring.evaluator import Evaluator
    from benchmark.scoring.metrics import METRICS, TEN
    from benchmark.scoring.shared_predictions import SharedPredictions

    device = str(task.test.x.device)
    asked = Split(task.test.x[rows.start : rows.stop], task.test.y[rows.start : rows.stop])
    model = model_digest(task.model, rows_near(task, task.train, asked))
    path = SHARED.path(
        task.name, task.name, rows.start, rows_digest(asked), model, settings_digest(task), seed,
        sorted(metrics), precision, engine, device.partition(":")[0], source_digest("benchmark.scoring.evaluator"),
        sorted((name, metric_digest(METRICS[name], METRICS.entry(name).module)) for name in metrics if name not in TEN),
    )  # fmt: skip
    shared, costs = SharedPredictions.load(path, device)
    with nullcontext() if shared else locked(path.with_suffix(".making.lock")):  # several workers may begin with them
        shared, costs = (shared, costs) if shared else SharedPredictions.load(path, device)
        evaluator = Evaluator(task, seed, rows, metrics=metrics, precision=precision, shared=shared)
        if shared is None:
            evaluator.shared.save(path, evaluator.meter.summary())
        else:
            evaluator.meter.phases = {phase: Cost(**cost) for phase, cost in costs.items()}  # type: ignore[arg-type]
    return evaluator
