"""The command conventions: how ranks move where one thing is done otherwise than on the board."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.cli.arguments import (
    Verb,
    add_allow_weak,
    add_out,
    add_sources,
    add_workers,
    chosen_sources,
    natural,
    positive,
    settings_of,
)
from benchmark.cli.boards import FORMS
from benchmark.cli.studies.marked import MarkedPage
from benchmark.core.errors import BenchmarkError, DataError, UsageError, few
from benchmark.core.parameters import parameters
from benchmark.core.selection import select_labels
from benchmark.core.types import TASKS, TaskSpec
from benchmark.processes.interruption import held, stop_on_signals
from benchmark.running.presets import PRESETS

if TYPE_CHECKING:
    from benchmark.records.record import Cell, Record
    from benchmark.records.store import RecordStore
    from benchmark.running.jobs import Outcome
    from benchmark.running.plan import MethodChoice
    from leaderboards.conventions import Convention

log = logging.getLogger("benchmark")

LIST = "conventions"
"""The part of a page that lists all conventions; that of a task is called `conventions: TASK`."""


def add_conventions(verb: Verb) -> None:
    """Add the command to the parser."""
    command = verb("conventions", conventions_command, "Do one thing at a time otherwise than on a board: who moves?")
    command.add_argument("--task", required=True)
    command.add_argument("--methods", default="all", help="names, globs, all, !name, name[parameter=value]")
    command.add_argument("--conventions", default="all", metavar="NAMES",
                         help="names or globs with commas, !name (default: all that touch these methods)")  # fmt: skip
    command.add_argument("--seed", type=natural, default=0, help="base of every random draw (default: 0)")
    command.add_argument("--limit", type=positive, metavar="N", help="only the first N test samples")
    command.add_argument("--preset", choices=tuple(PRESETS), default="standard")
    add_workers(command)
    command.add_argument("--format", choices=FORMS, default="table")
    command.add_argument("--write", type=Path, metavar="PAGE.md",
                         help="also renew a page: the list of conventions, and this task's table between the lines "
                         "<!-- conventions: TASK --> and <!-- /conventions: TASK -->")  # fmt: skip
    add_allow_weak(command)
    add_out(command)
    add_sources(command)


def conventions_command(arguments: argparse.Namespace) -> int:
    """Run what the conventions need, rank the board again under each, and print what moved."""
    stop_on_signals()
    with held():
        from benchmark.records.store import RecordStore
        from benchmark.running.plan import parse_methods, plan_task
        from benchmark.scheduling.batch import run_all
        from leaderboards.conventions import described
        from leaderboards.shifts import render, shifts

    task, choices, sources = TASKS.one(arguments.task), parse_methods(arguments.methods), chosen_sources(arguments)
    if tuned := [choice.label for choice in choices if choice.tuned]:
        raise UsageError(f"conventions start from what methods have by default, got {few(tuned)}: leave [tuned] out; "
                         "leaderboard --rows compares tuned settings")  # fmt: skip
    part = f"{LIST}: {task}"
    page = MarkedPage("--write", arguments.write, LIST, part) if arguments.write else None
    settings = settings_of(arguments, arguments.out)
    how = {"seed": arguments.seed, "limit": arguments.limit, "preset": arguments.preset, "device": settings.device}
    plan = plan_task(task, choices, sources, **how)
    for note in plan.located.notes:
        log.warning(f"{task}: {note}")
    asked = Asked(plan.spec, arguments.preset)
    labels = {choice.label: choice for choice in choices if asked.applies(choice)}
    if not labels:
        reasons = "; ".join(f"{choice.label} {plan.skips[cell.key]}" for cell, choice in plan.cells)
        raise UsageError(f"nothing to rank: none of --methods {arguments.methods!r} explains {task}: {reasons}")
    conventions = chosen_conventions(arguments.conventions, asked, labels)
    variants = [choice for each in conventions for choice in asked.replacing(each, labels).values()]
    plans = [plan_task(task, [*labels.values(), *variants], sources, **how)]
    plans += [
        plan_task(task, list(labels.values()), sources, **(how | otherwise(each, arguments.seed)))
        for each in conventions
        if each.asked
    ]
    store = RecordStore(arguments.out).open()
    outcomes, unbuilt = run_all(plans, store, settings)
    if unbuilt:
        return DataError.exit_code
    ran = Ran(asked, outcomes, store)
    records = ran.records(labels, arguments.seed)
    if not records:
        raise BenchmarkError(f"no method is left: {'; '.join(ran.failed)}")
    left = {label: choice for label, choice in labels.items() if label in records}
    places, unmeasured = ran.places(conventions, left, arguments.seed)
    found = shifts(list(records.values()), conventions, places, unmeasured)
    print(render(found, arguments.format))
    if page is not None:
        page.put(LIST, described())
        page.put(part, f"Made by `{_call(arguments, task, found.board.source)}`.\n\n{render(found, 'md')}")
        page.write()
        log.warning(f"also written: {arguments.write}")
    if ran.failed:
        log.error(f"left out: {'; '.join(ran.failed)}")
    return int(bool(ran.failed))


def chosen_conventions(text: str, asked: Asked, labels: Mapping[str, MethodChoice]) -> list[Convention]:
    """Return the conventions that a selection chooses and that touch some of these methods on this task.

    Raises:
        UsageError: there is no such convention, or those chosen touch nothing.
    """
    from leaderboards.conventions import CONVENTIONS

    names = select_labels(text, [each.name for each in CONVENTIONS], "convention", "")
    chosen = [each for each in CONVENTIONS if each.name in names]
    touching = [each for each in chosen if asked.touches(each, labels)]
    if not touching:
        raise UsageError(
            f"--conventions {text!r} changes none of these methods on a {asked.spec.modality}: {', '.join(labels)}"
        )
    return touching


def otherwise(convention: Convention, seed: int) -> dict[str, Any]:
    """Return what a convention asks of a whole run: seed, model and precision."""
    more = dict(convention.asked)
    return more | ({"seed": seed + more["seed"]} if "seed" in more else {})


@dataclass(frozen=True)
class Asked:
    """What methods and conventions mean on a task.

    Attributes:
        spec: of the task.
        preset: under which methods have their parameters.
    """

    spec: TaskSpec
    preset: str

    def resolved(self, choice: MethodChoice) -> tuple[dict[str, Any], str | None]:
        """Return all parameters of a method, and why it does not explain the task, if so."""
        from benchmark.running.plan import method_for, suited

        method, reason = suited(method_for(choice, self.preset), self.spec, choice.name, choice.label)
        return parameters(method), reason

    def applies(self, choice: MethodChoice) -> bool:
        """Tell whether a method explains the task."""
        return self.resolved(choice)[1] is None

    def replacing(self, convention: Convention, labels: Mapping[str, MethodChoice]) -> dict[str, MethodChoice]:
        """Return what a convention puts in the place of methods, by their labels."""
        given = convention.given(self.spec.modality)
        made = {
            label: replace(choice, given=tuple(sorted((dict(choice.given) | given[choice.name]).items())))
            for label, choice in labels.items()
            if choice.name in given
        }
        return {label: choice for label, choice in made.items() if self._differs(choice, labels[label])}

    def _differs(self, choice: MethodChoice, other: MethodChoice) -> bool:
        params, reason = self.resolved(choice)
        return reason is None and params != self.resolved(other)[0]

    def touches(self, convention: Convention, labels: Mapping[str, MethodChoice]) -> bool:
        """Tell whether a convention changes anything."""
        if "model" in convention.asked:
            return hasattr(self.spec, "model_seed")
        return convention.ranks_alone or bool(convention.asked) or bool(self.replacing(convention, labels))


class Ran:
    """The records that were asked for.

    Args:
        asked: what they mean.
        outcomes: of all cells.
        store: where the records are.

    Attributes:
        failed: what did not work, in sentences.
    """

    def __init__(self, asked: Asked, outcomes: Sequence[Outcome], store: RecordStore) -> None:
        self._asked, self._store = asked, store
        self._outcomes = {_key(o.cell.method, o.cell.params, _how(o.cell)): o for o in outcomes if o.state != "skipped"}
        self.failed = list(dict.fromkeys(f"{o.label}: {o.reason}" for o in outcomes if o.bad))

    def records(self, choices: Mapping[str, MethodChoice], seed: int, **how: Any) -> dict[str, Record]:
        """Return the records of methods by their labels, those that did not fail.

        Args:
            choices: by label, of the board, the method that stands for it.
            seed: of the run.
            how: its `model` and `precision`.
        """
        found = {}
        for label, choice in choices.items():
            key = _key(
                choice.name, self._asked.resolved(choice)[0], {"model": 0, "precision": "fp32", "seed": seed} | how
            )
            outcome = self._outcomes[key]
            if not outcome.bad:
                found[label] = replace(self._store.read(self._store.folder(outcome.cell)), label=label)
        return found

    def places(
        self, conventions: Sequence[Convention], labels: Mapping[str, MethodChoice], seed: int
    ) -> tuple[dict[str, dict[str, Record]], dict[str, str]]:
        """Return by convention the records that it puts in the place of others, and why there are none for some."""
        places, unmeasured = {}, {}
        for each in conventions:
            if each.ranks_alone:
                continue
            wanted = labels if each.asked else self._asked.replacing(each, labels)
            places[each.name] = self.records(wanted, **({"seed": seed} | otherwise(each, seed)))
            if absent := [label for label in wanted if label not in places[each.name]]:
                unmeasured[each.name] = f"{', '.join(absent)} failed"
        return places, unmeasured


def _how(cell: Cell) -> dict[str, Any]:
    return {"model": cell.model, "precision": cell.precision, "seed": cell.seed}


def _key(method: str, params: Mapping[str, Any], how: Mapping[str, Any]) -> str:
    return json.dumps([method, params, how], sort_keys=True)


def _call(arguments: argparse.Namespace, task: str, source: str) -> str:
    """Return the command that was given, as far as the result follows from it."""
    words = ["python", "-m", "benchmark", "conventions", "--task", task]
    for name, default in (("methods", "all"), ("conventions", "all"), ("seed", 0), ("limit", None),
                          ("preset", "standard")):  # fmt: skip
        value = getattr(arguments, name)
        words += [] if value == default else [f"--{name}", str(value)]
    words += ["--source", source, "--write", arguments.write.as_posix()]
    return shlex.join(words)
