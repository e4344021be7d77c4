"""The command tune: chooses the parameters of methods on training rows."""

from __future__ import annotations

import argparse
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.cli.arguments import (
    Verb,
    add_allow_weak,
    add_computing,
    add_out,
    add_sources,
    add_workers,
    chosen_sources,
    natural,
    positive,
    settings_of,
)
from benchmark.core.errors import BenchmarkError, UsageError
from benchmark.core.types import FIXED, METHODS, TASKS
from benchmark.processes.interruption import held, stop_on_signals
from benchmark.tuned.files import OWN

if TYPE_CHECKING:
    from benchmark.tuned.files import Tuned

log = logging.getLogger("benchmark")


def add_tune(verb: Verb) -> None:
    """Add the command to the parser."""
    tune = verb("tune", tune_command, "Choose the parameters of methods on training rows that no method is trained on.")
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
    add_workers(tune)
    add_computing(tune)
    tune.add_argument("--json", action="store_true", help="print what was chosen as JSON")
    add_allow_weak(tune)
    add_out(tune)
    add_sources(tune)


def tune_command(arguments: argparse.Namespace) -> int:
    """Try configurations, print what was chosen and write it into a folder."""
    stop_on_signals()
    with held():
        from benchmark.learning.budget import TrainingBudget
        from benchmark.records.store import RecordStore
        from benchmark.tuned.files import write
        from benchmark.tuning.tune import plan_tuning, tune

    if "[" in arguments.methods and "=" in arguments.methods:
        raise UsageError(f"tune chooses parameters itself: --methods expects names and globs without [...], "
                         f"got {arguments.methods!r}")  # fmt: skip
    tasks = TASKS.select(arguments.task)
    methods = [name for name in METHODS.select(arguments.methods) if METHODS.entry(name).facts["kind"] not in FIXED]
    if not methods:
        raise UsageError(
            f"--methods {arguments.methods!r} names nothing that can be tuned: controls and oracles cannot"
        )
    for task in tasks:
        _check_writable(arguments.to, task)
    budget = None
    if arguments.training_budget is not None:
        budget = TrainingBudget.parse(arguments.training_budget)
        budget.given((name, ()) for name in methods)  # refuses what is no use
    store = RecordStore(arguments.out / "tuning").open()
    settings = settings_of(arguments, store.root)
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


def _check_writable(folder: Path, task: str) -> None:
    """Make sure, before anything is tried, that what is chosen on a task can be written.

    Raises:
        UsageError: it cannot.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UsageError(f"--to expects a folder, got {str(folder)!r}: {there} is a file; name another")
    if not os.access(there, os.W_OK):
        raise UsageError(f"cannot write --to {str(folder)!r}: permission denied; name another")
    if (path := folder / f"{task}.json").is_dir():
        raise UsageError(f"cannot write {str(path)!r}: it is a folder; remove it, or name another --to")


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
