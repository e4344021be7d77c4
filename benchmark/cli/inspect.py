"""Commands about one task, audit and explain, and about this machine, prepare and doctor."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

from benchmark.cli.arguments import chosen_sources
from benchmark.core.errors import DataError, UsageError
from benchmark.core.files import check_file
from benchmark.core.provenance import shown
from benchmark.core.types import METHODS, TASKS
from benchmark.scoring.metrics import select_metrics

if TYPE_CHECKING:
    from benchmark.core.types import Method, Task
    from benchmark.running.plan import PlannedTask

log = logging.getLogger("benchmark")


def applicable(plan: PlannedTask, text: str) -> list[tuple[str, str, Method]]:
    """Return label, name and method of what can explain a planned task, saying what cannot unless all were asked for.

    Raises:
        UsageError: none can.
    """
    skipped = [f"{choice.label}: {plan.skips[cell.key]}" for cell, choice in plan.cells if cell.key in plan.skips]
    methods = plan.methods()
    if not methods:
        raise UsageError(f"none of --methods {text!r} explains {plan.name}: {'; '.join(skipped)}")
    for line in skipped if len(plan.cells) < len(METHODS.names()) else []:
        log.warning(f"skipped: {line}")
    return methods


def built(plan: PlannedTask, allow_weak: bool) -> tuple[Task, Callable[[], Task]]:
    """Return a planned task, built on the CPU for one thread, and what builds it anew; notes on its data are said.

    Args:
        plan: of the task.
        allow_weak: whether its model may be under the task's floor.

    Raises:
        DataError: the data are damaged, or the model is under its floor.
    """
    from benchmark.modalities.building import refuse_weak
    from benchmark.running.settings import single_threaded

    for note in plan.located.notes:
        log.warning(f"{plan.name}: {note}")
    single_threaded()
    build = partial(plan.spec.build, plan.located, plan.name, "cpu")
    task = build()
    refuse_weak(task, allow_weak)
    return task, build


def audit_command(arguments: argparse.Namespace) -> int:
    """Examine the metrics on a task."""
    from benchmark.inspection.audit import audit, heat_map
    from benchmark.records.store import RecordStore
    from benchmark.running.plan import parse_methods, plan_task

    metrics = select_metrics(arguments.metrics)
    plan = plan_task(TASKS.one(arguments.task), parse_methods(arguments.methods), chosen_sources(arguments), 0, None)
    methods = applicable(plan, arguments.methods)
    if len(methods) < 2:
        raise UsageError(f"audit compares metrics over two methods at least, got {methods[0][0]}: name more with "
                         "--methods")  # fmt: skip
    RecordStore(arguments.out).open()
    task, build = built(plan, arguments.allow_weak_model)
    result = audit(task, methods, arguments.limit, arguments.seeds, not arguments.sampled, build, metrics)
    path = heat_map(result, arguments.out / "audit" / f"{result.source}-{result.task}-agreement.png")
    if arguments.json:
        print(json.dumps(result.plain() | {"figure": str(path)}, indent=1))
    else:
        print(f"{result.task}, {result.source} data, {result.samples} samples\n\n{result.text()}\n\nheat map: {path}")
    return int(bool(result.failed))


def explain_command(arguments: argparse.Namespace) -> int:
    """Draw explanations of one sample."""
    from benchmark.running.plan import parse_methods, plan_task
    from benchmark.running.presets import PRESETS

    endings = (".png", ".svg", ".html")
    check_file("--out", arguments.out, endings)
    choices, metrics = parse_methods(arguments.methods), select_metrics(arguments.metrics)
    plan = plan_task(
        TASKS.one(arguments.task), choices, chosen_sources(arguments), arguments.seed, None,
        preset=arguments.preset,
    )  # fmt: skip
    for note in plan.located.notes:
        log.warning(f"{plan.name}: {note}")
    methods = applicable(plan, arguments.methods)
    methods.sort(key=lambda method: METHODS.entry(method[1]).facts.get("kind") == "control")  # controls last
    from dataclasses import replace

    from benchmark.inspection.explain import explain
    from benchmark.inspection.pictures import save
    from benchmark.modalities.building import refuse_weak
    from benchmark.running.settings import single_threaded

    single_threaded()

    def build() -> Task:
        task = plan.spec.build(plan.located, plan.name, "cpu")
        return replace(task, budget=PRESETS[arguments.preset].budget(task.budget))

    task = build()
    refuse_weak(task, arguments.allow_weak_model)
    explained = explain(task, arguments.sample, methods, arguments.seed, build, metrics)
    try:
        save(explained, arguments.out)
    except OSError as error:
        raise UsageError(f"cannot write --out {str(arguments.out)!r}: {error.strerror}; name another") from error
    print(f"{explained.title}\n{arguments.out}")
    return int(bool(explained.failed))


def prepare_command(arguments: argparse.Namespace) -> int:
    """Get data, weights and target models ready; a task that cannot be is said and passed over."""
    from benchmark.processes.progress import tqdm
    from benchmark.running.settings import require_cuda, single_threaded

    names = TASKS.select(arguments.task)
    sources = chosen_sources(arguments)
    missing = 0
    with tqdm(names, unit="task", disable=not sys.stderr.isatty(), leave=False) as bar:
        for name in bar:
            bar.set_description(name)
            try:
                spec = TASKS.get(name)()
                located = spec.locate(sources)
                import torch

                if arguments.device == "cuda":
                    require_cuda()
                single_threaded()
                gpu = arguments.device != "cpu" and torch.cuda.is_available()
                model = spec.build(located, name, "cuda" if gpu else "cpu").provenance.model
            except DataError as error:
                missing += 1
                log.error(f"error: {name}: {error}")
                continue
            if arguments.source == "auto" and located.source == "synthetic":
                missing += 1
                why = "; ".join(located.notes) or "there are no real data"
                log.error(f"error: {name}: {why}, which is all that is ready; if that is what you want, say --source "
                          "synthetic")  # fmt: skip
            else:
                for note in located.notes:
                    log.warning(f"{name}: {note}")
            weak = f", WEAK: under its floor of {model.floor}" if model.weak else ""
            print(f"{name:<22} {located.source} data, {located.origin}; accuracy {shown(model.accuracy)}, "
                  f"balanced {shown(model.balanced_accuracy)}{weak}")  # fmt: skip
    return DataError.exit_code if missing else 0


def doctor_command(arguments: argparse.Namespace) -> int:
    """Say what is ready, and what mends the rest; with --clear, empty the cache instead."""
    from dataclasses import replace

    from benchmark.core.sources import cache_limit
    from benchmark.inspection.plugins import plugin_states
    from benchmark.inspection.readiness import cache_use, readable, readiness
    from benchmark.records.provenance import git_commit, versions

    if arguments.clear is not None:
        return _clear(arguments)
    names = TASKS.names() if arguments.task is None else TASKS.select(arguments.task)
    kind: Literal["synthetic", "real"] = "synthetic" if arguments.source == "synthetic" else "real"
    sources = replace(chosen_sources(arguments), looking=True, kind=kind)
    try:
        sources.folder("")
    except DataError as error:
        raise UsageError(str(error)) from error
    import joblib
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu only"
    facts = versions() | {
        "device": device,
        "cores": str(joblib.cpu_count()),
        "commit": git_commit() or "not a checkout",
        "cache": str(sources.cache),
        "cache bound": readable(cache_limit()),
        "data folder": str(sources.data_dir or "none: set BENCHMARK_DATA or use --data-dir"),
    }
    plugins = plugin_states()
    states, use = [readiness(name, sources) for name in names], cache_use(sources.cache)
    if arguments.json:
        plain = {"facts": facts, "tasks": [state.plain() for state in states], "cache": [kind.plain() for kind in use],
                 "plugins": [plugin.plain() for plugin in plugins]}  # fmt: skip
        print(json.dumps(plain, indent=1))
    else:
        width = max(map(len, facts))
        print("\n".join(f"{key:<{width}}  {value}" for key, value in facts.items()) + "\n")
        print("\n".join(kind.text() for kind in use) + "\n")
        print("".join(f"{plugin.text()}\n" for plugin in plugins), end="\n" if plugins else "")
        print("\n".join(state.text() for state in states))
    missing = arguments.task is not None and not all(state.ready for state in states)
    return DataError.exit_code if missing else 0


def _clear(arguments: argparse.Namespace) -> int:
    """Empty the cache, or a kind of its entries, and say what was removed."""
    from benchmark.core.sources import cache_folder
    from benchmark.inspection.readiness import chosen_kinds, clear_cache

    cleared = [clear_cache(cache_folder(), kind) for kind in chosen_kinds(arguments.clear)]
    if arguments.json:
        print(json.dumps({"cleared": [use.plain() | {"left": left} for use, left in cleared]}, indent=1))
        return 0
    for use, left in cleared:
        why = f"; {left:,} in use, or not ours to remove, stay" if left else ""
        print(f"{use.text()} removed{why}")
    return 0
