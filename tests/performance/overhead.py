"""The section "Overhead": the evaluator's wall time against that of the bare model."""

from __future__ import annotations

from tests.performance import workloads
from tests.performance.measuring import bare, by_turns, rows_asked, table

CASES = (
    ("MLP, value table", workloads.table, 80, True),
    ("MLP, subsets drawn", workloads.table, 80, False),
    ("MLP of nap_mlp, 64x2", lambda: workloads.registered("nap_mlp"), 40, False),
    ("MLP of wcd_mlp, 256x4", lambda: workloads.registered("wcd_mlp"), 10, False),
    ("CNN", lambda: workloads.image(samples=8), 40, False),
)
"""Name, what makes the task, rounds, and whether there is a value table."""
TINY = {"cases": (("MLP, subsets drawn", lambda: workloads.table(samples=8), 1, False),)}


def section(cases=CASES):
    """Return the section: wall time against the same rows through the bare model, at the best rows a forward.

    Args:
        cases: as `CASES`.

    Returns:
        Markdown without a heading.
    """
    header = ["model", "rows", "rows a forward (ours)", "bare at ours / bare at best", "evaluator / bare at best"]
    return f"""\
The evaluator's wall time against the time of the same number of rows through the bare model, nine methods and ten
metrics, with engine eager. The rows of a forward follow from bytes: the memory of one row's largest layer, and a budget
of 8 MiB or the size of the weights on a CPU, 2 GiB on a GPU.

{table(header, [_line(*case) for case in cases])}"""


def _line(name, make, rounds, value_table):
    task = make()
    methods = workloads.attributions(task, 9)

    def run():
        evaluator = workloads.Evaluator(task, value_table=value_table)
        return evaluator, evaluator.score_all(methods)

    evaluator, results = run()
    rows = rows_asked(results, evaluator)
    x = task.test.x.repeat(rows // len(task.test.x) + 1, *[1] * (task.test.x.dim() - 1))[:rows]
    chosen = evaluator.masked_model.batching.rows_per_forward(task.test.x)
    sizes = [n for n in (16, 64, 256, 1024, 4096, 16384) if n < 4 * chosen]
    first = by_turns([lambda n=n: bare(task, x, n) for n in sizes], 2)
    likely = sizes[first.index(min(first))]
    at_ours, at_best, wall = by_turns([lambda: bare(task, x, chosen), lambda: bare(task, x, likely), run], rounds)
    fastest = min(at_ours, at_best)
    return [name, rows, chosen, f"{at_ours / fastest:.2f}", f"{wall / fastest:.2f}"]
