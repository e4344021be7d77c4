"""The command tune: chooses the parameters of methods on training rows."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.cli.arguments import add_allow_weak, add_out, add_sources, chosen_sources, natural, positive
from benchmark.cli.boards import Verb
from benchmark.core.errors import BenchmarkError, UsageError
from benchmark.core.types import FIXED, METHODS, PACKAGES, TASKS
from benchmark.processes.interruption import held, stop_on_signals
from benchmark.scoring.metrics import TEN
from benchmark.tuned.files import OWN

if TYPE_CHECKING:
    from benchmark.tuned.files import Tuned

log = logging.getLogger("benchmark")


def add_tune(verb: Verb) -> None:
    """Add the command to the parser."""
    tune = verb(
        "tune", tune_command, "Choose the parameters of methods on training rows that no method was trained on."
    )
    tune.add_argument("--task", required=True, help="names, globs or all, separated by commas")
    tune.add_argument("--methods", default="all", help="names, globs, all, !name (default: all that can be tuned)")
    tune.add_argument("--configurations", type=positive, default=12, metavar="N",
                      help="of each method in each class of costs, at most (default: 12)")  # fmt: skip
    tune.add_argument("--training-budget", metavar="N|Ns",
                      help="iterations, or seconds (60s), that every configuration of a learned method is trained for "
                      "(default: as long as the configuration says)")  # fmt: skip
    tune.add_argument("--seed", type=natural, default=0, help="of methods and of what is tried (default: 0)")
    tune.add_argument("--to", type=Path, default=OWN, metavar="FOLDER",
                      help="where TASK.json is written, which run --methods tuned reads (default: tuned)")  # fmt: skip
    tune.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    tune.add_argument("--jobs", type=positive, metavar="N", help="worker processes (default: cores; 1 on a GPU)")
    tune.add_argument("--json", action="store_true", help="print what was chosen as JSON")
    add_allow_weak(tune)
    add_out(tune)
    add_sources(tune)


def tune_command(arguments: argparse.Namespace) -> int:
    """Try configurations, print what was chosen and write it beside the working folder."""
    stop_on_signals()
    with held():
        from benchmark.learning.budget import TrainingBudget
        from benchmark.records.store import RecordStore
        from benchmark.running.settings import Settings
        from benchmark.tuned.files import write
        from benchmark.tuning.tune import plan_tuning, tune

    tasks = TASKS.select(arguments.task)
    methods = [name for name in METHODS.select(arguments.methods) if METHODS.entry(name).facts["kind"] not in FIXED]
    if not methods:
        raise UsageError(
            f"--methods {arguments.methods!r} names nothing that can be tuned: controls and oracles cannot"
        )
    budget = None
    if arguments.training_budget is not None:
        budget = TrainingBudget.parse(arguments.training_budget)
        budget.given((name, ()) for name in methods)  # refuses what is no use
    store = RecordStore(arguments.out / "tuning").open()
    settings = Settings(
        TEN, arguments.device, arguments.jobs, "missing", PACKAGES, tuple(arguments.include),
        store.root.absolute(), False, arguments.allow_weak_model, arguments.task_files,
    ).settled()  # fmt: skip
    sources, code = chosen_sources(arguments), 0
    for task in tasks:
        try:
            plan = plan_tuning(
                task, methods, sources, arguments.configurations, arguments.seed, settings.device, budget
            )
            found = tune(plan, store, settings)
        except BenchmarkError as error:  # the other tasks go on, as they do in a run
            log.error(f"error: {task}: {error}")
            code = max(code, error.exit_code)
            continue
        path = write(found, arguments.to)
        print(json.dumps(found.chosen, default=vars) if arguments.json else f"{_table(found)}\nwritten to {path}")
        code = max(code, int(any(one.rows is None for tried in found.trials.values() for one in tried)))
    return code


def _table(tuned: Tuned) -> str:
    """Return what was chosen, a line each."""
    lines = [f"{tuned.task}: {tuned.source} data, judged on {tuned.held_out} training rows"]
    for method, by_class in tuned.chosen.items():
        for rows, choice in by_class.items():
            default = METHODS.get(method)()
            given = ",".join(f"{k}={v}" for k, v in choice.params.items() if getattr(default, k, None) != v)
            lines.append(f"{method:<22} {rows:>4} rows: {choice.value:6.3f}, {choice.rows:7.1f} rows: "
                         f"{given or 'defaults'}")  # fmt: skip
    return "\n".join(lines)
