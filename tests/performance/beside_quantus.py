"""The section "Beside Quantus": our evaluator and Quantus on the same models, samples, subsets and steps."""

from __future__ import annotations

from benchmark.scoring.metrics import TEN
from tests.performance import workloads
from tests.performance.measuring import best, by_turns, table

TINY = {"rounds": (1, 1, 1), "metrics": ["FC", "DEL"], "sizes": {"samples": 4, "subsets": 20}}


def section(rounds=(40, 4, 6), metrics=TEN, sizes=None):
    """Return the section.

    Args:
        rounds: times that ours and Quantus's run on the MLP, and both on the CNN.
        metrics: what is scored.
        sizes: arguments of the workloads.

    Returns:
        Markdown without a heading.
    """
    return f"""\
The same model, samples, number of subsets, removals and steps (on the CNN 49 for 48 of ours, because Quantus needs
steps of one size), without our value table, which would ask more rows for one method and none for the next. For Quantus
one method is timed, and nine methods are nine times that. MC runs with one draw a step and INF with 100 removals a
sample, as ours. On the MLP the times are the least of {rounds[0]} runs of ours and of {rounds[1]} of Quantus's, which
takes far longer; on the CNN all run {rounds[2]} times, in turn. Engine auto is what `--engine auto` takes: here it
answers for the model in ours alone, since Quantus is given the model itself. Ours is all that one metric of one method
takes; what no method changes (checks of task and model, what is asked of whole and empty inputs) is not done again for
the next one, whose time is in the last columns.

{on_the_table(rounds[:2], metrics, sizes or {})}

{on_images(rounds[2], metrics, sizes or {})}

Goals: 80 times as fast for a metric of one method on the MLP, 10 times for nine methods on the CNN with engine auto."""


def on_the_table(rounds, metrics, sizes):
    """Return a line for each metric on the MLP, and one for nine methods."""
    task = workloads.table(**sizes)
    one, nine = workloads.attributions(task), workloads.attributions(task, 9)
    rows, total = [], 0.0
    for metric in metrics:
        ours = best(lambda m=metric: workloads.ours(task, one, [m]), rounds[0])
        evaluator = workloads.Evaluator(task, metrics=[metric], value_table=False)
        next_one = best(lambda e=evaluator: e.score_all(one), rounds[0])
        theirs = best(lambda m=metric: workloads.quantus(task, one[0], m), rounds[1])
        total += theirs
        line = [metric, f"{ours * 1e3:.2f}", f"{theirs * 1e3:.0f}", f"{theirs / ours:.0f}"]
        rows.append([*line, f"{next_one * 1e3:.2f}", f"{theirs / next_one:.0f}"])
    ours = best(lambda: workloads.ours(task, nine, metrics), rounds[0])
    name = f"nine methods, {_count(metrics)}"
    rows.append([name, f"{ours * 1e3:.0f}", f"{9 * total * 1e3:.0f}", f"{9 * total / ours:.0f}", "", ""])
    first = f"MLP, n = 10, {len(task.test.x)} samples"
    return table([first, "ours, ms", "Quantus, ms", "ratio", "next method, ms", "ratio"], rows)


def on_images(rounds, metrics, sizes):
    """Return a line for nine methods on the CNN with engine eager, and one with engine auto."""
    eager, auto = workloads.image(**sizes), workloads.image(**sizes)
    trial, chosen = workloads.tried(auto)
    workloads.equip(trial, chosen)
    nine = workloads.attributions(eager, 9)
    calls = (
        lambda: workloads.ours(eager, nine, metrics),
        lambda: workloads.ours(auto, nine, metrics),
        lambda: [workloads.quantus(eager, nine[0], metric) for metric in metrics],
    )
    *ours, total = by_turns(calls, rounds)
    rows = [
        [f"nine methods, {_count(metrics)}, {name}", f"{seconds:.1f}", f"{9 * total:.1f}", f"{9 * total / seconds:.1f}"]
        for name, seconds in zip(("engine eager", f"engine auto ({chosen.name})"), ours, strict=True)
    ]
    return table([f"CNN 1 x 28 x 28, {len(eager.test.x)} samples, K = 48", "ours, s", "Quantus, s", "ratio"], rows)


def _count(metrics):
    return "all ten" if len(metrics) == len(TEN) else f"{len(metrics)} metrics"
