"""A metric is one row of a table: whatever lists metrics takes another one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmark.cli.parser import main
from benchmark.records.store import RecordStore
from benchmark.scoring.metrics import METRICS
from tests.benchmark.test_cli import run
from tests.deepfaith.test_method import WORDS


@pytest.fixture
def _twin(monkeypatch):
    """Add a metric that is DEL under another name."""
    monkeypatch.setitem(METRICS, "TWIN", replace(METRICS["DEL"], name="TWIN", title="Deletion again", family="TWIN"))


@pytest.mark.slow
@pytest.mark.usefixtures("_twin")
def test_it_is_scored_learned_from_and_ranked(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))  # prior explanations of ten metrics, and of eleven
    with monkeypatch.context() as before:
        before.delitem(METRICS, "TWIN")
        assert run(tmp_path / "ten", methods=WORDS) == 0
    capsys.readouterr()
    assert run(tmp_path / "eleven", "--json", methods=f"saliency,random,{WORDS}") == 0
    (board,) = json.loads(capsys.readouterr().out)["boards"]
    assert all(row["means"]["TWIN"] == row["means"]["DEL"] for row in board["rows"])
    records, problems = RecordStore(tmp_path / "eleven").scan()
    assert (len(records), problems) == (3, [])
    assert all(set(record.metrics) == set(METRICS) for record in records)
    assert main(["report", "--out", str(tmp_path / "eleven"), "--page", str(tmp_path / "page.html")]) == 0
    assert "TWIN" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("_twin")
def test_optima_are_shown_for_the_metrics_that_have_one(capsys):
    words = ["optimality", "--task", "nap_mlp", "--source", "synthetic", "--limit", "6", "--methods", "occlusion"]
    assert main(words) == 0
    assert set(capsys.readouterr().out.splitlines()[2].split()[1:]) == set(METRICS) - {"TWIN"}
