"""Makes records of evaluations, as a run does, so that boards and reports read them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from types import CodeType
from typing import Any

from benchmark.api.explainers import Callback
from benchmark.api.names import registered_as
from benchmark.core.identity import method_identity, tensors_digest
from benchmark.core.parameters import parameters
from benchmark.core.types import METHODS, Device, Method
from benchmark.engines.engine import Engine
from benchmark.modalities.building import task_facts
from benchmark.models.metering import Cost
from benchmark.records.plain import plain_data
from benchmark.records.provenance import Packing, RecordProvenance, environment
from benchmark.records.record import Cell, Record
from benchmark.running.plan import metric_facts
from benchmark.running.record_making import evidence_of, flaws_of, score_table
from benchmark.scoring.evaluator import Evaluation, Evaluator

GIVEN = "given"
"""What stands in a record for the name of a method where a person gave attributions, or a callable."""


def record_of(
    evaluator: Evaluator,
    evaluation: Evaluation,
    label: str,
    entry: Any,
    task_digests: Mapping[str, str],
    engine: Engine | None = None,
) -> Record:
    """Return the record of an evaluation.

    Args:
        evaluator: that made it.
        evaluation: of all its samples.
        label: what it is called on boards.
        entry: the method; anything else where attributions were given.
        task_digests: see `task_identity`.
        engine: what answered for the model, where that was another than the model.
    """
    task, device = evaluator.task, evaluator.device.type
    name = registered_as(entry) if isinstance(entry, Method) else None
    facts = METHODS.entry(name).facts if name is not None else {}
    everything = len(evaluator.samples) == len(task.test.x)
    report, problems = plain_data(evaluation.report)
    kind: Device = "cuda" if device == "cuda" else "cpu"
    return Record(
        Cell(
            task.source,
            task.name,
            name or GIVEN,
            parameters(entry) if name is not None else {"label": label},
            evaluator.seed,
            None if everything else len(evaluator.samples),
            evaluator.masked_model.precision,
            kind,
        ),
        "done",
        flaws_of(evaluation),
        identity={**task_digests} | _identity(evaluation, entry, name, task.modality),
        label=label,
        kind=facts.get("kind", GIVEN),
        explains=list(facts.get("modalities", ())),
        facts=task_facts(task),
        metrics=metric_facts(list(evaluator.metrics)),
        n_total=len(evaluator.samples),
        n_failed=int(evaluation.failed.sum()),
        repeats=entry.repeats if isinstance(entry, Method) else 1,
        costs=_costs(evaluator, evaluation),
        provenance=RecordProvenance(
            task.provenance.data,
            task.provenance.model,
            environment(device, engine.name, engine.difference) if engine else environment(device),
            Packing(**evaluator.masked_model.batching.packing()),
        ),
        evidence=evidence_of(evaluation),
        report=report,
        problems=[f"report: {problem}" for problem in problems],
        scores=score_table(evaluation),
    )


def _identity(evaluation: Evaluation, entry: Any, name: str | None, modality: Any) -> dict[str, str]:
    """Return the digest of what made the attributions: a method's source, or the attributions themselves.

    What a person's own method or callable computes can follow from more than its code, and differs between seeds, which
    are of one line of a board: the digest of its attributions stands beside.
    """
    if name is not None:
        return method_identity(entry, modality, METHODS.entry(name).module)
    assert evaluation.attributions is not None
    digest = tensors_digest({"attributions": evaluation.attributions})
    if not isinstance(entry, Method):
        return {"code": digest, "distribution": ""}
    made = entry.function if isinstance(entry, Callback) else entry
    return {"code": code_digest(made), "distribution": "", "attributions": digest}


def code_digest(made: Any) -> str:
    """Return the SHA-256 of the code of a function, or of the functions of an object's class.

    The compiled code is taken, not its text: of a lambda that is the lines around it, too.
    """
    while isinstance(made, functools.partial):
        made = made.func
    made = getattr(made, "__func__", made)
    if hasattr(made, "__code__"):
        parts: list[Any] = [_plain_code(made.__code__)]
    else:
        kind = type(made)
        settings = repr(made) if dataclasses.is_dataclass(made) else ""
        functions = {name: value.__code__ for name, value in sorted(vars(kind).items()) if hasattr(value, "__code__")}
        parts = [kind.__module__, kind.__qualname__, settings, *map(_plain_code, functions.values())]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _plain_code(code: CodeType) -> list[Any]:
    """Return compiled code as plain data, without the places of its lines."""
    constants = [_plain_code(each) if isinstance(each, CodeType) else _ordered(each) for each in code.co_consts]
    return [code.co_code.hex(), code.co_names, constants]


def _ordered(constant: object) -> str:
    """Return a constant as text that is the same in every process: sets of texts have no order of their own."""
    return repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def _costs(evaluator: Evaluator, evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Return costs by phase; what was given costs nothing to make."""
    nothing = Cost()
    phases = {"prepare": nothing, "attribute": nothing} | evaluation.meter.phases
    costs = evaluator.meter.summary() | evaluation.meter.summary()
    return {name: vars(cost) for name, cost in phases.items()} | costs
