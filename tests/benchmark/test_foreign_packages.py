"""Folders of the user's that hold packages called as ours are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.cli.process import BESIDE

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ["-P", "-c", "import sys; from benchmark.cli.start import entry; sys.exit(entry())"]
"""What the console script runs, which does not look into the working folder."""


def started(folder, how, *words):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *how, *map(str, words)], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("name", [*(f"{name}.py" for name in BESIDE), "leaderboards/__init__.py"])
def test_a_foreign_package_is_named_at_once(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("raise RuntimeError('this was imported')")
    done = started(tmp_path, ["-m", "benchmark"], "run", "--task", "nap_mlp", "--methods", "saliency")
    assert done.returncode == 2
    place = path.parent if path.name == "__init__.py" else path
    assert done.stderr.startswith(f"error: {str(place)!r} hides the package {place.stem} of this program, since")
    assert "use the command deepfaith-benchmark" in done.stderr


def test_a_folder_that_is_no_package_hides_nothing(tmp_path):
    for name in BESIDE:
        (tmp_path / name).mkdir()
    done = started(tmp_path, ["-m", "benchmark"], "list", "methods")
    assert (done.returncode, done.stderr) == (0, "")
    assert "saliency" in done.stdout


@pytest.mark.slow
def test_the_console_script_and_its_workers_do_not_mind(tmp_path):
    for name in ("benchmark", *BESIDE):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('this was imported')")
    words = ["run", "--task", "nap_mlp", "--methods", "saliency,deeplift", "--source", "synthetic", "--limit", "6"]
    done = started(tmp_path, SCRIPT, *words, "--jobs", "2", "--device", "cpu", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "2 computed" in done.stdout
