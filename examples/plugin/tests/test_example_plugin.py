"""What a plug-in should test: that it keeps what the benchmark asks, and what it alone promises."""

import torch
from example_plugin.opposite_signs import OppositeSigns
from example_plugin.path_gradient import PathGradient

from benchmark.cli.parser import main
from benchmark.core.types import METHODS, TASKS


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


def test_attributions_add_up_to_what_the_logit_gains():
    """The gradient along the way is linear here, so that its mean is exact."""
    given = task()
    x, target = given.test.x, given.test.y
    found = PathGradient().prepare(given, 0)(x, target).sum(1)
    gained = (given.model(x) - given.model(given.removal.baseline(x))).gather(1, target.unsqueeze(1))[:, 0]
    torch.testing.assert_close(found, gained, rtol=1e-4, atol=1e-4)
