"""Out of memory, precision and compilation, as far as a CPU can show them."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from benchmark.__main__ import main
from benchmark.allocation import keep_freed_memory
from benchmark.evaluator import Evaluator
from benchmark.metrics import METRICS
from tests import toys


class Tight:
    """Raises as a GPU does when a forward has more than `rows` rows."""

    def __init__(self, model, rows):
        self.rows, self.hook = rows, model.register_forward_pre_hook(self.check)

    def check(self, _module, inputs):
        if len(inputs[0]) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")


def test_out_of_memory_halves_the_rows_and_changes_no_score():
    task = toys.image()
    attributions = toys.scores(task)
    plain = Evaluator(task).score(attributions)
    tight = Tight(task.model, rows=7)
    evaluator = Evaluator(task)
    found = evaluator.score(attributions)
    tight.hook.remove()
    assert evaluator.prober.halvings > 0
    assert evaluator.prober.packing()["rows_per_forward"] <= 7
    for name in METRICS:
        torch.testing.assert_close(found.scores[name], plain.scores[name], rtol=0, atol=1e-12)


def test_out_of_memory_at_one_row_is_an_error():
    task = toys.image()
    tight = Tight(task.model, rows=0)
    with pytest.raises(torch.OutOfMemoryError):
        Evaluator(task)
    tight.hook.remove()


def test_bf16_is_close_and_its_difference_is_known():
    task = toys.image()
    task.model.float()
    task = replace(task, test=replace(task.test, x=task.test.x.float()))
    attributions = toys.scores(task)
    plain = Evaluator(task).score(attributions)
    rough = Evaluator(task, precision="bf16").score(attributions)
    difference = (plain.scores["DEL"] - rough.scores["DEL"]).abs().max()
    assert 0 < difference < 0.02


def test_precisions_never_share_a_board(tmp_path, capsys):
    words = ["run", "--task", "nap_mlp", "--methods", "saliency", "--source", "synthetic", "--limit", "9",
             "--jobs", "1", "--device", "cpu", "--out", str(tmp_path)]  # fmt: skip
    assert main(words) == 0
    assert main([*words, "--precision", "bf16"]) == 0
    capsys.readouterr()
    assert main(["leaderboard", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.count("nap_mlp · SYNTHETIC") == 2
    assert "· bf16 ·" in out


def test_freed_memory_is_kept_where_the_c_library_can(monkeypatch):
    script = """
import resource, torch
from pathlib import Path
from benchmark.allocation import keep_freed_memory
if {keep}: keep_freed_memory()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
torch.ones(1)
before = resident()
torch.ones(6 * 2**20)  # 24 MiB, freed at once
print(resident() - before)
"""
    if platform.libc_ver()[0] != "glibc" or platform.system() != "Linux":
        pytest.skip("another C library than glibc decides for itself")
    kept, given_back = (
        float(subprocess.run([sys.executable, "-c", script.format(keep=keep)], capture_output=True, check=True).stdout)
        for keep in (True, False)
    )
    assert kept > 20
    assert given_back < 4
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(ctypes, "CDLL", None)
    keep_freed_memory()  # asks nothing of an unknown library
