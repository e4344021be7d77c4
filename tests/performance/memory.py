"""The section "Memory": the growth of peak memory under byte budgets, each in a process of its own.

`python -m tests.performance.memory MIB` prints that of one budget.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from benchmark.core.types import Budget
from benchmark.processes.allocation import keep_freed_memory
from tests.performance import workloads
from tests.performance.measuring import bare, table

TINY = {"budgets": (8,), "samples": 2}


def section(budgets=(8, 32, 128), samples=64):
    """Return the section.

    Args:
        budgets: bytes that a forward may take, in MiB.
        samples: images that are evaluated.

    Returns:
        Markdown without a heading.
    """
    lines = []
    for budget in budgets:
        done = subprocess.run(
            [sys.executable, "-m", "tests.performance.memory", str(budget), str(samples)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        lines.append([f"{budget} MiB", f"{float(done.stdout):.0f} MiB"])
    return table(["byte budget of a forward", f"growth of peak memory, CNN, {samples} samples"], lines)


def peak(mebibytes, samples):
    """Return by how much an evaluation raises this process's peak memory (Linux resets it through clear_refs)."""
    task = workloads.image(samples)
    task = workloads.Task(**{**vars(task), "budget": Budget(8, 100, 1 / 49, 1)})
    (attribution,) = workloads.attributions(task)
    bare(task, task.test.x, 1)
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmHWM")
    workloads.ours(task, [attribution], byte_budget=mebibytes * 2**20)
    return (_resident("VmHWM") - before) / 1024


def _resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    keep_freed_memory()
    print(peak(*map(int, sys.argv[1:])))
