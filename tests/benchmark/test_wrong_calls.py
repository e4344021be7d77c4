"""Wrong calls of the Python interface: one sentence each says what was expected, what came and what to do."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import benchmark as fb
from benchmark.core.errors import BenchmarkError, UsageError
from benchmark.modalities.removal import ColumnRemoval
from tests.benchmark.test_wrapping import Words


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


X, MODEL = drawn(8, 6), nn.Linear(6, 3)
HOLED = X.clone().index_put_((torch.tensor([2]), torch.tensor([1])), torch.tensor(float("nan")))
IDS, IMAGES = torch.randint(2, 20, (4, 5)), drawn(4, 3, 8, 8)
CNN = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))


def named(letters):
    return pd.DataFrame(X.numpy(), columns=list(letters))


class Softmax(nn.Module):
    def forward(self, x):
        return x[:, :3].softmax(1)


class Single(nn.Module):
    def forward(self, x):
        return x[:, :1].softmax(1)


TASKS = {
    "no model": (lambda: fb.task("resnet", X), "expected a model .* got str: pass an nn.Module"),
    "model and inputs swapped": (lambda: fb.task(X, MODEL), "x expects inputs, got a Linear: the model comes first"),
    "a function as inputs": (lambda: fb.task(MODEL, lambda x: x), "x expects inputs, got a function: the model comes"),
    "one class": (lambda: fb.task(Single(), X), "one column that is 1 .* two classes or more"),
    "three axes": (lambda: fb.task(MODEL, X.view(8, 2, 3)), r"\(8, 2, 3\) .*cannot be told: .*x\[:, None\]"),
    "one axis": (lambda: fb.task(MODEL, X[0]), r"\(6,\) .*cannot be told: .*numbers \(N, columns\)"),
    "whole numbers": (lambda: fb.task(MODEL, IDS), 'say modality="text" or modality="table"'),
    "pixels as bytes": (lambda: fb.task(CNN, IMAGES.byte()), "floating-point numbers: scale them"),
    "an image that is no square": (lambda: fb.task(CNN, IMAGES[..., :6]), r"side, side\), got \(4, 3, 8, 6\)"),
    "unknown modality": (lambda: fb.task(MODEL, X, modality="tabular"), "expects table, image or text, got 'tabular'"),
    "another modality": (lambda: fb.task(MODEL, X, modality="image"), "x of modality image expects pixels"),
    "not a number": (lambda: fb.task(MODEL, HOLED), "x holds NaN or infinity in row 2: drop these rows"),
    "empty": (lambda: fb.task(MODEL, X[:0]), r"x is empty, \(0, 6\)"),
    "objects": (lambda: fb.task(MODEL, np.array([[1, "a"]], dtype=object)), "an array of type object: give .* numbers"),
    "a column twice": (lambda: fb.task(MODEL, named("abcdea")), "x holds the name 'a' twice: rename or drop one"),
    "a column of the background twice": (
        lambda: fb.task(MODEL, named("abcdef"), background=named("abcdee")), "background holds the name 'e' twice",
    ),
    "words in a column": (
        lambda: fb.task(MODEL, pd.DataFrame({"age": [1.0], "sex": ["f"]})), "x expects columns of numbers, got .* sex",
    ),
    "ragged lists": (lambda: fb.task(MODEL, [[1.0, 2.0], [3.0]]), "x expects an array, got a list that makes none"),
    "complex numbers": (lambda: fb.task(MODEL, X.to(torch.complex64)), "real numbers, got a tensor of torch.complex64"),
    "a file": (lambda: fb.task(MODEL, "rows.pkl"), "x expects numbers, got the text 'rows.pkl': load the file first"),
    "texts without a tokenizer": (lambda: fb.task(Words(), ["a film"]), "no tokenizer: pass tokenizer="),
    "another width": (lambda: fb.task(MODEL, drawn(8, 5)), r"cannot answer inputs of shape \(8, 5\)"),
    "elsewhere": (lambda: fb.task(MODEL, X.to("meta")), "x is on the device meta, .* no numbers: give a tensor"),
    "masked cells": (
        lambda: fb.task(MODEL, np.ma.masked_array(X.numpy(), X.numpy() > 0)), r"x has masked cells, .*\.filled",
    ),
    "no answer": (
        lambda: fb.task(lambda rows: torch.full((len(rows), 3), torch.nan), X), "answers NaN or infinity for all of x",
    ),
    "no weights yet": (lambda: fb.task(nn.Linear(6, 3, device="meta"), X), "the model is on the device meta, .*load"),
    "background of another width": (
        lambda: fb.task(MODEL, X, background=drawn(9, 5)), r"background expects rows like .*\(6,\), got \(5,\)",
    ),
    "background of other columns": (
        lambda: fb.task(MODEL, named("abcdef"), background=named("abcdeg")),
        "background has the columns .*g, expected those of x",
    ),
    "logits that are probabilities": (lambda: fb.task(Softmax(), X, output="logits"), 'say output="probabilities"'),
    "probabilities that are logits": (lambda: fb.task(MODEL, X, output="probabilities"), 'say output="logits"'),
    "unknown output": (lambda: fb.task(MODEL, X, output="odds"), "output expects .* got 'odds'"),
    "labels of other classes": (lambda: fb.task(MODEL, X, labels=[3] * 8), "labels expects .* 0 to 2.*3 to 3"),
    "too few labels": (lambda: fb.task(MODEL, X, labels=[0, 1]), r"labels expects a class.*8 inputs, got \(2,\)"),
    "labels that are shares": (lambda: fb.task(MODEL, X, labels=[0.5] * 8), "a whole number from 0.*torch.float64"),
    "no labels for the target": (lambda: fb.task(MODEL, X, target="label"), "no labels are given: pass labels="),
    "target class": (lambda: fb.task(MODEL, X, target=3), "target expects a class from 0 to 2.*got 3"),
    "target word": (lambda: fb.task(MODEL, X, target="best"), "target expects .predicted.*got 'best'"),
    "too few targets": (lambda: fb.task(MODEL, X, target=torch.zeros(3).long()), r"target expects.*got \(3,\)"),
    "unknown removal": (lambda: fb.task(MODEL, X, removal="means"), "unknown removal 'means'; did you mean 'mean'"),
    "unknown setting": (lambda: fb.task(CNN, IMAGES, removal="blur[radius=2]"), "blur has no parameter 'radius'"),
    "unclosed setting": (lambda: fb.task(CNN, IMAGES, removal="blur[sigma"), r"write name or name\[parameter=value"),
    "removal of images": (lambda: fb.task(MODEL, X, removal="blur"), "'blur' is for image, and x is a table"),
    "removal of another width": (
        lambda: fb.task(MODEL, X, removal=ColumnRemoval(torch.zeros(5))), "of 5 features, and an input of x has 6",
    ),
    "row of another width": (lambda: fb.task(MODEL, X, removal=[0.0] * 5), r"a row of 6 columns, got \(5,\)"),
    "removal by no number": (lambda: fb.task(MODEL, X, removal=float("nan")), "expects finite numbers.*got nan"),
    "a row with infinity": (lambda: fb.task(MODEL, X, removal=[1e300] * 6), "finite numbers of torch.float32, got"),
    "no mask token": (lambda: fb.task(Words(), IDS), "nobody said which that is: pass mask_id="),
    "too few groups": (lambda: fb.task(MODEL, X, groups=[0, 0, 1]), r"shape \(6,\), got \(3,\)"),
    "groups with gaps": (lambda: fb.task(MODEL, X, groups=[0, 0, 2, 2, 3, 3]), "without gaps, got 0 to 3 with 3"),
    "groups that fall": (lambda: fb.task(Words(), IDS, mask_id=1, groups=[1, 1, 0, 0, 0]), "never fall along a text"),
    "budget": (lambda: fb.task(MODEL, X, budget=0), "a number of steps of at least 1, got 0"),
    "name": (lambda: fb.task(MODEL, X, name="a/b"), "name expects up to 64 letters.*got 'a/b'"),
    "too few feature names": (lambda: fb.task(MODEL, X, feature_names=["a"]), "each of the 6 features, got 1"),
    "feature names as one text": (
        lambda: fb.task(MODEL, X, feature_names="abcdef"), "feature_names expects a list of names, got 'abcdef'",
    ),
    "the number of features": (lambda: fb.task(MODEL, X, feature_names=6), "expects a list of names, got 6"),
    "a feature name twice": (
        lambda: fb.task(MODEL, X, feature_names=list("abcdea")), "feature_names holds the name 'a' twice",
    ),
    "feature names that are numbers": (
        lambda: fb.task(MODEL, X, feature_names=range(6)), "feature_names expects texts, got 0, 1.*: give .*map.str",
    ),
    "class names as one text": (
        lambda: fb.task(MODEL, X, class_names="abc"), "class_names expects a list of names, got 'abc'",
    ),
    "a class name twice": (lambda: fb.task(MODEL, X, class_names=list("aba")), "class_names holds the name 'a' twice"),
    "too few class names": (lambda: fb.task(MODEL, X, class_names=["a"]), "the model's 3 classes, got 1"),
    "a tokenizer of a table": (
        lambda: fb.task(MODEL, X, modality="table", tokenizer=object()), "tokenizer is for text, and x is a table",
    ),
    "a mask token of a table": (
        lambda: fb.task(MODEL, X, modality="table", mask_id=1), "mask_id is for text, and x is a table: leave it out",
    ),
    "a layer of a table": (lambda: fb.task(MODEL, X, spatial="0"), "spatial is for image, and x is a table: leave it"),
    "a layer of a function": (
        lambda: fb.task(lambda x: x.mean((2, 3)), IMAGES, spatial="0"), "got '0', and the model has none",
    ),
    "unknown source": (lambda: fb.task(MODEL, X, source="drawn"), "source expects real or synthetic, got 'drawn'"),
    "unknown layer": (lambda: fb.task(CNN, IMAGES, spatial="10"), "spatial expects a layer of the model, got '10'"),
}  # fmt: skip


def evaluated(given, **settings):
    return lambda: fb.evaluate(fb.task(MODEL, X), given, **settings)


def scored(metric):
    return lambda: fb.score(metric, fb.task(MODEL, X), X)


EVALUATIONS = {
    "no task": (lambda: fb.evaluate(MODEL, {"mine": X}), "expected a task, as .* makes it, got Linear"),
    "no label": (evaluated(X), 'expected attributions by label, such as .* got Tensor'),
    "nothing": (evaluated({}), "expected attributions by label, .* got dict of nothing"),
    "a label that is none": (evaluated({1: X}), "a label expects up to 64 printable letters, got 1"),
    "two of a label": (evaluated([("mine", X), ("mine", -X)]), "two sets of attributions are called 'mine': rename"),
    "one method twice": (
        evaluated({"a": fb.method("saliency"), "b": fb.method("saliency")}), "'a' and 'b' are the same method",
    ),
    "fewer rows": (evaluated({"mine": X[:5]}), r"mine has the shape \(5, 6\), expected attributions of 8 inputs"),
    "another width": (evaluated({"mine": X[:, :5]}), r"mine has the shape \(8, 5\), expected \(8, 6\)"),
    "one axis": (evaluated({"mine": X[:, 0]}), r"mine has the shape \(8,\)"),
    "nothing at all": (evaluated({"mine": None}), r"mine is None: expected attributions of shape \(8, 6\)"),
    "complex": (evaluated({"mine": X.to(torch.complex64)}), "mine expects real numbers"),
    "objects": (evaluated({"mine": np.array([[None] * 6] * 8)}), "mine expects numbers, got an array of type object"),
    "a column twice": (
        evaluated({"mine": pd.DataFrame(X, columns=list("abcdea"))}), "mine holds the name 'a' twice: rename or drop",
    ),
    "other columns": (
        evaluated({"mine": pd.DataFrame(X, columns=list("abcdef"))}), "mine has the columns a, b.*expected .*feature 1",
    ),
    "a name": (evaluated({"mine": "saliency"}), r"the text 'saliency': benchmark.method\('saliency'\) is the method"),
    "no argument": (evaluated({"mine": lambda: X}), "mine: an explainer expects inputs, or inputs and targets"),
    "a third argument": (
        evaluated({"mine": lambda x, target, steps: X}), "mine: an explainer is given inputs .* needs steps, too",
    ),
    "a third argument, and a target by no name": (
        evaluated({"mine": lambda x, baselines, steps: X}), "needs steps, too: .*default, or bind .*functools.partial",
    ),
    "an argument by name alone": (evaluated({"mine": lambda x, *, steps: X}), "mine: .* needs steps, too"),
    "more than Quantus gives": (
        evaluated({"mine": lambda model, inputs, targets, steps: X}), "mine: .* needs steps, too",
    ),
    "method for images": (evaluated({"cam": fb.method("grad_cam")}), "cam cannot explain this task: it explains image"),
    "learned in float64": (
        lambda: fb.evaluate(fb.task(nn.Linear(6, 3).double(), X), {"l2x": fb.method("l2x")}), "float32, and .* float64",
    ),
    "unknown metric": (evaluated({"mine": X}, metrics="DLE"), "unknown metric 'DLE'; did you mean 'DEL'"),
    "unknown metrics": (evaluated({"mine": X}, metrics=["DEL", "XYZ"]), "unknown metric 'XYZ'"),
    "unknown metric of a score": (scored("DELL"), "unknown metric 'DELL'; did you mean 'DEL'"),
    "a group of a score": (scored("ten"), "one metric, got 'ten', which chooses FC, .* 2 more: evaluate.* scores them"),
    "a group of one metric": (scored("stability"), "one metric, got 'stability', which chooses SENS"),
    "a glob of a score": (scored("f*"), "one metric, got 'f[*]', which chooses FC, FE"),
    "all but one metric": (scored("!DEL"), "one metric, got '!DEL'"),
    "several metrics of a score": (scored(["DEL", "FC"]), "one metric, got list: evaluate takes several"),
    "unknown sample": (evaluated({"mine": X}, samples=[9]), "expected some of the 8 test samples of own"),
    "one sample": (evaluated({"mine": X}, samples=3), r"such as range\(3\), or None for all, got 3"),
    "a slice of samples": (evaluated({"mine": X}, samples=slice(0, 3)), r"None for all, got slice\(0, 3, None\)"),
    "samples that are shares": (evaluated({"mine": X}, samples=[0.0, 1.0]), r"None for all, got \[0.0, 1.0\]"),
    "samples as a word": (evaluated({"mine": X}, samples="all"), "row numbers, such .* None for all, got 'all'"),
    "a mask of samples": (evaluated({"mine": X}, samples=[True, False] * 4), r"a mask: np.flatnonzero\(mask\) gives"),
    "a sample twice": (evaluated({"mine": X[:2]}, samples=[1, 1]), "row numbers that are different, got 1, 1"),
    "seed": (evaluated({"mine": X}, seed="0"), "seed expects a whole number of at least 0, got '0'"),
    "a seed below 0": (evaluated({"mine": X}, seed=-1), "seed expects a whole number of at least 0, got -1"),
    "a seed below 0 for Quantus": (
        lambda: fb.bridges.as_explain_func("saliency", seed=-1), "seed expects a whole number of at least 0, got -1",
    ),
    "no metrics": (evaluated({"mine": X}, metrics=None), "metrics expects a name or a list of names, got None"),
    "the number of metrics": (evaluated({"mine": X}, metrics=3), "metrics expects a name or a list of names, got 3"),
    "unknown method": (lambda: fb.method("salency"), "unknown method 'salency'; did you mean 'saliency'"),
    "unknown parameter": (lambda: fb.method("lime", samples=3), "no parameter 'samples'; did you mean 'n_samples'"),
    "parameter of another type": (lambda: fb.method("lime", n_samples="3"), "expects a whole number or none, got '3'"),
    "method that is none": (lambda: fb.method(nn.Linear), "expects the name of a method, got type"),
    "texts of another length": (
        lambda: fb.evaluate(fb.task(Words(), IDS, mask_id=1), {"mine": [[1.0]] * 4}), "text 0, .* each of its 5",
    ),
    "fewer texts": (
        lambda: fb.evaluate(fb.task(Words(), IDS, mask_id=1), {"mine": [[1.0, 2.0]] * 3}), "3 lists, .* 4 texts",
    ),
    "no folder": (lambda: fb.load("nowhere"), "expects a folder of records, .* nothing at 'nowhere'"),
    "a file": (lambda: fb.load(__file__), "expects a folder of records, .* got a file"),
    "a folder that is none": (lambda: fb.load(None), "folder expects a path, got None"),
    "a folder by number": (lambda: fb.load(3), "folder expects a path, got 3"),
    "modality of methods": (lambda: fb.list_methods("tabular"), "expects table, image or text, got 'tabular'"),
    "modality of removals": (lambda: fb.list_removals("tabel"), "expects table, image or text, got 'tabel'"),
    "steps": (lambda: fb.Budget(0), "steps of a budget expects a whole number of at least 1, got 0"),
    "steps as text": (lambda: fb.Budget("a"), "steps of a budget expects a whole number of at least 1, got 'a'"),
    "subsets": (lambda: fb.Budget(3, subsets=0), "subsets of a budget expects a whole number of at least 1, got 0"),
    "share of features": (lambda: fb.Budget(3, subset_fraction=2), "subset_fraction of a budget .* 0 to 1, got 2"),
    "least of features": (lambda: fb.Budget(3, subset_minimum=-1), "subset_minimum of a budget .*at least 0, got -1"),
}  # fmt: skip


FAILURES = {
    "no return": (evaluated({"mine": lambda x, target: None}), "mine: what it returned is None: .*does a return miss"),
    "another return": (evaluated({"mine": lambda x, target: x[:2]}), r"mine: what it returned has the shape \(2, 6\)"),
}  # fmt: skip


def scores(x):
    return torch.zeros(len(x))


CHECKS = {
    "unknown cases": ({"cases": "mlx*"}, r"unknown golden case 'mlx\*'"),
    "the number of cases": ({"cases": 3}, "cases expects a name or a list of names, got 3"),
    "unknown variant": ({"variants": "strat"}, "unknown variant 'strat'; did you mean 'start'"),
    "the number of variants": ({"variants": 3}, "variants expects a name or a list of names, got 3"),
}


@pytest.mark.parametrize("call", CHECKS)
def test_a_wrong_call_of_check_metric_gets_one_sentence(call):
    given, sentence = CHECKS[call]
    with pytest.raises(UsageError, match=sentence):
        fb.testing.check_metric("DEL", scores, **given)


RESULTS = {
    "no folder": (lambda result: result.save(None), "folder expects a path, got None"),
    "a board of a number": (lambda result: result.board(3), "no board of the metrics 3; known: ten"),
    "a board beside a number": (lambda result: fb.bridges.beside(result, 3), "such as from_quantus makes, got int"),
    "a table without a path": (lambda result: fb.bridges.to_csv(result, None), "path expects a path, got None"),
    "a folder that is missing": (
        lambda result: fb.bridges.to_csv(result, "missing/scores.csv"), "cannot write .*no such folder; make it",
    ),
    "another ending": (lambda result: fb.bridges.to_parquet(result, "scores.csv"), r"ends in .parquet, got 'scores"),
}  # fmt: skip


@pytest.fixture(scope="module")
def result():
    return fb.evaluate(fb.task(MODEL, X), {"mine": X})


@pytest.mark.parametrize("call", RESULTS)
def test_a_wrong_call_of_a_result_gets_one_sentence(call, result, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ask, sentence = RESULTS[call]
    with pytest.raises(UsageError, match=sentence):
        ask(result)
    assert not list(tmp_path.iterdir()), "nothing is made"


KINDS = {"task": TASKS, "evaluation": EVALUATIONS, "failure": FAILURES}


@pytest.mark.parametrize(("kind", "call"), [(kind, call) for kind, calls in KINDS.items() for call in calls])
def test_a_wrong_call_gets_one_sentence(kind, call):
    ask, sentence = KINDS[kind][call]
    with pytest.raises(fb.SomeFailedError if kind == "failure" else UsageError) as raised:
        ask()
    text = str(raised.value)
    assert re.search(sentence, text), text
    assert "\n" not in text
    assert not re.search(r"[.] [A-Z]", text), "one sentence"


def test_a_folder_without_records_and_one_with_damage_are_refused(tmp_path):
    with pytest.raises(BenchmarkError, match="no records in"):
        fb.load(tmp_path)
    fb.evaluate(fb.task(MODEL, X), {"mine": X}).save(tmp_path)
    with pytest.raises(UsageError, match="no records of a task 'onw' .*did you mean 'own'"):
        fb.load(tmp_path, task="onw")
    next(tmp_path.glob("real/own/*/scores.parquet")).write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="1 record in .* cannot be read, of which the first: "):
        fb.load(tmp_path)


def test_pickled_arrays_are_not_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a long path is shortened in the sentence
    np.save("rows.npy", np.array([[1, "a"]], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match=r"x expects numbers, got the text .*rows.npy.*load the file first"):
        fb.task(MODEL, "rows.npy")
