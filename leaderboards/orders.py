"""Other ways to order a board, and parts of it that may be ranked alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from benchmark.records.record import Record
from leaderboards.rank import Ranking
from leaderboards.score_array import better_first


def mean_ranks(ranking: Ranking) -> dict[str, float]:
    """Return what a board orders methods by."""
    return {row.method: row.mean_rank for row in ranking.board.rows}


def family_ranks(ranking: Ranking) -> dict[str, float]:
    """Return mean ranks in which a family of metrics counts once."""
    return {row.method: row.family_rank for row in ranking.board.rows}


def sample_ranks(ranking: Ranking) -> dict[str, float]:
    """Return means of the ranks on each sample."""
    return {row.method: row.sample_rank for row in ranking.board.rows}


def median_ranks(ranking: Ranking) -> dict[str, float]:
    """Return medians over the metrics of the rank in each."""
    return _by_method(ranking, np.nanmedian(ranking.scores.ranks, axis=1))


def shared_best(ranking: Ranking) -> dict[str, float]:
    """Return mean ranks in which methods of equal means all have the best of the ranks that they share."""
    ranks = ranking.scores.ranks
    ties = (ranks[:, None] == ranks).sum(1)  # of each method in each metric, itself included
    return _by_method(ranking, np.nanmean(ranks - (ties - 1) / 2, axis=1))


def scaled_means(ranking: Ranking) -> dict[str, float]:
    """Return mean scores laid between the best, 1, and the worst, the number of methods, averaged over the metrics."""
    scores = ranking.scores
    means = np.where(scores.higher, -scores.means, scores.means)
    best, span = np.nanmin(means, 0), np.ptp(means, 0)
    places = np.where(span > 0, (means - best) / np.where(span > 0, span, 1), 0.5)
    return _by_method(ranking, 1 + (len(means) - 1) * np.nanmean(places, axis=1))


def _by_method(ranking: Ranking, values: np.ndarray) -> dict[str, float]:
    return dict(zip(ranking.scores.methods, values.tolist(), strict=True))


def without_kinds(kinds: Collection[str], ranking: Ranking) -> set[str]:
    """Return the methods of a board that are of none of these kinds."""
    return {row.method for row in ranking.board.rows if row.kind not in kinds}


def without_copies(ranking: Ranking) -> set[str]:
    """Return the methods of a board without those whose mean scores all are another's that stands before them."""
    ranks, kept = better_first(ranking.scores.means, ranking.scores.higher, 0), dict[tuple[float, ...], str]()
    for method, of_method in zip(ranking.scores.methods, ranks.tolist(), strict=True):
        kept.setdefault(tuple(of_method), method)
    return set(kept.values())


def first_half(record: Record) -> Record:
    """Return a record with the first half of its samples, one at least."""
    half = np.unique(record.scores["sample"])[: -(-record.n_total // 2)]
    return replace(record, n_total=len(half), scores=record.scores[record.scores["sample"].isin(half)])
