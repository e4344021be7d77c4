"""Which class is explained: the one predicted, the labelled one, or one that is given."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmark.core.errors import DataError, UsageError
from benchmark.core.identity import settings_digest, task_identity
from benchmark.core.types import METHODS, Budget, Method, Split
from benchmark.inspection.crosscheck import loops
from benchmark.inspection.explain import explain
from benchmark.modalities.removal import ColumnRemoval
from benchmark.running.kept_samples import examples
from benchmark.running.record_making import score_table
from benchmark.scoring.evaluator import Evaluator
from tests import toys


def wide_table():
    """More columns than a value table holds."""
    task = toys.table(features=15)
    return replace(task, budget=Budget(6, subsets=13))


TASKS = {"value table": toys.table, "wide table": wide_table, "text": toys.text, "image": toys.image}


def given_targets(task):
    """Return a class for each test row that is never the one predicted for all of them."""
    return (task.model(task.test.x).argmax(1) + torch.arange(len(task.test.x)) % 3) % 3


def subsets_of(evaluator, kind):
    sets = evaluator.subsets(kind, slice(0, len(evaluator.samples)))
    batch, number = len(evaluator.samples), sets.shape[1]
    removed = [sets.removed(torch.full((number,), row), torch.arange(number)) for row in range(batch)]
    return [[one.nonzero().flatten().tolist() for one in rows] for rows in removed]


@pytest.mark.parametrize("name", TASKS)
def test_given_targets_are_scored_as_the_formulas_say(name):
    task = TASKS[name]()
    target = given_targets(task)
    task, attributions = replace(task, target=target), toys.scores(task)
    evaluator = Evaluator(task)
    fast = evaluator.score(attributions)
    subsets = {kind: subsets_of(evaluator, kind) for kind in ("fixed", "bernoulli")}
    slow = loops.all_scores(task, task.test.x, attributions, subsets, targets=target.tolist())
    assert fast.target == target.tolist()
    for metric, scores in fast.scores.items():
        torch.testing.assert_close(
            scores, torch.tensor(slow[metric], dtype=torch.float64), rtol=0, atol=1e-9, equal_nan=True
        )


@pytest.mark.parametrize("name", TASKS)
def test_naming_the_class_predicted_changes_no_bit(name):
    task = TASKS[name]()
    predicted = task.model(task.test.x).argmax(1)
    usual = Evaluator(task).score(toys.scores(task))
    labelled = replace(task, test=Split(task.test.x, predicted))
    for other in (replace(task, target=predicted), replace(labelled, target="label")):
        named = Evaluator(other).score(toys.scores(task))
        assert named.target == usual.target
        for metric, scores in usual.scores.items():
            assert torch.equal(named.scores[metric].nan_to_num(9), scores.nan_to_num(9)), metric


def test_one_class_is_that_of_all_rows():
    task = toys.table()
    one = Evaluator(replace(task, target=2)).score(toys.scores(task))
    each = Evaluator(replace(task, target=torch.full((len(task.test.x),), 2))).score(toys.scores(task))
    assert one.target == each.target == [2] * len(task.test.x)
    assert all(torch.equal(one.scores[name], each.scores[name]) for name in one.scores)


def test_a_curve_is_cut_where_the_class_predicted_changes_whatever_is_explained():
    """NEG of a class that is not predicted averages the whole curve while the prediction holds."""
    model = toys.Linear(torch.tensor([0.1, 0.05, 0.02]).double())
    x = torch.ones(1, 3).double()  # p(first) = 0.77, and at least 0.6 whatever is removed
    task = toys.make(model, x, ColumnRemoval(torch.zeros(3).double()), Budget(3), "table")
    task = replace(task, target=1)
    scores = Evaluator(task, metrics=["NEG", "POS"]).score(torch.tensor([[3.0, 2.0, 1.0]]).double()).scores
    curve = torch.tensor([1 - 0.75, 1 - 0.70, 1 - 0.60]).double()
    torch.testing.assert_close(scores["NEG"], curve.mean().reshape(1))
    torch.testing.assert_close(scores["POS"], torch.tensor([(0.33 + 0.38 + 0.40) / 3]).double())


def test_methods_are_given_the_targets():
    task, seen = toys.table(), []
    task = replace(task, target=given_targets(task))
    evaluator = Evaluator(task, metrics=["DEL"])

    def explain(_x, target):
        seen.append(target)
        return _x

    evaluator._attribute(explain, 0, evaluator.meter)
    assert torch.equal(torch.cat(seen), task.target)


def test_samples_keep_their_own_targets():
    task = toys.table()
    task = replace(task, target=given_targets(task))
    some = Evaluator(task, samples=[7, 2]).score(toys.scores(task)[[7, 2]])
    assert some.target == task.target[[7, 2]].tolist()
    assert score_table(some)["target"].tolist()[:2] == some.target


@pytest.mark.parametrize(
    ("target", "came"),
    [
        ("labels", "'labels'"), (True, "True"), (1.0, "1.0"), (None, "None"),
        (torch.zeros(3, dtype=torch.long), r"\(3,\) of torch.int64"), (torch.zeros(11), "torch.float32"),
    ],
)  # fmt: skip
def test_what_is_no_target_is_refused(target, came):
    with pytest.raises(DataError, match=f"the target of toy is .*{came}.*expected .*predicted"):
        Evaluator(replace(toys.table(), target=target))


@pytest.mark.parametrize("target", [3, -1])
def test_a_class_that_the_model_lacks_is_refused(target):
    with pytest.raises(DataError, match=f"among the model's 3 classes, numbered from 0, got {target} to {target}"):
        Evaluator(replace(toys.table(), target=target))


def test_the_identity_holds_the_target_where_it_is_not_the_one_predicted():
    task = toys.table()
    rows = torch.zeros(len(task.test.x), dtype=torch.long)
    targets = ["predicted", "label", 0, 1, rows, rows + 1]
    digests = [settings_digest(replace(task, target=target)) for target in targets]
    assert digests[0] == settings_digest(task)
    assert len(set(digests)) == len(targets)
    changed = task_identity(replace(task, target=1))
    assert {part for part in changed if changed[part] != task_identity(task)[part]} == {"task"}


def test_shared_predictions_are_stored_with_the_class_predicted(tmp_path):
    task = toys.image()
    evaluator = Evaluator(replace(task, target=1))
    evaluator.shared.save(tmp_path / "shared", evaluator.meter.summary())
    loaded, _ = type(evaluator.shared).load(tmp_path / "shared", "cpu")
    assert loaded is not None
    assert torch.equal(loaded.classes, evaluator.shared.classes)
    again = Evaluator(replace(task, target=1), shared=loaded).score(toys.scores(task))
    assert all(
        torch.equal(again.scores[name], scores) for name, scores in evaluator.score(toys.scores(task)).scores.items()
    )


def test_samples_say_what_is_explained_and_what_is_predicted():
    task = toys.table()
    target, first = given_targets(task), task.model(task.test.x).argmax(1)
    other = int((target != first).nonzero()[0])
    task = replace(task, target=target)
    evaluator = Evaluator(task, metrics=["DEL"], samples=[other])
    (seen,) = examples(evaluator, evaluator.score(toys.scores(task)[[other]]))
    explained, predicted = (task.class_names[int(classes[other])] for classes in (target, first))
    assert (seen["target"], seen["predicted"]) == (explained, predicted)
    probability = float(task.model(task.test.x)[other].softmax(0)[target[other]])
    assert seen["probability"] == pytest.approx(probability, abs=1e-4)
    title = explain(task, other, [("random", "random", METHODS.get("random")())], 0).title
    assert f"target {explained} (" in title
    assert f"predicted {predicted}" in title


def test_a_method_for_the_predicted_class_alone_is_refused_others():
    class Narrow(Method):
        only_predicted = True

        def prepare(self, given, seed):
            return lambda x, target: torch.rand(len(x), given.n_features)

    task = toys.table()
    first = task.model(task.test.x).argmax(1)
    Evaluator(replace(task, target=first)).evaluate(Narrow(), "narrow")
    with pytest.raises(UsageError, match="narrow explains the class that the model predicts, and other classes are"):
        Evaluator(replace(task, target=given_targets(task))).evaluate(Narrow(), "narrow")
