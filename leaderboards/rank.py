"""Ranks methods from records. A board holds one task, one source, one set of samples, one version of everything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import kendalltau

from benchmark.core.errors import BenchmarkError
from benchmark.records.record import Record
from leaderboards.bootstrap import RankUncertainty, mean_over, rank_uncertainty, resampled
from leaderboards.score_array import LEFT_OUT, ScoreArray, better_first, sample_ranks, score_array
from leaderboards.selection import check_same, told_apart

LARGE = 10.0
"""Scores beyond this own the mean they are in: a board counts them."""
DISAGREE = 0.8
"""Under this Kendall's tau of the two orders of ranking a board says so."""


class GapError(BenchmarkError):
    """A board has holes, and no mean is taken over holes."""


@dataclass(frozen=True)
class Row:
    """One method on a board. `means` and `ranks` by metric; `valid` is (scores averaged, scores there should be).

    Costs are per explanation: rows of the model forward and backward, milliseconds; `train_seconds` and `train_rows`,
    forward and backward, once. `break_even` is the number of explanations after which training is made up for, against
    KernelSHAP: infinite where it never is, None where nothing was trained. `evidence` is the share of positive
    attribution on planted evidence, where there is any. `sample_rank`: methods ranked on each sample, then averaged.
    `low` to `high`, `best`, `group`: see `leaderboards.bootstrap.RankUncertainty`; NaN and 0 where there is one score
    only.
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
    break_even: float | None = None
    evidence: float | None = None
    gaps: tuple[str, ...] = ()
    sample_rank: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    best: float = float("nan")
    group: int = 0


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
    device: str = "cpu"
    comparable: bool = True
    weak: bool = False
    notes: tuple[str, ...] = field(default=())


Kind = tuple[str, str, str, str, str, int | None]


def boards(records: Iterable[Record], partial: bool = False) -> list[Board]:
    """Return one board for each source, task, precision, device, preset and number of samples among `records`.

    Raises:
        GapError: a cell is missing, failed or incomplete, and `partial` is False.
        BenchmarkError: records that do not belong together (other data, another model, another metric version).
    """
    kinds: dict[Kind, list[Record]] = defaultdict(list)
    for record in records:
        kinds[kind_of(record)].append(record)
    ordered = sorted(kinds.items(), key=lambda item: (item[0][:5], item[0][5] is not None, item[0][5] or 0))
    return [board(group, partial) for _, group in ordered]


def kind_of(found: Record | Board) -> Kind:
    """Return what the records of one board share: source, task, precision, device, preset and limit."""
    cell = found.cell if isinstance(found, Record) else found
    return cell.source, cell.task, cell.precision, cell.device, cell.preset, cell.limit


def applicable(records: Iterable[Record]) -> Callable[[str, str], bool]:
    """Return what tells from records alone whether a method explains a task's kind of data; what is unknown may."""
    explains: dict[str, set[str]] = {}
    modality: dict[str, str] = {}
    for record in records:
        explains.setdefault(record.cell.method, set()).update(record.explains)
        modality[record.cell.task] = record.facts.get("modality", "")

    def applies(method: str, task: str) -> bool:
        return not explains.get(method) or task not in modality or modality[task] in explains[method]

    return applies


def board(records: list[Record], partial: bool = False) -> Board:
    """Rank the methods of records that share source, task and samples; see `boards` for what is raised."""
    return ranked(records, partial)[0]


def scores_of(records: list[Record], partial: bool = False) -> ScoreArray:
    """Return the scores that the board of one task's records is made from; see `boards` for what is raised."""
    return _scores(told_apart(records), partial)[1]


def _scores(records: list[Record], partial: bool) -> tuple[ScoreArray, ScoreArray, dict[str, list[str]]]:
    """Return all scores, those of metrics that anybody has a score in, and the gaps by method."""
    check_same(records)
    done = [record for record in records if record.status == "done"]
    if not done:
        reasons = "; ".join(sorted({f"{record.label}: {record.reason}" for record in records}))
        raise GapError(f"no method was evaluated on {records[0].cell.task}: {reasons}")
    methods = sorted({record.label for record in records})
    whole = score_array(done, methods, tuple(sorted({record.cell.seed for record in records})))
    known = np.isfinite(whole.scores).any((0, 1, 3))
    found = whole.only([name for name, there in zip(whole.metrics, known, strict=True) if there])
    gaps = _gaps(records, found)
    if any(gaps.values()) and not partial:
        holes = "; ".join(f"{method}: {', '.join(own)}" for method, own in gaps.items() if own)
        holed = ",".join(method.partition(" (code ")[0] for method, own in gaps.items() if own)
        raise GapError(
            f"the board of {records[0].cell.task} ({records[0].cell.source}) has gaps: {holes}. Run the missing cells "
            "again, use --partial to see the rest, or remove what will not be mended: python -m benchmark forget "
            f"--task {records[0].cell.task} --methods '{holed}'"
        )
    return whole, found, gaps


def ranked(records: list[Record], partial: bool = False) -> tuple[Board, RankUncertainty | None]:
    """Return a board, and how sure it is, methods by name; None where there is one score only."""
    records = told_apart(records)
    whole, found, gaps = _scores(records, partial)
    done = [record for record in records if record.status == "done"]
    ranks = better_first(found.means, found.higher, 0)
    by_sample = mean_over(mean_over(sample_ranks(found), (1, 2)), 1)
    several = found.scores.shape[1] * found.scores.shape[3] > 1
    sure = rank_uncertainty(resampled(found), found.higher, mean_over(ranks, 1)) if several else None
    expected = whole.asked.sum((1, 2, 3))
    rows = [_row(at, found, ranks, by_sample, sure, int(expected[at]), done, gaps) for at in range(len(found.methods))]
    first = done[0]
    notes = [
        f"{count} samples left out of {name}: {reason}"
        for number, reason in enumerate(LEFT_OUT, 1)
        for name, count in zip(whole.metrics, (whole.undefined == number).sum(1), strict=True)
        if count
    ]
    with np.errstate(invalid="ignore"):
        large = (np.abs(found.scores) > LARGE).sum((0, 1, 3))
    notes += [
        f"{count} scores of {name} lie beyond {LARGE:g}: its means may be those of few samples"
        for name, count in zip(found.metrics, large, strict=True)
        if count
    ]
    empty = [name for name in whole.metrics if name not in found.metrics]
    notes += [f"{name} is undefined on every sample and takes no part" for name in empty]
    notes += ["one sample: no intervals"] if sure is None else []
    notes += _disagreement(rows)
    made = Board(
        source=first.cell.source,
        task=first.cell.task,
        samples=max(record.n_total for record in done),
        seeds=found.seeds,
        limit=first.cell.limit,
        precision=first.cell.precision,
        metrics={name: bool(up) for name, up in zip(found.metrics, found.higher, strict=True)},
        rows=tuple(sorted(rows, key=lambda row: (np.isnan(row.mean_rank), row.mean_rank, row.method))),
        origin=first.facts["origin"],
        quality={key: first.facts[key] for key in ("accuracy", "balanced_accuracy") if first.facts[key] is not None},
        preset=first.cell.preset,
        device=first.cell.device,
        comparable=all(record.comparable for record in records),
        weak=any(record.facts["weak"] for record in records),
        notes=tuple(notes),
    )
    return made, sure


def _gaps(records: list[Record], found: ScoreArray) -> dict[str, list[str]]:
    gaps: dict[str, list[str]] = {}
    there = np.isfinite(found.scores).any((1, 3))
    for at, method in enumerate(found.methods):
        own = [record for record in records if record.label == method]
        holes = [f"failed ({record.reason})" for record in own if record.status == "failed"]
        holes += [record.reason for record in own if record.status == "done" and record.n_failed]
        if absent := sorted(set(found.seeds) - {record.cell.seed for record in own}):
            holes.append(f"no record for seed {', '.join(map(str, absent))}")
        if any(record.status == "done" for record in own):
            holes += [f"no {name}" for name, known in zip(found.metrics, there[at], strict=True) if not known]
        gaps[method] = holes
    return gaps


def _row(
    at: int, found: ScoreArray, ranks: np.ndarray, by_sample: np.ndarray, sure: RankUncertainty | None, expected: int,
    done: list[Record], gaps: dict[str, list[str]],
) -> Row:  # fmt: skip
    method, means = found.methods[at], found.means[at]
    own = [record for record in done if record.label == method]
    there = [i for i in range(len(found.metrics)) if np.isfinite(ranks[at, i])]
    by_family = defaultdict(list)
    for i in there:
        by_family[found.families[i]].append(ranks[at, i])

    def cost(phase: str, what: str) -> float:
        return float(np.mean([record.costs[phase][what] for record in own])) if own else float("nan")

    known = [record.evidence for record in own if record.evidence is not None]
    explained = own[0].n_total * own[0].repeats if own else 1
    unsure: dict[str, float] = {}
    if sure is not None and there:
        unsure = {"low": float(sure.low[at]), "high": float(sure.high[at]), "best": float(sure.best[at])}
    return Row(
        method=method,
        kind=own[0].kind if own else "",
        mean_rank=float(np.mean([ranks[at, i] for i in there])) if there else float("nan"),
        family_rank=float(np.mean([np.mean(r) for r in by_family.values()])) if there else float("nan"),
        means={found.metrics[i]: float(means[i]) for i in there},
        ranks={found.metrics[i]: float(ranks[at, i]) for i in there},
        valid=(int(np.isfinite(found.scores[at]).sum()), expected),
        forwards=cost("attribute", "forwards") / explained,
        backwards=cost("attribute", "backwards") / explained,
        milliseconds=cost("attribute", "seconds") / explained * 1000,
        train_seconds=cost("prepare", "seconds"),
        train_rows=cost("prepare", "forwards") + cost("prepare", "backwards"),
        break_even=_break_even(own),
        evidence=float(np.mean(known)) if known else None,
        gaps=tuple(gaps[method]),
        sample_rank=float(by_sample[at]),
        group=int(sure.group[at]) if sure is not None and there else 0,
        **unsure,
    )


def _disagreement(rows: list[Row]) -> list[str]:
    """Return a note for each other way of ranking that puts methods in another order than ranks of means do."""
    notes = []
    for what, other in (
        ("ranks on each sample order", [row.sample_rank for row in rows]),
        ("ranks in which families of metrics count once order", [row.family_rank for row in rows]),
    ):
        both = [(row.mean_rank, o) for row, o in zip(rows, other, strict=True) if np.isfinite(row.mean_rank + o)]
        tau = float(kendalltau(*zip(*both, strict=True)).statistic) if len(both) > 1 else float("nan")
        if tau < DISAGREE:  # NaN where all are tied, which is no disagreement
            notes.append(f"{what} these methods differently: Kendall's tau {tau:.2f}")
    return notes


def _break_even(own: list[Record]) -> float | None:
    """Return the mean over seeds of the explanations after which training pays, infinite where it never does."""
    reports = [record.report.get("break_even") for record in own]
    found = [report["samples"] for report in reports if isinstance(report, dict) and "samples" in report]
    return float(np.mean([np.inf if samples is None else samples for samples in found])) if found else None
