"""The section "Scaling": seconds over samples, subsets, steps and methods."""

from __future__ import annotations

from tests.performance import workloads
from tests.performance.measuring import best, table

TINY = {"base": 1, "rounds": 1}


def section(base=24, rounds=2):
    """Return the section.

    Args:
        base: what the sizes of an axis are in proportion to.
        rounds: times that each size runs.

    Returns:
        Markdown without a heading: seconds over four sizes of samples, K, R and methods.
    """
    doubled = [base, 2 * base, 4 * base, 8 * base]
    sizes = {
        "samples": [(n, lambda n=n: workloads.table(samples=n, features=16), 1) for n in _times(doubled, 256 / 24)],
        "subsets R": [(r, lambda r=r: workloads.table(features=16, subsets=r), 1) for r in _times(doubled, 100 / 24)],
        "steps K": [(k, lambda k=k: workloads.image(samples=4, steps=k, subsets=1), 1) for k in doubled],
        "methods": [(m, lambda: workloads.image(samples=4, subsets=1), m) for m in (1, 2, 4, 8)],
    }
    lines = []
    for name, cases in sizes.items():
        cells = []
        for size, make, methods in cases:
            task = make()
            seconds = best(lambda t=task, m=methods: workloads.ours(t, workloads.attributions(t, m)), rounds)
            cells.append(f"{size}: {seconds:.3f}")
        lines.append([name, *cells])
    return table(["seconds over", "", "", "", ""], lines)


def _times(sizes, factor):
    return [round(size * factor) for size in sizes]
