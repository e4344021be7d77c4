"""Tasks of single files: `--task FILE.py:NAME`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark.cli.parser import main
from benchmark.core.errors import UsageError
from benchmark.core.sources import Sources
from benchmark.core.types import TASKS
from benchmark.modalities.grouping import GroupedRemoval
from benchmark.plugins.given_task import moved
from benchmark.plugins.task_files import include_task, with_task_files
from benchmark.records.store import RecordStore
from benchmark.scoring.evaluator import Evaluator
from tests import file_tasks

FILE = Path(__file__).parent.parent / "file_tasks.py"
OWN = Path(__file__).parent.parent / "own_task.py"


def run(tmp_path, task, *words):
    out = ["--out", str(tmp_path / "out"), "--methods", "saliency"]
    return main(["run", "--task", task, *out, "--jobs", "1", *words])


@pytest.mark.parametrize("name", ["as_task", "as_spec", "Rows", "SPEC", "TASK"])
def test_its_scores_are_those_of_the_evaluator(tmp_path, name, capsys):
    assert run(tmp_path, f"{FILE}:{name}") == 0
    assert f"file_tasks.{name} · real data · 10 test samples" in capsys.readouterr().out
    (record,), _ = RecordStore(tmp_path / "out").scan()
    task = file_tasks.as_task()
    x = task.test.x.clone().requires_grad_()
    logits = task.model(x)
    logits.gather(1, logits.argmax(1, keepdim=True)).sum().backward()
    expected = Evaluator(task).score(x.grad.abs()).scores
    for metric in expected:
        found = record.scores[record.scores["metric"] == metric].sort_values("sample")["score"].tolist()
        assert torch.equal(torch.tensor(found, dtype=torch.float64), expected[metric]), metric


def test_a_registered_task_goes_by_its_name(tmp_path, capsys):
    assert with_task_files(f"nap_mlp,{OWN}:own") == ("nap_mlp,own", (f"{OWN}:own",))
    assert run(tmp_path, f"{OWN}:own", "--metrics", "DEL", "--include", str(OWN)) == 0
    assert "own · real data" in capsys.readouterr().out
    assert include_task(f"{OWN}:own") == "own"
    assert include_task(f"{OWN}:Own") == "own_task.Own"
    assert with_task_files("nap_mlp,!wcd*") == ("nap_mlp,!wcd*", ())


@pytest.mark.slow
def test_workers_include_it_too(tmp_path, capsys):
    words = ["run", "--task", f"{FILE}:as_task", "--methods", "saliency,random", "--metrics", "DEL", "--jobs", "2"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert "2 computed" in capsys.readouterr().out


def test_other_commands_take_it(tmp_path, capsys):
    words = ["explain", "--task", f"{FILE}:as_task", "--methods", "saliency", "--out", str(tmp_path / "one.svg")]
    assert main(words) == 0
    assert (tmp_path / "one.svg").exists()
    assert run(tmp_path, f"{FILE}:as_task", "--dry-run") == 0
    assert "1 of 1 cells to compute" in capsys.readouterr().out


def test_what_a_method_spoils_is_made_again():
    for name in ("as_task", "TASK"):
        spec = TASKS.get(include_task(f"{FILE}:{name}"))()
        located = spec.locate(Sources())
        first = spec.build(located, "one", "cpu")
        first.train.x.zero_()
        again = spec.build(located, "one", "cpu")
        assert bool(again.train.x.any())
        assert again.name == "one"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere.py:task", "--task expects a Python file, got 'nowhere.py': no such file"),
        ("mine.py", "; a task of a file is FILE.py:NAME"),
        (f"{FILE}:as_taks", "file_tasks.py has no task 'as_taks'; did you mean 'as_task'?"),
        (f"{FILE}:NUMBER", "is int: expected a Task, a task spec, or a function without arguments"),
        (f"{FILE}:NOTHING", "is object: expected a Task"),
        (f"{FILE}:needs", "cannot be called: TypeError: needs() missing 1 required positional argument"),
        (f"{FILE}:gives_none", "gives NoneType, which has no modality and no n_features"),
        (f"{FILE}:fails", "cannot be called: ValueError: no rows today (file_tasks.py, line"),
    ],
)
def test_what_is_no_task_is_one_sentence(tmp_path, capsys, text, message):
    assert run(tmp_path, text) == (3 if "no such file" in message else 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_data_of_another_kind_are_refused(tmp_path, capsys):
    assert run(tmp_path, f"{FILE}:as_task", "--source", "synthetic") == 3
    assert "has real data and no synthetic data: leave out --source" in capsys.readouterr().err


def test_a_file_that_fails_is_named_by_its_option(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("1 / 0")
    with pytest.raises(UsageError, match=r"--task .*broken.py failed to import: ZeroDivisionError"):
        include_task(f"{path}:task")


def test_a_task_moves_with_all_that_it_holds():
    task = file_tasks.as_task()
    task = replace(task, evidence=torch.ones(10, 5).bool())
    there = moved(task, "meta")
    held = [there.train.x, there.train.y, there.test.x, there.test.y, there.removal.means, there.evidence]
    held += list(there.model.parameters())
    assert {tensor.device.type for tensor in held} == {"meta"}
    assert task.removal.means.device.type == "cpu"


def test_a_removal_moves_with_the_removal_in_it():
    task = file_tasks.as_task()
    task = replace(task, removal=GroupedRemoval(task.removal, torch.tensor([0, 0, 1, 1, 2])))
    there = moved(task, "meta").removal
    assert there.groups.device.type == there.inner.means.device.type == "meta"
    assert task.removal.inner.means.device.type == "cpu"


def test_the_variable_of_a_task_that_the_file_registers_is_that_task(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from benchmark.core.types import TASKS\n"
        "from tests.file_tasks import Rows\n\n"
        "@TASKS.register('rows of mine', modality='table')\n"
        "def mine():\n    return Rows()\n"
    )
    assert include_task(f"{path}:mine") == "rows of mine"
    assert include_task(f"{path}:rows of mine") == "rows of mine"
