"""FastSHAP and CXPlain that are given what `deepfaith_hinted` is: what reaches the encoder, costs, and refusals."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from benchmark.core.errors import BenchmarkError, UsageError
from benchmark.core.parameters import configure
from benchmark.core.seeding import seeded
from benchmark.core.types import METHODS
from benchmark.learning import beside
from benchmark.learning.beside import Beside
from benchmark.learning.encoder import SPREAD, Backbone
from benchmark.learning.hints import USUAL, Hints
from benchmark.learning.prediction import Lead, margins
from benchmark.models.metering import Meter
from benchmark.models.others.adapters import NoGradientError
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.masked_model import MaskedModel
from deepfaith.hinted.training import prepared
from deepfaith.hinted_method import HintedDeepFaith
from methods.amortised import Labelled, encoder_shape
from tests import toys
from tests.methods.test_told import attributions, make, method, shut  # noqa: F401

NAMES = ("fastshap", "cxplain")
MODALITIES = tuple(toys.TASKS)
CASES = [(modality, name) for modality in MODALITIES for name in NAMES]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "own"))


def predicted(task):
    return task.model(task.test.x).argmax(1)


def explainer(name, task, given="gradient", **more):
    return method(name, given=given, **more).prepare(task, 3)


# What is given


@pytest.mark.parametrize("modality", MODALITIES)
def test_it_is_what_deepfaith_hinted_is_given(modality):
    task = make(modality)
    recipe = HintedDeepFaith().recipe(task)
    assert recipe.hints == USUAL[modality]
    answered, _ = prepared(task, recipe, task.test.x, MaskedModel(task))
    target, margin, hints = Beside(task, "gradient", "fastshap")(task.test.x)
    assert torch.equal(target, answered.target)
    assert torch.equal(margin, answered.margin)
    assert torch.equal(hints, answered.hints)
    assert not hints.requires_grad


@pytest.mark.parametrize("modality", MODALITIES)
def test_nothing_is_given_by_default(modality):
    task = make(modality)
    assert Beside(task, "nothing", "fastshap")(task.test.x) == ()
    with seeded(0):
        without = Labelled(task, 2, 3)
    with seeded(0):  # as it was made before anything could be given
        backbone = Backbone(encoder_shape(task, 2))
        backbone.start_from(task)
        label = SPREAD * torch.randn(3, backbone.shape.width)
    assert torch.equal(without.label, label)
    for name, weight in backbone.state_dict().items():
        assert torch.equal(without.backbone.state_dict()[name], weight), name
    assert not [name for name in without.state_dict() if "see" in name or "lead" in name]
    target = predicted(task)
    token = without.label[target].unsqueeze(1)
    assert torch.equal(without(task.test.x, target), without.backbone(task.test.x, token))


@pytest.mark.parametrize("modality", MODALITIES)
def test_all_that_is_given_reaches_the_encoder(modality):
    task = make(modality)
    given = Beside(task, "gradient", "fastshap")
    with seeded(0):
        encoder = Labelled(task, 1, 3, given.count)
    target, margin, hints = given(task.test.x)
    plain = encoder(task.test.x, target, margin, hints)
    assert not torch.equal(encoder(task.test.x, (target + 1) % 3, margin, hints), plain)
    assert not torch.equal(encoder(task.test.x, target, margin + 1, hints), plain)
    for one in range(given.count):
        other = hints.clone()
        other[..., one] += 1
        assert not torch.equal(encoder(task.test.x, target, margin, other), plain), f"hint {one}"


def test_margins_are_cut():
    with seeded(0):
        lead = Lead(4)
    assert torch.equal(lead(torch.tensor([8.0, 50.0]))[0], lead(torch.tensor([8.0, 50.0]))[1])
    assert margins(torch.tensor([[1.0, 3.0, 0.5]]), torch.tensor([1])).tolist() == [2.0]


def test_hints_of_training_rows_are_computed_once_where_they_fit(monkeypatch):
    task = make("table")
    given, meter = Beside(task, "gradient", "cxplain"), Meter()
    rows = torch.tensor([3, 0, 3])
    with meter.phase("all", task.model):
        kept = given.of_rows(task.train.x)
    with meter.phase("kept", task.model):
        found = kept(rows)
    assert asdict(meter.phases["all"])["backwards"] == 3 * len(task.train.x)
    assert meter.phases["kept"].forwards == 0
    monkeypatch.setattr(beside, "KEPT_BYTES", 1)
    with meter.phase("anew", task.model):
        anew = given.of_rows(task.train.x)(rows)
    assert meter.phases["anew"].backwards == 3 * len(rows)
    for one, other in zip(found, anew, strict=True):
        torch.testing.assert_close(one, other)


# Explainers


@pytest.mark.parametrize(("modality", "name"), CASES)
def test_attributions_follow_hints_and_seed_and_not_company(modality, name, monkeypatch, tmp_path):
    task = make(modality)
    x, target = task.test.x, predicted(task)
    explain = explainer(name, task)
    found = explain(x, target)
    assert found.shape == (len(x), task.n_features)
    assert found.isfinite().all()
    assert (found.masked_select(~task.removal.valid(x)) == 0).all(), "padding gets nothing"
    alone = torch.cat([explain(x[i : i + 1], target[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(alone, found, rtol=1e-3, atol=1e-4)
    assert torch.equal(explain(x, (target + 1) % 3), found), "it is the predicted class that is explained"

    with monkeypatch.context() as patch:
        patch.setattr("benchmark.learning.fitting._run", None)
        assert torch.equal(explainer(name, task)(x, target), found), "a kept explainer is the same"
        patch.setattr(Hints, "of", lambda self, *given, real=Hints.of, **more: real(self, *given, **more).flip(1))
        assert not torch.equal(explain(x, target), found), "hints matter"
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "anew"))
    assert torch.equal(explainer(name, task)(x, target), found), "so does one that is trained anew"
    assert not torch.equal(explainer(name, task, given="nothing")(x, target), found)


@pytest.mark.parametrize("name", NAMES)
def test_training_is_the_same_where_hints_do_not_fit(name, monkeypatch, tmp_path):
    task = make("table")
    whole = explainer(name, task)(task.test.x, predicted(task))
    monkeypatch.setattr(beside, "KEPT_BYTES", 1)
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "anew"))
    torch.testing.assert_close(explainer(name, task)(task.test.x, predicted(task)), whole, rtol=1e-3, atol=1e-4)


def test_values_still_add_up():
    task = make("table")
    x, target = task.test.x, predicted(task)
    whole, empty = (
        task.model(rows).softmax(1).gather(1, target.unsqueeze(1)).squeeze(1)
        for rows in (x, task.removal.baseline(x).expand_as(x))
    )
    total = explainer("fastshap", task)(x, target).sum(1)
    torch.testing.assert_close(total, whole - empty, atol=1e-5, rtol=0)


@pytest.mark.parametrize("value", ["surrogate", "model"])
def test_either_game_of_fastshap_may_be_played(value):
    task = make("table")
    found = explainer("fastshap", task, value=value)(task.test.x, predicted(task))
    assert found.isfinite().all()


def test_an_interval_is_given_hints_too(monkeypatch):
    task = make("table")
    explain = explainer("cxplain", task, members="3")
    lower, upper = explain.interval(task.test.x)
    found = explain(task.test.x, predicted(task))
    assert (lower <= found).all()
    assert (found <= upper).all()
    monkeypatch.setattr(Hints, "of", lambda self, *given, real=Hints.of, **more: real(self, *given, **more).flip(1))
    assert not torch.equal(explain.interval(task.test.x)[0], lower), "its ends follow the hints"


# Costs and refusals

BESIDE = {"table": (1 + 3, 3), "text": (1 + 2, 2), "image": (1 + 3 + 1 + 2, 3 + 1 + 2)}
"""Rows forward and backward of the prediction and the hints: DeepLIFT also asks about a reference."""


@pytest.mark.parametrize(("modality", "name"), CASES)
def test_rows_are_counted(modality, name):
    task, meter = make(modality), Meter()
    explain, target = explainer(name, task), predicted(task)
    with meter.phase("one", task.model):
        explain(task.test.x[:1], target[:1])
    forwards, backwards = BESIDE[modality]
    ends = 2 if name == "fastshap" else 0
    assert meter.phases["one"].forwards == forwards + ends
    assert meter.phases["one"].backwards == backwards
    plain = explainer(name, task, given="nothing").report["costs"]["training"]
    costs = explain.report["costs"]["training"]
    assert plain["backwards"] == 0
    assert costs["backwards"] % backwards == 0
    assert 0 < costs["backwards"] <= backwards * len(task.train.x)
    assert costs["forwards"] - plain["forwards"] <= forwards * len(task.train.x)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_needed(name, attributions):  # noqa: F811
    from tests.methods.test_told import NoGradientError as ClosedError

    with pytest.raises(ClosedError):
        attributions(name, shut(make("table")), given="gradient")

    class Step(nn.Module):
        def forward(self, x):
            return torch.stack([x[:, 0], -x[:, 0], x[:, 1]], 1).detach()

    task = replace(make("table"), model=Step().eval())
    with pytest.raises(NoGradientError, match="no gradient passes the model"):
        explainer(name, task)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_rules_cannot_take_is_told_the_way_out(name):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.Linear(64, 3)).eval()
    with pytest.raises(BenchmarkError, match=rf"lrp, .* cannot take this model .* use {name}\[given=nothing\]"):
        explainer(name, replace(make("image"), model=model.requires_grad_(False)))


@pytest.mark.parametrize("name", NAMES)
def test_another_word_is_refused(name):
    with pytest.raises(UsageError, match=rf"{name}\[given\] expects one of nothing, gradient, got 'hints'"):
        configure(METHODS.get(name), name, {"given": "hints"})


def test_another_class_is_refused_where_hints_are_given():
    task = make("table")
    task = replace(task, target=(predicted(task) + 1) % 3)
    Evaluator(task).evaluate(method("fastshap"), "fastshap")
    with pytest.raises(UsageError, match="explains the class that the model predicts, and other classes are asked for"):
        Evaluator(task).evaluate(method("fastshap", given="gradient"), "fastshap[given=gradient]")


@pytest.mark.parametrize("name", NAMES)
def test_its_code_is_that_of_the_rules_too(name):
    assert method(name).learns_from("image") == []
    given = method(name, given="gradient")
    assert [type(one).__name__ for one in given.learns_from("image")] == ["LRP", "DeepLift"]
    assert given.learns_from("table") == []


def test_tuning_does_not_choose_it():
    assert all("given" not in METHODS.get(name).space.values for name in NAMES)
