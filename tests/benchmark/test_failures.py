"""Whatever a method gives or raises ends its own cell, and nothing else."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmark.cli.parser import main
from benchmark.core.errors import describe
from benchmark.core.sources import cache_folder
from benchmark.records.store import RecordStore
from benchmark.running.built import forget_tasks

TESTS = Path(__file__).parent.parent
WORDS = ["run", "--task", "own", "--include", str(TESTS / "own_task.py"), "--include", str(TESTS / "bad_methods.py"),
         "--device", "cpu", "--jobs", "1"]  # fmt: skip


@pytest.fixture
def records(tmp_path, monkeypatch):
    """Run methods on a task that knows where evidence is; return the exit code and the records by label."""
    monkeypatch.setenv("OWN_EVIDENCE", "1")

    def run(methods):
        code = main([*WORDS, "--out", str(tmp_path), "--methods", *methods.split()])
        return code, {record.label: record for record in RecordStore(tmp_path).scan()[0]}

    return run


def test_a_map_without_positive_mass_is_scored(records):
    code, found = records("negative,saliency,constant")
    assert code == 0
    assert found["negative"].evidence is None, "no share of nothing"
    assert found["saliency"].evidence == pytest.approx(1.0)
    assert found["negative"].scores["score"].notna().sum() == found["saliency"].scores["score"].notna().sum()


def test_a_report_that_no_record_can_hold_is_kept_as_far_as_it_goes_and_flagged(records):
    code, found = records("odd_report,saliency")
    assert code == 0
    assert found["odd_report"].report["r2"] is None
    assert found["odd_report"].report["losses"] == [1.0, None]
    assert found["odd_report"].report["3"] == [1]
    assert found["odd_report"].problems[:2] == ["report: r2 is nan", "report: losses[1] is inf"]
    assert found["saliency"].status == "done"


def test_the_line_of_the_authors_file_is_said(records, capsys):
    code, found = records("raises,quits,some_nan,all_nan,no_tensor,saliency")
    assert code == 1
    line = 1 + (TESTS / "bad_methods.py").read_text().splitlines().index('    raise RuntimeError("no luck today")')
    assert found["raises"].reason == f"RuntimeError: no luck today (bad_methods.py, line {line})"
    assert "SystemExit: 0 (bad_methods.py" in found["quits"].reason
    assert found["all_nan"].reason == "the attribution of every sample is not finite"
    assert found["some_nan"].reason == "the attribution of 2 of 10 samples is not finite"
    assert all(math.isfinite(score) for score in found["saliency"].scores["score"].dropna())
    assert found["saliency"].status == "done"
    assert f"own raises: failed: {found['raises'].reason}" in capsys.readouterr().err


def test_a_failure_of_the_moment_loses_no_record(records, monkeypatch):
    """What was computed still follows from the same; a method that changed would have another identity."""
    _, before = records("flaky,saliency")
    monkeypatch.setenv("BOOM", "1")
    code, found = records("flaky,saliency --overwrite always")
    assert code == 1
    assert found["flaky"].status == "done"
    assert found["flaky"].scores.equals(before["flaky"].scores)
    monkeypatch.delenv("BOOM")
    assert records("flaky,saliency")[0] == 0


def test_a_method_without_an_identity_fails_alone(records):
    for _ in range(2):  # nothing stored, and a failure stored
        code, found = records("bad_teacher,saliency")
        assert code == 1
        assert found["bad_teacher"].reason.startswith("KeyError: 'nobody' (bad_methods.py, line ")
        assert found["saliency"].status == "done"


def test_a_home_that_cannot_be_used_costs_speed_only(tmp_path, monkeypatch, records):
    code, whole = records("saliency")
    for name in ("BENCHMARK_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/dev/null/nobody")
    forget_tasks()
    out = tmp_path / "again"
    assert main([*WORDS, "--methods", "saliency", "--out", str(out)]) == code == 0
    (again,) = RecordStore(out).scan()[0]
    assert again.scores.equals(whole["saliency"].scores)


def test_who_has_no_home_has_a_cache_all_the_same(monkeypatch):
    for name in ("BENCHMARK_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert cache_folder().is_absolute()
    assert cache_folder().name.startswith("deepfaith-benchmark-")


def test_a_reason_is_one_short_line_of_plain_letters():
    try:
        raise RuntimeError("line 1\nline 2 \x1b[31m red \x07" + "x" * 9999)
    except RuntimeError as error:
        said = describe(error, RecordStore)
    assert said.isprintable()
    assert said.startswith("RuntimeError: line 1 line 2 red \\x07x")
    assert len(said) < 600
