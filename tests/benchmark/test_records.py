"""Records: whole or not at all, checked when read."""

from __future__ import annotations

import errno
import hashlib
import json
import random
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmark.core.errors import BenchmarkError, RecordError, UsageError
from benchmark.records.record import Cell, Record, digest_of_meta, scores_bytes, stale
from benchmark.records.store import RecordStore, stored
from benchmark.running.plan import metric_facts
from tests.leaderboards.generated import FACTS, IDENTITY

COSTS = {phase: {"forwards": 1, "backwards": 0, "seconds": 0.1} for phase in ("prepare", "attribute", "probe")}


def cell(**changes):
    values = {"source": "synthetic", "task": "t", "method": "m", "params": {"n": 1}, "seed": 0, "limit": None}
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
    return Record(cell(**changes), "done", metrics=metric_facts(["FC"]), n_total=4, scores=scores(), identity=IDENTITY,
                  facts=FACTS, costs=COSTS)  # fmt: skip


def test_a_record_comes_back_as_it_went(tmp_path):
    store = RecordStore(tmp_path).open()
    folder = store.write(record())
    assert folder == tmp_path / "synthetic" / "t" / cell().key
    back = store.read(folder)
    assert replace(back, scores=None) == replace(record(), scores=None)
    assert back.scores["score"].tolist() == scores()["score"].tolist()
    assert back.scores["reason"].tolist()[-1] == "why"
    assert len(store.scan()[0]) == 1


def test_a_record_of_before_methods_said_what_they_are_told_is_read(tmp_path):
    store = RecordStore(tmp_path).open()
    folder = store.write(replace(record(), told={"sign": "signed"}))
    assert store.read(folder).told == {"sign": "signed"}
    meta = json.loads((folder / "run.json").read_text())
    del meta["told"], meta["digest"]
    (folder / "run.json").write_text(json.dumps(meta | {"digest": digest_of_meta(meta)}))
    assert store.read(folder).told == {}


def test_keys_tell_cells_apart():
    keys = {cell().key, cell(params={"n": 2}).key, cell(seed=1).key, cell(limit=5).key, cell(method="k").key}
    assert len(keys) == 5
    assert cell(device="cuda").key != cell().key


def test_equal_scores_give_equal_bytes():
    assert scores_bytes(scores()) == scores_bytes(scores())


def spoil_parquet(folder):
    path = folder / "scores.parquet"
    path.write_bytes(path.read_bytes()[:-20])


def spoil_json(folder):
    path = folder / "run.json"
    path.write_text(path.read_text()[:100])


def edit(folder, **changes):
    """Change run.json as a person would who also mends its digest."""
    path = folder / "run.json"
    meta = json.loads(path.read_text()) | changes
    del meta["digest"]
    meta["digest"] = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(meta))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_parquet, "not what run.json says"),
        (spoil_json, "not a readable record"),
        (lambda f: (f / "scores.parquet").unlink(), "not a readable record"),
        (lambda f: edit(f, schema=99), "schema 99"),
        (lambda f: edit(f, status="maybe"), "status"),
        (lambda f: edit(f, cell={"a": 1}), "cell: source is nothing"),
        (lambda f: edit(f, cell=vars(cell(source="real"))), "does not belong"),
        (lambda f: edit(f, cell=vars(cell(task="../../t"))), "the name '../../t' is none"),
        (lambda f: edit(f, label="a\x1b[31m"), "label is"),
        (lambda f: edit(f, costs={"prepare": {}}), "costs of prepare"),
        (lambda f: edit(f, metrics={"FC": {"version": 1}}), "metric FC: higher_is_better is nothing"),
        (lambda f: edit(f, metrics={"\x1b[31mred": {"version": 1}}), r"metric \\x1b\[31mred: higher"),
        (lambda f: edit(f, metrics=None), "metrics is None"),
        (lambda f: edit(f, facts={}), "facts: modality is nothing"),
        (lambda f: edit(f, identity={}), "identity"),
        (lambda f: edit(f, told={"sign": 1}), "told: sign is 1"),
        (lambda f: edit(f, told="all"), "told is 'all'"),
        (lambda f: edit(f, n_total=3), "has 4 rows, expected 3"),
        (lambda f: edit(f, n_total=True), "n_total is True"),
        (lambda f: edit(f, provenance={"model": {"accuracy": "high"}}), "accuracy is 'high', expected a number"),
        (lambda f: (f / "run.json").write_text("[]"), "holds no record"),
        (lambda f: (f / "run.json").write_text("[" * 100_000), "not a readable record"),
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
    assert problems[0].isprintable()
    aside = store.set_aside(bad)
    assert not bad.exists()
    assert aside.is_dir()
    assert store.scan()[1] == []
    assert good.exists()


def test_a_sentence_about_a_record_holds_no_control_characters(tmp_path):
    """The name of a metric, say, that a stranger made up: it is refused, and the sentence says it in plain letters."""
    store = RecordStore(tmp_path)
    folder = store.write(record())
    meta = json.loads((folder / "run.json").read_text())
    del meta["digest"]
    meta["metrics"] = {"\x1b[31mred": dict(next(iter(meta["metrics"].values())), family=True)}
    meta["digest"] = digest_of_meta(meta)
    (folder / "run.json").write_text(json.dumps(meta))
    with pytest.raises(RecordError) as raised:
        store.read(folder)
    assert str(raised.value).isprintable()
    assert "\\x1b[31mred: family is True" in str(raised.value)


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
        store.write(replace(record(), scores=scores(9), n_total=9))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    store = RecordStore(tmp_path).open()
    folder = store.folder(record().cell)
    folder.parent.mkdir(parents=True)
    folder.write_text("somebody's notes")
    with pytest.raises(BenchmarkError, match=f"{re.escape(str(folder))} is a file where a folder should be; move it"):
        store.write(record())
    assert folder.read_text() == "somebody's notes"


def test_an_unwritable_folder_is_a_usage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write to --out"):
        RecordStore(tmp_path / "file" / "results").open()


def test_what_makes_a_record_stale():
    facts = metric_facts(["FC"])
    assert stale(record(), IDENTITY, facts) is None
    for part, said in {"data": "the data", "model": "weights", "task": "budget", "code": "code"}.items():
        assert said in stale(record(), IDENTITY | {part: "other"}, facts)
    assert "DEL is missing" in stale(record(), IDENTITY, metric_facts(["FC", "DEL"]))
    assert "FC changed" in stale(record(), IDENTITY, {"FC": {"version": 2}})


def test_no_flipped_bit_of_a_record_is_believed(tmp_path):
    store = RecordStore(tmp_path).open()
    folder = store.write(record(), [{"sample": 0}])
    draw = random.Random(0)
    for name in ("run.json", "scores.parquet"):
        content = (folder / name).read_bytes()
        for _ in range(60):
            spoilt = bytearray(content)
            spoilt[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            (folder / name).write_bytes(spoilt)
            try:
                back = store.read(folder)
            except RecordError:
                continue
            assert json.loads(bytes(spoilt)) == json.loads(content)  # white space is no content
            assert back.cell == cell()
        (folder / name).write_bytes(content)
    assert store.examples(store.read(folder)) == [{"sample": 0}]
    (folder / "examples.json").write_text('[{"sample": 1}]')
    with pytest.raises(RecordError, match="not what run.json says"):
        store.examples(store.read(folder))


def test_forget_removes_one_record_that_is_as_it_was_seen_and_that_no_run_holds(tmp_path):
    store = RecordStore(tmp_path).open()
    folder, other = store.write(record()), store.write(record(method="k"))
    seen = stored(folder)
    assert not store.forget(folder, b"something else")
    with store.lock(cell()):
        assert not store.forget(folder, seen)
    assert folder.exists()
    assert store.forget(folder, seen)
    assert not folder.exists()
    assert [r.cell.method for r in store.scan()[0]] == ["k"]
    assert other.exists()
