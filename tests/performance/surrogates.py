"""The section "LIME and KernelSHAP": ours, which ask about many inputs together, against Captum's, one by one."""

from __future__ import annotations

import torch

from methods.kernel_shap import KernelShap
from methods.lime import Lime
from tests.performance import workloads
from tests.performance.measuring import by_turns, table

CASES = (
    ("MLP, 10 columns", workloads.table, 100, 512, 16, 50),
    ("LSTM, sizes of the stand-in", lambda: workloads.text("lstm", "synthetic"), 400, 32, 4, 3),
    ("LSTM, sizes for AG News", lambda: workloads.text("lstm", "real"), 400, 32, 4, 3),
    ("Transformer, sizes of the stand-in", lambda: workloads.text("transformer", "synthetic"), 400, 32, 4, 3),
)
"""Name, what makes the task, samples an explanation, inputs for ours and for Captum's, and the goal of the ratio."""
TINY = {
    "cases": (
        ("MLP, 10 columns", lambda: workloads.table(samples=4), 20, 4, 2, 50),
        ("LSTM", lambda: workloads.text("lstm", "synthetic", samples=4, words=(3, 6)), 20, 4, 2, 3),
    ),
    "rounds": 1,
}
METHODS = {"LIME": (Lime, "lime"), "KernelSHAP": (KernelShap, "shap")}
"""Class, and its estimator that is ours."""


def section(cases=CASES, rounds=3):
    """Return the section.

    Args:
        cases: as `CASES`.
        rounds: times that each runs.

    Returns:
        Markdown without a heading.
    """
    header = ["model", "method", "samples", "ours, ms", "Captum's, ms", "ratio", "goal", "ours / bare forwards"]
    lines = []
    for name, make, samples, *few, goal in cases:
        task = make()
        for method in METHODS:
            ours, theirs, over_bare = milliseconds(method, task, samples, few, rounds)
            numbers = [f"{ours:.3f}", f"{theirs:.1f}", f"{theirs / ours:.1f}", f"{goal}x", f"{over_bare:.2f}"]
            lines.append([name, method, samples, *numbers])
    return f"""\
Milliseconds an explanation, with as many samples: ours draws, asks and solves for all inputs of a batch together, and
Captum's (`estimator=captum`) takes one input after the other. LIME of ours fits a ridge, and Captum's a lasso. The last
column is our time over that of the same forwards, rows and sizes alike, through the bare model (goal: within 2). Engine
eager; models have random weights, texts are 20 to 40 random words. The least of {rounds} runs, in turn.

{table(header, lines)}

Where the last column is near 1 the model takes all of the time, and no implementation is much faster, as on the larger
LSTM. On the MLP a hundred forwards take less than drawing a hundred subsets and solving one regression."""


def milliseconds(method, task, samples, few, rounds):
    """Return what an explanation takes: ours, Captum's, and ours over the bare forwards that it asks for.

    Args:
        method: one of `METHODS`.
        task: whose first inputs are explained.
        samples: of an explanation.
        few: inputs for ours and for Captum's.
        rounds: times that each runs.
    """
    kind, own = METHODS[method]
    with torch.no_grad():
        target = task.model(task.test.x).argmax(1)
    made = [kind(n_samples=samples, estimator=estimator).prepare(task, 0) for estimator in (own, "captum")]
    ours, theirs = [
        lambda explain=explain, n=n: explain(task.test.x[:n].clone(), target[:n])
        for explain, n in zip(made, few, strict=True)
    ]
    asked = inputs_of(task.model, ours)

    def alone():
        with torch.no_grad():
            for x in asked:
                task.model.forward(x)

    took, captum, bare = by_turns([ours, theirs, alone], rounds)
    return took / few[0] * 1e3, captum / few[1] * 1e3, took / bare


def inputs_of(model, call):
    """Return the inputs of all forwards of a model that a call asks for."""
    asked = []
    hook = model.register_forward_hook(lambda _model, inputs, _output: asked.append(inputs[0]))
    try:
        call()
    finally:
        hook.remove()
    return asked
