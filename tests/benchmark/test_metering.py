"""What is counted, and the number of explanations after which training pays."""

from __future__ import annotations

import copy

import pytest

from benchmark.core.types import METHODS
from benchmark.models.metering import Cost, Meter, count_as
from benchmark.running import break_even as timing
from benchmark.running.break_even import RIVAL, SAMPLES, break_even
from benchmark.scoring.evaluator import Evaluator
from tests import toys


def test_rows_of_a_copy_count_as_rows_of_the_model():
    task, meter = toys.table(), Meter()
    other = copy.deepcopy(task.model)
    x = task.test.x.clone().requires_grad_()
    with meter.phase("before", task.model):
        other(x)
    count_as(other, task.model)
    with meter.phase("after", task.model):
        other(x).sum().backward()
        task.model(x[:2])
    other(x)
    assert meter.phases["before"].forwards == 0
    assert meter.phases["after"].forwards == len(x) + 2
    assert meter.phases["after"].backwards == len(x)
    assert not task.model._forward_hooks, "nothing counts any more"


def evaluated(prepare, attribute):
    task = toys.table()
    evaluator = Evaluator(task)
    found = evaluator.evaluate(METHODS.get("saliency")(), "saliency")
    found.meter.phases |= {"prepare": prepare, "attribute": attribute}
    return evaluator, found


def test_training_pays_after_so_many_explanations():
    evaluator, found = evaluated(Cost(1000, 10, 500.0), Cost(0, 0, 0.0))
    said = break_even(evaluator, found)
    assert said["rival"].startswith(f"{RIVAL}[estimator=")
    assert said["rival ms"] > 0
    assert said["samples"] == pytest.approx(500_000 / said["rival ms"], rel=0.01, abs=1)
    assert said["rival rows"] == pytest.approx(100, abs=5), "of one explanation"
    assert said["samples by rows"] == pytest.approx(1010 / said["rival rows"], abs=1)


def test_training_never_pays_where_explanations_cost_as_much():
    evaluator, found = evaluated(Cost(1000, 10, 500.0), Cost(10**9, 0, 10.0**6))
    said = break_even(evaluator, found)
    assert said["samples"] is None
    assert said["samples by rows"] is None


def test_the_rival_is_not_counted_with_what_it_is_compared_to():
    evaluator, found = evaluated(Cost(1000, 10, 500.0), Cost(1, 0, 0.0))
    break_even(evaluator, found)
    assert found.meter.phases["attribute"] == Cost(1, 0, 0.0)


def test_the_fastest_implementation_of_the_rival_counts(monkeypatch):
    evaluator, found = evaluated(Cost(1000, 0, 500.0), Cost(0, 0, 0.0))
    costs = {"shap": Cost(400, 0, 8.0), "captum": Cost(800, 0, 2.0)}
    timed = []

    def stand_in(evaluator, rival, count):
        timed.append((rival.estimator, rival.n_samples, count))
        return costs[rival.estimator]

    monkeypatch.setattr(timing, "_timed", stand_in)
    said = break_even(evaluator, found)
    count = min(SAMPLES["table"], len(evaluator.x))
    assert timed == [("shap", None, count), ("captum", None, count)], "with its default budget, in one batch"
    assert said["rival"] == "kernel_shap[estimator=captum]"
    assert said["rival ms"] == pytest.approx(2000 / count)
    assert said["rival rows"] == 800 / count
    assert said["samples"] == 250 * count
    assert said["timed ms"] == {
        "kernel_shap[estimator=shap]": 8000 / count,
        "kernel_shap[estimator=captum]": 2000 / count,
    }
    costs["captum"] = Cost(800, 0, 9.0)
    assert break_even(evaluator, found)["rival"] == "kernel_shap[estimator=shap]"


def test_what_is_timed_is_a_batch_of_the_first_samples():
    evaluator, _ = evaluated(Cost(), Cost())
    sizes = []

    class Rival:
        def prepare(self, task, seed):
            return lambda x, target: sizes.append(len(x)) or task.model(x)

    cost = timing._timed(evaluator, Rival(), 5)
    assert sizes == [1, 5], "the first call, which loads what it needs, is not timed"
    assert cost.forwards == 5
