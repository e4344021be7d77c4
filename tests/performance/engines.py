"""The section "Engines": what each takes for a row, and what the evaluator takes with the one that auto chooses."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch

from benchmark.core.errors import UsageError
from benchmark.engines.choosing import WORTH, Trial, check_installed
from benchmark.engines.engine import EngineError
from benchmark.engines.installed import install
from benchmark.engines.names import EAGER, ENGINES
from tests.performance import workloads
from tests.performance.measuring import bare, by_turns, rows_asked, table

MODELS = {"resnet50": 0.6, "efficientnet_b0": 0.4, "mobilenetv2_100": 0.35, "deit_small_patch16_224": 0.95}
"""Models of timm, and the goal of each: the evaluator's time with engine auto over that of the bare eager model."""
CNN, CNN_GOAL = "CNN 1 x 28 x 28", 0.6
SMALL = "onnxruntime"
"""The engine that the CNN is timed with, too, where auto leaves it to itself."""
NAMES = (*((name, "fp32") for name in ENGINES), ("openvino", "bf16"))
TINY = {"models": {"mobilenetv2_050": 0.35}, "side": 32, "batch": 2, "bare_rows": 8, "rounds": (1, 1, 1),
        "budget": (2, 3), "names": (("channels_last", "fp32"),)}  # fmt: skip


@dataclass(frozen=True)
class Overhead:
    """What the evaluator takes for its rows.

    Attributes:
        rows: of the model, an evaluation.
        bare: milliseconds a row of the bare eager model, at the best number of rows a forward.
        eager: the evaluator's wall time over that of as many rows through the bare model, with engine eager.
        auto: the same with engine auto.
    """

    rows: int
    bare: float
    eager: float
    auto: float


def section(models=MODELS, side=224, batch=16, bare_rows=64, rounds=(2, 3, 20), budget=(48, 100), names=NAMES):
    """Return the section.

    Args:
        models: names in timm, with their goals.
        side: pixels of an image's side.
        batch: rows of a timed forward.
        bare_rows: rows of the bare model that are timed beside an evaluation of an image.
        rounds: times that an evaluation of an image, a forward and an evaluation of the CNN run.
        budget: steps K and subsets R of an image.
        names: engines whose rows are timed, with their precision.

    Returns:
        Markdown without a heading.
    """
    taken, overheads = [], []
    for name, goal in models.items():
        eager, auto = (workloads.photograph(name, side, *budget) for _ in range(2))
        trial, chosen = workloads.tried(auto)
        taken.append([name, *milliseconds(trial, names, batch, rounds[1])])
        workloads.equip(trial, chosen)
        found = overhead(eager, auto, workloads.attributions(eager, 2), bare_rows, rounds[0])
        overheads.append([*_line(name, found), chosen.name, goal])
    eager, auto = (workloads.image(samples=8, steps=budget[0], subsets=budget[1]) for _ in range(2))
    trial, chosen = workloads.tried(auto)
    taken.append([f"{CNN}, {4 * batch} rows", *milliseconds(trial, names, 4 * batch, rounds[2])])
    nine = workloads.attributions(eager, 9)
    workloads.equip(trial, chosen)
    overheads.append([*_line(CNN, overhead(eager, auto, nine, 32 * bare_rows, rounds[2])), chosen.name, CNN_GOAL])
    if chosen.name == EAGER and (asked := _checked(trial, SMALL, "fp32")):
        install(auto.model, {"fp32": asked[0]}, trial.rows)
        found = overhead(eager, auto, nine, 32 * bare_rows, rounds[2])
        overheads.append([*_line(f"{CNN}, {SMALL} in place of auto", found), "–", CNN_GOAL])
    heads = ["eager", *(name if precision == "fp32" else f"{name}, {precision}" for name, precision in names)]
    return f"""\
Models of timm with RANDOM weights (`pretrained=False`), {side} x {side} pixels, K = {budget[0]}, R = {budget[1]}:
these are times and no results. Their normalisation layers hold statistics of random images, and logits spread by
{workloads.SPREAD:g}: no class of the thousand is likely, so that probabilities differ less than a trained model's.
{_versions()}.

The evaluator's wall time over the time of as many rows through the bare eager model, which is timed on {bare_rows}
rows, in turn with evaluations, at the best of some numbers of rows a forward. One image and two given attributions; on
the CNN 8 images and nine. The choice of the engine is not in these times. On a model that takes less than
{WORTH["cpu"][SMALL]:g} ms a row, as the CNN does, auto tries none, since exporting one takes seconds in each process.

{table(["model", "rows", "bare, ms a row", "engine eager", "engine auto", "auto takes", "goal with auto"], overheads)}

Milliseconds a row in forwards of {batch} rows, the least of {rounds[1]} (of {rounds[2]} on the CNN), in turn; in
brackets the largest difference of a probability from the eager model's in 32 bits. A dash: not installed here, or it
cannot run the model or answers otherwise.

{table(["ms a row", *heads], taken)}"""


def milliseconds(trial, names, batch, rounds):
    """Return a cell for eager and each engine: milliseconds a row and the largest difference of a probability.

    Args:
        trial: of a task whose model answers by itself; what it has built is not built again.
        names: engines, with their precision.
        batch: rows of a forward.
        rounds: times that each engine is asked.
    """
    task = trial.task
    x = torch.cat([task.train.x] * (batch // len(task.train.x) + 1))[:batch]
    found = [(task.model.forward, None), *(_checked(trial, *each) for each in names)]
    there = [each for each in found if each is not None]
    with torch.no_grad():
        for forward, _ in there:  # what an engine does at its first forward is not counted
            forward(x)
        least = by_turns([lambda forward=forward: forward(x) for forward, _ in there], rounds)
    cells = iter(
        f"{seconds / batch * 1e3:.3g}" + ("" if difference is None else f" ({difference:.0e})")
        for seconds, (_, difference) in zip(least, there, strict=True)
    )
    return ["–" if each is None else next(cells) for each in found]


def _checked(trial, name, precision):
    """Return an engine's forward and its difference, or None where it is not for this machine or model."""
    try:
        check_installed(name)
        built = trial.built.get(name) if precision == trial.precision else None
        forwards, difference = built or Trial(trial.task, precision).checked(name)
    except (UsageError, EngineError):
        return None
    return forwards[precision], difference


def overhead(eager, auto, methods, bare_rows, rounds):
    """Return what the evaluator takes with engine eager and with engine auto.

    Args:
        eager: a task.
        auto: the same with a model of its own, which an engine answers for.
        methods: attributions that are scored.
        bare_rows: rows of the bare model that are timed in turn with evaluations.
        rounds: times that all run.
    """
    asked = []

    def run(task):
        evaluator = workloads.Evaluator(task, value_table=False)
        asked.append(rows_asked(evaluator.score_all(methods), evaluator))

    x = eager.test.x.repeat(bare_rows // len(eager.test.x) + 1, 1, 1, 1)[:bare_rows]
    sizes = [size for size in (4, 8, 16, 32, 64, 256) if size <= bare_rows]
    calls = [lambda size=size: bare(eager, x, size) for size in sizes]
    *alone, with_eager, with_auto = by_turns([*calls, lambda: run(eager), lambda: run(auto)], rounds)
    row = min(alone) / bare_rows
    return Overhead(asked[0], row * 1e3, with_eager / asked[0] / row, with_auto / asked[-1] / row)


def _line(name, found):
    return [name, found.rows, f"{found.bare:.3g}", f"{found.eager:.2f}", f"{found.auto:.2f}"]


def _versions():
    found = []
    for package in ("onnxruntime", "openvino"):
        try:
            found.append(f"{package} {version(package).split('-')[0]}")
        except PackageNotFoundError:
            found.append(f"{package} is not installed")
    return ", ".join(found)
