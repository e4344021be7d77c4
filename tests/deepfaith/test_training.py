"""Training as a whole: what is drawn, what is asked, and that the same seed gives the same explainer after a kill."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.core.errors import UsageError
from benchmark.core.types import METHODS, Split
from benchmark.learning import fitting
from benchmark.learning.fitting import DivergedError, Fitting
from benchmark.learning.prediction import margins
from benchmark.models.metering import Meter
from deepfaith.drawing import Drawing
from deepfaith.explainer import Explainer
from deepfaith.method import DeepFaith
from deepfaith.training import Joint, train
from tests import toys

MODALITIES = ("table", "text", "image")


def small(modality, **settings):
    """Return a toy in single precision with training rows of its own, and a short recipe."""
    task = toys.TASKS[modality](samples=30)
    x = task.test.x if modality == "text" else task.test.x.float()
    task = replace(
        task, model=task.model.float(), train=Split(x[:20], task.test.y[:20]), test=Split(x[20:], task.test.y[20:])
    )
    sizes = {"iterations": 6, "rows": 10, "batch": 4, "subsets": 6, "width": 8, "depth": 1} | settings
    return task, DeepFaith(**sizes).recipe(modality)


def priors(*names):
    return [(name, METHODS.get(name)()) for name in names]


OCCLUSION = ("occlusion", "constant")


def weights(explainer):
    return torch.cat([p.flatten() for p in explainer.parameters()])


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_same_seed_gives_the_same_explainer(modality):
    task, recipe = small(modality)
    first, report = train(task, recipe, 0, priors(*OCCLUSION))
    second, _ = train(task, recipe, 0, priors(*OCCLUSION))
    other, _ = train(task, recipe, 1, priors(*OCCLUSION))
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))
    assert report["copied"]["of"] == 2 * 9
    assert sum(report["copied"]["by_method"].values()) == report["copied"]["kept"]
    assert {"iteration", "copying", "correlation", "alpha", "loss", "mean_rank"} <= set(report["curves"][0])
    assert 1 <= report["curves"][0]["mean_rank"] <= 3


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_killed_training_ends_with_the_same_explainer(modality, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", 0.0)
    task, recipe = small(modality, alpha=-1)
    recipe = replace(recipe, dropout=0.2, schedule=replace(recipe.schedule, window=2, settled=1.0))
    whole, report = train(task, recipe, 5, priors(*OCCLUSION))
    real, calls = Joint.loss, []

    def killed(self, generator):
        calls.append(self.balance.alpha)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, generator)

    def place(name, _method):
        return tmp_path / f"{name}.safetensors"

    monkeypatch.setattr(Joint, "loss", killed)
    with pytest.raises(KeyboardInterrupt):
        train(task, recipe, 5, priors(*OCCLUSION), tmp_path / "checkpoint.pt", place)
    again, second = train(task, recipe, 5, priors(*OCCLUSION), tmp_path / "checkpoint.pt", place)
    assert torch.equal(weights(again), weights(whole))
    assert second["curves"] == report["curves"]
    assert len(calls) == 7, "iterations that were done are not done again"
    assert calls[-1] < 0.5, "copying had settled, so this resumed Algorithm 1 too"


def test_only_training_rows_are_seen():
    task, recipe = small("table")
    seen = []
    hook = task.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    train(task, replace(recipe, drawing=replace(recipe.drawing, subsets=0 + 6, mix=0.0)), 0, [])
    hook.remove()
    asked = torch.cat(seen)
    for row in task.test.x:
        assert not (asked == row).all(1).any(), "a test row was asked about in training"
    known = torch.cat([task.train.x, task.removal.means.float().unsqueeze(0)])
    for column in range(task.n_features):
        assert torch.isin(asked[:, column], known[:, column]).all()


def test_validation_rows_are_not_trained_on():
    task, recipe = small("table")
    rows = {}
    real = Joint.__init__

    def watched(self, explainer, task, recipe, inputs, supervision, chosen, validation, judged, seed):
        rows.update(inputs=inputs, copied=supervision.x, validation=validation)
        real(self, explainer, task, recipe, inputs, supervision, chosen, validation, judged, seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Joint, "__init__", watched)
        train(task, recipe, 0, priors(*OCCLUSION))
    for row in rows["validation"]:
        assert not (rows["inputs"] == row).all(1).any()
        assert not (rows["copied"] == row).all(1).any()
    assert len(rows["validation"]) + len(rows["inputs"]) == len(task.train.x)


def test_rows_asked_of_the_model():
    task, recipe = small("table", alpha=0)
    meter = Meter()
    with meter.phase("all", task.model):
        _, report = train(task, recipe, 0, [])
    held, ranked, batch, iterations, subsets = 2, 1, 4, 6, 6
    expected = held * (1 + 64) + iterations * batch * (1 + subsets)
    assert meter.phases["all"].forwards == expected
    assert report["costs"]["training"]["forwards"] == expected
    copies, recipe = small("table", alpha=1)
    with meter.phase("copying", copies.model):
        _, report = train(copies, recipe, 0, priors("occlusion"))
    assert report["costs"]["training"]["forwards"] == held * (1 + 64) + 9 + ranked * 2**7, "copying asks nothing more"


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, -1.0])
def test_alpha_weighs_the_two_losses(alpha):
    task, recipe = small("table", alpha=alpha, subsets=16)
    _, report = train(task, recipe, 0, priors(*OCCLUSION) if alpha else [])
    row = report["curves"][0]
    assert (row["copying"] > 0) == (alpha != 0)
    assert (row["correlation"] > 0) == (alpha not in (1.0, -1.0)), "Algorithm 1 begins with copying alone"
    assert row["alpha"] == abs(alpha)


def test_it_does_not_end_while_explanations_are_copied():
    """Copying does not settle here, and the loss that ends training early is one that copying does not lower."""
    task, recipe = small("table", iterations=60)
    recipe = replace(
        recipe, fitting=replace(recipe.fitting, patience=2), schedule=replace(recipe.schedule, settled=0.0)
    )
    _, report = train(task, recipe, 0, priors(*OCCLUSION))
    assert report["curves"][-1]["iteration"] == 60
    assert all(row["waiting"] for row in report["curves"])


def test_all_filtered_leaves_local_correlation():
    task, recipe = small("table")
    _, report = train(task, replace(recipe, quantile=1.0, similarity=-1.0), 0, priors("constant"))
    assert report["copied"]["kept"] == 9, "one candidate passes its own quantile"
    _, report = train(task, recipe, 0, priors("constant"))
    from deepfaith.supervision import Supervision

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Supervision, "choose", lambda self, s, q: torch.zeros(self.scores.shape[:2], dtype=torch.bool))
        _, report = train(task, recipe, 0, priors("constant"))
    assert report["copied"]["kept"] == 0
    assert report["curves"][0]["copying"] == 0
    assert report["curves"][0]["correlation"] > 0


@pytest.mark.slow
def test_it_learns_a_model_that_is_linear():
    """With a probability linear in what is there, the removed mass can equal the drops, and test rows show it."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.tensor([0.1, -0.06, 0.05, 0.03, -0.02])
    x = torch.rand(300, 5, generator=generator)
    task = toys.make(toys.Linear(weights), x.double(), toys.ColumnRemoval(torch.zeros(5)), toys.Budget(5), "table")
    task = replace(task, model=task.model.float(), train=Split(x, task.train.y), test=Split(x[:50], task.train.y[:50]))
    task = replace(task, class_names=("a", "b"))
    recipe = DeepFaith(iterations=400, width=16, depth=1, batch=64, subsets=16, alpha=0).recipe("table")
    explainer, report = train(task, recipe, 0, [])
    assert report["curves"][-1]["loss"] < 0.01
    assert report["curves"][0]["loss"] > 3 * report["curves"][-1]["loss"]
    logits = task.model(task.test.x).double()
    target = logits.argmax(1)
    found = explainer(task.test.x, target, margins(logits, target).float())
    r = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(found, x[:50] * weights, strict=True)])
    assert r.mean() > 0.97


def test_a_rate_that_is_too_high_ends_with_a_reason():
    task, recipe = small("table", alpha=0)

    class Broken(Explainer):
        def forward(self, *inputs):
            return super().forward(*inputs) * float("inf")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deepfaith.training.Explainer", Broken)
        with pytest.raises(DivergedError, match="not finite at iteration 1"):
            train(task, replace(recipe, fitting=Fitting(6, 1.0)), 0, [])


# What is drawn


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("modality", MODALITIES)
def test_removal_sets_have_mixed_sizes_and_no_padding(modality):
    task, _ = small(modality)
    drawing = Drawing(400, 0.1, 0.7, 0.0, 0.0)
    removed = drawing.removals(task, task.train.x, generator())
    valid = task.removal.valid(task.train.x)
    assert removed.shape == (20, 400)
    assert not (removed.masks & ~valid.unsqueeze(1)).any()
    long = valid.sum(1) == valid.sum(1).max()
    share = removed.masks[long].float().mean(2)
    expected = (0.7 - 0.1) / np.log(7)  # the mean of what is log-uniform
    assert share.mean().item() == pytest.approx(expected, abs=0.04)
    assert share.std() > 0.15, "sizes are mixed"
    fixed = replace(drawing, low=0.3, high=0.3).removals(task, task.train.x, generator())
    assert fixed.masks[long].float().mean().item() == pytest.approx(0.3, abs=0.05)
    assert torch.equal(drawing.removals(task, task.train.x, generator()).masks, removed.masks)


def test_squares_of_an_image_go_together():
    side = 32
    task, _ = small("image")
    task = replace(task, removal=replace(task.removal, height=side, width=side))
    x = torch.zeros(3, 3, side, side)
    sizes = set()
    source = generator()
    for _ in range(20):
        masks = Drawing(8, 0.5, 0.5, 0.0, 0.0).removals(task, x, source).masks.view(-1, side, side)
        for size in (4, 2, 1):
            squares = masks.unfold(1, size, size).unfold(2, size, size).flatten(3)
            if bool((squares.all(-1) | ~squares.any(-1)).all()):
                sizes.add(size)
                break
    assert sizes == {4, 2, 1}


@pytest.mark.parametrize("modality", MODALITIES)
def test_inputs_beyond_the_training_rows(modality):
    task, _ = small(modality)
    x, others = task.train.x, task.train.x.flip(0)
    same = Drawing(1, 0.1, 0.5, 0.0, 0.0).inputs(task, x, others, generator())
    assert same is x
    mixed = Drawing(1, 0.1, 0.5, 0.3, 0.0).inputs(task, x, others, generator())
    assert ((mixed == x) | (mixed == others)).all()
    assert not (mixed == x).all()
    assert torch.equal(task.removal.valid(mixed), task.removal.valid(x)), "padding stays padding"
    gone = task.remove(x, task.removal.valid(x))
    hidden = Drawing(1, 0.1, 0.5, 0.0, 0.5).inputs(task, x, others, generator())
    assert ((hidden == x) | (hidden == gone)).all()
    assert not (hidden == x).all()
    assert torch.equal(task.removal.valid(hidden), task.removal.valid(x))


# What the explainer is told


def test_margins_equal_a_loop():
    logits = torch.randn(9, 4, dtype=torch.float64)
    target = torch.randint(4, (9,))
    expected = [row[t] - max(v for i, v in enumerate(row) if i != t) for row, t in zip(logits, target, strict=True)]
    assert margins(logits, target).tolist() == pytest.approx([float(v) for v in expected])


@pytest.mark.parametrize("conditioning", ["margin", "class", "nothing"])
def test_conditioning_matters_and_nothing_else_does(conditioning):
    task, _ = small("table")
    from benchmark.learning.encoder import shape_of

    explainer = Explainer(shape_of(task, 2, 8, 1, 2), 3, conditioning=conditioning).eval()
    x, ones, twos = task.train.x, torch.ones(20, dtype=torch.long), torch.full((20,), 2)
    base = explainer(x, ones, torch.ones(20))
    assert torch.equal(explainer(x, twos, torch.ones(20)), base) == (conditioning == "nothing")
    assert torch.equal(explainer(x, ones, torch.zeros(20)), base) == (conditioning != "margin")
    unit = Explainer(shape_of(task, 2, 8, 1, 2), 3, form="unit", conditioning="nothing").eval()(x)
    assert ((unit >= 0) & (unit <= 1)).all()


def test_what_a_gpu_would_do_differently(monkeypatch):
    """bfloat16 and torch.compile are for a GPU; here both run on the CPU, with a compiler that changes nothing."""
    task, recipe = small("table", alpha=0)
    plain, _ = train(task, recipe, 0, [])
    compiled, types = [], []

    def compiler(function):
        compiled.append(function)
        return function

    real = Explainer.forward

    def watched(self, *inputs):
        found = real(self, *inputs)
        types.append(found.dtype)
        return found

    monkeypatch.setattr("deepfaith.training.ACCELERATED", ("cpu",))
    monkeypatch.setattr(torch, "compile", compiler)
    monkeypatch.setattr(Explainer, "forward", watched)
    mixed, _ = train(task, replace(recipe, compiled=True), 0, [])
    assert len(compiled) == 1
    assert torch.bfloat16 in types
    assert types[-1] == torch.float32, "validation is in full precision"
    assert not torch.equal(weights(mixed), weights(plain))
    torch.testing.assert_close(weights(mixed), weights(plain), atol=0.1, rtol=0)
    types.clear()
    train(task, replace(recipe, mixed=False), 0, [])
    assert set(types) == {torch.float32}


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(UsageError, match="multiple of 4, got 10"):
        DeepFaith(width=10)
