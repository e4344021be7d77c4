"""Hints: gradients of the log odds on the way to the input, LRP and DeepLIFT, and their scale."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmark.core.types import METHODS, Split
from benchmark.learning.hints import Hints
from tests import toys

GRADIENTS = Hints(points=3, rules=False)


def single(modality):
    """Return a toy in single precision with a few samples."""
    task = toys.TASKS[modality](samples=30)
    return replace(task, model=task.model.float(), test=Split(task.test.x[20:].float(), task.test.y[20:]))


def predicted(task):
    return task.model(task.test.x).argmax(1)


@pytest.mark.parametrize("modality", ["table", "image"])
def test_hints_sum_to_integrated_gradients_of_the_log_odds(modality):
    task = single(modality)
    x, target = task.test.x, predicted(task)
    expected = METHODS.get("integrated_gradients")(steps=3, output="log_odds").prepare(task, 0)(x, target)
    found = GRADIENTS.of(task, x, target).sum(-1)
    scale = expected.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(found, (expected / scale).float(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.square().mean(1), torch.ones(len(x)))


def test_a_hint_does_not_depend_on_company():
    task = single("image")
    x, target = task.test.x, predicted(task)
    hints = Hints(points=2, rules=True)
    whole = hints.of(task, x, target)
    alone = torch.cat([hints.of(task, x[i : i + 1], target[i : i + 1]) for i in range(len(x))])
    assert whole.shape == (len(x), task.n_features, 4)
    torch.testing.assert_close(whole, alone, rtol=1e-3, atol=1e-4)


def test_rules_have_the_size_of_integrated_gradients():
    task = single("image")
    found = Hints(points=2, rules=True).of(task, task.test.x, predicted(task))
    for rule in (2, 3):
        torch.testing.assert_close(found[..., rule].square().mean(1), torch.ones(len(found)))


def test_where_all_gradients_are_zero_hints_are():
    task = single("table")
    x = task.removal.baseline(task.test.x).float().expand(3, -1)
    assert (GRADIENTS.of(task, x, torch.zeros(3).long()) == 0).all()


def test_combinations_to_start_at():
    found = Hints(points=2, rules=True).candidates()
    assert found["integrated gradients"] == [1, 1, 0, 0]
    assert found["lrp"] == [0, 0, 1, 0]
    assert found["mean"] == [1, 1, 1, 1]
    assert list(Hints(points=1, rules=False).candidates()) == ["integrated gradients"]
