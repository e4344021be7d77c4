"""Boards from made-up records."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmark.core.errors import BenchmarkError, UsageError
from benchmark.records.record import Cell, Record
from benchmark.running.plan import metric_facts
from benchmark.scoring.metrics import (
    CONSTANT_RESPONSE,
    METRICS,
    MODEL_NON_FINITE,
    NO_EXPLAINER,
    NON_FINITE,
    NOT_APPLICABLE,
    REASONS,
    UNDEFINED,
)
from leaderboards.board import GapError
from leaderboards.check import differences
from leaderboards.overall import overalls
from leaderboards.rank import rankings
from leaderboards.report import page
from leaderboards.selection import choose, with_metrics
from leaderboards.tables import render
from tests.leaderboards.generated import FACTS, IDENTITY, board, boards

NAMES = ("FC", "DEL", "RP")


def record(method, means, n=4, task="t", seed=0, limit=None, source="real", **changes):
    """Return a record whose scores of a metric average to the given mean."""
    rows = []
    for name, mean in zip(NAMES, means, strict=False):
        spread = np.linspace(-0.01, 0.01, n)
        rows.append(
            pd.DataFrame(
                {"sample": range(n), "target": 0, "metric": name, "score": mean + spread, "valid": True, "reason": None}
            )
        )
    costs = {phase: {"forwards": 8, "backwards": 4, "seconds": 0.2} for phase in ("prepare", "attribute", "probe")}
    made = Record(
        Cell(source, task, method, {}, seed, limit), "done", label=method,
        metrics=metric_facts(list(NAMES[: len(means)])), n_total=n, costs=costs, scores=pd.concat(rows),
        identity=IDENTITY, facts=FACTS,
    )  # fmt: skip
    return replace(made, **changes)


def test_mean_ranks_by_hand():
    made = board([record("a", (0.9, 0.5, 0.1)), record("b", (0.8, 0.2, 0.1)), record("c", (0.1, 0.2, 0.4))])
    ranks = {row.method: row for row in made.rows}
    assert ranks["a"].ranks == {"FC": 1, "DEL": 3, "RP": 2.5}  # DEL is better when lower; RP is a tie
    assert ranks["b"].ranks == {"FC": 2, "DEL": 1.5, "RP": 2.5}
    assert ranks["c"].ranks == {"FC": 3, "DEL": 1.5, "RP": 1}
    assert [row.method for row in made.rows] == ["c", "b", "a"]
    assert ranks["c"].mean_rank == pytest.approx(5.5 / 3)
    assert ranks["c"].family_rank == pytest.approx((3 + (1.5 + 1) / 2) / 2)  # DEL and RP are one family
    assert ranks["a"].forwards == 2
    assert ranks["a"].milliseconds == pytest.approx(50)
    assert ranks["a"].valid == (12, 12)


def test_what_is_trained_says_when_it_pays():
    def trained(name, seed, samples):
        return record(name, (0.9, 0.5, 0.1), seed=seed, report={"break_even": {"samples": samples}})

    records = [record("plain", (0.8, 0.2, 0.1), seed=seed) for seed in (0, 1)]
    assert "break-even" not in render([board(records)], "table")
    records += [trained("soon", 0, 10), trained("soon", 1, 20), trained("never", 0, None), trained("never", 1, 5)]
    made = board(records)
    rows = {row.method: row for row in made.rows}
    assert rows["plain"].break_even is None
    assert rows["soon"].break_even == 15
    assert rows["never"].break_even == float("inf")
    assert rows["soon"].train_passes == 12
    lines = {line.split("|")[1].strip(): line for line in render([made], "md").splitlines() if line.startswith("|")}
    assert lines["method"].endswith("| training passes | break-even explanations |")
    assert lines["soon"].endswith("| 12 | 15 |")
    assert lines["never"].endswith("| 12 | never |")
    assert lines["plain"].endswith("| – | – |")
    assert "Infinity" not in render([made], "json")


def test_order_of_records_does_not_matter():
    records = [record(m, (i / 7, i * 2 % 5 / 5, i * 3 % 7 / 7)) for i, m in enumerate("abcde")]
    assert board(records) == board(records[::-1])


def silent(made, sample, name="FC"):
    """Return `made` with a sample on which the model is constant."""
    scores = made.scores.copy()
    there = (scores["sample"] == sample) & (scores["metric"] == name)
    scores.loc[there, ["score", "valid", "reason"]] = [math.nan, False, REASONS[CONSTANT_RESPONSE]]
    return replace(made, scores=scores)


def test_a_sample_of_constant_response_is_left_out_for_every_method():
    a, b = record("a", (0.5, 0.5, 0.5)), record("b", (0.4, 0.5, 0.5))
    b.scores.loc[(b.scores["metric"] == "FC") & (b.scores["sample"] == 0), "score"] = 99.0
    assert board([a, b]).rows[0].method == "b"
    made = board([silent(a, 0), b])
    assert made.rows[0].method == "a"
    assert {row.valid for row in made.rows} == {(11, 12)}
    assert any("1 samples left out of FC" in note for note in made.notes)


def test_a_metric_that_nobody_has_takes_no_part():
    made = record("a", (0.5, 0.5, 0.5))
    for sample in range(4):
        made = silent(made, sample)
    result = board([made, record("b", (0.4, 0.6, 0.5))])
    assert "FC" not in result.metrics
    assert any("FC is undefined" in note for note in result.notes)


def broken(made):
    scores = made.scores.copy()
    there = scores["sample"] == 1
    scores.loc[there, ["score", "valid", "reason"]] = [math.nan, False, REASONS[NON_FINITE]]
    return replace(made, scores=scores, n_failed=1, reason="the attribution of 1 of 4 samples is not finite")


@pytest.mark.parametrize(
    ("hole", "message"),
    [
        (record("b", (0.1, 0.2)), "b: no RP"),
        (replace(record("b", (0.1,)), status="failed", reason="boom"), r"b: failed \(boom\)"),
        (broken(record("b", (0.1, 0.2, 0.3))), "1 of 4 samples"),
    ],
    ids=["metric", "failed", "samples"],
)
def test_no_mean_is_taken_over_holes(hole, message):
    records = [record("a", (0.5, 0.5, 0.5)), hole, record("c", (0.4, 0.4, 0.4))]
    with pytest.raises(GapError, match=message):
        board(records)
    made = board(records, partial=True)
    assert len(made.rows) == 3
    text = render([made], "table")
    assert "b*" in text


def test_a_missing_seed_is_a_hole():
    records = [record("a", (0.5, 0.5, 0.5), seed=s) for s in (0, 1)] + [record("b", (0.4, 0.4, 0.4))]
    with pytest.raises(GapError, match="b: no record for seed 1"):
        board(records)
    made = board([*records, record("b", (0.6, 0.6, 0.6), seed=1)])
    assert made.seeds == (0, 1)
    assert made.rows[0].means["FC"] == pytest.approx(0.5)


def test_a_method_that_failed_under_one_seed_is_a_hole_with_its_reason():
    one = record("b", (0.2, 0.3), seed=1)
    failed = replace(one, status="failed", reason="boom", metrics={}, scores=Record(one.cell, "failed").scores)
    found = [record("a", (1, 2)), record("a", (1, 2), seed=1), record("b", (0.1, 0.2)), failed]
    with pytest.raises(GapError, match=r"b: failed \(boom\)"):
        board(found)
    text = render([board(found, partial=True)], "table")
    assert "b*" in text
    assert "boom" in text
    assert "boom" in page(rankings(found, partial=True), lambda _: [], [])


def test_nothing_but_failures():
    with pytest.raises(GapError, match="no method was evaluated on t"):
        board([replace(record("a", (1,)), status="failed", reason="boom")], partial=True)


def test_sources_tasks_and_limits_never_share_a_board():
    records = [
        record("a", (1, 1, 1)), record("a", (1, 1, 1), source="synthetic"),
        record("a", (1, 1, 1), limit=2), record("a", (1, 1, 1), task="u"),
    ]  # fmt: skip
    made = boards(records)
    assert [(b.source, b.task, b.limit) for b in made] == [
        ("real", "t", None), ("real", "t", 2), ("real", "u", None), ("synthetic", "t", None),
    ]  # fmt: skip
    assert "SYNTHETIC" in render(made, "table").splitlines()[-8] or "SYNTHETIC" in render([made[3]], "md")


def test_records_that_do_not_belong_together_are_refused():
    a, b = record("a", (1, 1, 1)), record("b", (1, 1, 1))
    for part, said in {"data": "on different data", "model": "with different models", "task": "as other"}.items():
        with pytest.raises(BenchmarkError, match=rf"{said}.*{IDENTITY[part]}: a; another1: b"):
            board([a, replace(b, identity=b.identity | {part: "another1"})])
    newer = {name: facts | {"version": 2} for name, facts in b.metrics.items()}
    with pytest.raises(BenchmarkError, match="different versions of FC"):
        board([a, replace(b, metrics=newer)])


def test_choose():
    records = [record(m, (1, 1, 1)) for m in ("lime", "lint", "random")]
    assert [r.label for r in choose(records, "li*")] == ["lime", "lint"]
    assert [r.label for r in choose(records, "!li*")] == ["random"]
    assert [r.label for r in choose(records, "all,!lime")] == ["lint", "random"]
    for text, message in {
        "liem": "did you mean 'lime'",
        "lime,!lime": "leaves no method",
        "": "expected names",
    }.items():
        with pytest.raises(UsageError, match=message):
            choose(records, text)


def test_json_has_no_nan():
    made = board(
        [record("a", (0.5, 0.5, 0.5)), replace(record("b", (1,)), status="failed", reason="boom")], partial=True
    )
    text = render([made], "json")
    assert "NaN" not in text
    assert json.loads(text)[0]["rows"][1]["mean_rank"] is None


def test_metric_columns_follow_the_table_of_metrics():
    made = board([record("a", (1, 1, 1))])
    assert list(made.metrics) == [name for name in METRICS if name in NAMES]


def test_a_label_means_just_that_method():
    records = [replace(record("lime", (0.5,)), label=label) for label in ("lime", "lime[n_samples=20]")]
    assert [r.label for r in choose(records, "lime")] == ["lime"]
    assert [r.label for r in choose(records, "!lime")] == ["lime[n_samples=20]"]
    assert [r.label for r in choose(records, "lime*")] == ["lime", "lime[n_samples=20]"]
    assert [r.label for r in choose(records[1:], "lime")] == ["lime[n_samples=20]"], "no record is called just that"


def test_two_parameters_in_a_label_are_chosen():
    label = "lime[n_samples=20,penalty=0.1]"
    records = [replace(record("lime", (0.5,)), label=label), record("saliency", (0.4,))]
    assert [r.label for r in choose(records, label)] == [label]
    assert [r.label for r in choose(records, f"!{label}")] == ["saliency"]


def test_records_of_one_label_made_otherwise_are_rows_of_their_own():
    def mine(mean, code="c0ffee00", **params):
        made = record("mine", (mean,))
        return replace(made, cell=replace(made.cell, params=params), identity=made.identity | {"code": code})

    other = record("other", (0.5,))
    made = board([mine(0.9, k=1), mine(0.1, k=2), other])
    assert {row.method: row.means["FC"] for row in made.rows} == {
        "mine[k=1]": pytest.approx(0.9), "other": pytest.approx(0.5), "mine[k=2]": pytest.approx(0.1),
    }  # fmt: skip
    assert made == board([mine(0.1, k=2), other, mine(0.9, k=1)]), "the order of records plays no part"
    edited = board([mine(0.9), mine(0.1, code="beef0000"), other])
    assert {row.method for row in edited.rows} == {"mine (code c0ffee00)", "mine (code beef0000)", "other"}
    seeds = [
        replace(one, cell=replace(one.cell, seed=seed)) for seed in (0, 1) for one in (mine(0.9, k=1), mine(0.1, k=2))
    ]
    assert {row.method for row in board(seeds).rows} == {"mine[k=1]", "mine[k=2]"}


def test_labels_are_told_apart_by_the_names_of_parameters_and_by_distribution():
    """`a` is no part of `alpha`; nothing is averaged over seeds that were made in two ways."""

    def mine(seed, distribution="p 1.0", **params):
        made = record("mine[alpha=1]", (0.5,))
        cell = replace(made.cell, seed=seed, params=params | {"alpha": 1})
        return replace(made, cell=cell, identity=made.identity | {"distribution": distribution})

    two = [mine(seed, a=a) for seed in (0, 1) for a in (1, 2)]
    assert {row.method for row in board(two).rows} == {"mine[alpha=1,a=1]", "mine[alpha=1,a=2]"}
    other = [mine(0, "p 1.0"), mine(0, "p 1.1")]
    assert {row.method for row in board(other).rows} == {"mine[alpha=1] (p 1.0)", "mine[alpha=1] (p 1.1)"}
    with pytest.raises(GapError, match="no record for seed"):
        board([mine(0, "p 1.0"), mine(1, "p 1.1")])


def test_devices_share_no_board():
    a = record("a", (1, 1, 1))
    made = boards([a, replace(a, cell=replace(a.cell, device="cuda"))])
    assert [found.device for found in made] == ["cpu", "cuda"]
    assert "cuda" in render(made, "table")


def test_a_record_cannot_turn_a_metric_round():
    a, b = record("a", (0.9,)), record("b", (0.1,))
    turned = replace(b, metrics={"FC": b.metrics["FC"] | {"higher_is_better": False}})
    with pytest.raises(BenchmarkError, match="hold different versions of FC: higher_is_better"):
        board([a, turned])
    with pytest.raises(BenchmarkError, match="says that lower FC is better"):
        board([turned])


def test_tasks_and_metrics_that_are_not_known_here_are_shown():
    facts = {"version": 3, "higher_is_better": False, "family": "mine", "order": 10, "title": "Mine"}

    def unknown(method, mean):
        made = record(method, (0.5, 0.5, 0.5), task="nobody_knows")
        scores = made.scores[made.scores["metric"] == "FC"].assign(metric="MINE", score=mean)
        return replace(made, metrics=made.metrics | {"MINE": facts}, scores=pd.concat([made.scores, scores]))

    records = [unknown("a", 2.0), unknown("b", 1.0)]
    ten, made = boards(records)
    assert "MINE" not in ten.metrics
    assert ten.rows == board([record(method, (0.5, 0.5, 0.5), task="nobody_knows") for method in "ab"]).rows
    assert (made.metrics, made.group) == ({"MINE": False}, "own")
    assert made.rows[0].method == "b"
    assert "MINE↓" in render([made], "md")
    assert "nobody_knows · own metrics: MINE · " in render([made], "md")
    (paper, csv) = render([ten], "csv"), render([ten, made], "csv")
    assert differences(paper, csv) == []  # a board of the ten is the same beside others
    older = "\n".join(line.rpartition(",")[0] for line in paper.splitlines())
    assert differences(older, csv) == []


def asked(method, score, reason=None):
    """Return a record that has a score in SENS, or none for a reason."""
    made = record(method, (0.5, 0.5, 0.5))
    more = made.scores[made.scores["metric"] == "FC"].assign(
        metric="SENS", score=score, valid=reason is None, reason=reason and REASONS[reason]
    )
    return replace(made, metrics=made.metrics | metric_facts(["SENS"]), scores=pd.concat([made.scores, more]))


def test_who_gave_attributions_alone_has_a_dash_and_no_gap():
    given = asked("given", math.nan, NO_EXPLAINER)
    records = [asked("a", 0.2), given, asked("b", 0.1), record("c", (0.4, 0.4, 0.4))]
    ten, stable = boards(records)
    assert [row.method for row in stable.rows] == ["b", "a", "given"]
    assert math.isnan(stable.rows[-1].mean_rank)
    assert stable.rows[-1].gaps == ()
    assert "given has no SENS: only attributions were given" in stable.notes
    assert "scored in other metrics alone: c" in stable.notes
    assert len(ten.rows) == 4
    assert "SENS" not in ten.metrics
    (line,) = [line for line in render([stable], "table").splitlines() if line.startswith("given  ")]
    assert " – " in line
    undefined = [asked("a", 0.2), asked("b", math.nan, UNDEFINED)]
    with pytest.raises(GapError, match="b: no SENS, SENS is undefined on 4 samples"):
        boards(undefined)


def test_a_group_that_is_not_for_a_task_is_said_and_stops_no_page():
    records = [asked(method, math.nan, NOT_APPLICABLE) for method in "ab"]
    made = rankings(records)
    assert [ranking.board.group for ranking in made] == ["ten", "stability"]
    assert "stability metrics: none is defined here" in render([made[1].board], "table")
    assert "SENS is undefined on every sample and takes no part" in made[1].board.notes
    other = [replace(each, cell=replace(each.cell, task="u")) for each in records]
    text = page(rankings([*records, *other]), lambda _: [], overalls(rankings([*records, *other])))
    assert "stability" not in text


def test_metrics_are_chosen_among_those_of_the_records():
    records = [asked("a", 0.2), asked("b", 0.1)]
    assert [list(record.metrics) for record in with_metrics(records, "stability,del")] == [["DEL", "SENS"]] * 2
    assert [list(record.metrics) for record in with_metrics(records, "ten")] == [list(NAMES)] * 2
    with pytest.raises(UsageError, match="these records have FC, DEL, RP, SENS"):
        with_metrics(records, "ins")
    with pytest.raises(UsageError, match="unknown metric 'roar'"):
        with_metrics(records, "roar")
    claimed = records[0].metrics | {"SENS": records[0].metrics["SENS"] | {"group": "ten"}}
    with pytest.raises(BenchmarkError, match="the group 'ten', which is not what SENS is here"):
        boards([replace(records[0], metrics=claimed), records[1]])


def test_a_model_that_answered_no_number_is_left_out_for_every_method_and_said():
    a, b = record("a", (0.5, 0.5, 0.5)), record("b", (0.4, 0.5, 0.5))
    there = (a.scores["sample"] == 0) & (a.scores["metric"] == "DEL")
    a.scores.loc[there, ["score", "valid", "reason"]] = [math.nan, False, REASONS[MODEL_NON_FINITE]]
    made = board([a, b])
    assert "1 samples left out of DEL: the model's answer is not finite" in made.notes
    assert {row.valid for row in made.rows} == {(11, 12)}


def test_scores_that_own_a_mean_are_counted():
    a = record("a", (0.5, 0.5, 0.5))
    a.scores.loc[(a.scores["metric"] == "RP") & (a.scores["sample"] == 2), "score"] = -400.0
    assert any(note.startswith("1 scores of RP lie beyond 10") for note in board([a, record("b", (1, 1, 1))]).notes)


def test_labels_reach_no_form_raw():
    label = "=evil[a=$\\bad$|x\ny\x1b[31m]"
    made = [board([replace(record("a", (0.5,)), label=label), record("b", (0.4,))])]
    for form in ("table", "md", "latex", "csv"):
        text = render(made, form)
        assert "\x1b" not in text
        assert "\ny" not in text
    assert "'=evil" in render(made, "csv")
    assert r"\$\textbackslash{}bad\$" in render(made, "latex")
    assert r"\|x" in render(made, "md")


def test_a_published_board_does_not_hang_on_times():
    from leaderboards.check import differences
    from leaderboards.tables import to_csv

    def csv(seconds, score=0.5):
        made = record("lime", (score,))
        costs = {phase: dict(cost, seconds=seconds) for phase, cost in made.costs.items()}
        return to_csv([board([replace(made, costs=costs), record("other", (0.4,))])])

    assert differences(csv(1.0), csv(2.0)) == []
    assert differences(csv(1.0), csv(2.0, 0.6))


def test_a_pattern_may_take_away_nothing():
    records = [record("lime", (0.5,)), record("other", (0.4,))]
    assert len(choose(records, "!exact_*")) == 2
    with pytest.raises(UsageError, match="unknown method 'exat'"):
        choose(records, "!exat")
