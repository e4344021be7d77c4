"""Equal iterations, or equal seconds, for every learned method: `--training-budget`."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import benchmark
from benchmark.cli.parser import main
from benchmark.core.errors import BenchmarkError, UsageError
from benchmark.core.parameters import configure, fields_of
from benchmark.core.seeding import seeded
from benchmark.core.types import METHODS
from benchmark.learning.budget import TrainingBudget
from benchmark.records.store import RecordStore

LEARNED = ["cxplain", "deepfaith", "deepfaith_hinted", "fastshap", "l2x", "vert", "vert_amortised"]
SMALL = {"members": "2", "rounds": "3", "steps": "2", "search": "2", "alpha": "0", "rows": "20", "batch": "4"}


def small(name, **more):
    cls = METHODS.get(name)
    return configure(cls, name, {key: value for key, value in SMALL.items() if key in fields_of(cls)} | more)


def a_task():
    with seeded(0):
        x, model = torch.randn(60, 5), nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2))
    return benchmark.task(model, x[:10], background=x)


def run(out, methods, budget, *words):
    return main(["run", "--task", "nap_mlp", "--methods", methods, "--source", "synthetic", "--limit", "4",
                 "--jobs", "1", "--out", str(out), "--device", "cpu", "--training-budget", budget, *words])  # fmt: skip


def test_every_learned_method_takes_iterations_and_seconds():
    learned = [name for name in METHODS.names() if METHODS.entry(name).facts.get("kind") == "learned"]
    assert sorted(learned) == LEARNED
    assert all({"iterations", "seconds"} <= set(fields_of(METHODS.get(name))) for name in learned)


def test_what_a_budget_may_be():
    assert TrainingBudget.parse("2000") == TrainingBudget("iterations", 2000)
    assert TrainingBudget.parse("1.5s") == TrainingBudget("seconds", 1.5)
    for text in ("", "0", "-5", "1.5", "s", "0s", "-1s", "infs", "nans", "1m", "a lot"):
        with pytest.raises(UsageError, match="expects iterations, such as 2000, or seconds, such as 60s"):
            TrainingBudget.parse(text)


def test_it_is_a_parameter_of_learned_methods_alone():
    methods = [("lime", ()), ("l2x", (("k", "2"),)), ("fastshap", ())]
    assert TrainingBudget("iterations", 50).given(methods) == [
        (), (("iterations", "50"), ("k", "2")), (("iterations", "50"),),
    ]  # fmt: skip
    assert TrainingBudget("seconds", 60.0).given(methods)[2] == (("seconds", "60"),)


@pytest.mark.parametrize(
    ("methods", "budget", "message"),
    [
        ("l2x", "soon", "expects iterations, such as 2000, or seconds, such as 60s, above 0; got 'soon'"),
        ("lime,saliency", "50", "is for learned methods, and none of --methods is"),
        ("l2x[iterations=7]", "50", "l2x is given iterations=7 of its own"),
        ("fastshap[seconds=7]", "50", "fastshap is given seconds=7 of its own"),
    ],
)
def test_what_is_refused(methods, budget, message, tmp_path, capsys):
    assert run(tmp_path, methods, budget) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_a_method_that_has_no_such_parameter_is_refused(monkeypatch):
    monkeypatch.setattr("benchmark.learning.budget.fields_of", lambda cls: {})
    with pytest.raises(UsageError, match="l2x cannot be trained for a number of seconds"):
        TrainingBudget("seconds", 5.0).given([("l2x", ())])


def test_budgets_are_other_cells(tmp_path, capsys):
    labels = set()
    for budget in ("50", "60", "50s"):
        assert run(tmp_path, "l2x,lime", budget, "--dry-run", "--json") == 0
        labels |= {row["method"] for row in json.loads(capsys.readouterr().out)}
    assert labels == {"lime", "l2x[iterations=50]", "l2x[iterations=60]", "l2x[seconds=50]"}


@pytest.mark.parametrize("name", LEARNED)
def test_iterations_are_those_of_all_networks_together(name, monkeypatch, tmp_path):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    explainer = small(name, iterations="6").prepare(a_task(), 0)
    assert explainer.report["iterations"] == 6


@pytest.mark.parametrize("name", LEARNED)
def test_seconds_end_every_training(name, monkeypatch, tmp_path):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    explainer = small(name, seconds="2", iterations="1").prepare(a_task(), 0)
    assert explainer.report["iterations"] > 6, "in place of iterations"
    with pytest.raises(BenchmarkError, match="nothing is left of"):
        small(name, seconds="1e-6").prepare(a_task(), 0)


@pytest.mark.slow
def test_a_record_says_what_a_method_was_trained_for(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    assert run(tmp_path / "out", "fastshap[batch=4]", "1s") == 0
    assert run(tmp_path / "out", "fastshap[batch=4]", "8") == 0
    records, _ = RecordStore(tmp_path / "out").scan()
    by_label = {record.label: record for record in records}
    assert set(by_label) == {"fastshap[batch=4,seconds=1]", "fastshap[batch=4,iterations=8]"}
    assert by_label["fastshap[batch=4,iterations=8]"].report["iterations"] == 8
    in_seconds = by_label["fastshap[batch=4,seconds=1]"]
    assert in_seconds.cell.params["seconds"] == 1.0
    assert in_seconds.report["iterations"] > 0
