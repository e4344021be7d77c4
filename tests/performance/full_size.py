"""The section "Full-size images": seconds of stored cells, which take too long to compute for each report."""

from __future__ import annotations

from tests.performance.measuring import table


def section(folder):
    """Return the section.

    Args:
        folder: of records of image tasks.

    Returns:
        Markdown without a heading: seconds an image of every cell, explaining it and probing the model about it.
    """
    from benchmark.records.store import RecordStore

    records, problems = RecordStore(folder).scan()
    assert not problems, problems
    tasks = sorted({record.cell.task for record in records})
    methods = list(dict.fromkeys(record.cell.method for record in sorted(records, key=lambda r: r.cell.method)))

    def seconds(record):
        samples = record.n_total * record.repeats
        return [record.costs[phase]["seconds"] / samples for phase in ("attribute", "probe")]

    cells = {(record.cell.method, record.cell.task): seconds(record) for record in records if record.status == "done"}
    rows = []
    for method in methods:
        found = [cells.get((method, task)) for task in tasks]
        rows.append([method, *("–" if pair is None else f"{pair[0]:.1f} + {pair[1]:.1f}" for pair in found)])
    shared = {r.cell.task: r.costs["shared"]["seconds"] / r.n_total for r in records if r.status == "done"}
    rows.append(["shared by all methods", *(f"{shared[task]:.1f}" for task in tasks)])
    images = sorted({(record.cell.task, record.n_total, record.cell.preset) for record in records})
    named = ", ".join(f"{task} {count} ({preset})" for task, count, preset in images)
    return f"""\
Seconds an image of 224 x 224 pixels, one thread a worker and two workers beside other work: explaining it + asking the
model for its ten metrics. Images: {named}. Preset quick: K = 8,
R = 20, LIME and KernelSHAP with 50 samples; K = 48 and R = 100 ask about six times as many rows. ResNet, EfficientNet
and DeiT carry RANDOM weights (no pretrained ones could be had offline): these are times and no results. Made by
`python -m benchmark run --task 'imagenet_*' --methods all --preset quick --limit 2 --allow-weak-model --data-dir DATA
--out results-224` (two of them without occlusion) and
`python -m tests.performance.report --full-size results-224 --write`.

{table(["method", *tasks], rows)}"""
