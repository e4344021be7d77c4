"""The hinted explainer: the start, training as a whole, and the parts that can be left out."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from benchmark.core.errors import BenchmarkError, UsageError
from benchmark.core.types import Split
from benchmark.learning import fitting
from benchmark.learning.hints import Hints
from benchmark.models.metering import Meter
from benchmark.scoring.masked_model import MaskedModel
from deepfaith.hinted import training
from deepfaith.hinted.explainer import HintedExplainer
from deepfaith.hinted.groups import MIXED_SHARES, group_loss, kinds_for
from deepfaith.hinted.training import GroupObjective, Judge, Start, explained, prepared, train, untrained
from deepfaith.hinted_method import HintedDeepFaith, TrainedHinted
from deepfaith.method import DeepFaith
from tests import toys


def small(modality, **settings):
    """Return a toy in single precision with training rows of its own, and a short recipe."""
    task = toys.TASKS[modality](samples=30)
    x = task.test.x.float() if modality != "text" else task.test.x
    task = replace(
        task, model=task.model.float(), train=Split(x[:20], task.test.y[:20]), test=Split(x[20:], task.test.y[20:])
    )
    sizes = {"iterations": 6, "batch": 4, "sets": 4, "width": 8, "depth": 1, "rules": False, "points": 2} | settings
    recipe = HintedDeepFaith(**sizes).recipe(task)
    return task, replace(recipe, fresh=4, every=2, pool=8, validation=5)


def predicted(task):
    return task.model(task.test.x).argmax(1)


def weights(explainer):
    return torch.cat([p.flatten() for p in explainer.parameters()])


# The start, and training


def fed(task, recipe):
    given, _ = prepared(task, recipe, task.test.x, MaskedModel(task))
    return given


@pytest.mark.parametrize(("modality", "separate"), itertools.product(["table", "image"], [True, False]))
def test_an_untrained_explainer_gives_its_start(modality, separate):
    task, recipe = small(modality, separate=separate, additive=True)
    start = Start("first", "both", ([1.0, 0.0], [1.0, 1.0]))
    explainer = untrained(task, recipe, start, 0).eval()
    given = fed(task, recipe)
    order, size = explained(explainer, given, 3)
    torch.testing.assert_close(order, given.hints[..., 0])
    torch.testing.assert_close(size, given.hints.sum(-1) if separate else order)


def test_without_iterations_the_start_is_the_explainer():
    task, recipe = small("table", iterations=0, separate=True)
    explainer, report = train(task, recipe, 0)
    given = fed(task, recipe)
    gains = recipe.hints.candidates()
    order, size = explained(explainer.eval(), given, 4)
    for found, name in ((order, report["start"]["order"]), (size, report["start"]["size"])):
        torch.testing.assert_close(found, (given.hints * torch.tensor(gains[name])).sum(-1))
    assert report["curves"] == []
    assert report["iterations"] == 0


def test_training_that_makes_it_worse_leaves_the_start(monkeypatch):
    monkeypatch.setattr(training, "group_loss", lambda *arguments: 2 - group_loss(*arguments))
    task, recipe = small("table", rate=0.1, iterations=20)
    trained, report = train(task, recipe, 0)
    start, _ = train(task, replace(recipe, fitting=replace(recipe.fitting, iterations=0)), 0)
    assert report["curves"][0]["iteration"] == 0
    assert min(report["curves"], key=lambda point: point["loss"])["iteration"] == 0
    assert torch.equal(weights(trained), weights(start))


@pytest.mark.parametrize("modality", ["table", "text", "image"])
def test_the_same_seed_gives_the_same_explainer(modality):
    task, recipe = small(modality)
    (first, report), (second, _), (other, _) = (train(task, recipe, seed) for seed in (0, 0, 1))
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))
    assert {"iteration", "loss", "answers", "correlation"} <= set(report["curves"][-1])
    assert report["hints"] == ["gradient at 0.211", "gradient at 0.789"]


@pytest.mark.parametrize("modality", ["table", "text", "image"])
def test_a_killed_training_ends_with_the_same_explainer(modality, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", 0.0)
    task, recipe = small(modality, iterations=8)
    whole, report = train(task, recipe, 5)
    real, calls = GroupObjective.loss, []

    def killed(self, generator):
        calls.append(len(self.pool))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, generator)

    monkeypatch.setattr(GroupObjective, "loss", killed)
    with pytest.raises(KeyboardInterrupt):
        train(task, recipe, 5, tmp_path / "checkpoint.pt")
    again, second = train(task, recipe, 5, tmp_path / "checkpoint.pt")
    assert torch.equal(weights(again), weights(whole))
    assert second["curves"] == report["curves"]
    assert second["answers"] == report["answers"]
    assert len(calls) == 9, "iterations that were done are not done again"


def test_only_training_rows_are_seen():
    task, recipe = small("table")
    seen = []
    hook = task.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    train(task, recipe, 0)
    hook.remove()
    asked = torch.cat(seen)
    for row in task.test.x:
        assert not (asked == row).all(1).any(), "a test row was asked about in training"


def test_validation_rows_are_not_trained_on(monkeypatch):
    task, recipe = small("table")
    rows = {}
    real = GroupObjective.__init__

    def watched(self, explainer, task, recipe, inputs, held, judge):
        rows.update(inputs=inputs, held=held.x)
        real(self, explainer, task, recipe, inputs, held, judge)

    monkeypatch.setattr(GroupObjective, "__init__", watched)
    train(task, recipe, 0)
    assert len(rows["held"]) == 5
    assert len(rows["inputs"]) == 15
    for row in rows["held"]:
        assert not (rows["inputs"] == row).all(1).any()


def test_the_pool_is_bounded_and_fresh():
    task, recipe = small("table", iterations=20)
    pools = []
    real = GroupObjective._refresh

    def watched(self, generator):
        real(self, generator)
        pools.append(sum(len(part.x) for part in self.pool))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GroupObjective, "_refresh", watched)
        _, report = train(task, recipe, 0)
    assert pools == [4, *[8] * 9]
    assert report["answers"] == 10 * 4 * len(kinds_for(task.budget, 7)) * 4


@pytest.mark.parametrize("points", [1, 3])
def test_rows_of_an_explanation(points):
    task, recipe = small("table", points=points, iterations=2)
    explainer, report = train(task, recipe, 0)
    meter, target = Meter(), predicted(task)
    with meter.phase("explaining", task.model):
        TrainedHinted(task, recipe, [explainer], report)(task.test.x, target)
    assert meter.phases["explaining"].forwards == (points + 1) * len(task.test.x)
    assert meter.phases["explaining"].backwards == points * len(task.test.x)


def test_an_explanation_does_not_depend_on_company():
    task, recipe = small("image", separate=True)
    explainer, report = train(task, recipe, 0)
    explain = TrainedHinted(task, recipe, [explainer], report)
    x, target = task.test.x, predicted(task)
    whole = explain(x, target)
    back = explain(x.flip(0), target.flip(0)).flip(0)
    alone = torch.cat([explain(x[i : i + 1], target[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(whole, alone, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(whole, back, rtol=1e-3, atol=1e-3)


def test_large_images_have_gains_by_the_patch():
    task, recipe = small("image")
    start = Start("both", "both", ([1.0, 1.0], [1.0, 1.0]))
    fine = untrained(task, recipe, start, 0)
    shape = replace(fine.backbone.shape, patch=3, coarse=True)
    coarse = HintedExplainer(shape, 3, start.gains, True, False, recipe.separate)
    torch.nn.init.normal_(coarse.backbone.head.weight)
    hints = torch.ones(2, 36, 2)
    order, _ = coarse(task.test.x[:2], torch.tensor([0, 1]), torch.ones(2), hints)
    blocks = order.view(2, 2, 3, 2, 3).transpose(2, 3).flatten(3)
    torch.testing.assert_close(blocks, blocks[..., :1].expand_as(blocks))
    assert len(order[0].unique()) >= 4


def test_differences_by_rounding_do_not_count():
    task, _ = small("table")
    judge = Judge(task, task.train.x, 0)
    scores = torch.full((3, 10), 0.5, dtype=torch.float64)
    judge.calibrate(scores + 1e-10 * torch.arange(3).view(3, 1))
    nearly = scores[:1] + 1e-9
    assert abs(float(judge.value(nearly))) < 1e-4
    assert float(judge.value(scores[:1] - 0.1)) < -1


def test_seconds_train_where_iterations_are_none_too():
    task, recipe = small("table", iterations=0, seconds=0.5)
    _, report = train(task, recipe, 0)
    assert report["iterations"] > 0


def test_a_single_training_row_is_refused():
    task, recipe = small("table")
    with pytest.raises(UsageError, match="needs 2 training inputs at least"):
        train(replace(task, train=Split(task.train.x[:1], task.train.y[:1])), recipe, 0)


@pytest.mark.parametrize(("batch", "pool"), [(1, 8), (6, 8), (20, 8)])
def test_a_step_has_as_many_inputs_as_it_says(batch, pool, monkeypatch):
    task, recipe = small("table", batch=batch)
    sizes = []
    real = GroupObjective._batch

    def watched(self, generator):
        found = real(self, generator)
        sizes.append(len(found.x))
        return found

    monkeypatch.setattr(GroupObjective, "_batch", watched)
    train(task, replace(recipe, pool=pool), 0)
    assert sizes == [batch] * 6


def test_a_checkpoint_of_another_start_is_not_gone_on_from():
    task, recipe = small("table")
    held = fed(task, recipe)
    judge = Judge(task, held.x, 0)
    starts = [Start("a", "b", ([1.0, 0.0], [1.0, 1.0])), Start("a", "b", ([0.0, 1.0], [1.0, 1.0]))]
    first, other = (
        GroupObjective(untrained(task, recipe, start, 0), task, recipe, task.train.x, held, judge) for start in starts
    )
    first.restore(first.state())
    with pytest.raises(TypeError, match="another combination"):
        other.restore(first.state())


def test_a_model_that_a_rule_cannot_take_is_told_the_way_out():
    task, recipe = small("image")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4, affine=False), torch.nn.Flatten(),
                                torch.nn.Linear(64, 3)).eval()  # fmt: skip
    with pytest.raises(
        BenchmarkError, match=r"lrp, a hint on images, cannot take .* use deepfaith_hinted\[rules=false\]"
    ):
        prepared(replace(task, model=model), replace(recipe, hints=Hints(1, True)), task.test.x[:2], MaskedModel(task))


def test_settings_that_cannot_be():
    with pytest.raises(UsageError, match=r"deepfaith_hinted\[width\] expects a multiple of 4, got 6"):
        HintedDeepFaith(width=6)
    task, _ = small("table")
    assert "on images alone" in HintedDeepFaith(rules=True).unsupported(task)
    assert HintedDeepFaith(rules=True).unsupported(toys.TASKS["image"]()) is None
    assert [type(one).__name__ for one in HintedDeepFaith().learns_from("image")] == ["LRP", "DeepLift"]
    assert HintedDeepFaith().learns_from("table") == []


# Parts that can be left out


def trained_with(modality, **settings):
    task, recipe = small(modality, **settings)
    recipe = replace(recipe, fitting=replace(recipe.fitting, from_start=False))
    explainer, report = train(task, recipe, 0)
    given, _ = prepared(task, recipe, task.test.x, MaskedModel(task))
    return explainer, report, given


@pytest.mark.parametrize("modality", ["table", "image"])
def test_without_hints_the_input_alone_is_explained(modality):
    explainer, report, given = trained_with(modality, points=0, gains=False, additive=True)
    assert report["hints"] == []
    assert given.hints.shape[-1] == explainer.backbone.shape.given == 0
    assert max(part.abs().max() for part in explainer(*given.inputs)) > 0


def test_gains_that_are_not_learned_stay_at_the_start():
    explainer, _, given = trained_with("table", gains=False, additive=True)
    order, _ = explainer(*given.inputs)
    explainer.backbone.head.weight.data.zero_()
    explainer.backbone.head.bias.data.zero_()
    start, _ = explainer(*given.inputs)
    torch.testing.assert_close(start, (explainer.starts[0] * given.hints).sum(-1))
    assert not torch.equal(order, start)


@pytest.mark.parametrize("modality", ["table", "image"])
def test_a_start_at_nothing_learns(modality):
    explainer, report, given = trained_with(modality, start="nothing")
    assert not explainer.starts.any()
    assert report["start"] == {"order": "nothing", "size": "nothing"}
    task, recipe = small(modality, start="nothing")
    begun = untrained(task, recipe, Start("nothing", "nothing", ([0.0] * 2,) * 2), 0)
    for trained, first in zip(explainer(*given.inputs), begun(*given.inputs), strict=True):
        assert first.any(), "a correlation with masses that are all 0 has no slope"
        assert not torch.equal(trained, first)


@pytest.mark.parametrize("modality", ["table", "image"])
def test_mixed_sizes_are_as_many_sets_in_one_group(modality, monkeypatch):
    task, recipe = small(modality, loss="mixed", separate=False)
    shapes, drawing = [], GroupObjective._ask

    def watched(self, x, generator):
        answered = drawing(self, x, generator)
        shapes.append(answered.masks.shape[1:3])
        sizes.update(answered.masks.sum(-1).flatten().tolist())
        return answered

    sizes = set()
    monkeypatch.setattr(GroupObjective, "_ask", watched)
    train(task, recipe, 0)
    assert set(shapes) == {(1, recipe.sets * len(kinds_for(task.budget, task.n_features)))}
    assert len(sizes) > 2


def test_what_cannot_be_learned_is_refused():
    table, image = toys.TASKS["table"](), toys.TASKS["image"]()
    assert HintedDeepFaith(gains=False).unsupported(table) is None, "numbers are added there"
    assert "gains=false learns nothing on images without additive=true" in HintedDeepFaith(gains=False).unsupported(
        image
    )
    assert HintedDeepFaith(gains=False, iterations=0).unsupported(image) is None
    without = HintedDeepFaith(points=0, rules=False, additive=False)
    assert "points=0 leaves no hints on images without additive=true" in without.unsupported(image)
    assert "no start for iterations=0" in HintedDeepFaith(points=0, iterations=0).unsupported(table)
    for settings in (
        {"loss": "mixed", "separate": True},
        {"start": "nothing", "iterations": 0},
        {"start": "nothing", "gains": False},
    ):
        with pytest.raises(UsageError, match="leave out"):
            HintedDeepFaith(**settings)


def test_mixed_sizes_are_of_one_output_and_those_of_deepfaith():
    for modality in MIXED_SHARES:
        task = toys.TASKS[modality]()
        assert HintedDeepFaith(loss="mixed").recipe(task).separate is False
        drawing = DeepFaith().recipe(modality).drawing
        assert MIXED_SHARES[modality] == (pytest.approx(drawing.low), pytest.approx(drawing.high))


@pytest.mark.parametrize("points", [0, 1])
def test_by_a_single_candidate_no_score_is_cut(points, monkeypatch):
    task, recipe = small("table", points=points)
    judges, calibrate = [], Judge.calibrate
    monkeypatch.setattr(Judge, "calibrate", lambda self, scores: (calibrate(self, scores), judges.append(self)))
    train(task, recipe, 0)
    (judge,) = judges
    best, better = torch.tensor([[0.9] * 10, [1.0] * 10], dtype=torch.float64)
    assert judge.value(torch.stack([best, better])).diff().item() == pytest.approx(0.1)
