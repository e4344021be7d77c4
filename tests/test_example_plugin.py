"""The template package under examples/plugin, installed as its readers install it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from benchmark.cli.parser import main
from benchmark.plugins.installed import PREFIX
from tests.installed import Site

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "examples" / "plugin"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Return a function that runs Python where the template is installed."""
    if not all(importlib.util.find_spec(name) for name in ("setuptools", "pip")):
        pytest.skip("setuptools or pip is missing: nothing can be installed without a network")
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


def test_its_modules_are_plug_ins(tmp_path, forget_registered, capsys):
    """Laid out as pip leaves them."""
    project = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["project"]
    points = {
        group.removeprefix(PREFIX): "\n".join(f"{name} = {module}" for name, module in named.items())
        for group, named in project["entry-points"].items()
    }
    modules = {str(path.relative_to(TEMPLATE)): path.read_text() for path in TEMPLATE.glob("example_plugin/*.py")}
    site = Site(tmp_path / "site")
    try:
        site.install(project["name"], modules, points, project["version"])
        assert main(["check", "method", "path_gradient"]) == 0
        assert main(["check", "task", "opposite_signs"]) == 0
        assert capsys.readouterr().err == ""
    finally:
        forget_registered()
        site.leave()


@pytest.mark.slow
def test_it_is_listed_checked_and_run(python, tmp_path):
    assert "[example-plugin 0.1.0]" in python("benchmark", "list", "methods")
    assert "opposite_signs         table     Whether two of six columns" in python("benchmark", "list", "tasks")
    assert " 0 wrong" in python("benchmark", "check", "method", "path_gradient")
    assert " 0 wrong" in python("benchmark", "check", "task", "opposite_signs")
    words = ["--task", "opposite_signs", "--methods", "path_gradient,saliency,random", "--jobs", 2]
    board = python("benchmark", "run", *words, "--out", tmp_path / "out")
    assert "opposite_signs · SYNTHETIC stand-in data · 100 test samples" in board
    assert "3 computed" in board


@pytest.mark.slow
def test_its_own_tests_pass(python):
    assert "3 passed" in python("pytest", "-q", "-p", "no:cacheprovider", "tests")
