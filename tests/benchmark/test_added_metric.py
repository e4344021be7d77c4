"""A metric that is registered is scored and ranked on a board of its own; whatever lists metrics takes it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmark.cli.parser import main
from benchmark.records.store import RecordStore
from benchmark.scoring.metrics import METRICS, TEN
from tests.benchmark.test_cli import run
from tests.deepfaith.test_method import WORDS


@pytest.fixture
def _twin():
    """Add a metric that is DEL under another name."""
    METRICS.register("TWIN", group="own", higher_is_better=False)(replace(METRICS["DEL"], title="Deletion again"))


@pytest.mark.slow
@pytest.mark.usefixtures("_twin")
def test_it_is_scored_and_ranked_by_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    assert run(tmp_path / "eleven", "--json", "--metrics", "ten,twin", methods=f"saliency,random,{WORDS}") == 0
    ten, own = json.loads(capsys.readouterr().out)["boards"]
    means = {row["method"]: row["means"]["DEL"] for row in ten["rows"]}
    assert {row["method"]: row["means"]["TWIN"] for row in own["rows"]} == means
    assert (list(ten["metrics"]), list(own["metrics"])) == (list(TEN), ["TWIN"])
    records, problems = RecordStore(tmp_path / "eleven").scan()
    assert (len(records), problems) == (3, [])
    assert all(set(record.metrics) == {*TEN, "TWIN"} for record in records)
    assert main(["report", "--out", str(tmp_path / "eleven"), "--page", str(tmp_path / "page.html")]) == 0
    assert "own metrics" in (tmp_path / "page.html").read_text()
    assert "TWIN" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("_twin")
def test_optima_are_shown_for_the_ten(capsys):
    words = ["optimality", "--task", "nap_mlp", "--source", "synthetic", "--limit", "6", "--methods", "occlusion"]
    assert main(words) == 0
    assert set(capsys.readouterr().out.splitlines()[2].split()[1:]) == set(TEN)
