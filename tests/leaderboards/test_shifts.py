"""What conventions do to boards of made-up records."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from leaderboards.conventions import CONVENTIONS, Convention
from leaderboards.orders import first_half, scaled_means, shared_best, without_copies, without_kinds
from leaderboards.rank import rank
from leaderboards.shifts import render, shifts
from tests.leaderboards.test_rank import record

NAMED = {each.name: each for each in CONVENTIONS}
BOARD = [
    record("a", (0.9, 0.1, 0.5), kind="learned"), record("b", (0.8, 0.2, 0.4), kind="baseline"),
    record("c", (0.1, 0.8, 0.1), kind="baseline"), record("noise", (0.0, 0.9, 0.0), kind="control"),
]  # fmt: skip


def measured(conventions, otherwise=None, records=BOARD, **more):
    """Return the shifts by name of conventions, and all of it."""
    found = shifts(records, conventions, otherwise or {}, **more)
    return {shift.convention: shift for shift in found.shifts}, found


def test_a_record_takes_the_place_of_a_method():
    better_c = Convention("better c", "", "", settings={"c": {"x": "1"}})
    by_name, found = measured([better_c], {"better c": {"c": record("c[x=1]", (0.95, 0.05, 0.6))}})
    assert found.conclusions == (("a", "b"), ("a", "c"), ("b", "c")), "the control concludes nothing"
    shift = by_name["better c"]
    assert shift.ranks == {"c": 1, "a": 2, "b": 3, "noise": 4}
    assert list(shift.ranks) == ["c", "a", "b", "noise"]
    assert shift.replaced == ("c",)
    assert shift.leaders == ("c",)
    assert shift.moved == 3
    assert shift.tau == pytest.approx(1 - 2 * 2 / 6)
    assert shift.against == (("a", "c"), ("b", "c"))
    assert found.against == {("a", "c"): ["better c"], ("b", "c"): ["better c"]}
    assert found.surviving == [("a", "b")]


def test_a_whole_run_takes_the_place_of_the_board():
    run = {each.label: replace(each, cell=replace(each.cell, seed=1)) for each in BOARD if each.label != "b"}
    by_name, found = measured([NAMED["another seed"]], {"another seed": run})
    assert by_name["another seed"].ranks == {"a": 1, "c": 2, "noise": 3}, "b has no record there"
    assert by_name["another seed"].moved == 0
    assert found.surviving == list(found.conclusions)


def test_one_that_is_equal_does_not_stand_before():
    as_b = Convention("as b", "", "", settings={"a": {}})
    by_name, _ = measured([as_b], {"as b": {"a": record("a", (0.8, 0.2, 0.4))}})
    assert by_name["as b"].against == (("a", "b"),)
    assert by_name["as b"].leaders == ("a", "b")


def test_metrics_samples_and_company_are_those_of_the_convention():
    names = ["deletion counts once", "correlations alone", "curves alone", "half of the samples", "without controls"]
    by_name, found = measured([NAMED[name] for name in names])
    assert not found.unmeasured
    assert "noise" not in by_name["without controls"].ranks
    assert all(shift.moved == 0 for shift in by_name.values())
    half = first_half(BOARD[0])
    assert (half.n_total, sorted(set(half.scores["sample"]))) == (2, [0, 1])
    split = [record("a", (0.9, 0.9, 0.1)), record("b", (0.1, 0.1, 0.9))]
    by_name, _ = measured([NAMED["correlations alone"], NAMED["curves alone"]], records=split)
    assert by_name["correlations alone"].leaders == ("a",)
    assert by_name["curves alone"].leaders == ("b",)


def test_a_convention_that_cannot_be_measured_says_why():
    conventions = [NAMED["without oracles"], NAMED["LIME as Captum"], NAMED["correlations alone"]]
    deletion = {"DEL": record("a", (0, 0)).metrics["DEL"]}
    records = [
        replace(each, metrics=deletion, scores=each.scores.assign(metric="DEL"))
        for each in (record("a", (0.9,)), record("b", (0.8,)))
    ]
    by_name, found = measured(conventions, records=records, unmeasured={"LIME as Captum": "lime failed"})
    assert not by_name
    assert found.unmeasured == {
        "LIME as Captum": "lime failed",
        "without oracles": "it leaves out nobody on this board",
        "correlations alone": "nothing is left to rank",
    }
    assert "not measured: LIME as Captum: lime failed" in render(found, "table")


def test_a_convention_that_changes_no_score_counts_for_nothing():
    same, other = (Convention(name, "", "", settings={"c": {"x": "1"}}) for name in ("same", "other"))
    places = {"same": {"c": record("c[x=1]", (0.1, 0.8, 0.1))}, "other": {"c": record("c[x=2]", (0.1, 0.8, 0.2))}}
    by_name, found = measured([same, other, NAMED["median of ranks"]], places)
    assert {name: shift.idle for name, shift in by_name.items()} == {
        "same": True, "other": False, "median of ranks": False,
    }  # fmt: skip
    text = render(found, "table")
    assert "not counted, since no score is another here: same." in text
    assert "hold under all 2 conventions" in text
    assert "leads, alone or with others: a 2." in text


def test_rules_by_hand():
    """Ranks: FC a 1.5, b 1.5, c 3; DEL a 3, b 1, c 2."""
    ranking = rank([record("a", (0.9, 0.5)), record("b", (0.9, 0.1)), record("c", (0.1, 0.2))], draws=0)
    assert shared_best(ranking) == {"a": 2.0, "b": 1.0, "c": 2.5}
    assert scaled_means(ranking) == pytest.approx({"a": 1 + 2 * 0.5, "b": 1.0, "c": 1 + 2 * (1 + 0.25) / 2})
    assert NAMED["median of ranks"].order(ranking) == {"a": 2.25, "b": 1.25, "c": 2.5}
    assert NAMED["families count once"].order(ranking) == {"a": 2.25, "b": 1.25, "c": 2.5}
    assert NAMED["samples ranked first"].order(ranking) == {"a": 2.25, "b": 1.25, "c": 2.5}


def test_scaled_scores_of_equals_are_in_the_middle():
    ranking = rank([record("a", (0.5, 0.5)), record("b", (0.5, 0.1))], draws=0)
    assert scaled_means(ranking) == pytest.approx({"a": 1 + (0.5 + 1) / 2, "b": 1 + 0.5 / 2})


def test_company():
    twins = [*BOARD, record("b2", (0.8, 0.2, 0.4)), record("near", (0.8, 0.2, 0.41))]
    ranking = rank(twins, draws=0)
    assert without_copies(ranking) == {"a", "b", "c", "near", "noise"}
    assert without_kinds(("learned", "control"), ranking) == {"b", "b2", "c", "near"}


def test_a_board_of_one_score_concludes_nothing():
    records = [record("a", (0.9, 0.1), n=1), record("b", (0.1, 0.9), n=1)]
    _, found = measured([NAMED["families count once"]], records=records)
    assert found.conclusions == ()
    assert "it concludes nothing" in render(found, "table")


def test_forms():
    changed = {"b wins": {"b": record("b[x=1]", (0.99, 0.0, 0.99))}}
    _, found = measured([Convention("b wins", "", "", settings={"b": {}}), NAMED["without controls"]], changed)
    plain = json.loads(render(found, "json"))
    assert plain["against"] == [{"better": "a", "worse": "b", "conventions": ["b wins"]}]
    assert plain["surviving"] == [["a", "c"], ["b", "c"]]
    assert plain["shifts"][0]["ranks"] == {"b": 1, "a": 2, "c": 3, "noise": 4}
    board, first, second = csv.DictReader(io.StringIO(render(found, "csv")))
    assert (board["convention"], board["leaders"], board["a"]) == ("the board", "a", "1.0")
    assert (first["leaders"], first["moved"], first["against"], first["b"]) == ("b", "2", "1", "1.0")
    assert second["noise"] == ""
    for form in ("table", "md", "latex"):
        text = render(found, form)
        assert "b wins" in text
        assert "2.0*" not in text
        assert "1.0*" in text
        assert "2 of 3 conclusions" in text
        assert "leads, alone or with others: b 1, a 1." in text
        assert "a before b" in text
    assert np.isnan(shifts([BOARD[0]], [NAMED["median of ranks"]], {}).shifts[0].tau)
