"""Removing stored records."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest

from benchmark.cli.parser import main
from benchmark.records.store import RecordStore
from tests.leaderboards.generated import made


@pytest.fixture
def out(tmp_path):
    """A folder of five records, one failed, and a damaged one."""
    scores = np.random.default_rng(0).normal(size=(10, 9))
    done = [made(scores, name, task) for name, task in (("lime", "nap_mlp"), ("mine", "nap_mlp"), ("mine", "wcd_mlp"))]
    other = replace(done[0], label="lime[n_samples=9]", cell=replace(done[0].cell, params={"n_samples": 9}, seed=1))
    draft = made(scores[:, :0], "draft", "nap_mlp")
    failed = replace(draft, status="failed", reason="no luck", metrics={}, costs={}, n_total=9)
    store = RecordStore(tmp_path).open()
    for record in [*done, other, failed, made(scores, "cut", "nap_mlp")]:
        store.write(record)
    (next(tmp_path.rglob("cut-*")) / "run.json").write_text("{")
    return tmp_path


def left(out):
    return sorted(folder.parent.name + " " + folder.name.rpartition("-")[0] for folder in RecordStore(out).folders())


ALL = ["nap_mlp cut", "nap_mlp draft", "nap_mlp lime", "nap_mlp lime", "nap_mlp mine", "wcd_mlp mine"]


def forget(out, *words):
    return main(["forget", "--out", str(out), *words])


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        (["--failed"], ["nap_mlp draft"]),
        (["--damaged"], ["nap_mlp cut"]),
        (["--methods", "cut", "--damaged", "--task", "nap_mlp", "--source", "real"], ["nap_mlp cut"]),
        (["--methods", "mine*"], ["nap_mlp mine", "wcd_mlp mine"]),
        (["--methods", "mine", "--task", "wcd_mlp"], ["wcd_mlp mine"]),
        (["--methods", "lime[n_samples=9]"], ["nap_mlp lime"]),
        (["--seed", "1"], ["nap_mlp lime"]),
        (["--task", "nap_mlp", "--methods", "!mine", "--limit", "all", "--device", "cpu", "--precision", "fp32"],
         ["nap_mlp draft", "nap_mlp lime", "nap_mlp lime"]),
        ([], ["nap_mlp draft", "nap_mlp lime", "nap_mlp lime", "nap_mlp mine", "wcd_mlp mine"]),
    ],
)  # fmt: skip
def test_what_is_chosen_goes_and_nothing_else(out, capsys, words, gone):
    assert forget(out, *words, "--dry-run") == 0
    said = capsys.readouterr().out
    assert left(out) == ALL
    assert forget(out, *words, "--yes") == 0
    now = capsys.readouterr().out
    assert now.splitlines()[:-1] == said.splitlines()[:-1]
    assert f"{len(gone)} of {len(gone)} " in now
    rest = list(ALL)
    for name in gone:
        rest.remove(name)
    assert left(out) == rest
    assert forget(out, *words, "--yes") == 2, "there is nothing of that kind any more"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "these are all 5 records in "),
        (["--failed"], "nothing was removed: say --yes to remove 1 failed record"),
        (["--methods", "nosuch", "--yes"], "unknown method 'nosuch' here; known: draft, lime"),
        (["--task", "nosuch", "--yes"], "unknown task 'nosuch'"),
        (["--task", "imdb_lstm", "--yes"], "no records of imdb_lstm"),
        (["--preset", "quick", "--yes"], "nothing was removed"),
        (["--source", "synthetic", "--yes"], "no synthetic records in"),
        (["--task", "wcd_mlp", "--failed", "--yes"], "no failed record of wcd_mlp answers to these choices"),
        (["--damaged", "--seed", "1", "--yes"], "--damaged cannot be chosen by --seed"),
    ],
)
def test_nothing_goes_by_accident(out, capsys, monkeypatch, words, message):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert forget(out, *words) == 2
    assert message in capsys.readouterr().err
    assert left(out) == ALL


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("", 1)])
def test_a_terminal_is_asked(out, capsys, monkeypatch, answer, code):
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert forget(out, "--failed") == code
    assert "draft, seed 0, limit all, standard, fp32, cpu: failed: no luck" in (said := capsys.readouterr()).out
    assert f"Remove 1 failed record from {out}? [y/N]" in said.out
    assert ("nap_mlp draft" in left(out)) == bool(code)


def test_what_another_run_computes_is_left_alone_and_named(out, capsys):
    store = RecordStore(out)
    cell = next(r.cell for r in store.scan()[0] if (r.cell.method, r.cell.task) == ("mine", "nap_mlp"))
    with store.lock(cell):
        assert forget(out, "--methods", "mine", "--yes") == 1
    captured = capsys.readouterr()
    assert "left alone, since another run computes it or has just done so: real nap_mlp mine" in captured.err
    assert "1 of 2 records removed" in captured.out
    assert [name for name in left(out) if "mine" in name] == ["nap_mlp mine"]


def test_a_board_with_a_failed_draft_names_the_way_out(out, capsys):
    assert main(["leaderboard", "--out", str(out), "--task", "nap_mlp", "--seed", "0"]) == 1
    said = capsys.readouterr().err
    assert "use --partial to see the rest, or remove what will not be mended" in said
    assert "python -m benchmark forget --task nap_mlp --methods 'draft'" in said
    assert forget(out, "--task", "nap_mlp", "--methods", "draft", "--yes") == 0
    assert main(["leaderboard", "--out", str(out), "--task", "nap_mlp", "--seed", "0"]) == 0
