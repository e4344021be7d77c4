"""Boards from made-up records."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmark.errors import BenchmarkError
from benchmark.metrics import CONSTANT_RESPONSE, METRICS, NON_FINITE, REASONS
from benchmark.plan import metric_facts
from benchmark.records import Cell, Record
from leaderboards.rank import GapError, board, boards, choose
from leaderboards.tables import render

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
        Cell(source, task, method, {}, seed, limit, "f"), "done", label=method,
        metrics=metric_facts(list(NAMES[: len(means)])), n_total=n, costs=costs, scores=pd.concat(rows),
        provenance={"data": {"origin": "o"}, "model": {"accuracy": 0.9, "balanced_accuracy": 0.8}},
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
        return record(name, (0.9, 0.5, 0.1), seed=seed, report={"payback": {"samples": samples}})

    records = [record("plain", (0.8, 0.2, 0.1), seed=seed) for seed in (0, 1)]
    assert "pays after" not in render([board(records)], "table")
    records += [trained("soon", 0, 10), trained("soon", 1, 20), trained("never", 0, None), trained("never", 1, 5)]
    made = board(records)
    rows = {row.method: row for row in made.rows}
    assert rows["plain"].pays_after is None
    assert rows["soon"].pays_after == 15
    assert rows["never"].pays_after == float("inf")
    assert rows["soon"].train_rows == 12
    lines = {line.split("|")[1].strip(): line for line in render([made], "md").splitlines() if line.startswith("|")}
    assert lines["method"].endswith("| train rows | pays after |")
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


def test_a_silent_sample_is_left_out_for_every_method():
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
    with pytest.raises(BenchmarkError, match="different data or with different models"):
        board([a, replace(b, cell=replace(b.cell, fingerprint="g"))])
    newer = {name: facts | {"version": 2} for name, facts in b.metrics.items()}
    with pytest.raises(BenchmarkError, match="different versions of FC"):
        board([a, replace(b, metrics=newer)])


def test_choose():
    records = [record(m, (1, 1, 1)) for m in ("lime", "lint", "random")]
    assert [r.label for r in choose(records, ["li*"])] == ["lime", "lint"]
    assert [r.label for r in choose(records, ["!li*"])] == ["random"]
    assert [r.label for r in choose(records, ["all", "!lime"])] == ["lint", "random"]


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
    assert [r.label for r in choose(records, ["lime"])] == ["lime"]
    assert [r.label for r in choose(records, ["!lime"])] == ["lime[n_samples=20]"]
    assert [r.label for r in choose(records, ["lime*"])] == ["lime", "lime[n_samples=20]"]
    assert [r.label for r in choose(records[1:], ["lime"])] == ["lime[n_samples=20]"], "no record is called just that"
