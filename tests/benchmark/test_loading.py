"""A model from FILE.py:NAME: an object, a function, or what builds one; what is wrong is one sentence."""

from __future__ import annotations

import sys

import pytest
import torch

from benchmark.cli.parser import main
from benchmark.core.errors import BenchmarkError, DataError, UsageError
from benchmark.core.identity import source_digest
from benchmark.core.types import METHODS, TASKS
from benchmark.models.others.loading import load_model
from benchmark.plugins.task_files import include_task
from benchmark.scoring.metrics import METRICS
from benchmark.testing.loading import load_function

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
    assert sys.path == [*path, str(file.parent)], "installed packages come first"


def test_functions_of_a_batch_and_estimators_are_models_themselves(file):
    for name in ("batch", "build_function", "any_number"):
        assert load_model(f"{file}:{name}")(torch.ones(5, 3)).shape[0] == 5
    assert load_model(f"{file}:estimator").predict_proba(1) == 1


def test_a_file_runs_once_whatever_names_it(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom benchmark.scoring.metrics import MORF, METRICS, ProbeMetric, mean, share_lost\n"
        "print('run')\n"
        "@METRICS.register('MINE')\nclass Mine(ProbeMetric):\n"
        "    probe = MORF\n    def score(self, response): return mean(share_lost(response), response)\n"
        "def model(x): return torch.as_tensor(x)\n"
        "def deletion(x): return 0 * x[:, 0]\n"
        "def task():\n    import benchmark as fb\n    return fb.task(model, torch.randn(4, 3), output='logits')\n"
    )
    METHODS.include(tmp_path / "mine.py")
    assert load_model("mine.py:model")(3) == 3
    assert load_function(f"{tmp_path}/mine.py:deletion").__module__ == METRICS.entry("MINE").module
    assert include_task("mine.py:task") == "mine.task"
    assert capsys.readouterr().out == "run\n"


def test_what_an_edited_file_registered_before_is_forgotten(tmp_path):
    found = []
    path, text = tmp_path / "mine.py", "from benchmark.core.types import TASKS\n@TASKS.register({!r})\ndef own(): 1\n"
    for name, other in (("first", "second"), ("second", "first"), ("first", "second")):
        path.write_text(text.format(name))
        module = METHODS.include(path).__name__
        assert name in TASKS.names()
        assert other not in TASKS.names()
        found.append(source_digest(module))
    assert found[0] == found[2] != found[1], "records are bound to what was run"
    path.write_text(text.format("third") + "1 / 0")
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        METHODS.include(path)
    assert "third" not in TASKS.names(), "of a file that fails nothing stays"
    path.write_text(text.format("third"))
    METHODS.include(path)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["list", "methods"], 2),
        (["check", "task", "mine.py:task"], 2),
        (["verify-metrics", "--metric", "DEL", "--implementation", "mine.py:nothing"], 2),
    ],
)
def test_an_included_file_that_registers_nothing_is_said(tmp_path, capsys, monkeypatch, words, code):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("")
    assert main([*words, "--include", "mine.py"]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert ("registers nothing: expected a method" in line) == (words[0] == "list"), line


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
        ("broken.py:model", "broken.py failed to import: SyntaxError"),
        ("exits.py:model", "exits.py failed to import: SystemExit: 3"),
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
