"""The number of explanations after which training pays, against the fastest KernelSHAP timed in the same process."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from benchmark.core.parameters import fields_of
from benchmark.core.seeding import method_seed
from benchmark.core.types import METHODS, Modality
from benchmark.models.metering import Cost, Meter

if TYPE_CHECKING:
    from benchmark.core.types import Method
    from benchmark.scoring.evaluator import Evaluation, Evaluator

RIVAL, IMPLEMENTATION = "kernel_shap", "estimator"
"""The rival, and its parameter that names its implementations."""
SAMPLES: dict[Modality, int] = {"table": 64, "text": 8, "image": 3}
"""Explanations of each implementation that are timed at once, at most."""


def break_even(evaluator: Evaluator, evaluation: Evaluation) -> dict[str, Any]:
    """Return what one explanation of the rival costs, and how many make up for the training of what was evaluated.

    Every implementation of the rival is timed with its default budget on a batch, and the fastest counts.

    Args:
        evaluator: of the task; the rival explains its first samples.
        evaluation: of a trained explainer.

    Returns:
        `rival`, the fastest implementation; `rival ms` and `rival rows`, milliseconds and rows of the model (forward
        and backward) of one of its explanations; `timed ms`, those of every implementation; `timed samples`, how many
        were explained at once; `samples` and `samples by rows`, the number of explanations after which training has
        cost no more time, or rows, than the rival; None where training never pays.
    """
    cls = METHODS.get(RIVAL)
    count = min(SAMPLES[evaluator.task.modality], evaluator.batch, len(evaluator.x))
    costs = {
        f"{RIVAL}[{IMPLEMENTATION}={name}]": _timed(evaluator, cls(**{IMPLEMENTATION: name}), count)
        for name in fields_of(cls)[IMPLEMENTATION].metadata["among"]
    }
    rival = min(costs, key=lambda label: costs[label].seconds)
    seconds, rows = costs[rival].seconds / count, (costs[rival].forwards + costs[rival].backwards) / count
    training, explaining = (evaluation.meter.phases[phase] for phase in ("prepare", "attribute"))
    explained = len(evaluation.samples)
    training_rows, explaining_rows = (cost.forwards + cost.backwards for cost in (training, explaining))
    return {
        "rival": rival,
        "rival ms": 1000 * seconds,
        "rival rows": rows,
        "timed ms": {label: 1000 * cost.seconds / count for label, cost in costs.items()},
        "timed samples": count,
        "samples": _even(training.seconds, explaining.seconds / explained, seconds),
        "samples by rows": _even(training_rows, explaining_rows / explained, rows),
    }


def _timed(evaluator: Evaluator, rival: Method, count: int) -> Cost:
    """Return what a method costs for the first samples, explained as one batch."""
    explain = rival.prepare(evaluator.task, method_seed(evaluator.seed, evaluator.task.name, RIVAL))
    x, target = evaluator.x[:count], evaluator.shared.target[:count]
    explain(x[:1], target[:1])  # the first call loads what it needs
    with Meter().phase("rival", evaluator.task.model) as cost:
        explain(x, target)
    return cost


def _even(training: float, explaining: float, rival: float) -> int | None:
    return math.ceil(training / (rival - explaining)) if explaining < rival else None
