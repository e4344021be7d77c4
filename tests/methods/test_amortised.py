"""What learned explainers share: players, what is kept, what is told, and how they end."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
import torch

from benchmark.cli.parser import main
from benchmark.core.parameters import configure
from benchmark.core.sources import Sources
from benchmark.core.types import METHODS, TASKS, TrainedExplainer, UncertainExplainer
from benchmark.learning.sizes import SIZES
from benchmark.records.store import RecordStore
from methods.amortised import Players, encoder_shape, predictions, rows_for, uniform_size
from tests import toys

METHODS.discover("methods", "deepfaith")
TINY = {"iterations": "4", "rows": "12", "batch": "4", "members": "2", "coalitions": "2", "rounds": "2", "steps": "3",
        "search": "3"}  # fmt: skip
NAMES = ("fastshap", "l2x", "cxplain", "vert", "vert_amortised")


def tiny(name, **more):
    cls = METHODS.get(name)
    own = {field.name for field in fields(cls)}
    return configure(cls, name, {key: value for key, value in TINY.items() if key in own} | more)


def words(name):
    own = {field.name for field in fields(METHODS.get(name))}
    return f"{name}[" + ",".join(f"{key}={value}" for key, value in TINY.items() if key in own) + "]"


# Players


@pytest.mark.parametrize("modality", ["table", "text", "image"])
def test_who_plays(modality):
    task = toys.TASKS[modality]()
    players, x = Players(task), task.test.x
    valid = players.valid(x)
    assert valid.shape == (len(x), players.count)
    assert torch.equal(players.features(valid), task.removal.valid(x)), "padding is nobody's"
    removed = uniform_size(valid, 1, torch.Generator().manual_seed(0))[:, 0]
    assert not (removed & ~valid).any()
    assert torch.equal(players.remove(x, removed), task.remove(x, players.features(removed)))
    numbers = torch.arange(players.count).double().expand(len(x), -1)
    pooled = players.pool(players.features(numbers).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(pooled, numbers, msg="a player's mean is its own number")


def test_patches_are_squares_in_raster_order():
    task = toys.image(side=6)
    players = Players(task)
    first = torch.zeros(1, players.count, dtype=torch.bool)
    first[0, 1] = True
    square = players.features(first).view(6, 6)
    side = players.patch
    assert square[:side, side : 2 * side].all()
    assert square.sum() == side**2


def test_sizes_are_uniform():
    valid = torch.ones(4000, 5, dtype=torch.bool)
    drawn = uniform_size(valid, 3, torch.Generator().manual_seed(0)).sum(2).flatten()
    seen = torch.bincount(drawn, minlength=6) / len(drawn)
    torch.testing.assert_close(seen, torch.full((6,), 1 / 6), atol=0.012, rtol=0)


def test_rows_that_validate_are_not_fitted():
    task = toys.table(samples=50)
    x, held = rows_for(task, 3)
    assert held == 5
    assert len(x) == 50
    assert len(torch.unique(x, dim=0)) == 50
    assert torch.equal(rows_for(task, 3, 20)[0], x[:20])
    assert not torch.equal(rows_for(task, 4)[0], x)


def test_predictions_do_not_depend_on_the_batch():
    task = toys.table(samples=50)
    torch.testing.assert_close(predictions(task, task.test.x), task.model(task.test.x).softmax(1).float())


def test_all_have_the_encoder_of_deepfaith():
    for modality, build in toys.TASKS.items():
        shape = encoder_shape(build(), 1)
        recipe = METHODS.get("deepfaith")().recipe(modality)
        assert (shape.width, shape.depth, shape.heads) == (recipe.width, recipe.depth, recipe.heads)
        assert SIZES[modality] == {"width": shape.width, "depth": shape.depth}


# In place


@pytest.fixture
def task(monkeypatch, tmp_path):
    spec = TASKS.get("wcd_mlp")()
    built = spec.build(spec.locate(Sources("synthetic", offline=True)), "wcd_mlp", "cpu")
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))  # its model is in the session's
    return built


@pytest.mark.parametrize("name", NAMES)
def test_what_was_trained_is_kept(name, task, tmp_path, monkeypatch):
    x, target = task.test.x[:6], task.model(task.test.x[:6]).argmax(1)
    first = tiny(name).prepare(task, 0)
    found = first(x, target)
    assert {cost for cost in first.report["costs"] if cost.endswith("training")}
    assert sum(cost["forwards"] for cost in first.report["costs"].values()) > 0
    assert first.report["curves"]
    json.dumps(first.report)

    def never(*_given, **_more):
        raise AssertionError("trained again")

    monkeypatch.setattr("benchmark.learning.fitting._run", never)
    again = tiny(name).prepare(task, 0)
    assert torch.equal(again(x, target), found)
    assert again.report == first.report, "the costs of training stay known"
    with pytest.raises(AssertionError, match="trained again"):
        tiny(name).prepare(task, 1)
    own = next(path for path in (tmp_path / "cache/explainers").glob(f"{name}-*.safetensors"))
    whole = own.read_bytes()
    own.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    monkeypatch.undo()
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    assert torch.equal(tiny(name).prepare(task, 0)(x, target), found), "a damaged explainer is made again"
    assert len(list(own.parent.glob(f"{own.name}.damaged-*"))) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_training_goes_on(name, task, tmp_path, monkeypatch):
    """The bytes of a run that was killed in training and of one that was not are the same."""
    import benchmark.learning.fitting as fitting

    x, target = task.test.x[:6], task.model(task.test.x[:6]).argmax(1)
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "whole"))
    whole = tiny(name).prepare(task, 0)(x, target)
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "killed"))
    real, stored = fitting.store, []

    def dies(path, content):
        real(path, content)
        stored.append(path)
        if len(stored) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "store", dies)
    with pytest.raises(KeyboardInterrupt):
        tiny(name).prepare(task, 0)
    assert stored[-1].exists(), "a checkpoint is left"
    assert torch.equal(tiny(name).prepare(task, 0)(x, target), whole)
    assert not list((tmp_path / "killed").rglob("*.pt")), "checkpoints are put away"


LOSSES = {
    "fastshap": "methods.fastshap.Regression._loss",
    "l2x": "methods.l2x.Selection._loss",
    "cxplain": "methods.cxplain.Divergence._loss",
    "vert": "methods.vert_tuning.Tuning._loss",
    "vert_amortised": "methods.vert.Masking._loss",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_that_is_no_number_ends_its_own_cell(name, tmp_path, monkeypatch, capsys):
    import importlib

    module, cls, method = LOSSES[name].rsplit(".", 2)
    owner = getattr(importlib.import_module(module), cls)
    real = getattr(owner, method)
    monkeypatch.setattr(owner, method, lambda *given: real(*given) * float("nan"))
    out = tmp_path / "results"
    code = main(["run", "--task", "wcd_mlp", "--source", "synthetic", "--methods", f"{words(name)},saliency", "--limit",
                 "5", "--jobs", "1", "--device", "cpu", "--out", str(out)])  # fmt: skip
    said = capsys.readouterr()
    assert code == 1
    assert "diverged" in said.out + said.err
    status = {record.cell.method: record.status for record in RecordStore(out).scan()[0]}
    assert status == {name: "failed", "saliency": "done"}


def test_settings_are_part_of_what_is_kept(task, tmp_path):
    x, target = task.test.x[:6], task.model(task.test.x[:6]).argmax(1)
    for more in ({}, {"value": "surrogate"}, {"normalise": "false"}, {"penalty": "0.1"}, {"iterations": "5"}):
        tiny("fastshap", **more).prepare(task, 0)(x, target)
    assert len(list((tmp_path / "cache/explainers").glob("fastshap-*.safetensors"))) == 5


def test_fastshap_adds_up_and_tells_classes_apart(task):
    x = task.test.x[:6]
    p = task.model(x).softmax(1)
    empty = task.model(task.remove(x, torch.ones_like(x, dtype=torch.bool))).softmax(1)
    explain = tiny("fastshap").prepare(task, 0)
    for c in range(len(task.class_names)):
        total = explain(x, torch.full((6,), c)).sum(1)
        torch.testing.assert_close(total, (p - empty)[:, c], atol=1e-5, rtol=0)


def test_intervals_hold_the_attribution(task):
    x, target = task.test.x[:6], task.model(task.test.x[:6]).argmax(1)
    explain = tiny("cxplain", members="5").prepare(task, 0)
    found, (lower, upper) = explain(x, target), explain.interval(x)
    assert (lower <= found).all()
    assert (found <= upper).all()
    assert (upper > lower).any()
    alone = tiny("cxplain", members="1").prepare(task, 0)
    assert not isinstance(alone, UncertainExplainer), "one member knows no interval"
    assert isinstance(explain, UncertainExplainer)
    assert isinstance(alone, TrainedExplainer)


def test_l2x_is_an_inclusion_probability(task):
    x, target = task.test.x[:6], task.model(task.test.x[:6]).argmax(1)
    found = tiny("l2x", k="3").prepare(task, 0)(x, target)
    assert ((found >= 0) & (found <= 1)).all()
    assert set(tiny("l2x").prepare(task, 0).report["encoding"]) == {"trained along", "on random masks"}


def test_more_players_are_asked_for_than_there_are(task):
    x, target = task.test.x[:6], task.model(task.test.x[:6]).argmax(1)
    assert tiny("l2x", k="50").prepare(task, 0)(x, target).isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize(("value", "least", "most"), [("model", 0.95, 1.0), ("surrogate", 0.5, 0.95)])
def test_fastshap_is_near_exact_shapley_values_on_real_data(real_data, monkeypatch, tmp_path, value, least, most):
    """With the model as the game; the paper's surrogate plays another one, the conditional expectation."""
    spec = TASKS.get("nap_mlp")()
    built = spec.build(spec.locate(Sources("real", real_data, offline=True)), "nap_mlp", "cpu")
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    x, target = built.test.x, built.model(built.test.x).argmax(1)
    exact = METHODS.get("exact_shapley")().prepare(built, 0)(x, target).double()
    iterations = 800 if value == "model" else 400
    explain = METHODS.get("fastshap")(value=value, iterations=iterations).prepare(built, 0)
    found = explain(x, target).double()
    pooled = float(torch.corrcoef(torch.stack([found.flatten(), exact.flatten()]))[0, 1])
    assert least <= pooled <= most
