"""From what was asked for to cells: which methods with which parameters, on which tasks.

Importing this needs no torch; planning imports the files of the methods that are chosen, and they do.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from benchmark.core.errors import BenchmarkError, DataError, UsageError, describe
from benchmark.core.parameters import configure, configured, parameters, split_settings
from benchmark.core.provenance import UNKNOWN
from benchmark.core.selection import added_and_removed, chosen
from benchmark.core.sources import Located, Sources
from benchmark.core.types import FIXED, METHODS, TASKS, Device, Method, Precision, Task, TaskSpec
from benchmark.records.record import Cell
from benchmark.running.presets import PRESETS
from benchmark.scoring.metrics import METRICS
from benchmark.tuned.classes import class_named, name_of
from benchmark.tuned.files import Tuned, UntunedError, found, read

TUNED = "tuned"
"""What stands in a parameter's place for those that `tune` chose; its value is a class of costs."""


@dataclass(frozen=True)
class MethodChoice:
    """A method's name and the parameters given for it, as text."""

    name: str
    given: tuple[tuple[str, str], ...] = ()

    @property
    def tuned(self) -> str | None:
        """Return the class of costs whose chosen parameters are asked for; None for those of the method."""
        return dict(self.given).get(TUNED)

    @property
    def label(self) -> str:
        """Return the method as the user wrote it: `lime[n_samples=200]`."""
        return self.name + (f"[{','.join(f'{k}={v}' for k, v in self.given)}]" if self.given else "")


def parse_methods(text: str) -> list[MethodChoice]:
    """Return the methods that `text` names (see `benchmark.core.selection`), each with the parameters given for it.

    `tuned` and `tuned=60` are all methods that can be tuned, `lime[tuned]` and `lime[tuned=60]` is one, with what was
    chosen for any number of rows, or for at most 60. A name that is left out is left out of these, too.

    Raises:
        UsageError: an unknown name, brackets that do not parse, or nothing that is left.
    """
    left_out = {name for item in added_and_removed(text)[1] if "[" not in item for name in _names(item)}
    choices = [choice for choice in chosen(text, _choices, "method") if not (choice.tuned and choice.name in left_out)]
    if not choices:
        raise UsageError(f"{text!r} leaves no method")
    return sorted(choices, key=lambda choice: bool(choice.given))  # those with defaults first


def _names(item: str) -> list[str]:
    """Return the methods that an item without brackets names; none for a glob that matches nothing."""
    return [name for name in METHODS.names() if fnmatchcase(name, item)]


def _choices(item: str) -> list[MethodChoice]:
    """Return the methods of one item: several for a glob, one for `name[parameter=value,...]`."""
    item = re.sub(r"(^|[\[,])\s*tuned\s*($|[\],])", r"\1tuned=any\2", item)
    if item.startswith("tuned="):
        rows = name_of(class_named(item.removeprefix("tuned=").strip()))
        names = [name for name in METHODS.names() if METHODS.entry(name).facts["kind"] not in FIXED]
        return [MethodChoice(name, ((TUNED, rows),)) for name in names]
    if "[" not in item:
        return [MethodChoice(name) for name in METHODS.matching(item)]
    name, given = split_settings(item)
    METHODS.entry(name)
    if TUNED in given:
        if (kind := METHODS.entry(name).facts["kind"]) in FIXED:
            raise UsageError(f"{item!r}: {name} cannot be tuned, since its kind is {kind}: leave [tuned] out")
        given[TUNED] = name_of(class_named(given[TUNED]))
    return [MethodChoice(name, tuple(sorted(given.items())))]


def method_for(choice: MethodChoice, preset: str = "standard", tuned: Mapping[str, Any] | None = None) -> Method:
    """Return a method with the parameters given for it, and otherwise those of the preset; checks what was given.

    Args:
        choice: the method.
        preset: how much work.
        tuned: parameters that were chosen for it, which count more than the preset's; `seconds` among them end no
            training for which `iterations` are given.

    Raises:
        UsageError: an unknown parameter, a value of the wrong type or range, or what `tune` chose is asked for and not
            given.
    """
    if choice.tuned and tuned is None:
        raise UsageError(
            f"{choice.label}: settings that tune chose are for commands that read them, as run does; write them out"
        )
    cls = METHODS.get(choice.name)
    given = {key: text for key, text in choice.given if tuned is None or key != TUNED}
    if tuned is not None:
        kept = {key: str(value) for key, value in tuned.items() if key != "seconds" or "iterations" not in given}
        return configure(cls, choice.name, kept | given)
    return configure(cls, choice.name, PRESETS[preset].given(cls, given))


@dataclass(frozen=True, eq=False)
class PlannedTask:
    """A task and the cells to evaluate on it.

    Attributes:
        name: of the task.
        spec: what the task's file registers.
        located: where its data are.
        cells: each with its method as the user wrote it.
        skips: why a method does not apply, by the key of its cell.
    """

    name: str
    spec: TaskSpec
    located: Located
    cells: tuple[tuple[Cell, MethodChoice], ...]
    skips: dict[str, str]

    @property
    def title(self) -> str:
        """Return the task, with the seed of its model where that is not its own."""
        model = self.cells[0][0].model if self.cells else 0
        return self.name + (f", model {model}" if model else "")

    def methods(self) -> list[tuple[str, str, Method]]:
        """Return label, name and method of each cell that applies."""
        return [
            (choice.label, choice.name, METHODS.get(choice.name)(**cell.params))
            for cell, choice in self.cells
            if cell.key not in self.skips
        ]

    def bound(self, rows: int) -> PlannedTask:
        """Return this plan for a task of `rows` test rows: a limit that takes nothing away is none."""
        cells, skips = [], {}
        for cell, choice in self.cells:
            limit = cell.limit if cell.limit is not None and cell.limit < rows else None
            bound = dataclasses.replace(cell, limit=limit)
            cells.append((bound, choice))
            if cell.key in self.skips:
                skips[bound.key] = self.skips[cell.key]
        return dataclasses.replace(self, cells=tuple(cells), skips=skips)


def plan_task(
    name: str,
    choices: list[MethodChoice],
    sources: Sources,
    seed: int,
    limit: int | None,
    precision: Precision = "fp32",
    preset: str = "standard",
    device: Device = "cpu",
    model: int = 0,
    split: str = "test",
) -> PlannedTask:
    """Find a task's data and lay out its cells.

    Args:
        name: of the task.
        choices: the methods, each a cell; one that is there twice counts once.
        sources: where data may come from.
        seed: of the run.
        limit: only the first test samples; without it the preset's number; all that are held out for `tuning`.
        precision: of the forwards.
        preset: how much work, see `benchmark.running.presets`.
        device: the class of device.
        model: the seed that the task's model is trained from.
        split: what is explained, `test` or `tuning`; see `Cell`.

    Raises:
        UsageError: its model comes from no such seed.
        DataError: its data are missing or damaged, or it is a person's own and fails.
    """
    made = TASKS.get(name)
    try:
        spec = spec_of(name, model)
        located = spec.locate(sources)
    except BenchmarkError:
        raise
    except Exception as error:  # of a task of one's own
        raise DataError(f"the task cannot be planned: {describe(error, made)}") from error
    limit = limit or (PRESETS[preset].samples[spec.modality] if split == "test" else None)
    cells: list[tuple[Cell, MethodChoice]] = []
    skips: dict[str, str] = {}
    settings = read(name) if any(choice.tuned for choice in choices) else None
    if settings is not None and settings.source != located.source:
        raise UsageError(f"the settings tuned for {name} in {found(name)} are of {settings.source} data, and these are "
                         f"{located.source}: run tune with the same --source first")  # fmt: skip
    for choice in choices:
        params: dict[str, Any] = {}
        try:
            tuned = _chosen(settings, choice) if settings and choice.tuned else None
            method, reason = suited(method_for(choice, preset, tuned), spec, choice.name, choice.label)
            params = parameters(method)
        except UntunedError as error:
            _, unfit = suited(METHODS.get(choice.name)(), spec, choice.name, choice.label)
            params, reason = dict(choice.given), unfit or str(error)
        cell = Cell(located.source, name, choice.name, params, seed, limit, precision, device, preset, model, split)
        if any(cell.key == other.key for other, _ in cells):
            continue  # the same method, once with its defaults spelt out
        cells.append((cell, choice))
        if reason:
            skips[cell.key] = reason
    return PlannedTask(name, spec, located, tuple(cells), skips)


def _chosen(settings: Tuned, choice: MethodChoice) -> dict[str, Any]:
    """Return the parameters that were chosen for a method in the class that is asked for.

    Raises:
        UntunedError: none were.
        UsageError: the method does not take them.
    """
    assert choice.tuned
    params = settings.of(choice.name, class_named(choice.tuned)).params
    try:
        configured(METHODS.get(choice.name), choice.name, params)
    except UsageError as error:
        raise UsageError(f"{found(settings.task)}: {error}: run tune again") from error
    return params


def spec_of(name: str, model: int = 0) -> TaskSpec:
    """Return what a task's file registers, with its model trained from a seed.

    Raises:
        UsageError: the task knows one model only.
    """
    spec = TASKS.get(name)()
    if model == 0:
        return spec
    if not dataclasses.is_dataclass(spec) or not hasattr(spec, "model_seed"):
        raise UsageError(f"--models {model}: {name} has one model only, 0; others are for tables and texts of ours")
    return dataclasses.replace(spec, model_seed=model)


def suited(method: Method, task: Task | TaskSpec, name: str | None, label: str) -> tuple[Method, str | None]:
    """Return a method with all its parameters on a task, and why it cannot explain it, if so.

    Args:
        method: with its own parameters; as it is where its kind of inputs is another.
        task: built or planned.
        name: that the method is registered under; None for one that is not.
        label: what it is called in sentences.

    Raises:
        UsageError: the method fails to answer.
    """
    facts = METHODS.entry(name).facts if name is not None else {}
    modalities = facts.get("modalities", ())
    if modalities and task.modality not in modalities:
        return method, f"explains {', '.join(modalities)}, not {task.modality}"
    if facts.get("kind") == "learned" and isinstance(task, Task) and (reason := _untrainable(task)):
        return method, reason
    try:
        method = method.resolved(task)
        return method, method.unsupported(task)  # type: ignore[arg-type]
    except BenchmarkError:
        raise
    except Exception as error:
        raise UsageError(f"{label} cannot be planned: {describe(error, type(method))}") from error


def _untrainable(task: Task) -> str | None:
    """Return why no explainer can be trained on a task of a person's own, or None where one can."""
    if hasattr(task.removal, "groups"):
        return "is trained on single features, and the task has groups of them"
    if str(task.test.x.dtype) == "torch.float64":
        return "is trained in float32, and the task's inputs are float64: give the model, x and background in float32"
    return None


def metric_facts(names: list[str]) -> dict[str, dict[str, Any]]:
    """Return what a record says of each metric, so that a board needs nothing but records."""
    order = list(METRICS)
    return {
        name: {
            "version": METRICS[name].version,
            "higher_is_better": METRICS[name].higher_is_better,
            "family": METRICS[name].family,
            "group": METRICS[name].group,
            "order": order.index(name),
            "title": METRICS[name].title,
            **({} if METRICS.entry(name).built_in else {"digest": _digest_of(name)}),
        }
        for name in names
    }


def _digest_of(metric: str) -> str:
    """Return a digest of the source of another's metric, whose author may forget to raise its version."""
    from benchmark.core.identity import metric_digest

    try:
        return metric_digest(METRICS[metric], METRICS.entry(metric).module)
    except UsageError:  # it was typed at a prompt
        return UNKNOWN
