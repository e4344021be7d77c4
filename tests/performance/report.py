"""Measures speed beside Quantus, overhead, scaling and memory, and writes docs/performance.md.

Run as `python -m tests.performance.report [--write]`; one thread, about five minutes.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
import warnings
from pathlib import Path

import torch

from benchmark.core.types import Budget
from benchmark.processes.allocation import keep_freed_memory
from benchmark.records.provenance import versions
from benchmark.scoring.metrics import TEN
from tests.performance import workloads

TARGET = Path(__file__).resolve().parents[2] / "docs" / "performance.md"


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


def beside_quantus():
    """Return the tables of ratios for the table and the image model."""
    task = workloads.table()
    one, nine = workloads.attributions(task), workloads.attributions(task, 9)
    rows, total = [], 0.0
    for metric in TEN:
        ours = best(lambda m=metric: workloads.ours(task, one, [m]), 40)
        theirs = best(lambda m=metric: workloads.quantus(task, one[0], m), 4)
        total += theirs
        rows.append([metric, f"{ours * 1e3:.2f}", f"{theirs * 1e3:.0f}", f"{theirs / ours:.0f}"])
    ours = best(lambda: workloads.ours(task, nine), 40)
    rows.append(["nine methods, all ten", f"{ours * 1e3:.0f}", f"{9 * total * 1e3:.0f}", f"{9 * total / ours:.0f}"])
    first = table(["MLP, n = 10, 512 samples", "ours, ms", "Quantus, ms", "ratio"], rows)

    task = workloads.image()
    nine = workloads.attributions(task, 9)
    calls = (
        lambda: workloads.ours(task, nine),
        lambda: [workloads.quantus(task, nine[0], metric) for metric in TEN],
    )
    ours, total = by_turns(calls, 6)
    line = ["nine methods, all ten", f"{ours:.1f}", f"{9 * total:.1f}", f"{9 * total / ours:.1f}"]
    second = table(["CNN 1 x 28 x 28, 64 samples, K = 48", "ours, s", "Quantus, s", "ratio"], [line])
    return f"{first}\n\n{second}"


def rows_asked(results, evaluator):
    """Return the rows of the model that an evaluation took."""
    own = sum(result.meter.phases["probe"].forwards for result in results)
    return evaluator.meter.phases["shared"].forwards + own


def bare(task, x, size):
    """Ask the bare model about rows x, `size` a forward."""
    with torch.inference_mode():
        for part in x.split(size):
            task.model(part)


def overhead():
    """Return wall time against the same rows through the bare model, at the best number of rows a forward."""
    cases = (
        ("MLP, value table", workloads.table(), 80, True),
        ("MLP, subsets drawn", workloads.table(), 80, False),
        ("MLP of nap_mlp, 64x2", workloads.registered("nap_mlp"), 40, False),
        ("MLP of wcd_mlp, 256x4", workloads.registered("wcd_mlp"), 10, False),
        ("CNN", workloads.image(samples=8), 40, False),
    )
    lines = [_overhead(*case) for case in cases]
    header = ["model", "rows", "rows a forward (ours)", "bare at ours / bare at best", "evaluator / bare at best"]
    return table(header, lines)


def _overhead(name, task, rounds, value_table):
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


def scaling():
    """Return seconds over four sizes of samples, K, R and methods."""
    sizes = {
        "samples": [(n, lambda n=n: workloads.table(samples=n, features=16), 1) for n in (256, 512, 1024, 2048)],
        "subsets R": [(r, lambda r=r: workloads.table(features=16, subsets=r), 1) for r in (100, 200, 400, 800)],
        "steps K": [(k, lambda k=k: workloads.image(samples=4, steps=k, subsets=1), 1) for k in (24, 48, 96, 192)],
        "methods": [(m, lambda: workloads.image(samples=4, subsets=1), m) for m in (1, 2, 4, 8)],
    }
    lines = []
    for name, cases in sizes.items():
        cells = []
        for size, make, methods in cases:
            task = make()
            seconds = best(lambda t=task, m=methods: workloads.ours(t, workloads.attributions(t, m)), 2)
            cells.append(f"{size}: {seconds:.3f}")
        lines.append([name, *cells])
    return table(["seconds over", "", "", "", ""], lines)


def memory():
    """Return the growth of peak memory under three byte budgets, each in a process of its own."""
    lines = []
    for budget in (8, 32, 128):
        done = subprocess.run(
            [sys.executable, "-m", "tests.performance.report", "--peak", str(budget)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        lines.append([f"{budget} MiB", f"{float(done.stdout):.0f} MiB"])
    return table(["byte budget of a forward", "growth of peak memory, CNN, 64 samples"], lines)


def peak(mebibytes):
    """Print by how much an evaluation raises this process's peak memory (Linux resets it through clear_refs)."""
    task = workloads.image()
    task = workloads.Task(**{**vars(task), "budget": Budget(8, 100, 1 / 49, 1)})
    (attribution,) = workloads.attributions(task)
    bare(task, task.test.x, 1)
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmHWM")
    workloads.ours(task, [attribution], byte_budget=mebibytes * 2**20)
    print((_resident("VmHWM") - before) / 1024)


def _resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field)))


def processor():
    """Return the processor's name."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return names[0] if names else platform.processor()


START, END = "## Full-size images", "## Goals"


def full_size(folder):
    """Return seconds per image of every stored cell of image tasks: explaining it, and probing the model about it."""
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
    return f"""{START}

Seconds an image of 224 x 224 pixels, one thread a worker and two workers beside other work: explaining it + asking the
model for its ten metrics. Images: {named}. Preset quick: K = 8,
R = 20, LIME and KernelSHAP with 50 samples; K = 48 and R = 100 ask about six times as many rows. ResNet, EfficientNet
and DeiT carry RANDOM weights (no pretrained ones could be had offline): these are times and no results. Made by
`python -m benchmark run --task 'imagenet_*' --methods all --preset quick --limit 2 --allow-weak-model --data-dir DATA
--out results-224` (two of them without occlusion) and
`python -m tests.performance.report --full-size results-224 --write`.

{table(["method", *tasks], rows)}

"""


def kept_full_size():
    """Return the section on full-size images as it stands in the document: it takes too long to make each time."""
    text = TARGET.read_text(encoding="utf-8")
    return text[text.index(START) : text.index(END)] if START in text else ""


def report():
    """Return the whole document."""
    import quantus

    found = versions() | {"quantus": quantus.__version__}
    return f"""# Performance

Made by `tox -e perf -- --write` (`python -m tests.performance.report --write`) on {processor()}, one torch thread;
{", ".join(f"{name} {version}" for name, version in found.items())}.
Times are the least of several runs. Machines are noisy: ratios carry over to others better than seconds.

## Beside Quantus

The same model, samples, number of subsets, removals and steps (on the CNN 49 for 48 of ours, because Quantus needs
steps of one size), without our value table, which would ask more rows for one method and none for the next. For Quantus
one method is timed, and nine methods are nine times that. MC runs with one draw a step and INF with 100 removals a
sample, as ours. On the MLP the times are the least of 40 runs of ours and of 4 of Quantus's, which takes far longer; on
the CNN both run 6 times, in turn.

{beside_quantus()}

## Overhead

The evaluator's wall time against the time of the same number of rows through the bare model, nine methods and ten
metrics. The rows of a forward follow from bytes: the memory of one row's largest layer, and a budget of 8 MiB or the
size of the weights on a CPU, 2 GiB on a GPU.

{overhead()}

## Scaling

{scaling()}

## Memory

{memory()}

{kept_full_size()}{END}

One thread, one run: each metric of one method on the MLP at least 40 times as fast as Quantus, nine methods 400 times,
nine methods on the CNN 5 times; the evaluator at most 2 times the bare model's time on the MLP (with its value table,
as it runs there) and 1.15 times on the CNN. The MLP without its table is for comparison: half of that time goes to
drawing subsets, softmax of logits and arithmetic on (512, 10) predictions.

## Not measured here

No figure of this page was made on a GPU; the code for it (one device for masks and model, `--precision bf16`,
`--compile`, halved forwards when memory runs out) is tested on a CPU only.
"""


def main():
    """Print the report, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {TARGET.name}")
    parser.add_argument("--full-size", type=Path, metavar="DIR", help="renew only the section on 224-pixel images")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    warnings.simplefilter("ignore")
    if arguments.peak:
        peak(arguments.peak)
        return
    if arguments.full_size:
        text = TARGET.read_text(encoding="utf-8").replace(kept_full_size(), "")
        text = text.replace(END, full_size(arguments.full_size) + END)
    else:
        text = report()
    print(text)
    if arguments.write:
        TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
