"""Runs that are killed, interrupted, or not alone."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from benchmark.__main__ import main
from benchmark.records import RecordStore
from tests.benchmark.test_cli import FAST, files


def forked(words):
    """Start a run in a fork of this process, which has torch loaded already; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = main(words)
    finally:
        os._exit(code)


def words_for(folder, methods=FAST):
    os.environ["BENCHMARK_CACHE"] = str(folder / "cache")
    return ["run", "--task", "nap_mlp", "--methods", methods, "--source", "synthetic", "--limit", "40",
            "--jobs", "1", "--device", "cpu", "--out", str(folder / "out")]  # fmt: skip


@pytest.fixture
def _cache_back():
    before = os.environ["BENCHMARK_CACHE"]
    yield
    os.environ["BENCHMARK_CACHE"] = before


@pytest.mark.usefixtures("_cache_back")
def test_twenty_kills_change_no_byte(tmp_path):
    from benchmark.runner import forget_tasks

    forget_tasks()
    methods = FAST + ",integrated_gradients,lime,kernel_shap[n_samples=50]"
    start = time.monotonic()
    assert os.waitpid(forked(words_for(tmp_path / "whole", methods)), 0)[1] == 0
    whole_run = time.monotonic() - start
    expected = files(tmp_path / "whole" / "out")
    assert len(expected) == 8
    rng, finished, stopped = random.Random(0), 0, 0
    folder = tmp_path / "killed"
    for kill in range(20):
        if finished > 2:  # start afresh so that later kills also meet training and the shared questions
            shutil.rmtree(folder)
            finished = 0
        pid = forked(words_for(folder, methods))
        time.sleep(rng.uniform(0.02, 1.0 if kill % 2 else 0.5) * whole_run)
        os.kill(pid, signal.SIGKILL)
        finished += os.waitpid(pid, 0)[1] == 0
        stopped += 1
        so_far = files(folder / "out") if folder.exists() else {}
        assert all(expected[name] == content for name, content in so_far.items())
    assert stopped == 20
    assert os.waitpid(forked(words_for(folder, methods)), 0)[1] == 0
    assert files(folder / "out") == expected
    records, problems = RecordStore(folder / "out").scan()
    assert (len(records), problems) == (8, [])


def wait_for_a_record(folder):
    end = time.monotonic() + 60
    while not list(folder.rglob("run.json")):
        assert time.monotonic() < end, "the run stored nothing"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("_cache_back")
def test_an_interrupted_run_ends_with_130_and_resumes(tmp_path, number):
    words = words_for(tmp_path, "saliency,lime[n_samples=2000]")
    pid = forked(words)
    wait_for_a_record(tmp_path / "out")
    os.kill(pid, number)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert len(files(tmp_path / "out")) == 1


def test_interrupted_workers_end_too(tmp_path):
    words = ["run", "--task", "nap_mlp", "--methods", "lime[n_samples=3000],kernel_shap[n_samples=3000],saliency",
             "--source", "synthetic", "--jobs", "2", "--out", tmp_path]  # fmt: skip
    child = subprocess.Popen([sys.executable, "-m", "benchmark", *map(str, words)], stderr=subprocess.PIPE, text=True)
    wait_for_a_record(tmp_path)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "the same command goes on from there" in err
    assert "Traceback" not in err


def test_two_runs_at_once_agree(tmp_path):
    words = ["run", "--task", "nap_mlp", "--methods", "lime,kernel_shap,saliency", "--source", "synthetic",
             "--limit", "30", "--jobs", "1", "--out", tmp_path]  # fmt: skip
    runs = [
        subprocess.Popen([sys.executable, "-m", "benchmark", *map(str, words)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outs = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    counts = [[int(part.split()[0]) for part in out.splitlines()[-1][7:].split(";")[0].split(", ")] for out in outs]
    assert sum(c[0] for c in counts) == 3, "each cell is computed by one of the two"
    assert all(c[0] + c[1] == 3 for c in counts)
