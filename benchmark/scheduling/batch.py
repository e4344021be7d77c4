"""Plans several tasks and runs them with log and progress, for `run` and the studies."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from itertools import product
from typing import Any

from benchmark.core.errors import DataError
from benchmark.core.files import sweep
from benchmark.core.sources import Sources, cache_folder, make_room
from benchmark.processes.interruption import stop_if_asked
from benchmark.records.store import RecordStore
from benchmark.running.jobs import Outcome
from benchmark.running.plan import MethodChoice, PlannedTask, plan_task
from benchmark.running.settings import Settings
from benchmark.scheduling.cluster import Cluster
from benchmark.scheduling.local import Local
from benchmark.scheduling.runner import run_task

log = logging.getLogger("benchmark")


def planned(
    names: list[str], choices: list[MethodChoice], sources: Sources, models: Sequence[int] = (0,), **how: Any
) -> tuple[list[PlannedTask], list[DataError]]:
    """Plan each task with each model, see `plan_task` for `how`; one whose data are missing is said and passed over."""
    plans, missing = [], []
    for name, model in product(names, models):
        try:
            plan = plan_task(name, choices, sources, model=model, **how)
        except DataError as error:
            missing.append(error)
            log.error(f"error: {name}: {error}")
            continue
        plans.append(plan)
        if model != models[0]:
            continue  # where the data are has been said
        for note in plan.located.notes:
            log.warning(f"{name}: {note}")
        log.warning(f"{name}: {plan.located.source} data, {plan.located.origin}")
    return plans, missing


def run_all(plans: list[PlannedTask], store: RecordStore, settings: Settings) -> tuple[list[Outcome], list[DataError]]:
    """Run all cells; a task that cannot be built is said and passed over."""
    from tqdm.contrib.logging import logging_redirect_tqdm

    from benchmark.processes.progress import tqdm

    outcomes: list[Outcome] = []
    unbuilt: list[DataError] = []
    for folder in (store.root, cache_folder()):
        sweep(folder)
    make_room(cache_folder())
    total = sum(len(plan.cells) for plan in plans)
    shown = sys.stderr.isatty() and log.level < logging.ERROR
    bar = tqdm(total=total, unit="cell", disable=not shown, leave=False)
    settings = settings.settled()
    opened = Cluster(settings.cluster, settings.jobs or 1) if settings.cluster is not None else Local(settings.gpus)
    with logging_redirect_tqdm([log]), bar, opened as pool:
        for plan in plans:
            bar.set_description(plan.title)
            try:
                for step in run_task(plan, store, settings, pool):
                    stop_if_asked()
                    bar.update(step.share)
                    bar.set_postfix_str(step.progress)
                    if (outcome := step.outcome) is None:
                        continue
                    outcomes.append(outcome)
                    say = log.warning if outcome.bad or (outcome.reason and outcome.state == "computed") else log.info
                    say(f"{outcome.cell.label}: {outcome.state}{outcome.reason and ': ' + outcome.reason}")
            except DataError as error:
                unbuilt.append(error)
                log.error(f"error: {plan.title}: {error}")
    stop_if_asked()
    return outcomes, unbuilt
