"""The command conventions: what each convention asks for, end to end, and wrong calls."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.cli.parser import main
from benchmark.cli.studies.conventions import Asked, chosen_conventions, otherwise
from benchmark.cli.studies.marked import MarkedPage
from benchmark.core.errors import UsageError
from benchmark.core.parameters import configure, parameters
from benchmark.core.types import METHODS
from benchmark.running.plan import MethodChoice
from leaderboards.conventions import CONVENTIONS
from tests import toys

TOYS = {"table": toys.table, "text": toys.text, "image": toys.image}
SOME = "random,saliency,feature_ablation"


def command(out, *words, methods=SOME, task="nap_mlp"):
    return main(["conventions", "--task", task, "--source", "synthetic", "--preset", "quick", "--limit", "10",
                 "--methods", methods, "--jobs", "1", "--out", str(out), *words])  # fmt: skip


def test_conventions_are_named_once_and_described_in_sentences():
    names = [each.name for each in CONVENTIONS]
    assert len(set(names)) == len(names) >= 12
    assert not [name for name in names if set(name) & set(",!*?[]|'")], "which mean something in a selection or a table"
    assert all(sentence.endswith(".") for each in CONVENTIONS for sentence in (each.objection, each.board))


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda each: each.name)
def test_what_is_given_is_valid_and_not_what_a_board_gives(convention):
    """Each setting is taken by its method on each modality that it is meant for, and changes something on one."""
    changed = False
    for modality, make in TOYS.items():
        for method, given in convention.given(modality).items():
            if modality not in METHODS.entry(method).facts["modalities"]:
                assert method in convention.settings, f"{method} explains no {modality}"
                continue
            made = configure(METHODS.get(method), method, given).resolved(make())
            assert made.unsupported(make()) is None
            usual = parameters(METHODS.get(method)().resolved(make()))
            kept = {key for key in given if parameters(made)[key] == usual[key]}
            assert kept <= {"output"}, "a convention for all methods may hold for some already; others must change"
            changed |= parameters(made) != usual
    assert changed == bool(convention.settings or convention.by_modality)


def test_board_json_and_resumption(tmp_path, capsys):
    words = ["--format", "json", "--conventions", "probability for all,another seed,ties to the better"]
    assert command(tmp_path, *words) == 0
    found = json.loads(capsys.readouterr().out)
    assert [shift["convention"] for shift in found["shifts"]] == [
        "probability for all", "another seed", "ties to the better",
    ]  # fmt: skip
    assert set(found["shifts"][0]["replaced"]) == {"feature_ablation", "saliency"}
    assert set(found["shifts"][1]["ranks"]) == set(SOME.split(","))
    records = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run.json")}
    assert len(records) == 3 + 2 + 3
    assert command(tmp_path, *words) == 0
    assert json.loads(capsys.readouterr().out) == found
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run.json")} == records


def test_records_are_those_of_ordinary_runs(tmp_path, capsys):
    assert main(["run", "--task", "nap_mlp", "--source", "synthetic", "--preset", "quick", "--limit", "10", "--methods",
                 f"{SOME},saliency[form=signed]", "--jobs", "1", "--out", str(tmp_path)]) == 0  # fmt: skip
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run.json")}
    assert command(tmp_path, "--conventions", "saliency with its sign") == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run.json")} == before
    assert "saliency with its sign" in capsys.readouterr().out


def test_parameters_that_are_given_stay(tmp_path, capsys):
    methods = "lime[n_samples=30],lime[n_samples=40],random"
    assert command(tmp_path, "--format", "json", "--conventions", "LIME as Captum,released code", methods=methods) == 0
    captum, released = json.loads(capsys.readouterr().out)["shifts"]
    assert set(captum["ranks"]) == {"lime[n_samples=30]", "lime[n_samples=40]", "random"}
    assert captum["replaced"] == ["lime[n_samples=30]", "lime[n_samples=40]"] == released["replaced"]
    params = [json.loads(path.read_text())["cell"]["params"] for path in tmp_path.rglob("lime-*/run.json")]
    assert sorted((p["estimator"], p["n_samples"]) for p in params) == [
        ("captum", 20), ("captum", 30), ("captum", 40), ("lime", 30), ("lime", 40),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "methods", "sentence"),
    [
        (["--conventions", "LIME as Captun"], SOME, "unknown convention 'LIME as Captun'; did you mean 'LIME as Cap"),
        (["--conventions", "words deleted,LIME as Captum"], SOME, "changes none of these methods on a table: "),
        ([], "lime[tuned=60]", "conventions start from what methods have by default, got lime[tuned=60]"),
        ([], "grad_cam", "nothing to rank: none of --methods 'grad_cam' explains nap_mlp"),
        (["--write", "missing.md"], SOME, "cannot read --write 'missing.md'"),
    ],
)
def test_wrong_calls(words, methods, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command(tmp_path / "results", *words, methods=methods) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "results").exists(), "nothing was computed"


def test_a_task_without_data(tmp_path, capsys):
    words = ["conventions", "--task", "nap_mlp", "--source", "real", "--data-dir", str(tmp_path), "--offline"]
    assert main([*words, "--out", str(tmp_path / "results")]) == 3
    assert "is empty: expected a folder laid out as" in capsys.readouterr().err


def test_a_method_that_fails_is_left_out(tmp_path, capsys):
    include = ["--include", str(Path(__file__).parent.parent / "bad_methods.py")]
    words = ["--conventions", "families count once", *include]
    assert command(tmp_path, *words, methods="raises,random,constant") == 1
    captured = capsys.readouterr()
    assert "left out: raises: " in captured.err
    assert "no luck today" in captured.err
    assert "raises" not in captured.out
    assert command(tmp_path, *words, methods="raises") == 1
    assert "no method is left" in capsys.readouterr().err


def test_a_page_is_renewed(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("# Fair\n<!-- conventions -->\nstale\n<!-- /conventions -->\n\n<!-- conventions: nap_mlp -->\n"
                    "<!-- /conventions: nap_mlp -->\nend\n")  # fmt: skip
    assert command(tmp_path / "out", "--conventions", "another seed", "--write", str(page)) == 0
    text = page.read_text()
    assert text.startswith("# Fair\n<!-- conventions -->\n\n| convention | objection | on a board |\n")
    assert text.endswith("<!-- /conventions: nap_mlp -->\nend\n")
    assert "stale" not in text
    assert "--conventions 'another seed' --limit 10 --preset quick --source synthetic" in text
    assert "| another seed |" in MarkedPage("--write", page, "conventions: nap_mlp")["conventions: nap_mlp"]
    capsys.readouterr()
    assert command(tmp_path / "out", "--write", str(page), task="wcd_mlp") == 2
    assert "expected a line <!-- conventions: wcd_mlp -->" in capsys.readouterr().err
    assert page.read_text() == text


def test_a_convention_of_the_whole_run_asks_for_the_next_seed():
    by_name = {each.name: each for each in CONVENTIONS}
    assert otherwise(by_name["another seed"], 4) == {"seed": 5}
    assert otherwise(by_name["another model"], 4) == {"model": 1}
    assert otherwise(by_name["16-bit forwards"], 4) == {"precision": "bf16"}


def test_conventions_touch_what_they_change():
    class Spec:
        modality = "text"
        n_features = 5

    labels = {name: MethodChoice(name) for name in ("lime", "random")}
    asked = Asked(Spec(), "standard")
    names = {each.name for each in chosen_conventions("all", asked, labels)}
    assert {"LIME as Captum", "words deleted", "another seed", "without controls"} <= names
    assert not {"another model", "KernelSHAP as Captum", "another window", "logits for all"} & names
    with pytest.raises(UsageError, match="unknown convention"):
        chosen_conventions("nothing", asked, labels)
