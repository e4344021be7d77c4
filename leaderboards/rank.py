"""From records to mean ranks. A board holds one task, one source, one set of samples, one version of everything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatch

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from benchmark.errors import BenchmarkError
from benchmark.metrics import CONSTANT_RESPONSE, METRICS, REASONS
from benchmark.records import Record

ORDER = tuple(METRICS)
SILENT = REASONS[CONSTANT_RESPONSE]
"""The reason of a score that no method could have had: such a sample is left out for all of them."""
DIGITS = 12
"""Means that agree to this many decimals are tied."""


class GapError(BenchmarkError):
    """A board has holes, and no mean is taken over holes."""


@dataclass(frozen=True)
class Row:
    """One method on a board. `means` and `ranks` by metric; `valid` is (scores averaged, scores there should be).

    Costs are per explanation: rows of the model forward and backward, milliseconds; `train_seconds` and `train_rows`,
    forward and backward, once. `pays_after` is the number of explanations after which training is made up for, against
    KernelSHAP: infinite where it never is, None where nothing was trained. `evidence` is the share of positive
    attribution on planted evidence, where there is any.
    """

    method: str
    kind: str
    mean_rank: float
    family_rank: float
    means: dict[str, float]
    ranks: dict[str, float]
    valid: tuple[int, int]
    forwards: float
    backwards: float
    milliseconds: float
    train_seconds: float
    train_rows: float = 0.0
    pays_after: float | None = None
    evidence: float | None = None
    gaps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Board:
    """Methods from best to worst mean rank. `notes` say what a reader must know to read it right."""

    source: str
    task: str
    samples: int
    seeds: tuple[int, ...]
    limit: int | None
    precision: str
    metrics: dict[str, bool]
    rows: tuple[Row, ...]
    origin: str
    quality: dict[str, float]
    preset: str = "standard"
    comparable: bool = True
    weak: bool = False
    notes: tuple[str, ...] = field(default=())


def boards(records: Iterable[Record], partial: bool = False) -> list[Board]:
    """Return one board for each source, task, precision, preset and number of samples among `records`.

    Raises:
        GapError: a cell is missing, failed or incomplete, and `partial` is False.
        BenchmarkError: records that do not belong together (other data, another model, another metric version).
    """
    kinds: dict[tuple[str, str, str, str, int | None], list[Record]] = defaultdict(list)
    for record in records:
        cell = record.cell
        kinds[cell.source, cell.task, cell.precision, cell.preset, cell.limit].append(record)
    ordered = sorted(kinds.items(), key=lambda item: (item[0][:4], item[0][4] is not None, item[0][4] or 0))
    return [board(group, partial) for _, group in ordered]


def board(records: list[Record], partial: bool = False) -> Board:
    """Rank the methods of records that share source, task and samples; see `boards` for what is raised."""
    _check_same(records)
    done = [record for record in records if record.status == "done"]
    if not done:
        reasons = "; ".join(sorted({f"{record.label}: {record.reason}" for record in records}))
        raise GapError(f"no method was evaluated on {records[0].cell.task}: {reasons}")
    directions = {name: facts["higher_is_better"] for record in done for name, facts in record.metrics.items()}
    families = {name: facts["family"] for record in done for name, facts in record.metrics.items()}
    metrics = [name for name in ORDER if name in directions] + sorted(set(directions) - set(ORDER))
    methods = list(dict.fromkeys(record.label for record in records))
    seeds = tuple(sorted({record.cell.seed for record in records}))

    means, counts, excluded = _means(done)
    empty = [name for name in metrics if all((method, name) not in means for method in methods)]
    metrics = [name for name in metrics if name not in empty]
    gaps = _gaps(records, methods, metrics, seeds, means)
    if any(gaps.values()) and not partial:
        holes = "; ".join(f"{method}: {', '.join(found)}" for method, found in gaps.items() if found)
        raise GapError(
            f"the board of {records[0].cell.task} ({records[0].cell.source}) has gaps: {holes}. "
            "Run the missing cells again, or use --partial to see the rest"
        )
    ranks = _ranks(methods, metrics, directions, means)
    rows = [_row(method, done, metrics, families, means, counts, ranks, gaps) for method in methods]
    first = done[0]
    notes = [f"{len(samples)} samples left out of {name}: {SILENT}" for name, samples in excluded.items()]
    notes += [f"{name} is undefined on every sample and takes no part" for name in empty]
    return Board(
        source=first.cell.source,
        task=first.cell.task,
        samples=max(record.n_total for record in done),
        seeds=seeds,
        limit=first.cell.limit,
        precision=first.cell.precision,
        metrics={name: directions[name] for name in metrics},
        rows=tuple(sorted(rows, key=lambda row: (np.isnan(row.mean_rank), row.mean_rank, row.method))),
        origin=first.provenance["data"]["origin"],
        quality={key: first.provenance["model"][key] for key in ("accuracy", "balanced_accuracy")},
        preset=first.cell.preset,
        comparable=all(record.comparable for record in records),
        weak=bool(first.provenance["model"].get("weak")),
        notes=tuple(notes),
    )


def _check_same(records: list[Record]) -> None:
    task = records[0].cell.task
    if len({record.cell.fingerprint for record in records}) > 1:
        raise BenchmarkError(
            f"records of {task} were made on different data or with different models: "
            "run with --overwrite always, or name another --out"
        )
    versions = defaultdict(set)
    for record in records:
        for name, facts in record.metrics.items():
            versions[name].add(facts["version"])
    for name, found in versions.items():
        if len(found) > 1:
            raise BenchmarkError(f"records of {task} hold different versions of {name}: run again to renew the old")


def choose(records: list[Record], patterns: list[str]) -> list[Record]:
    """Return the records whose method matches `patterns`: labels, globs, `all`, and `!pattern` to take away.

    What is the label of a record means just that: `lime` is not `lime[n_samples=20]`, `lime*` is both.
    """
    labels = {record.label for record in records}
    wanted = [p for p in patterns if not p.startswith("!")] or ["all"]
    unwanted = [p[1:] for p in patterns if p.startswith("!")]

    def matches(record: Record, pattern: str) -> bool:
        if pattern in labels:
            return record.label == pattern
        return pattern == "all" or fnmatch(record.cell.method, pattern)

    return [
        record
        for record in records
        if any(matches(record, p) for p in wanted) and not any(matches(record, p) for p in unwanted)
    ]


Key = tuple[str, str]


def _means(done: list[Record]) -> tuple[dict[Key, float], dict[Key, tuple[int, int]], dict[str, set[int]]]:
    """Return the mean score and (valid, total) by method and metric, and the samples left out by metric."""
    frames = [record.scores.assign(method=record.label) for record in done]
    scores = pd.concat(frames, ignore_index=True)
    silent = (scores["reason"].astype(object) == SILENT).to_numpy()
    lost = scores.loc[silent, ["metric", "sample"]].drop_duplicates()
    excluded: dict[str, set[int]] = {
        str(name): set(group["sample"]) for name, group in lost.groupby("metric", observed=True)
    }
    pairs = pd.MultiIndex.from_frame(scores[["metric", "sample"]])
    used = scores["valid"].to_numpy() & ~pairs.isin(pd.MultiIndex.from_frame(lost))
    total = scores.groupby(["method", "metric"], observed=True).size()
    kept = scores[used].groupby(["method", "metric"], observed=True)["score"]
    means, sizes = kept.mean(), kept.size()
    return (
        {(str(key[0]), str(key[1])): float(value) for key, value in means.items()},
        {(str(key[0]), str(key[1])): (int(sizes.get(key, 0)), int(n)) for key, n in total.items()},
        excluded,
    )


def _gaps(
    records: list[Record], methods: list[str], metrics: list[str], seeds: tuple[int, ...], means: dict[Key, float]
) -> dict[str, list[str]]:
    gaps: dict[str, list[str]] = {}
    for method in methods:
        own = [record for record in records if record.label == method]
        found = [f"failed ({record.reason})" for record in own if record.status == "failed"]
        found += [record.reason for record in own if record.status == "done" and record.n_failed]
        if absent := sorted(set(seeds) - {record.cell.seed for record in own}):
            found.append(f"no record for seed {', '.join(map(str, absent))}")
        if any(record.status == "done" for record in own):
            found += [f"no {name}" for name in metrics if (method, name) not in means]
        gaps[method] = found
    return gaps


def _ranks(
    methods: list[str], metrics: list[str], directions: dict[str, bool], means: dict[Key, float]
) -> dict[Key, float]:
    ranks: dict[Key, float] = {}
    for name in metrics:
        there = [method for method in methods if (method, name) in means]
        values = np.round([means[method, name] for method in there], DIGITS)
        places = rankdata(-values if directions[name] else values, method="average")
        ranks |= {(method, name): float(place) for method, place in zip(there, places, strict=True)}
    return ranks


def _row(
    method: str, done: list[Record], metrics: list[str], families: dict[str, str], means: dict[Key, float],
    counts: dict[Key, tuple[int, int]], ranks: dict[Key, float], gaps: dict[str, list[str]],
) -> Row:  # fmt: skip
    own = [record for record in done if record.label == method]
    there = [name for name in metrics if (method, name) in ranks]
    by_family = defaultdict(list)
    for name in there:
        by_family[families[name]].append(ranks[method, name])
    pairs = [counts.get((method, name), (0, 0)) for name in metrics]

    def cost(phase: str, what: str) -> float:
        return float(np.mean([record.costs[phase][what] for record in own])) if own else float("nan")

    known = [record.evidence for record in own if record.evidence is not None]
    evidence = float(np.mean(known)) if known else None
    explained = own[0].n_total * own[0].repeats if own else 1
    return Row(
        method=method,
        kind=own[0].kind if own else "",
        mean_rank=float(np.mean([ranks[method, name] for name in there])) if there else float("nan"),
        family_rank=float(np.mean([np.mean(r) for r in by_family.values()])) if there else float("nan"),
        means={name: means[method, name] for name in there},
        ranks={name: ranks[method, name] for name in there},
        valid=(sum(valid for valid, _ in pairs), sum(total for _, total in pairs)),
        forwards=cost("attribute", "forwards") / explained,
        backwards=cost("attribute", "backwards") / explained,
        milliseconds=cost("attribute", "seconds") / explained * 1000,
        train_seconds=cost("prepare", "seconds"),
        train_rows=cost("prepare", "forwards") + cost("prepare", "backwards"),
        pays_after=_pays_after(own),
        evidence=evidence,
        gaps=tuple(gaps[method]),
    )


def _pays_after(own: list[Record]) -> float | None:
    """Return the mean over seeds of the explanations after which training pays, infinite where it never does."""
    found = [record.report["payback"]["samples"] for record in own if "payback" in record.report]
    return float(np.mean([np.inf if samples is None else samples for samples in found])) if found else None
