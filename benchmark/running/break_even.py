"""The number of explanations after which training pays, against KernelSHAP timed in the same process."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from benchmark.core.types import METHODS
from benchmark.models.metering import Meter

if TYPE_CHECKING:
    from benchmark.scoring.evaluator import Evaluation, Evaluator

RIVAL = "kernel_shap"
SAMPLES = 3
"""Explanations of the rival that are timed."""


def break_even(evaluator: Evaluator, evaluation: Evaluation) -> dict[str, Any]:
    """Return what one explanation of the rival costs, and how many make up for the training of what was evaluated.

    `samples` by wall time and `samples by rows` by rows of the model, forward and backward; None where an explanation
    costs no less than the rival's, so that training never pays.
    """
    rival, meter = METHODS.get(RIVAL)(), Meter()
    explain = rival.prepare(evaluator.task, evaluator.seed)
    x, target = evaluator.x[:SAMPLES], evaluator.shared.target[:SAMPLES]
    explain(x[:1], target[:1])  # the first call loads what it needs
    with meter.phase("rival", evaluator.task.model) as asked:
        explain(x, target)
    training, own = (evaluation.meter.phases[phase] for phase in ("prepare", "attribute"))
    count = len(evaluation.samples)
    seconds, rows = asked.seconds / len(x), (asked.forwards + asked.backwards) / len(x)
    return {
        "rival": RIVAL,
        "rival ms": 1000 * seconds,
        "rival rows": rows,
        "samples": _even(training.seconds, own.seconds / count, seconds),
        "samples by rows": _even(training.forwards + training.backwards, (own.forwards + own.backwards) / count, rows),
    }


def _even(training: float, own: float, rival: float) -> int | None:
    return math.ceil(training / (rival - own)) if own < rival else None
