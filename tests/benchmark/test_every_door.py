"""The same attributions get the same scores to the last bit, through whichever door they come in and go out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file

import benchmark as fb
from benchmark.cli.parser import main
from benchmark.scoring.metrics import TEN

NAME, FEATURES = "my.task", 14  # `run --task my.py:task` calls it so; too many features for a value table
FILE = f"""
from dataclasses import dataclass

import numpy as np
import torch

import benchmark as fb
from benchmark.core.types import METHODS, Method

rng = np.random.default_rng(0)
x, background = (rng.normal(size=(rows, {FEATURES})).astype(np.float32) for rows in (9, 30))
torch.manual_seed(3)
model = torch.nn.Sequential(torch.nn.Linear({FEATURES}, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))


def task():
    return fb.task(model, x, background=background)


@METHODS.register("halves", kind="baseline", modalities=("table",))
@dataclass(frozen=True)
class Halves(Method):
    "Twice the row in steps of a half, so that features tie."

    def prepare(self, task, seed):
        return lambda x, target: (4 * x).round() / 2
"""
VALUES: dict[str, object] = {}
exec(FILE.partition("@METHODS")[0], VALUES)
MODEL, X, BACKGROUND = VALUES["model"], VALUES["x"], VALUES["background"]
HALVES = (4 * X).round() / 2
TASK = fb.task(MODEL, X, background=BACKGROUND, name=NAME)
SCORES = {name: fb.evaluate(TASK, {"halves": HALVES}).evaluations["halves"].scores[name].numpy() for name in TEN}


def same(found, expected=SCORES):
    """Tell of which metrics scores are not those expected, to the last bit."""
    assert set(found) == set(expected)
    return [name for name in expected if np.asarray(found[name], float).tobytes() != expected[name].tobytes()]


def by_metric(frame):
    groups = frame.groupby("metric", observed=True)
    return {name: rows.sort_values("sample")["score"].to_numpy() for name, rows in groups}


def write(path, array):
    """Write an array in the form that the path's ending says."""
    table = pd.DataFrame(array, columns=[f"c{i}" for i in range(FEATURES)])
    forms = {".npy": np.save, ".npz": lambda path, array: np.savez(path, it=array),
             ".csv": lambda path, array: table.astype(float).to_csv(path, index=False),
             ".parquet": lambda path, array: table.to_parquet(path),
             ".safetensors": lambda path, array: save_file({"it": array}, path)}  # fmt: skip
    forms[path.suffix](path, array)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").write_text(FILE)
    return tmp_path


def test_these_scores_would_show_a_difference():
    ordered = np.sort(HALVES, 1)
    assert (np.diff(ordered) == 0).any(1).all(), "features tie in every sample"
    assert all(len(set(scores.tolist())) > 5 for scores in SCORES.values())
    other = fb.evaluate(replace(TASK, name="other"), {"halves": HALVES}).evaluations["halves"].scores
    assert set(same({name: scores.numpy() for name, scores in other.items()})) == set(TEN), "a name changes all draws"


def test_one_metric_alone():
    """As among the ten where the model is asked once about all removals; else its rows are batched differently."""
    for name in TEN:
        alone = fb.evaluate(TASK, {"halves": HALVES}, metrics=name).scores[name]["halves"].to_numpy()
        assert not same({name: fb.score(name, TASK, HALVES)}, {name: alone})
        assert np.allclose(alone, SCORES[name], rtol=0, atol=1e-6)
    small = fb.task(torch.nn.Linear(FEATURES // 2, 3), X[:, :7])
    ten = fb.evaluate(small, {"it": HALVES[:, :7]}).scores
    expected = {name: table["it"].to_numpy() for name, table in ten.items()}
    assert not same({name: fb.score(name, small, HALVES[:, :7]) for name in TEN}, expected)


def test_a_callable():
    result = fb.evaluate(TASK, {"it": lambda x, target: (4 * x).round() / 2})
    assert not same({name: table["it"] for name, table in result.scores.items()})


def test_metrics_as_quantus_calls_them():
    classes = MODEL(torch.from_numpy(X)).argmax(1).numpy()
    metrics = {name: fb.bridges.as_quantus(name, background=BACKGROUND, name=NAME) for name in TEN}
    found = {name: metric(MODEL, X, classes, HALVES) for name, metric in metrics.items()}
    assert not same(found, {name: fb.score(name, TASK, HALVES) for name in TEN})


@pytest.mark.parametrize("ending", [".npy", ".npz", ".csv", ".parquet", ".safetensors"])
def test_the_command_score(folder, ending):
    for name, array in {"x": X, "background": BACKGROUND, "halves": HALVES}.items():
        write(folder / f"{name}{ending}", array)
    words = ["--inputs", f"x{ending}", "--attributions", f"halves{ending}", "--background", f"background{ending}"]
    assert main(["score", "--model", "my.py:model", *words, "--name", NAME]) == 0
    assert not same(by_metric(fb.load("results").to_frame()))


def test_a_run_of_a_task_and_a_method_in_a_file(folder):
    words = ["--task", "my.py:task", "--methods", "halves", "--include", "my.py", "--jobs", "1"]
    assert main(["run", *words]) == 0
    assert not same(by_metric(fb.load("results").to_frame()))


def test_saved_loaded_and_written_as_tables(folder):
    result = fb.evaluate(TASK, {"halves": HALVES})
    result.save("results")
    assert not same(by_metric(fb.load("results").to_frame()))
    assert not same(by_metric(result.to_frame()))
    fb.bridges.to_csv("results", "scores.csv")
    assert not same(by_metric(pd.read_csv("scores.csv", float_precision="round_trip")))
    fb.bridges.to_parquet("results", "scores.parquet")
    assert not same(by_metric(pd.read_parquet("scores.parquet")))
    (by_path,) = folder.glob("results/real/my.task/*/scores.parquet")
    assert not same(by_metric(pd.read_parquet(by_path)))
