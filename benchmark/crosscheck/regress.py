"""`regress`: scores and forward counts of fixed cases against golden ones, committed as data."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.crosscheck.cases import CASES, Case
from benchmark.data.download import write_atomically
from benchmark.errors import DataError
from benchmark.evaluator import Evaluation, Evaluator
from benchmark.metering import Meter
from benchmark.types import METHODS

GOLDEN = Path(__file__).with_name("golden.json")
METHOD_CASE = CASES[0]
CHANCE = ("gradient_shap", "lime", "kernel_shap")
"""Methods left out: they draw from generators of NumPy and torch, whose streams may change between versions."""

TOLERANCE = {"cpu": 1e-9, "cuda": 1e-7}
RANKED = {"MC": 1e-6}
"""Metrics of ranks jump when values nearly tie, so they get a wider tolerance."""


@dataclass(frozen=True)
class Change:
    """One golden value that moved. `before` or `after` is None where it was or is undefined, or not there."""

    where: str
    before: float | None
    after: float | None
    tolerance: float

    def __str__(self) -> str:
        """Return the change as one line."""
        if self.before is None or self.after is None:
            return f"{self.where}: {self.before} -> {self.after}"
        return (
            f"{self.where}: {self.before:.12g} -> {self.after:.12g} "
            f"(moved {abs(self.after - self.before):.3g}, tolerance {self.tolerance:g})"
        )


def tolerance(metric: str, device: str) -> float:
    """Return how far a metric's scores may move on a device."""
    return max(TOLERANCE[device], RANKED.get(metric, 0.0))


def measure(device: str = "cpu") -> dict[str, Any]:
    """Return all scores and row counts of the fixed cases: {case: {column: values}}."""
    found: dict[str, Any] = {}
    for case in CASES:
        task = case.task(device=device)
        evaluator = Evaluator(task, value_table=case.lookup)
        attributions = case.attributions(task)
        result, ties = evaluator.score_all([attributions, attributions.mul(2).round()])
        found[case.name] = {
            **_columns(result),
            **{f"{name} with ties": values for name, values in _columns(ties).items()},
            "target": result.target,
            **_rows(evaluator.meter, result.meter),
        }
    found |= {f"method {name}": _method(METHOD_CASE, name, device) for name in deterministic()}
    return found


def deterministic() -> list[str]:
    """Return the methods that golden scores are kept of."""
    return [
        name
        for name in METHODS.names()
        if name not in CHANCE
        and METHODS.entry(name).facts.get("kind") != "learned"
        and "table" in METHODS.entry(name).facts.get("modalities", ())
        and METHODS.entry(name).module.startswith("methods.")
    ]


def _method(case: Case, name: str, device: str) -> dict[str, Any]:
    task = case.task(device=device)
    evaluator = Evaluator(task, value_table=case.lookup)
    result = evaluator.evaluate(METHODS.get(name)(), name)
    return _columns(result) | _rows(evaluator.meter, result.meter)


def _columns(result: Evaluation) -> dict[str, list[float | None]]:
    """Return scores by metric; an undefined score is None, which JSON knows."""
    return {
        name: [None if math.isnan(score) else score for score in column.tolist()]
        for name, column in result.scores.items()
    }


def _rows(*meters: Meter) -> dict[str, list[int]]:
    costs = {phase: cost for meter in meters for phase, cost in meter.phases.items() if phase != "prepare"}
    return {f"rows {phase}": [cost.forwards, cost.backwards] for phase, cost in costs.items()}


def compare(golden: dict[str, Any], found: dict[str, Any], device: str = "cpu") -> list[Change]:
    """Return what moved beyond its tolerance; counts and targets may not move at all."""
    changes = []
    for case in golden | found:
        before, after = golden.get(case, {}), found.get(case, {})
        for column in before | after:
            old, new = before.get(column, []), after.get(column, [])
            exact = column == "target" or column.startswith("rows ")
            allowed = 0.0 if exact else tolerance(column.split()[0], device)
            for i in range(max(len(old), len(new))):
                a = old[i] if i < len(old) else None
                b = new[i] if i < len(new) else None
                if len(old) != len(new) or _moved(a, b, allowed):
                    changes.append(Change(f"{case} / {column} [{i}]", a, b, allowed))
    return changes


def _moved(a: float | None, b: float | None, allowed: float) -> bool:
    if a is None or b is None:
        return a is not b
    return abs(a - b) > allowed


def read(path: Path = GOLDEN) -> dict[str, Any]:
    """Return the golden values.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"golden values {path} cannot be read ({error}): make them with regress --update") from error


def write(found: dict[str, Any], path: Path = GOLDEN) -> None:
    """Write golden values, one column a line."""
    lines = []
    for case, columns in found.items():
        inner = ",\n".join(f"  {json.dumps(name)}: {json.dumps(values)}" for name, values in columns.items())
        lines.append(f" {json.dumps(case)}: {{\n{inner}\n }}")
    write_atomically(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def render(changes: list[Change], found: dict[str, Any], verb: str) -> str:
    """Return what changed, a hundred lines at most, and how much of how much."""
    lines = [str(change) for change in changes[:100]] or ["nothing moved"]
    values = sum(len(values) for columns in found.values() for values in columns.values())
    more = ["..."] if len(changes) > 100 else []
    return "\n".join([*lines, *more, f"{len(changes)} of {values} golden values {verb}"])
