"""Records that another program wrote, or somebody who means ill: boards and pages name them and go on."""

from __future__ import annotations

import copy
import io
import json
import random
import shutil
from contextlib import redirect_stderr, redirect_stdout

import pytest

from benchmark.cli.parser import main
from benchmark.records.record import digest_of_meta
from tests.stress.runs import Place

GROUP = "foreign records"
ODD = [
    None, True, 0, -1, 1e308, 1e-320, 2**70, "", "x" * 5000, "../../etc", "a/b", "\x1b[31mred", "\x00", "\u202e",
    "é" * 50, "<script>alert(1)</script>", "=HYPERLINK(\"http://x\")", "$\\bad$", "| a |\n| b |", [], [[]], {},
    {"": {}}, [None] * 3, "NaN", float("nan"), float("inf"), "\ud800", "real", "synthetic", "done", "failed",
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("whole"))
    assert place.run(methods="saliency,random,integrated_gradients[steps=2]", words=["--limit", "8"]) == 0, place.stderr
    return place


def places(value, at=()):
    """Return the ways to all values within plain data."""
    ways = [at] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        ways += places(item, (*at, key))
    return ways


def mutated(meta, rng):
    """Return other plain data: one to three values replaced, removed, added or moved."""
    meta = copy.deepcopy(meta)
    for _ in range(rng.randint(1, 3)):
        at = rng.choice(places(meta))
        holder = meta
        for key in at[:-1]:
            holder = holder[key]
        match rng.randrange(5):
            case 0:
                del holder[at[-1]]
            case 1 if isinstance(holder, dict):
                holder[rng.choice(ODD[7:15])] = holder.pop(at[-1])
            case 2:
                holder[at[-1]] = {"deep": holder[at[-1]]}
            case _:
                holder[at[-1]] = copy.deepcopy(rng.choice(ODD))
    return meta


def sealed(meta):
    """Give hostile data the digest that this program looks for."""
    meta = {key: value for key, value in meta.items() if key != "digest"}
    return meta | {"digest": digest_of_meta(json.loads(json.dumps(meta)))}


def command(*words):
    """Run a command here; return its exit code and what it printed. What it raises fails the test."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([*map(str, words)])
    return code, out.getvalue() + err.getvalue()


def look(place, whole, page):
    """Show a folder in all three ways; return what was printed, and the page."""
    texts = []
    for words in (
        ("leaderboard", "--out", place.out, "--partial"),
        ("report", "--out", place.out, "--page", page, "--partial"),
        ("compare", whole.out, place.out),
    ):
        code, text = command(*words)
        assert code in (0, 1, 2), (words, code)
        texts.append(text)
    return "\n".join(texts), page.read_text() if page.exists() else ""


def check_harmless(text, page):
    assert "\x1b" not in text
    assert "\x00" not in text
    assert "<script>alert" not in page
    assert "\x1b" not in page


@pytest.mark.parametrize("seal", [True, False], ids=["sealed", "as it stands"])
def test_a_hostile_run_json(seal, whole, tmp_path, kills, figures):
    rng = random.Random(seal)
    source = sorted(whole.out.glob("s*/*/*/run.json"))
    for _ in range(max(3, round((2.5 if seal else 0.5) * kills))):
        place = Place(tmp_path / "foreign")
        shutil.copytree(whole.out, place.out)
        victim = rng.choice(source)
        meta = mutated(json.loads(victim.read_text()), rng)
        path = place.out / victim.relative_to(whole.out)
        text = json.dumps(sealed(meta) if seal else meta)
        if not seal and rng.random() < 0.5:
            text = rng.choice(
                [text[: rng.randrange(len(text))], "[" * 100_000, "null", "[]", "{}", text + "}", "\ud800"]
            )
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        check_harmless(*look(place, whole, tmp_path / "page.html"))
        figures.add(GROUP, f"run.json with odd values, digest {'renewed' if seal else 'not renewed'}", 1, 1)
        shutil.rmtree(place.folder)


LABELS = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "' onmouseover='alert(1)", '"><svg/onload=alert(1)>',
    "\x1b[2Jclear", "a\nb", "=cmd|' /C calc'!A0", "@SUM(1)", "$\\frac{$", "\\input{/etc/passwd}", "a | b", "```",
    "{{ 7 * 7 }}", "{% raw %}", "</style><script>alert(1)</script>", "\u202eevil", "x" * 3000, "", "%s %d {0}",
    "javascript:alert(1)", "]]>", "&lt;b&gt;",
]  # fmt: skip


@pytest.mark.parametrize("field", ["label", "reason", "origin", "title"])
def test_a_hostile_label(field, whole, tmp_path, figures):
    source = sorted(whole.out.glob("s*/*/*/run.json"))[0]
    for label in LABELS:
        place = Place(tmp_path / "foreign")
        shutil.copytree(whole.out, place.out)
        meta = json.loads(source.read_text())
        holder = {"origin": meta["facts"], "title": meta["metrics"]["FC"]}.get(field, meta)
        holder[field] = label
        (place.out / source.relative_to(whole.out)).write_text(json.dumps(sealed(meta)))
        text, page = look(place, whole, tmp_path / "page.html")
        check_harmless(text, page)
        for payload in ("<img src=x", "<svg/onload", "</style><script>"):
            assert payload not in page
        for form in ("csv", "md", "latex", "json") if field == "label" else ():
            code, text = command("leaderboard", "--out", place.out, "--partial", "--format", form)
            assert code in (0, 1, 2)
            assert "\x1b" not in text
        figures.add(GROUP, "hostile labels", 1, 1)
        shutil.rmtree(place.folder)
