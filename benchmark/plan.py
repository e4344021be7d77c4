"""From what was asked for to cells: which methods with which parameters, on which tasks. No torch."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from benchmark.data.source import Sources
from benchmark.errors import UsageError
from benchmark.metrics import METRICS
from benchmark.presets import PRESETS
from benchmark.records import Cell
from benchmark.registry import configure
from benchmark.types import METHODS, TASKS, Device, Located, Method, Precision, TaskSpec

_ITEM = re.compile(r"(?P<name>!?[^\[\],]+)(?:\[(?P<params>[^\]]*)\])?(?:,|$)")


@dataclass(frozen=True)
class MethodChoice:
    """A method's name and the parameters given for it, as text."""

    name: str
    given: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """Return the method as the user wrote it: `lime[n_samples=200]`."""
        return self.name + (f"[{','.join(f'{k}={v}' for k, v in self.given)}]" if self.given else "")


def parse_methods(text: str) -> list[MethodChoice]:
    """Return the methods that `text` names: names, globs, `all`, `!name`, and `name[parameter=value,...]`.

    Raises:
        UsageError: an unknown name, or brackets that do not parse.
    """
    plain: list[str] = []
    tuned: list[MethodChoice] = []
    at = 0
    while at < len(text):
        match = _ITEM.match(text, at)
        if match is None:
            raise UsageError(f"cannot read --methods {text!r} from {text[at:]!r}: write name or name[parameter=value]")
        at = match.end()
        name, params = match["name"].strip(), match["params"]
        if params is None:
            plain.append(name)
            continue
        METHODS.entry(name)
        given = []
        for pair in filter(None, params.split(",")):
            key, equals, value = pair.partition("=")
            if not equals:
                raise UsageError(f"cannot read {name}[{params}]: expected parameter=value, got {pair!r}")
            given.append((key.strip(), value.strip()))
        tuned.append(MethodChoice(name, tuple(sorted(given))))
    chosen = [MethodChoice(name) for name in METHODS.select(plain)] if plain else []
    if not chosen and not tuned:
        raise UsageError(f"--methods {text!r} chooses no method")
    return list(dict.fromkeys([*chosen, *tuned]))


def method_params(choice: MethodChoice) -> dict[str, Any]:
    """Return all parameters of a method, defaults included; checks what was given.

    Raises:
        UsageError: an unknown parameter, or a value of the wrong type or range.
    """
    return dataclasses.asdict(configure(METHODS.get(choice.name), choice.name, dict(choice.given)))  # type: ignore[call-overload]


@dataclass(frozen=True, eq=False)
class PlannedTask:
    """A task, where its data are, and the cells to evaluate on it. `skips` says why a method does not apply."""

    name: str
    spec: TaskSpec
    located: Located
    cells: tuple[tuple[Cell, MethodChoice], ...]
    skips: dict[str, str]

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
            taken = cell.limit if cell.limit is not None and cell.limit < rows else None
            bound = dataclasses.replace(cell, limit=taken)
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
) -> PlannedTask:
    """Find a task's data and lay out its cells.

    Raises:
        DataError: its data are missing or damaged.
    """
    spec = TASKS.get(name)()
    located = spec.locate(sources)
    settings = PRESETS[preset]
    limit = limit or settings.samples[spec.modality]
    cells: list[tuple[Cell, MethodChoice]] = []
    skips: dict[str, str] = {}
    for choice in choices:
        given = settings.given(METHODS.get(choice.name), dict(choice.given))
        params = method_params(MethodChoice(choice.name, tuple(given.items())))
        cell = Cell(located.source, name, choice.name, params, seed, limit, precision, device, preset)
        if any(cell.key == other.key for other, _ in cells):
            continue  # the same method, once with its defaults spelt out
        cells.append((cell, choice))
        modalities = METHODS.entry(choice.name).facts.get("modalities", ())
        method = configure(METHODS.get(choice.name), choice.name, dict(choice.given))
        if modalities and spec.modality not in modalities:
            skips[cell.key] = f"explains {', '.join(modalities)}, not {spec.modality}"
        elif reason := method.unsupported(spec):
            skips[cell.key] = reason
    return PlannedTask(name, spec, located, tuple(cells), skips)


def metric_facts(names: list[str]) -> dict[str, dict[str, Any]]:
    """Return what a record says of each metric, so that a board needs nothing but records."""
    order = list(METRICS)
    return {
        name: {
            "version": METRICS[name].version,
            "higher_is_better": METRICS[name].higher_is_better,
            "family": METRICS[name].family,
            "order": order.index(name),
            "title": METRICS[name].title,
        }
        for name in names
    }
