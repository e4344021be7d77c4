"""Makes the record of a cell by evaluating its method, on all samples at once or on some after the other."""

from __future__ import annotations

import math
import traceback
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmark.core.identity import method_identity
from benchmark.core.types import METHODS
from benchmark.modalities.building import task_facts
from benchmark.records.record import Record
from benchmark.running.built import engine_for, evaluator_for, forget_tasks
from benchmark.running.jobs import Job, identity_of, method_of
from benchmark.running.parts import Part
from benchmark.running.plan import metric_facts
from benchmark.running.presets import PRESETS
from benchmark.running.trial import reason_of
from benchmark.scoring.evaluation import joined
from benchmark.scoring.metrics import OK, REASONS

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.scoring.evaluator import Evaluation


def failed_record(record: Record, reason: str, **more: Any) -> Record:
    """Return what stands for a cell that gave nothing."""
    return replace(
        record, status="failed", reason=reason, n_failed=record.n_total, metrics={}, costs={}, report={}, problems=[],
        evidence=None, scores=Record(record.cell, "failed").scores, **more,
    )  # fmt: skip


def make_part(job: Job, rows: range | None = None) -> Part:
    """Return what a cell gives for some of its samples, all of them by default; a failure is one of the whole cell."""
    from benchmark.records.plain import plain_data
    from benchmark.records.provenance import Packing, RecordProvenance, environment
    from benchmark.running.break_even import break_even
    from benchmark.running.kept_samples import EXAMPLES, examples

    evaluator = evaluator_for(job.cell, job.located, job.metrics, job.settings, rows)
    task, entry, method = evaluator.task, METHODS.entry(job.choice.name), method_of(job.cell)
    kind = entry.facts.get("kind", "other")
    engine = engine_for(job.cell, job.located, job.settings)
    machine = environment(job.settings.device, engine.name, engine.difference)
    provenance = RecordProvenance(task.provenance.data, task.provenance.model, machine)
    first = evaluator.samples[0]
    blank = Record(
        job.cell,
        "failed",
        identity=identity_of(task, job.cell),
        label=job.choice.label,
        kind=kind,
        explains=list(entry.facts.get("modalities", ())),
        facts=task_facts(task),
        n_total=len(task.test.x[: job.cell.limit]),
        comparable=PRESETS[job.cell.preset].comparable,
        provenance=provenance,
    )
    try:
        method_identity(method, task.modality, entry.module)
        evaluation = evaluator.evaluate(method, job.choice.name)
        report = evaluation.report
        if kind == "learned" and first == 0 and not bool((evaluation.failed | evaluation.model_not_finite).all()):
            report = report | {"break_even": break_even(evaluator, evaluation)}
        report, problems = plain_data(report)
        record = replace(
            blank,
            status="done",
            metrics=metric_facts(list(evaluator.metrics)),
            repeats=method.repeats,
            report=report,
            problems=[f"report: {problem}" for problem in problems],
            costs=evaluator.meter.summary() | evaluation.meter.summary(),
            provenance=replace(provenance, packing=Packing(**evaluator.masked_model.batching.packing())),
        )
        shown = examples(evaluator, evaluation)[: max(0, EXAMPLES - first)]
    except (Exception, SystemExit) as error:  # whatever a method raises ends its own cell and no other
        reason = reason_of(error, method)
        if not evaluator.guard.intact:
            forget_tasks()  # what the method spoilt is built anew for the next
        return Part(failed_record(blank, reason, provenance=replace(provenance, traceback=traceback.format_exc())))
    return Part(record, evaluation, shown)


def record_of(parts: Sequence[Part]) -> tuple[Record, list[dict[str, Any]]]:
    """Return the record of a cell from what its samples gave, one part after the other, and examples to keep beside it.

    It is the same, but for times, however the samples were divided into batches of the evaluator.
    """
    for part in parts:
        if part.evaluation is None:
            return part.record, []
    evaluation = joined([part.evaluation for part in parts if part.evaluation is not None])
    first = parts[0].record
    n_failed = int(evaluation.failed.sum())
    if n_failed == len(evaluation.samples):
        return failed_record(first, "the attribution of every sample is not finite"), []
    if bool(evaluation.model_not_finite.all()):
        return failed_record(first, "the model's answer is not finite for any sample"), []
    record = replace(
        first,
        reason=flaws_of(evaluation),
        n_failed=n_failed,
        evidence=evidence_of(evaluation),
        costs=total_costs([part.record.costs for part in parts]),
        scores=score_table(evaluation),
    )
    return record, [sample for part in parts for sample in part.shown]


def unstorable(error: Exception) -> str:
    """Return the sentence for a result that no record can hold."""
    return f"the result cannot be stored: {type(error).__name__}: {error}"


def total_costs(costs: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return what all parts of a cell cost, by phase; a method is prepared once, whoever prepares it again."""
    total = {phase: dict.fromkeys(cost, 0) | cost for phase, cost in costs[0].items()}
    for more in costs[1:]:
        for phase in more.keys() - {"prepare"}:
            total[phase] = {name: total[phase][name] + value for name, value in more[phase].items()}
    return total


def flaws_of(evaluation: Evaluation) -> str:
    """Return what is wrong with some of the samples, in words; nothing where all is well."""
    total, failed, unknown = len(evaluation.samples), evaluation.failed, evaluation.model_not_finite
    flaws = [f"the attribution of {int(failed.sum())} of {total} samples is not finite"] if failed.any() else []
    flaws += [f"the model's answer is not finite for {int(unknown.sum())} of {total} samples"] if unknown.any() else []
    return "; ".join(flaws)


def evidence_of(evaluation: Evaluation) -> float | None:
    """Return the mean share of the attribution that lies on planted evidence, or None where there is none."""
    evidence = None if evaluation.evidence is None else float(evaluation.evidence.nanmean())
    return evidence if evidence is not None and math.isfinite(evidence) else None


def score_table(evaluation: Evaluation) -> pd.DataFrame:
    """Return an evaluation as rows of sample, target, metric, score, valid, reason."""
    import pandas as pd

    tables = []
    for metric, scores in evaluation.scores.items():
        codes = evaluation.reasons[metric].tolist()
        tables.append(
            pd.DataFrame(
                {
                    "sample": evaluation.samples,
                    "target": evaluation.target,
                    "metric": metric,
                    "score": scores.numpy(),
                    "valid": scores.isfinite().numpy(),
                    "reason": [None if code == OK else REASONS[code] for code in codes],
                }
            )
        )
    return pd.concat(tables, ignore_index=True)
