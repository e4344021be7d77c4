"""torch.compile answers as the model does, and compiles what never differs in."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from benchmark.cli.parser import main
from benchmark.engines.choosing import equip
from benchmark.engines.engine import build
from benchmark.models.text import TransformerClassifier
from tests import toys


@pytest.mark.slow
def test_torch_compile_answers_as_the_model():
    task = toys.image()
    with torch.no_grad():
        expected = task.model(task.test.x)
    assert equip(task, "compile").difference < 1e-5
    with torch.no_grad():
        for rows in (1, 3, len(expected)):
            assert torch.allclose(task.model(task.test.x[:rows]), expected[:rows], atol=1e-6)


@pytest.fixture
def left_open(monkeypatch):
    """A list of how many sizes each compilation leaves open; what is compiled answers eagerly."""
    sizes, compiling = [], torch.compile

    def recorded(module, inputs):
        sizes.append(sum(isinstance(one, torch.SymInt) for one in inputs))
        return module

    monkeypatch.setattr(torch, "compile", lambda module, options: compiling(module, backend=recorded))
    torch._dynamo.reset()
    return sizes


@pytest.mark.parametrize(("modality", "count"), [("table", 1), ("text", 2), ("image", 1)])
def test_torch_compile_leaves_open_what_differs_alone(modality, count, left_open):
    """With an image's sides left open, MobileNetV2 with padding that follows from them compiled for over an hour."""
    task = toys.TASKS[modality]()
    if modality == "text":  # of which our models leave the length open
        task = replace(task, model=TransformerClassifier(30, 3, 8, 1, 2, 40, 0.0).eval().double())
    with torch.no_grad():
        forward = build("compile", task.model, task.test.x)
        for rows in (2, 5, 9):
            torch.testing.assert_close(forward(task.test.x[:rows]), task.model(task.test.x[:rows]))
    assert left_open == [count], "compiled once, for any number of rows"


def test_torch_compile_opens_no_side_for_images_of_another_size(left_open):
    for side in (6, 9):
        features = 2 * (side - 2) ** 2
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Flatten(), torch.nn.Linear(features, 3)).eval()
        rows = torch.rand(8, 3, side, side)
        with torch.no_grad():
            forward = build("compile", model, rows)
            torch.testing.assert_close(forward(rows[:5]), model(rows[:5]))
    assert set(left_open) == {1}


@pytest.mark.slow
def test_a_run_is_answered_by_torch_compile(tmp_path):
    """Which calls a model anew where it was compiled under other conditions, and must not come back to itself."""
    words = ["run", "--task", "nap_mlp", "--source", "synthetic", "--methods", "lime,random", "--preset", "quick"]
    words += ["--jobs", "1", "--limit", "20", "--out", str(tmp_path), "--engine", "compile"]
    assert main(words) == 0
    said = [json.loads(path.read_text())["provenance"]["environment"]["engine"] for path in tmp_path.rglob("run.json")]
    assert said == ["compile"] * 2
