"""Shards: a cell in parts gives the bytes of the whole, and what is there is not computed again."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass

import pytest
import torch

from benchmark.cli.parser import main
from benchmark.core.types import METHODS, Method
from benchmark.records.record import Cell
from benchmark.records.store import RecordStore
from benchmark.running.built import forget_tasks
from benchmark.running.parts import PartStore
from benchmark.scheduling import shards as cutting
from benchmark.scheduling.shards import Shard, shard_size, shards_of
from benchmark.scoring import evaluator
from tests import toys

WORDS = ["run", "--task", "digits_cnn", "--source", "synthetic", "--preset", "quick", "--limit", "24", "--jobs", "1",
         "--engine", "eager"]  # fmt: skip
CELL = Cell("synthetic", "digits_cnn", "saliency", {}, seed=0, limit=24)
METHODS_OF = "lime,random,expected_gradients,from_global"


FAILING = """
from dataclasses import dataclass
from benchmark.core.types import METHODS, Method


@METHODS.register("fails", modalities=["image"])
@dataclass(frozen=True)
class Fails(Method):
    def prepare(self, task, seed):
        with open({log!r}, "a") as file:
            file.write("asked\\n")
        raise ValueError("not here")
"""


@dataclass(frozen=True)
class FromGlobal(Method):
    """Draws from torch's global generator, as methods of others may."""

    def prepare(self, task, seed):
        return lambda x, target: torch.randn(len(x), task.n_features)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Let the evaluator take 8 images at once."""
    METHODS.register("from_global")(FromGlobal)
    before = evaluator.samples_at_once
    monkeypatch.setattr(evaluator, "samples_at_once", lambda *given: min(8, before(*given)))
    monkeypatch.setattr(cutting, "samples_at_once", evaluator.samples_at_once)
    forget_tasks()
    yield
    forget_tasks()


@pytest.fixture
def unjoined(monkeypatch):
    """Return a function that runs words and is killed when the parts of a cell are there and no record."""

    def run(words):
        def killed(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("benchmark.scheduling.unfinished.Unfinished.end", killed)
            assert main(words) == 130

    return run


def digests(folder):
    """Return the digest of each file that is the same whenever it is made."""
    files = [*folder.rglob("scores.parquet"), *folder.rglob("examples.json")]
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def records(folder):
    """Return what the records of a folder say, but for times."""
    found = {}
    for path in folder.glob("*/*/*/run.json"):
        meta = json.loads(path.read_text())
        del meta["digest"], meta["provenance"]["environment"]
        for cost in meta["costs"].values():
            del cost["seconds"]
        found[path.relative_to(folder)] = meta
    return found


def parts(folder):
    return sorted(path.relative_to(folder) for path in (folder / "_parts").rglob("*.safetensors"))


def test_a_record_is_the_same_in_any_number_of_shards(tmp_path):
    words = [*WORDS, "--methods", METHODS_OF, "--out"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    assert len(digests(tmp_path / "whole")) == 2 * 4
    for size in ("8", "16"):
        assert main([*words, str(tmp_path / size), "--shard-size", size]) == 0
        assert digests(tmp_path / size) == digests(tmp_path / "whole")
        assert records(tmp_path / size) == records(tmp_path / "whole")
        assert parts(tmp_path / size) == [], "what is joined is not kept twice"


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    out, seen = tmp_path / "out", []
    words = [*WORDS, "--methods", "saliency", "--out", str(out)]

    def stopping(method, task, seed):
        def explain(x, target):
            seen.append(x)
            if len(seen) == 3 and stop:
                raise KeyboardInterrupt
            return x.flatten(1)[:, : task.n_features]

        return explain

    monkeypatch.setattr(METHODS.get("saliency"), "prepare", stopping)
    stop = True
    assert main([*words, "--shard-size", "8"]) == 130
    assert [path.name for path in parts(out)] == ["0-8.safetensors", "8-16.safetensors"]
    stop = False
    assert main([*words, "--shard-size", "16"]) == 0, "shards of another size go on with what is there"
    assert sum(map(len, seen)) == 24 + 8, "only the part that was interrupted was computed again"
    assert main([*words[:-1], str(tmp_path / "whole")]) == 0
    assert digests(out) == digests(tmp_path / "whole")


def test_parts_of_another_method_code_or_metrics_are_not_taken(tmp_path, unjoined):
    out = tmp_path / "out"
    words = [*WORDS, "--methods", "saliency", "--out", str(out), "--shard-size", "8"]

    unjoined([*words, "--metrics", "DEL"])
    assert len(parts(out)) == 3
    unjoined([*words, "--metrics", "INS"])
    assert len(parts(out)) == 6
    assert main([*words, "--metrics", "INS"]) == 0, "all parts are there, and only the record is missing"
    assert len(parts(out)) == 3, "another run may be at work on the others"
    for folder in {(out / part).parent for part in parts(out)}:
        os.utime(folder, (0, 0))
    assert main([*words, "--overwrite", "always"]) == 0
    assert parts(out) == [], "nobody has added to them for a day"


def test_a_damaged_part_is_set_aside_and_computed_again(tmp_path, unjoined, capsys):
    out = tmp_path / "out"
    words = [*WORDS, "--methods", "saliency", "--out", str(out), "--shard-size", "8"]

    unjoined(words)
    damaged = out / parts(out)[1]
    content = bytearray(damaged.read_bytes())
    content[-3] ^= 1
    damaged.write_bytes(content)
    assert main(words) == 1
    said = capsys.readouterr()
    assert "is damaged (its digest does not match): set aside as" in said.err
    assert "parts of it were damaged" in said.out
    assert main(words) == 0
    assert main([*words[:-3], str(tmp_path / "whole")]) == 0
    assert digests(out) == digests(tmp_path / "whole")


def test_a_failure_in_one_shard_is_one_of_the_cell_and_keeps_what_is_there(tmp_path, monkeypatch, capsys):
    calls = []

    def failing(method, task, seed):
        def explain(x, target):
            calls.append(len(x))
            if len(calls) == 2:
                raise ValueError("not these")
            return x.flatten(1)

        return explain

    monkeypatch.setattr(METHODS.get("saliency"), "prepare", failing)
    words = [*WORDS, "--methods", "saliency", "--out", str(tmp_path), "--shard-size", "8"]
    assert main(words) == 1
    assert "not these" in capsys.readouterr().out
    meta = next(iter(records(tmp_path).values()))
    assert (meta["status"], meta["n_total"], meta["n_failed"]) == ("failed", 24, 24)
    assert len(parts(tmp_path)) == 1
    assert calls == [8, 8], "the third was not begun"
    assert main(words) == 0
    assert calls == [8, 8, 8, 8], "the one that failed was tried again, and none that was there"


def test_a_size_that_is_rounded_up_is_said(tmp_path, capsys):
    words = [*WORDS, "--methods", "random", "--out", str(tmp_path), "--shard-size"]
    assert main([*words, "3"]) == 0
    assert "digits_cnn: --shard-size 3 is rounded up to 8, what is asked about at once" in capsys.readouterr().err
    assert main([*words, "8", "--overwrite", "always"]) == 0
    assert "rounded" not in capsys.readouterr().err


def test_no_shard_of_a_failed_cell_is_given_to_a_worker(tmp_path):
    log, file = tmp_path / "log", tmp_path / "mine.py"
    file.write_text(FAILING.format(log=str(log)))
    words = [*WORDS, "--methods", "fails,saliency", "--include", str(file), "--out", str(tmp_path / "out")]
    words[words.index("--limit") + 1] = "90"
    assert main([*words, "--jobs", "2", "--shard-size", "8"]) == 1
    assert len(log.read_text().split()) <= 2, "of twelve: what was under way"
    states = {meta["cell"]["method"]: meta["status"] for meta in records(tmp_path / "out").values()}
    assert states == {"fails": "failed", "saliency": "done"}


def test_two_workers_share_the_shards_of_a_cell(tmp_path):
    words = ["run", "--task", "digits_cnn", "--source", "synthetic", "--preset", "quick", "--limit", "90",
             "--engine", "eager", "--methods", "lime"]  # fmt: skip
    assert main([*words, "--jobs", "2", "--shard-size", "1", "--out", str(tmp_path / "two")]) == 0
    assert records(tmp_path / "two").popitem()[1]["n_total"] == 90


@pytest.mark.parametrize(("done", "expected"), [
    ([], [(0, 4), (4, 8), (8, 10)]),
    ([range(4)], [(4, 8), (8, 10)]),
    ([range(2, 5)], [(0, 2), (5, 9), (9, 10)]),
    ([range(10)], []),
])  # fmt: skip
def test_what_is_there_is_left_out(done, expected):
    class Ten:
        samples = 10

    assert [(shard.rows.start, shard.rows.stop) for shard in shards_of(Ten, 4, done)] == expected


def test_a_cell_that_fits_a_shard_is_whole():
    class Ten:
        samples = 10

    assert shards_of(Ten, 10, []) == [Shard(Ten, range(10), whole=True)]


def test_shards_are_whole_batches(monkeypatch):
    task = toys.image()
    assert [shard_size(task, asked) for asked in (1, 8, 9)] == [8, 8, 16]
    monkeypatch.setattr(cutting, "seconds_a_sample", lambda task: 7.0)
    assert shard_size(task, None) == 16
    monkeypatch.setattr(cutting, "seconds_a_sample", lambda task: 1e4)
    assert shard_size(task, None) == 8


BROKEN = """
import torch
import benchmark as fb

class Broken(torch.nn.Linear):
    broken = False
    def forward(self, x):
        if Broken.broken:
            raise RuntimeError("out of order")
        return super().forward(x)

def task():
    Broken.broken = False
    made = fb.task(Broken(4, 2).eval(), torch.randn(20, 4), labels=torch.arange(20) % 2)
    Broken.broken = True
    return made
"""


@pytest.mark.parametrize("engine", ["eager", "auto"])
def test_a_model_that_cannot_answer_ends_its_own_task_and_no_other(tmp_path, capsys, engine):
    path = tmp_path / "broken.py"
    path.write_text(BROKEN)
    words = ["run", "--task", f"{path}:task", "--methods", "random", "--preset", "quick", "--jobs", "1"]
    assert main([*words, "--engine", engine, "--out", str(tmp_path / "out")]) == 3
    said = capsys.readouterr().err
    assert "error: broken.task: the " in said
    assert "RuntimeError: out of order" in said


def test_forgetting_a_record_forgets_its_parts(tmp_path):
    words = [*WORDS, "--methods", "saliency", "--out", str(tmp_path)]
    assert main(words) == 0
    folder = next(tmp_path.glob("synthetic/digits_cnn/*"))
    part = tmp_path / "_parts" / folder.relative_to(tmp_path) / "key" / "0-8.safetensors"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"")
    assert main(["forget", "--task", "digits_cnn", "--yes", "--out", str(tmp_path)]) == 0
    assert not part.exists()


def computing(monkeypatch, at, what):
    """Let `what` happen once before the shard of that number is computed."""
    from benchmark.scheduling import local

    real, seen = local.make_part, []

    def make_part(*given):
        seen.append(given)
        if len(seen) == at:
            what()
        return real(*given)

    monkeypatch.setattr(local, "make_part", make_part)


def test_another_run_that_cuts_otherwise_takes_nothing_away(tmp_path):
    store = PartStore(RecordStore(tmp_path), CELL, {}, {}, "eager")
    for start, stop in ((0, 8), (0, 16), (8, 12), (16, 24)):
        store.path(range(start, stop)).parent.mkdir(parents=True, exist_ok=True)
        store.path(range(start, stop)).write_bytes(b"")
    assert store.stored() == [range(16), range(16, 24)]


def test_metrics_that_another_run_stored_meanwhile_are_kept(tmp_path, monkeypatch, capsys):
    words = [*WORDS, "--methods", "saliency", "--out", str(tmp_path), "--metrics"]
    computing(monkeypatch, 1, lambda: main([*words, "INS", "--shard-size", "24"]))
    assert main([*words, "DEL", "--shard-size", "8"]) == 1
    assert "another run has stored INS of it meanwhile" in capsys.readouterr().out
    assert list(records(tmp_path).popitem()[1]["metrics"]) == ["INS"]


def test_parts_of_what_another_run_finished_are_removed(tmp_path, monkeypatch):
    words = [*WORDS, "--methods", "saliency", "--out", str(tmp_path), "--shard-size"]
    computing(monkeypatch, 1, lambda: main([*words, "24"]))
    assert main([*words, "8"]) == 0
    assert parts(tmp_path) == []


def test_parts_of_other_code_that_scores_are_not_taken(tmp_path, monkeypatch):
    def folder():
        return PartStore(RecordStore(tmp_path), CELL, {}, {}, "eager").folder

    before = folder()
    monkeypatch.setattr("benchmark.running.parts.source_digest", lambda module: "other")
    assert folder() != before
    monkeypatch.undo()
    monkeypatch.setattr("benchmark.running.parts.versions", lambda: {"torch": "0"})
    assert folder() != before
