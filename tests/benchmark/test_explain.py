"""Pictures of explanations, and how sure they are."""

from __future__ import annotations

import re

import numpy as np
import pytest

from benchmark.cli.parser import main
from benchmark.core.sources import Sources
from benchmark.core.types import METHODS, TASKS
from benchmark.inspection.explain import explain, interval_widths
from benchmark.inspection.page import page
from benchmark.inspection.pictures import draw
from benchmark.inspection.shading import Bar, bars, strength, strongest
from tests.tiers import by_task


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["png", "svg", "html"])
@pytest.mark.parametrize(
    ("task", "methods"),
    [("nap_mlp", "saliency,constant"), ("agnews_lstm", "saliency,random"), ("imagenet_resnet", "saliency,grad_cam")],
)
def test_explain_draws(tmp_path, capsys, task, methods, kind):
    out = tmp_path / f"figure.{kind}"
    words = ["explain", "--task", task, "--methods", methods, "--sample", "2", "--source", "synthetic",
             "--preset", "quick", "--out", str(out)]  # fmt: skip
    assert main(words) == 0
    assert f"{task} (synthetic stand-in), sample 2: predicted" in capsys.readouterr().out
    content = out.read_bytes()
    assert content.startswith({"png": b"\x89PNG", "svg": b"<?xml", "html": b"<!doctype html>"}[kind])
    assert len(content) > 2000
    if kind == "html":
        page = content.decode()
        for name in methods.split(","):
            assert f'<th scope="row">{name}</th>' in page
        assert "http" not in page.replace("http-equiv", ""), "the page asks for nothing elsewhere"
        assert ("<mark" in page) == (task == "agnews_lstm")
    assert main(words) == 0
    assert out.read_bytes() == content, "the same call draws the same picture"


def test_a_perfect_score_is_bold_once(tmp_path):
    out = tmp_path / "x.html"
    main(
        [
            "explain",
            "--task",
            "nap_mlp",
            "--methods",
            "exact_banzhaf,constant",
            "--source",
            "synthetic",
            "--out",
            str(out),
        ]
    )
    rows = out.read_text().split("<tr>")[2:]
    assert rows[0].count("<b>") > rows[1].count("<b>")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "x.gif"], "expects a file that ends in .png, .svg, .html, got 'x.gif'"),
        (["--out", "x.png", "--sample", "99999"], r"test sample of nap_mlp, 0 to 299, got 99999"),
        (
            ["--out", "x.png", "--methods", "lrp"],
            "'lrp' explains nap_mlp: lrp: explains image, not table",
        ),
        (["--out", "x.png", "--methods", "salient"], "did you mean 'saliency'"),
        (["--out", "none/x.png"], "there is no such folder; make it, or name another"),
        (["--out", "/proc/x.png"], "cannot write --out"),
        (["--out", "x.png", "--task", "all"], "expected one task, got 'all'"),
    ],
)
def test_explain_refuses(tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    given = ["explain", "--task", "nap_mlp", "--source", "synthetic", *words]
    assert main(given if "--methods" in words else [*given, "--methods", "saliency"]) == 2
    assert re.search(message, capsys.readouterr().err)


class Unsure:
    """A method that says of each feature that it may be anything between 0 and twice what it says."""

    repeats = 1

    def __init__(self, inner):
        self.inner = inner

    def prepare(self, task, seed):
        known = self.inner.prepare(task, seed)

        class Explainer:
            def __call__(self, x, target):
                return known(x, target)

            def interval(self, x):
                from torch import zeros

                found = known(x, task.model(x).argmax(1)).abs()
                return zeros(found.shape), 2 * found

        return Explainer()


@pytest.mark.parametrize("name", by_task(["nap_mlp", "imdb_lstm", "digits_cnn"]))
def test_intervals_are_drawn(name):
    spec = TASKS.get(name)()
    task = spec.build(spec.locate(Sources("synthetic", offline=True)), name, "cpu")
    saliency = METHODS.get("saliency")()
    explained = explain(task, 1, [("unsure", "saliency", Unsure(saliency)), ("plain", "saliency", saliency)], 0)
    unsure, plain = explained.explanations
    assert plain.interval is None
    lower, upper = unsure.interval
    np.testing.assert_allclose(upper - lower, 2 * np.abs(unsure.attribution), rtol=1e-5, atol=1e-9)
    assert [title for title, _ in interval_widths(explained)] == ["unsure: how unsure it is"]
    figure, text = draw(explained), page(explained)
    words = [t.get_text() for axes in figure.axes for t in axes.texts] + [axes.get_title() for axes in figure.axes]
    if spec.modality == "table":
        ends = [line.get_xdata() for line in figure.axes[0].lines if line.get_marker() == "|"]
        assert len(ends) == 2
        bars = np.array([bar.get_width() for bar in figure.axes[0].patches])
        np.testing.assert_allclose(ends[1], np.clip(2 * np.abs(bars), 0, 1), atol=1e-6)
        assert not [line for line in figure.axes[2].lines if line.get_marker() == "|"]
    else:
        assert sum("unsure it is" in word for word in words) == 1
        if spec.modality == "text":
            assert "how unsure it is</h2>" in text
            assert " to " in re.search('title="([^"]*)"', text).group(1)


@pytest.mark.slow
def test_the_page_draws_each_kind_with_its_evidence_and_intervals():
    """Bars with their intervals, words with their notes, images with their outline; no picture of a figure."""
    for name in ("nap_mlp", "agnews_lstm", "digits_cnn"):
        spec = TASKS.get(name)()
        task = spec.build(spec.locate(Sources("synthetic", offline=True)), name, "cpu")
        saliency = METHODS.get("saliency")()
        text = page(explain(task, 1, [("unsure", "saliency", Unsure(saliency))], 0))
        assert text.startswith("<!doctype html>")
        planted = task.evidence is not None
        if spec.modality == "table":
            assert text.count("<i ") == text.count("<u ") == len(task.feature_names)
        elif spec.modality == "text":
            assert text.count('class="planted"') == 2 * task.evidence[1].sum()
        else:
            assert ('alt="where evidence was planted"' in text) == planted
            assert "heat map of unsure: how unsure it is" in text


def test_one_outlier_hides_nothing_and_what_is_no_number_is_not_drawn():
    attribution = np.full(1000, 0.5)
    attribution[0], attribution[1] = 500.0, np.nan
    drawn = strength(attribution)
    assert drawn[0] == drawn[2] == 1
    assert drawn[1] == 0
    assert strength(np.zeros(3)).tolist() == [0, 0, 0]
    assert bars(["a", "b"], np.array([-1.0, 0.5]), np.array([0, 1]), (np.array([-2, 0]), np.array([0, 1]))) == [
        Bar("a", -100, (-100, 0)),
        Bar("b", 50, (0, 100)),
    ]
    assert strongest(np.array([[0.1, 0.9, -1.0, *([0.5] * 20)]])).tolist() == [1, 2, *range(3, 15)]
