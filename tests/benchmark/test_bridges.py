"""Scores of others come in marked, stand beside boards without moving them, and ours go out unrounded."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from benchmark import bridges
from benchmark.bridges import (
    Scores,
    as_callable,
    beside,
    from_latec,
    from_openxai,
    from_quantus,
    latec_attributions,
    to_csv,
    to_frame,
    to_parquet,
    write_dataset,
)
from benchmark.bridges.latec import METHODS, METRICS
from benchmark.cli.parser import main
from benchmark.core.errors import BenchmarkError, DataError, UsageError
from benchmark.records.store import RecordStore
from leaderboards.tables import in_markdown, table_of
from tests.leaderboards.generated import board, several

THEIRS = {"m00": {"ROAD": [0.5, 0.7]}, "theirs alone": {"ROAD": [0.1, float("nan")]}}


def test_importing_bridges_loads_nothing_heavy():
    code = "import sys, benchmark.bridges; assert not {'torch', 'pandas', 'quantus'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert {name: getattr(bridges, name) for name in bridges.__all__}
    assert set(bridges.__all__) == set(dir(bridges))
    with pytest.raises(AttributeError, match="has no attribute 'from_nowhere'"):
        bridges.from_nowhere  # noqa: B018


def test_quantus_results_of_each_layout_are_the_same_scores():
    nested = {
        "lime": {"ROAD": [0.5, 0.7], "IROF": [1, 2]},
        "ig": {"ROAD": np.array([0.1, 0.3]), "IROF": [[3.0], [4.0]]},
    }
    turned = {metric: {method: nested[method][metric] for method in nested} for metric in ("ROAD", "IROF")}
    expected = {"ROAD": {"lime": 0.6, "ig": 0.2}, "IROF": {"lime": 1.5, "ig": 3.5}}
    for scores in (from_quantus(nested), from_quantus(turned, outer="metric"), from_quantus(pd.DataFrame(nested))):
        assert scores.source == "Quantus"
        for metric, means in scores.means().items():
            assert means == pytest.approx(expected[metric])
    assert from_quantus([0.5, 0.7], method="lime", metric="ROAD").frame["score"].tolist() == [0.5, 0.7]


def test_quantus_results_of_several_calls_are_several_metrics():
    scores = from_quantus({"lime": {"ROAD": {"black": [0.5], "mean": [0.7]}}})
    assert scores.metrics == ["ROAD [black]", "ROAD [mean]"]


def test_means_alone_have_no_sample_and_none_is_a_gap():
    assert from_quantus({"lime": {"ROAD": 0.5}}).frame["sample"].isna().all()
    scores = from_quantus({"lime": {"ROAD": [None, 0.5]}})
    assert scores.means() == {"ROAD": {"lime": 0.5}}
    assert "1 of 2 scores are no finite number and left out" in scores.about()
    infinite = from_quantus({"lime": {"ROAD": [float("inf"), 0.5]}})
    assert infinite.means() == {"ROAD": {"lime": 0.5}}
    assert "1 of 2 scores are no finite number and left out" in infinite.about()


WRONG_RESULTS = [
    ({"lime": {"ROAD": [0.5], "IROF": {}}}, {}, "IROF of lime: Quantus gave no scores; it printed why"),
    (
        {"lime": {"PF": [[1.0, 2.0], [3.0, 4.0]]}},
        {},
        "PF of lime: expected a number a sample, got shape (2, 2), as of curves",
    ),
    ({"lime": {"PF": [1.0]}, "ig": {"PF": [1.0, 2.0]}}, {}, "PF of ig: expected 1 scores, as lime has, got 2 scores"),
    ({"lime": {"PF": [1.0]}, "ig": {"PF": 1.0}}, {}, "expected 1 scores, as lime has, got one number, a mean"),
    ({"lime": {"PF": "0.5"}}, {}, "PF of lime: expected a number a sample, got '0.5'"),
    ({"lime": {"PF": ["0.5"]}}, {}, "expected a number a sample, got ['0.5']"),
    ({"lime": {"PF": []}}, {}, "PF of lime: expected a number a sample, got none"),
    ({"lime": {"PF": [1.0, [2.0]]}}, {}, "expected a number a sample"),
    ({"lime": [0.5]}, {}, "expected a dictionary of dictionaries, as quantus.evaluate returns"),
    ([0.5], {}, "name method and metric for the scores of one metric"),
    ([0.5], {"method": "lime"}, "expected both method and metric"),
    ({}, {}, "expected scores of Quantus by method and metric, got none"),
    ({1: {"PF": [1.0]}}, {}, "expected names in the dictionary of scores by method, got 1"),
    ({"lime": {"PF": [1.0]}}, {"outer": "methods"}, "outer: expected method or metric"),
    ({"lime": {"PF": [1.0]}}, {"better": {"PF": "up"}}, "better['PF']: expected higher or lower, got 'up'"),
    ({"lime": {"PF": [1.0]}}, {"better": {"FP": "lower"}}, "better names 'FP', of which there are no scores: PF"),
]


@pytest.mark.parametrize(("results", "how", "message"), WRONG_RESULTS)
def test_results_that_are_none_are_one_sentence(results, how, message):
    with pytest.raises(UsageError) as raised:
        from_quantus(results, **how)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_scores_of_others_are_stored_with_who_computed_them(tmp_path):
    scores = Scores.of("Quantus", THEIRS, better={"ROAD": "higher"})
    again = Scores.load(scores.save(tmp_path / "theirs.parquet"))
    pd.testing.assert_frame_equal(again.frame, scores.frame)
    assert (again.source, again.better) == ("Quantus", {"ROAD": "higher"})
    to_parquet(several(1, 2, 1, 4)[0], tmp_path / "ours.parquet")
    for name in ("ours.parquet", "nowhere.parquet"):
        with pytest.raises(DataError):
            Scores.load(tmp_path / name)
    with pytest.raises(UsageError, match="ends in .parquet"):
        scores.save(tmp_path / "theirs.csv")


def test_scores_beside_a_board_change_nothing_of_it():
    ours = board(several(1, 3, 1, 8)[0])
    before = table_of(ours)
    table = beside(
        ours, Scores.of("Quantus", THEIRS, better={"ROAD": "higher"}), Scores.of("LATEC", {"m01": {"ROAD": 2.0}})
    )
    assert table.header == [*before.header, "ROAD↑ [Quantus]", "ROAD [LATEC]"]
    assert [row[: len(before.header)] for row in table.rows[:3]] == before.rows, "ranks and scores of ours stay"
    by_method = {row[0]: row[-2:] for row in table.rows}
    assert by_method["m00"] == ["0.600", "–"]
    assert by_method["m01"] == ["–", "2.000"]
    assert by_method["theirs alone (not scored here)"] == ["0.100", "–"]
    assert set(table.rows[-1][1:-2]) == {"–"}, "without a rank"
    assert "[Quantus]: scores by Quantus: means over 2 samples; 1 of 4 scores are no finite number" in str(table)
    assert "no rank, interval or mean of this board counts them" in in_markdown(table)


def test_boards_and_pages_show_scores_of_others(tmp_path, capsys):
    store = RecordStore(tmp_path / "results").open()
    for record in several(2, 3, 1, 8)[0]:
        store.write(record)
    theirs = Scores.of("Quantus <b>", THEIRS).save(tmp_path / "theirs.parquet")
    words = ["--out", str(store.root), "--beside", str(theirs)]
    assert main(["leaderboard", "--task", "t00", *words]) == 0
    assert "ROAD [Quantus <b>]" in capsys.readouterr().out
    for form in ("csv", "json"):
        assert main(["leaderboard", "--task", "t00", "--format", form, *words]) == 0
        assert "ROAD [Quantus <b>]" in capsys.readouterr().out
    page = tmp_path / "page.html"
    assert main(["report", "--task", "t00", "--page", str(page), *words]) == 0
    assert '<span class="badge">NOT OURS</span>' in page.read_text()
    assert "ROAD [Quantus &lt;b&gt;]" in page.read_text()
    assert main(["report", "--task", "t00", "--page", str(page), "--out", str(store.root)]) == 0
    assert "NOT OURS" not in page.read_text()
    assert main(["leaderboard", *words]) == 2
    assert "--beside expects one board, got 2 (t00 (real), t01 (real))" in capsys.readouterr().err


def test_beside_refuses_what_it_cannot_tell_apart():
    ours = board(several(1, 2, 1, 8)[0])
    scores = Scores.of("Quantus", {"m00": {"ROAD": 1.0}})
    for given in ([], [scores, scores]):
        with pytest.raises(UsageError):
            beside(ours, *given)


def test_latec_maps_and_scores(tmp_path):
    maps = np.random.default_rng(0).normal(size=(2, 14, 3, 4, 4)).astype(np.float32)
    scores = np.random.default_rng(1).normal(size=(14, 19, 5))
    np.savez(tmp_path / "explain.npz", maps, maps[:, :3])
    np.savez(tmp_path / "eval.npz", scores)
    found = latec_attributions(tmp_path / "explain.npz")
    assert list(found) == list(METHODS[:14])
    assert np.array_equal(found["lime"], maps[:, 1])
    assert list(latec_attributions(tmp_path / "explain.npz", model=1, methods=["a", "b", "c"])) == ["a", "b", "c"]
    theirs = from_latec(tmp_path / "eval.npz")
    assert theirs.metrics == list(METRICS)
    assert theirs.means()["ROAD"]["lime"] == pytest.approx(scores[1, METRICS.index("ROAD")].mean())
    np.savez(tmp_path / "one.npz", maps[:, 0])
    assert np.array_equal(latec_attributions(tmp_path / "one.npz")["one"], maps[:, 0])


@pytest.mark.parametrize(
    ("shape", "how", "message"),
    [
        ((3, 2), {}, "expected scores (methods, metrics, observations), got shape (3, 2)"),
        ((3, 19, 2), {}, "holds 3 methods, and LATEC's files hold no names: give methods=[...]"),
        ((14, 2, 2), {}, "holds 2 metrics, and LATEC's files hold no names: give metrics=[...]"),
        ((14, 19, 2), {"methods": ["a", "a"]}, "holds 14 methods, expected as many different names, got 2"),
        ((14, 19, 2), {"model": 2}, "has no array of model 2"),
    ],
)
def test_latec_archives_that_are_none(tmp_path, shape, how, message):
    np.savez(tmp_path / "eval.npz", np.ones(shape))
    with pytest.raises(BenchmarkError) as raised:
        from_latec(tmp_path / "eval.npz", **how)
    assert message in str(raised.value)


def test_openxai_files_and_tables(tmp_path):
    (tmp_path / "adult").mkdir()
    np.save(tmp_path / "adult" / "PGI_grad_3_k_0.25.npy", np.array([0.1, 0.2, 0.3]))
    np.save(tmp_path / "adult" / "PGU_grad_3_k_0.25.npy", np.array([[0.4], [0.5], [0.6]]))
    found = from_openxai(tmp_path / "adult")
    assert found.means() == {"PGI [k_0.25]": {"grad": pytest.approx(0.2)}, "PGU [k_0.25]": {"grad": pytest.approx(0.5)}}
    assert found.better == {"PGI [k_0.25]": "higher", "PGU [k_0.25]": "lower"}
    (tmp_path / "board.csv").write_text("Method,PGI,PGU,own\nLIME,0.42 ± 0.01,0.68,1\nSHAP,0.44 (0.02),-,2e-1\n")
    table = from_openxai(tmp_path / "board.csv")
    assert table.means()["PGI"] == {"LIME": 0.42, "SHAP": 0.44}
    assert table.means()["PGU"] == {"LIME": 0.68, "SHAP": pytest.approx(np.nan, nan_ok=True)}
    assert table.means()["own"] == {"LIME": 1.0, "SHAP": 0.2}
    assert table.better == {"PGI": "higher", "PGU": "lower"}
    assert "means as published" in table.about()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Method,PGI\nLIME,good\n", "row 2, PGI: expected a number such as 0.42 or 0.42 ± 0.03, got 'good'"),
        ("Method,PGI\nLIME,1,2\n", "row 2: expected 2 cells, got 3"),
        ("Method,PGI\nLIME,1\nLIME,2\n", "row 3: the method 'LIME' comes twice"),
        ("Method,PGI\n", "expected a header of metrics and a row a method, got 1 lines"),
    ],
)
def test_openxai_tables_that_are_none(tmp_path, text, message):
    (tmp_path / "board.csv").write_text(text)
    with pytest.raises(DataError, match="board.csv") as raised:
        from_openxai(tmp_path / "board.csv")
    assert message in str(raised.value)


def test_openxai_folders_that_are_none(tmp_path):
    with pytest.raises(DataError, match="expected files such as PGI_lime_100.npy, got none"):
        from_openxai(tmp_path)
    with pytest.raises(UsageError, match=r"expected a folder of .npy files or a .csv table"):
        from_openxai(tmp_path / "board.txt")


class OfOpenXAI:
    """An explainer as OpenXAI's are."""

    def get_explanations(self, inputs, labels):
        return inputs * labels.unsqueeze(1)


def test_explainers_of_others_become_callables():
    captum = pytest.importorskip("captum.attr")
    model = torch.nn.Linear(4, 3)
    x, target = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    given = as_callable(captum.Saliency(model), abs=False)(x, target)
    assert torch.equal(given, model.weight[target])
    assert not given.requires_grad
    assert torch.equal(as_callable(OfOpenXAI())(x, target), x * target.unsqueeze(1))
    for wrong in (model, captum.Saliency):
        with pytest.raises(UsageError, match="expected an explainer with attribute or get_explanations"):
            as_callable(wrong)


def test_our_scores_go_out_unrounded(tmp_path):
    records = several(2, 2, 2, 5, metrics=3)[0]
    frame = to_frame(records)
    assert len(frame) == 2 * 2 * 2 * 5 * 3
    one = records[0]
    rows = frame[(frame["task"] == one.cell.task) & (frame["label"] == one.label) & (frame["seed"] == one.cell.seed)]
    assert rows["score"].tolist() == one.scores["score"].tolist()
    assert dict(zip(frame["metric"], frame["better"], strict=True)) == {"FC": "higher", "FE": "higher", "MC": "higher"}
    assert set(frame["unit"]) == {"1"}
    pd.testing.assert_frame_equal(pd.read_parquet(to_parquet(records, tmp_path / "x.parquet")), frame)
    again = pd.read_csv(to_csv(records, tmp_path / "x.csv"), keep_default_na=False, float_precision="round_trip")
    assert again["score"].tolist() == frame["score"].tolist()
    assert list(again.columns) == list(frame.columns)
    store = RecordStore(tmp_path / "results").open()
    for record in records:
        store.write(record)
    pd.testing.assert_frame_equal(to_frame(tmp_path / "results"), frame)


@pytest.mark.parametrize(
    ("records", "message"),
    [("nowhere", "holds no records"), (3, "expected a folder, records or a result"), ([3], "expected records, got int"),
     ([], "expected at least one finished record")],
)  # fmt: skip
def test_what_is_no_records(tmp_path, monkeypatch, records, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BenchmarkError, match=message):
        to_frame(records)


def test_a_data_set_for_the_hub(tmp_path):
    records = several(1, 2, 1, 5, metrics=2)[0]
    records += [replace(record, cell=replace(record.cell, source="synthetic")) for record in records]
    out = write_dataset(
        records, tmp_path / "set", theirs=[Scores.of("Quantus", THEIRS)], name="Mine | <b>", licence="mit"
    )
    text = (out / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "mit"
    assert front["size_categories"] == ["n<1K"]
    assert [config["config_name"] for config in front["configs"]] == ["real", "synthetic", "by_others"]
    assert "# Mine \\| &lt;b>" in text
    assert "say nothing about real data" in text
    for config in front["configs"]:
        (file,) = config["data_files"]
        assert (
            len(pd.read_parquet(out / file["path"]))
            == {"real": 20, "synthetic": 20, "by_others": 4}[config["config_name"]]
        )
    assert set(pd.read_parquet(out / "data" / "by_others.parquet")["computed_by"]) == {"Quantus"}
    with pytest.raises(UsageError, match="expected an empty folder"):
        write_dataset(records, out)


@pytest.mark.slow
def test_the_hubs_own_reader_reads_the_data_set(tmp_path):
    datasets = pytest.importorskip("datasets")
    out = write_dataset(several(1, 2, 1, 5, metrics=2)[0], tmp_path / "set")
    loaded = datasets.load_dataset(str(out), "real", split="test", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == 20
    assert json.loads(loaded[0]["params"]) == {}
