"""Methods that change what is not theirs, for --include."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.core.types import METHODS, Method


def poison(name):
    """Register a method that does what the decorated function does to the task, and explains by zeros and ones."""

    def put(function):
        @METHODS.register(name, kind="baseline")
        @dataclass(frozen=True)
        class Poison(Method):
            __doc__ = name

            def prepare(self, task, seed):
                function(task)
                return lambda x, target: (x.mul_(0) == 0).float().cumsum(1)

        return function

    return put


@poison("changes_weights")
def changes_weights(task):
    next(task.model.parameters()).data.mul_(-1)


@poison("leaves_a_hook")
def leaves_a_hook(task):
    task.model.register_forward_hook(lambda _m, _i, output: -output)


@poison("changes_means")
def changes_means(task):
    task.removal.means.add_(5)


@poison("changes_inputs")
def changes_inputs(task):
    pass
