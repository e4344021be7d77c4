"""The command `score`: as the evaluator scores, to the last bit, and what is wrong is one sentence."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmark.cli.parser import main
from benchmark.core.types import Budget, Split, Task
from benchmark.modalities.removal import ColumnRemoval
from benchmark.records.store import RecordStore
from benchmark.scoring.evaluator import Evaluator

ROWS, FEATURES = 12, 5
MODEL = """
import torch

def build():
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))

model = build()

def probabilities(x):
    with torch.no_grad():
        return model(torch.as_tensor(x)).softmax(1)

def logits(x):
    with torch.no_grad():
        return model(torch.as_tensor(x))

def raises(x):
    raise RuntimeError("no weights here")

def one_number(x):
    return 3

def unfinished(x):
    return torch.full((len(x), 3), float("nan"))
"""
RNG = np.random.default_rng(0)
X, BACKGROUND = (RNG.normal(size=(rows, FEATURES)).astype(np.float32) for rows in (ROWS, 30))
MAPS = {name: RNG.normal(size=(ROWS, FEATURES)).astype(np.float32) for name in ("first", "second")}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder with a model, inputs, labels, background and two attributions, as the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").write_text(MODEL)
    np.savez("x.npz", x=X)
    np.save("background.npy", BACKGROUND)
    np.save("y.npy", np.arange(ROWS) % 3)
    for name, attributions in MAPS.items():
        np.save(f"{name}.npy", attributions)
    return tmp_path


GOOD = {
    "--model": "my.py:model", "--inputs": "x.npz", "--attributions": "first.npy second.npy",
    "--background": "background.npy",
}  # fmt: skip


def score(**changes):
    """Run the command with some options changed; None leaves one out."""
    options = GOOD | {f"--{name}": value for name, value in changes.items()}
    words = [word for name, value in options.items() if value is not None for word in (name, *value.split())]
    return main(["score", *words])


def reference(target=None):
    """Return the evaluations of the attributions on a task made by hand."""
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    x = torch.tensor(X)
    task = Task(
        name="own", modality="table", source="real", model=model.eval().requires_grad_(False),
        train=Split(torch.tensor(BACKGROUND), torch.zeros(len(BACKGROUND), dtype=torch.long)),
        test=Split(x, torch.arange(ROWS) % 3), removal=ColumnRemoval(torch.tensor(BACKGROUND).mean(0)),
        budget=Budget(FEATURES), feature_names=tuple("abcde"), class_names=("a", "b", "c"),
        **({} if target is None else {"target": target}),
    )  # fmt: skip
    return dict(zip(MAPS, Evaluator(task).score_all([torch.tensor(a) for a in MAPS.values()]), strict=True))


def stored(out="results"):
    """Return the stored scores by label and metric."""
    records, problems = RecordStore(Path(out)).scan()
    assert not problems
    return {
        record.label: {name: rows["score"].to_numpy() for name, rows in record.scores.groupby("metric", observed=True)}
        for record in records
    }


def check_equal(found, expected):
    assert set(found) == set(expected)
    for label, evaluation in expected.items():
        for metric, scores in evaluation.scores.items():
            assert torch.equal(torch.tensor(found[label][metric]).nan_to_num(9), scores.nan_to_num(9)), (label, metric)


def test_scores_are_those_of_the_evaluator_to_the_last_bit(folder, capsys):
    assert score() == 0
    assert "12 test samples" in capsys.readouterr().out
    check_equal(stored(), reference())


def test_the_label_is_the_target_where_that_is_asked_for(folder):
    assert score(labels="y.npy", target="label") == 0
    check_equal(stored(), reference("label"))


def test_every_form_of_file_and_of_model_gives_the_same(folder):
    import pandas as pd
    from safetensors.torch import save_file

    save_file({"x": torch.tensor(X)}, "x.safetensors")
    pd.DataFrame(MAPS["first"], columns=list("abcde")).to_parquet("first.parquet")
    np.savez("maps.npz", **MAPS)
    assert score(inputs="x.safetensors", attributions="first.parquet maps.npz:second", model="my.py:build") == 0
    check_equal(stored(), reference())


def test_methods_stand_beside_and_a_page_is_written(folder, capsys):
    assert score(methods="saliency,random", metrics="DEL,INS", page="page.html") == 0
    assert set(stored()) == {"first", "second", "saliency", "random"}
    assert "saliency" in (folder / "page.html").read_text()
    assert main(["leaderboard", "--task", "own"]) == 0
    assert "second" in capsys.readouterr().out


FAILING = """
from dataclasses import dataclass
from benchmark.core.types import METHODS, Method

@METHODS.register("breaks")
@dataclass(frozen=True)
class Breaks(Method):
    early: bool = False

    def unsupported(self, spec):
        return 1 / 0 if self.early else None

    def prepare(self, task, seed):
        raise RuntimeError("no explanation today")
"""


@pytest.mark.parametrize("name", ["breaks", "breaks[early=true]"])
def test_a_method_that_fails_is_exit_code_1_and_ends_no_other(folder, capsys, name):
    (folder / "breaks.py").write_text(FAILING)
    assert score(include="breaks.py", methods=f"{name},saliency", metrics="DEL") == 1
    out = capsys.readouterr().out
    assert re.search(rf"failed: {re.escape(name)}(:| cannot be planned:) .*(RuntimeError|ZeroDivisionError)", out)
    assert "breaks.py, line" in out
    assert "3 scored, 0 skipped, 1 failed" in out
    assert set(stored()) == {"first", "second", "saliency"}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model": "my.py:logits", "methods": "saliency,occlusion"}, "skipped: saliency: the model is a black box"),
        ({"labels": "y.npy", "target": "label", "methods": "vert,occlusion"}, "skipped: vert: vert explains the class"),
        ({"inputs": "x64.npy", "methods": "l2x,occlusion"}, "skipped: l2x: is trained in"),
    ],
)
def test_a_method_that_does_not_suit_is_skipped_whenever_that_is_found(folder, capsys, changes, why):
    np.save("x64.npy", X.astype(np.float64))
    (folder / "my.py").write_text(MODEL + ("model.double()\n" if "inputs" in changes else ""))
    assert score(**changes, metrics="DEL") == 0
    out = capsys.readouterr().out
    assert why in out
    assert "3 scored, 1 skipped, 0 failed" in out
    assert set(stored()) == {"first", "second", "occlusion"}


NAMES = list("abcde")


def test_columns_of_tables_are_matched_by_name(folder):
    import pandas as pd

    assert score(metrics="DEL,FC", methods="saliency") == 0
    expected = stored()
    for names in (NAMES, list("01234")):
        turned = [3, 0, 4, 1, 2]
        pd.DataFrame(X, columns=names).to_parquet("x.parquet")
        for name, rows in {"background": BACKGROUND, **MAPS}.items():
            pd.DataFrame(rows[:, turned], columns=[names[i] for i in turned]).to_parquet(f"{name}.parquet")
        files = {"attributions": "first.parquet second.parquet", "background": "background.parquet", "out": names[0]}
        assert score(inputs="x.parquet", metrics="DEL,FC", methods="saliency", **files) == 0
        found = stored(names[0])
        assert found.keys() == expected.keys()
        for label, scores in expected.items():
            assert all(np.array_equal(found[label][name], scores[name], equal_nan=True) for name in scores), label


def test_an_unknown_column_is_one_sentence(folder, capsys):
    import pandas as pd

    pd.DataFrame(X, columns=NAMES).to_parquet("x.parquet")
    pd.DataFrame(MAPS["first"], columns=list("01234")).to_parquet("first.parquet")
    assert score(inputs="x.parquet", attributions="first.parquet") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "first.parquet has no column a, b, c, d, e and an unknown one, 0, 1, 2, 3, 4: expected the columns" in line


def test_an_attribution_that_is_not_finite_is_named_and_exit_code_1(folder, capsys):
    with_nan("first.npy", MAPS["first"])
    assert score(metrics="DEL") == 1
    assert "the attribution of 1 of 12 samples is not finite" in capsys.readouterr().out
    assert np.isnan(stored()["first"]["DEL"]).sum() == 1


def test_maps_of_images_are_summed_over_channels(folder):
    (folder / "net.py").write_text(
        "import torch\ntorch.manual_seed(0)\n"
        "net = torch.nn.Sequential(torch.nn.Conv2d(2, 2, 3), torch.nn.Flatten(), torch.nn.Linear(72, 3))\n"
    )
    images = RNG.normal(size=(4, 2, 8, 8)).astype(np.float32)
    np.save("images.npy", images)
    np.save("map.npy", images.sum(1))
    np.save("channels.npy", images)
    assert score(model="net.py:net", inputs="images.npy", attributions="map.npy channels.npy", background=None) == 0
    found = stored()
    assert all(np.array_equal(found["map"][name], found["channels"][name], equal_nan=True) for name in found["map"])


def test_methods_that_do_not_apply_are_skipped_and_said(folder, capsys):
    assert score(methods="grad_cam,saliency", metrics="DEL") == 0
    out = capsys.readouterr().out
    assert "skipped: grad_cam: explains image, not table" in out
    assert "3 scored, 1 skipped, 0 failed; records in results" in out
    assert score(methods="grad_cam") == 2
    assert "none of --methods explains these inputs: grad_cam: explains image, not table" in capsys.readouterr().err


def pickled(_folder):
    np.save("first.npy", np.array([{}], dtype=object), allow_pickle=True)


def bare_pickle(_folder):
    with open("first.pkl", "wb") as file:
        pickle.dump(MAPS["first"], file)


def with_nan(name, rows):
    changed = rows.copy()
    changed[1, 2] = np.nan
    np.save(name, changed)


def cut(folder):
    content = (folder / "x.npz").read_bytes()
    (folder / "x.npz").write_bytes(content[: len(content) // 2])


WRONG = [
    (
        None,
        {"model": "nowhere.py:model"},
        3,
        "--model expects a Python file, got 'nowhere.py': no such file",
    ),
    (None, {"model": "my.py:modle"}, 2, "my.py has no 'modle'; did you mean 'model'?"),
    (None, {"model": "weights.safetensors"}, 2, "such a file holds weights and not what to do with them"),
    (None, {"model": "my.py:raises"}, 2, "no weights here"),
    (None, {"model": "my.py:one_number"}, 2, "a model must give logits or probabilities (batch, classes), got int"),
    (None, {"model": "my.py:probabilities", "output": "logits"}, 2, 'say output="probabilities"'),
    (None, {"model": "my.py:model", "output": "probabilities"}, 2, 'say output="logits"'),
    (None, {"inputs": "nowhere.npz"}, 3, "nowhere.npz: no such file"),
    (None, {"inputs": "x.npz:y"}, 2, "x.npz has no array 'y'"),
    (None, {"inputs": "my.py"}, 2, "my.py: expected a file that ends in .npy, .npz"),
    (None, {"inputs": "y.npy"}, 2, "y.npy: expected an array of 2 or 3 or 4 axes, got shape (12,)"),
    (cut, {}, 3, "x.npz is no whole npz archive"),
    (lambda f: with_nan("x.npy", X), {"inputs": "x.npy"}, 3, "x.npy: expected finite numbers, got nan at [1, 2]"),
    (lambda f: np.savez("x.npz", a=X, b=X), {}, 2, "x.npz holds 2 arrays (a, b), expected one: choose with x.npz:a"),
    (lambda f: (f / "x.csv").write_text("a,b\n1,two\n"), {"inputs": "x.csv"}, 3, "line 2, column b: expected a number"),
    (lambda f: (f / "x.csv").write_text(""), {"inputs": "x.csv"}, 3, "x.csv is empty"),
    (pickled, {}, 2, "expected an array of numbers, got one of Python objects; pickles are never read"),
    (bare_pickle, {"attributions": "first.pkl"}, 2, "pickles are never read"),
    (None, {"attributions": "first.npy first.npy"}, 2, "two of --attributions are called 'first'"),
    (None, {"attributions": None}, 2, "expected --attributions FILE ... or --methods NAMES, got neither"),
    (
        lambda f: np.save("saliency.npy", MAPS["first"]),
        {"attributions": "saliency.npy", "methods": "saliency"},
        2,
        "'saliency' is both a file of --attributions and one of --methods",
    ),
    (lambda f: np.save("first.npy", MAPS["first"][:7]), {}, 2, "expected attributions of the 12 inputs, got 7 rows"),
    (lambda f: np.save("first.npy", MAPS["first"][:, :3]), {}, 2, "first"),
    (lambda f: np.save("background.npy", BACKGROUND[:, :3]), {}, 2, "background"),
    (lambda f: with_nan("background.npy", BACKGROUND), {}, 3, "background.npy: expected finite numbers, got nan"),
    (lambda f: np.save("y.npy", np.arange(5)), {"labels": "y.npy"}, 2, "expected a label for each of 12 inputs"),
    (lambda f: np.save("y.npy", np.full(12, 0.5)), {"labels": "y.npy"}, 2, "expected whole numbers of classes from 0"),
    (lambda f: np.save("y.npy", np.full(12, 7)), {"labels": "y.npy", "target": "label"}, 2, "7"),
    (None, {"target": "label"}, 2, "--target label expects --labels FILE"),
    (None, {"target": "predict"}, 2, "a class or one for each input, got 'predict'"),
    (None, {"target": "7"}, 2, "7"),
    (None, {"removal": "maen"}, 2, "maen"),
    (None, {"methods": "lime,lime[n_samples=100]"}, 2, "are the same method with the same parameters: drop one"),
    (None, {"metrics": "DLE"}, 2, "did you mean 'DEL'"),
    (None, {"methods": "salency"}, 2, "did you mean 'saliency'"),
    (None, {"page": "page.pdf"}, 2, "--page expects a file that ends in .html"),
    (None, {"name": "a/b"}, 2, "a/b"),
]


@pytest.mark.parametrize(("make", "changes", "code", "message"), WRONG)
def test_a_wrong_call_is_one_sentence(folder, capsys, make, changes, code, message):
    if make is not None:
        make(folder)
    assert score(**changes) == code
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1, said.err
    assert not (folder / "results").exists() or not list((folder / "results").glob("*/*/*"))


def test_other_attributions_of_one_label_replace_records_only_where_that_is_said(folder, capsys):
    assert score(attributions="first.npy", metrics="DEL") == 0
    before = stored()
    np.save("first.npy", np.load("first.npy") + 1.5)
    assert score(attributions="first.npy", metrics="DEL") == 2
    assert "--overwrite always" in capsys.readouterr().err
    assert np.array_equal(stored()["first"]["DEL"], before["first"]["DEL"])
    assert score(attributions="first.npy", metrics="DEL", overwrite="always") == 0


def test_rows_of_parquet_files_are_matched_by_their_index(folder, capsys):
    rows = [f"row {i}" for i in np.random.default_rng(3).permutation(ROWS)]
    for name, array in {"x": X, "first": MAPS["first"]}.items():
        pd.DataFrame(array, index=rows).rename(columns=str).to_parquet(f"{name}.parquet")
    pd.read_parquet("first.parquet").sort_index().to_parquet("sorted.parquet")
    pd.DataFrame({"y": np.arange(ROWS) % 3}, index=rows).sort_index().to_parquet("y.parquet")
    given = {"inputs": "x.parquet", "attributions": "first.parquet sorted.parquet", "metrics": "DEL,FC"}
    assert score(**given, labels="y.parquet", target="label") == 0
    found = stored()
    for metric in ("DEL", "FC"):
        assert np.array_equal(found["first"][metric], found["sorted"][metric])
    pd.read_parquet("first.parquet").set_axis(range(90, 90 + ROWS)).to_parquet("other.parquet")
    assert score(**given | {"attributions": "other.parquet"}) == 2
    assert "expected those of x" in capsys.readouterr().err


OWN = """
from dataclasses import dataclass, replace
from benchmark.scoring.metrics import METRICS

METRICS.register("EDITED", group="own")(replace(METRICS["RP"], title="TITLE"))
"""


def test_an_edited_metric_of_another_replaces_no_scores_without_a_word(folder, capsys):
    (folder / "own.py").write_text(OWN)
    assert score(attributions="first.npy", metrics="EDITED", include="own.py") == 0
    before = stored()
    (folder / "own.py").write_text(OWN.replace('"RP"', '"DEL"'))
    assert score(attributions="first.npy", metrics="EDITED", include="own.py") == 2
    assert "of another version of EDITED" in capsys.readouterr().err
    assert np.array_equal(stored()["first"]["EDITED"], before["first"]["EDITED"])
    assert score(attributions="first.npy", metrics="EDITED", include="own.py", overwrite="always") == 0


ESTIMATOR = """
import numpy as np
from sklearn.linear_model import LogisticRegression

x = np.load("background.npy")
forest = LogisticRegression().fit(x, np.array(["a", "b", "c"])[(x[:, 0] > 0).astype(int) + (x[:, 1] > 0)])
"""


def test_classes_of_an_estimator_are_numbers_in_files_and_names_on_the_command_line(folder, capsys):
    (folder / "own.py").write_text(ESTIMATOR)
    given = {"model": "own.py:forest", "attributions": "first.npy", "metrics": "DEL"}
    for out, changes in {
        "number": {"target": "2"},
        "name": {"target": "c"},
        "labels": {"labels": "all.npy", "target": "label"},
    }.items():
        np.save("all.npy", np.full(ROWS, 2))
        assert score(**given, **changes, out=out) == 0, capsys.readouterr().err
    assert np.array_equal(stored("number")["first"]["DEL"], stored("name")["first"]["DEL"])
    assert np.array_equal(stored("number")["first"]["DEL"], stored("labels")["first"]["DEL"])
    capsys.readouterr()
    assert score(**given, target="7") == 2
    assert "--target expects numbers of classes from 0 to 2, got 7" in capsys.readouterr().err


WORDS = """
import torch


class Words(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.out = torch.nn.Embedding(20, 4), torch.nn.Linear(4, 3)

    def forward(self, x, real=None):
        return self.out(self.embed(x).sum(1))
"""


def test_token_ids_are_scored_with_a_mask(folder, capsys):
    (folder / "words.py").write_text(WORDS)
    np.save("ids.npy", np.random.default_rng(0).integers(2, 20, (5, 7)))
    np.save("map.npy", np.random.default_rng(1).normal(size=(5, 7)))
    given = {
        "model": "words.py:Words",
        "inputs": "ids.npy",
        "attributions": "map.npy",
        "modality": "text",
        "background": None,
    }
    assert score(**given, metrics="DEL", **{"mask-id": "1", "pad-id": "0"}) == 0, capsys.readouterr().err
    assert score(**given) == 2
    assert "mask" in capsys.readouterr().err


def test_a_parameter_that_there_is_not_ends_all(folder, capsys):
    assert score(methods="lime[foo=1],saliency", metrics="DEL") == 2
    assert "lime has no parameter 'foo'" in capsys.readouterr().err
    assert not Path("results").exists()
