"""What scores attributions needs a few packages, though all are installed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = {"filelock", "numpy", "pandas", "pyarrow", "safetensors", "torch", "tqdm"}
MODULES = {"pillow": "PIL", "scikit-learn": "sklearn"}
SCORES = """
import sys

sys.modules.update(dict.fromkeys(BLOCKED))  # which Python then does not find
from benchmark.core.sources import Sources
from benchmark.records.record import scores_bytes
from benchmark.running.record_making import score_table
from benchmark.scoring.evaluator import Evaluator
from benchmark.tasks.nap import nap_mlp

spec = nap_mlp()
task = spec.build(spec.locate(Sources("synthetic")), "nap_mlp", "cpu")
evaluator = Evaluator(task, seed=0, samples=range(5))
result = evaluator.score(task.test.x[:5] * 0.5)
assert scores_bytes(score_table(result)).startswith(b"PAR1")
print(*(round(float(scores.mean()), 6) for scores in result.scores.values()))
"""


def dependencies():
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return {re.match(r"[\w-]+", line)[0] for line in lines}


def run(blocked):
    code = SCORES.replace("BLOCKED", repr(blocked))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.slow
def test_a_tensor_is_scored_without_what_methods_images_and_boards_need():
    assert dependencies() > CORE
    blocked = {MODULES.get(name, name) for name in dependencies() - CORE}
    assert {"captum", "sklearn", "timm", "PIL", "datasets", "matplotlib", "seaborn", "jinja2", "scipy"} <= blocked
    done = run(blocked)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 10


@pytest.mark.slow
def test_what_is_blocked_is_missed():
    done = run({"safetensors"})
    assert done.returncode == 1
    assert "import of safetensors halted" in done.stderr
