"""The number of explanations after which training pays, against KernelSHAP timed in the same process."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from benchmark.core.seeding import method_seed
from benchmark.core.types import METHODS
from benchmark.models.metering import Meter

if TYPE_CHECKING:
    from benchmark.scoring.evaluator import Evaluation, Evaluator

RIVAL = "kernel_shap"
SAMPLES = 3
"""Explanations of the rival that are timed."""


def break_even(evaluator: Evaluator, evaluation: Evaluation) -> dict[str, Any]:
    """Return what one explanation of the rival costs, and how many make up for the training of what was evaluated.

    Args:
        evaluator: of the task; the rival explains its first samples.
        evaluation: of a trained explainer.

    Returns:
        `rival`, its name; `rival ms` and `rival rows`, milliseconds and rows of the model (forward and backward) of one
        of its explanations; `samples` and `samples by rows`, the number of explanations after which training has cost
        no more time, or rows, than the rival; None where training never pays.
    """
    rival, meter = METHODS.get(RIVAL)(), Meter()
    explain = rival.prepare(evaluator.task, method_seed(evaluator.seed, evaluator.task.name, RIVAL))
    x, target = evaluator.x[:SAMPLES], evaluator.shared.target[:SAMPLES]
    explain(x[:1], target[:1])  # the first call loads what it needs
    with meter.phase("rival", evaluator.task.model) as asked:
        explain(x, target)
    training, explaining = (evaluation.meter.phases[phase] for phase in ("prepare", "attribute"))
    count = len(evaluation.samples)
    seconds, rows = asked.seconds / len(x), (asked.forwards + asked.backwards) / len(x)
    training_rows, explaining_rows = (cost.forwards + cost.backwards for cost in (training, explaining))
    return {
        "rival": RIVAL,
        "rival ms": 1000 * seconds,
        "rival rows": rows,
        "samples": _even(training.seconds, explaining.seconds / count, seconds),
        "samples by rows": _even(training_rows, explaining_rows / count, rows),
    }


def _even(training: float, explaining: float, rival: float) -> int | None:
    return math.ceil(training / (rival - explaining)) if explaining < rival else None
