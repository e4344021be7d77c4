"""The suites that pytest does not collect by itself: `tox -e stress` and `tox -e perf`, which would break unseen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.stress.report import PARTS

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_suites_are_collected():
    files = [*(f"tests/stress/{part}.py" for part in PARTS), "tests/performance"]
    words = ["-q", "--collect-only", "--benchmark-only", "-p", "no:cacheprovider", *files]
    done = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {line.split("::")[0] for line in done.stdout.splitlines() if "::" in line} >= set(files[:-1])
