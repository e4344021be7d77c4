"""Runs planned cells: keeps what is stored, computes the rest in one or several processes, stores each at once."""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import Timeout

from benchmark.core.errors import BenchmarkError, DataError, RecordError, UsageError, describe
from benchmark.core.identity import (
    method_identity,
    model_digest,
    rows_digest,
    settings_digest,
    source_digest,
    task_identity,
)
from benchmark.core.sources import Located, cache_folder
from benchmark.core.types import METHODS, TASKS, Method, Precision, Split, Task
from benchmark.modalities.building import model_path, refuse_weak, task_facts
from benchmark.records.store import Cell, Record, RecordStore, stale
from benchmark.running.allocation import keep_freed_memory
from benchmark.running.interruption import held
from benchmark.running.plan import MethodChoice, PlannedTask, metric_facts
from benchmark.running.presets import PRESETS
from benchmark.running.workers import Workers
from benchmark.scoring.metrics import METRICS, OK, REASONS
from benchmark.scoring.trial import reason_of

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.scoring.evaluator import Evaluation, Evaluator

Overwrite = Literal["never", "missing", "always"]
WAIT = 5.0
"""Seconds that pass before another run's lock is spoken of."""
log = logging.getLogger("benchmark")


@dataclass(frozen=True)
class Settings:
    """How cells are run. `packages` and `included` say where workers find methods and tasks.

    `device` is auto, cpu or cuda; `jobs` None means one worker a core, or one for a GPU. `settled` fills in both.
    """

    metrics: tuple[str, ...]
    device: str
    jobs: int | None
    overwrite: Overwrite
    packages: tuple[str, ...]
    included: tuple[Path, ...]
    root: Path
    compiled: bool = False
    allow_weak: bool = False

    def settled(self) -> Settings:
        """Return these settings with a device that is there and a number of workers.

        Raises:
            UsageError: a GPU was asked for and there is none.
        """
        with held():
            import joblib
            import torch

        if self.device == "cuda":
            require_cuda()
        there = self.device != "cpu" and torch.cuda.is_available()
        jobs = self.jobs or (1 if there else joblib.cpu_count())
        return replace(self, device="cuda" if there else "cpu", jobs=jobs)


def require_cuda() -> None:
    """Make sure there is a GPU.

    Raises:
        UsageError: there is none.
    """
    import torch

    if not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no CUDA device here; use --device cpu or auto")


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: kept (stored before), computed, skipped or failed; why; samples that failed in it."""

    cell: Cell
    label: str
    state: str
    reason: str = ""
    n_failed: int = 0
    n_total: int = 0

    @property
    def bad(self) -> bool:
        """Tell whether something did not work."""
        return self.state == "failed" or self.n_failed > 0


@dataclass(frozen=True)
class Job:
    """One cell for a worker, with all it needs to build the task. `why` says why a stored record will not do."""

    cell: Cell
    choice: MethodChoice
    located: Located
    metrics: tuple[str, ...]
    settings: Settings
    why: str = ""


def pending(plan: PlannedTask, store: RecordStore, settings: Settings, task: Task | None) -> Iterator[Outcome | Job]:
    """Yield an outcome for each cell that needs no work and a job for each that does; nothing is changed on disk.

    Without the built `task` records are judged by what was asked alone, which is all that a dry run can know of a model
    that is not there yet.
    """
    for cell, choice in plan.cells:
        if cell.key in plan.skips:
            yield Outcome(cell, choice.label, "skipped", plan.skips[cell.key])
            continue
        job = Job(cell, choice, plan.located, settings.metrics, settings)
        record, why = _stored(store, cell)
        yield replace(job, why=why) if record is None else _judge(record, job, task)


def _stored(store: RecordStore, cell: Cell) -> tuple[Record | None, str]:
    """Return the readable record of a cell, or None and, where something else is there, what is wrong with it."""
    folder = store.folder(cell)
    if not (folder / "run.json").exists():  # written last: without it nothing was finished
        return None, ""
    try:
        record = store.read(folder)
        store.examples(record)
        return record, ""
    except RecordError as error:
        return None, str(error)


def _judge(record: Record, job: Job, task: Task | None) -> Outcome | Job:
    """Return the outcome a stored record stands for, or the job that replaces it."""
    kept = Outcome(
        record.cell, job.choice.label, "failed" if record.status == "failed" else "kept", record.reason,
        record.n_failed, record.n_total,
    )  # fmt: skip
    if job.settings.overwrite == "never":
        return kept
    if job.settings.overwrite == "always" or record.status == "failed":
        return job
    identity = record.identity if task is None else identity_of(task, job.cell)
    why = stale(record, identity, metric_facts(list(job.metrics)))
    if why is None:
        return kept
    more = [name for name in METRICS if name in record.metrics] if stale(record, identity, {}) is None else []
    return replace(job, metrics=tuple(name for name in METRICS if name in job.metrics or name in more), why=why)


def identity_of(task: Task, cell: Cell) -> dict[str, str]:
    """Return what a cell's result on `task` follows from, but for what the cell says itself.

    Where a method cannot say what it follows from, its code is empty; `_evaluate` meets the same error and keeps it.
    """
    try:
        own = method_identity(method_of(cell), task.modality, METHODS.entry(cell.method).module)
    except Exception as error:
        log.debug(f"{cell.label}: {describe(error, METHODS.get(cell.method))}")
        own = {"code": "", "distribution": ""}
    return _task_identity(task) | own


_task_identity = lru_cache(maxsize=1)(task_identity)
"""Of the task that this process works on: the evaluator sees to it that no method changes it."""


def method_of(cell: Cell) -> Method:
    """Return the method of a cell with its parameters."""
    return METHODS.get(cell.method)(**cell.params)


def run_task(plan: PlannedTask, store: RecordStore, settings: Settings, crew: Workers) -> Iterator[Outcome]:
    """Yield the outcome of every cell of a task, as each is known; where several are worked on at once, by `crew`.

    Raises:
        DataError: the task cannot be built.
        BenchmarkError: a record cannot be stored.
    """
    settings = settings.settled()
    _prepare_process(settings)
    wanted = [item for item in plan.cells if item[0].key not in plan.skips]
    task = None
    if wanted:
        task = task_for(wanted[0][0], plan.located, settings)
        plan = plan.bound(len(task.test.x))
    jobs: list[Job] = []
    for item in pending(plan, store, settings, task):
        if isinstance(item, Job):
            jobs.append(item)
        else:
            yield item
    if not jobs:
        return
    jobs.sort(key=lambda job: METHODS.entry(job.choice.name).facts.get("kind") != "learned")  # what trains starts first
    evaluator_for(jobs[0])  # asks the shared questions once, before any worker starts
    workers = min(settings.jobs or 1, len(jobs))
    if workers == 1:
        for job in jobs:
            yield work(job)
        return
    yield from crew.each(_work_elsewhere, jobs, workers, _died)


def _work_elsewhere(job: Job) -> Outcome:
    """Work on one cell in a worker process."""
    _prepare_worker(job.settings)
    return work(job)


def _died(job: Job, how: str) -> Outcome:
    """Return what becomes of a cell whose process died: no record says anything of it, so the next run computes it."""
    return Outcome(job.cell, job.choice.label, "failed", f"its worker process {how}; run again to try it again")


def work(job: Job) -> Outcome:
    """Evaluate one cell and store its record, unless another run has done so meanwhile."""
    store = RecordStore(job.settings.root)
    with _locked(store, job.cell):
        record, damage = _stored(store, job.cell)
        if damage:
            job = replace(job, why=f"{damage}; set aside as {store.set_aside(store.folder(job.cell))}")
        if record is not None and job.settings.overwrite != "always":
            judged = _judge(record, job, task_for(job.cell, job.located, job.settings))
            if isinstance(judged, Outcome):
                return judged
            job = judged
        before = record
        record, shown = _evaluate(job)
        if record.status == "failed" and before is not None and _still_holds(before, record):
            reason = f"{record.reason}; the record of before is kept, since nothing that it follows from has changed"
            return Outcome(job.cell, job.choice.label, "failed", reason, record.n_total, record.n_total)
        try:
            store.write(record, shown)
        except (ValueError, TypeError, RecordError) as error:  # it holds what no record can
            record = _failed(record, f"the result cannot be stored: {type(error).__name__}: {error}")
            store.write(record)
    done = record.status == "done"
    reason = "; ".join(filter(None, [job.why if done else "", record.reason]))
    return Outcome(job.cell, job.choice.label, "computed" if done else record.status, reason, record.n_failed,
                   record.n_total)  # fmt: skip


def _still_holds(before: Record, now: Record) -> bool:
    """Tell whether a finished record follows from what a failure of now followed from: the failure is of the moment."""
    return before.status == "done" and stale(before, now.identity, {}) is None


@contextmanager
def _locked(store: RecordStore, cell: Cell) -> Iterator[None]:
    """Hold the lock of a cell; say so where another run holds it for long."""
    lock = store.lock(cell)
    try:
        lock.acquire(timeout=WAIT)
    except Timeout:
        log.warning(f"{cell.label}: waiting for another run that computes it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _failed(record: Record, reason: str, **more: Any) -> Record:
    """Return what stands for a cell that gave nothing."""
    return replace(
        record, status="failed", reason=reason, n_failed=record.n_total, metrics={}, costs={}, report={}, problems=[],
        evidence=None, scores=Record(record.cell, "failed").scores, **more,
    )  # fmt: skip


def _evaluate(job: Job) -> tuple[Record, list[dict[str, Any]]]:
    """Return the record of a cell, and examples to keep beside it."""
    from benchmark.core.plain import plain_data
    from benchmark.records.provenance import environment
    from benchmark.running.break_even import payback
    from benchmark.running.kept_samples import examples

    evaluator = evaluator_for(job)
    task, entry, method = evaluator.task, METHODS.entry(job.choice.name), method_of(job.cell)
    kind = entry.facts.get("kind", "other")
    provenance, _ = plain_data(task.provenance | {"environment": environment(job.settings.device)})
    facts, _ = plain_data(task_facts(task))
    provenance["environment"] |= {"compiled": job.settings.compiled}
    blank = Record(
        job.cell,
        "failed",
        identity=identity_of(task, job.cell),
        label=job.choice.label,
        kind=kind,
        explains=list(entry.facts.get("modalities", ())),
        facts=facts,
        n_total=len(evaluator.samples),
        comparable=PRESETS[job.cell.preset].comparable,
        provenance=provenance,
    )
    try:
        method_identity(method, task.modality, entry.module)
        evaluation = evaluator.evaluate(method, job.choice.name)
        n_failed, unanswered = int(evaluation.failed.sum()), int(evaluation.unanswered.sum())
        if n_failed == blank.n_total:
            return _failed(blank, "the attribution of every sample is not finite"), []
        if unanswered == blank.n_total:
            return _failed(blank, "the model's answer is not finite for any sample"), []
        flaws = [f"the attribution of {n_failed} of {blank.n_total} samples is not finite"] if n_failed else []
        if unanswered:
            flaws.append(f"the model's answer is not finite for {unanswered} of {blank.n_total} samples")
        report = evaluation.report | ({"payback": payback(evaluator, evaluation)} if kind == "learned" else {})
        report, problems = plain_data(report)
        evidence = None if evaluation.evidence is None else float(evaluation.evidence.nanmean())
        shown = examples(evaluator, evaluation)
        record = replace(
            blank,
            status="done",
            reason="; ".join(flaws),
            metrics=metric_facts(list(evaluator.metrics)),
            n_failed=n_failed,
            repeats=method.repeats,
            evidence=evidence if evidence is not None and math.isfinite(evidence) else None,
            report=report,
            problems=[f"report: {problem}" for problem in problems],
            costs=evaluator.meter.summary() | evaluation.meter.summary(),
            provenance=provenance | {"packing": evaluator.masked_model.packing()},
            scores=score_table(evaluation),
        )
    except (Exception, SystemExit) as error:  # whatever a method raises ends its own cell and no other
        reason = reason_of(error, method)
        if not evaluator.guard.intact:
            forget_tasks()  # what the method spoilt is built anew for the next
        return _failed(blank, reason, provenance=provenance | {"traceback": traceback.format_exc()}), []
    return record, shown


def score_table(evaluation: Evaluation) -> pd.DataFrame:
    """Return an evaluation as rows of sample, target, metric, score, valid, reason."""
    import pandas as pd

    tables = []
    for metric, scores in evaluation.scores.items():
        codes = evaluation.reasons[metric].tolist()
        tables.append(
            pd.DataFrame(
                {
                    "sample": evaluation.samples,
                    "target": evaluation.target,
                    "metric": metric,
                    "score": scores.numpy(),
                    "valid": scores.isfinite().numpy(),
                    "reason": [None if code == OK else REASONS[code] for code in codes],
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def single_threaded() -> None:
    """Use one torch thread: two fight over small models, and sums are made in one order."""
    import torch

    torch.set_num_threads(1)


def _prepare_process(settings: Settings) -> None:
    """Make this process see the registered methods, use one torch thread and keep freed memory."""
    with held():
        import captum.attr  # noqa: F401 - here, so that no method's time holds the import

    single_threaded()
    keep_freed_memory()
    METHODS.discover(*settings.packages)
    TASKS.discover("benchmark.tasks")
    for path in settings.included:
        METHODS.include(path)


_prepare_worker = lru_cache(maxsize=1)(_prepare_process)
"""Once for all cells of a run: reading all methods takes as long as scoring a small one."""


@dataclass(frozen=True)
class Basis:
    """What a task is built from."""

    task: str
    located: Located
    preset: str
    device: str
    compiled: bool


def task_for(cell: Cell, located: Located, settings: Settings) -> Task:
    """Return the built task of a cell; made once in a process."""
    return _task(Basis(cell.task, located, cell.preset, settings.device, settings.compiled))


def forget_tasks() -> None:
    """Build tasks and evaluators anew when they are next asked for, as a new process would."""
    for made in (_task, _task_identity, _evaluator):
        made.cache_clear()


def known_task(plan: PlannedTask, settings: Settings) -> Task | None:
    """Return a plan's task where nothing has to be trained for it, else None: for a dry run."""
    cells = [cell for cell, _ in plan.cells if cell.key not in plan.skips]
    recipe = plan.spec.recipe(plan.located.source)
    if not cells or not model_path(plan.name, recipe, plan.located).exists():
        return None
    _prepare_process(settings)
    return task_for(cells[0], plan.located, settings)


@lru_cache(maxsize=1)
def _task(basis: Basis) -> Task:
    made = TASKS.get(basis.task)
    try:
        task = made().build(basis.located, basis.task, basis.device)
    except BenchmarkError:
        raise
    except Exception as error:  # of a task of one's own
        raise DataError(f"the task cannot be built: {describe(error, made)}") from error
    if not isinstance(task, Task):
        raise DataError(f"the task cannot be built: expected a Task, got {type(task).__name__}")
    task = replace(task, budget=PRESETS[basis.preset].budget(task.budget))
    if basis.compiled:
        task.model.compile()
    return task


def evaluator_for(job: Job) -> Evaluator:
    """Return the evaluator of a job's task, seed and samples; made once in a process.

    Raises:
        DataError: the task cannot be built, or its model is not what it must be.
    """
    cell, settings = job.cell, job.settings
    task = task_for(cell, job.located, settings)
    refuse_weak(task, settings.allow_weak)
    return _evaluator(task, cell.seed, cell.limit, job.metrics, cell.precision, settings.compiled)


@lru_cache(maxsize=1)
def _evaluator(
    task: Task, seed: int, limit: int | None, metrics: tuple[str, ...], precision: Precision, compiled: bool
) -> Evaluator:
    from benchmark.core.store import key_of
    from benchmark.scoring.evaluator import Evaluator
    from benchmark.scoring.metering import Cost
    from benchmark.scoring.shared_predictions import SharedPredictions

    samples = list(range(len(task.test.x)))[:limit]
    device = str(task.test.x.device)
    asked = Split(task.test.x[:limit], task.test.y[:limit])
    key = key_of(
        task.name, rows_digest(asked), model_digest(task.model, task.train.x), settings_digest(task), seed,
        sorted(metrics), precision, compiled, device.partition(":")[0], source_digest("benchmark.scoring.evaluator"),
    )  # fmt: skip
    path = cache_folder() / "shared" / f"{task.name}-{key}.safetensors"
    shared, costs = SharedPredictions.load(path, device)
    evaluator = Evaluator(task, seed, samples, metrics=metrics, precision=precision, shared=shared)
    if shared is None:
        evaluator.shared.save(path, evaluator.meter.summary())
    else:
        evaluator.meter.phases = {phase: Cost(**cost) for phase, cost in costs.items()}  # type: ignore[arg-type]
    return evaluator
