"""The best scores that any explanation can reach on a table, exactly, from its value table of all 2^G removal sets.

Tests Proposition 1 and Theorem 1: is the map S* that correlates best with random removals also best for each metric?
Correlations are maximised by least squares, orders by dynamic programming over subsets.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmark.core.types import Budget
from benchmark.scoring.masked_model import Predictions
from benchmark.scoring.removal_sets import all_subsets

PERFECT = ("FE", "MC")
"""Metrics that single removals maximise: with one column a step the effects themselves correlate perfectly."""


def best_map(table: Predictions, weights: Tensor) -> Tensor:
    """Return the attributions (B, G) whose removed mass correlates best with the drops.

    weights (2^G,): how often each removal set is drawn. Weighted least squares on the sets' members, which maximises
    Pearson's r.
    """
    features = int(math.log2(table.prob.shape[1]))
    members = all_subsets(features, table.prob.device).double()
    weights = weights / weights.sum()
    drops = table.prob[:, :1] - table.prob
    centred = members - weights @ members
    drops = drops - (drops @ weights).unsqueeze(1)
    gram = centred.T @ (weights.unsqueeze(1) * centred)
    return (torch.linalg.pinv(gram, hermitian=True) @ ((drops * weights) @ centred).T).T


def bernoulli(features: int, share: float) -> Tensor:
    """Return how often each removal set is drawn where every feature is removed with probability `share`, (2^G,)."""
    size = all_subsets(features).sum(1).double()
    return share**size * (1 - share) ** (features - size)


def of_size(features: int, size: int) -> Tensor:
    """Return equal weights on all removal sets of one size, (2^G,)."""
    return (all_subsets(features).sum(1) == size).double()


def optimum(table: Predictions, budget: Budget) -> dict[str, Tensor]:
    """Return the best score (B,) that any attribution can have in each of the ten metrics.

    table: value table (B, 2^G) whose class is the predicted one; one column a step, one baseline.
    """
    features = int(math.log2(table.prob.shape[1]))
    size = max(budget.subset_minimum, round(budget.subset_fraction * features))
    clean = table.prob[:, 0]
    drops = table.prob[:, :1] - table.prob
    constant = drops.abs().amax(1) == 0
    best = {
        "FC": _best_correlation(table, of_size(features, min(size, features))),
        "INF": _best_correlation(table, bernoulli(features, 0.5)),
    }
    for name in PERFECT:
        best[name] = torch.ones_like(clean).masked_fill(constant, float("nan"))
    deletion = best_path(table.prob, lowest=True)
    insertion = best_path(table.prob.flip(1), lowest=False)  # flipped: what is removed is what is not yet inserted
    best["DEL"], best["INS"] = deletion / features, insertion / features
    best["RP"] = (features * clean - deletion) / (features + 1)
    best["IROF"] = 1 - best["DEL"] / clean
    best["POS"] = best_path_until_flip(table, lowest=True)
    best["NEG"] = best_path_until_flip(table, lowest=False)
    return best


def _best_correlation(table: Predictions, weights: Tensor) -> Tensor:
    """Return the largest Pearson's r (B,) between removed mass and drops, under `weights` of the removal sets."""
    features = int(math.log2(table.prob.shape[1]))
    members = all_subsets(features, table.prob.device).double()
    weights = weights / weights.sum()
    mass = best_map(table, weights) @ members.T
    drops = table.prob[:, :1] - table.prob
    mass, drops = mass - (mass @ weights).unsqueeze(1), drops - (drops @ weights).unsqueeze(1)
    spread = ((mass**2 @ weights) * (drops**2 @ weights)).sqrt()
    return (mass * drops) @ weights / spread.masked_fill(spread == 0, float("nan"))


def best_path(values: Tensor, lowest: bool) -> Tensor:
    """Return the least (or greatest) sum of values (B, 2^G) along a path that adds one feature at a time, (B,).

    The empty set does not count, the full set does: Held and Karp's recursion over subsets.
    """
    features = int(math.log2(values.shape[1]))
    sign = 1.0 if lowest else -1.0
    total = torch.zeros_like(values)
    for code in range(1, values.shape[1]):
        before = [code ^ (1 << bit) for bit in range(features) if code >> bit & 1]
        total[:, code] = sign * values[:, code] + total[:, before].amin(1)
    return sign * total[:, -1]


def best_path_until_flip(table: Predictions, lowest: bool) -> Tensor:
    """Return the least (or greatest) mean of v along a path up to its first change of class, (B,)."""
    features = int(math.log2(table.prob.shape[1]))
    sign = 1.0 if lowest else -1.0
    never = float("inf")
    total = torch.full_like(table.prob, never)
    total[:, 0] = 0.0
    best = torch.full_like(table.prob[:, 0], never)
    for code in range(1, table.prob.shape[1]):
        before = torch.tensor([code ^ (1 << bit) for bit in range(features) if code >> bit & 1])
        going_on = total[:, before].masked_fill(
            ~table.same_class[:, before], never
        )  # a path ends where the class changes
        total[:, code] = sign * table.prob[:, code] + going_on.amin(1)
        ends = (
            ~table.same_class[:, code]
            if code != table.prob.shape[1] - 1
            else torch.ones_like(table.same_class[:, code])
        )
        mean = total[:, code] / int(code).bit_count()
        best = torch.minimum(best, mean.masked_fill(~ends, never))
    return sign * best
