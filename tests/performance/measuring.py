"""How calls are timed, and how the report shows numbers."""

from __future__ import annotations

import time

import torch


def best(call, rounds):
    """Return the least seconds of `rounds` calls: what the machine can do when it is left alone."""
    return by_turns([call], rounds)[0]


def by_turns(calls, rounds):
    """Return the least seconds of each call, called by turns: what is compared meets the machine in the same moods."""
    least = [float("inf")] * len(calls)
    for _ in range(rounds):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            least[i] = min(least[i], time.perf_counter() - start)
    return least


def table(header, rows):
    """Return a Markdown table."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def rows_asked(results, evaluator):
    """Return the rows of the model that an evaluation took."""
    own = sum(result.meter.phases["probe"].forwards for result in results)
    return evaluator.meter.phases["shared"].forwards + own


def bare(task, x, size):
    """Ask the bare model about rows x, `size` a forward, whatever engine answers for it."""
    with torch.inference_mode():
        for part in x.split(size):
            task.model.forward(part)
