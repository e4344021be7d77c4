"""Ranks methods from records. A board holds one task, one source, one set of samples, one version of everything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from benchmark.records.record import Record
from benchmark.scoring.metrics import NO_EXPLAINER, NOT_APPLICABLE, PAPER, REASONS, UNDEFINED
from leaderboards.board import Board, CostClass, GapError, Kind, Row, kind_of
from leaderboards.bootstrap import DRAWS, RankUncertainty, rank_uncertainty, resampled
from leaderboards.score_array import LEFT_OUT, ScoreArray, mean_over, score_array
from leaderboards.selection import check_same, distinctly_labelled, groups_of, in_group

LARGE = 10.0
"""A mean that holds scores beyond this may be that of few samples: a board counts them."""
EXCUSES = {REASONS[NO_EXPLAINER], REASONS[NOT_APPLICABLE]}
"""Why a method may have no score without a gap."""
DISAGREE = 0.8
"""Under this Kendall's tau of the two orders of ranking a board says so."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """The board of some records with all that was computed on the way: made once, and handed to whatever shows it.

    Attributes:
        board: the methods, ranked.
        scores: what they were ranked by, without the metrics that nobody has a score in.
        uncertainty: of the ranks, methods in the order of `scores.methods`; None where there is one score only, or
            where no draws were asked for.
        records: the records, those of one label that were made otherwise labelled with what differs.
    """

    board: Board
    scores: ScoreArray
    uncertainty: RankUncertainty | None
    records: tuple[Record, ...]


def by_board(records: Iterable[Record]) -> list[list[Record]]:
    """Return records by the board they belong to: source, task, precision, device, preset and limit, in this order."""
    kinds: dict[Kind, list[Record]] = defaultdict(list)
    for record in records:
        kinds[kind_of(record)].append(record)
    ordered = sorted(kinds.items(), key=lambda item: (item[0][:5], item[0][5] is not None, item[0][5] or 0))
    return [group for _, group in ordered]


def rankings(records: Iterable[Record], partial: bool = False, draws: int = DRAWS) -> list[Ranking]:
    """Rank the methods of each board among `records`: the ten metrics make one, each other group of metrics its own.

    Args:
        records: of any tasks, sources, precisions, devices, presets and numbers of samples, each on a board of its own.
        partial: also rank where there are gaps, each metric among the methods that have a score in it.
        draws: number of bootstrap resamples of the intervals; 0 for none.

    Returns:
        One ranking a board, sorted by source, task, precision, device, preset and number of samples, then by the group
        of the metrics, the ten first.

    Raises:
        GapError: a cell is missing, failed or incomplete, and `partial` is False.
        BenchmarkError: records that do not belong together: other data, another model, another version of a metric.

    Example:
        >>> from pathlib import Path
        >>> from benchmark.records.store import RecordStore
        >>> from leaderboards.rank import rankings
        >>> from leaderboards.tables import render
        >>> records, problems = RecordStore(Path("results")).scan(task="nap_mlp")  # doctest: +SKIP
        >>> print(render([ranking.board for ranking in rankings(records)], "table"))  # doctest: +SKIP
    """
    return [
        rank(of_board, partial, draws, group)
        for of_board in by_board(records)
        for group in dict.fromkeys(groups_of(of_board).values()) or [PAPER]
    ]


def rank(
    records: list[Record],
    partial: bool = False,
    draws: int = DRAWS,
    group: str = PAPER,
    expected: Sequence[str] = (),
    cost_class: CostClass | None = None,
) -> Ranking:
    """Rank the methods of one board.

    Args:
        records: of one source, task, precision, device, preset and number of samples.
        partial: see `rankings`.
        draws: see `rankings`.
        group: of metrics, the only ones that count here.
        expected: labels of methods that should have records; one without any is a gap.
        cost_class: what the methods were tuned for.

    Raises:
        GapError: see `rankings`.
        BenchmarkError: see `rankings`.
    """
    absent = set(expected) - {record.label for record in records}
    records, elsewhere = in_group(distinctly_labelled(records), group)
    if not records:
        raise GapError(f"no method was scored in metrics of the group {group!r}: run some with --metrics {group}")
    check_same(records)
    done = [record for record in records if record.status == "done"]
    if not done:
        reasons = "; ".join(sorted({f"{record.label}: {record.reason}" for record in records}))
        raise GapError(f"no method was evaluated on {records[0].cell.task}: {reasons}")
    methods = sorted({record.label for record in records} | absent)
    asked = score_array(done, methods, tuple(sorted({record.cell.seed for record in records})))
    defined = np.isfinite(asked.scores).any((0, 1, 3))
    scores = asked.only([name for name, known in zip(asked.metrics, defined, strict=True) if known])
    gaps = _gaps(records, scores)
    if any(gaps.values()) and not partial:
        raise GapError(_refusal(records[0], gaps, cost_class, len(scores.seeds) > 1 or len(set(scores.models)) > 1))
    uncertainty = None
    if draws and _several(scores) and scores.metrics:
        uncertainty = rank_uncertainty(resampled(scores, draws), scores.higher, mean_over(scores.ranks, 1))
    rows = _rows(scores, asked.expected.sum((1, 2, 3)), uncertainty, done, gaps)
    notes = _notes(asked, scores, rows) + _unasked(done, elsewhere)
    notes += list(cost_class.notes) if cost_class else []
    board = replace(_board(records, done, rows, scores, notes), group=group, cost_class=cost_class)
    return Ranking(board, scores, uncertainty, tuple(records))


def _several(scores: ScoreArray) -> bool:
    """Tell whether there is more than one score of a method and metric, so that scores can be resampled."""
    return scores.scores.shape[1] * scores.scores.shape[3] > 1


def _gaps(records: list[Record], scores: ScoreArray) -> dict[str, list[str]]:
    """Return what is missing of each method, in words."""
    gaps: dict[str, list[str]] = {}
    scored = np.isfinite(scores.scores).any((1, 3))
    for at, method in enumerate(scores.methods):
        of_method = [record for record in records if record.label == method]
        holes = [f"failed ({record.reason})" for record in of_method if record.status == "failed"]
        holes += [record.reason for record in of_method if record.status == "done" and record.n_failed]
        models = sorted(set(scores.models.tolist()))
        for model in models:
            seeds = {record.cell.seed for record in of_method if record.cell.model == model}
            if absent := sorted(set(scores.seeds) - seeds):
                of = f" of model {model}" if len(models) > 1 else ""
                holes.append(f"no record for seed {', '.join(map(str, absent))}{of}")
        if any(record.status == "done" for record in of_method):
            unknown = [name for name, known in zip(scores.metrics, scored[at], strict=True) if not known]
            holes += [f"no {name}" for name in unknown if not all(_excused(record, name) for record in of_method)]
            holes += [f"{name} is undefined on {count} samples" for name, count in _undefined(of_method).items()]
        gaps[method] = holes
    return gaps


def _reasons(record: Record, metric: str) -> set[str]:
    return set(record.scores["reason"][record.scores["metric"] == metric].astype(object))


def _excused(record: Record, metric: str) -> bool:
    """Tell whether a record has no score in a metric because it cannot have one: that is a dash, and no gap."""
    reasons = _reasons(record, metric) if record.status == "done" else set()
    return bool(reasons) and reasons <= EXCUSES


def _undefined(records: list[Record]) -> dict[str, int]:
    """Return on how many samples a metric is undefined for these records, by name, where it is on any."""
    undefined = [
        record.scores["metric"][record.scores["reason"] == REASONS[UNDEFINED]]
        for record in records
        if record.status == "done"
    ]
    return {str(name): int(count) for part in undefined for name, count in part.value_counts().items() if count}


def _unasked(done: list[Record], elsewhere: list[str]) -> list[str]:
    """Return notes on methods that have no score here because they were not, or cannot be, asked for one."""
    given = {
        (record.label, name)
        for record in done
        for name in record.metrics
        if _reasons(record, name) == {REASONS[NO_EXPLAINER]}
    }
    notes = [f"{label} has no {name}: only attributions were given" for label, name in sorted(given)]
    return notes + ([f"scored in other metrics alone: {', '.join(elsewhere)}"] if elsewhere else [])


def options(source: str, limit: int | None, preset: str) -> str:
    """Return what a command to run says of the records that a board is made of."""
    return (
        f" --source {source}" + (f" --limit {limit}" if limit else "")
        + (f" --preset {preset}" if preset != "standard" else "")
    )  # fmt: skip


def _refusal(record: Record, gaps: dict[str, list[str]], cost_class: CostClass | None, several: bool) -> str:
    """Return why a board with gaps, perhaps of several seeds or models, is not made, and what to do."""
    holes = "; ".join(f"{method}: {', '.join(missing)}" for method, missing in gaps.items() if missing)
    chosen = "choose seeds and models that all have with --seed and --models, " if several else ""
    if cost_class is not None:
        there = options(record.cell.source, record.cell.limit, record.cell.preset)
        other = ", --limit all to leave this board out" if record.cell.limit else ""
        return (
            f"the board of {record.cell.task} ({record.cell.source}), {cost_class.title}, has gaps: {holes}. Run "
            f"python -m benchmark run --task {record.cell.task} --methods 'tuned={cost_class.name}'{there}, {chosen}or "
            f"use --partial to see the rest{other}"
        )
    methods = ",".join(method.partition(" (code ")[0] for method, missing in gaps.items() if missing)
    return (
        f"the board of {record.cell.task} ({record.cell.source}) has gaps: {holes}. Run the missing cells "
        f"again, {chosen}use --partial to see the rest, or remove what will not be mended: python -m benchmark forget "
        f"--task {record.cell.task} --methods '{methods}'"
    )


def _rows(
    scores: ScoreArray,
    expected: np.ndarray,
    uncertainty: RankUncertainty | None,
    done: list[Record],
    gaps: dict[str, list[str]],
) -> list[Row]:
    """Return a row for each method, in the order of `scores`; `expected` (M,) counts the scores there should be."""
    sample_ranks = mean_over(mean_over(scores.sample_ranks, (1, 2)), 1)
    valid = np.isfinite(scores.scores).sum((1, 2, 3))
    rows = []
    for at, method in enumerate(scores.methods):
        of_method = [record for record in done if record.label == method]
        known = {name: i for i, name in enumerate(scores.metrics) if np.isfinite(scores.ranks[at, i])}
        evidence = [record.evidence for record in of_method if record.evidence is not None]
        row = Row(
            method=method,
            kind=of_method[0].kind if of_method else "",
            mean_rank=_mean([scores.ranks[at, i] for i in known.values()]),
            family_rank=_family_rank(scores, at),
            means={name: float(scores.means[at, i]) for name, i in known.items()},
            ranks={name: float(scores.ranks[at, i]) for name, i in known.items()},
            valid=(int(valid[at]), int(expected[at])),
            break_even=_break_even(of_method),
            evidence=_mean(evidence) if evidence else None,
            gaps=tuple(gaps[method]),
            sample_rank=float(sample_ranks[at]),
            **_costs(of_method),
            **(_interval(uncertainty, at) if uncertainty is not None and known else {}),
        )
        rows.append(row)
    return rows


def _family_rank(scores: ScoreArray, at: int) -> float:
    """Return the mean over families of a method's mean rank in each."""
    families = defaultdict(list)
    for family, rank in zip(scores.families, scores.ranks[at], strict=True):
        if np.isfinite(rank):
            families[family].append(rank)
    return _mean([_mean(ranks) for ranks in families.values()])


def _costs(records: list[Record]) -> dict[str, Any]:
    """Return a method's costs, means over seeds: of one explanation, and of training, once."""

    def mean(phase: str, what: str) -> float:
        return _mean([record.costs[phase][what] for record in records])

    explanations = records[0].n_total * records[0].repeats if records else 1
    return {
        "forwards": mean("attribute", "forwards") / explanations,
        "backwards": mean("attribute", "backwards") / explanations,
        "milliseconds": mean("attribute", "seconds") / explanations * 1000,
        "train_seconds": mean("prepare", "seconds"),
        "train_passes": mean("prepare", "forwards") + mean("prepare", "backwards"),
    }


def _break_even(records: list[Record]) -> float | None:
    """Return the mean over seeds of the explanations after which training pays, infinite where it never does."""
    reports = [record.report.get("break_even") for record in records]
    counts = [report["samples"] for report in reports if isinstance(report, dict) and "samples" in report]
    return _mean([np.inf if count is None else count for count in counts]) if counts else None


def _interval(uncertainty: RankUncertainty, at: int) -> dict[str, Any]:
    return {
        "low": float(uncertainty.low[at]),
        "high": float(uncertainty.high[at]),
        "best": float(uncertainty.best[at]),
        "group": int(uncertainty.group[at]),
    }


def _mean(values: list[float]) -> float:
    """Return a mean, NaN of nothing."""
    return float(np.mean(values)) if values else float("nan")


def _board(records: list[Record], done: list[Record], rows: list[Row], scores: ScoreArray, notes: list[str]) -> Board:
    first = done[0]
    return Board(
        source=first.cell.source,
        task=first.cell.task,
        samples=max(record.n_total for record in done),
        seeds=scores.seeds,
        models=tuple(sorted(set(scores.models.tolist()))),
        limit=first.cell.limit,
        precision=first.cell.precision,
        metrics={name: bool(higher) for name, higher in zip(scores.metrics, scores.higher, strict=True)},
        rows=tuple(sorted(rows, key=lambda row: (np.isnan(row.mean_rank), row.mean_rank, row.method))),
        origin=first.facts["origin"],
        quality=_quality(done),
        preset=first.cell.preset,
        device=first.cell.device,
        comparable=all(record.comparable for record in records),
        weak=any(record.facts["weak"] for record in records),
        notes=tuple(notes),
    )


def _quality(done: list[Record]) -> dict[str, float]:
    """Return the mean over models of what is known of their accuracy."""
    by_model = {record.cell.model: record.facts for record in done}.values()
    known = {key: [facts[key] for facts in by_model] for key in ("accuracy", "balanced_accuracy")}
    return {key: _mean(values) for key, values in known.items() if None not in values}


def _notes(asked: ScoreArray, scores: ScoreArray, rows: list[Row]) -> list[str]:
    """Return what a reader must know: samples and metrics left out, large scores, other orders of the methods."""
    notes = [
        f"{count} samples left out of {name}: {reason}"
        for number, reason in enumerate(LEFT_OUT, 1)
        for name, count in zip(asked.metrics, (asked.undefined == number).sum(1), strict=True)
        if count
    ]
    with np.errstate(invalid="ignore"):
        large = (np.abs(scores.scores) > LARGE).sum((0, 1, 3))
    notes += [
        f"{count} scores of {name} lie beyond {LARGE:g}: its means may be those of few samples"
        for name, count in zip(scores.metrics, large, strict=True)
        if count
    ]
    notes += [
        f"{name} is undefined on every sample and takes no part" for name in asked.metrics if name not in scores.metrics
    ]
    notes += [] if _several(scores) else ["one sample: no intervals"]
    return notes + _disagreements(rows)


def _disagreements(rows: list[Row]) -> list[str]:
    """Return a note for each other way of ranking that puts methods in another order than ranks of means do."""
    notes = []
    for what, other in (
        ("ranks on each sample order", [row.sample_rank for row in rows]),
        ("ranks in which families of metrics count once order", [row.family_rank for row in rows]),
    ):
        both = [(row.mean_rank, rank) for row, rank in zip(rows, other, strict=True)]
        both = [pair for pair in both if np.isfinite(sum(pair))]
        tau = float(kendalltau(*zip(*both, strict=True)).statistic) if len(both) > 1 else float("nan")
        if tau < DISAGREE:  # NaN where all are tied, which is no disagreement
            notes.append(f"{what} these methods differently: Kendall's tau {tau:.2f}")
    return notes
