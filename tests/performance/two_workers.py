"""The section "Two workers": the wall time of `run` with one worker process and with two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.performance.measuring import by_turns, table

OUTPUTS = ("logit", "probability")
GOAL = 1.8
TINY = {"task": "nap_mlp", "limit": 5, "n_samples": 20, "rounds": 1}


def section(task="imdb_lstm", limit=200, n_samples=10_000, rounds=1):
    """Return the section.

    Args:
        task: is explained, its stand-in.
        limit: samples that are explained.
        n_samples: of LIME and KernelSHAP.
        rounds: times that each runs.

    Returns:
        Markdown without a heading.
    """
    methods = [
        f"{method}[n_samples={n_samples},output={output}]" for method in ("lime", "kernel_shap") for output in OUTPUTS
    ]
    words = ["--task", task, "--source", "synthetic", "--limit", str(limit), "--engine", "eager", "--allow-weak-model"]
    with TemporaryDirectory() as folder:

        def run(chosen, jobs, times=1):
            """Start a command as many times at once, and wait until all have ended."""
            command = [sys.executable, "-m", "benchmark", "run", "-q", *words, "--methods", ",".join(chosen)]
            command += ["--overwrite", "always", "--jobs", str(jobs), "--out"]
            outs = [str(Path(folder, f"jobs-{jobs}-{number}")) for number in range(times)]
            started = [
                subprocess.Popen([*command, out], stderr=subprocess.PIPE, text=True, env=_one_thread()) for out in outs
            ]
            said = [process.communicate()[1] for process in started]
            assert not any(process.returncode for process in started), said

        run(["constant"], 1)  # trains the model and asks what all methods share, which the cache keeps
        calls = (lambda: run(methods, 1), lambda: run(methods, 2), lambda: run(methods, 1, times=2))
        one, two, both = by_turns(calls, rounds)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    header = ["", "--jobs 1, s", "--jobs 2, s", "ratio", "goal", "two runs at once, s", "their ratio"]
    line = [f"{task}, {len(methods)} cells", f"{one:.1f}", f"{two:.1f}", f"{one / two:.2f}", f"{GOAL}x"]
    line += [f"{both:.1f}", f"{2 * one / both:.2f}"]
    return f"""\
The wall time of the whole command, start of Python and of workers included, on {cores} cores; one thread a worker,
engine eager, LIME and KernelSHAP with {n_samples} samples, {limit} texts of the stand-in. The model is trained and the
rows that all methods share are asked before. Least times, each run {rounds} times, in turn. Python and its libraries
take seconds to start, and workers as long again, which weighs more where cells are short. Two whole runs at once, with
one worker each, say about what the machine has to give: cores may share memory and caches, and threads of one core
all of it.

{table(header, [line])}"""


def _one_thread():
    return os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
