"""Uncertainty of ranks by resampling seeds, models, samples and tasks, the same ones for every method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leaderboards.score_array import DIGITS, ScoreArray, better_first, mean_over

DRAWS = 1000
LEVEL = 0.975
"""In what share of the draws one method is better than another to count as better.

The 95 % interval of their difference then leaves out 0.
"""


def resampled(array: ScoreArray, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Return mean scores (draws, M, K) on resampled seeds, models and samples, the same ones for all methods.

    Each draw takes as many seeds as there are, with replacement, and for all of them the same test rows, as many as
    there are, with replacement; where there are several models, as many of these, too, each with all rows drawn. NaN
    where nothing that was drawn has a score.
    """
    rng = np.random.default_rng(seed)
    methods, seeds, metrics, samples = array.scores.shape
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), draws)
    numbers, which_row = np.unique(array.samples, return_inverse=True)
    of_samples = rng.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), draws)[:, which_row]
    models, which_model = np.unique(array.models, return_inverse=True)
    if len(models) > 1:
        of_samples *= rng.multinomial(len(models), np.full(len(models), 1 / len(models)), draws)[:, which_model]
    weights = (of_seeds[:, :, None] * of_samples[:, None, :]).reshape(draws, -1).astype(float)
    rows = array.scores.transpose(1, 3, 0, 2).reshape(seeds * samples, methods * metrics)
    finite = np.isfinite(rows)
    totals, counts = weights @ np.where(finite, rows, 0.0), weights @ finite
    means = np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
    return means.reshape(draws, methods, metrics)


@dataclass(frozen=True, eq=False)
class RankUncertainty:
    """How sure the mean ranks of M methods are.

    Attributes:
        ranks: resampled mean ranks, (draws, M).
        low: lower ends (M,) of the 95 % intervals of the mean ranks.
        high: upper ends (M,) of them.
        best: share (M,) of the draws in which a method has the best mean rank, 0 to 1.
        group: (M,), 1 for those that cannot be told from the first, 2 for those that cannot be told from the first of
            the rest, and so on.
    """

    ranks: np.ndarray
    low: np.ndarray
    high: np.ndarray
    best: np.ndarray
    group: np.ndarray


def rank_uncertainty(means: np.ndarray, higher: np.ndarray, observed: np.ndarray) -> RankUncertainty:
    """Return how sure observed mean ranks are.

    In each metric a method's rank may be as good as 1 + the number of methods that are better in at least 97.5 % of the
    draws, and as bad as M - the number of those that are worse in as many; `low` and `high` are the means of these
    ends over the metrics. Percentiles of resampled ranks would be too narrow where methods are close: resampling adds
    noise, and noise draws ranks together. Source: the idea of Mogstad, Romano, Shaikh and Wilhelm 2024, confidence
    sets for ranks from differences of means, here for each pair on its own.

    Args:
        means: resampled mean scores, (draws, M, K).
        higher: whether higher is better, (K,).
        observed: observed mean ranks, (M,).
    """
    scores = np.round(np.where(higher, means, -means), DIGITS)
    with np.errstate(invalid="ignore"):
        better = np.stack(
            [(of_method[:, None] > scores).mean(0) >= LEVEL for of_method in scores.transpose(1, 0, 2)]
        )  # (M, M, K)
    known = np.isfinite(scores).any(0)
    count = known.sum(0)
    low = np.where(known, 1 + better.sum(0), np.nan)
    high = np.where(known, count - better.sum(1), np.nan)
    ranks = mean_over(better_first(means, higher, 1), 2)
    return RankUncertainty(
        ranks, mean_over(low, 1), mean_over(high, 1), chance_to_be_best(ranks), groups(ranks, observed)
    )


def chance_to_be_best(ranks: np.ndarray) -> np.ndarray:
    """Return the share (M,) of draws in which a method has the best of the ranks (draws, M); ties share theirs.

    A draw in which nobody has a rank, of undefined samples alone, does not count; NaN where there is no other.
    """
    ranks = ranks[np.isfinite(ranks).any(1)]
    if not len(ranks):
        return np.full(ranks.shape[1], np.nan)
    top = ranks == np.nanmin(ranks, axis=1, keepdims=True)
    return (top / top.sum(1, keepdims=True)).mean(0)


def groups(ranks: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return the group (M,) of each method, from 1, by resampled ranks (draws, M) and observed ones (M,).

    A group begins with the best method that has none yet; the methods after it join until one is worse than that
    first one in at least 97.5 % of the draws.
    """
    group = np.zeros(len(observed), int)
    first = -1
    for method in np.lexsort((np.arange(len(observed)), observed)):
        if first < 0 or (ranks[:, method] > ranks[:, first]).mean() >= LEVEL:
            first, group[method] = method, group.max() + 1
        else:
            group[method] = group.max()
    return group


def across_tasks(ranks: list[np.ndarray], seed: int = 0) -> np.ndarray:
    """Return mean ranks (draws, M) over resampled tasks; `ranks` has each task's (draws, M), methods in one order."""
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(ranks), np.full(len(ranks), 1 / len(ranks)), len(ranks[0])) / len(ranks)
    return np.einsum("bt,tbm->bm", weights, np.stack(ranks))
