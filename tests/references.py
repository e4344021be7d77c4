"""Slow, obvious twins of fast code."""

from __future__ import annotations

from benchmark.inspection.crosscheck import loops, other_loops

METRICS = {*loops.ALONE, *loops.ON_SUBSETS, *other_loops.OTHERS, *other_loops.ASKING}
"""The metrics that have a twin."""


def all_scores(task, attributions, subsets):
    """Return {metric: [score of each sample]}; subsets[kind][sample] lists sets of feature numbers."""
    return loops.all_scores(task, task.test.x, attributions, subsets)


def splitmix64(seed, counter):
    """The generator as its authors print it, in Python's whole numbers."""
    full = 2**64 - 1
    z = (seed + (counter + 1) * 0x9E3779B97F4A7C15) & full
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & full
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & full
    z ^= z >> 31
    return z - 2**64 if z >> 63 else z
