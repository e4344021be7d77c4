"""Runs planned cells: keeps what is stored, computes the rest in one or several processes, stores each at once."""

from __future__ import annotations

import hashlib
import logging
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmark.allocation import keep_freed_memory
from benchmark.data.source import cache_folder
from benchmark.errors import BenchmarkError, RecordError, UsageError
from benchmark.metrics import OK, REASONS
from benchmark.plan import MethodChoice, PlannedTask, metric_facts
from benchmark.presets import PRESETS
from benchmark.records import Cell, Record, RecordStore, same_work
from benchmark.tasks.building import refuse_weak
from benchmark.types import METHODS, TASKS, Located, Precision

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.evaluator import Evaluation, Evaluator

Overwrite = Literal["never", "missing", "always"]
log = logging.getLogger("benchmark")


@dataclass(frozen=True)
class Settings:
    """How cells are run. `packages` and `included` say where workers find methods and tasks.

    `device` is auto, cpu or cuda; `jobs` None means one worker a core, or one for a GPU. Both are settled by
    `settled` when there is something to compute, so that a run that has nothing to do never loads torch.
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
        """Return these settings with a real device and number of workers.

        Raises:
            UsageError: a GPU was asked for and there is none.
        """
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
    """One cell for a worker, with all it needs to build the task on its own."""

    cell: Cell
    choice: MethodChoice
    located: Located
    metrics: tuple[str, ...]
    settings: Settings


def pending(plan: PlannedTask, store: RecordStore, settings: Settings, touch: bool = True) -> Iterator[Outcome | Job]:
    """Yield an outcome for each cell that needs no work and a job for each that does.

    Damaged records are set aside if `touch`, else passed over.
    """
    for cell, choice in plan.cells:
        job = Job(cell, choice, plan.located, settings.metrics, settings)
        if cell.key in plan.skips:
            yield Outcome(cell, choice.label, "skipped", plan.skips[cell.key])
            continue
        record = _stored(store, cell, touch)
        yield job if record is None else _judge(record, job)


def _stored(store: RecordStore, cell: Cell, touch: bool = True) -> Record | None:
    folder = store.folder(cell)
    if not (folder / "run.json").exists():  # written last: without it nothing was finished
        return None
    try:
        return store.read(folder)
    except RecordError as error:
        log.warning(f"{error}; " + (f"set aside as {store.set_aside(folder)}" if touch else "to be set aside"))
        return None


def _judge(record: Record, job: Job) -> Outcome | Job:
    """Return the outcome a stored record stands for, or the job that replaces it."""
    kept = Outcome(
        record.cell, job.choice.label, "failed" if record.status == "failed" else "kept", record.reason,
        record.n_failed, record.n_total,
    )  # fmt: skip
    if job.settings.overwrite == "never":
        return kept
    if job.settings.overwrite == "always" or record.status == "failed":
        return job
    if same_work(record, job.cell, metric_facts(list(job.metrics))) is None:
        return kept
    same_task = record.cell.fingerprint == job.cell.fingerprint
    both = set(job.metrics) | (set(record.metrics) if same_task else set())
    return replace(job, metrics=tuple(sorted(both)))


def run_task(plan: PlannedTask, store: RecordStore, settings: Settings) -> Iterator[Outcome]:
    """Yield the outcome of every cell of a task, as each is known.

    Raises:
        DataError: the task cannot be built.
        BenchmarkError: a record cannot be stored.
    """
    jobs: list[Job] = []
    settings = settings.settled() if settings.device == "cuda" else settings
    for item in pending(plan, store, settings):
        if isinstance(item, Job):
            jobs.append(item)
        else:
            yield item
    if not jobs:
        return
    settings = settings.settled()
    jobs = [replace(job, settings=settings) for job in jobs]
    jobs.sort(key=lambda job: METHODS.entry(job.choice.name).facts.get("kind") != "learned")  # what trains starts first
    _prepare_process(settings)
    evaluator_for(jobs[0])  # trains the model and asks the shared questions once, before any worker starts
    workers = min(settings.jobs or 1, len(jobs))
    if workers == 1:
        for job in jobs:
            yield work(job)
        return
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    pool = Parallel(n_jobs=workers, return_as="generator_unordered")
    try:
        yield from pool(delayed(_work_elsewhere)(job) for job in jobs)
    except BaseException:
        get_reusable_executor().shutdown(wait=False, kill_workers=True)
        raise


def _work_elsewhere(job: Job) -> Outcome:
    """Work on one cell in a worker process, which leaves the talking to its parent."""
    log.setLevel(logging.CRITICAL)
    return work(job)


def work(job: Job) -> Outcome:
    """Evaluate one cell and store its record, unless another run has done so meanwhile."""
    _prepare_process(job.settings)
    store = RecordStore(job.settings.root)
    with store.lock(job.cell):
        if job.settings.overwrite != "always" and (record := _stored(store, job.cell)) is not None:
            judged = _judge(record, job)
            if isinstance(judged, Outcome):
                return judged
            job = judged
        record, shown = _evaluate(job)
        store.write(record, shown)
    state = "computed" if record.status == "done" else record.status
    return Outcome(job.cell, job.choice.label, state, record.reason, record.n_failed, record.n_total)


def _evaluate(job: Job) -> tuple[Record, list[dict[str, Any]]]:
    """Return the record of a cell, and examples to keep beside it."""
    from benchmark.examples import examples
    from benchmark.payback import payback
    from benchmark.provenance import environment

    evaluator = evaluator_for(job)
    kind = METHODS.entry(job.choice.name).facts.get("kind", "other")
    blank = Record(
        job.cell,
        "failed",
        label=job.choice.label,
        kind=kind,
        n_total=len(evaluator.samples),
        comparable=PRESETS[job.cell.preset].comparable,
    )
    provenance = evaluator.task.provenance | {"environment": environment(job.settings.device)}
    provenance["environment"] |= {"compiled": job.settings.compiled}
    try:
        method = METHODS.get(job.choice.name)(**job.cell.params)
        evaluation = evaluator.evaluate(method, job.choice.name)
    except Exception as error:  # whatever a method raises ends its own cell and no other
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, BenchmarkError) else str(error)
        failed = replace(
            blank, reason=reason, n_failed=blank.n_total, provenance=provenance | {"traceback": traceback.format_exc()}
        )
        return failed, []
    n_failed = int(evaluation.failed.sum())
    if n_failed == blank.n_total:
        reason = "the attribution of every sample is not finite"
        return replace(blank, reason=reason, n_failed=n_failed, provenance=provenance), []
    record = replace(
        blank,
        status="done",
        reason=f"the attribution of {n_failed} of {blank.n_total} samples is not finite" if n_failed else "",
        metrics=metric_facts(list(job.metrics)),
        n_failed=n_failed,
        repeats=method.repeats,
        evidence=None if evaluation.evidence is None else float(evaluation.evidence.nanmean()),
        report=evaluation.report | ({"payback": payback(evaluator, evaluation)} if kind == "learned" else {}),
        costs=evaluator.meter.summary() | evaluation.meter.summary(),
        provenance=provenance | {"packing": evaluator.prober.packing()},
        scores=score_table(evaluation),
    )
    return record, examples(evaluator, evaluation)


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
    import captum.attr  # noqa: F401 - here, so that no method's time holds the import

    single_threaded()
    keep_freed_memory()
    METHODS.discover(*settings.packages)
    TASKS.discover("benchmark.tasks")
    for path in settings.included:
        METHODS.include(path)


@dataclass(frozen=True)
class Basis:
    """What cells of one task have in common, and what their shared answers follow from."""

    task: str
    located: Located
    fingerprint: str
    seed: int
    limit: int | None
    metrics: tuple[str, ...]
    precision: Precision
    preset: str
    device: str
    compiled: bool
    allow_weak: bool


def evaluator_for(job: Job) -> Evaluator:
    """Return the evaluator of a job's task, seed and samples; made once in a process."""
    cell, settings = job.cell, job.settings
    return _evaluator(
        Basis(
            cell.task, job.located, cell.fingerprint, cell.seed, cell.limit, job.metrics, cell.precision,
            cell.preset, settings.device, settings.compiled, settings.allow_weak,
        )
    )  # fmt: skip


@lru_cache(maxsize=1)
def _evaluator(basis: Basis) -> Evaluator:
    from benchmark.evaluator import Evaluator
    from benchmark.metering import Cost
    from benchmark.provenance import code_digest
    from benchmark.shared import Shared

    task = TASKS.get(basis.task)().build(basis.located, basis.task, basis.device)
    refuse_weak(task, basis.allow_weak)
    task = replace(task, budget=PRESETS[basis.preset].budget(task.budget))
    if basis.compiled:
        task.model.compile()
    samples = list(range(len(task.test.x)))[: basis.limit]
    identity = repr((basis, task.provenance["model"]["digest"], code_digest()))
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    path = cache_folder() / "shared" / f"{basis.task}-{key}.safetensors"
    shared, costs = Shared.load(path, basis.device) if path.exists() else (None, {})
    evaluator = Evaluator(task, basis.seed, samples, metrics=basis.metrics, precision=basis.precision, shared=shared)
    if shared is None:
        evaluator.shared.save(path, evaluator.meter.summary())
    else:
        evaluator.meter.phases = {phase: Cost(**cost) for phase, cost in costs.items()}  # type: ignore[arg-type]
    return evaluator
