"""Commands that run methods and that list and show methods, tasks and metrics."""

from __future__ import annotations

import argparse
import json
import logging
from typing import TYPE_CHECKING, Any

from benchmark.cli.arguments import chosen_sources, settings_of
from benchmark.core.errors import DataError, RecordError, UsageError
from benchmark.core.types import METHODS, TASKS
from benchmark.processes.interruption import held, stop_on_signals
from benchmark.scoring.metrics import METRICS, select_metrics

if TYPE_CHECKING:
    from benchmark.core.registry import Entry, Registry
    from benchmark.records.store import RecordStore
    from benchmark.running.jobs import Outcome
    from benchmark.running.plan import MethodChoice, PlannedTask
    from benchmark.running.settings import Settings

log = logging.getLogger("benchmark")


def run_command(arguments: argparse.Namespace) -> int:
    """Evaluate methods on tasks."""
    stop_on_signals()
    with held():
        from benchmark.records.store import RecordStore
        from benchmark.running.plan import parse_methods
        from benchmark.scheduling.batch import planned, run_all

    names = TASKS.select(arguments.task)
    choices = parse_methods(arguments.methods)
    if arguments.training_budget is not None:
        choices = _within(arguments.training_budget, choices)
    metrics = tuple(select_metrics(arguments.metrics))
    sources = chosen_sources(arguments)
    store = RecordStore(arguments.out)
    if not arguments.dry_run:
        store.open()
    settings = settings_of(arguments, store.root, metrics)
    plans, missing = planned(
        names, choices, sources, seed=arguments.seed, limit=arguments.limit, precision=arguments.precision,
        preset=arguments.preset, device=settings.device, models=arguments.models,
    )  # fmt: skip
    _refuse_nothing(plans, arguments.methods)
    if arguments.jobs is not None and arguments.cluster not in (None, "local"):
        log.warning(f"--jobs {arguments.jobs} plays no part: --cluster {arguments.cluster} has workers of its own")
    if arguments.dry_run:
        code = _dry_run(plans, store, settings, arguments.json)
        return DataError.exit_code if missing else code
    outcomes, unbuilt = run_all(plans, store, settings)
    code = _report(outcomes, store, arguments.json)
    return DataError.exit_code if missing or unbuilt else code


def _within(budget: str, choices: list[MethodChoice]) -> list[MethodChoice]:
    """Return methods, those that are learned with a budget of training given as a parameter."""
    from benchmark.learning.budget import TrainingBudget
    from benchmark.running.plan import MethodChoice

    given = TrainingBudget.parse(budget).given((choice.name, choice.given) for choice in choices)
    return [MethodChoice(choice.name, own) for choice, own in zip(choices, given, strict=True)]


def _refuse_nothing(plans: list[PlannedTask], text: str) -> None:
    """Make sure that there is something to do on the tasks whose data were found.

    Raises:
        UsageError: no method explains any of them.
    """
    if plans and all(len(plan.cells) == len(plan.skips) for plan in plans):
        reasons = {f"{choice.label} {p.skips[cell.key]} ({p.name})": None for p in plans for cell, choice in p.cells}
        raise UsageError(f"nothing to do: none of --methods {text!r} explains a task: {'; '.join(reasons)}")


def _dry_run(plans: list[PlannedTask], store: RecordStore, settings: Settings, as_json: bool) -> int:
    from benchmark.scheduling.forecast import duration, forecast

    rows, lines = forecast(plans, store, settings)
    if as_json:
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        took = f" {duration(row['seconds']):>12}" if "seconds" in row and not row["why"] else ""
        reason = row["reason"] or row.get("why", "")
        print(f"{row['task']:<20} {row['method']:<28} {row['state']}{took}{reason and ': ' + reason}")
    print(f"{sum(row['state'] == 'to compute' for row in rows)} of {len(rows)} cells to compute")
    for line in lines:
        print(line)
    return 0


def _report(outcomes: list[Outcome], store: RecordStore, as_json: bool) -> int:
    from leaderboards.rank import rankings
    from leaderboards.tables import render

    chosen = [store.read(store.folder(o.cell)) for o in outcomes if o.state in ("kept", "computed")]
    for outcome in outcomes if log.isEnabledFor(logging.INFO) else ():
        if outcome.state == "failed":
            _say_traceback(outcome, store)
    boards = [ranking.board for ranking in rankings(chosen, partial=True)]
    counts = {state: sum(o.state == state for o in outcomes) for state in ("computed", "kept", "skipped", "failed")}
    if as_json:
        cells = [
            {"task": o.cell.task, "source": o.cell.source, "method": o.label, "state": o.state, "reason": o.reason,
             "failed_samples": o.n_failed, "samples": o.n_total, "folder": str(store.folder(o.cell))}
            for o in outcomes
        ]  # fmt: skip
        print(json.dumps({"counts": counts, "cells": cells, "boards": json.loads(render(boards, "json"))}, indent=1))
    else:
        if boards:
            print(render(boards, "table"))
        for line in _passed_over(outcomes):
            print(line)
        print("cells: " + ", ".join(f"{n} {state}" for state, n in counts.items()) + f"; records in {store.root}")
    return int(any(outcome.bad for outcome in outcomes))


def _say_traceback(outcome: Outcome, store: RecordStore) -> None:
    """Print the traceback that the record of a failed cell keeps."""
    try:
        text = store.read(store.folder(outcome.cell)).provenance.traceback
    except RecordError:  # a cell whose worker died has no record
        return
    log.info(f"{outcome.cell.label}:\n{text}")


def _passed_over(outcomes: list[Outcome]) -> list[str]:
    """Return one line for each reason for which cells of a task were skipped, and one for each that failed."""
    skipped: dict[tuple[str, str], list[str]] = {}
    for o in outcomes:
        if o.state == "skipped":
            skipped.setdefault((o.cell.task, o.reason), []).append(o.label)
    lines = [f"skipped: {task} {', '.join(labels)}: {reason}" for (task, reason), labels in skipped.items()]
    return lines + [f"failed: {o.cell.task} {o.label}: {o.reason}" for o in outcomes if o.state == "failed"]


def list_command(arguments: argparse.Namespace) -> int:
    """List tasks, methods, metrics or removals."""
    if arguments.what == "metrics":
        rows = [_metric_row(METRICS.entry(name)) for name in METRICS]
    else:
        registry = _registry(arguments.what)
        rows = [{"name": e.name, "summary": e.summary, **e.facts, **_origin(e)}
                for e in map(registry.entry, registry.names())]  # fmt: skip
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        width = 12 if arguments.what == "removals" else 9
        for row in rows:
            extra = row.get("better") or row.get("kind") or row.get("modality") or ", ".join(row.get("modalities", ()))
            extra += f" {row['group']:<12}" if arguments.what == "metrics" else ""
            origin = f" [{row['distribution']}]" if "distribution" in row else ""
            print(f"{row['name']:<22} {extra:<{width}} {row['summary']}{origin}")
    return 0


def _registry(what: str) -> Registry[Any]:
    """Return the registry of `tasks`, `methods` or `removals`; the last needs torch, which other lists do without."""
    if what != "removals":
        return TASKS if what == "tasks" else METHODS
    from benchmark.modalities.removals import REMOVALS

    return REMOVALS


def _origin(entry: Entry) -> dict[str, str]:
    """Return the package that a plug-in comes from; nothing for ours and for files."""
    return {"distribution": entry.distribution} if entry.distribution else {}


def show_command(arguments: argparse.Namespace) -> int:
    """Show the card of a task, method, metric or removal."""
    from benchmark.inspection.cards import card, methods_document, metrics_document

    documents = {"metrics": metrics_document, "methods": methods_document}
    if arguments.name in documents:
        print(documents[arguments.name](), end="")
        return 0
    facts = card(arguments.name)
    if arguments.json:
        print(json.dumps(facts, indent=1))
    else:
        width = max(map(len, facts))
        print("\n".join(f"{key:<{width}}  {value}" for key, value in facts.items()))
    return 0


def _metric_row(entry: Entry) -> dict[str, Any]:
    """Return what a list says of a metric, which need not be imported."""
    higher = entry.facts.get("higher_is_better")
    better = "" if higher is None else "higher" if higher else "lower"
    group = METRICS.group(entry.name)
    return {"name": entry.name, "summary": entry.summary, "better": better, "group": group, **_origin(entry)}
