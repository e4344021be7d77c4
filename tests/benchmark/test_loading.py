"""A model from FILE.py:NAME: an object, a function, or what builds one; what is wrong is one sentence."""

from __future__ import annotations

import sys

import pytest
import torch

from benchmark.core.errors import BenchmarkError, DataError
from benchmark.models.loading import load_model

SOURCE = """
import torch
from torch import nn
from neighbour import WIDTH

class Net(nn.Module):
    def __init__(self, width=WIDTH):
        super().__init__()
        self.layer = nn.Linear(width, 2)

    def forward(self, x):
        return self.layer(x)

class Wide(Net):
    def __init__(self, width):
        super().__init__(width)

class Estimator:
    def predict_proba(self, x):
        return x

model = Net()
estimator = Estimator()
number = 3

def batch(x):
    return x[:, :2]

def build(width=4):
    return Net(width)

def build_function():
    return batch

def builds_nothing():
    return None

def fails():
    raise ValueError("no weights here")

any_number = lambda *rows: rows[0]
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Return the file, its neighbour beside it."""
    (tmp_path / "neighbour.py").write_text("WIDTH = 3\n")
    (tmp_path / "mine.py").write_text(SOURCE)
    before = set(sys.modules)
    yield tmp_path / "mine.py"
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(("name", "width"), [("model", 3), ("Net", 3), ("build", 4)])
def test_a_module_a_class_and_a_function_that_builds(file, name, width):
    path = list(sys.path)
    assert load_model(f"{file}:{name}")(torch.ones(5, width)).shape == (5, 2)
    assert sys.path == path


def test_functions_of_a_batch_and_estimators_are_models_themselves(file):
    for name in ("batch", "build_function", "any_number"):
        assert load_model(f"{file}:{name}")(torch.ones(5, 3)).shape[0] == 5
    assert load_model(f"{file}:estimator").predict_proba(1) == 1


def test_an_edited_file_is_read_anew(file):
    assert load_model(f"{file}:model").layer.in_features == 3
    file.write_text(SOURCE.replace("model = Net()", "model = Net(7)"))
    assert load_model(f"{file}:model").layer.in_features == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mine.py", "expects FILE.py:NAME, such as my.py:model"),
        ("mine.py:", "expects FILE.py:NAME"),
        ("mine.txt:model", "expects FILE.py:NAME"),
        ("weights.safetensors", "such a file holds weights and not what to do with them"),
        ("model.pt2", "write a function without parameters that builds the model"),
        ("model.pt:model", "write a function without parameters"),
        ("nowhere.py:model", "no such file"),
        ("mine.py:modle", "has no 'modle'; did you mean 'model'?"),
        ("mine.py:number", "is a int, expected a model, or a function"),
        ("mine.py:builds_nothing", "takes no arguments and returns a NoneType, expected a model"),
        ("mine.py:fails", "fails when it is called without arguments: ValueError: no weights here (mine.py, line "),
        ("mine.py:Wide", "fails when it is called without arguments: TypeError"),
        ("broken.py:model", "fails when it is imported (SyntaxError"),
        ("exits.py:model", "fails when it is imported (SystemExit: 3); mend it"),
    ],
)
def test_what_is_no_model_is_one_sentence(file, monkeypatch, text, message):
    monkeypatch.chdir(file.parent)
    (file.parent / "broken.py").write_text("model = (")
    (file.parent / "exits.py").write_text("import sys; sys.exit(3)")
    with pytest.raises(BenchmarkError) as raised:
        load_model(text)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, DataError) == (text == "nowhere.py:model")
