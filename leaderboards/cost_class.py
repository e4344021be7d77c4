"""Chooses the records of a class of costs: each tuned method once, with the settings that were chosen for the class."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmark.core.errors import UsageError, few
from benchmark.core.parameters import configured, parameters
from benchmark.core.selection import select_labels
from benchmark.core.types import FIXED, METHODS
from benchmark.records.record import Record
from benchmark.running.plan import spec_of
from benchmark.scoring.metrics import PAPER
from benchmark.tuned.classes import class_named
from benchmark.tuned.files import Tuned
from leaderboards.board import CostClass
from leaderboards.bootstrap import DRAWS
from leaderboards.rank import Ranking, by_board, rank
from leaderboards.selection import groups_of

NAMED = 30
"""Methods that a sentence names, at most."""


@dataclass(frozen=True)
class Chosen:
    """The records of a board of a class.

    Attributes:
        records: labelled with the name of the method alone.
        methods: all that were tuned for the class, those without a record, too.
        cost_class: what the board says of the class.
    """

    records: list[Record]
    methods: tuple[str, ...]
    cost_class: CostClass


def class_rankings(
    records: Iterable[Record],
    tuned: Mapping[str, Tuned],
    name: str,
    partial: bool = False,
    draws: int = DRAWS,
    methods: str = "all",
) -> list[Ranking]:
    """Rank on each task the methods with the settings that were chosen for a class of costs.

    Args:
        records: of tasks that were tuned, of any settings.
        tuned: what was chosen, by task.
        name: of the class, see `benchmark.tuned.classes`.
        partial: see `leaderboards.rank.rankings`.
        draws: see `leaderboards.rank.rankings`.
        methods: a selection of names.

    Returns:
        One ranking a board, in the order of `leaderboards.rank.rankings`.

    Raises:
        UsageError: no record has such settings, or none of the methods that are selected; they were chosen on data of
            another source; or none of the methods that are selected has a choice in the class.
        GapError: a method has no record with them, and `partial` is False.
    """
    of_source = [record for task, each in _by_task(records).items() for record in of_its_source(each, tuned[task])]
    boards = [(found[0], of_class(found, tuned[found[0].cell.task], name)) for found in by_board(of_source)]
    boards = [(first, made) for first, made in boards if any(r.label in made.methods for r in made.records)]
    if not boards:
        sources = {each.source for each in tuned.values()}
        source = f" --source {sources.pop()}" if len(sources) == 1 else ""
        raise UsageError(
            f"no record here has the settings that were chosen for the class {name}: run python -m benchmark run "
            f"--task {','.join(sorted(tuned))} --methods 'tuned={name}'{source} first"
        )
    labels = {label for _, made in boards for label in (*made.methods, *(record.label for record in made.records))}
    elsewhere = {label for each in tuned.values() for label in each.chosen} - labels
    kept = set(select_labels(methods, sorted(labels | elsewhere)))
    if not kept & labels:
        raise UsageError(
            f"{few(sorted(kept), NAMED)} stands on no board of the class {name}: no settings were chosen there"
        )
    ranked = []
    for first, made in boards:
        of_board = [record for record in made.records if record.label in kept]
        expected = [label for label in made.methods if label in kept]
        if not of_board and not expected:
            continue  # of the methods that are selected none is for this task
        if not of_board:
            asked = ",".join(f"{label}[tuned={name}]" for label in expected)
            raise UsageError(
                f"no record here has the settings that were chosen for the class {name} of {few(expected, NAMED)}: run "
                f"python -m benchmark run --task {first.cell.task} --methods '{asked}' --source {first.cell.source} "
                "first"
            )
        settings = {label: made.cost_class.settings[label] for label in expected}
        stated = replace(made.cost_class, settings=settings)
        groups = dict.fromkeys(groups_of(of_board).values()) or [PAPER]
        ranked += [rank(of_board, partial, draws, group, expected, stated) for group in groups]
    return ranked


def of_its_source(records: list[Record], tuned: Tuned) -> list[Record]:
    """Return the records of a task that are of the source of data that its settings were chosen on.

    Raises:
        UsageError: there are none.
    """
    kept = [record for record in records if record.cell.source == tuned.source]
    if not kept:
        raise UsageError(
            f"the settings of {tuned.task} were chosen on {tuned.source} data, and its records here are of "
            f"{records[0].cell.source} data: run tune and run with the same --source"
        )
    return kept


def of_class(records: list[Record], tuned: Tuned, name: str) -> Chosen:
    """Choose among the records of one board those of a class of costs.

    Controls stay; oracles stay where all their rows fit the class.

    Args:
        records: of one task, source and so on.
        tuned: what was chosen on the task.
        name: of the class.

    Raises:
        UsageError: a method that was tuned is not known here, or has other parameters.
    """
    settings = settings_of(tuned, name)
    asks_more = sorted(method for method, by_class in tuned.chosen.items() if by_class and name not in by_class)
    others = {record.cell.method for record in records if record.kind not in FIXED}
    untuned = sorted(
        (others - set(tuned.chosen)) | {method for method, by_class in tuned.chosen.items() if not by_class}
    )
    oracles = [record for record in records if record.kind == "oracle"]
    fitting = [record for record in oracles if _fits(record, name)]
    kept = [
        replace(record, label=record.cell.method)
        for record in records
        if record.kind not in FIXED and record.cell.params == settings.get(record.cell.method)
    ]
    notes = [
        f"settings chosen by tune on {tuned.held_out} held-out training rows of {tuned.source} data, seed {tuned.seed}"
        + _for_which_model(kept, tuned),
        *([f"every configuration of a learned method was trained for {tuned.training_budget}"]
          if tuned.training_budget else []),
        *([f"not here, since no settings were chosen for it: {few(untuned, NAMED)}"] if untuned else []),
        *([f"not here, since each configuration tried asks more than {name} rows: {few(asks_more, NAMED)}"]
          if asks_more else []),
    ]  # fmt: skip
    if dear := sorted({record.label for record in oracles} - {record.label for record in fitting}):
        notes.append(f"not here, since they ask more than {name} rows: {few(dear, NAMED)}")
    notes += [
        f"{method} was tuned for at most {name} rows and took {rows:.1f} on these samples"
        for method, rows in _rows(kept).items()
        if name != "any" and rows > int(name)
    ]
    defaults = defaults_of(tuned.task, settings)
    differing = {
        method: {key: value for key, value in params.items() if value != defaults[method].get(key)}
        for method, params in sorted(settings.items())
    }
    controls = [record for record in records if record.kind == "control"]
    return Chosen([*kept, *controls, *fitting], tuple(settings), CostClass(name, differing, tuple(notes)))


def _for_which_model(records: list[Record], tuned: Tuned) -> str:
    """Return which of the models that records explain the settings were chosen for, where it is not each."""
    explained = {record.cell.model: record.identity["model"] == tuned.identity["model"] for record in records}
    judged = sorted(model for model, same in explained.items() if same)
    if len(judged) == len(explained):
        return ""
    return f", for model {judged[0]} alone" if judged else ", for another model than these records explain"


def settings_of(tuned: Tuned, name: str) -> dict[str, dict[str, Any]]:
    """Return all parameters of each method that has a choice in a class; those it has gained since have defaults.

    Raises:
        UsageError: a method is not known here, or has other parameters.
    """
    try:
        return {
            method: completed(tuned.task, method, by_class[name].params)
            for method, by_class in tuned.chosen.items()
            if name in by_class
        }
    except UsageError as error:
        raise UsageError(f"the settings tuned for {tuned.task}: {error}: run tune again") from error


def defaults_of(task: str, methods: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return all parameters that methods have by default on a task, by method."""
    return {method: completed(task, method, {}) for method in methods}


def completed(task: str, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters of a method with its defaults on a task in the place of those that are not given."""
    return parameters(configured(METHODS.get(method), method, params).resolved(spec_of(task)))


def in_default(records: Iterable[Record], methods: Sequence[str]) -> list[Record]:
    """Return the records of some methods that have their default settings, labelled with the name of the method."""
    defaults: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    kept = []
    for record in records:
        name, of_task = record.cell.method, defaults[record.cell.task]
        if name in methods:
            if name not in of_task and record.kind not in FIXED:
                of_task[name] = completed(record.cell.task, name, {})
            if record.kind in FIXED or record.cell.params == of_task[name]:
                kept.append(replace(record, label=name))
    return kept


@dataclass(frozen=True, eq=False)
class SettingsRanking:
    """All settings that were chosen in any class, in one ranking.

    Attributes:
        ranking: of settings, called `lime @60` or, where one was chosen for two classes, `lime @60,500`; and of the
            controls.
        methods: by label of such settings, the method.
        absent: labels of those that have no record.
    """

    ranking: Ranking
    methods: dict[str, str]
    absent: tuple[str, ...]


def settings_rankings(records: list[Record], tuned: Tuned, methods: str = "all") -> list[SettingsRanking]:
    """Rank on each board the settings of all methods and classes that have records there, together with the controls.

    Args:
        records: of one task.
        tuned: what was chosen on it.
        methods: a selection of names.

    Raises:
        UsageError: no settings have records.
        GapError: some have no record for one of the seeds, or failed.
    """
    controls = {record.cell.method for record in records if record.kind == "control"}
    kept = select_labels(methods, sorted(controls | set(tuned.chosen)))
    tuned = replace(tuned, chosen={name: by_class for name, by_class in tuned.chosen.items() if name in kept})
    here = [record for record in of_its_source(records, tuned) if record.cell.method in kept]
    made = [ranking for of_board in by_board(here) if (ranking := _settings_ranking(of_board, tuned)) is not None]
    if not made:
        raise UsageError(
            f"no record of {tuned.task} has settings that tune chose: run python -m benchmark run --task {tuned.task} "
            "--methods 'tuned=5,tuned=60,tuned=500,tuned' first"
        )
    return made


def _settings_ranking(records: list[Record], tuned: Tuned) -> SettingsRanking | None:
    """Return the ranking of one board, or None where no settings have records."""
    classes: dict[str, list[str]] = defaultdict(list)
    stated: dict[str, tuple[str, dict[str, Any]]] = {}
    for name in dict.fromkeys(name for by_class in tuned.chosen.values() for name in by_class):
        for method, params in settings_of(tuned, name).items():
            key = json.dumps([method, params], sort_keys=True)
            stated[key] = method, params
            classes[key].append(name)
    kept, methods, absent = [], {}, []
    for key, (method, params) in stated.items():
        in_order = sorted(classes[key], key=lambda name: class_named(name) or float("inf"))
        label = f"{method} @{','.join(in_order)}"
        found = [record for record in records if record.cell.method == method and record.cell.params == params]
        kept += [replace(record, label=label) for record in found]
        if found:
            methods[label] = method
        else:
            absent.append(label)
    if not kept:
        return None
    controls = [record for record in records if record.kind == "control"]
    return SettingsRanking(rank([*kept, *controls]), methods, tuple(absent))


def _fits(record: Record, name: str) -> bool:
    rows = class_named(name)
    return rows is None or (record.status == "done" and record.rows <= rows)


def _rows(records: list[Record]) -> dict[str, float]:
    """Return the rows that explanations asked, means over records, by label."""
    asked: dict[str, list[float]] = defaultdict(list)
    for record in records:
        if record.status == "done":
            asked[record.label].append(record.rows)
    return {label: float(np.mean(rows)) for label, rows in sorted(asked.items())}


def _by_task(records: Iterable[Record]) -> dict[str, list[Record]]:
    by_task: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_task[record.cell.task].append(record)
    return by_task
