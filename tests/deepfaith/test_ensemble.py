"""Several hinted explainers as one, and one that is distilled from them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmark.core.errors import BenchmarkError, UsageError
from benchmark.core.parameters import configured
from benchmark.core.seeding import seed_for
from benchmark.core.types import Split
from benchmark.learning import fitting
from benchmark.models.metering import Meter
from benchmark.scoring.masked_model import MaskedModel
from deepfaith import hinted_method
from deepfaith.hinted.distilling import Copying, Distilling, distil, inputs_to_copy, taught, without_hints
from deepfaith.hinted.ensemble import agreed, report_of
from deepfaith.hinted.training import explained, prepared, train
from deepfaith.hinted_method import DISTILLING, HintedDeepFaith, TrainedHinted
from tests.deepfaith.test_hinted import predicted, small, weights

SHORT = {"batch": 4, "sets": 4, "width": 8, "depth": 1, "points": 2}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))


def explaining(task, explain):
    """Return attributions of the test rows, and rows forward and backward of each."""
    meter, target = Meter(), predicted(task)
    with meter.phase("explaining", task.model):
        attributions = explain(task.test.x, target)
    cost, count = meter.phases["explaining"], len(task.test.x)
    return attributions, cost.forwards / count, cost.backwards / count


# Ensembles


@pytest.mark.parametrize("modality", ["table", "text", "image"])
def test_an_ensemble_averages_its_members_in_no_more_rows(modality):
    task, _ = small(modality)
    method = HintedDeepFaith(ensemble=3, iterations=12, rules=False, **SHORT)
    ensemble = method.prepare(task, 7)
    attributions, forwards, backwards = explaining(task, ensemble)
    assert (forwards, backwards) == (3, 2)
    members = [
        HintedDeepFaith(iterations=4, rules=False, **SHORT).prepare(task, seed)
        for seed in (7, seed_for(7, "member", 1), seed_for(7, "member", 2))
    ]
    given, _ = prepared(task, ensemble.recipe, task.test.x, MaskedModel(task))
    by_member = [explained(member.explainers[0], given, 3) for member in members]
    for at, found in enumerate(agreed(ensemble.explainers, given, 3)):
        parts = [one[at] / one[at].norm(dim=1, keepdim=True) for one in by_member]
        torch.testing.assert_close(found, sum(parts) / 3)
    assert not torch.allclose(by_member[0][0], by_member[1][0]), "each is trained from a seed of its own"
    assert torch.equal(attributions, method.prepare(task, 7)(task.test.x, predicted(task)))


def test_the_scale_of_a_member_does_not_count():
    task, recipe = small("table", additive=True, separate=True)
    first, second = (train(task, recipe, seed)[0] for seed in (0, 1))
    given, _ = prepared(task, recipe, task.test.x, MaskedModel(task))
    before = agreed([first, second], given, 4)
    second.starts *= 100
    second.backbone.head.weight.data *= 100
    second.backbone.head.bias.data *= 100
    for part, scaled in zip(before, agreed([first, second], given, 4), strict=True):
        torch.testing.assert_close(part, scaled)


def test_members_that_give_nothing_count_nothing():
    task, recipe = small("table")
    explainer, _ = train(task, recipe, 0)
    given, _ = prepared(task, recipe, task.test.x, MaskedModel(task))
    silent = replace(given, hints=torch.zeros_like(given.hints))
    explainer.backbone.head.weight.data.zero_()
    explainer.backbone.head.bias.data.zero_()
    order, _ = agreed([explainer, explainer], silent, 4)
    assert torch.equal(order, torch.zeros_like(order))


def test_what_members_cost_is_added_and_their_curves_are_told_apart():
    task, _ = small("table")
    one, two = (
        HintedDeepFaith(ensemble=count, iterations=4 * count, **SHORT).prepare(task, 0).report for count in (1, 2)
    )
    assert one["iterations"] == 4
    assert two["iterations"] == 8
    assert {"member 1 start", "member 1 training", "member 2 start", "member 2 training"} == set(two["costs"])
    assert two["costs"]["member 1 training"] == one["costs"]["training"]
    assert [point["iteration"] for point in two["curves"]] == 2 * [point["iteration"] for point in one["curves"]]
    assert {point["member"] for point in two["curves"]} == {0.0, 1.0}
    assert two["member 2"]["start"].keys() == {"order", "size"}


def test_a_single_report_is_left_as_it_is():
    report = {"curves": [], "iterations": 0, "costs": {}, "start": "any"}
    assert report_of({"member 1": report}) == report


def test_iterations_and_seconds_are_shared():
    task, _ = small("table")
    for given, field in (({"seconds": 12.0}, "seconds"), ({"iterations": 12}, "iterations")):
        for settings, shares in (({}, 1), ({"ensemble": 3}, 3), ({"ensemble": 4, "distilled": True}, 6)):
            fitting = HintedDeepFaith(**given, **settings).recipe(task).fitting
            assert getattr(fitting, field) == 12 / shares


@pytest.mark.parametrize("modality", ["table", "text", "image"])
def test_by_default_each_member_is_trained_as_one_alone(modality):
    task, _ = small(modality)
    alone, three = HintedDeepFaith().recipe(task), HintedDeepFaith(ensemble=3, distilled=True)
    assert three.recipe(task) == alone
    assert three.resolved(task).iterations == (3 + DISTILLING[modality]) * alone.fitting.iterations


def test_members_that_are_there_are_not_trained_again(monkeypatch):
    task, _ = small("table")
    HintedDeepFaith(ensemble=2, iterations=8, **SHORT).prepare(task, 0)

    def trained_again(*arguments):
        raise AssertionError("it is in the cache")

    monkeypatch.setattr("deepfaith.hinted.stored.train", trained_again)
    HintedDeepFaith(ensemble=2, iterations=8, **SHORT).prepare(task, 0)
    HintedDeepFaith(iterations=4, **SHORT).prepare(task, 0)
    HintedDeepFaith(ensemble=2, iterations=16, distilled=True, **SHORT).prepare(task, 0)


# Distilling


@pytest.mark.parametrize("modality", ["table", "text", "image"])
def test_what_is_distilled_explains_in_one_row_without_gradients(modality):
    task, _ = small(modality)
    method = HintedDeepFaith(ensemble=2, distilled=True, iterations=16, rules=False, **SHORT)
    explain = method.prepare(task, 0)
    attributions, forwards, backwards = explaining(task, explain)
    assert (forwards, backwards) == (1, 0)
    assert attributions.std(1).min() > 0
    assert torch.equal(attributions, method.prepare(task, 0)(task.test.x, predicted(task))), "from the cache"
    assert set(explain.report["costs"]) >= {"member 2 training", "distilled explaining", "distilled distilling"}


def test_a_student_comes_near_its_teacher():
    task, recipe = small("table", iterations=30)
    teacher, _ = train(task, recipe, 0)
    student, report = distil(task, recipe, [teacher], Distilling(rows=400, iterations=400), 0)
    losses = [point["distance"] for point in report["curves"]]
    assert losses[-1] < 0.5 * losses[0]
    own = without_hints(recipe)
    x, target = task.train.x, task.model(task.train.x).argmax(1)
    theirs = TrainedHinted(task, recipe, [teacher], {})(x, target).double()
    copied = TrainedHinted(task, own, [student], report)(x, target).double()
    alike = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(theirs, copied, strict=True)])
    assert alike.mean() > 0.8


def test_a_killed_distilling_ends_with_the_same_explainer(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", 0.0)
    task, recipe = small("table")
    teacher, _ = train(task, recipe, 0)
    asked = Distilling(rows=40, iterations=10)
    whole, report = distil(task, recipe, [teacher], asked, 3)
    real, calls = Copying.loss, []

    def killed(self, generator):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(self, generator)

    monkeypatch.setattr(Copying, "loss", killed)
    with pytest.raises(KeyboardInterrupt):
        distil(task, recipe, [teacher], asked, 3, tmp_path / "checkpoint.pt")
    again, second = distil(task, recipe, [teacher], asked, 3, tmp_path / "checkpoint.pt")
    assert torch.equal(weights(again), weights(whole))
    assert second["curves"] == report["curves"]
    assert len(calls) == 11, "iterations that were done are not done again"


def test_copied_inputs_are_training_rows_and_mixtures_of_them():
    task, _ = small("table")
    alone = torch.cat(inputs_to_copy(task, 400, 0.0, 0))
    assert torch.equal(alone.sort(0).values, task.train.x.sort(0).values)
    assert len(torch.cat(inputs_to_copy(task, 7, 0.5, 0))) == 7
    mixed, held = inputs_to_copy(task, 60, 0.5, 0)
    assert (len(mixed), len(held)) == (54, 6)
    for column, known in zip(torch.cat([mixed, held]).T, task.train.x.T, strict=True):
        assert torch.isin(column, known).all(), "each value is a training row's"
    for row in task.test.x:
        assert not (torch.cat([mixed, held]) == row).all(1).any()
    assert torch.equal(mixed, inputs_to_copy(task, 60, 0.5, 0)[0])
    assert not torch.equal(mixed, inputs_to_copy(task, 60, 0.5, 1)[0])


def test_rows_that_validate_have_no_share_in_what_is_copied():
    task, _ = small("table")
    task = replace(task, train=Split(torch.randn(40, 7), torch.zeros(40, dtype=torch.long)))
    copied, held = inputs_to_copy(task, 200, 0.5, 0)
    assert len(held) == 20
    assert not torch.isin(copied, held).any(), "not a value of theirs"


def test_the_length_of_a_text_does_not_count():
    task, recipe = small("text")
    teacher, _ = train(task, recipe, 0)
    found = taught(task, recipe, [teacher], task.train.x)
    assert len(found.valid.sum(1).unique()) > 1
    for part in (found.order, found.size):
        assert not part[~found.valid].any()
        torch.testing.assert_close(part.square().sum(1) / found.valid.sum(1), torch.ones(len(part)))
    assert float(found.distance(found.order, found.size)) == 0
    wrong = float(found.distance(-found.order, found.size))
    assert wrong == pytest.approx(4.0)
    assert found.given.hints.shape[-1] == 0


def test_another_teacher_is_copied_anew(monkeypatch):
    task, _ = small("table")
    method = HintedDeepFaith(distilled=True, iterations=12, **SHORT)
    first = method.prepare(task, 0)(task.test.x, predicted(task))
    real = hinted_method.trained_member

    def other(*arguments):
        explainer, report = real(*arguments)
        explainer.starts *= -1
        return explainer, report

    monkeypatch.setattr(hinted_method, "trained_member", other)
    assert not torch.equal(first, method.prepare(task, 0)(task.test.x, predicted(task)))


def test_a_single_row_cannot_be_distilled():
    task, recipe = small("table")
    teacher, _ = train(task, recipe, 0)
    one = replace(task, train=Split(task.train.x[:1], task.train.y[:1]))
    with pytest.raises(UsageError, match="needs 2 training inputs at least"):
        distil(one, replace(recipe, mix=0.0), [teacher], Distilling(rows=40, iterations=4), 0)


def test_seconds_that_explaining_uses_up_say_what_to_lower():
    task, recipe = small("table")
    teacher, _ = train(task, recipe, 0)
    with pytest.raises(BenchmarkError, match="which `copied` bounds, took .* give more seconds"):
        distil(task, recipe, [teacher], Distilling(rows=40, iterations=4, seconds=1e-9), 0)


def test_settings_that_cannot_be():
    for name, least in (("ensemble", 1), ("copied", 2)):
        with pytest.raises(UsageError, match=rf"{name}\] expects .* {least}"):
            configured(HintedDeepFaith, "deepfaith_hinted", {name: least - 1})
    with pytest.raises(UsageError, match="distilled=true. trains: leave out iterations=0"):
        HintedDeepFaith(distilled=True, iterations=0)
