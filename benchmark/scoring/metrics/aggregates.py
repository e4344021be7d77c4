"""What makes a score of effects and masses: aggregates, along the last axis of (methods, samples, removal sets)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmark.scoring.metrics.response import CONSTANT_ATTRIBUTION, CONSTANT_RESPONSE, Response, Scores, required
from benchmark.statistics.correlation import is_constant, pearson, spearman

if TYPE_CHECKING:
    from torch import Tensor


def mean(values: Tensor, r: Response) -> Scores:
    """Score by the mean over k = 1..K of effects (M, B, K)."""
    if r.exists is None:
        return _unflagged(values.mean(-1))
    return _unflagged((values * r.exists).sum(-1) / r.exists.sum(-1))


def mean_with_start(values: Tensor, r: Response) -> Scores:
    """Score by the sum over k = 0..K of effects, divided by K + 1; the effect of k = 0, nothing removed, is 0."""
    if r.exists is None:
        return _unflagged(values.sum(-1) / (values.shape[-1] + 1))
    return _unflagged((values * r.exists).sum(-1) / (r.exists.sum(-1) + 1))


def mean_until_flip(values: Tensor, r: Response) -> Scores:
    """Score by the mean over k = 1..t of effects; t is the first k at which another class is predicted, or K."""
    flips = ~r.same_class if r.exists is None else ~r.same_class & r.exists
    until = (flips.cumsum(-1) - flips.long()) == 0  # no flip before k: the first one itself counts
    until = until if r.exists is None else until & r.exists
    return _unflagged((values * until).sum(-1) / until.sum(-1))


def correlation(values: Tensor, r: Response) -> Scores:
    """Score by Pearson's r between the removed mass and the effects."""
    return _correlation(pearson, mass_of(r), values, r)


def absolute_rank_correlation(values: Tensor, r: Response) -> Scores:
    """Score by Spearman's rho, mid-ranks for ties, between the absolute removed mass and the effects.

    Where all effects are equal it is undefined as where all predictions are: 0.6 - 0.5 and 0.7 - 0.6, say.
    """
    r = replace(r, constant_response=_required(r.constant_response) | is_constant(values, r.exists))
    return _correlation(spearman, mass_of(r).abs(), values, r)


def mass_of(r: Response) -> Tensor:
    """Return the mass of each removal set.

    Raises:
        ValueError: the probe has none.
    """
    return _required(r.mass)


def _required(part: Tensor | None) -> Tensor:
    return required(part, "mass: a correlation with the attribution needs a probe that has one")


def _correlation(statistic: Callable[..., Tensor], mass: Tensor, values: Tensor, r: Response) -> Scores:
    return flagged(statistic(mass, values, r.exists), is_constant(mass, r.exists), r)


def flagged(scores: Tensor, constant_mass: Tensor, r: Response) -> Scores:
    """Return correlations with what is undefined about them.

    Where the response is constant, a correlation is NaN; else, where the attribution or the mass is, it is 0.

    Args:
        scores: correlations (M, B).
        constant_mass: whether all removal sets have one mass, (M, B) bool.
        r: the response.
    """
    undefined = _required(r.constant_response)
    zero = (_required(r.constant_attribution) | constant_mass) & ~undefined
    scores, reasons = _unflagged(scores)
    scores = scores.masked_fill(zero, 0.0).masked_fill(undefined, float("nan"))
    return scores, reasons.masked_fill(zero, CONSTANT_ATTRIBUTION).masked_fill(undefined, CONSTANT_RESPONSE)


def _unflagged(scores: Tensor) -> Scores:
    return scores, scores.new_zeros(scores.shape).char()
