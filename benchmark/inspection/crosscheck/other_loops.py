"""Metrics beyond the ten by plain loops, as in loops.py: each beside the formula on its card."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from benchmark.core.types import Attribute
from benchmark.inspection.crosscheck.loops import Features, Sample, mean


def sufficiency(sample: Sample) -> float:
    """SUFF."""
    drops = []
    for share in (0.01, 0.05, 0.1, 0.2, 0.5):
        number = max(1, round(share * len(sample.features)))
        drops.append(sample.v0 - sample.v(sample.order[number:]))
    return mean(drops)


def probabilities(sample: Sample, removed: Features) -> list[float]:
    """Return the probabilities of all classes with some features replaced."""
    logits = sample.logits(removed)
    exps = [math.exp(value - max(logits)) for value in logits]
    return [exp / sum(exps) for exp in exps]


def divergence(sample: Sample) -> float:
    """KL."""
    before = probabilities(sample, [])
    values = []
    for k in range(1, sample.steps + 1):
        after = probabilities(sample, sample.most_relevant(k))
        values.append(sum(p * math.log(p / q) for p, q in zip(before, after, strict=True)))
    return mean(values)


def sensitivity(explain: Attribute, x: Tensor, target: Tensor, noise: Sequence[Tensor]) -> float:
    """SENS of one input x (1, ...), from noise (1, ...) in [-1, 1) that the caller passes in, one a draw."""
    s = explain(x, target)[0].tolist()
    norm = math.sqrt(sum(value**2 for value in s))
    largest = 0.0
    for each in noise:
        moved = explain(x + 0.02 * each, target)[0].tolist()
        largest = max(largest, math.sqrt(sum((a - b) ** 2 for a, b in zip(moved, s, strict=True))))
    return largest / norm if norm else largest


OTHERS: dict[str, Callable[[Sample], float]] = {"KL": divergence, "SUFF": sufficiency}
"""Those of removal sets."""
ASKING = {"SENS": sensitivity}
"""Those that ask the explainer."""
