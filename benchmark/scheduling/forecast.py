"""Says ahead what a run will compute, and what that will take."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmark.records.provenance import peak_bytes
from benchmark.records.store import RecordStore
from benchmark.running.built import known_task
from benchmark.running.jobs import Job, Outcome, pending
from benchmark.running.plan import PlannedTask
from benchmark.running.settings import Settings
from benchmark.scheduling.cluster import Recipe, check_address, is_recipe
from benchmark.scheduling.estimate import Estimate, of_cell, of_shared

log = logging.getLogger("benchmark")


def forecast(
    plans: list[PlannedTask], store: RecordStore, settings: Settings
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a row for each cell, and what each task takes in a sentence; nothing is stored but what the cache keeps.

    Where the task's model is there, each method is tried on a few samples, and what that took is extrapolated.
    """
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    total = 0.0
    workers = _workers(settings)
    for plan in plans:
        task = known_task(plan, settings)
        bound = plan if task is None else plan.bound(len(task.test.x))
        items = list(pending(bound, store, settings, task))
        jobs = [item for item in items if isinstance(item, Job)]
        estimates = {} if task is None else _estimated(plan.title, jobs)
        rows += [_row(plan.title, item, estimates) for item in items]
        if jobs and task is not None:
            shared = of_shared(jobs[0])
            everything = [*estimates.values(), shared]
            seconds = _seconds(everything, workers)
            total += seconds
            memory = peak_bytes(settings.device == "cuda")
            lines.append(_line(plan.title, everything, seconds, workers, memory))
            lines.append(f"{plan.title}: {duration(shared.seconds)} of one worker for what all methods share")
        elif jobs:
            lines.append(
                f"{plan.title}: its model is not there yet, so nothing is said of time: "
                f"prepare --task {plan.name} --source {plan.located.source} makes it"
            )
    if settings.cluster is not None and settings.cluster != "local" and not is_recipe(settings.cluster):
        lines.append(f"how many workers {settings.cluster} has was not asked")
    return rows, lines if len(plans) == 1 else [*lines, f"together about {duration(total)}"]


def _workers(settings: Settings) -> int:
    """Return how many workers a run will have; of a scheduler at an address nobody knows, so that it is one's time.

    Raises:
        UsageError: it is no address, or the file that says how to ask a queue is not what it must be.
    """
    place = settings.cluster
    if place in (None, "local"):
        return settings.jobs or 1
    if not is_recipe(place):
        check_address(place)
        return 1
    recipe = Recipe.read(Path(place))
    return recipe.jobs * int(recipe.options.get("cores", 1))


def _estimated(title: str, jobs: list[Job]) -> dict[str, Estimate]:
    """Return what the cells will take, by key, with a progress bar."""
    from benchmark.processes.progress import tqdm

    shown = sys.stderr.isatty() and log.level < logging.ERROR
    return {job.cell.key: of_cell(job) for job in tqdm(jobs, f"trying {title}", disable=not shown, leave=False)}


def _row(title: str, item: Outcome | Job, estimates: dict[str, Estimate]) -> dict[str, Any]:
    if isinstance(item, Outcome):
        return {"task": title, "method": item.label, "state": item.state, "reason": item.reason}
    row = {"task": title, "method": item.choice.label, "state": "to compute", "reason": item.why}
    estimate = estimates.get(item.cell.key)
    return row if estimate is None else row | asdict(estimate)


def _seconds(estimates: list[Estimate], workers: int) -> float:
    """Return the time of a task: its work over the workers, and no less than its longest training."""
    return max(sum(each.seconds for each in estimates) / workers, *(each.training for each in estimates), 0.0)


def _line(title: str, estimates: list[Estimate], seconds: float, workers: int, memory: int) -> str:
    """Return what a task will take, in a sentence."""
    forwards, backwards = (sum(getattr(each, name) for each in estimates) for name in ("forwards", "backwards"))
    return (
        f"{title}: {count_of(forwards)} forward and {count_of(backwards)} backward passes, about {duration(seconds)} "
        f"with {workers} worker{'s' if workers > 1 else ''}, {memory / 1e9:.1f} GB of memory each"
    )


def count_of(number: float) -> str:
    """Return a number in words, such as 1.2 million."""
    for size, word in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """Return seconds in the unit that a person would take, such as 3.5 min."""
    for size, word in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {word}"
    return f"{seconds:.1f} s"
