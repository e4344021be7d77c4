"""The page: what it says, that it stays the same, and how it behaves in a browser."""

from __future__ import annotations

import base64
import io
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmark.core.errors import BenchmarkError
from leaderboards import report
from leaderboards.ablation import ablations
from leaderboards.board import GapError
from leaderboards.overall import overall
from leaderboards.rank import rankings
from leaderboards.report import page
from tests.leaderboards.generated import made, several

RNG = np.random.default_rng(0)
WORDS = "a film <b>of</b> great & little charm".split()


def picture(side=8):
    sink = io.BytesIO()
    Image.fromarray(RNG.integers(0, 255, (side, side), dtype=np.uint8)).save(sink, "PNG")
    return base64.b64encode(sink.getvalue()).decode()


PICTURE = picture()


def kept(record):
    """Return three samples: of a table, a text and an image, whatever the task."""
    rng = np.random.default_rng(int(record.label[1:] or 0) if record.label[1:].isdigit() else 99)
    seen = {"predicted": "cat", "probability": 0.91, "label": "dog"}
    return [
        {"sample": 0, "kind": "table", "names": ["height", "width"], "values": [0.5, -1.0],
         "attribution": rng.normal(size=2).tolist()} | seen,
        {"sample": 1, "kind": "text", "words": WORDS, "attribution": rng.normal(size=len(WORDS)).tolist()} | seen,
        {"sample": 2, "kind": "image", "image": PICTURE, "side": 4, "attribution": rng.normal(size=16).tolist()} | seen,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def records():
    found, _ = several(2, 5, 2, 12)
    kinds = {"m00": "learned", "m01": "control", "m02": "oracle"}
    curves = [{"iteration": float(i), "loss": 1 / i} for i in range(1, 6)]
    report = {"curves": curves, "break_even": {"samples": 40}}
    return [replace(r, kind=kinds.get(r.label, "baseline"), report=report if r.label == "m00" else {}) for r in found]


@pytest.fixture(scope="module")
def text(records):
    return page(rankings(records), kept, [overall(rankings(records))])


@pytest.mark.slow
def test_the_same_records_give_the_same_page(records, text):
    assert page(rankings(records), kept, [overall(rankings(records))]) == text
    assert page(rankings(records[::-1]), kept, [overall(rankings(records[::-1]))]) == text


def test_the_page_asks_for_nothing_elsewhere(text):
    assert len(text) < 5_000_000
    assert "http" not in text.replace("http-equiv", "")
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text)
    assert "default-src 'none'" in text


def test_everything_is_there(records, text):
    for task in ("t00", "t01"):
        assert f"Mean ranks of {task} with 95 % intervals" in text
        assert f"Mean rank of {task} against the milliseconds" in text
        assert f"Spearman correlation of the ranks that metrics give methods on the same samples of {task}" in text
        assert f"Validation losses in training on {task}" in text
    assert text.count("<details") == 6
    assert "2 tasks together" in text
    assert "no test possible" not in text, "deepfaith is not there and nobody asked"
    assert "&lt;b&gt;of&lt;/b&gt;" in text, "what comes from data is escaped"
    assert "<b>of</b>" not in text


def test_tables_are_described(text):
    for table in re.findall(r"<table.*?</table>", text, re.S):
        assert "<caption>" in table
        assert 'scope="col"' in table
        assert 'scope="row"' in table
    for svg in re.findall(r"<svg[^>]*>", text):
        assert 'role="img"' in svg
        assert "aria-label" in svg
    images = re.findall(r"<img[^>]*>", text)
    assert images
    assert all("alt=" in image for image in images)


def test_what_methods_are_told_stands_where_a_record_says_it(records, text):
    assert "Who was told what" not in text
    told = {"sign": "signed", "gradients": "yes", "prediction": "all <b>of</b> it"}
    stated = page(rankings([replace(r, told=told if r.label == "m00" else {}) for r in records]), kept)
    assert stated.count("<summary>Who was told what</summary>") == 2
    assert "all &lt;b&gt;of&lt;/b&gt; it" in stated
    assert stated.count("not stated") == 2 * 4 * 7
    test_tables_are_described(stated)


def test_synthetic_data_are_named(records):
    synthetic = [replace(r, cell=replace(r.cell, source="synthetic")) for r in records]
    found = page(rankings(synthetic), kept)
    assert "SYNTHETIC" in found
    assert "which say nothing about real data" in found
    assert "SYNTHETIC" not in page(rankings(records), kept)


@pytest.mark.slow
def test_a_page_that_is_too_large_shows_fewer_samples(records, monkeypatch):
    whole = len(page(rankings(records), kept).encode())
    bare = len(page(rankings(records), lambda _: []).encode())
    monkeypatch.setattr(report, "LARGEST", (whole + bare) // 2)
    found = page(rankings(records), kept)
    assert len(found.encode()) <= report.LARGEST
    assert re.search(r"[123] samples? of each board left out", found)
    monkeypatch.setattr(report, "LARGEST", 1000)
    with pytest.raises(BenchmarkError, match="larger than 5 MB: choose fewer with --task"):
        page(rankings(records), kept)


def test_holes_are_refused_or_marked(records):
    holes = [r for r in records if (r.label, r.cell.seed, r.cell.task) != ("m03", 1, "t01")]
    with pytest.raises(GapError):
        page(rankings(holes), kept)
    assert "no record for seed 1" in page(rankings(holes, partial=True), kept)


def test_one_method_makes_a_page():
    assert "alone" in page(rankings([made(RNG.normal(size=(10, 4)), "alone")]), lambda _: [])


def test_ablations_have_tables(records):
    variants = {"full": "m00", "less": "m01"}
    own = [replace(r, kind="baseline") if r.label not in variants.values() else r for r in records]
    found = ablations(own, variants)
    assert [len(table.variants) for table in found] == [2, 2]
    assert "each variant alone among 3 other methods" in page(rankings(own), kept, (), found)
    assert ablations([r for r in own if r.label != "m01"], variants) == []


# In a browser


@pytest.fixture(scope="module")
def browser():
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here: install chromium to test the report in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        found = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser, text, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    tab = context.new_page()
    tab.asked, tab.problems = [], []
    tab.on("request", lambda request: tab.asked.append(request.url))
    tab.on("pageerror", lambda error: tab.problems.append(str(error)))
    tab.on("console", lambda message: tab.problems.append(message.text))
    tab.goto(path.as_uri())
    yield tab
    asked = [url for url in tab.asked if not url.startswith("data:")]
    assert asked == [path.as_uri()], "no request leaves the page"
    assert not tab.problems
    context.close()


TABLE = "#table-real-t00-standard-fp32-cpu-all"


def methods(tab):
    return tab.locator(f"{TABLE} tbody tr:visible").evaluate_all("rows => rows.map(row => row.dataset.method)")


def test_columns_sort(opened):
    before = methods(opened)
    assert sorted(before) == [f"m{i:02d}" for i in range(5)]
    rank = opened.locator(f"{TABLE} th", has_text="rank")
    assert rank.get_attribute("aria-sort") == "ascending"
    rank.locator("button").click()
    assert methods(opened) == before[::-1]
    assert rank.get_attribute("aria-sort") == "descending"
    name = opened.locator(f"{TABLE} th", has_text="method").locator("button")
    name.focus()
    opened.keyboard.press("Enter")
    assert methods(opened) == sorted(before)
    assert rank.get_attribute("aria-sort") is None
    column = opened.locator(f"{TABLE} th", has_text="FC").locator("button")
    column.click()
    at = column.evaluate("b => [...b.parentElement.parentElement.children].indexOf(b.parentElement)")
    cells = f"rows => rows.map(row => Number(row.children[{at}].dataset.sort))"
    values = opened.locator(f"{TABLE} tbody tr").evaluate_all(cells)
    assert values == sorted(values)


def test_methods_are_filtered(opened):
    section = opened.locator("#real-t00-standard-fp32-cpu-all")
    section.locator("input[type=search]").fill("M03")
    assert methods(opened) == ["m03"]
    assert section.get_by_role("status").inner_text() == "1 method"
    assert opened.locator("#table-real-t01-standard-fp32-cpu-all tbody tr:visible").count() == 5, "other boards stay"
    section.locator("input[type=search]").fill("")
    section.get_by_label("control").uncheck()
    assert sorted(methods(opened)) == ["m00", "m02", "m03", "m04"]
    section.locator("details").first.locator("summary").click()
    shown = section.locator("details").first.locator("article:visible h4").all_inner_texts()
    assert sorted(shown) == ["m00", "m02", "m03", "m04"], "explanations follow"


def test_samples_open(opened):
    samples = opened.locator("#real-t00-standard-fp32-cpu-all details")
    assert samples.locator("article:visible").count() == 0
    for at in range(3):
        summary = samples.nth(at).locator("summary")
        summary.focus()
        opened.keyboard.press("Enter")
        assert samples.nth(at).locator("article:visible").count() == (6 if at == 2 else 5)
        assert samples.nth(at).locator("article:visible ul.scores").first.locator("li").count() == 10
    assert samples.nth(0).locator("dl.bars i").first.bounding_box()["width"] > 0
    assert samples.nth(1).locator("mark").first.inner_text() == "a"
    loaded = "images => images.every(image => image.complete && image.naturalWidth > 0)"
    assert samples.nth(2).locator("img").evaluate_all(loaded)
    best = samples.nth(0).locator("ul.scores b").count()
    assert best >= 10, "each metric has a best score"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_both_schemes(browser, text, tmp_path, scheme):
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    tab = context.new_page()
    tab.goto(path.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") == 390, "only tables and figures scroll sideways"
    colours = tab.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
    ink, back = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
    assert (ink > 600 and back < 150) if scheme == "dark" else (ink < 150 and back > 700)
    context.close()
