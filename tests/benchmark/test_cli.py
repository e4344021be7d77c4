"""The command line, end to end, in a folder of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.cli.parser import main
from benchmark.core.types import METHODS
from benchmark.records.store import RecordStore

BAD = Path(__file__).parent.parent / "bad_methods.py"
FAST = "saliency,feature_ablation,deeplift,exact_banzhaf,random"


def run(out, *words, task="nap_mlp", methods="saliency", jobs="1"):
    return main(
        ["run", "--task", task, "--methods", methods, "--source", "synthetic", "--limit", "12",
         "--jobs", jobs, "--out", str(out), "--device", "cpu", *words]
    )  # fmt: skip


def files(out, name="scores.parquet"):
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(Path(out).rglob(name))}


def command(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "benchmark", *map(str, words)], capture_output=True, text=True, **options
    )


def test_run_prints_a_board_and_says_what_data_it_used(tmp_path, capsys):
    assert run(tmp_path, methods="saliency,lime,random") == 0
    captured = capsys.readouterr()
    assert "SYNTHETIC stand-in data · 12 test samples (limit 12)" in captured.out
    assert "nap_mlp: synthetic data, synthetic stand-in" in captured.err
    assert "cells: 3 computed, 0 kept" in captured.out
    assert "balanced accuracy" in captured.out
    for arrow in ("FC↑", "DEL↓", "valid", "forward passes", "training s"):
        assert arrow in captured.out


@pytest.mark.slow
def test_a_second_run_computes_nothing(tmp_path):
    assert run(tmp_path) == 0
    before = files(tmp_path, "run.json")
    words = ["--task", "nap_mlp", "--methods", "saliency", "--source", "synthetic", "--limit", "12", "--device", "cpu"]
    done = command("run", *words, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0 computed, 1 kept" in done.stdout
    assert files(tmp_path, "run.json") == before


def test_the_record_says_everything(tmp_path):
    assert run(tmp_path, methods="integrated_gradients[steps=20]") == 0
    (text,) = files(tmp_path, "run.json").values()
    meta = json.loads(text)
    assert meta["cell"]["params"]["steps"] == 20
    assert meta["costs"]["attribute"]["forwards"] == meta["costs"]["attribute"]["backwards"] == 12 * 20
    assert meta["costs"]["shared"]["forwards"] == 12 * 2**7  # the value table, for all methods
    assert meta["costs"]["probe"]["forwards"] == 0
    environment = meta["provenance"]["environment"]
    assert {"torch", "captum", "numpy", "python"} <= set(environment["versions"])
    assert environment["threads"] == 1
    assert environment["peak_bytes"] > 0
    assert len(environment["code"]) == 64
    assert {"accuracy", "balanced_accuracy", "digest"} <= set(meta["provenance"]["model"])
    wanted = {"version": 1, "higher_is_better": False, "family": "deletion", "order": 4, "title": "Deletion"}
    wanted["group"] = "ten"
    assert meta["metrics"]["DEL"] == wanted
    assert set(meta["identity"]) == {"task", "data", "model", "code", "distribution"}


@pytest.mark.slow
def test_bytes_do_not_depend_on_workers_or_on_company(tmp_path):
    assert run(tmp_path / "one", methods=FAST) == 0
    assert run(tmp_path / "two", methods=FAST, jobs="2") == 0
    one = files(tmp_path / "one")
    assert len(one) == 5
    assert files(tmp_path / "two") == one
    assert run(tmp_path / "alone", methods="random") == 0
    (alone,) = files(tmp_path / "alone").items()
    assert one[alone[0]] == alone[1]


def test_seeds_limits_and_parameters_have_cells_of_their_own(tmp_path, capsys):
    assert run(tmp_path, methods="random,integrated_gradients[steps=5],integrated_gradients") == 0
    assert run(tmp_path, "--seed", "1", methods="random") == 0
    scores = list(files(tmp_path).values())
    assert len(scores) == 4
    assert len(set(scores)) == 4
    capsys.readouterr()
    assert main(["leaderboard", "--out", str(tmp_path), "--partial"]) == 0
    out = capsys.readouterr().out
    assert "integrated_gradients[steps=5]" in out
    assert "seeds 0, 1" in out
    assert "no record for seed 1" in out


def test_defaults_spelt_out_are_the_same_cell(tmp_path, capsys):
    assert run(tmp_path, methods="integrated_gradients,integrated_gradients[steps=50]") == 0
    assert "1 computed, 0 kept" in capsys.readouterr().out


def test_metrics_are_added_to_a_record(tmp_path, capsys):
    assert run(tmp_path, "--metrics", "FC,del") == 0
    assert "FE" not in capsys.readouterr().out.splitlines()[2]
    assert run(tmp_path, "--metrics", "RP") == 0
    (meta,) = files(tmp_path, "run.json").values()
    assert set(json.loads(meta)["metrics"]) == {"FC", "DEL", "RP"}


def test_overwrite(tmp_path, capsys):
    run(tmp_path)
    for policy, state in (("never", "1 kept"), ("missing", "1 kept"), ("always", "1 computed")):
        capsys.readouterr()
        assert run(tmp_path, "--overwrite", policy) == 0
        assert state in capsys.readouterr().out


def test_a_stale_record_is_computed_again_unless_never(tmp_path, capsys, monkeypatch, replace_task):
    from benchmark.tasks import nap

    run(tmp_path)
    monkeypatch.setattr("benchmark.modalities.table.BUILD_VERSION", 99)
    assert run(tmp_path) == 0
    assert "1 kept" in capsys.readouterr().out, "another recipe that gives the same weights is the same model"
    replace_task("nap_mlp", lambda: replace(nap.nap_mlp(), epochs=3, floor=0))
    assert run(tmp_path, "--overwrite", "never") == 0
    assert "1 kept" in capsys.readouterr().out
    assert run(tmp_path) == 0
    captured = capsys.readouterr()
    assert "1 computed" in captured.out
    assert "nap_mlp saliency: computed: the model has other weights" in captured.err


@pytest.mark.slow
def test_an_edited_method_is_computed_again_and_reworded_it_is_not(tmp_path, capsys):
    mine = tmp_path / "mine.py"
    text = """
from dataclasses import dataclass
from benchmark.core.types import METHODS, Method

@METHODS.register("mine", kind="baseline", modalities=("table",))
@dataclass(frozen=True)
class Mine(Method):
    'Words.'
    def prepare(self, task, seed):
        return lambda x, target: x
"""

    def scores(code):
        mine.write_text(code)
        given = ["--task", "nap_mlp", "--methods", "mine", "--include", mine, "--source", "synthetic", "--limit", "20"]
        done = command("run", *given, "--jobs", "1", "--out", tmp_path / "out", check=True)
        (record,), _ = RecordStore(tmp_path / "out").scan()
        return record.scores.query("metric == 'FC'")["score"].to_numpy(), done.stdout + done.stderr

    first, _ = scores(text)
    same, said = scores(text.replace("Words.", "Other words, and a comment.") + "# a comment")
    assert "1 kept" in said
    assert (same == first).all()
    turned, said = scores(text.replace("target: x", "target: -x"))
    assert "mine: computed: its code changed" in said
    assert np.allclose(turned, -first)


def test_one_sample_is_enough(tmp_path):
    assert run(tmp_path, "--limit", "1") == 0, "its value table is one row"


def test_a_limit_beyond_the_rows_is_none(tmp_path, capsys):
    run(tmp_path, "--limit", "100000", task="breast_cancer_mlp")
    run(tmp_path, "--limit", "120", task="breast_cancer_mlp")
    assert "1 kept" in capsys.readouterr().out
    (record,), _ = RecordStore(tmp_path).scan()
    assert (record.cell.limit, record.n_total, record.facts["rows"]) == (None, 120, 120)


def test_dry_run_writes_nothing(tmp_path, capsys):
    assert run(tmp_path / "none", "--dry-run", methods="saliency,lime") == 0
    assert "2 of 2 cells to compute" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()
    run(tmp_path)
    capsys.readouterr()
    assert run(tmp_path, "--dry-run", "--json", methods="saliency,lime") == 0
    assert [row["state"] for row in json.loads(capsys.readouterr().out)] == ["kept", "to compute"]


def test_json(tmp_path, capsys):
    assert run(tmp_path, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["counts"]["computed"] == 1
    assert result["boards"][0]["rows"][0]["method"] == "saliency"


@pytest.mark.parametrize("what", ["tasks", "methods", "metrics"])
def test_list_and_help_need_no_torch_and_little_time(what):
    code = (
        "import sys; from benchmark.cli.parser import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'pandas', 'scipy'} & set(sys.modules)"
    )
    for words in (["list", what], ["--help"], ["run", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_show_says_what_a_method_leaves_to_the_task(capsys):
    shown = {}
    for name in ("lime", "occlusion", "score_cam"):
        assert main(["show", name, "--json"]) == 0
        shown[name] = json.loads(capsys.readouterr().out)["parameters"]
    assert shown["lime"].startswith("n_samples=by modality (table 100, text 400, image 1000), ")
    assert shown["occlusion"].startswith("window=by modality (table 1, text 3, image 2 or 16)")
    assert shown["score_cam"].startswith("channels=none")


def test_show_says_what_tuning_tries(capsys):
    said = {}
    for name in ("lime", "input_x_gradient", "random"):
        assert main(["show", name, "--json"]) == 0
        said[name] = json.loads(capsys.readouterr().out)["tuning tries"]
    assert said["lime"].startswith(
        "output=logit|probability|log_odds, estimator=lime|captum, penalty=none|0.0001; text: "
    )
    assert said["lime"].endswith(
        "at 60 rows: n_samples=60; at 500 rows: n_samples=500; at any rows: n_samples=5000, estimator=lime"
    )
    assert said["input_x_gradient"] == "output=logit|probability|log_odds"
    assert said["random"] == "nothing"


@pytest.mark.parametrize("name", ["FC", "del", "lime", "random", "nap_mlp", "exact_shapley"])
def test_show(name, capsys):
    assert main(["show", name]) == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) >= 5
    assert main(["show", name, "--json"]) == 0
    assert name.lower() in json.dumps(json.loads(capsys.readouterr().out)).lower()


@pytest.mark.slow
def test_controls_stand_last_and_banzhaf_first_on_inf(tmp_path, capsys):
    explained = [name for name in METHODS.names() if "table" in METHODS.entry(name).facts.get("modalities", ("table",))]
    for task, preset in (("nap_mlp", "standard"), ("wcd_mlp", "quick")):  # two trainings of all would take minutes
        words = ["--json", "--limit", "80", "--preset", preset]
        assert run(tmp_path, *words, task=task, methods="all,!deepfaith", jobs="2") == 0
        rows = json.loads(capsys.readouterr().out)["boards"][0]["rows"]
        ranked = [row["method"] for row in rows]
        assert sorted([*ranked, "deepfaith"]) == sorted(explained)
        assert set(ranked[-2:]) == {"random", "constant"}
        assert {"exact_banzhaf", "exact_shapley"} <= set(ranked[: len(ranked) // 2])
        assert [row["method"] for row in rows if row["ranks"]["INF"] == 1] == ["exact_banzhaf"]
