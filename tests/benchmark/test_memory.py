"""Out of memory, precision and compilation, as far as a CPU can show them."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from dataclasses import replace
from functools import partial, partialmethod

import pytest
import torch

from benchmark.cli.parser import main
from benchmark.core.types import Split
from benchmark.modalities.continuous import rows_per_backward
from benchmark.models.batching import Batching, bytes_per_row
from benchmark.models.text import LSTMClassifier, TransformerClassifier
from benchmark.processes.allocation import keep_freed_memory
from benchmark.scoring import masked_model
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.masked_model import MaskedModel
from benchmark.scoring.metrics import TEN
from tests import toys


def test_out_of_memory_halves_the_rows_and_changes_no_score():
    task = toys.image()
    attributions = toys.scores(task)
    plain = Evaluator(task).score(attributions)
    tight = toys.Tight(task.model, rows=7)
    evaluator = Evaluator(task)
    found = evaluator.score(attributions)
    tight.hook.remove()
    assert evaluator.masked_model.batching.halvings > 0
    assert evaluator.masked_model.batching.packing()["rows_per_forward"] <= 7
    for name in TEN:
        torch.testing.assert_close(found.scores[name], plain.scores[name], rtol=0, atol=1e-12)


PLACES = ("to_predictions", "_joined", "raw_logits", "logits")


@pytest.mark.parametrize("make", toys.TASKS.values())
@pytest.mark.parametrize("place", PLACES)
def test_out_of_memory_at_any_line_answers_each_row_once(place, make, monkeypatch):
    """In the forward, while answers are put together and while they are judged, early and late in a run."""
    task = make()
    attributions = toys.scores(task)
    plain = Evaluator(task, value_table=False).score(attributions)
    raised = []

    for first in (1, 2, 5):
        calls = []

        def fails(real, *given, calls=calls, first=first):
            calls.append(1)
            if len(calls) in (first, first + 2) and all(
                len(part) > 1 for part in given if isinstance(part, torch.Tensor)
            ):
                raised.append(first)
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(*given)

        with monkeypatch.context() as patched:
            if place == "to_predictions":
                patched.setattr(masked_model, "to_predictions", partial(fails, masked_model.to_predictions))
            else:
                owner = masked_model._LogitBuffer if place == "_joined" else MaskedModel
                patched.setattr(
                    owner, place, partialmethod(lambda own, real, *x: fails(real, own, *x), getattr(owner, place))
                )
            found = Evaluator(task, value_table=False, byte_budget=60_000).score(attributions)
        for name in TEN:
            torch.testing.assert_close(found.scores[name], plain.scores[name], rtol=0, atol=1e-12, equal_nan=True)
    assert 1 in raised


def test_out_of_memory_at_one_row_is_an_error():
    task = toys.image()
    tight = toys.Tight(task.model, rows=0)
    with pytest.raises(torch.OutOfMemoryError):
        Evaluator(task)
    tight.hook.remove()


MODELS = {
    "lstm": lambda: LSTMClassifier(30, 3, 8, 16, 0.0),
    "transformer": lambda: TransformerClassifier(30, 3, 8, 1, 2, 64, 0.0),
}


@pytest.mark.parametrize("kind", MODELS)
def test_memory_of_a_forward_follows_from_the_largest_input(kind):
    """Not from the first, which may be one word long: tuples of layers count, and company says nothing."""
    toy = toys.text(length=64)
    task = replace(toy, model=MODELS[kind]().eval().requires_grad_(False))
    x = task.test.x
    short, full = x[:1], x[task.removal.valid(x).sum(1).argmax()][None]
    assert int(task.removal.valid(short).sum()) == 1
    assert int(task.removal.valid(full).sum()) == 64
    each = bytes_per_row(task, short)
    assert each == bytes_per_row(task, full) > 3 * 64 * 8 * 4
    budget = 10 * each
    for first in (short, full, x):
        asked = Batching(task, budget)
        asked.rows_per_forward(first)
        assert asked.rows_per_forward(full) == asked.rows_per_forward(x) == 10
        assert asked.packing()["rows_per_forward"] == 10
        assert asked.rows_per_forward(short) > 500
    assert rows_per_backward(task, x) == rows_per_backward(task, full)
    assert rows_per_backward(task, short) > 10 * rows_per_backward(task, full)
    largest = []
    hook = task.model.register_forward_hook(
        lambda _m, given, _o: largest.append((given[0] != 0).sum(1).amax() * len(given[0]))
    )
    Evaluator(replace(task, test=Split(x.sort(0).values, task.test.y)), byte_budget=budget)
    hook.remove()
    assert max(largest) <= 10 * 64


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


@pytest.mark.slow
def test_freed_memory_is_kept_where_the_c_library_can(monkeypatch):
    script = """
import resource, torch
from pathlib import Path
from benchmark.processes.allocation import keep_freed_memory
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
