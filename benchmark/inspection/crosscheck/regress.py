"""Compares scores and forward counts of fixed cases with golden values, which are committed as data: `regress`.

Golden scores of a metric belong to its `version`: they change with it or not at all. So that this can be checked, the
file keeps, for each metric and version, a digest of its scores in each case.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.core.errors import BenchmarkError, DataError
from benchmark.core.files import write_atomically
from benchmark.core.types import METHODS, Task
from benchmark.inspection.crosscheck.cases import CASES, IMAGE_CASE, OTHERS, TEXT_CASE, Case, real_rows, slopes
from benchmark.models.metering import Meter
from benchmark.scoring.evaluator import Evaluation
from benchmark.scoring.metrics import METRICS, TEN

GOLDEN = Path(__file__).with_name("golden.json")
METHOD_CASE = CASES[0]
IMAGE_METHODS = (
    "saliency", "input_x_gradient", "integrated_gradients", "deeplift", "guided_backprop", "lrp", "grad_cam",
    "grad_cam_plus_plus", "score_cam",
)  # fmt: skip
"""Methods that golden scores on images of several channels are kept of."""
TEXT_METHODS = ("saliency", "integrated_gradients", "deeplift", "occlusion", "feature_ablation")
"""Methods that golden scores on texts with padding are kept of."""
CHANCE = ("gradient_shap", "lime", "kernel_shap")
"""Methods left out: they draw from generators of NumPy and torch, whose streams may change between versions."""

Columns = dict[str, list[float | None]]
Values = dict[str, Columns]
"""Scores, targets and row counts: {case: {column: values}}."""
History = dict[str, dict[str, dict[str, str]]]
"""Digests of a metric's scores: {metric: {version: {case: digest}}}."""

TOLERANCE = {"cpu": 1e-9, "cuda": 1e-7}
RANKED = {"MC": 1e-6}
"""Metrics of ranks jump when values nearly tie, so they get a wider tolerance."""


MEASURED = (*TEN, *OTHERS)
"""Metrics that golden scores are kept of: ours, whatever else is registered."""
NEAR = {case.name: case.tolerance for case in CASES}


@dataclass(frozen=True)
class Golden:
    """What the file holds."""

    values: Values
    history: History


@dataclass(frozen=True)
class Change:
    """One golden value that moved. `before` or `after` is None where it was or is undefined, or not there."""

    case: str
    column: str
    place: int
    before: float | None
    after: float | None
    tolerance: float

    @property
    def where(self) -> str:
        """Return which value it is."""
        return f"{self.case} / {self.column} [{self.place}]"

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


def measure(device: str = "cpu") -> Values:
    """Return all scores and row counts of the fixed cases."""
    return dict(measurements(device))


def measurements(device: str = "cpu") -> Iterator[tuple[str, Columns]]:
    """Yield what `measure` returns, case by case."""
    for case in CASES:
        task = case.task(device=device)
        evaluator = case.evaluator(task)
        attributions = case.attributions(task)
        result, ties = evaluator.score_all([attributions, attributions.mul(2).round()])
        yield (
            case.name,
            {
                **_columns(result),
                **{f"{name} with ties": values for name, values in _columns(ties).items()},
                "target": list(result.target),
                **_rows(evaluator.meter, result.meter),
                **_others(case, task),
            },
        )
    for name in deterministic():
        yield f"method {name}", _method(METHOD_CASE, name, device)
    for name in IMAGE_METHODS:
        yield f"method {name}, several channels", _method(IMAGE_CASE, name, device)
    for name in TEXT_METHODS:
        yield f"method {name}, tokens", _method(TEXT_CASE, name, device)
    yield "table breast_cancer_mlp", _table_rows()


def _others(case: Case, task: Task) -> Columns:
    """Return the scores of metrics beyond the ten, and what they cost."""
    evaluator = case.evaluator(task, OTHERS)
    result, ties = (
        evaluator.score(made, slopes(task))
        for made in (case.attributions(task), case.attributions(task).mul(2).round())
    )
    costs = {f"{name}, other metrics": counts for name, counts in _rows(evaluator.meter, result.meter).items()}
    return (
        _columns(replace(result, evidence=None))
        | {f"{name} with ties": values for name, values in _columns(replace(ties, evidence=None)).items()}
        | costs
    )


def deterministic() -> list[str]:
    """Return the methods that golden scores are kept of."""
    return [
        name
        for name in METHODS.names()
        if name not in CHANCE
        and METHODS.entry(name).facts.get("kind") != "learned"
        and "table" in METHODS.entry(name).facts.get("modalities", ())
        and METHODS.entry(name).built_in
    ]


def _method(case: Case, name: str, device: str) -> Columns:
    task = case.task(device=device)
    evaluator = case.evaluator(task)
    result = evaluator.evaluate(METHODS.get(name)(), name)
    return _columns(result) | _rows(evaluator.meter, result.meter)


def _table_rows() -> Columns:
    """Return some rows of real data as a model gets them, split and scaled."""
    train, test = real_rows()
    return {
        "rows of train and test": [len(train.y), len(test.y)],
        "labels": test.y[:20].tolist(),
        "train": train.x[0].tolist(),
        "test": test.x[0].tolist(),
    }


def _columns(result: Evaluation) -> Columns:
    """Return scores by metric, an undefined one as None, which JSON knows, and reason codes where there are any."""
    columns: Columns = {
        name: [None if math.isnan(score) else score for score in column.tolist()]
        for name, column in result.scores.items()
    }
    columns |= {f"{name} reason": codes.tolist() for name, codes in result.reasons.items() if codes.any()}
    return columns if result.evidence is None else columns | {"evidence": result.evidence.tolist()}


def _rows(*meters: Meter) -> Columns:
    costs = {phase: cost for meter in meters for phase, cost in meter.phases.items() if phase != "prepare"}
    return {f"rows {phase}": [cost.forwards, cost.backwards] for phase, cost in costs.items()}


def compare(golden: Values, measured: Values, device: str = "cpu") -> list[Change]:
    """Return what moved beyond its tolerance, relative above 1; counts and targets may not move at all."""
    changes = []
    for case in golden | measured:
        before, after = golden.get(case, {}), measured.get(case, {})
        for column in before | after:
            old, new = before.get(column, []), after.get(column, [])
            exact = column == "target" or column.startswith("rows ")
            allowed = 0.0 if exact else max(tolerance(column.split()[0], device), NEAR.get(case, 0.0))
            for i in range(max(len(old), len(new))):
                a = old[i] if i < len(old) else None
                b = new[i] if i < len(new) else None
                if len(old) != len(new) or _moved(a, b, allowed):
                    changes.append(Change(case, column, i, a, b, allowed))
    return changes


def _moved(a: float | None, b: float | None, allowed: float) -> bool:
    if a is None or b is None:
        return a is not b
    return abs(a - b) > allowed * max(1.0, abs(a))  # scores beyond 1 are ratios: a tolerance of theirs is relative


def digests(values: Values) -> dict[str, dict[str, str]]:
    """Return the digest of each metric's scores in each case: {metric: {case: digest}}."""
    digests_by_metric: dict[str, dict[str, str]] = {name: {} for name in MEASURED}
    for case, columns in values.items():
        if case.startswith(("method ", "table ")):
            continue  # methods and data have no versions
        for name in MEASURED:
            of_metric = {column: scores for column, scores in columns.items() if column.split()[0] == name}
            content = json.dumps(of_metric, sort_keys=True).encode()
            digests_by_metric[name][case] = hashlib.sha256(content).hexdigest()[:16]
    return digests_by_metric


def check(golden: Golden) -> None:
    """Make sure that golden scores are those that were recorded under the metrics' versions.

    Raises:
        BenchmarkError: scores of a metric are others, or none were recorded under its version.
    """
    for name, present in digests(golden.values).items():
        version = str(METRICS[name].version)
        recorded = golden.history.get(name, {}).get(version)
        if recorded is None:
            raise BenchmarkError(
                f"no golden scores of {name} are recorded under its version {version}: make them with regress --update"
            )
        moved = [case for case in recorded | present if recorded.get(case) != present.get(case)]
        if moved:
            raise BenchmarkError(
                f"golden scores of {name} are not those recorded under its version {version} ({'; '.join(moved)}): "
                "restore them, or raise the version and run regress --update"
            )


def renewed(golden: Golden, measured: Values, device: str = "cpu") -> Golden:
    """Return golden values with what moved, or is new, from `measured`; what did not move stays to the last digit.

    Raises:
        BenchmarkError: scores of a metric moved, or are gone, in a case that is recorded under its version.
    """
    settled = {name: golden.history.get(name, {}).get(str(METRICS[name].version), {}) for name in MEASURED}
    moved = compare(golden.values, measured, device)
    for change in moved:
        name = change.column.split()[0]
        if change.case in settled.get(name, {}):
            raise BenchmarkError(
                f"scores of {name} moved ({change}), and its version is still {METRICS[name].version}: "
                "undo what moved them, or raise the version of the metric"
            )
    gone = {(change.case, change.column) for change in moved}
    values: Values = {}
    for case, columns in measured.items():
        old = {column: scores for column, scores in golden.values.get(case, {}).items() if (case, column) not in gone}
        values[case] = {column: old.get(column, scores) for column, scores in columns.items()}
    history = {
        name: golden.history.get(name, {}) | {str(METRICS[name].version): present | settled[name]}
        for name, present in digests(values).items()
    }
    made = Golden(values, history)
    check(made)
    return made


def read(path: Path = GOLDEN) -> Golden:
    """Return the golden values.

    Raises:
        DataError: the file is missing, damaged, or no file of golden values.
    """
    hint = "restore it, or remove it and make it anew with regress --golden FILE --update"
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"golden values {path} cannot be read ({error}): {hint}") from error
    if not _golden(parsed):
        raise DataError(f"{path} holds no golden values: expected values by case and column, and their history; {hint}")
    return Golden(parsed["values"], parsed["history"])


def _golden(parsed: object) -> bool:
    """Tell whether parsed JSON has the structure of golden values."""
    match parsed:
        case {"values": dict(values), "history": dict(history)}:
            numbers = all(
                isinstance(columns, dict)
                and all(isinstance(column, list) and all(map(_number, column)) for column in columns.values())
                for columns in values.values()
            )
            return numbers and all(
                isinstance(versions, dict) and all(isinstance(cases, dict) for cases in versions.values())
                for versions in history.values()
            )
    return False


def _number(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def write(golden: Golden, path: Path = GOLDEN) -> None:
    """Write golden values, one column a line."""

    def lines(things: dict[str, dict[str, Any]]) -> str:
        blocks = []
        for name, inner in things.items():
            rows = ",\n".join(f"   {json.dumps(key)}: {json.dumps(value)}" for key, value in inner.items())
            blocks.append(f"  {json.dumps(name)}: {{\n{rows}\n  }}")
        return ",\n".join(blocks)

    text = f'{{\n "values": {{\n{lines(golden.values)}\n }},\n "history": {{\n{lines(golden.history)}\n }}\n}}\n'
    write_atomically(path, text.encode())


def render(changes: list[Change], measured: Values, verb: str) -> str:
    """Return what changed, a hundred lines at most, and how much of how much."""
    lines = [str(change) for change in changes[:100]] or ["nothing moved"]
    values = sum(len(values) for columns in measured.values() for values in columns.values())
    more = ["..."] if len(changes) > 100 else []
    return "\n".join([*lines, *more, f"{len(changes)} of {values} golden values {verb}"])
