"""What cells will take, from trying each on a few samples and extrapolating."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from benchmark.core.types import METHODS
from benchmark.models.metering import Cost
from benchmark.records.store import RecordStore
from benchmark.running.built import evaluator_for
from benchmark.running.jobs import Job, method_of
from benchmark.running.trial import reason_of
from benchmark.scheduling.storing import parts_of

SECONDS = 0.3
"""Samples are doubled until trying them takes so long."""
ITERATIONS = 40, 80
"""Those of two short trainings, which are validated equally often: their difference says what an iteration takes."""


@dataclass(frozen=True)
class Estimate:
    """What something takes, about.

    Attributes:
        forwards: rows of the model, forward.
        backwards: those backward.
        seconds: of one worker, its training among them.
        training: seconds of training, which no two workers share.
        samples: on how many that follows from.
        why: the reason, where nothing can be said.
    """

    forwards: float = 0.0
    backwards: float = 0.0
    seconds: float = 0.0
    training: float = 0.0
    samples: int = 0
    why: str = ""


def of_cell(job: Job) -> Estimate:
    """Return what the rest of a cell takes, without what all methods of a task share.

    A method that is trained is trained for a few iterations twice. Its training is counted also where an explainer is
    in the cache already, which only `prepare` knows.
    """
    method, store = method_of(job.cell), RecordStore(job.settings.root)
    left = job.samples - sum(map(len, parts_of(job, store).stored()))
    training, short = Cost(), method
    try:
        if METHODS.entry(job.choice.name).facts.get("kind") == "learned":
            training, short = _training(job, method)
        cost, samples = _extrapolated(lambda count: _tried(job, short, count), left, job.samples)
    except (Exception, SystemExit) as error:  # of a method: the run will say the same of its cell
        return Estimate(why=f"cannot be tried: {reason_of(error, method)}")
    total = Cost.total([training, cost])
    return Estimate(total.forwards, total.backwards, total.seconds, training.seconds, samples)


def of_shared(job: Job) -> Estimate:
    """Return what all methods of a cell's task share takes, whichever is the method."""

    def ask(count: int) -> Cost:
        rows = range(count)
        return Cost.total(evaluator_for(job.cell, job.located, job.metrics, job.settings, rows).meter.phases.values())

    cost, samples = _extrapolated(ask, job.samples, job.samples)
    return Estimate(cost.forwards, cost.backwards, cost.seconds, samples=samples)


def _tried(job: Job, method: Any, count: int) -> Cost:
    """Return what explaining and scoring the first samples costs."""
    evaluator = evaluator_for(job.cell, job.located, job.metrics, job.settings, range(count))
    phases = evaluator.evaluate(method, job.choice.name).meter.phases
    return Cost.total(cost for phase, cost in phases.items() if phase != "prepare")


def _extrapolated(tried: Callable[[int], Cost], left: int, samples: int) -> tuple[Cost, int]:
    """Return what `left` samples cost, and of how many that is extrapolated.

    Args:
        tried: returns what so many samples cost.
        left: samples.
        samples: that there are to try.
    """
    count, added, before = 1, 1, Cost()
    cost = tried(count)
    while cost.seconds < SECONDS and count < samples:
        before, further = cost, min(2 * count, samples)
        cost, added, count = tried(further), further - count, further
    # what a batch takes however small it is, is not part of a sample
    slope = max(0.0, cost.seconds - before.seconds) / added if before.seconds else cost.seconds / count
    seconds = max(0.0, cost.seconds + slope * (left - count))
    return Cost(int(cost.forwards * left / count), int(cost.backwards * left / count), seconds), count


def _training(job: Job, method: Any) -> tuple[Cost, Any]:
    """Return what training a method costs, and a method that is trained shortly."""
    evaluator = evaluator_for(job.cell, job.located, job.metrics, job.settings, range(1))
    whole = method.resolved(evaluator.task)
    numbers = [min(count, whole.iterations) for count in ITERATIONS]
    brief = [replace(whole, iterations=number, seconds=None) for number in numbers]
    few, more = (evaluator.evaluate(short, job.choice.name).meter.phases["prepare"] for short in brief)
    if whole.seconds is not None:
        return replace(more, seconds=whole.seconds), brief[0]
    steps = numbers[1] - numbers[0]
    times = (whole.iterations - numbers[1]) / steps if steps else 0.0
    step = more - few
    further = Cost(int(times * step.forwards), int(times * step.backwards), times * max(0.0, step.seconds))
    return Cost.total([more, further]), brief[0]
