"""Every metric by plain loops: one sample, one removal set, one formula at a time.

Nothing is shared with the fast code but the task itself and, for FC and INF, the subsets, which the caller passes in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from benchmark.core.types import Baseline, Task

Features = Sequence[int]
"""Numbers of features."""


class Sample:
    """One input of a task with its attribution (G,): what the formulas ask about. Padding is no feature.

    `target` is the class explained; None for the one that the model predicts.
    """

    def __init__(self, task: Task, x: Tensor, attribution: Tensor, target: int | None = None) -> None:
        self.task, self.x = task, x
        self.features = [i for i, inserted in enumerate(task.removal.valid(x.unsqueeze(0))[0]) if inserted]
        self.s = [float(value) for value in attribution]
        self.order = sorted(self.features, key=lambda i: -self.s[i])
        self.steps = min(task.budget.steps, len(self.features))
        bounds = [round(k * len(self.features) / self.steps) for k in range(self.steps + 1)]
        self.groups = [self.order[a:b] for a, b in pairwise(bounds)]
        self.answers: dict[tuple[frozenset[int], Baseline], list[float]] = {}
        whole = self.logits([])
        self.predicted = whole.index(max(whole))
        self.target = self.predicted if target is None else target
        self.v0 = self.v([])

    def logits(self, removed: Features, kind: Baseline = "removal") -> list[float]:
        """Return the model's logits with the features in `removed` replaced."""
        key = frozenset(removed), kind
        if key not in self.answers:
            mask = torch.zeros(1, self.task.n_features, dtype=torch.bool)
            for feature in removed:
                mask[0, feature] = True
            with torch.no_grad():
                self.answers[key] = self.task.model(self.task.remove(self.x.unsqueeze(0), mask, kind))[0].tolist()
        return self.answers[key]

    def v(self, removed: Features, kind: Baseline = "removal") -> float:
        """Return the target's probability with the features in `removed` replaced."""
        logits = self.logits(removed, kind)
        top = max(logits)
        exps = [math.exp(value - top) for value in logits]
        return exps[self.target] / sum(exps)

    def same_class(self, removed: Features) -> bool:
        """Tell whether no class has a higher logit than the one predicted at first: a tie is no change of class."""
        logits = self.logits(removed)
        return logits[self.predicted] == max(logits)

    def mass(self, features: Features) -> float:
        """Return the attribution of some features together."""
        return sum(self.s[i] for i in features)

    def most_relevant(self, k: int) -> Features:
        """Return the features of the first k groups."""
        return [i for group in self.groups[:k] for i in group]

    def least_relevant(self, k: int) -> Features:
        """Return the features of the last k groups."""
        return [i for group in self.groups[self.steps - k :] for i in group]

    def curve(self, removed_at: Callable[[int], Features]) -> list[float]:
        """Return v_1..v_K."""
        return [self.v(removed_at(k)) for k in range(1, self.steps + 1)]

    def until_flip(self, removed_at: Callable[[int], Features]) -> list[float]:
        """Return v_1..v_t; t is the first k with another predicted class, or K."""
        curve = []
        for k in range(1, self.steps + 1):
            curve.append(self.v(removed_at(k)))
            if not self.same_class(removed_at(k)):
                break
        return curve

    def correlate(
        self, statistic: Callable[..., Any], sets: Sequence[Features],
        strength: Callable[[float], float], effects_of: Callable[[list[float]], list[float]],
    ) -> float:  # fmt: skip
        """Return the correlation of the strengths of removed masses with the effects of the answers v.

        It is NaN where the answers or their effects are constant, else 0 where the attribution or what is removed of it
        is.
        """
        answers, masses = [self.v(removed) for removed in sets], [strength(self.mass(removed)) for removed in sets]
        effects = effects_of(answers)
        if flat(answers, 1.0) or flat(effects):
            return math.nan
        if flat([self.s[i] for i in self.features]) or flat(masses):
            return 0.0
        return float(statistic(masses, effects).statistic)


def flat(values: list[float], floor: float = 0.0) -> bool:
    """Tell whether values are one value seen through rounding."""
    if len(values) < 2:
        return True
    return max(values) - min(values) <= 1e-12 * max(floor, *map(abs, values))


def mean(values: Iterable[float]) -> float:
    """Return the mean."""
    values = list(values)
    return sum(values) / len(values)


def on_subsets(sample: Sample, subsets: Sequence[Features]) -> float:
    """FC and INF, each on its own subsets; FE on the groups."""
    return sample.correlate(stats.pearsonr, subsets, float, lambda answers: [sample.v0 - v for v in answers])


def fe(sample: Sample) -> float:
    """FE."""
    return on_subsets(sample, sample.groups)


def mc(sample: Sample) -> float:
    """MC."""
    return sample.correlate(stats.spearmanr, sample.groups, abs, lambda answers: places(sample.v0, answers))


def places(v0: float, answers: Sequence[float]) -> list[float]:
    """Return the place of each answer's effect |v0 - v|, from 0; those that rounding may tell apart share it.

    The squares of shares of v0 have the same order.
    """

    def spread(v: float) -> float:
        return v * (1 - v)

    found = [0.0] * len(answers)
    order = sorted(range(len(answers)), key=lambda i: abs(v0 - answers[i]))
    for below, i in pairwise(order):
        gap = abs(v0 - answers[i]) - abs(v0 - answers[below])
        found[i] = found[below] + (gap > 1e-5 * max(map(spread, (v0, answers[i], answers[below]))))
    return found


def deletion(sample: Sample) -> float:
    """DEL."""
    return mean(sample.curve(sample.most_relevant))


def insertion(sample: Sample) -> float:
    """INS."""
    values = []
    for k in range(1, sample.steps + 1):
        inserted = set(sample.most_relevant(k))
        values.append(sample.v([i for i in sample.features if i not in inserted], "insertion"))
    return mean(values)


def negative(sample: Sample) -> float:
    """NEG."""
    return mean(sample.until_flip(sample.least_relevant))


def positive(sample: Sample) -> float:
    """POS."""
    return mean(sample.until_flip(sample.most_relevant))


def region(sample: Sample) -> float:
    """RP."""
    return sum(sample.v0 - sample.v(sample.most_relevant(k)) for k in range(sample.steps + 1)) / (sample.steps + 1)


def irof(sample: Sample) -> float:
    """IROF."""
    return mean(1 - v / sample.v0 for v in sample.curve(sample.most_relevant))


ALONE: dict[str, Callable[[Sample], float]] = {
    "FE": fe, "MC": mc, "DEL": deletion, "INS": insertion, "NEG": negative, "POS": positive, "RP": region, "IROF": irof,
}  # fmt: skip
ON_SUBSETS = {"FC": "fixed", "INF": "bernoulli"}
"""The kind of subsets of each metric that has any: said here again, so that a wrong probe in our table is noticed."""


def all_scores(
    task: Task, x: Tensor, attributions: Tensor, subsets: dict[str, list[list[list[int]]]],
    others: Mapping[str, Callable[[Sample], float]] = MappingProxyType({}), targets: Sequence[int] | None = None,
) -> dict[str, list[float]]:  # fmt: skip
    """Return {metric: score of each sample} for inputs x (N, ...) of a task and their attributions (N, G).

    `subsets[kind][sample]` lists sets of feature numbers; `others` are metrics beyond the ten; `targets` are the
    classes explained, None: those predicted.
    """
    alone = ALONE | dict(others)
    columns: dict[str, list[float]] = {name: [] for name in [*alone, *ON_SUBSETS]}
    for row, (row_x, attribution) in enumerate(zip(x, attributions, strict=True)):
        sample = Sample(task, row_x, attribution, None if targets is None else targets[row])
        for name, metric in alone.items():
            columns[name].append(metric(sample))
        for name, kind in ON_SUBSETS.items():
            columns[name].append(on_subsets(sample, subsets[kind][row]))
    return columns
