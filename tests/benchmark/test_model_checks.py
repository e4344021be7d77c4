"""What a model must be, and what becomes of samples about which it says nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmark.core.errors import DataError, UsageError
from benchmark.core.types import METHODS, Split
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.metrics import MODEL_NON_FINITE, TEN
from tests import toys


class Wrapped(nn.Module):
    """A toy model with something done to its input or output."""

    def __init__(self, model, done):
        super().__init__()
        self.model, self.done = model, done
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.done(self.model, x)


def wrapped(done, make=toys.table):
    task = make()
    return replace(task, model=Wrapped(task.model, done).double().eval().requires_grad_(False))


def scaled_in_place(model, x):
    x.mul_(0.5)
    return model(x)


BAD = {
    "gives probabilities, expected logits": lambda model, x: model(x).softmax(1),
    "changes its input": scaled_in_place,
    "differently when asked again": lambda model, x: nn.functional.dropout(model(x), 0.5, training=True),
    "differently in other company": lambda model, x: model(x - x.mean(0)),
    "got a dict": lambda model, x: {"logits": model(x)},
    "got torch.complex128": lambda model, x: model(x).to(torch.complex128),
    "at least two classes, got \\(1, 1\\)": lambda model, x: model(x)[:, :1],
    "cannot answer its test rows .*RuntimeError: mat1": lambda model, x: model(x[:, :-1]),
    "rows of logits for": lambda model, x: model(x)[:1],
}


@pytest.mark.parametrize("sentence", BAD)
def test_a_model_that_is_none_is_refused_by_name(sentence):
    with pytest.raises(DataError, match=sentence):
        Evaluator(wrapped(BAD[sentence]), 0)


@pytest.mark.parametrize("make", [*toys.TASKS.values()])
def test_a_good_model_passes_and_no_forward_is_counted(make):
    task = make()
    evaluator = Evaluator(task, 0)
    assert bool(evaluator.model_is_finite.all())
    if make is toys.table:
        assert evaluator.meter.summary()["shared"]["forwards"] == len(task.test.x) * 2**7


def test_log_probabilities_are_logits():
    task = wrapped(lambda model, x: model(x).log_softmax(1))
    assert bool(Evaluator(task, 0).model_is_finite.all())


def test_a_model_in_training_mode_is_refused():
    task = toys.table()
    task.model.train()
    with pytest.raises(DataError, match=r"is in training mode \(the model itself\).*eval\(\)"):
        Evaluator(task, 0)
    task = wrapped(lambda model, x: model(x))
    task.model.drop.train()
    with pytest.raises(DataError, match=r"is in training mode \(drop\)"):
        Evaluator(task, 0)


def test_rows_that_are_no_tensors_are_named():
    task = toys.table()
    with pytest.raises(DataError, match=r"test\.x is a ndarray, expected a tensor"):
        Evaluator(replace(task, test=Split(task.test.x.numpy(), task.test.y)), 0)


@pytest.mark.parametrize("samples", [[], [-1], [0, 11], [5000]])
def test_samples_that_there_are_none_of_are_refused(samples):
    with pytest.raises(UsageError, match="expected some of the 11 test samples"):
        Evaluator(toys.table(), 0, samples)


@pytest.mark.parametrize("metrics", [[], ["DELL"], ["DEL", "nope"]])
def test_metrics_that_there_are_none_of_are_refused(metrics):
    with pytest.raises(UsageError, match="expected some of the metrics"):
        Evaluator(toys.table(), 0, metrics=metrics)


# A model without an answer

VALUES = [float("nan"), float("inf"), -float("inf")]


def without_answer(value, column, test):
    """Return what gives `value` for the logit of class `column` where `test` holds of an input."""

    def done(model, x):
        logits = model(x).clone()
        logits[test(x), column] = value
        return logits

    return done


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("column", [0, 2])
@pytest.mark.parametrize("lookup", [True, False])
def test_samples_without_a_prediction_are_named_for_every_metric_and_method(value, column, lookup):
    """Whichever class is not finite, and whatever the method: the sample is out, the others are as without it."""
    plain = toys.table()
    means = plain.removal.means
    odd = plain.test.x[:, 0] > 1.5
    assert 0 < odd.sum() < len(odd)
    task = wrapped(without_answer(value, column, lambda x: (x[:, 0] > 1.5) & (x[:, 0] != means[0])))
    evaluator, whole = (Evaluator(some, 0, value_table=lookup) for some in (task, plain))
    assert torch.equal(evaluator.model_is_finite, ~odd)
    for name in ("saliency", "lime", "random", "exact_shapley"):
        found, other = (some.evaluate(METHODS.get(name)(), name) for some in (evaluator, whole))
        assert torch.equal(found.model_not_finite, odd)
        assert not found.failed.any()
        for metric in TEN:
            assert found.reasons[metric][odd].eq(MODEL_NON_FINITE).all()
            assert found.scores[metric][odd].isnan().all()
            torch.testing.assert_close(
                found.scores[metric][~odd], other.scores[metric][~odd], rtol=0, atol=1e-9, equal_nan=True
            )


def test_a_prediction_missing_for_one_method_alone_is_named_for_all_metrics():
    """Between the whole and the empty input: removal of the first two columns and nothing else."""
    plain = toys.image(steps=18)
    means = plain.removal.means

    def gone(x):
        away = (x == means.view(1, -1, 1, 1)).all(1).flatten(1)
        return away[:, :2].all(1) & (away.sum(1) == 2)

    task = wrapped(without_answer(float("nan"), 0, gone), lambda: toys.image(steps=18))
    evaluator = Evaluator(task, 0)
    assert bool(evaluator.model_is_finite.all())
    ramp = torch.arange(36, 0, -1).double().expand(len(task.test.x), -1)
    order = torch.cat([torch.arange(0, 36, 2), torch.arange(1, 36, 2)])  # in which the first two are never side by side
    first, second = evaluator.score_all([ramp, ramp[:, order.argsort()]])
    assert first.model_not_finite.all()
    assert all(codes.eq(MODEL_NON_FINITE).all() for codes in first.reasons.values())
    assert not second.model_not_finite.any()


def test_perturbation_says_what_the_model_predicted():
    plain = toys.image()
    means = plain.removal.means

    def some_gone(x):
        away = (x == means.view(1, -1, 1, 1)).all(1).flatten(1).sum(1)
        return (away > 0) & (away < 5)

    task = wrapped(without_answer(float("nan"), 0, some_gone), toys.image)
    with pytest.raises(DataError, match="gives NaN or inf where features are removed"):
        Evaluator(task, 0, metrics=["INF"]).evaluate(METHODS.get("occlusion")(), "occlusion")


# One feature

SMALL = {"iterations": 2, "rounds": 1, "steps": 2, "search": 2, "alpha": 0}


def small(name):
    cls = METHODS.get(name)
    known = cls.__dataclass_fields__
    return cls(
        **{
            key: value
            for key, value in SMALL.items()
            if key in known and METHODS.entry(name).facts["kind"] == "learned"
        }
    )


def single(modality):
    """Return a task in float32 whose first sample has one feature: a table of one column, or a text of one word."""
    if modality == "table":
        toy = toys.table(features=1, samples=30)
        rows = Split(toy.test.x.float(), toy.test.y)
        removal = type(toy.removal)(toy.removal.means.float())
        return replace(toy, model=toy.model.float(), train=rows, test=Split(rows.x[:4], rows.y[:4]), removal=removal)
    from benchmark.models.text import LSTMClassifier

    toy = toys.text(samples=30)
    model = LSTMClassifier(30, 3, 4, 4, 0.0).eval().requires_grad_(False)
    assert toy.removal.valid(toy.test.x)[0].sum() == 1
    return replace(toy, model=model, test=Split(toy.test.x[:4], toy.test.y[:4]))


CASES = [
    (modality, name)
    for modality in ("table", "text")
    for name in METHODS.names()
    if modality in METHODS.entry(name).facts.get("modalities", (modality,))
]


@pytest.mark.parametrize(("modality", "name"), CASES)
def test_one_feature_is_explained(modality, name, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    evaluator = Evaluator(single(modality), 0)
    found = evaluator.evaluate(small(name), name)
    assert found.attributions is not None
    assert found.attributions.isfinite().all()
    assert all(found.scores[metric][0].isfinite() for metric in ("DEL", "INS", "NEG", "POS", "RP", "IROF"))
    if name == "kernel_shap":
        clean, empty = evaluator.shared.clean[0], evaluator.shared.empty.prob[0, 0]
        again = METHODS.get(name)(output="probability").prepare(evaluator.task, 0)
        value = again(evaluator.x[:1], evaluator.shared.target[:1])
        assert value.sum() == pytest.approx(float(clean - empty), abs=1e-6)
        assert value[0, 1:].eq(0).all()
