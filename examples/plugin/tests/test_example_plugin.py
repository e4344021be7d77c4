"""What a plug-in should test: that it keeps what the benchmark asks, and what it alone promises."""

import torch
from example_plugin.opposite_signs import OppositeSigns
from example_plugin.path_gradient import PathGradient

import benchmark as fb
from benchmark.cli.parser import main
from benchmark.core.types import METHODS, TASKS
from benchmark.modalities.removals import REMOVALS
from benchmark.scoring.metrics import METRICS


def task():
    """Return the example's task."""
    spec = OppositeSigns()
    return spec.build(spec.locate(None), "opposite_signs", "cpu")


def test_the_method_keeps_what_is_asked_of_methods():
    assert main(["check", "method", "path_gradient"]) == 0
    assert METHODS.entry("path_gradient").distribution.startswith("example-plugin ")


def test_the_task_keeps_what_is_asked_of_tasks():
    assert main(["check", "task", "opposite_signs"]) == 0
    assert TASKS.entry("opposite_signs").distribution.startswith("example-plugin ")


def test_the_metric_keeps_what_is_asked_of_metrics():
    assert main(["check", "metric", "HALF"]) == 0
    assert METRICS.entry("HALF").distribution.startswith("example-plugin ")


def test_attributions_add_up_to_what_the_logit_gains():
    """The gradient along the way is linear here, so that its mean is exact."""
    given = task()
    x, target = given.test.x, given.test.y
    found = PathGradient().prepare(given, 0)(x, target).sum(1)
    gained = (given.model(x) - given.model(given.removal.baseline(x))).gather(1, target.unsqueeze(1))[:, 0]
    torch.testing.assert_close(found, gained, rtol=1e-4, atol=1e-4)


def test_half_lost_is_what_three_of_six_columns_cost():
    given = task()
    x, target, order = given.test.x, given.model(given.test.x).argmax(1), (3, 2, 1, 0, 5, 4)
    without = torch.where(torch.tensor(order) >= 3, given.removal.baseline(x), x)
    v_0, v = (given.model(rows).double().softmax(1).gather(1, target.unsqueeze(1))[:, 0] for rows in (x, without))
    found = fb.score("HALF", given, torch.tensor(order).expand(len(x), -1).float())
    torch.testing.assert_close(torch.tensor(found), v_0 - v, rtol=1e-5, atol=1e-6)


def test_the_removal_puts_medians_in_place():
    assert "median" in fb.list_removals("table")
    assert REMOVALS.entry("median").distribution.startswith("example-plugin ")
    given = task()
    made = fb.task(
        given.model, given.test.x, background=torch.tensor([[1.0] * 6, [2.0] * 6, [90.0] * 6]), removal="median"
    )
    assert made.removal.baseline(given.test.x).unique().tolist() == [2.0]
