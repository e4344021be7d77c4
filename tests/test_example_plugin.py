"""The template package under examples/plugin, installed as its readers install it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import benchmark as fb
from benchmark.cli.parser import main
from tests.installed import ROOT, TEMPLATE, template_installed


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Return a function that runs Python where the template is installed."""
    copy, site = tmp_path_factory.mktemp("template") / "plugin", tmp_path_factory.mktemp("site")
    shutil.copytree(TEMPLATE, copy)  # building leaves files beside the source
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    words = ["pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", site, copy]
    done = subprocess.run([sys.executable, "-m", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    def run(*words, folder=copy):
        done = subprocess.run(
            [sys.executable, "-m", *map(str, words)], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_its_modules_are_plug_ins(forget_registered, capsys):
    """Laid out as pip leaves them."""
    with template_installed():
        assert main(["check", "method", "path_gradient"]) == 0
        assert main(["check", "task", "opposite_signs"]) == 0
        assert main(["check", "metric", "HALF"]) == 0
        assert "median" in fb.list_removals("table")
        assert capsys.readouterr().err == ""
        forget_registered()


@pytest.mark.slow
def test_it_is_listed_checked_and_run(python, tmp_path):
    assert "[example-plugin 0.1.0]" in python("benchmark", "list", "methods")
    assert "opposite_signs         table     Whether two of six columns" in python("benchmark", "list", "tasks")
    metrics, removals = python("benchmark", "list", "metrics"), python("benchmark", "list", "removals")
    assert re.search(r"^HALF .*costs when it goes. \[example-plugin 0.1.0\]$", metrics, re.M)
    assert re.search(r"^median .*do not move. \[example-plugin 0.1.0\]$", removals, re.M)
    for kind, name in (("method", "path_gradient"), ("task", "opposite_signs"), ("metric", "HALF")):
        assert " 0 wrong" in python("benchmark", "check", kind, name)
    ready = python("benchmark", "doctor", "--source", "synthetic")
    assert re.search(r"^plug-in example-plugin 0.1.0 +ready +removals median \(example_plugin.median\)$", ready, re.M)
    words = ["--task", "opposite_signs", "--methods", "path_gradient,saliency,random", "--metrics", "ten,HALF"]
    board = python("benchmark", "run", *words, "--jobs", 2, "--out", tmp_path / "out")
    assert "opposite_signs · SYNTHETIC stand-in data · 100 test samples" in board
    assert "3 computed" in board
    assert "opposite_signs · own metrics: HALF" in board


@pytest.mark.slow
def test_its_removal_is_one_of_the_command_score(python, tmp_path):
    (tmp_path / "my.py").write_text("import torch\nmodel = torch.nn.Linear(3, 2)\n")
    np.save(tmp_path / "x.npy", np.eye(4, 3, dtype=np.float32))
    words = ["--model", "my.py:model", "--inputs", "x.npy", "--attributions", "x.npy", "--removal", "median"]
    assert "1 scored" in python("benchmark", "score", *words, "--metrics", "HALF", folder=tmp_path)


@pytest.mark.slow
def test_its_own_tests_pass(python):
    assert "6 passed" in python("pytest", "-q", "-p", "no:cacheprovider", "tests")
