"""The catalogue of variants: each is told from the metric and recognised, and those of others are theirs."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch

from benchmark.inspection.crosscheck import references
from benchmark.inspection.crosscheck.against_others import _samples
from benchmark.inspection.crosscheck.cases import CASES
from benchmark.testing.diagnosis import diagnose
from benchmark.testing.golden import golden, golden_cases
from benchmark.testing.observed import Observed, distance, matches, scores_of
from benchmark.testing.variants.catalogue import BY_NAME, VARIANTS, variants_of, varied
from benchmark.testing.variants.recipes import RECIPES

QUICK = ("DEL",)
METRICS = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in RECIPES]


def test_names_are_told_apart_and_every_variant_is_one_of_some_metric():
    assert len(BY_NAME) == len(VARIANTS)
    possible = {variant.name for name in RECIPES for variant in variants_of(name)}
    assert possible == set(BY_NAME)
    for variant in VARIANTS:
        assert set(variant.origin) <= set(RECIPES)
        for metric in variant.origin:
            assert variant in variants_of(metric), f"{variant.name} is said to be somebody's {metric}, and cannot be"


def observed_of(cases, recipe):
    """Return what a function that is a recipe gives, all samples judged."""
    return [Observed(one, one.expected, scores_of(recipe, one), np.ones(len(one.x), dtype=bool)) for one in cases]


@pytest.mark.parametrize("metric", METRICS)
def test_every_variant_is_told_from_the_metric_and_recognised(metric):
    recipe = RECIPES[metric]
    cases = [golden(metric, case) for case in golden_cases()]
    for variant in variants_of(metric):
        observed = observed_of(cases, variant.applied(recipe))
        assert not matches(recipe, observed, 1e-9), f"{variant.name} is {metric} itself"
        found = diagnose(metric, recipe, observed, 1e-9)
        assert found.exact, found
        assert len(found.variants) == 1, f"{variant.name} is taken for {found.variants}"
        assert repr(variant.name) in found.sentence
        assert variant.sentence in found.sentence


@pytest.mark.parametrize(
    ("metric", "names"),
    [
        ("DEL", ("trapezoid with start", "absolute attribution")),
        ("POS", ("frozen at the flip", "logits")),
        ("FC", ("spearman", "zero baseline")),
        ("MC", ("signed mass", "spearman by argsort")),
        ("INS", ("removal baseline", "percent")),
    ],
)
def test_two_variants_together_are_recognised(metric, names):
    cases = [golden(metric, case) for case in golden_cases()]
    observed = observed_of(cases, varied(metric, names))
    found = diagnose(metric, RECIPES[metric], observed, 1e-9)
    assert found.exact
    assert set(found.variants) == set(names)
    assert "two variants together" in found.sentence


# variants that are said to be another package's


def quantus_metric(name, sample, softmax=True, baseline=None, **options):
    """Return what a metric of Quantus gives for a sample; `baseline` is one of its own, in place of ours."""
    quantus = references.load_quantus()
    known = {"FC": quantus.FaithfulnessCorrelation, "FE": quantus.FaithfulnessEstimate, "DEL": quantus.PixelFlipping,
             "MC": quantus.MonotonicityCorrelation}  # fmt: skip
    if name == "FC":
        options |= {"nr_runs": len(sample.subsets), "subset_size": len(sample.subsets[0])}
    else:
        options |= {"features_in_step": sample.step}
    if name in ("FC", "FE"):
        options["similarity_func"] = quantus.similarity_func.correlation_pearson
    if name == "MC":
        options |= {"nr_samples": 1, "eps": 1e-12, "similarity_func": quantus.similarity_func.correlation_spearman}
    options = {**references._options(sample), **options}
    if baseline is not None:
        del options["perturb_func"]
        options["perturb_baseline"] = baseline
    with mock.patch("numpy.random.choice", side_effect=sample.subsets):
        asked = known[name](**options)
        return with_softmax(asked, sample, softmax)


def with_softmax(metric, sample, softmax):
    with references._default_type(sample.number):
        result = metric(
            model=sample.model(), x_batch=sample.flat(sample.x).reshape(sample.shape),
            y_batch=np.array([sample.target]), a_batch=sample.s.reshape(sample.shape), softmax=softmax,
            channel_first=True, batch_size=1, device="cpu",
        )  # fmt: skip
    return np.asarray(result, dtype=np.float64).squeeze()


def captum_infidelity(sample, times_input=False, **options):
    from captum.metrics import infidelity

    base = torch.as_tensor(sample.baseline())
    masks = torch.zeros(len(sample.coins), sample.n, dtype=torch.float64)
    for row, removed in zip(masks, sample.coins, strict=True):
        row[removed] = 1
    model, values = sample.model(), torch.as_tensor(sample.flat(sample.x)).unsqueeze(0)

    def perturb(inputs, *_):
        perturbed = torch.where(masks > 0, base, inputs)
        return (inputs - perturbed if times_input else masks), perturbed

    return float(infidelity(lambda v: model(v).softmax(-1), perturb, values, torch.as_tensor(sample.s).unsqueeze(0),
                            target=sample.target, n_perturb_samples=len(masks), **options))  # fmt: skip


def irof(sample):
    groups = np.empty(sample.n, dtype=int)
    groups[sample.order] = np.arange(sample.n) // sample.step
    metric = references.load_quantus().IROF(**references._options(sample))
    segments = groups.reshape(sample.shape[2:])
    with mock.patch("quantus.helpers.utils.get_superpixel_segments", return_value=segments):
        return float(references._ask(metric, sample, sample.s))


def area_of_insertion(sample):
    options = {**references._options(sample, back=True), "return_auc_per_sample": True}
    metric = references.load_quantus().PixelFlipping(features_in_step=sample.step, **options)
    return float(references._ask(metric, sample, sample.s, start=sample.baseline(insertion=True)))


def raster(sample):
    options = references._options(sample)
    metric = references.load_quantus().Infidelity(perturb_patch_sizes=[1], n_perturb_samples=1, **options)
    return float(references._ask(metric, sample, sample.s))


def mean_curve(**options):
    return lambda sample: quantus_metric("DEL", sample, **options).mean()


def plain(name, **options):
    return lambda sample: float(quantus_metric(name, sample, **options))


THEIRS = {
    ("area", "DEL"): plain("DEL", return_auc_per_sample=True),
    ("area", "INS"): area_of_insertion,
    ("steps less area", "IROF"): irof,
    ("absolute attribution", "FC"): plain("FC", abs=True),
    ("absolute attribution", "FE"): plain("FE", abs=True),
    ("absolute attribution", "DEL"): mean_curve(abs=True),
    ("least value", "FC"): plain("FC", baseline="black"),
    ("least value", "FE"): plain("FE", baseline="black"),
    ("least value", "DEL"): mean_curve(baseline="black"),
    ("largest value", "FC"): plain("FC", baseline="white"),
    ("largest value", "FE"): plain("FE", baseline="white"),
    ("largest value", "DEL"): mean_curve(baseline="white"),
    ("mean of the sample", "FC"): plain("FC", baseline="mean"),
    ("mean of the sample", "FE"): plain("FE", baseline="mean"),
    ("logits", "FC"): plain("FC", softmax=False),
    ("logits", "FE"): plain("FE", softmax=False),
    ("logits", "DEL"): mean_curve(softmax=False),
    ("sorted magnitudes", "MC"): plain("MC", abs=True),
    ("raster squared error", "INF"): raster,
    ("squared error", "INF"): captum_infidelity,
    ("scaled squared error", "INF"): lambda sample: captum_infidelity(sample, normalize=True),
    ("squared error times input", "INF"): lambda sample: captum_infidelity(sample, times_input=True),
}
"""How another package gives what a variant of a metric is said to be of it."""


def test_all_that_is_said_of_other_packages_is_checked():
    said = {
        (variant.name, metric)
        for variant in VARIANTS
        for metric, origin in variant.origin.items()
        if "DeepFaith" not in origin
    }
    assert said == set(THEIRS)


@pytest.mark.filterwarnings("ignore:The settings for perturbing input")  # of a value that was the least before
@pytest.mark.parametrize(("name", "metric"), THEIRS)
def test_variants_of_other_packages_are_theirs(name, metric):
    pytest.importorskip("quantus", reason="the extra crosscheck is not installed")
    recipe = varied(metric, [name])
    compared = 0
    for case in CASES[:3] if "value" in name or "mean" in name else [case for case in CASES if case.others]:
        task = case.task()
        one = golden(metric, case)
        text = task.modality == "text"
        for row, sample in enumerate(_samples(case.evaluator(task), case.attributions(task))):
            if (text and ("input" in name or metric == "INF")) or sample.n < 2 * sample.step:
                continue
            theirs = THEIRS[name, metric](sample)
            ours = recipe.score(one, row)
            scale = max(1.0, abs(theirs))
            assert distance(np.array(theirs), np.array(ours)) <= 1e-10 * scale, (case.name, row, theirs, ours)
            compared += 1
    assert compared >= 12
