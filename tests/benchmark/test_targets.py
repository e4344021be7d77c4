"""The class explained: the one predicted, a label, or any that is asked for."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from benchmark.core.errors import DataError, UsageError
from benchmark.core.identity import settings_digest, training_digest
from benchmark.core.types import METHODS, Method
from benchmark.inspection.crosscheck import loops
from benchmark.inspection.crosscheck.cases import CASES
from benchmark.inspection.crosscheck.checks import subsets_of
from benchmark.inspection.explain import explain
from benchmark.running.kept_samples import examples
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.isolation import for_methods
from benchmark.scoring.masked_model import MaskedModel
from benchmark.scoring.metrics import TEN
from benchmark.scoring.shared_predictions import SharedPredictions
from tests import toys

TOLERANCE = 1e-9
WAYS = [case.name for case in CASES]


def case_of(name):
    """Return a task, attributions of the rows taken of it, and what makes its evaluator."""
    case = next(case for case in CASES if case.name == name)
    task = case.task()
    return task, case.attributions(task), case.evaluator


def same(a, b):
    """Tell whether scores are equal to the last bit, what is undefined included."""
    return torch.equal(a.nan_to_num(99.0), b.nan_to_num(99.0))


def predicted(task):
    return MaskedModel(task).clean(task.test.x)[0].clone()


def others(task):
    """Return for each test row a class that is not the one predicted."""
    classes = MaskedModel(task).logits(task.test.x[:1]).shape[1]
    return (predicted(task) + 1) % classes


@pytest.mark.parametrize("name", WAYS)
def test_the_predicted_class_given_is_the_predicted_class(name):
    task, attributions, evaluator = case_of(name)
    alone = evaluator(task).score(attributions)
    given = evaluator(replace(task, target=predicted(task))).score(attributions)
    assert given.target == alone.target
    for metric in TEN:
        assert same(given.scores[metric], alone.scores[metric]), metric
        assert torch.equal(given.reasons[metric], alone.reasons[metric])


@pytest.mark.parametrize("name", WAYS)
def test_another_target_by_loops(name):
    task, attributions, evaluator_of = case_of(name)
    evaluator = evaluator_of(replace(task, target=others(task)))
    target = evaluator.task.target[evaluator.samples]
    found = evaluator.score(attributions)
    assert found.target == target.tolist()
    subsets = {kind: subsets_of(evaluator, kind) for kind in loops.ON_SUBSETS.values()}
    expected = loops.all_scores(task, evaluator.x, attributions, subsets, targets=target.tolist())
    without = loops.all_scores(task, evaluator.x, attributions, subsets)
    for metric, column in expected.items():
        rows = [i for i, s in enumerate(attributions) if comparable(s[evaluator.valid[i]], metric)]
        ours = found.scores[metric][rows]
        expected_column, predicted_column = torch.tensor([column, without[metric]], dtype=torch.float64)[:, rows]
        torch.testing.assert_close(ours, expected_column, atol=TOLERANCE, rtol=TOLERANCE, equal_nan=True)
        if rows and bool(ours.isfinite().any()):
            assert not same(ours, predicted_column), "the target matters"


def comparable(s, metric):
    """Tell whether an attribution has a score in loops: all numbers, and no ties where order matters."""
    return bool(s.isfinite().all()) and (metric in loops.ON_SUBSETS or len(s.unique()) == len(s))


def test_the_answers_of_another_target_are_no_answers_of_this_one():
    task, *_ = case_of(WAYS[0])
    other = replace(task, target=others(task))
    assert settings_digest(task) != settings_digest(other)
    assert settings_digest(other) != settings_digest(replace(task, target=predicted(task)))
    assert for_methods(other).target is None
    assert training_digest(for_methods(other)) == training_digest(for_methods(task)), "training knows no test rows"


def test_batches_samples_and_stored_answers_keep_the_target(tmp_path):
    task, attributions, _ = case_of(WAYS[0])
    task = replace(task, target=others(task))
    whole = Evaluator(task)
    expected = whole.score(attributions)
    batched = Evaluator(task)
    batched.batch = 2
    batched.shared = batched._share()
    some = Evaluator(task, samples=[3, 1])
    path = tmp_path / "shared-0123456789abcdef.safetensors"
    whole.shared.save(path, {})
    stored = Evaluator(task, shared=SharedPredictions.load(path, "cpu")[0])
    for metric, scores in expected.scores.items():
        assert same(stored.score(attributions).scores[metric], scores)
        near = partial(torch.testing.assert_close, atol=1e-10, rtol=1e-10, equal_nan=True)  # batches are rounded apart
        near(batched.score(attributions).scores[metric], scores)
        near(some.score(attributions[[3, 1]]).scores[metric], scores[[3, 1]])


def test_a_method_is_told_the_target():
    task, *_ = case_of(WAYS[0])
    task = replace(task, target=others(task))
    told = []

    class Telling(Method):
        def prepare(self, given, seed):
            def explain(x, target):
                told.append(target)
                return torch.rand(len(x), task.n_features)

            return explain

    Evaluator(task).evaluate(Telling(), "telling")
    assert torch.equal(torch.cat(told), task.target)


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (lambda n: torch.zeros(n + 1, dtype=torch.long), "expected a class for each of the .* test rows, int64"),
        (torch.zeros, "expected a class for each of the .* test rows, int64"),
        (lambda n: torch.full((n,), 99), "target has class 99, expected classes 0 to"),
        (lambda n: torch.full((n,), -1), "target has class -1, expected classes 0 to"),
    ],
)
def test_a_target_that_is_none_is_refused(target, sentence):
    task, *_ = case_of(WAYS[0])
    with pytest.raises(DataError, match=sentence):
        Evaluator(replace(task, target=target(len(task.test.x))))


def test_a_method_for_the_predicted_class_alone_is_refused_others():
    class Narrow(Method):
        only_predicted = True

        def prepare(self, given, seed):
            return lambda x, target: torch.rand(len(x), given.n_features)

    task, *_ = case_of(WAYS[0])
    Evaluator(replace(task, target=predicted(task))).evaluate(Narrow(), "narrow")
    with pytest.raises(UsageError, match="narrow explains the class that the model predicts, and other classes are"):
        Evaluator(replace(task, target=others(task))).evaluate(Narrow(), "narrow")


def test_samples_say_what_is_explained_and_what_is_predicted():
    task = replace(toys.table(), class_names=("c0", "c1", "c2"))
    target, first = others(task), predicted(task)
    evaluator = Evaluator(replace(task, target=target), metrics=["DEL"])
    (seen, *_) = examples(evaluator, evaluator.score(toys.scores(task)))
    assert (seen["target"], seen["predicted"]) == (f"c{target[0]}", f"c{first[0]}")
    probability = float(task.model(task.test.x[:1]).softmax(1)[0, target[0]])
    assert seen["probability"] == pytest.approx(probability, abs=1e-4)
    explained = explain(replace(task, target=target), 0, [("random", "random", METHODS.get("random")())], 0)
    assert f"target c{target[0]} (" in explained.title
    assert f"predicted c{first[0]}" in explained.title
