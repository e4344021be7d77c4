"""A task and a metric of a person's own, from the command line to the board."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.cli.parser import main
from benchmark.records.store import RecordStore

OWN = Path(__file__).parent.parent / "own_task.py"


@pytest.fixture
def command(capsys, monkeypatch, forget_registered):
    """Return a function that runs a command as in a process of its own: it knows no task of anybody's."""

    def run(*words, seed="0"):
        monkeypatch.setenv("OWN_SEED", seed)
        forget_registered()
        assert main([str(word) for word in words]) == 0
        captured = capsys.readouterr()
        return captured.out + captured.err

    return run


def test_a_task_that_says_nothing_of_itself_is_run_and_shown(tmp_path, command):
    out = tmp_path / "out"
    words = ["run", "--task", "own", "--methods", "lime,saliency", "--include", OWN, "--jobs", "1", "--out", out]
    assert "own · real data · 10 test samples" in command(*words)
    assert "2 kept" in command(*words)
    said = command("leaderboard", "--out", out)  # which knows no such task
    assert "own · real data" in said
    assert "lime" in said
    page = tmp_path / "page.html"
    command("report", "--out", out, "--page", page)
    assert "saliency" in page.read_text()


def test_another_training_of_ones_own_model_is_another_model(tmp_path, command, monkeypatch):
    """Under the same name and the same words on recipe and data, in the same folder and with the same cache."""
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    words = ["run", "--task", "own", "--methods", "lime", "--include", OWN, "--jobs", "1", "--out"]
    command(*words, tmp_path / "one")
    said = command(*words, tmp_path / "one", seed="1")
    assert "lime: computed: the model has other weights" in said
    command(*words, tmp_path / "two", seed="1")
    (again,), (alone,) = (RecordStore(tmp_path / name).scan()[0] for name in ("one", "two"))
    assert again.scores.equals(alone.scores), "no answer of the first model was kept"
