"""The ten metrics of the paper: probe x effect x aggregate, direction, source.

v_I is the target's probability with the features of I removed, v_0 with none removed; c is the class predicted
on the whole input. Everything is computed for each sample on its own.
"""

from __future__ import annotations

from benchmark.scoring.metrics.aggregates import (
    absolute_rank_correlation,
    correlation,
    mean,
    mean_until_flip,
    mean_with_start,
)
from benchmark.scoring.metrics.effects import drop, probability, share_lost, squared_relative_change
from benchmark.scoring.metrics.metric import EffectMetric
from benchmark.scoring.metrics.probes import BERNOULLI, FIXED, GROUPS, INSERT, LERF, MORF
from benchmark.scoring.metrics.registry import METRICS, PAPER

_ROWS = (
    EffectMetric(
        name="FC", title="Faithfulness correlation", probe=FIXED, effect=drop,
        aggregate=correlation, higher_is_better=True, low=-1, high=1, family="FC", linear=True,
        formula="Pearson over R random subsets I of fixed size m of (sum of s over I, v_0 - v_I)",
        meaning="Does the attribution of a random handful of features predict what removing them costs?",
        blind_to="Features whose removal alone changes nothing; on tables subsets are small, so interactions of "
                 "many features.",
        redundancy="Close to INF where the subsets are large.",
        source="Bhatt et al. 2020, eq. 4; probabilities instead of logits; all subsets where their number is small",
    ),
    EffectMetric(
        name="FE", title="Faithfulness estimate", probe=GROUPS, effect=drop,
        aggregate=correlation, higher_is_better=True, low=-1, high=1, family="FE",
        formula="Pearson over the K groups of (sum of s over the group, v_0 - v without it)",
        meaning="Do features matter one step at a time as much as they are said to?",
        blind_to="Interactions: each group goes alone, so two copies of one signal both look useless.",
        redundancy="Shares its removals with MC.",
        source="Alvarez-Melis and Jaakkola 2018, section 4; probabilities",
    ),
    EffectMetric(
        name="MC", title="Monotonicity correlation", probe=GROUPS, effect=squared_relative_change,
        aggregate=absolute_rank_correlation, higher_is_better=True, low=-1, high=1, family="MC",
        formula="Spearman with mid-ranks over the K groups of (|sum of s over the group|, ((v_0 - v) / v_0)^2); "
                "neighbours in the order of |v_0 - v| are tied where these differ by no more than 1e-5 p (1 - p), "
                "which a change of 1e-5 in the logit makes, p being of v_0 and the two v the nearest to 1/2",
        meaning="Does the strength of an attribution order features by the size of their effect?",
        blind_to="Sign: it takes absolute mass, so an attribution and its negation score alike. Interactions, as FE.",
        redundancy="Shares its removals with FE.",
        source="Nguyen and Martinez 2020, section 3.2; per sample, one removal baseline instead of random draws; "
               "effects that only rounding tells apart are tied",
        version=2,
    ),
    EffectMetric(
        name="INF", title="Infidelity (correlation form)", probe=BERNOULLI, effect=drop,
        aggregate=correlation, higher_is_better=True, low=-1, high=1, family="INF", linear=True,
        formula="Pearson over R subsets I, each feature in I with probability 1/2, of (sum of s over I, v_0 - v_I)",
        meaning="Does the attribution of half of the input predict what removing that half costs?",
        blind_to="Features that matter only when nearly all others are there or gone: half of the input is "
                 "always missing.",
        redundancy="Close to FC.",
        source="Yeh et al. 2019, eq. 1, with Pearson's r in place of the squared error so that scale cannot matter",
    ),
    EffectMetric(
        name="DEL", title="Deletion", probe=MORF, effect=probability,
        aggregate=mean, higher_is_better=False, low=0, high=1, family="deletion",
        formula="mean over k = 1..K of v_k, most relevant removed first",
        meaning="How quickly does the prediction fall when the most relevant features go first?",
        blind_to="The order within a step, all values beyond their order, and what happens among the least "
                 "relevant features.",
        redundancy="Ranks methods on a sample exactly as RP and IROF do.",
        source="Petsiuk et al. 2018, section 3.2; the integral of a step function is this mean",
    ),
    EffectMetric(
        name="INS", title="Insertion", probe=INSERT, effect=probability,
        aggregate=mean, higher_is_better=True, low=0, high=1, family="insertion",
        formula="mean over k = 1..K of v with only the k most relevant groups put into the insertion baseline",
        meaning="How quickly does the prediction return when the most relevant features come first?",
        blind_to="As DEL; with few classes a baseline that already predicts the target leaves little to gain.",
        redundancy="Nearly NEG without the cut, where both baselines are the same.",
        source="Petsiuk et al. 2018, section 3.2",
    ),
    EffectMetric(
        name="NEG", title="Negative perturbation", probe=LERF, effect=probability,
        aggregate=mean_until_flip, higher_is_better=True, low=0, high=1, family="insertion",
        formula="mean over k = 1..t of v_k, least relevant removed first, t = first k with another class predicted",
        meaning="Does the prediction hold while the least relevant features go?",
        blind_to="Everything after the first change of class: an early change is not punished, its mean may even "
                 "be high.",
        redundancy="Nearly INS, where no class changes and both baselines are the same.",
        source="Chefer et al. 2021, section 4; curve cut at the first change of class",
    ),
    EffectMetric(
        name="POS", title="Positive perturbation", probe=MORF, effect=probability,
        aggregate=mean_until_flip, higher_is_better=False, low=0, high=1, family="POS",
        formula="mean over k = 1..t of v_k, most relevant removed first, t = first k with another class predicted",
        meaning="How low does the prediction go before it changes when the most relevant features go first?",
        blind_to="Everything after the first change of class, so how completely the prediction collapses.",
        redundancy="DEL where no class changes.",
        source="Chefer et al. 2021, section 4; curve cut at the first change of class",
    ),
    EffectMetric(
        name="RP", title="Region perturbation", probe=MORF, effect=drop,
        aggregate=mean_with_start, higher_is_better=True, low=-1, high=1, family="deletion",
        formula="sum over k = 0..K of (v_0 - v_k), divided by K + 1, most relevant removed first",
        meaning="How much probability is lost, on average, along the way?",
        blind_to="As DEL: for one sample it is K / (K + 1) * (v_0 - DEL).",
        redundancy="Ranks methods on a sample exactly as DEL and IROF do.",
        source="Samek et al. 2017, eq. 12 (AOPC)",
    ),
    EffectMetric(
        name="IROF", title="Iterative removal of features", probe=MORF, effect=share_lost,
        aggregate=mean, higher_is_better=True, low=-float("inf"), high=1, family="deletion",
        formula="mean over k = 1..K of (1 - v_k / v_0), most relevant removed first",
        meaning="Which share of the prediction is lost, on average, along the way?",
        blind_to="As DEL: for one sample it is 1 - DEL / v_0. Samples with a small v_0 weigh more in its mean.",
        redundancy="Ranks methods on a sample exactly as DEL and RP do.",
        source="Rieger and Hansen 2020, section 2.1; the task's features in place of superpixels",
    ),
)  # fmt: skip

for _row in _ROWS:
    METRICS.register(_row.name, group=PAPER, family=_row.family, higher_is_better=_row.higher_is_better)(_row)
METRICS.closed.add(PAPER)
TEN = tuple(_row.name for _row in _ROWS)
"""The ten, in the order of tables: the paper's mean rank is over these, and learning uses these alone."""
