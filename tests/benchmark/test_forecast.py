"""What a run will take is said ahead, from trying each cell on a few samples."""

from __future__ import annotations

import json

import pytest

from benchmark.cli.parser import main
from benchmark.core.types import METHODS
from benchmark.models.metering import Cost
from benchmark.running.built import forget_tasks
from benchmark.scheduling import estimate
from benchmark.scheduling.estimate import Estimate
from benchmark.scheduling.forecast import _seconds, count_of, duration

WORDS = ["run", "--task", "digits_cnn", "--source", "synthetic", "--preset", "quick", "--limit", "24", "--jobs", "1",
         "--engine", "eager"]  # fmt: skip


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    forget_tasks()
    yield
    forget_tasks()


def test_the_passes_that_are_forecast_are_those_of_the_run(tmp_path, capsys):
    words = [*WORDS, "--methods", "lime,integrated_gradients,grad_cam,random,l2x", "--out", str(tmp_path)]
    assert main(["prepare", "--task", "digits_cnn", "--source", "synthetic"]) == 0
    capsys.readouterr()
    assert main([*words, "--dry-run", "--json"]) == 0
    forecast = {row["method"]: row for row in json.loads(capsys.readouterr().out)}
    assert not list(tmp_path.iterdir()), "nothing is stored"
    assert main(words) == 0
    for path in tmp_path.glob("synthetic/*/*/run.json"):
        record = json.loads(path.read_text())
        row, costs = forecast[record["cell"]["method"]], record["costs"]
        for passes in ("forwards", "backwards"):
            took = sum(costs[phase][passes] for phase in ("prepare", "attribute", "probe"))
            assert row[passes] == pytest.approx(took, rel=0.1), (record["cell"]["method"], passes)
        assert row["seconds"] > 0
        assert (row["training"] > 0) == (record["kind"] == "learned")


def test_it_is_said_in_words(tmp_path, capsys):
    words = [*WORDS, "--methods", "saliency,grad_cam,lrp", "--out", str(tmp_path), "--dry-run"]
    assert main(["prepare", "--task", "digits_cnn", "--source", "synthetic"]) == 0
    assert main([*words, "--jobs", "2"]) == 0
    said = capsys.readouterr().out
    assert "3 of 3 cells to compute" in said
    assert "thousand forward and" in said
    assert "with 2 workers, " in said
    assert "GB of memory each" in said


def test_the_workers_of_a_queue_are_counted(tmp_path, capsys):
    pytest.importorskip("yaml")
    recipe = tmp_path / "slurm.yaml"
    recipe.write_text("scheduler: slurm\njobs: 8\noptions: {cores: 4}")
    words = [*WORDS, "--methods", "saliency", "--out", str(tmp_path), "--dry-run", "--cluster"]
    assert main(["prepare", "--task", "digits_cnn", "--source", "synthetic"]) == 0
    assert main([*words, str(recipe)]) == 0
    assert "with 32 workers" in capsys.readouterr().out
    assert main([*words, "tcp://x:1"]) == 0
    assert "with 1 worker, " in capsys.readouterr().out
    assert main([*words, str(tmp_path / "none.yaml")]) == 2


@pytest.mark.usefixtures("own_cache")
def test_without_the_model_nothing_is_said_of_time(tmp_path, capsys):
    assert main([*WORDS, "--methods", "saliency", "--out", str(tmp_path), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "digits_cnn: its model is not there yet, so nothing is said of time: prepare --task digits_cnn" in said


def test_a_method_that_fails_is_named_and_ends_nothing(tmp_path, capsys, monkeypatch):
    def broken(*_):
        raise ValueError("not today")

    monkeypatch.setattr(METHODS.get("saliency"), "prepare", broken)
    assert main(["prepare", "--task", "digits_cnn", "--source", "synthetic"]) == 0
    assert main([*WORDS, "--methods", "saliency,grad_cam", "--out", str(tmp_path), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "cannot be tried: ValueError: not today" in said
    assert "2 of 2 cells to compute" in said


def test_what_a_batch_takes_is_not_part_of_a_sample():
    tried = []

    def ask(count):
        tried.append(count)
        return Cost(10 * count, 0, 0.05 + 0.01 * count)

    cost, samples = estimate._extrapolated(ask, left=1000, samples=1000)
    assert (tried, samples) == ([1, 2, 4, 8, 16, 32], 32)
    assert cost.forwards == 10_000
    assert cost.seconds == pytest.approx(0.05 + 10.0)


def test_the_time_of_a_task_is_shared_by_workers_but_for_a_training():
    some = [Estimate(seconds=10.0), Estimate(seconds=30.0, training=28.0)]
    assert _seconds(some, 1) == 40.0
    assert _seconds(some, 4) == 28.0


@pytest.mark.parametrize(
    ("seconds", "words"), [(3.21, "3.2 s"), (90, "1.5 min"), (7200, "2.0 h"), (864000, "10.0 days")]
)
def test_durations(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("number", "words"), [(7, "7"), (1500, "1.5 thousand"), (2.34e6, "2.34 million"), (5e9, "5 billion")]
)
def test_counts(number, words):
    assert count_of(number) == words
