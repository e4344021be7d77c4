"""A slow, obvious twin of every metric: one sample, one removal set, one formula at a time.

Nothing here is shared with the fast code but the task itself and, for FC and INF, the subsets, which the caller
passes in.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from scipy import stats


class Sample:
    """One input of a task with its attribution: what the formulas ask about."""

    def __init__(self, task, x, attribution, features):
        self.task, self.x, self.features = task, x, features
        self.s = [float(value) for value in attribution]
        self.order = sorted(features, key=lambda i: -self.s[i])
        self.steps = min(task.budget.steps, len(features))
        bounds = [round(k * len(features) / self.steps) for k in range(self.steps + 1)]
        self.groups = [self.order[a:b] for a, b in pairwise(bounds)]
        whole = self._probabilities(x)
        self.target = int(np.argmax(whole))
        self.v0 = whole[self.target]

    def _probabilities(self, x):
        with torch.no_grad():
            logits = self.task.model(x.unsqueeze(0))[0].tolist()
        top = max(logits)
        exps = [math.exp(value - top) for value in logits]
        return [value / sum(exps) for value in exps]

    def without(self, removed, kind="removal"):
        """Return all class probabilities with the features in `removed` replaced."""
        mask = torch.zeros(1, self.task.n_features, dtype=torch.bool)
        for feature in removed:
            mask[0, feature] = True
        return self._probabilities(self.task.remove(self.x.unsqueeze(0), mask, kind)[0])

    def v(self, removed, kind="removal"):
        return self.without(removed, kind)[self.target]

    def mass(self, features):
        return sum(self.s[i] for i in features)

    def most_relevant(self, k):
        return [i for group in self.groups[:k] for i in group]

    def least_relevant(self, k):
        return [i for group in self.groups[self.steps - k :] for i in group]

    def until_flip(self, removed_at):
        """Return v_1..v_t; t is the first k with another predicted class."""
        curve = []
        for k in range(1, self.steps + 1):
            p = self.without(removed_at(k))
            curve.append(p[self.target])
            if int(np.argmax(p)) != self.target:
                break
        return curve

    def pearson(self, masses, drops):
        return self._correlate(masses, drops, lambda a, b: stats.pearsonr(a, b).statistic)

    def spearman(self, masses, drops):
        return self._correlate(masses, drops, lambda a, b: stats.spearmanr(a, b).statistic)

    def _correlate(self, masses, responses, statistic):
        own = [self.s[i] for i in self.features]
        if flat(responses, 1.0):
            return math.nan
        if flat(own) or flat(masses):
            return 0.0
        return float(statistic(masses, responses))


def flat(values, floor=0.0):
    largest = max(floor, *(abs(value) for value in values)) if len(values) > 1 else math.inf
    return max(values) - min(values) <= 1e-12 * largest


def FC(sample, subsets):  # noqa: N802
    return sample.pearson([sample.mass(i) for i in subsets], [sample.v0 - sample.v(i) for i in subsets])


INF = FC


def FE(sample):  # noqa: N802
    return sample.pearson([sample.mass(g) for g in sample.groups], [sample.v0 - sample.v(g) for g in sample.groups])


def MC(sample):  # noqa: N802
    changes = [((sample.v0 - sample.v(g)) / sample.v0) ** 2 for g in sample.groups]
    return sample.spearman([abs(sample.mass(g)) for g in sample.groups], changes)


def DEL(sample):  # noqa: N802
    return np.mean([sample.v(sample.most_relevant(k)) for k in range(1, sample.steps + 1)])


def INS(sample):  # noqa: N802
    values = []
    for k in range(1, sample.steps + 1):
        there = set(sample.most_relevant(k))
        values.append(sample.v([i for i in sample.features if i not in there], "insertion"))
    return np.mean(values)


def NEG(sample):  # noqa: N802
    return np.mean(sample.until_flip(sample.least_relevant))


def POS(sample):  # noqa: N802
    return np.mean(sample.until_flip(sample.most_relevant))


def RP(sample):  # noqa: N802
    drops = [sample.v0 - sample.v(sample.most_relevant(k)) for k in range(sample.steps + 1)]
    return sum(drops) / (sample.steps + 1)


def IROF(sample):  # noqa: N802
    return np.mean([1 - sample.v(sample.most_relevant(k)) / sample.v0 for k in range(1, sample.steps + 1)])


ALONE = {"FE": FE, "MC": MC, "DEL": DEL, "INS": INS, "NEG": NEG, "POS": POS, "RP": RP, "IROF": IROF}
ON_SUBSETS = {"FC": (FC, "fixed"), "INF": (INF, "bernoulli")}


def all_scores(task, attributions, subsets):
    """Return {metric: [score of each sample]}; subsets[kind][sample] lists sets of feature numbers."""
    columns = {name: [] for name in [*ALONE, *ON_SUBSETS]}
    for row, (x, attribution) in enumerate(zip(task.test.x, attributions, strict=True)):
        features = [i for i, there in enumerate(task.removal.valid(x.unsqueeze(0))[0]) if there]
        sample = Sample(task, x, attribution, features)
        for name, metric in ALONE.items():
            columns[name].append(metric(sample))
        for name, (metric, kind) in ON_SUBSETS.items():
            columns[name].append(metric(sample, subsets[kind][row]))
    return columns


def splitmix64(seed, counter):
    """The generator as its authors print it, in Python's whole numbers."""
    full = 2**64 - 1
    z = (seed + (counter + 1) * 0x9E3779B97F4A7C15) & full
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & full
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & full
    z ^= z >> 31
    return z - 2**64 if z >> 63 else z
