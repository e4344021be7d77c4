"""The command line as a process: its version, its output, signals, and what nobody foresaw."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.cli.parser import main
from tests.benchmark.test_cli import BAD, command
from tests.processes import ended, fork


def test_the_version_and_no_verb(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("deepfaith-benchmark 0.")
    assert main([]) == 2
    assert "Evaluate methods on tasks" in capsys.readouterr().err


def test_what_nobody_foresaw_is_a_sentence(capsys, monkeypatch):
    def broken(*_):
        return 1 / 0

    monkeypatch.setattr("benchmark.inspection.cards.card", broken)
    assert main(["show", "lime"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ZeroDivisionError: division by zero (test_process.py, line ")
    assert "Traceback" not in said
    assert main(["show", "lime", "-v"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_file_that_cannot_be_used_is_named(tmp_path, capsys, monkeypatch):
    def broken(*_):
        raise PermissionError(13, "Permission denied", "/a/file")

    monkeypatch.setattr("benchmark.inspection.cards.card", broken)
    assert main(["show", "lime"]) == 1
    assert capsys.readouterr().err == "error: cannot use '/a/file': Permission denied\n"


def test_a_terminal_without_the_signs_ends_nothing(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(BAD.read_text().replace('"""Quits."""', '"""Quits ↑."""'))
    done = command("list", "methods", "--include", mine, env=os.environ | {"PYTHONIOENCODING": "ascii:strict"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "Quits \\u2191." in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [["list", "metrics"], ["show", "metrics"]])
def test_output_that_cannot_be_written_is_said(words):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "benchmark", *words], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (1, "error: cannot write the output: No space left on device\n")


def test_a_reader_that_has_seen_enough_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m benchmark show metrics | head -1; echo ${{PIPESTATUS[0]}}",
        shell=True, capture_output=True, text=True, executable="/bin/bash",
    )  # fmt: skip
    assert (done.stdout.splitlines()[-1], done.stderr) == ("0", "")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_torch_is_imported_is_no_traceback(tmp_path, number):
    words = ["run", "--task", "nap_mlp", "--methods", "saliency", "--source", "synthetic", "--out", str(tmp_path)]
    child = subprocess.Popen([sys.executable, "-v", "-m", "benchmark", *words], stderr=subprocess.PIPE, text=True)
    said = []
    for line in child.stderr:  # -v names each module once it is imported
        said.append(line)
        if line.startswith("import 'torch."):
            break
    child.send_signal(number)
    rest = child.stderr.read()
    assert child.wait(timeout=60) == 130
    assert "interrupted; what is finished is stored" in rest
    assert "Traceback" not in rest


def test_a_killed_process_holds_no_progress_bar_of_another():
    from benchmark.processes.progress import tqdm

    child = fork()
    if not child:
        tqdm.get_lock().acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    assert ended(child) == -signal.SIGKILL
    free = tqdm.get_lock().acquire(blocking=False)
    assert free
    tqdm.get_lock().release()
