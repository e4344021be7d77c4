"""The ten faithfulness metrics as one table: probe x effect x aggregate, direction, source.

v_I is the target's probability with the features of I removed, v_0 with none removed; c is the class predicted
on the whole input. Everything is computed for each sample on its own.

A metric's `Probe` says which removal sets it needs. The evaluator turns them into a `Response`: what the model predicts
for each set (shared_queries.py and ordered_queries.py). `Metric.score` then takes the effect of each removal from the
response, and makes one score a sample of the effects.

Shapes: M methods, B samples, S removal sets a sample.
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
    """Which features are removed together. Equal probes are asked once, whatever the number of metrics.

    `kind` is one of:

    - `morf`: the first k groups, k = 1..K, the most relevant first;
    - `lerf`: the last k groups, the least relevant first;
    - `insert`: all but the first k groups, from the insertion baseline;
    - `groups`: each group alone;
    - `fixed`: random subsets of one size;
    - `bernoulli`: random subsets, each feature removed with probability 1/2.
    """

    kind: str


@dataclass(frozen=True, eq=False)
class Response:
    """What the model predicts for the removal sets of one probe.

    Where no method changes the sets (`fixed`, `bernoulli`), the predictions have no axis of methods, and
    `constant_response` neither.

    Attributes:
        prob: the target's probability under each removal, v, (M, B, S) float64.
        same_class: whether the class predicted for the whole input is still predicted, (M, B, S) bool.
        clean: the target's probability on the whole input, v_0, (B,) float64.
        exists: (M, B, S) bool, False where a sample has fewer sets than its neighbours; None where all have S.
        mass: attribution summed over what is removed, (M, B, S) float64; None for curves.
        constant_attribution: whether all features have one attribution, (M, B) bool; None for curves.
        constant_response: whether v is the same for all sets, (M, B) bool; None for curves.
    """

    prob: Tensor
    same_class: Tensor
    clean: Tensor
    exists: Tensor | None = None
    mass: Tensor | None = None
    constant_attribution: Tensor | None = None
    constant_response: Tensor | None = None


Scores = tuple["Tensor", "Tensor"]
"""Scores (M, B) float64 and their reason codes (M, B) int8."""


def probability(r: Response) -> Tensor:
    """Return the target's probability after each removal, v_k: (M, B, S), or (B, S) where methods share the sets."""
    return r.prob


def drop(r: Response) -> Tensor:
    """Return v_0 - v: (M, B, S) in [-1, 1]."""
    return r.clean.unsqueeze(-1) - r.prob


def squared_relative_change(r: Response) -> Tensor:
    """Return ((v_0 - v) / v_0)^2: (M, B, S), at least 0."""
    return (drop(r) / r.clean.clamp(min=EPS).unsqueeze(-1)) ** 2


def share_lost(r: Response) -> Tensor:
    """Return 1 - v / v_0: (M, B, S), at most 1."""
    return 1 - r.prob / r.clean.clamp(min=EPS).unsqueeze(-1)


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
    """Score by Spearman's rho, mid-ranks for ties, between the absolute removed mass and the effects."""
    return _correlation(spearman, mass_of(r).abs(), values, r)


def mass_of(r: Response) -> Tensor:
    """Return the mass of each removal set.

    Raises:
        ValueError: the probe has none.
    """
    return _required(r.mass)


def _required(part: Tensor | None) -> Tensor:
    if part is None:
        raise ValueError("a correlation with the attribution needs a probe of groups, fixed or bernoulli sets")
    return part


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


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One row of the table: a probe, an effect and an aggregate, with a direction and a version.

    Attributes:
        name: the column in tables and records.
        title: the name in words.
        probe: which removal sets it needs.
        effect: makes of a response the effect of each removal, (M, B, S) or (B, S).
        aggregate: makes of effects and response one score a sample.
        higher_is_better: the direction that a board ranks by.
        low: the least score that there can be.
        high: the largest.
        family: metrics that are nearly functions of one another share it, and count once in a family rank.
        formula: in words.
        meaning: the question that it answers.
        blind_to: what it cannot see.
        redundancy: what it shares with others.
        source: the paper and section, and any departure from it.
        linear: the aggregate is Pearson's r with the summed attribution, which can be taken from covariances of
            features where sets are random (see `benchmark.statistics.linear_pearson`).
        version: raised when scores change; a record of another version is computed anew.

    Example:
        >>> METRICS["DEL"].probe, METRICS["DEL"].higher_is_better
        (Probe(kind='morf'), False)
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
        """Return the scores (M, B) float64 of this metric and their reason codes (M, B) int8, keys of `REASONS`."""
        return self.aggregate(self.effect(response), response)


MORF, LERF, INSERT = Probe("morf"), Probe("lerf"), Probe("insert")
GROUPS, FIXED, BERNOULLI = Probe("groups"), Probe("fixed"), Probe("bernoulli")

_ROWS = (
    Metric(
        name="FC", title="Faithfulness correlation", probe=FIXED, effect=drop,
        aggregate=correlation, higher_is_better=True, low=-1, high=1, family="FC", linear=True,
        formula="Pearson over R random subsets I of fixed size m of (sum of s over I, v_0 - v_I)",
        meaning="Does the attribution of a random handful of features predict what removing them costs?",
        blind_to="Features whose removal alone changes nothing; on tables subsets are small, so interactions of "
                 "many features.",
        redundancy="Close to INF where the subsets are large.",
        source="Bhatt et al. 2020, eq. 4; probabilities instead of logits; all subsets where their number is small",
    ),
    Metric(
        name="FE", title="Faithfulness estimate", probe=GROUPS, effect=drop,
        aggregate=correlation, higher_is_better=True, low=-1, high=1, family="FE",
        formula="Pearson over the K groups of (sum of s over the group, v_0 - v without it)",
        meaning="Do features matter one step at a time as much as they are said to?",
        blind_to="Interactions: each group goes alone, so two copies of one signal both look useless.",
        redundancy="Shares its removals with MC.",
        source="Alvarez-Melis and Jaakkola 2018, section 4; probabilities",
    ),
    Metric(
        name="MC", title="Monotonicity correlation", probe=GROUPS, effect=squared_relative_change,
        aggregate=absolute_rank_correlation, higher_is_better=True, low=-1, high=1, family="MC",
        formula="Spearman with mid-ranks over the K groups of (|sum of s over the group|, ((v_0 - v) / v_0)^2)",
        meaning="Does the strength of an attribution order features by the size of their effect?",
        blind_to="Sign: it takes absolute mass, so an attribution and its negation score alike. Interactions, as FE.",
        redundancy="Shares its removals with FE.",
        source="Nguyen and Martinez 2020, section 3.2; per sample, one removal baseline instead of random draws",
    ),
    Metric(
        name="INF", title="Infidelity (correlation form)", probe=BERNOULLI, effect=drop,
        aggregate=correlation, higher_is_better=True, low=-1, high=1, family="INF", linear=True,
        formula="Pearson over R subsets I, each feature in I with probability 1/2, of (sum of s over I, v_0 - v_I)",
        meaning="Does the attribution of half of the input predict what removing that half costs?",
        blind_to="Features that matter only when nearly all others are there or gone: half of the input is "
                 "always missing.",
        redundancy="Close to FC.",
        source="Yeh et al. 2019, eq. 1, with Pearson's r in place of the squared error so that scale cannot matter",
    ),
    Metric(
        name="DEL", title="Deletion", probe=MORF, effect=probability,
        aggregate=mean, higher_is_better=False, low=0, high=1, family="deletion",
        formula="mean over k = 1..K of v_k, most relevant removed first",
        meaning="How quickly does the prediction fall when the most relevant features go first?",
        blind_to="The order within a step, all values beyond their order, and what happens among the least "
                 "relevant features.",
        redundancy="Ranks methods on a sample exactly as RP and IROF do.",
        source="Petsiuk et al. 2018, section 3.2; the integral of a step function is this mean",
    ),
    Metric(
        name="INS", title="Insertion", probe=INSERT, effect=probability,
        aggregate=mean, higher_is_better=True, low=0, high=1, family="insertion",
        formula="mean over k = 1..K of v with only the k most relevant groups put into the insertion baseline",
        meaning="How quickly does the prediction return when the most relevant features come first?",
        blind_to="As DEL; with few classes a baseline that already predicts the target leaves little to gain.",
        redundancy="Nearly NEG without the cut, where both baselines are the same.",
        source="Petsiuk et al. 2018, section 3.2",
    ),
    Metric(
        name="NEG", title="Negative perturbation", probe=LERF, effect=probability,
        aggregate=mean_until_flip, higher_is_better=True, low=0, high=1, family="insertion",
        formula="mean over k = 1..t of v_k, least relevant removed first, t = first k with another class predicted",
        meaning="Does the prediction hold while the least relevant features go?",
        blind_to="Everything after the first change of class: an early change is not punished, its mean may even "
                 "be high.",
        redundancy="Nearly INS, where no class changes and both baselines are the same.",
        source="Chefer et al. 2021, section 4; curve cut at the first change of class",
    ),
    Metric(
        name="POS", title="Positive perturbation", probe=MORF, effect=probability,
        aggregate=mean_until_flip, higher_is_better=False, low=0, high=1, family="POS",
        formula="mean over k = 1..t of v_k, most relevant removed first, t = first k with another class predicted",
        meaning="How low does the prediction go before it changes when the most relevant features go first?",
        blind_to="Everything after the first change of class, so how completely the prediction collapses.",
        redundancy="DEL where no class changes.",
        source="Chefer et al. 2021, section 4; curve cut at the first change of class",
    ),
    Metric(
        name="RP", title="Region perturbation", probe=MORF, effect=drop,
        aggregate=mean_with_start, higher_is_better=True, low=-1, high=1, family="deletion",
        formula="sum over k = 0..K of (v_0 - v_k), divided by K + 1, most relevant removed first",
        meaning="How much probability is lost, on average, along the way?",
        blind_to="As DEL: for one sample it is K / (K + 1) * (v_0 - DEL).",
        redundancy="Ranks methods on a sample exactly as DEL and IROF do.",
        source="Samek et al. 2017, eq. 12 (AOPC)",
    ),
    Metric(
        name="IROF", title="Iterative removal of features", probe=MORF, effect=share_lost,
        aggregate=mean, higher_is_better=True, low=-float("inf"), high=1, family="deletion",
        formula="mean over k = 1..K of (1 - v_k / v_0), most relevant removed first",
        meaning="Which share of the prediction is lost, on average, along the way?",
        blind_to="As DEL: for one sample it is 1 - DEL / v_0. Samples with a small v_0 weigh more in its mean.",
        redundancy="Ranks methods on a sample exactly as DEL and RP do.",
        source="Rieger and Hansen 2020, section 2.1; the task's features in place of superpixels",
    ),
)  # fmt: skip

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ROWS}
"""All metrics by name, in the order of tables. A metric of one's own is one more entry."""
TEN = tuple(METRICS)
"""The ten of the table, whatever a person adds to it: what learns from scores learns from these alone."""


def select_metrics(text: str) -> list[str]:
    """Return the metrics that a selection chooses (see `benchmark.core.selection`), in the table's order.

    Args:
        text: names and globs between commas, `!name` to leave one out; capitals do not matter.

    Raises:
        UsageError: an item matches nothing, or nothing is left.

    Example:
        >>> select_metrics("f*,!fe")
        ['FC']
    """
    return select_labels(text.upper(), METRICS, "metric", "")
