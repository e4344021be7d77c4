"""The ten faithfulness metrics as one table: probe x effect x aggregate, direction, source.

v_I is the target's probability with the features of I removed, v_0 with none removed; c is the class predicted
on the whole input. Everything is computed for each sample on its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.core.selection import select_labels
from benchmark.statistics.correlation import is_constant, pearson, spearman

if TYPE_CHECKING:
    from torch import Tensor

EPS = 1e-12
"""Floor of the clean probability where a metric divides by it."""

OK, CONSTANT_ATTRIBUTION, CONSTANT_RESPONSE, NON_FINITE, MODEL_NON_FINITE = range(5)  # joined by their maximum
REASONS = {
    CONSTANT_ATTRIBUTION: "constant attribution: correlation set to 0",
    CONSTANT_RESPONSE: "constant response of the model: correlation undefined",
    NON_FINITE: "the attribution is not finite",
    MODEL_NON_FINITE: "the model's answer is not finite",
}
"""Why a score is flagged. Only the first kind of flagged score is valid."""


@dataclass(frozen=True)
class Probe:
    """Which features are removed together: equal probes are asked once.

    kind: `morf` (cumulative, most relevant first), `lerf` (least relevant first), `insert` (most relevant first
    put back into the insertion baseline), `groups` (each step's group alone), `fixed` (random subsets of one
    size) or `bernoulli` (each feature removed with probability 1/2).
    """

    kind: str


@dataclass(frozen=True, eq=False)
class Response:
    """What the model answered to one probe. M methods, B samples, S removal sets a sample.

    prob (M, B, S) float64: the target's probability; same_class (M, B, S) bool: the predicted class is still the
    target; mass (M, B, S) float64: attribution summed over what was removed; exists (M, B, S) bool: False where a
    sample has fewer sets than its neighbours, or None where none has; clean (B,): v_0; constant_attribution (M, B)
    bool; constant_response (M, B) bool: v is the same for all sets. Where no method changes the sets, prob, same_class
    and constant_response have no M. What a metric has no use for may be empty.
    """

    prob: Tensor
    same_class: Tensor
    mass: Tensor
    exists: Tensor | None
    clean: Tensor
    constant_attribution: Tensor
    constant_response: Tensor


Scores = tuple["Tensor", "Tensor"]
"""Scores (M, B) float64 and their reason codes (M, B) int8."""


def probability(r: Response) -> Tensor:
    """v: the target's probability after each removal."""
    return r.prob


def drop(r: Response) -> Tensor:
    """v_0 - v."""
    return r.clean.unsqueeze(-1) - r.prob


def squared_relative_change(r: Response) -> Tensor:
    """((v_0 - v) / v_0)^2."""
    return (drop(r) / r.clean.clamp(min=EPS).unsqueeze(-1)) ** 2


def share_lost(r: Response) -> Tensor:
    """1 - v / v_0."""
    return 1 - r.prob / r.clean.clamp(min=EPS).unsqueeze(-1)


def mean(values: Tensor, r: Response) -> Scores:
    """Mean over k = 1..K."""
    if r.exists is None:
        return _unflagged(values.mean(-1))
    return _unflagged((values * r.exists).sum(-1) / r.exists.sum(-1))


def mean_with_start(values: Tensor, r: Response) -> Scores:
    """Sum over k = 0..K divided by K + 1; the term of k = 0 is 0."""
    if r.exists is None:
        return _unflagged(values.sum(-1) / (values.shape[-1] + 1))
    return _unflagged((values * r.exists).sum(-1) / (r.exists.sum(-1) + 1))


def mean_until_flip(values: Tensor, r: Response) -> Scores:
    """Mean over k = 1..t; t is the first k at which another class is predicted, or K."""
    flips = ~r.same_class if r.exists is None else ~r.same_class & r.exists
    until = (flips.cumsum(-1) - flips.long()) == 0
    until = until if r.exists is None else until & r.exists
    return _unflagged((values * until).sum(-1) / until.sum(-1))


def correlation(values: Tensor, r: Response) -> Scores:
    """Pearson's r between the removed mass and the values."""
    return _correlation(pearson, r.mass, values, r)


def absolute_rank_correlation(values: Tensor, r: Response) -> Scores:
    """Spearman's rho, mid-ranks for ties, between the absolute removed mass and the values."""
    return _correlation(spearman, r.mass.abs(), values, r)


def _correlation(statistic: Callable[..., Tensor], mass: Tensor, values: Tensor, r: Response) -> Scores:
    return flagged(statistic(mass, values, r.exists), is_constant(mass, r.exists), r)


def flagged(scores: Tensor, constant_mass: Tensor, r: Response) -> Scores:
    """Return correlations (M, B) with what is undefined about them; `constant_mass` (M, B)."""
    undefined = r.constant_response
    zero = (r.constant_attribution | constant_mass) & ~undefined
    scores, reasons = _unflagged(scores)
    scores = scores.masked_fill(zero, 0.0).masked_fill(undefined, float("nan"))
    return scores, reasons.masked_fill(zero, CONSTANT_ATTRIBUTION).masked_fill(undefined, CONSTANT_RESPONSE)


def _unflagged(scores: Tensor) -> Scores:
    return scores, scores.new_zeros(scores.shape).char()


@dataclass(frozen=True)
class Metric:
    """One row of the table.

    `family` names metrics that are nearly functions of one another. `linear`: the aggregate is Pearson's r with the
    summed attribution, which can be taken from covariances of features where sets are random.
    """

    name: str
    title: str
    probe: Probe
    effect: Callable[[Response], Tensor]
    aggregate: Callable[[Tensor, Response], Scores]
    higher_is_better: bool
    low: float
    high: float
    family: str
    formula: str
    meaning: str
    blind_to: str
    redundancy: str
    source: str
    linear: bool = False
    version: int = 1

    def score(self, response: Response) -> Scores:
        """Return the scores (M, B) of this metric and their reason codes."""
        return self.aggregate(self.effect(response), response)


MORF, LERF, INSERT = Probe("morf"), Probe("lerf"), Probe("insert")
GROUPS, FIXED, BERNOULLI = Probe("groups"), Probe("fixed"), Probe("bernoulli")
INF_ = float("inf")

_ROWS = (
    Metric(
        "FC", "Faithfulness correlation", FIXED, drop, correlation, True, -1, 1, "FC",
        "Pearson over R random subsets I of fixed size m of (sum of s over I, v_0 - v_I)",
        "Does the attribution of a random handful of features predict what removing them costs?",
        "Features whose removal alone changes nothing; on tables subsets are small, so interactions of many features.",
        "Close to INF where the subsets are large.",
        "Bhatt et al. 2020, eq. 4; probabilities instead of logits; all subsets where their number is small",
        linear=True,
    ),
    Metric(
        "FE", "Faithfulness estimate", GROUPS, drop, correlation, True, -1, 1, "FE",
        "Pearson over the K groups of (sum of s over the group, v_0 - v without it)",
        "Do features matter one step at a time as much as they are said to?",
        "Interactions: each group goes alone, so two copies of one signal both look useless.",
        "Shares its removals with MC.",
        "Alvarez-Melis and Jaakkola 2018, section 4; probabilities",
    ),
    Metric(
        "MC", "Monotonicity correlation", GROUPS, squared_relative_change, absolute_rank_correlation,
        True, -1, 1, "MC",
        "Spearman with mid-ranks over the K groups of (|sum of s over the group|, ((v_0 - v) / v_0)^2)",
        "Does the strength of an attribution order features by the size of their effect?",
        "Sign: it takes absolute mass, so an attribution and its negation score alike. Interactions, as FE.",
        "Shares its removals with FE.",
        "Nguyen and Martinez 2020, section 3.2; per sample, one removal baseline instead of random draws",
    ),
    Metric(
        "INF", "Infidelity (correlation form)", BERNOULLI, drop, correlation, True, -1, 1, "INF",
        "Pearson over R subsets I, each feature in I with probability 1/2, of (sum of s over I, v_0 - v_I)",
        "Does the attribution of half of the input predict what removing that half costs?",
        "Features that matter only when nearly all others are there or gone: half of the input is always missing.",
        "Close to FC.",
        "Yeh et al. 2019, eq. 1, with Pearson's r in place of the squared error so that scale cannot matter",
        linear=True,
    ),
    Metric(
        "DEL", "Deletion", MORF, probability, mean, False, 0, 1, "deletion",
        "mean over k = 1..K of v_k, most relevant removed first",
        "How quickly does the prediction fall when the most relevant features go first?",
        "The order within a step, all values beyond their order, and what happens among the least relevant features.",
        "Ranks methods on a sample exactly as RP and IROF do.",
        "Petsiuk et al. 2018, section 3.2; the integral of a step function is this mean",
    ),
    Metric(
        "INS", "Insertion", INSERT, probability, mean, True, 0, 1, "insertion",
        "mean over k = 1..K of v with only the k most relevant groups put into the insertion baseline",
        "How quickly does the prediction return when the most relevant features come first?",
        "As DEL; with few classes a baseline that already predicts the target leaves little to gain.",
        "Nearly NEG without the cut, where both baselines are the same.",
        "Petsiuk et al. 2018, section 3.2",
    ),
    Metric(
        "NEG", "Negative perturbation", LERF, probability, mean_until_flip, True, 0, 1, "insertion",
        "mean over k = 1..t of v_k, least relevant removed first, t = first k with another class predicted",
        "Does the prediction hold while the least relevant features go?",
        "Everything after the first change of class: an early change is not punished, its mean may even be high.",
        "Nearly INS, where no class changes and both baselines are the same.",
        "Chefer et al. 2021, section 4; curve cut at the first change of class",
    ),
    Metric(
        "POS", "Positive perturbation", MORF, probability, mean_until_flip, False, 0, 1, "POS",
        "mean over k = 1..t of v_k, most relevant removed first, t = first k with another class predicted",
        "How low does the prediction go before it changes when the most relevant features go first?",
        "Everything after the first change of class, so how completely the prediction collapses.",
        "DEL where no class changes.",
        "Chefer et al. 2021, section 4; curve cut at the first change of class",
    ),
    Metric(
        "RP", "Region perturbation", MORF, drop, mean_with_start, True, -1, 1, "deletion",
        "sum over k = 0..K of (v_0 - v_k), divided by K + 1, most relevant removed first",
        "How much probability is lost, on average, along the way?",
        "As DEL: for one sample it is K / (K + 1) * (v_0 - DEL).",
        "Ranks methods on a sample exactly as DEL and IROF do.",
        "Samek et al. 2017, eq. 12 (AOPC)",
    ),
    Metric(
        "IROF", "Iterative removal of features", MORF, share_lost, mean, True, -INF_, 1, "deletion",
        "mean over k = 1..K of (1 - v_k / v_0), most relevant removed first",
        "Which share of the prediction is lost, on average, along the way?",
        "As DEL: for one sample it is 1 - DEL / v_0. Samples with a small v_0 weigh more in its mean.",
        "Ranks methods on a sample exactly as DEL and RP do.",
        "Rieger and Hansen 2020, section 2.1; the task's features in place of superpixels",
    ),
)  # fmt: skip

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ROWS}
TEN = tuple(METRICS)
"""The ten of the table, whatever a person adds to it: what learns from scores learns from these alone."""


def select_metrics(text: str) -> list[str]:
    """Return the metrics that a selection chooses (see `benchmark.core.selection`), in the table's order.

    Raises:
        UsageError: an item matches nothing, or nothing is left.
    """
    return select_labels(text.upper(), METRICS, "metric", "")
