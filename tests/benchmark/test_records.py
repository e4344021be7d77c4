"""Records: whole or not at all, checked when read."""

from __future__ import annotations

import errno
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmark.errors import BenchmarkError, RecordError, UsageError
from benchmark.plan import metric_facts
from benchmark.records import Cell, Record, RecordStore, same_work, scores_bytes


def cell(**changes):
    values = {"source": "synthetic", "task": "t", "method": "m", "params": {"n": 1}, "seed": 0, "limit": None,
              "fingerprint": "f"}  # fmt: skip
    return Cell(**(values | changes))


def scores(n=4):
    return pd.DataFrame(
        {
            "sample": np.arange(n),
            "target": 1,
            "metric": "FC",
            "score": np.linspace(0, 1, n),
            "valid": True,
            "reason": [None] * (n - 1) + ["why"],
        }
    )


def record(**changes):
    return Record(cell(**changes), "done", metrics=metric_facts(["FC"]), n_total=4, scores=scores())


def test_a_record_comes_back_as_it_went(tmp_path):
    store = RecordStore(tmp_path).open()
    folder = store.write(record())
    assert folder == tmp_path / "synthetic" / "t" / cell().key
    back = store.read(folder)
    assert replace(back, scores=None) == replace(record(), scores=None)
    assert back.scores["score"].tolist() == scores()["score"].tolist()
    assert back.scores["reason"].tolist()[-1] == "why"
    assert len(store.scan()[0]) == 1


def test_keys_tell_cells_apart():
    keys = {cell().key, cell(params={"n": 2}).key, cell(seed=1).key, cell(limit=5).key, cell(method="k").key}
    assert len(keys) == 5
    assert cell(fingerprint="g").key == cell().key  # a stale record is replaced, not kept beside


def test_equal_scores_give_equal_bytes():
    assert scores_bytes(scores()) == scores_bytes(scores())


def spoil_parquet(folder):
    path = folder / "scores.parquet"
    path.write_bytes(path.read_bytes()[:-20])


def spoil_json(folder):
    path = folder / "run.json"
    path.write_text(path.read_text()[:100])


def edit(folder, **changes):
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_parquet, "not what run.json says"),
        (spoil_json, "not a readable record"),
        (lambda f: (f / "scores.parquet").unlink(), "not a readable record"),
        (lambda f: edit(f, schema=99), "schema 99"),
        (lambda f: edit(f, status="maybe"), "does not belong"),
        (lambda f: edit(f, cell={"a": 1}), "not a readable record"),
        (lambda f: (f / "run.json").write_text("[]"), "not a readable record"),
        (lambda f: (f / "run.json").write_bytes(b"\xff\xfe"), "not a readable record"),
    ],
)
def test_a_damaged_record_is_named_and_set_aside(tmp_path, spoil, message):
    store = RecordStore(tmp_path).open()
    good, bad = store.write(record(method="good")), store.write(record(method="bad"))
    spoil(bad)
    with pytest.raises(RecordError, match=message):
        store.read(bad)
    records, problems = store.scan()
    assert [r.cell.method for r in records] == ["good"]
    assert len(problems) == 1
    assert "bad-" in problems[0]
    aside = store.set_aside(bad)
    assert not bad.exists()
    assert aside.is_dir()
    assert store.scan()[1] == []
    assert good.exists()


def test_a_copied_record_does_not_pass_for_another(tmp_path):
    store = RecordStore(tmp_path).open()
    folder = store.write(record())
    folder.rename(folder.with_name("other-0123456789"))
    with pytest.raises(RecordError, match="does not belong"):
        store.read(folder.with_name("other-0123456789"))


def test_a_full_disk_is_said_and_leaves_the_old_record(tmp_path, monkeypatch):
    store = RecordStore(tmp_path).open()
    folder = store.write(record())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(_fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BenchmarkError, match="the disk is full; free some space"):
        store.write(replace(record(), scores=scores(9)))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_an_unwritable_folder_is_a_usage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write to --out"):
        RecordStore(tmp_path / "file" / "results").open()


def test_same_work():
    facts = metric_facts(["FC"])
    assert same_work(record(), cell(), facts) is None
    assert "data" in same_work(record(), cell(fingerprint="g"), facts)
    assert "DEL is missing" in same_work(record(), cell(), metric_facts(["FC", "DEL"]))
    assert "FC changed" in same_work(record(), cell(), {"FC": {"version": 2}})
