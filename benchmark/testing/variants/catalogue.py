"""The catalogue of known variants: what else a metric is taken to be, and by whom.

A variant replaces parts of a metric's recipe; it is of every metric whose recipe has these parts, and whose scores
change by it. Facts about other packages are of Quantus 0.6, of Captum 0.9 and of DeepFaith's released code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, cast

from benchmark.core.errors import UsageError, did_you_mean
from benchmark.testing.variants import correlations, curves, parts
from benchmark.testing.variants.recipes import Recipe, recipe_of


@dataclass(frozen=True)
class Variant:
    """A known departure from a metric's definition.

    Attributes:
        name: short, for `variants=` and `--variant`.
        sentence: what is done, and in place of what.
        parts: the fields of a recipe that it replaces.
        origin: whose it is, by metric.
        where: parts that a recipe must have for the variant to make sense.
        same: metrics that have these parts, and whose scores it does not change.
    """

    name: str
    sentence: str
    parts: Mapping[str, Any]
    origin: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, Any] = field(default_factory=dict)
    same: tuple[str, ...] = ()

    def applies(self, recipe: Recipe) -> bool:
        """Tell whether a recipe has these parts, and at least one of them otherwise."""
        assert is_dataclass(recipe)
        unused = getattr(recipe, "unused", frozenset())
        present = {part.name: getattr(recipe, part.name) for part in fields(recipe) if part.name not in unused}
        fits = self.parts.keys() <= present.keys() and all(present.get(key) == part for key, part in self.where.items())
        return fits and any(present[key] != part for key, part in self.parts.items())

    def applied(self, recipe: Recipe) -> Recipe:
        """Return a recipe with these parts replaced."""
        return cast(Recipe, replace(cast(Any, recipe), **self.parts))

    def described(self, metric: str) -> str:
        """Return the name and the sentence, with whose variant it is of a metric."""
        origin = self.origin.get(metric)
        return f"{self.name!r} ({self.sentence}{f', as in {origin}' if origin else ''})"


def _by(origin: str, *metrics: str) -> dict[str, str]:
    return dict.fromkeys(metrics, origin)


RELEASED = "DeepFaith's released code"
AUC = "Quantus' PixelFlipping with return_auc_per_sample"
GROUPS, FIXED, HALVES = ({"sets": sets} for sets in (correlations.groups, correlations.subsets, correlations.halves))
RANKED = GROUPS | {"statistic": correlations.spearman}

VARIANTS = (
    # end points and rule of a curve
    Variant("start", "k = 0, nothing removed, is counted too", {"first": 0}),
    Variant("no start", "the sum begins at k = 1 and is divided by K, in place of k = 0 and K + 1", {"first": 1},
            _by(RELEASED, "RP")),
    Variant("no end", "k = K, the last step, is left out", {"last": 1}),
    Variant("start without end", "k = 0..K-1 in place of k = 1..K", {"first": 0, "last": 1}),
    Variant("trapezoid", "the trapezoid rule over k = 1..K, over an axis of length 1, in place of the mean",
            {"rule": curves.trapezoid, "first": 1}),
    Variant("trapezoid with start", "the trapezoid rule over k = 0..K, over an axis of length 1, in place of the mean",
            {"rule": curves.trapezoid, "first": 0}),
    Variant("short trapezoid", "the trapezoid rule over k = 1..K divided by K, though there are K - 1 steps between",
            {"rule": curves.short_trapezoid, "first": 1}, _by(RELEASED, "DEL", "INS", "IROF")),
    Variant("area", "the area under k = 1..K by the trapezoid rule, steps of width 1, not divided by their number",
            {"rule": curves.area, "first": 1}, _by(AUC, "DEL", "INS")),
    Variant("area with start", "the area under k = 0..K by the trapezoid rule, not divided by the number of steps",
            {"rule": curves.area, "first": 0}),
    Variant("steps less area", "K less the area under v_k / v_0, k = 1..K, by the trapezoid rule",
            {"rule": curves.steps_less_area, "first": 1, "effect": parts.kept_share}, _by("Quantus' IROF", "IROF")),
    Variant("sum", "the sum over the steps, not divided by their number", {"rule": curves.total}),
    Variant("over K + 1", "the sum over the steps is divided by one more than there are",
            {"rule": curves.over_one_more}),
    Variant("weighted steps", "a step counts as many times as it removes features", {"rule": curves.weighted_mean}),
    # where a curve ends
    Variant("no cut", "the curve goes on to K after another class is predicted", {"cut": curves.to_the_end}),
    Variant("cut at the flip", "the curve ends at the first step with another class predicted",
            {"cut": curves.at_the_flip}),
    Variant("cut before the flip", "the step with another class predicted is not counted, nor are those after it",
            {"cut": curves.before_the_flip}),
    Variant("cut at ties", "classes that tie count as another class where argmax says so",
            {"cut": curves.at_the_first_tie}),
    Variant("frozen at the flip", "after another class is predicted its value is held, and the mean taken up to K",
            {"cut": curves.frozen_at_the_flip}),
    Variant("frozen short trapezoid",
            "after another class is predicted its value is held, and the trapezoid rule over k = 1..K divided by K",
            {"cut": curves.frozen_at_the_flip, "rule": curves.short_trapezoid}, _by(RELEASED, "NEG", "POS")),
    Variant("cut below one half", "the curve ends where the target has less than half of the probability",
            {"cut": curves.below_one_half}),
    # which features go, and in which order
    Variant("ascending", "attributions have the other sign, so the least relevant feature comes first",
            {"attribution": parts.negated}),
    Variant("absolute attribution", "features are taken by |s|, so what speaks against the target counts as relevant",
            {"attribution": parts.absolute}, _by("Quantus with abs=True", "FC", "FE", "DEL")),
    Variant("ties in order", "equal attributions keep the order of the features", {"ties": parts.ties_stable}),
    Variant("ties reversed", "of equal attributions the last feature comes first", {"ties": parts.ties_reversed}),
    Variant("kept", "features stay that should go, and all others go", {"kept": True}),
    Variant("kept most relevant", "the k most relevant groups stay and all others go",
            {"path": curves.kept_most_relevant}, same=("INS",)),
    Variant("kept least relevant", "the k least relevant groups stay and all others go",
            {"path": curves.kept_least_relevant}, same=("RP",)),
    Variant("most relevant first", "the most relevant groups go first", {"path": curves.most_relevant}),
    Variant("least relevant first", "the least relevant groups go first", {"path": curves.least_relevant}),
    Variant("one at a time", "each group goes alone, and comes back before the next", {"path": curves.one_at_a_time}),
    Variant("groups from the other end", "groups are cut from the least relevant feature on",
            {"path": curves.least_relevant_cut_anew}, where={"path": curves.least_relevant}),
    Variant("groups ascending", "groups are cut from the least relevant feature on",
            {"sets": correlations.groups_ascending}, where=GROUPS),
    Variant("groups together", "group k goes together with those before it",
            {"sets": correlations.first_groups}, where=GROUPS),
    Variant("padding removed", "padding counts as features, and is removed", {"padding": True}),
    # how many features a step removes
    Variant("floor", "a step ends at k G / K rounded down, in place of the nearest", {"bounds": parts.bounds_floored}),
    Variant("ceil", "a step ends at k G / K rounded up, in place of the nearest", {"bounds": parts.bounds_ceiled}),
    Variant("ceil(G / K) a step", "each step removes ceil(G / K) features and the last what is left",
            {"bounds": parts.larger_steps}, _by(RELEASED, "FE", "MC", "DEL", "INS", "NEG", "POS", "RP", "IROF")),
    Variant("floor(G / K) a step", "each step removes floor(G / K) features, and one more step what is left",
            {"bounds": parts.smaller_steps}),
    Variant("remainder stays", "each of K steps removes floor(G / K) features, and what is left never goes",
            {"bounds": parts.remainder_left}),
    Variant("array_split", "the first groups are the larger ones, as numpy.array_split cuts",
            {"bounds": parts.larger_first}),
    Variant("one feature a step", "each step removes one feature, whatever K is", {"bounds": parts.single_steps}),
    Variant("ten steps", "there are ten steps, whatever K is", {"bounds": parts.ten_steps}),
    # random subsets
    Variant("distinct subsets", "a subset that was drawn twice counts once",
            {"sets": correlations.distinct_subsets}, where=FIXED),
    Variant("filled subsets", "subsets without a feature are left out",
            {"sets": correlations.filled_subsets}, where=HALVES),
    Variant("single features", "each feature goes alone, in place of the subsets", {"sets": correlations.singles},
            _by(f"{RELEASED} on tables, but for its draws", "FC"), FIXED),
    # the baseline
    Variant("removal baseline", "features are put into the removal baseline, in place of the insertion baseline",
            {"baseline": parts.removal_baseline}, where={"path": curves.inserted}),
    Variant("zero baseline", "what is removed becomes 0, in place of the baseline that is given",
            {"baseline": parts.zero}),
    Variant("least value", "what is removed becomes the smallest value of its sample", {"baseline": parts.lowest},
            _by('Quantus with perturb_baseline="black"', "FC", "FE", "DEL")),
    Variant("largest value", "what is removed becomes the largest value of its sample", {"baseline": parts.highest},
            _by('Quantus with perturb_baseline="white"', "FC", "FE", "DEL")),
    Variant("mean of the sample", "what is removed becomes the mean of its sample", {"baseline": parts.own_mean},
            _by('Quantus with perturb_baseline="mean" and one sample a batch', "FC", "FE")),
    Variant("mean of the batch", "what is removed becomes the mean of the explained samples",
            {"baseline": parts.batch_mean}),
    # what is read of the model
    Variant("logits", "logits are read in place of probabilities", {"read": parts.logit},
            _by("Quantus with softmax=False, its default here", "FC", "FE") | _by("Quantus with softmax=False", "DEL")),
    Variant("log-probabilities", "logarithms of probabilities are read", {"read": parts.log_probability}),
    Variant("class of each step", "the class predicted after each removal is read, in place of the target",
            {"read": parts.class_of_each}),
    Variant("accuracy", "it is read whether the target is still predicted, in place of its probability",
            {"read": parts.still_predicted}),
    # what is made of it
    Variant("prediction", "the prediction v_k is taken as it is", {"effect": parts.value}),
    Variant("drop", "the drop v_0 - v_k is taken", {"effect": parts.drop}),
    Variant("share kept", "v_k / v_0 is taken: normalised by the prediction on the whole input",
            {"effect": parts.kept_share}),
    Variant("share lost", "1 - v_k / v_0 is taken: normalised by the prediction on the whole input",
            {"effect": parts.lost_share}, same=("FC", "FE", "INF")),
    Variant("absolute drop", "|v_0 - v| is taken", {"effect": parts.absolute_drop}, same=("MC",)),
    Variant("squared drop", "(v_0 - v)^2 is taken", {"effect": parts.squared_drop}, same=("MC",)),
    Variant("squared share", "((v_0 - v) / v_0)^2 is taken", {"effect": parts.squared_lost_share}, same=("MC",)),
    Variant("exact effects", "effects are ranked to the last digit, also where rounding alone may tell them apart",
            {"effect": parts.squared_lost_share}, where=RANKED),
    # the attribution of what is removed
    Variant("signed mass", "the sum of s over what is removed is taken with its sign", {"mass": correlations.summed}),
    Variant("magnitude of mass", "|sum of s| over what is removed is taken", {"mass": correlations.magnitude_of_sum}),
    Variant("mass of magnitudes", "the sum of |s| over what is removed is taken",
            {"mass": correlations.sum_of_magnitudes}),
    Variant("mean mass", "the mean of s over what is removed is taken, in place of the sum",
            {"mass": correlations.averaged}, same=("FC",)),
    Variant("times input", "each attribution is multiplied by x less the baseline", {"gap": True}),
    # how the two are compared
    Variant("pearson", "Pearson's r is taken", {"statistic": correlations.pearson}),
    Variant("spearman", "Spearman's rho is taken", {"statistic": correlations.spearman}),
    Variant("spearman by argsort", "what one argsort gives is taken for ranks, which it is not",
            {"statistic": correlations.spearman_by_argsort}, _by(RELEASED, "MC")),
    Variant("spearman without mid-ranks", "equal values get ranks in the order in which they stand, not the mean rank",
            {"statistic": correlations.spearman_without_mid_ranks}),
    Variant("kendall", "Kendall's tau-b is taken", {"statistic": correlations.kendall}),
    Variant("damped pearson", "1e-5 is added inside both roots of Pearson's r",
            {"statistic": correlations.damped_pearson}, _by(RELEASED, "FC", "FE", "INF")),
    Variant("mixed ddof", "the covariance is divided by S - 1 (ddof=1) and the deviations by S (ddof=0)",
            {"statistic": correlations.mixed_freedom}),
    Variant("covariance", "the covariance is taken, not divided by deviations", {"statistic": correlations.covariance}),
    Variant("cosine", "means are not taken off before the two are compared", {"statistic": correlations.cosine}),
    Variant("r squared", "r is squared", {"statistic": correlations.squared_correlation}),
    Variant("squared error", "the mean squared difference of the two is taken",
            {"statistic": correlations.squared_error}, _by("captum.metrics.infidelity", "INF")),
    Variant("scaled squared error", "the mean squared difference of the two is taken, the attribution scaled to fit",
            {"statistic": correlations.scaled_squared_error},
            _by("captum.metrics.infidelity with normalize=True", "INF")),
    Variant("squared error times input", "the mean squared difference of s (x - baseline) and drop is taken",
            {"statistic": correlations.squared_error, "gap": True},
            _by("captum.metrics.infidelity with multiply_by_inputs=False", "INF")),
    Variant("raster squared error",
            "the mean squared difference of s (x - baseline) and drop as features go in the order of the input",
            {"statistic": correlations.squared_error, "sets": correlations.raster, "gap": True},
            _by("Quantus' Infidelity", "INF"), HALVES),
    Variant("sorted magnitudes", "features are taken by |s|, and groups cut from the least relevant on",
            {"attribution": parts.absolute, "sets": correlations.groups_ascending, "mass": correlations.summed,
             "effect": parts.squared_lost_share},
            _by("Quantus' MonotonicityCorrelation", "MC"), RANKED),
    Variant("batch average", "the squared change is averaged over samples, and compared with signed mass by argsort",
            {"together": True, "mass": correlations.summed, "sets": correlations.groups_ascending,
             "effect": parts.squared_lost_share, "statistic": correlations.spearman_by_argsort},
            _by(RELEASED, "MC"), RANKED),
    Variant("undefined where constant", "a constant attribution has no score, in place of 0", {"constant": math.nan}),
    # how the score is reported
    Variant("negative", "the score has the other sign", {"finish": parts.negative}),
    Variant("one less", "1 less the score is given", {"finish": parts.complement}),
    Variant("percent", "the score is given in percent", {"finish": parts.percent}),
)  # fmt: skip


BY_NAME = {variant.name: variant for variant in VARIANTS}


def variants_of(metric: str) -> list[Variant]:
    """Return the variants that a metric can have.

    Example:
        >>> [variant.name for variant in variants_of("DEL")][:3]
        ['start', 'no end', 'start without end']
    """
    return [variant for variant in VARIANTS if variant.applies(recipe_of(metric)) and metric not in variant.same]


def varied(metric: str, names: Sequence[str]) -> Recipe:
    """Return a metric's recipe with some variants applied, one after the other.

    Raises:
        UsageError: a variant is unknown, or the metric cannot have it.
    """
    recipe = recipe_of(metric)
    for name in names:
        possible = [variant.name for variant in variants_of(metric)]
        if name not in possible:
            what = f"{metric} has no variant {name!r}" if name in BY_NAME else f"unknown variant {name!r}"
            raise UsageError(what + did_you_mean(name, possible))
        recipe = BY_NAME[name].applied(recipe)
    return recipe
