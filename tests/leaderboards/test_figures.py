"""Figures of how sure ranks are."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from benchmark.cli.parser import main
from benchmark.core.errors import UsageError
from benchmark.records.store import RecordStore
from leaderboards.figures import _cliques, critical_figure, intervals_figure, losses_figure
from leaderboards.inline_svg import inline_svg
from leaderboards.overall import overall
from leaderboards.rank import rankings
from tests.leaderboards.generated import board, several


def test_intervals_figure_shows_every_method_and_its_interval():
    made = board(several(1, 6, 2, 20)[0])
    axes = intervals_figure(made).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [row.method for row in made.rows]
    drawn = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 4]
    assert "bars at the left join ties" in axes.get_title(loc="left")
    assert [tuple(ends) for ends in drawn] == [(row.low, row.high) for row in made.rows]


def test_critical_figure_joins_what_cannot_be_told_apart():
    assert _cliques([1.0, 2.0, 2.5, 5.0], 1.2) == [(1.0, 2.0), (2.0, 2.5)]
    assert _cliques([1.0, 2.0, 2.5, 5.0], 9.0) == [(1.0, 5.0)]
    assert _cliques([1.0, 3.0], 1.0) == []
    found = overall(rankings(several(3, 5, 1, 12)[0]))
    figure = critical_figure(found)
    words = [text.get_text() for text in figure.axes[0].texts]
    assert all(any(word.startswith(f"{row.method} {row.mean_rank:.2f}") for word in words) for row in found.rows)
    with pytest.raises(UsageError, match="two methods that are on all tasks"):
        critical_figure(replace(found, rows=found.rows[:1]))


@pytest.mark.parametrize("what", ["intervals", "critical", "cost"])
def test_plot_draws(tmp_path, capsys, what):
    store = RecordStore(tmp_path).open()
    for record in several(2, 4, 1, 10)[0]:
        store.write(
            replace(record, cell=replace(record.cell, task={"t00": "nap_mlp", "t01": "wcd_mlp"}[record.cell.task]))
        )
    path = tmp_path / "figure.svg"
    task = "*_mlp" if what == "critical" else "nap_mlp"
    assert main(["plot", what, "--task", task, "--out", str(tmp_path), "--figure", str(path)]) == 0
    assert path.read_text().startswith("<?xml")
    one = main(["plot", "critical", "--task", "nap_mlp", "--out", str(tmp_path), "--figure", str(path)])
    assert one == 2
    assert "two tasks at least" in capsys.readouterr().err


def test_a_figure_in_a_page_takes_its_colours_and_says_what_each_point_is():
    made = board(several(1, 4, 1, 12)[0])
    svg = inline_svg(intervals_figure(made, headed=False), "ranks <here>")
    assert svg.startswith("<svg viewBox=")
    assert svg.endswith("</svg>")
    assert 'aria-label="ranks &lt;here&gt;"' in svg
    for row in made.rows:
        assert f"<title>{row.method}: {row.mean_rank:.2f}; 95 % interval {row.low:.1f} to {row.high:.1f}</title>" in svg
    assert "var(--ink)" in svg
    assert "var(--dot)" in svg
    assert "http" not in svg
    assert "<style" not in svg
    assert "font-family" not in svg
    assert not re.search(r"#[0-9a-f]{6}", svg.replace("#ffffff", "")), "no colour of its own is left"
    again = inline_svg(intervals_figure(made, headed=False), "other")
    ids = [set(re.findall(r'id="([^"]*)"', text)) for text in (svg, again)]
    assert ids[0]
    assert ids[0].isdisjoint(ids[1]), "two figures on a page share no name"


def test_small_losses_keep_their_digits():
    curves = [{"iteration": float(i), "loss": 0.01 + 0.001 * i} for i in range(1, 6)]
    records = [replace(r, report={"curves": curves}) for r in several(1, 2, 1, 5)[0]]
    assert re.search(r">0\.01\d*<", inline_svg(losses_figure(records), "losses"))
    assert losses_figure(several(1, 2, 1, 5)[0]) is None
