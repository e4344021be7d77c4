"""Chooses the records of a board and checks that they are of one model and of the same data."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from benchmark.core.errors import BenchmarkError, UsageError, few
from benchmark.core.selection import select_labels
from benchmark.records.record import Record
from benchmark.scoring.metrics import METRICS, OWN, PAPER, TEN, select_from
from leaderboards.score_array import metric_facts_of


def distinctly_labelled(records: list[Record]) -> list[Record]:
    """Return records of one board, those that claim one label though made otherwise labelled with what differs.

    Such are records of one method with other parameters (a default that changed, say) or of other code.
    """
    ways: dict[str, dict[str, Record]] = defaultdict(dict)
    for record in records:
        ways[record.label].setdefault(_way(record), record)
    names: dict[tuple[str, str], str] = {}
    for label, firsts in ways.items():
        params = [record.cell.params for record in firsts.values()]
        keys = {key for values in params for key in values}
        differing = sorted(key for key in keys if len({repr(values.get(key)) for values in params}) > 1)
        digests = {part: {record.identity[part] for record in firsts.values()} for part in ("code", "distribution")}
        parts = [part for part, values in digests.items() if len(values) > 1]
        for way, record in firsts.items():
            names[label, way] = label if len(firsts) == 1 else _labelled(label, record, differing, parts)
    return [replace(record, label=names[record.label, _way(record)]) for record in records]


def _way(record: Record) -> str:
    """Return how a record was made, but for its seed."""
    parts = [record.cell.method, record.cell.params, record.identity["code"], record.identity["distribution"]]
    return json.dumps(parts, sort_keys=True)


def _labelled(label: str, record: Record, differing: list[str], parts: list[str]) -> str:
    """Return a label with the parameters and the parts of the identity by which a record differs from its like."""
    head, _, given = label.removesuffix("]").partition("[")
    items = [item for item in given.split(",") if item]
    named = {item.partition("=")[0].strip() for item in items}
    items += [f"{key}={record.cell.params.get(key)}" for key in differing if key not in named]
    texts = {"code": f"code {record.identity['code'][:8]}", "distribution": record.identity["distribution"] or "a file"}
    more = ", ".join(texts[part] for part in parts)
    return head + (f"[{','.join(items)}]" if items else "") + (f" ({more})" if more else "")


def check_same(records: list[Record]) -> None:
    """Make sure that records can share a board.

    Raises:
        BenchmarkError: they are of different data, models, samples or versions of a metric, or of training rows.
    """
    if tuning := sorted({record.label for record in records if record.cell.split != "test"}):
        raise BenchmarkError(
            f"records of {records[0].cell.task} are of training rows that settings were chosen on, not of test rows: "
            f"{few(tuning)}; no board is made of them"
        )
    _check_alike(records, "data", "on different data")
    for model in sorted({record.cell.model for record in records}):
        of_model = [record for record in records if record.cell.model == model]
        _check_alike(of_model, "model", "with different models")
        _check_alike(of_model, "task", "as other tasks")
    metric_facts_of(records)
    if wrong := next(filter(None, map(misdirected, records)), None):
        raise BenchmarkError(wrong)


def _check_alike(records: list[Record], part: str, what: str) -> None:
    """Make sure that a part of the identity is the same in all records."""
    by_digest: dict[str, set[str]] = defaultdict(set)
    for record in records:
        by_digest[record.identity[part]].add(record.label)
    if len(by_digest) > 1:
        groups = "; ".join(f"{digest[:8]}: {', '.join(sorted(names)[:5])}" for digest, names in by_digest.items())
        raise BenchmarkError(
            f"records of {records[0].cell.task} were made {what} ({groups}): run them again, or keep each in an --out "
            "of its own"
        )


def misdirected(record: Record) -> str | None:
    """Return what a record says of a metric that this program knows better, or None."""
    for name, facts in record.metrics.items():
        if name not in METRICS or not METRICS.entry(name).built_in:  # of another's metric a record knows best
            continue
        known = METRICS[name]
        if known.version != facts["version"]:
            continue
        stated = facts["higher_is_better"], facts["family"], facts.get("group", known.group)
        if (known.higher_is_better, known.family, known.group) != stated:
            better = "higher" if facts["higher_is_better"] else "lower"
            return (
                f"{record.cell.label}, seed {record.cell.seed}: says that {better} {name} is better, of the family "
                f"{facts['family']!r} and the group {stated[2]!r}, which is not what {name} is here"
            )
    return None


def choose(records: list[Record], text: str) -> list[Record]:
    """Return the records whose method a selection chooses (see `benchmark.core.selection.select_labels`).

    Raises:
        UsageError: it names a method that none of them has, or leaves none.
    """
    labels = set(select_labels(text, sorted({record.label for record in records})))
    return [record for record in records if record.label in labels]


def group_of(name: str, facts: Mapping[str, Any]) -> str:
    """Return the group of a metric from what a record says of it: nothing but the ten is of the ten."""
    stated = facts.get("group", OWN)
    return PAPER if name in TEN else OWN if stated == PAPER else stated


def groups_of(records: Iterable[Record]) -> dict[str, str]:
    """Return the group of each metric that records have, by name, in the order of boards: those of the ten first."""
    facts = {name: stated for record in records for name, stated in record.metrics.items()}
    groups = {name: group_of(name, stated) for name, stated in facts.items()}
    return dict(sorted(groups.items(), key=lambda item: (item[1] != PAPER, item[1], facts[item[0]]["order"], item[0])))


def with_metrics(records: list[Record], text: str) -> list[Record]:
    """Return records with the metrics that a selection chooses, among those that they or this program know.

    Raises:
        UsageError: it names none of these, or no record has any of what it chooses.
    """
    found = groups_of(records)
    chosen = select_from(text, {name: METRICS.group(name) for name in METRICS} | found)
    if found and not set(chosen) & set(found):
        raise UsageError(f"--metrics {text!r}: these records have {', '.join(found)}")
    return [narrowed(record, chosen) for record in records]


def in_group(records: list[Record], group: str) -> tuple[list[Record], list[str]]:
    """Return records with the metrics of one group, and the labels of those that were scored in others alone."""
    names = [name for name, of in groups_of(records).items() if of == group]
    absent = [record for record in records if record.status == "done" and not set(names) & set(record.metrics)]
    kept = [narrowed(record, names) for record in records if not any(record is other for other in absent)]
    return kept, sorted({record.label for record in absent} - {record.label for record in kept})


def narrowed(record: Record, metrics: Collection[str]) -> Record:
    """Return a record with some of its metrics."""
    if record.status != "done" or set(record.metrics) <= set(metrics):
        return record
    return replace(
        record,
        metrics={name: facts for name, facts in record.metrics.items() if name in metrics},
        scores=record.scores[record.scores["metric"].isin(metrics)],
    )
