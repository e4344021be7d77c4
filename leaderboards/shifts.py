"""What conventions do to a board: each alone, the board ranked again, and which of its conclusions hold under all."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import permutations

import numpy as np
from scipy.stats import kendalltau

from benchmark.core.errors import BenchmarkError
from benchmark.records.record import Record
from leaderboards.board import Board
from leaderboards.conventions import Convention
from leaderboards.orders import mean_ranks
from leaderboards.rank import Ranking, rank
from leaderboards.score_array import DIGITS, mid_ranks
from leaderboards.tables import TextTable, in_csv, in_json, number, title, write

APART = ("control", "oracle")
"""Kinds that lead no board and about which a board concludes nothing."""
SHOWN = 8
"""Methods that have a column, the best of the board; csv and json have all."""


@dataclass(frozen=True)
class Shift:
    """A board under one convention.

    Attributes:
        convention: its name.
        ranks: by method, what they are ordered by, best first.
        replaced: the methods that are otherwise than on the board.
        leaders: the best, of those that are neither control nor oracle.
        moved: how many methods change place among those that both boards have.
        tau: Kendall's tau-b of the two orders of these; NaN where one of them orders nothing.
        against: the conclusions of the board that do not hold, each a better and a worse method.
        idle: whether what it replaces has the scores of the board, each of them: it does nothing on this task.
    """

    convention: str
    ranks: dict[str, float]
    replaced: tuple[str, ...]
    leaders: tuple[str, ...]
    moved: int
    tau: float
    against: tuple[tuple[str, str], ...]
    idle: bool = False


@dataclass(frozen=True)
class Shifts:
    """A board, and what conventions do to it.

    Attributes:
        board: as it is.
        conclusions: pairs of a better and a worse method, neither control nor oracle, whose intervals on the board do
            not overlap; none where the board has no intervals.
        shifts: one a convention.
        unmeasured: by convention, why there is no board under it.
    """

    board: Board
    conclusions: tuple[tuple[str, str], ...]
    shifts: tuple[Shift, ...]
    unmeasured: dict[str, str]

    @property
    def against(self) -> dict[tuple[str, str], list[str]]:
        """Return by conclusion the conventions under which it does not hold, without those that hold under all."""
        found = defaultdict(list)
        for shift in self.shifts:
            for pair in shift.against:
                found[pair].append(shift.convention)
        return {pair: found[pair] for pair in self.conclusions if pair in found}

    @property
    def surviving(self) -> list[tuple[str, str]]:
        """Return the conclusions that hold under every convention measured."""
        against = self.against
        return [pair for pair in self.conclusions if pair not in against]


def shifts(
    records: Sequence[Record],
    conventions: Sequence[Convention],
    otherwise: Mapping[str, Mapping[str, Record]],
    unmeasured: Mapping[str, str] | None = None,
) -> Shifts:
    """Rank a board again under each convention.

    Args:
        records: of one board and one seed, one a method.
        conventions: those to measure.
        otherwise: by convention that replaces or runs methods, by label the record that takes that method's place;
            where such a convention asks for another seed, model or precision, all methods that it has.
        unmeasured: by convention, why its records are not there.

    Raises:
        GapError: a record of the board is incomplete.
        BenchmarkError: records that do not belong together.
    """
    base = rank(list(records))
    conclusions = tuple(
        (better.method, worse.method)
        for better, worse in permutations([row for row in base.board.rows if row.kind not in APART], 2)
        if better.high < worse.low
    )
    measured, failed = [], dict(unmeasured or {})
    for convention in conventions:
        if convention.name in failed:
            continue
        places = otherwise.get(convention.name, {})
        try:
            ranking = _ranked(base, records, convention, places)
        except BenchmarkError as error:
            failed[convention.name] = str(error)
            continue
        measured.append(_shift(base, convention, ranking, tuple(places), conclusions))
    return Shifts(base.board, conclusions, tuple(measured), failed)


def _ranked(base: Ranking, records: Sequence[Record], convention: Convention, places: Mapping[str, Record]) -> Ranking:
    """Return the ranking under a convention.

    Raises:
        BenchmarkError: its records have gaps, or nothing is left to rank.
    """
    if convention.asked:
        chosen = [replace(record, label=label) for label, record in places.items()]
    else:
        chosen = [replace(places.get(record.label, record), label=record.label) for record in records]
    if convention.company is not None:
        company = convention.company(base)
        if len(company) == len(chosen):
            raise BenchmarkError("it leaves out nobody on this board")
        chosen = [record for record in chosen if record.label in company]
    if convention.part is not None:
        chosen = [convention.part(record) for record in chosen]
    if not chosen or not all(record.metrics for record in chosen):
        raise BenchmarkError("nothing is left to rank")
    return rank(chosen, draws=0)


def _shift(
    base: Ranking,
    convention: Convention,
    ranking: Ranking,
    replaced: tuple[str, ...],
    conclusions: tuple[tuple[str, str], ...],
) -> Shift:
    before = mean_ranks(base)
    rounded = {method: round(value, DIGITS) for method, value in convention.order(ranking).items()}
    after = dict(sorted(rounded.items(), key=lambda item: (item[1], item[0])))
    kinds = {row.method: row.kind for row in base.board.rows}
    common = [method for method in before if method in after]
    old, new = (np.round([values[method] for method in common], DIGITS) for values in (before, after))
    able = {method: value for method, value in after.items() if kinds[method] not in APART}
    return Shift(
        convention.name,
        after,
        () if convention.asked else replaced,
        tuple(method for method, value in able.items() if value == min(able.values())),
        int((mid_ranks(old) != mid_ranks(new)).sum()),
        float(kendalltau(old, new).statistic) if len(common) > 1 else float("nan"),
        tuple((a, b) for a, b in conclusions if a in after and b in after and not after[a] < after[b]),
        not convention.ranks_alone and _same_scores(base, ranking),
    )


def _same_scores(one: Ranking, other: Ranking) -> bool:
    """Tell whether all scores of two boards of the same methods are equal."""
    ours, theirs = one.scores, other.scores
    if (ours.methods, ours.metrics, ours.scores.shape) != (theirs.methods, theirs.metrics, theirs.scores.shape):
        return False
    return np.allclose(ours.scores, theirs.scores, rtol=0, atol=10**-DIGITS, equal_nan=True)


def render(found: Shifts, form: str) -> str:
    """Return shifts as text in one of the forms table, md, latex, csv, json."""
    if form == "json":
        against = [{"better": a, "worse": b, "conventions": names} for (a, b), names in found.against.items()]
        return in_json(asdict(found) | {"against": against, "surviving": [list(pair) for pair in found.surviving]})
    methods = [row.method for row in found.board.rows]
    if form == "csv":
        rows = [["the board", ";".join(_leaders(found.board)), 1.0, 0, 0, *(row.mean_rank for row in found.board.rows)]]
        rows += [
            [s.convention, ";".join(s.leaders), s.tau, s.moved, len(s.against), *(s.ranks.get(m, "") for m in methods)]
            for s in found.shifts
        ]
        return in_csv(["convention", "leaders", "tau", "moved", "against", *methods], rows)
    return "\n\n".join(write(table, form) for table in [table_of(found), *_broken(found)])


def table_of(found: Shifts) -> TextTable:
    """Return one row a convention."""
    shown = [row.method for row in found.board.rows if row.kind not in APART][:SHOWN]
    ranks = {row.method: row.mean_rank for row in found.board.rows}
    rows = [["the board", ", ".join(_leaders(found.board)), "–", "–", "–", *(number(ranks[m], 1) for m in shown)]]
    for shift in found.shifts:
        cells = [number(shift.ranks.get(method), 1) + ("*" if method in shift.replaced else "") for method in shown]
        rows.append([
            shift.convention, ", ".join(shift.leaders), number(shift.tau, 2), str(shift.moved), str(len(shift.against)),
            *cells,
        ])  # fmt: skip
    header = ["convention", "leads", "tau", "moved", "against", *shown]
    return TextTable(f"conventions · {title(found.board)}", header, rows, _lines(found, shown))


def _leaders(board: Board) -> list[str]:
    able = [row for row in board.rows if row.kind not in APART]
    return [row.method for row in able if row.mean_rank == able[0].mean_rank]


def _lines(found: Shifts, shown: Sequence[str]) -> list[str]:
    """Return how to read the table, and what became of the conclusions."""
    lines = [
        "leads: of the methods that are neither control nor oracle. tau: Kendall's, of the order of all methods with "
        "that of the board; moved: methods that change place; against: conclusions of the board that do not hold.",
        f"ranks of the {len(shown)} best of the board; * made otherwise than on the board.",
    ]
    telling = [shift for shift in found.shifts if not shift.idle]
    leads = Counter(method for shift in telling for method in shift.leaders)
    if leads:
        lines.append("leads, alone or with others: " + ", ".join(f"{m} {n}" for m, n in leads.most_common()) + ".")
    kept = found.surviving
    if not found.conclusions:
        lines.append("the board has no two methods whose intervals are apart: it concludes nothing.")
    else:
        lines.append(
            f"{len(kept)} of {len(found.conclusions)} conclusions (one method before another, their intervals apart, "
            f"no control or oracle) hold under all {len(telling)} conventions."
        )
    if kept:
        worse = defaultdict(list)
        for a, b in kept:
            worse[a].append(b)
        lines.append("they are: " + "; ".join(f"{a} before {', '.join(others)}" for a, others in worse.items()) + ".")
    if idle := [shift.convention for shift in found.shifts if shift.idle]:
        lines.append(f"not counted, since no score is another here: {', '.join(idle)}.")
    lines += [f"not measured: {name}: {why}" for name, why in found.unmeasured.items()]
    return lines


def _broken(found: Shifts) -> list[TextTable]:
    """Return the conclusions that do not hold under all conventions as a table, if there are any."""
    rows = [[f"{a} before {b}", str(len(names)), ", ".join(names)] for (a, b), names in found.against.items()]
    header = ["conclusion", "against", "conventions"]
    return [TextTable("conclusions that a convention overturns", header, rows, [])] if rows else []
