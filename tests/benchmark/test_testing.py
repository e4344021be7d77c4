"""check_metric: what it finds, and what it says."""

from __future__ import annotations

import functools
import json
import re
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmark.core.errors import UsageError
from benchmark.inspection.crosscheck import loops
from benchmark.scoring.metrics import METRICS, ProbeMetric, SharedProbe, mean
from benchmark.scoring.removal_sets import MaskSets
from benchmark.testing import DifferenceError, check_metric, golden_cases
from benchmark.testing.golden import golden
from benchmark.testing.variants.recipes import RECIPES

TEN = tuple(RECIPES)


def curve(predict, x, target, attribution, remove, steps, first=1, rounded=round):
    order, rows = (-attribution).argsort(1, kind="stable"), range(len(x))
    bounds = [rounded(k * order.shape[1] / steps) for k in range(first, steps + 1)]
    return np.stack([predict(remove(x, order.argsort(1) < bound))[rows, target] for bound in bounds])


def deletion(predict, x, target, attribution, remove, steps):
    return curve(predict, x, target, attribution, remove, steps).mean(0)


def by_trapezoids(predict, x, target, attribution, remove, steps):
    return np.trapezoid(curve(predict, x, target, attribution, remove, steps, 0), dx=1 / steps, axis=0)


def by_trapezoids_of_floored_steps(predict, x, target, attribution, remove, steps):
    return np.trapezoid(curve(predict, x, target, attribution, remove, steps, 0, int), dx=1 / steps, axis=0)


def correlated(predict, x, target, attribution, remove, subsets, valid):
    scores = []
    for row, target_, s, masks, real in zip(x, target, attribution, subsets, valid, strict=True):
        rows = np.repeat(row[None], len(masks), 0)
        v0, v = predict(row[None])[0, target_], predict(remove(rows, masks))[:, target_]
        if np.ptp(v) < 1e-12:
            scores.append(np.nan)
        else:
            scores.append(0.0 if np.ptp(s[real]) < 1e-12 else np.corrcoef(masks @ s, v0 - v)[0, 1])
    return scores


# what is the same


QUICK = ("FC", "MC", "DEL", "NEG")
TIERED = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in TEN]


@pytest.mark.parametrize("metric", TIERED)
def test_recipes_are_the_metrics(metric):
    for case in golden_cases():
        one = golden(metric, case)
        for row, expected in enumerate(one.expected):
            assert RECIPES[metric].score(one, row) == pytest.approx(expected, abs=1e-10, nan_ok=True), case.name


@pytest.mark.parametrize("metric", TIERED)
def test_slow_twins_pass(metric):
    """Each written once more in plain loops, given only what anyone's function is given."""

    def twin(model, x, attribution, remove, steps, valid, subsets=None):
        task = SimpleNamespace(
            model=model, n_features=attribution.shape[1], budget=SimpleNamespace(steps=steps),
            remove=lambda x, mask, _kind: remove(x, mask),
        )  # fmt: skip
        scores = []
        for i in range(len(x)):
            task.removal = SimpleNamespace(valid=lambda _x, i=i: valid[i : i + 1])
            sample = loops.Sample(task, x[i], attribution[i])
            if subsets is None:
                scores.append(loops.ALONE[metric](sample))
            else:
                drawn = [mask.nonzero().flatten().tolist() for mask in subsets[i]]
                scores.append(loops.on_subsets(sample, drawn))
        return scores

    report = check_metric(metric, twin, tolerance=1e-10, framework="torch")
    assert report, report
    assert {case.case for case in report.cases} == {case.name for case in golden_cases()}
    report.raise_for_difference()


def test_a_function_of_ones_own_passes_in_numpy_and_sees_only_what_it_can_judge():
    report = check_metric("DEL", deletion)
    assert report, report
    assert report.exact
    assert report.variants == ()
    assert "is DEL on all 58 samples of 13 cases" in str(report)
    assert "Not asked: 2 cases with padding, which parameter `valid` marks." in str(report)
    assert "equal attributions keep the order of the features" in str(report)


@pytest.mark.parametrize("metric", ["FC", pytest.param("INF", marks=pytest.mark.slow)])
def test_random_subsets_are_given_so_that_chance_plays_no_part(metric):
    report = check_metric(metric, correlated)
    assert report, report
    assert len(report.cases) == len(golden_cases())


def test_ties_that_are_asked_for_are_judged():
    def tied(predict, x, target, attribution, remove, steps, ties):
        ranked = np.take_along_axis(attribution, ties, 1)
        order = np.take_along_axis(ties, (-ranked).argsort(1, kind="stable"), 1)
        key = -order.argsort(1).astype(float)
        return curve(predict, x, target, key, remove, steps).mean(0)

    report = check_metric("DEL", tied)
    assert report, report
    assert sum(case.samples for case in report.cases) == 69
    ignoring = check_metric("DEL", lambda predict, x, target, attribution, remove, steps, ties: deletion(
        predict, x, target, attribution, remove, steps))  # fmt: skip
    assert ignoring.exact
    assert ignoring.variants == ("ties in order",)


def test_a_metric_of_ones_own_is_checked_too(monkeypatch):
    report = check_metric("DEL", deletion)
    monkeypatch.delitem(RECIPES, "DEL")
    unknown = check_metric("DEL", deletion)
    assert [case.largest for case in unknown.cases] == [case.largest for case in report.cases]
    percent = check_metric("DEL", lambda predict, x, target, attribution, remove, steps: 100 * deletion(
        predict, x, target, attribution, remove, steps))  # fmt: skip
    assert percent.exact
    assert percent.variants == ("percent",)
    ascending = check_metric("DEL", lambda predict, x, target, attribution, remove, steps: deletion(
        predict, x, target, -attribution, remove, steps))  # fmt: skip
    assert "ascending" in str(ascending)


# what differs


def wrapped(function, **changed):
    """Return a deletion with some of what it is given changed."""

    def other(predict, x, target, attribution, remove, steps, model, baseline):
        given = {"predict": predict, "x": x, "target": target, "attribution": attribution, "remove": remove,
                 "steps": steps, "model": model, "baseline": baseline}  # fmt: skip
        for name, change in changed.items():
            given[name] = change(given)
        del given["model"], given["baseline"]
        return function(**given)

    return other


def to_constant(given, value):
    own = given["remove"]

    def remove(rows, removed):
        gone = own(rows + 1e3, removed) != rows + 1e3
        return np.where(gone, value(rows).astype(rows.dtype), rows)

    return remove


BY_HAND = {
    ("trapezoid with start",): by_trapezoids,
    ("trapezoid with start", "floor"): by_trapezoids_of_floored_steps,
    ("floor",): lambda **given: curve(**given, rounded=int).mean(0),
    ("start",): lambda **given: curve(**given, first=0).mean(0),
    ("no end",): lambda **given: curve(**given)[:-1].mean(0),
    ("sum",): lambda **given: curve(**given).sum(0),
    ("area",): lambda **given: np.trapezoid(curve(**given), axis=0),
    ("percent",): lambda **given: 100 * deletion(**given),
    ("one less",): lambda **given: 1 - deletion(**given),
    ("share kept",): lambda **given: deletion(**given) / given["predict"](given["x"])[
        range(len(given["x"])), given["target"]],
    ("ascending",): wrapped(deletion, attribution=lambda given: -given["attribution"]),
    ("absolute attribution",): wrapped(deletion, attribution=lambda given: abs(given["attribution"])),
    ("logits",): wrapped(deletion, predict=lambda given: given["model"]),
    ("zero baseline",): wrapped(deletion, remove=lambda given: to_constant(given, lambda rows: np.zeros(1))),
    ("one feature a step",): wrapped(deletion, steps=lambda given: given["attribution"].shape[1]),
}  # fmt: skip


@pytest.mark.parametrize("names", BY_HAND)
def test_known_variants_written_by_hand_are_named(names):
    function = BY_HAND[names]

    def given(predict, x, target, attribution, remove, steps, model, baseline):
        known = {"predict": predict, "x": x, "target": target, "attribution": attribution, "remove": remove,
                 "steps": steps}  # fmt: skip
        more = {"model": model, "baseline": baseline} if function.__name__ == "other" else {}
        return function(**known, **more)

    report = check_metric("DEL", given)
    assert not report
    assert report.exact, report
    assert report.variants == names
    assert all(repr(name) in str(report) for name in names)
    assert "First: sample" in str(report)
    assert check_metric("DEL", given, variants=names), "it is what it is said to be"


def test_what_no_variant_explains_is_said_with_the_nearest_and_the_first_sample():
    def strange(predict, x, target, attribution, remove, steps):
        scores = by_trapezoids(predict, x, target, attribution, remove, steps)
        return scores + 1e-3 * (x.reshape(len(x), -1)[:, 0] > 0)

    report = check_metric("DEL", strange)
    assert not report.exact
    assert report.variants == ("trapezoid with start",)
    assert re.search(r"the nearest is 'trapezoid with start' .* from which \d+ of 58 samples differ", str(report))
    with pytest.raises(DifferenceError, match="strange is not DEL") as caught:
        report.raise_for_difference()
    assert isinstance(caught.value, AssertionError)
    hopeless = check_metric("DEL", lambda x: x.reshape(len(x), -1)[:, 0])
    assert hopeless.variants == ()
    assert "No known variant, and no two together, is nearer" in str(hopeless)


def test_single_precision_and_chance_are_recognised():
    report = check_metric("DEL", lambda predict, x, target, attribution, remove, steps: deletion(
        predict, x, target, attribution, remove, steps).astype(np.float32))  # fmt: skip
    assert not report
    assert "single precision" in str(report)
    random = np.random.default_rng(0)
    drawn = check_metric("DEL", lambda x: random.random(len(x)))
    assert "Called again on the same cases it gives other scores" in str(drawn)


@dataclass(frozen=True)
class Inserted(SharedProbe):
    """The first half of the features is put into the insertion baseline; its kind is a word that one of ours has."""

    kind, baseline = "fixed", "insertion"

    def sets(self, samples):
        gone = torch.arange(samples.valid.shape[1]) >= samples.valid.sum(1, keepdim=True) // 2
        return MaskSets.of((gone & samples.valid).unsqueeze(1))


def test_the_baseline_and_the_sets_of_a_probe_of_ones_own_are_its_own():
    class Mine(ProbeMetric):
        probe = Inserted()

        def score(self, response):
            return mean(response.prob, response)

        def unsupported(self, task):
            return "a text has no half" if task.modality == "text" else None

    METRICS.register("HALF")(Mine())

    def half(predict, x, target, remove, valid):
        gone = (np.arange(valid.shape[1]) >= valid.sum(1, keepdims=True) // 2) & valid
        return predict(remove(x, gone))[range(len(x)), target]

    report = check_metric("HALF", half)
    assert report, str(report)
    assert "Not asked: 2 cases with no score of HALF (a text has no half)." in str(report)
    assert "Not judged" not in str(report), "ties play no part where sets do not follow the attribution"
    with pytest.raises(UsageError, match="HALF has no random removal sets"):
        check_metric("HALF", lambda x, subsets: x)


def test_undefined_scores_are_told_from_defined_ones():
    report = check_metric("FC", lambda x: np.full(len(x), np.nan), cases=["mlp7*"])
    assert "It gives nan for" in str(report)
    report = check_metric("FC", lambda x: np.zeros(len(x)), cases="*some constant")
    assert "It gives a number for 1 sample without a score" in str(report)
    assert "expected nan (constant response of the model: correlation undefined), got 0." in str(report)
    json.dumps(report.row(), allow_nan=False)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda x: [1.0][len(x)], r"On 15 of 15 cases, the first 'mlp7, .*', it raised IndexError: .*test_testing.py"),
        (lambda x: x, r"it returned shape \(6, 7\), expected scores of shape \(6,\), one a sample"),
        (lambda x: 0.5, r"it returned shape \(\), expected scores of shape \(6,\)"),
        (lambda x: None, "it returned nothing, expected"),
        (lambda x: ["high"] * len(x), "it returned a list that holds no numbers, expected"),
        (lambda x: np.ones(len(x)) * 1j, "it returned complex numbers, expected"),
        (lambda x: sys.exit(3), "it raised SystemExit: 3"),
    ],
)
def test_what_a_function_does_in_place_of_giving_scores_is_one_sentence(function, sentence):
    def given(x, valid):
        return function(x)

    report = check_metric("RP", given)
    assert not report
    assert re.search(sentence, str(report))
    assert len(report.sentences) == 2


def test_a_function_may_change_what_it_is_given():
    def careless(predict, x, target, attribution, remove, steps, model):
        scores = deletion(predict, x, target, attribution, remove, steps)
        x[:], attribution[:] = 0, 0
        model.train()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        return scores

    assert check_metric("DEL", careless)
    assert check_metric("DEL", deletion)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: check_metric("DLE", deletion), "unknown metric 'DLE'; did you mean 'DEL'"),
        (lambda: check_metric("DEL", "deletion"), "expected a function that scores attributions, got a str"),
        (lambda: check_metric("DEL", lambda x, attributions: x), "parameter 'attributions', .* mean 'attribution'"),
        (lambda: check_metric("DEL", lambda x, /: x), "needs a parameter 'x', which cases do not have by name"),
        (lambda: check_metric("DEL", lambda subsets: subsets), "`subsets`, and DEL has no random removal sets"),
        (lambda: check_metric("DEL", dict), "does not say what its parameters are|needs a parameter"),
        (lambda: check_metric("DEL", deletion, cases=["mlq*"]), "unknown golden case 'mlq\\*'"),
        (lambda: check_metric("DEL", deletion, cases=[]), "expected some of the golden cases, got none"),
        (lambda: check_metric("DEL", deletion, cases=["tokens*"]), "no case is left to judge DEL on: all have padding"),
        (lambda: check_metric("DEL", deletion, variants=["trapezoids"]), "unknown variant .* did you mean 'trapezoid'"),
        (lambda: check_metric("FC", correlated, variants=["trapezoid"]), "FC has no variant 'trapezoid'"),
        (lambda: check_metric("DEL", deletion, framework="jax"), "framework is one of numpy, torch, got 'jax'"),
        (lambda: check_metric("DEL", deletion, tolerance=-1), "expected a tolerance of at least 0, got -1"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_one_sentence(call, sentence):
    with pytest.raises(UsageError, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_steps_of_one_size_can_be_asked_for():
    def in_steps(predict, x, target, attribution, remove, features_in_step):
        return curve(predict, x, target, attribution, remove, attribution.shape[1] // features_in_step).mean(0)

    report = check_metric("DEL", in_steps)
    assert report, report
    assert "Not asked: 4 cases with groups of several sizes" in str(report)
    assert check_metric("DEL", functools.partial(curve_mean, first=1))


def curve_mean(predict, x, target, attribution, remove, steps, first):
    return curve(predict, x, target, attribution, remove, steps, first).mean(0)


@pytest.mark.parametrize("variant", ["start", "trapezoid"])
def test_the_metric_itself_is_named_where_a_variant_is_expected(variant):
    report = check_metric("DEL", deletion, variants=[variant])
    assert not report
    assert "it equals DEL as it stands" in str(report)
