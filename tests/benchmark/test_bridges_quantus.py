"""Quantus calls our metrics and methods, and its results come back marked as its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import benchmark as fb
from benchmark.core.errors import UsageError
from benchmark.models.training import freeze

RNG = np.random.default_rng(0)
ROWS, BACKGROUND = (RNG.normal(size=(rows, 6)).astype(np.float32) for rows in (9, 30))
IMAGES = RNG.normal(size=(4, 1, 8, 8)).astype(np.float32)


def table_model():
    torch.manual_seed(0)
    return freeze(torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)))


def image_model():
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(1, 2, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(72, 3)
    return freeze(torch.nn.Sequential(*layers))


CASES = {"table": (table_model, ROWS, {"background": BACKGROUND}), "image": (image_model, IMAGES, {})}


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("metric", ["DEL", "FC", "MC"])
def test_a_metric_called_as_quantus_does_scores_as_the_evaluator(kind, metric):
    make, x, how = CASES[kind]
    model, attributions = make(), RNG.normal(size=x.shape)
    classes = np.arange(len(x)) % 3
    scores = fb.bridges.as_quantus(metric, **how)(model=model, x_batch=x, y_batch=classes, a_batch=attributions)
    task = fb.task(model, x, target=classes, **how)
    assert all(type(score) is float for score in scores)
    assert torch.equal(torch.tensor(scores, dtype=torch.float64), torch.tensor(fb.score(metric, task, attributions)))


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("method", ["saliency", "lime", "random"])
def test_a_method_called_as_quantus_does_explains_as_in_an_evaluation(kind, method):
    make, x, how = CASES[kind]
    model, classes = make(), np.arange(len(x)) % 3
    given = fb.bridges.as_explain_func(fb.method(method), **how)(model, x, classes, device="cpu", method="any")
    task = fb.task(model, x, target=classes, **how)
    assert given.shape == (x.shape if kind == "table" else (len(x), 1, 8, 8))
    if method != "random":  # whose record is over several seeds
        evaluation = fb.evaluate(task, {"it": fb.method(method)}, metrics="DEL").evaluations["it"]
        assert torch.equal(torch.tensor(given.reshape(len(x), -1)), evaluation.attributions)


def test_without_attributions_the_explain_func_is_asked():
    model, classes = table_model(), np.zeros(9, int)
    explain = fb.bridges.as_explain_func("saliency")
    metric = fb.bridges.as_quantus("INS")
    asked = metric(model, ROWS, classes, None, explain_func=explain, explain_func_kwargs={"method": "m"}, softmax=True)
    assert asked == metric(model, ROWS, classes, explain(model, ROWS, classes))


WRONG = [
    (lambda m: fb.bridges.as_quantus("DLE"), "did you mean 'DEL'"),
    (lambda m: fb.bridges.as_quantus("F*"), "as_quantus expects the name of one metric, got 'F*', which means FC, FE"),
    (lambda m: fb.bridges.as_quantus("DEL", target=1), "target is what Quantus passes in each call: leave it out"),
    (lambda m: fb.bridges.as_explain_func("salency"), "did you mean 'saliency'"),
    (lambda m: fb.bridges.as_explain_func("saliency", groups=[0]), "expects no groups"),
    (lambda m: fb.bridges.as_quantus("DEL")(m, ROWS, np.zeros(9)), "DEL expects a_batch, or an explain_func"),
    (lambda m: fb.bridges.as_quantus("DEL")(m, ROWS, np.zeros(9), ROWS[:, :2]), "(9, 2)"),
    (lambda m: fb.bridges.as_quantus("DEL")(m, ROWS, np.full(9, 7), ROWS), "7"),
    (lambda m: fb.bridges.as_quantus("DEL")(m, ROWS, np.zeros(9), ROWS, channel_first=False), "transpose the inputs"),
    (lambda m: fb.bridges.as_explain_func("grad_cam")(m, ROWS, np.zeros(9)), "grad_cam cannot explain these inputs"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_wrong_calls_are_one_sentence(call, message):
    with pytest.raises(UsageError) as raised:
        call(table_model())
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_quantus_itself_takes_ours_and_its_results_come_back():
    quantus = pytest.importorskip("quantus")
    model, classes = image_model(), np.array([0, 1, 2, 0])
    deletion, explain = fb.bridges.as_quantus("DEL"), fb.bridges.as_explain_func("saliency")
    results = quantus.evaluate(
        metrics={"DEL": deletion, "Sparseness": quantus.Sparseness(disable_warnings=True)},
        xai_methods={"ours": explain}, model=model, x_batch=IMAGES, y_batch=classes, explain_func_kwargs={},
    )  # fmt: skip
    task = fb.task(model, IMAGES, target=classes)
    attributions = explain(model, IMAGES, classes)
    assert results["ours"]["DEL"] == fb.score("DEL", task, attributions).tolist()
    theirs = fb.bridges.from_quantus({"ours": {"Sparseness": results["ours"]["Sparseness"]}})
    assert theirs.frame["score"].tolist() == [float(score) for score in results["ours"]["Sparseness"]]
    result = fb.evaluate(task, {"ours": attributions})
    assert "Sparseness [Quantus]" in str(fb.bridges.beside(result, theirs))
