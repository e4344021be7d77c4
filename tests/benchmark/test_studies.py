"""ablate, plot and optimality, end to end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmark.cli.parser import main
from benchmark.core.parameters import configure
from benchmark.core.types import METHODS
from deepfaith.ablations import VARIANTS
from deepfaith.hinted_method import HintedDeepFaith
from deepfaith.method import DeepFaith
from tests import toys

SOME = "full,local correlation only,unit form"


def ablate(out, *words, variants=SOME):
    return main(["ablate", "--task", "nap_mlp", "--source", "synthetic", "--variants", variants, "--seeds", "2",
                 "--limit", "8", "--preset", "quick", "--jobs", "1", "--out", str(out), *words])  # fmt: skip


@pytest.fixture(scope="module")
def ablated(tmp_path_factory):
    out = tmp_path_factory.mktemp("ablation")
    assert ablate(out) == 0
    return out


@pytest.mark.slow
def test_an_ablation_is_made_of_records(ablated, capsys):
    assert ablate(ablated, "--format", "json") == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert [v["name"] for v in found["variants"]] == SOME.split(",")
    assert all(len(v["ranks"]) == 2 for v in found["variants"])
    assert "deepfaith" not in found["rivals"]
    assert {"saliency", "random"} <= set(found["rivals"])
    assert not any(name.startswith("exact") for name in found["rivals"])
    for ending in ("md", "csv", "png"):
        assert (ablated / "ablation" / f"synthetic-nap_mlp.{ending}").stat().st_size > 100
    assert "SYNTHETIC" in (ablated / "ablation" / "synthetic-nap_mlp.md").read_text()


def test_a_variant_that_is_another_one_on_this_task_is_said(tmp_path, capsys, monkeypatch):
    start = {"iterations": "0"}
    variants = {"full": start, "one output": start | {"separate": "false"}, "one gradient": start | {"points": "1"}}
    monkeypatch.setitem(VARIANTS, "deepfaith_hinted", variants)
    assert ablate(tmp_path, "--of", "deepfaith_hinted", "--format", "json", variants="all") == 0
    out, err = capsys.readouterr()
    assert [variant["name"] for variant in json.loads(out)["variants"]] == ["full", "one gradient"]
    assert "left out on nap_mlp, where they are the same as an earlier variant: one output" in err
    assert ablate(tmp_path, "--of", "deepfaith_hinted", variants="one output") == 0, "its record is stored as of full"
    assert (tmp_path / "ablation" / "synthetic-nap_mlp-deepfaith_hinted.md").is_file()


@pytest.mark.slow
def test_methods_of_the_users_are_no_rivals(ablated, capsys):
    METHODS.include(Path(__file__).parent.parent / "bad_methods.py")
    assert ablate(ablated, "--format", "json") == 0
    assert "raises" not in json.loads(capsys.readouterr().out)["rivals"]


def test_every_variant_differs_from_the_full_method():
    variants = VARIANTS["deepfaith"]
    recipes = {name: configure(DeepFaith, name, given).recipe("table").plain() for name, given in variants.items()}
    assert len({json.dumps(recipe) for recipe in recipes.values()}) == len(variants) >= 9
    full = recipes["full"]
    changed = {name: {key for key in full if recipe[key] != full[key]} for name, recipe in recipes.items()}
    assert changed["full"] == set()
    assert changed["neither"] == {"similarity", "quantile"}
    assert changed["deduplication only"] == {"quantile"}
    assert changed["filter only"] == {"similarity"}
    assert changed["unit form"] == {"form"}
    assert changed["no input mixing"] == {"drawing"}


@pytest.mark.parametrize(("modality", "as_full"), [("table", {"one output"}), ("text", {"gains alone", "two outputs"}),
                                                   ("image", {"gains alone", "two outputs"})])  # fmt: skip
def test_variants_of_the_hinted_method(modality, as_full):
    task, variants = toys.TASKS[modality](), VARIANTS["deepfaith_hinted"]
    methods = {name: configure(HintedDeepFaith, name, of).resolved(task) for name, of in variants.items()}
    recipes = {
        name: method.recipe(task).plain() | {"ensemble": method.ensemble, "distilled": method.distilled}
        for name, method in methods.items()
    }
    assert {name for name, recipe in recipes.items() if recipe == recipes["full"]} == {"full"} | as_full
    assert len({json.dumps(recipe) for recipe in recipes.values()}) == len(variants) - len(as_full)
    full = recipes["full"]
    changed = {name: {key for key in full if recipe[key] != full[key]} for name, recipe in recipes.items()}
    assert changed["start alone"] == {"fitting"}
    assert changed["no start"] == {"start"}
    assert "loss" in changed["mixed sizes"]
    assert {"gains"} <= changed["no gains"] <= {"gains", "additive"}
    assert changed["three members"] == {"ensemble"}
    assert changed["distilled"] == {"distilled"}


@pytest.mark.slow
def test_plots(ablated, tmp_path, capsys):
    for what in ("cost", "curves"):
        path = tmp_path / f"{what}.svg"
        words = ["plot", what, "--task", "nap_mlp", "--out", str(ablated), "--figure", str(path)]
        assert main([*words, "--methods", "deepfaith,saliency,lime"]) == 0
        assert "<svg" in path.read_text()
    assert str(tmp_path / "curves.svg") in capsys.readouterr().out


@pytest.mark.slow
def test_optimality(tmp_path, capsys):
    words = ["optimality", "--task", "nap_mlp", "--source", "synthetic", "--limit", "20", "--methods", "occlusion,lime"]
    assert main([*words, "--figure", str(tmp_path / "o.png")]) == 0
    out = capsys.readouterr().out
    rows = {line.split("  ")[0]: [float(v) for v in line.split()[-10:]] for line in out.splitlines()[4:10]}
    assert list(rows) == ["optimum", "S* (0.5)", "S* (0.3)", "occlusion", "lime", "random"]
    header = out.splitlines()[2].split()
    lower = {header.index("DEL") - 1, header.index("POS") - 1}
    for name, row in rows.items():
        for place, (value, best) in enumerate(zip(row, rows["optimum"], strict=True)):
            assert (value >= best - 1e-9) if place in lower else (value <= best + 1e-9), (name, header[place + 1])
    assert rows["S* (0.5)"][header.index("INF") - 1] == rows["optimum"][header.index("INF") - 1]
    assert (tmp_path / "o.png").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["ablate", "--task", "nap_mlp", "--variants", "full,none"], 2, "unknown variant 'none'; known: full"),
        (["ablate", "--task", "nap_mlp", "--of", "lime"], 2, "unknown method with variants 'lime'; known: deepfaith"),
        (["ablate", "--task", "nap_mlp", "--of", "deepfaith*"], 2, "expected one method, got 'deepfaith*', which is 2"),
        (["ablate", "--task", "nap_mlp", "--variants", "full,!f*"], 2, "'full,!f*' leaves no variant"),
        (["ablate", "--task", "nap_mlp,wcd_mlp"], 2, "expected one task, got 'nap_mlp,wcd_mlp', which is 2"),
        (["optimality", "--task", "!all"], 2, "'!all' leaves no task"),
        (["ablate", "--task", "nap"], 2, "did you mean 'nap_mlp'"),
        (["ablate", "--task", "nap_mlp", "--source", "real", "--offline"], 3, "no real data"),
        (["plot", "cost", "--task", "nap_mlp", "--figure", "x.gif"], 2, "expects a file that ends in .png"),
        (["plot", "cost", "--task", "wcd_mlp", "--figure", "x.png"], 2, "no records in"),
        (["optimality", "--task", "imdb_lstm", "--source", "synthetic"], 2, "needs a table"),
        (["optimality", "--task", "nap_mlp", "--figure", "x.txt", "--source", "synthetic"], 2, "expects a file"),
    ],
)
def test_bad_input(words, code, message, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("BENCHMARK_DATA", raising=False)
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    out = [] if words[0] == "optimality" else ["--out", str(tmp_path)]
    assert main([*words, *out]) == code
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_variant_that_fails_is_left_out(ablated, tmp_path, capsys, monkeypatch):
    shutil.copytree(ablated, tmp_path / "out")

    def broken(self, task, seed):
        raise RuntimeError("no luck")

    monkeypatch.setattr(DeepFaith, "prepare", broken)  # what is stored is kept: the new variant alone is made
    assert ablate(tmp_path / "out", "--format", "json", variants=f"{SOME},filter only") == 1
    captured = capsys.readouterr()
    assert [variant["name"] for variant in json.loads(captured.out)["variants"]] == SOME.split(",")
    assert "left out: deepfaith[" in captured.err
    assert "failed: RuntimeError: no luck" in captured.err


@pytest.mark.slow
def test_an_ablation_of_which_no_variant_is_left(tmp_path, capsys, monkeypatch):
    def broken(self, task, seed):
        raise RuntimeError("no luck")

    monkeypatch.setattr(DeepFaith, "prepare", broken)
    assert ablate(tmp_path, variants="full") == 1
    assert "no variant is left: deepfaith failed: RuntimeError: no luck" in capsys.readouterr().err
