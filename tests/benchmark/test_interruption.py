"""Runs that are killed, interrupted, or not alone."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from benchmark.cli.parser import main
from benchmark.core.files import write_atomically
from benchmark.processes import interruption
from benchmark.processes.workers import Workers
from benchmark.records.store import RecordStore
from benchmark.running.built import forget_tasks
from tests.benchmark.test_cli import FAST, files
from tests.benchmark.test_cli import run as run_here
from tests.processes import ended, fork


def forked(words):
    """Start a run in a fork of this process, which has torch loaded already; return its process id."""
    forget_tasks()  # whose engines the child could not end
    pid = fork()
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
    return ["run", "--task", "nap_mlp", "--methods", methods, "--source", "synthetic", "--limit", "40",
            "--jobs", "1", "--device", "cpu", "--out", str(folder / "out")]  # fmt: skip


def more_than(count, folder, pid):
    """Tell whether there are more records, or the process has ended."""
    return len(files(folder)) > count or os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


@pytest.mark.slow
def test_kills_change_no_byte(tmp_path, monkeypatch):
    """A few; `tox -e stress` does this a hundred times, in other ways too."""
    methods = FAST + ",integrated_gradients,lime,kernel_shap[n_samples=50]"
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "whole" / "cache"))
    start = time.monotonic()
    assert ended(forked(words_for(tmp_path / "whole", methods))) == 0
    whole_run = time.monotonic() - start
    expected = files(tmp_path / "whole" / "out")
    assert len(expected) == 8
    rng, finished, met, halfway = random.Random(0), 0, 0, 0
    folder = tmp_path / "killed"
    monkeypatch.setenv("BENCHMARK_CACHE", str(folder / "cache"))
    for kill in range(24):
        if met > 3 and halfway:
            break
        if finished > 2:  # start afresh so that later kills also meet training and the shared questions
            shutil.rmtree(folder)
            finished, whole_run = 0, 0.7 * whole_run  # and earlier: the first run was the slow one
        pid = forked(words_for(folder, methods))
        if kill % 3 == 2:  # as soon as there is another record, since all may come within a moment
            wait_until(partial(more_than, len(files(folder / "out")), folder / "out", pid), 120)
        else:
            time.sleep(rng.uniform(0.02, 1.0 if kill % 2 else 0.5) * whole_run)
        os.kill(pid, signal.SIGKILL)
        done = ended(pid) == 0
        finished, met = finished + done, met + (not done)
        so_far = files(folder / "out") if folder.exists() else {}
        assert all(expected[name] == content for name, content in so_far.items())
        halfway += 0 < len(so_far) < len(expected)
    assert met > 3, "kills that come after the end say nothing"
    assert halfway, "nor do those that come before the first record"
    assert ended(forked(words_for(folder, methods))) == 0
    assert files(folder / "out") == expected
    records, problems = RecordStore(folder / "out").scan()
    assert (len(records), problems) == (8, [])


def children(pid):
    """Return the processes that the threads of `pid` started and that have not been waited for."""
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


def wait_until(true, seconds=30.0):
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.01)
    return found


def alive(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def wait_for_a_record(folder):
    wait_until(lambda: list(folder.rglob("run.json")), 60)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_with_130_and_resumes(tmp_path, monkeypatch, number):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    words = words_for(tmp_path, "saliency,lime[n_samples=100]")
    pid = forked(words)
    wait_for_a_record(tmp_path / "out")
    os.kill(pid, number)
    assert ended(pid) == 130
    (finished,) = files(tmp_path / "out").items()
    assert ended(forked(words)) == 0
    resumed = files(tmp_path / "out")
    assert len(resumed) == 2
    assert resumed[finished[0]] == finished[1]


@pytest.mark.slow
def test_interrupted_workers_end_too(tmp_path):
    words = ["run", "--task", "nap_mlp", "--methods", "lime[n_samples=3000],kernel_shap[n_samples=3000],saliency",
             "--source", "synthetic", "--jobs", "2", "--out", tmp_path]  # fmt: skip
    child = subprocess.Popen([sys.executable, "-m", "benchmark", *map(str, words)], stderr=subprocess.PIPE, text=True)
    wait_for_a_record(tmp_path)
    workers = children(child.pid)
    assert len(workers) == 2
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert not any(map(alive, workers))
    assert "the same command goes on from there" in err
    assert "Traceback" not in err


@pytest.mark.slow
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


# Workers


@pytest.mark.parametrize("doing", ["while True: pass", "import time; time.sleep(60)", "import torch"])
def test_no_worker_outlives_its_parent(doing):
    code = f"from benchmark.processes.workers import Workers; list(Workers().each(exec, [{doing!r}] * 2, 2, print))"
    parent = subprocess.Popen([sys.executable, "-c", code])
    workers = wait_until(lambda: len(found := children(parent.pid)) == 2 and found)
    time.sleep(0.2)
    parent.kill()
    parent.wait(60)
    wait_until(lambda: not any(map(alive, workers)), 3.0)


KILL = "__import__('os').kill(__import__('os').getpid(), {})"


@pytest.mark.parametrize(
    ("death", "how"),
    [
        (KILL.format(9), "died (signal 9: out of memory?)"),
        (KILL.format(11), "died (signal 11)"),
        ("__import__('os')._exit(3)", "ended with exit code 3"),
    ],
)
def test_a_worker_that_dies_takes_its_own_job_along_and_no_other(death, how):
    with Workers() as crew:
        found = list(crew.each(eval, ["1", death, "2", "3", death, "4"], 2, lambda job, how: (job, how)))
        assert sorted(item for item in found if isinstance(item, int)) == [1, 2, 3, 4]
        assert [item for item in found if not isinstance(item, int)] == [(death, how)] * 2
        processes = set(crew.each(eval, ["__import__('os').getpid()"] * 20, 1, None))
        assert len(processes) == 1, "a process does one job after the other"
    assert not any(map(alive, processes))


def test_what_a_job_raises_is_raised_here_with_its_place(caplog, monkeypatch):
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    said = "__import__('logging').getLogger('benchmark').warning('a word of %s', 7) or print('not for our output')"
    with Workers() as crew, caplog.at_level("WARNING", "benchmark"):
        assert list(crew.each(eval, [said], 1, None)) == [None]
        with pytest.raises(ZeroDivisionError) as caught:
            list(crew.each(eval, ["1 / 0", "2"], 1, None))
        unsent = "(_ for _ in ()).throw(type('Odd', (Exception,), {})('why'))"
        with pytest.raises(RuntimeError, match="Odd: why"):
            list(crew.each(eval, [unsent], 1, None))
        with pytest.raises(KeyboardInterrupt):
            list(crew.each(eval, ["(_ for _ in ()).throw(KeyboardInterrupt)"], 1, None))
        assert list(crew.each(eval, ["5"], 1, None)) == [5], "others come after the ended ones"
    assert "in a worker process" in caught.value.__notes__[0]
    assert caplog.messages == ["a word of 7"]


DIES = """
import os
from dataclasses import dataclass
from pathlib import Path
from benchmark.core.types import METHODS, Method


@METHODS.register("dies", kind="baseline")
@dataclass(frozen=True)
class Dies(Method):
    def prepare(self, task, seed):
        if (once := Path(__file__).with_name("once")).exists():
            once.unlink()
            os.kill(os.getpid(), 9)
        return lambda x, target: x.clone()
"""


@pytest.mark.slow
def test_a_cell_whose_worker_dies_fails_alone_and_is_computed_by_the_next_run(tmp_path, capsys):
    (tmp_path / "dies.py").write_text(DIES)
    (tmp_path / "once").touch()
    words = ["--include", str(tmp_path / "dies.py")]
    out = tmp_path / "out"
    assert run_here(out, *words, methods="dies,saliency", jobs="2") == 1
    captured = capsys.readouterr()
    assert "failed: nap_mlp dies: its worker process died (signal 9: out of memory?)" in captured.out
    assert "1 computed, 0 kept, 0 skipped, 1 failed" in captured.out
    assert "Traceback" not in captured.err
    assert run_here(out, *words, methods="dies,saliency", jobs="2") == 0
    assert "1 computed, 1 kept" in capsys.readouterr().out
    assert not (out / "_set_aside").exists()


# Signals that come at a bad time


def test_an_interruption_that_something_swallows_ends_the_run_all_the_same(tmp_path, capsys, monkeypatch):
    real = RecordStore.write

    def deaf(store, *record):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        except KeyboardInterrupt:
            return real(store, *record)
        raise AssertionError("no signal came")

    monkeypatch.setattr(RecordStore, "write", deaf)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    try:
        assert run_here(tmp_path, methods="saliency,random") == 130
        assert "interrupted" in capsys.readouterr().err
        assert len(files(tmp_path)) == 1
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
    monkeypatch.undo()
    assert run_here(tmp_path, methods="saliency,random") == 0, "it is not remembered"


def test_an_interruption_at_the_very_start_is_no_traceback(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmark.cli.parser.build_parser", interrupted)
    assert main(["list", "tasks"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_signals_are_put_off_while_libraries_are_imported():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    whole = []

    def import_slowly():
        with interruption.held():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            whole.append(1)

    try:
        interruption.stop_on_signals()
        with pytest.raises(KeyboardInterrupt):
            import_slowly()
        interruption.stop_on_signals()
        interruption.stop_if_asked()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        interruption.stop_on_signals()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN, "of a process in the background"
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
    assert whole


def test_a_run_removes_what_killed_runs_left_half_written(tmp_path):
    cache = Path(os.environ["BENCHMARK_CACHE"])
    for folder in (tmp_path / "synthetic" / "nap_mlp" / "x", cache / "models"):
        pid = fork()
        if not pid:
            os.fsync = lambda _file: os._exit(0)
            write_atomically(folder / "run.json", b"half")
        ended(pid)
    left = [path for place in (tmp_path, cache) for path in place.rglob("*.part")]
    assert len(left) == 2
    assert run_here(tmp_path) == 0
    assert not [path for path in left if path.exists()]
