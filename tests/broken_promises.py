"""Methods that each break one promise which `check method` knows, beside those of tests/bad_methods.py."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch

from benchmark.core.types import METHODS, Method

FACTS = {"kind": "baseline", "modalities": ("table",)}


def gradient(task, x, target):
    """Return the gradient of the target's logit."""
    x = x.clone().requires_grad_()
    task.model(x).gather(1, target.unsqueeze(1)).sum().backward()
    return x.grad


def breaks(name, **facts):
    """Register a method that explains as the decorated function does, given task, seed, x and target."""

    def put(function):
        @METHODS.register(name, **{**FACTS, **facts})
        @dataclass(frozen=True)
        class Broken(Method):
            """Breaks a promise."""

            def prepare(self, task, seed):
                return lambda x, target: function(task, seed, x, target)

        return function

    return put


@breaks("fair")
def fair(task, seed, x, target):
    return gradient(task, x, target)


@breaks("normalised_over_the_batch")
def normalised_over_the_batch(task, seed, x, target):
    found = gradient(task, x, target)
    return found / found.abs().max()


@breaks("by_place")
def by_place(task, seed, x, target):
    return gradient(task, x, target) * (1 + torch.arange(len(x))).unsqueeze(1)


@breaks("unseeded")
def unseeded(task, seed, x, target):
    return torch.rand(x.shape, generator=torch.Generator().manual_seed(random.SystemRandom().getrandbits(32)))


@breaks("global_torch")
def global_torch(task, seed, x, target):
    return torch.rand(x.shape)


@breaks("global_numpy")
def global_numpy(task, seed, x, target):
    np.random.rand()
    return gradient(task, x, target)


@breaks("two_threads")
def two_threads(task, seed, x, target):
    torch.set_num_threads(torch.get_num_threads() + 1)
    return gradient(task, x, target)


@breaks("writes_weights")
def writes_weights(task, seed, x, target):
    found = gradient(task, x, target)
    with torch.no_grad():
        next(task.model.parameters()).mul_(1.5)
    return found


@breaks("writes_rows")
def writes_rows(task, seed, x, target):
    task.train.x.mul_(1.5)
    return gradient(task, x, target)


@breaks("leaves_a_hook")
def leaves_a_hook(task, seed, x, target):
    task.model.register_forward_hook(lambda *_: None)
    return gradient(task, x, target)


@breaks("wants_test_rows")
def wants_test_rows(task, seed, x, target):
    return x - task.test.x[0]


@breaks("sees_padding", modalities=("text",))
def sees_padding(task, seed, x, target):
    return x.float() + 1


@breaks("only_tables", modalities=("table", "image"))
def only_tables(task, seed, x, target):
    return gradient(task, x, target)


@breaks("of_no_kind", kind="basline")
def of_no_kind(task, seed, x, target):
    return gradient(task, x, target)


@METHODS.register("thawed", **FACTS)
@dataclass
class Thawed(Method):
    """Is no frozen dataclass."""

    def prepare(self, task, seed):
        return lambda x, target: gradient(task, x, target)


@METHODS.register("silent", **FACTS)
@dataclass(frozen=True)
class Silent(Method):
    def prepare(self, task, seed):
        return lambda x, target: gradient(task, x, target)


@METHODS.register("boundless", **FACTS)
@dataclass(frozen=True)
class Boundless(Method):
    """Takes any number of steps."""

    steps: int = 3

    def prepare(self, task, seed):
        return lambda x, target: gradient(task, x, target) * torch.ones(self.steps).mean()


@METHODS.register("evasive", **FACTS)
@dataclass(frozen=True)
class Evasive(Method):
    """Does not say why it explains nothing."""

    def unsupported(self, spec):
        return True

    def prepare(self, task, seed):
        return lambda x, target: gradient(task, x, target)


@METHODS.register("tireless", **FACTS)
@dataclass(frozen=True)
class Tireless(Method):
    """Is averaged over seeds that change nothing."""

    repeats = 3

    def prepare(self, task, seed):
        return lambda x, target: gradient(task, x, target)


@METHODS.register("restless", **FACTS)
@dataclass(frozen=True)
class Restless(Method):
    """Fills its parameter in each time anew."""

    width: int | None = None

    def resolved(self, task):
        return Restless((self.width or 0) + 1)

    def prepare(self, task, seed):
        return lambda x, target: gradient(task, x, target)
