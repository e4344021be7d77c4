"""Tasks: conformance of every registered one, training, cached weights."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark.core.errors import DataError
from benchmark.core.provenance import UNKNOWN
from benchmark.core.sources import Sources
from benchmark.core.store import sealed, unseal
from benchmark.core.types import TASKS, Split
from benchmark.modalities.building import refuse_weak
from benchmark.models.mlp import mlp
from benchmark.models.training import TrainingRecipe, accuracies, train
from benchmark.scoring.evaluator import Evaluator
from tests import toys
from tests.tiers import by_task

ALL = TASKS.names()
TABLES = [name for name in ALL if TASKS.entry(name).facts["modality"] == "table"]


def build(name, kind="synthetic", data_dir=None):
    spec = TASKS.get(name)()
    located = spec.locate(Sources(kind, data_dir, offline=True))
    return spec, located, spec.build(located, name, "cpu")


@pytest.mark.parametrize("name", by_task(ALL))
def test_every_task_keeps_its_promises(name):
    spec, located, task = build(name)
    assert TASKS.entry(name).summary.endswith(".")
    assert TASKS.entry(name).facts["modality"] == spec.modality == task.modality
    assert task.source == located.source == "synthetic"
    assert task.n_features == len(task.feature_names)
    if name != "digits_cnn":  # whose real images are smaller than any that could hold a pattern
        assert spec.n_features >= task.n_features, "a stand-in is at most as large as the real task"
    assert spec.budget == task.budget
    assert not task.model.training
    assert not any(p.requires_grad for p in task.model.parameters())
    x = task.test.x[:5]
    assert task.model(x).shape == (5, len(task.class_names))
    valid = task.removal.valid(x)
    assert valid.shape == (5, task.n_features)
    nothing, everything = torch.zeros_like(valid), valid
    torch.testing.assert_close(task.remove(x, nothing), x)
    gone = torch.where(task.removal.expand(valid), task.removal.baseline(x), x)
    torch.testing.assert_close(task.remove(x, everything), gone)
    assert torch.equal(task.removal.valid(gone), valid), "what is removed is a feature still"
    assert spec.n_features == task.n_features or task.modality != "table"
    data, model = task.provenance.data, task.provenance.model
    assert UNKNOWN not in (data.name, data.origin, data.digest, data.licence, model.digest)
    assert 0 < model.accuracy <= 1
    assert model.recipe == spec.recipe(located.source)
    assert data.train_rows == len(task.train.x)
    assert data.test_rows >= len(task.test.x)
    least = spec.floor if task.modality == "table" else 0.95
    assert task.provenance.model.balanced_accuracy >= least
    assert not task.provenance.model.weak
    assert (task.evidence is None) == (task.modality == "table")
    if task.evidence is not None:
        assert task.evidence.shape == (len(task.test.x), task.n_features)
        assert (task.evidence & ~task.removal.valid(task.test.x)).sum() == 0
        assert task.evidence.any(1).all()
    assert set(spec.facts()) >= {"data", "model", "training"}


@pytest.mark.parametrize("name", by_task([*TABLES, "agnews_lstm", "imdb_transformer", "imagenet_resnet"]))
def test_a_task_is_the_same_every_time(name, tmp_path, monkeypatch):
    first, second = build(name)[2], build(name)[2]
    assert first.provenance == second.provenance
    assert torch.equal(first.test.x, second.test.x)
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    trained_anew = build(name)[2]
    assert trained_anew.provenance.model.digest == first.provenance.model.digest


@pytest.mark.parametrize("name", TABLES)
def test_train_and_test_rows_are_apart_and_scaled_on_training_rows_only(name):
    spec, located, task = build(name)
    _, labels = spec.data.load(located)
    assert len(task.train.y) + len(task.test.y) == len(labels)
    torch.testing.assert_close(task.train.x.mean(0), torch.zeros(task.n_features), atol=1e-5, rtol=0)
    torch.testing.assert_close(task.train.x.std(0, correction=0), torch.ones(task.n_features), atol=1e-4, rtol=0)
    assert task.test.x.mean(0).abs().max() > 1e-4
    share = [split.y.double().mean().item() for split in (task.train, task.test)]
    assert share[0] == pytest.approx(share[1], abs=0.02)


def test_the_builtin_task_needs_no_download(monkeypatch):
    import socket

    def refuse(*_args, **_words):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    spec, located, task = build("breast_cancer_mlp", "real")
    assert located.source == "real"
    assert len(task.train.y) + len(task.test.y) == spec.data.rows == 569
    assert task.provenance.model.accuracy >= 0.93


def test_another_version_of_a_bundled_table_is_refused():
    spec = TASKS.get("breast_cancer_mlp")()
    with pytest.raises(DataError, match="not the pinned version of breast_cancer"):
        replace(spec.data, digest="x").locate(Sources("real"))


def test_all_is_the_paper_s_twelve():
    twelve = {"nap_mlp", "wcd_mlp"} | {
        f"{data}_{model}" for data in ("imdb", "agnews") for model in ("lstm", "transformer")
    }
    twelve |= {f"{data}_{model}" for data in ("oct", "imagenet") for model in ("deit", "efficientnet", "resnet")}
    assert set(TASKS.select(["all"])) == twelve
    assert set(TASKS.select(["builtin"])) == {"breast_cancer_mlp", "digits_cnn"}
    assert set(ALL) == twelve | {"breast_cancer_mlp", "digits_cnn", "imagenet_mobilenet"}


@pytest.mark.slow
def test_real_models_are_good_enough(real_data):
    quality = {name: build(name, "real", real_data)[2].provenance.model for name in ("nap_mlp", "wcd_mlp")}
    assert quality["nap_mlp"].balanced_accuracy >= 0.62
    assert quality["wcd_mlp"].accuracy >= 0.88


def weights_file(name):
    return next((Path(os.environ["BENCHMARK_CACHE"]) / "models").glob(f"{name}-*.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("spoil", ["extra", "missing", "truncated", "shape"])
def test_weights_that_do_not_fit_are_made_again(spoil, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    whole = build("breast_cancer_mlp")[2].provenance.model
    path = weights_file("breast_cancer_mlp")
    state, facts = unseal(path)
    if spoil == "extra":
        state["more"] = torch.zeros(1)
    elif spoil == "missing":
        state.pop("0.weight")
    elif spoil == "shape":
        state["0.weight"] = torch.zeros(2, 2)
    path.write_bytes(sealed(state, facts, path.name))
    if spoil == "truncated":
        path.write_bytes(path.read_bytes()[:100])
    spoilt = path.read_bytes()
    caplog.clear()
    with caplog.at_level("WARNING", "benchmark"):
        assert build("breast_cancer_mlp")[2].provenance.model == whole
    reason = "cannot be read" if spoil == "truncated" else "does not fit the model"
    assert f"weights file {path} {reason}" in caplog.text
    (aside,) = path.parent.glob(f"{path.name}.damaged-*")
    assert aside.read_bytes() == spoilt
    caplog.clear()
    assert build("breast_cancer_mlp")[2].provenance.model == whole
    assert not caplog.messages, "what was made again is whole"


def test_a_constant_column_is_refused(tmp_path):
    from benchmark.tasks.nap import NAP
    from tests.benchmark.test_data import frame, in_folder

    sources = in_folder(tmp_path, NAP, frame(NAP, 300).assign(BMXBMI=20))
    spec = TASKS.get("nap_mlp")()
    with pytest.raises(DataError, match="column BMXBMI holds one value"):
        spec.build(spec.locate(sources), "nap_mlp", "cpu")


def test_a_weak_model_is_refused_unless_it_is_allowed(caplog, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    monkeypatch.setattr(
        "benchmark.models.training.TrainingRecipe", lambda *a, **k: TrainingRecipe(1, 1500, 1e-6, 0, False)
    )
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    with caplog.at_level("WARNING", "benchmark"):
        task = build("nap_mlp")[2]
    quality = task.provenance.model
    assert quality.weak
    said = any("predicts one class" in message for message in caplog.messages)
    assert said == (quality.predicted_classes == 1)
    with pytest.raises(DataError, match=r"nap_mlp is too weak .* at least 0.62; use --allow-weak-model"):
        refuse_weak(task, allowed=False)
    refuse_weak(task, allowed=True)


def test_a_model_with_one_output_is_refused():
    task = toys.table()
    with pytest.raises(DataError, match="at least two classes, got \\(1, 1\\)"):
        Evaluator(replace(task, model=torch.nn.Linear(7, 1).double().eval()))


def test_a_sample_without_features_is_refused():
    task = toys.text()
    task.test.x[3] = 0
    with pytest.raises(DataError, match="without any feature"):
        Evaluator(task)


def test_training_weighs_classes():
    torch.manual_seed(0)
    y = (torch.arange(600) % 10 == 0).long()
    data = Split(torch.randn(600, 4) + y.unsqueeze(1) * 0.7, y)
    recalls = []
    for weighted in (False, True):
        model = train(lambda: mlp(4, 2, 8, 1, 0.0), data, 2, TrainingRecipe(30, 60, 1e-2, 0, weighted))
        recalls.append(accuracies(model, data, 2)["balanced_accuracy"])
    assert recalls[1] > recalls[0] + 0.1


def test_augmentation_changes_what_the_model_sees():
    data = Split(torch.randn(20, 4), torch.arange(20) % 2)
    plain, same, other = (
        train(lambda: mlp(4, 2, 8, 1, 0.0), data, 2, TrainingRecipe(2, 5, 1e-2, 0), augment=augment)[0].weight
        for augment in (None, lambda x: x, lambda x: -x)
    )
    assert torch.equal(plain, same)
    assert not torch.equal(plain, other)


def test_batches_hold_texts_of_like_length():
    from benchmark.core.seeding import seeded
    from benchmark.models.training import _batches

    lengths = torch.arange(200) % 40
    with seeded(0):
        batches = _batches(200, 20, 10, lengths, torch.device("cpu"))
    assert sorted(torch.cat(batches).tolist()) == list(range(200))
    assert max(int(lengths[rows].max() - lengths[rows].min()) for rows in batches) <= 3
    first = [int(lengths[rows].float().mean()) for rows in batches]
    assert first != sorted(first), "but batches come in a random order"


def test_settled_statistics_are_those_of_the_inputs():
    from benchmark.models.training import freeze, settle

    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = torch.randn(64, 3, 4, 4) * 3 + 2
        model = freeze(torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Flatten(), torch.nn.Dropout(0.9)))
    settled = settle(model, x, batch=16)
    torch.testing.assert_close(settled[0].running_mean, x.mean((0, 2, 3)))
    parts = torch.stack([part.var((0, 2, 3)) for part in x.split(16)]).mean(0)
    torch.testing.assert_close(settled[0].running_var, parts)
    assert not settled.training
    assert not any(module.training for module in settled.modules())


@pytest.mark.parametrize("module", ["benchmark.models.mlp", "benchmark.models.training", "benchmark.core.seeding"])
def test_a_model_s_name_follows_from_data_recipe_and_source(module, monkeypatch):
    """So that weights may be kept for as long as one likes, between runs of these tests too."""
    from benchmark.core import identity
    from benchmark.modalities.building import model_path

    spec = TASKS.get("nap_mlp")()
    located = spec.locate(Sources("synthetic"))
    recipe = spec.recipe("synthetic")
    before = model_path("nap_mlp", recipe, located)
    assert model_path("nap_mlp", recipe, located) == before
    assert model_path("nap_mlp", recipe | {"epochs": 1}, located) != before
    assert model_path("nap_mlp", recipe, replace(located, digest="other rows")) != before
    real = identity._file

    def changed(name):
        return Path(__file__) if name == module else real(name)

    monkeypatch.setattr(identity, "_file", changed)
    identity.source_digest.cache_clear()
    try:
        assert model_path("nap_mlp", recipe, located) != before
    finally:
        identity.source_digest.cache_clear()


def test_a_model_of_other_rows_is_trained_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    spec = replace(TASKS.get("nap_mlp")(), epochs=1)
    located = spec.locate(Sources("synthetic"))
    first = spec.build(located, "nap_mlp", "cpu")
    rows = type(spec).rows

    def fewer(self, located):
        train, test = rows(self, located)
        return type(train)(train.x[:-64], train.y[:-64]), test

    monkeypatch.setattr(type(spec), "rows", fewer)
    second = spec.build(located, "nap_mlp", "cpu")
    assert "was trained on other rows than the data hold now: set aside" in caplog.text
    assert first.provenance.model.digest != second.provenance.model.digest
    assert not hasattr(second.provenance.model, "rows")
