"""Ablations from records made by hand."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from leaderboards.ablation import ablation, render
from leaderboards.board import GapError
from leaderboards.figures import ablation_figure, cost_figure, curves_figure, optimum_figure, save
from tests.leaderboards.generated import board
from tests.leaderboards.test_rank import record

LABELS = {"full": "full", "half": "full[half=1]"}


def several(seeds=(0, 1)):
    """`full` is best in both metrics, `half` in one, of rivals a and b; scores differ by seed."""
    made = []
    for seed in seeds:
        made += [
            record("a", (0.5, 0.5), seed=seed),
            record("b", (0.1, 0.9), seed=seed),
            record("full", (0.8 + 0.1 * seed, 0.2), seed=seed),
            record("full[half=1]", (0.7, 0.6 + 0.4 * seed), seed=seed),
        ]
    return made


def test_each_variant_is_ranked_alone_among_the_rivals():
    found = ablation(several(), LABELS)
    full, half = found.variants
    assert full.ranks == (1.0, 1.0), "the other variant is no rival"
    assert half.ranks == (1.5, 2.0)
    assert half.rank == 1.75
    assert half.rank_spread == pytest.approx(np.std([1.5, 2.0], ddof=1))
    assert full.means["FC"] == pytest.approx(0.85)
    assert full.spreads["FC"] == pytest.approx(np.std([0.8, 0.9], ddof=1))
    assert found.rivals == ("a", "b")
    assert found.seeds == (0, 1)


def test_one_seed_has_no_spread():
    found = ablation(several((3,)), LABELS)
    assert np.isnan(found.variants[0].rank_spread)
    assert "±" not in render(found, "table").splitlines()[4]
    assert json.loads(render(found, "json"))["variants"][0]["spreads"]["FC"] is None


def test_a_missing_seed_is_no_mean_over_what_is_there():
    records = [r for r in several() if not (r.label == "full" and r.cell.seed == 1)]
    with pytest.raises(GapError, match="no record of full for seed 1"):
        ablation(records, LABELS)


def test_forms():
    found = ablation(several(), LABELS)
    text = render(found, "table")
    assert "1.75 ± 0.35" in text
    assert "half: full[half=1]" in text
    assert "seeds 0, 1" in text.splitlines()[0]
    assert render(found, "md").count("|\n") >= 3
    rows = list(csv.DictReader(io.StringIO(render(found, "csv"))))
    assert [row["variant"] for row in rows] == ["full", "half"]
    assert float(rows[1]["rank"]) == 1.75
    assert json.loads(render(found, "json"))["variants"][1]["rank"] == 1.75


# Figures


def texts(figure):
    return " ".join(t.get_text() for axes in figure.axes for t in [*axes.texts, axes.title, *axes.get_yticklabels()])


def test_ablation_figure_names_its_variants(tmp_path):
    figure = ablation_figure(ablation(several(), LABELS))
    assert "half" in texts(figure)
    dots = [c.get_offsets() for c in figure.axes[0].collections]
    assert sorted(float(point[0]) for own in dots for point in own) == [1.0, 1.0, 1.5, 2.0], "a dot is a seed"
    path = save(figure, tmp_path / "new" / "a.png")
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_cost_figure_shows_every_method_but_controls():
    records = several((0,))
    figure = cost_figure(board(records))
    for axes in figure.axes[:2]:
        assert {t.get_text().removesuffix(" (0)") for t in axes.texts} == {"a", "b", "full", "full[half=1]"}
        assert axes.get_xscale() == "log"
    assert figure.axes[0].yaxis_inverted(), "best at the top"


@pytest.mark.parametrize("apart", [1.1, 3.0, 30.0])
def test_cost_figure_calls_learned_methods_trained(apart):
    """However long others prepare: the first to import Captum waits for it."""
    made = board(several((0,)))
    rows = tuple(replace(row, kind="baseline", train_seconds=2.0, forwards=2 * apart**at, backwards=0.0)
                 for at, row in enumerate(made.rows))  # fmt: skip
    figure = cost_figure(replace(made, rows=rows))
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.texts] == ["none better in both", "made as asked"]
    figure.canvas.draw()
    axes = figure.axes[0]
    boxes = [label.get_window_extent() for label in axes.get_xticklabels(which="both") if label.get_text()]
    inside = sorted((box.x0, box.x1) for box in boxes if axes.bbox.x0 <= (box.x0 + box.x1) / 2 <= axes.bbox.x1)
    assert len(inside) > 1
    assert all(left[1] < right[0] for left, right in pairwise(inside)), "no two numbers overlap"


def test_curves_figure_shows_what_was_recorded():
    from benchmark.core.errors import UsageError

    plain = several((0,))
    with pytest.raises(UsageError, match="no record here holds training curves"):
        curves_figure(plain)
    curves = [{"iteration": 10.0, "loss": 0.5, "alpha": 1.0}, {"iteration": 20.0, "loss": 0.25, "alpha": 0.5}]
    figure = curves_figure([plain[0], replace(plain[2], report={"curves": curves})])
    assert len(figure.axes) == 2, "what no record has is not drawn"
    drawn = figure.axes[0].lines[0]
    assert list(drawn.get_xdata()) == [10, 20]
    assert list(drawn.get_ydata()) == [0.5, 0.25]


def test_optimum_figure():
    import pandas as pd

    frame = pd.DataFrame(
        {"metric": ["FC", "DEL"] * 2, "explanation": ["x"] * 2 + ["y"] * 2, "share": [1, 0.9, 0.5, 0.2]}
    )
    figure = optimum_figure(frame, "heading")
    assert "heading" in texts(figure)
    assert {t.get_text() for t in figure.axes[0].get_legend().get_texts()} == {"x", "y"}
