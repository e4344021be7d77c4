"""Methods that misbehave, each in its own way, for --include."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from benchmark.core.types import METHODS, Method


def bad(name, **facts):
    """Register a method whose attribution is what the decorated function returns."""

    def put(function):
        @METHODS.register(name, kind="baseline", **facts)
        @dataclass(frozen=True)
        class Bad(Method):
            __doc__ = function.__doc__ or name

            def prepare(self, task, seed):
                return lambda x, target: function(x)

        return function

    return put


@bad("raises")
def raises(x):
    raise RuntimeError("no luck today")


@bad("quits")
def quits(x):
    """Quits."""
    raise SystemExit(0)


@bad("wrong_shape")
def wrong_shape(x):
    return x[:, :-1]


@bad("no_tensor")
def no_tensor(x):
    return x.numpy()


@bad("integers")
def integers(x):
    return x.long()


@bad("all_nan")
def all_nan(x):
    return x * float("nan")


@bad("all_inf")
def all_inf(x):
    return x * 0 + float("inf")


@bad("some_nan")
def some_nan(x):
    return torch.where(torch.arange(len(x)).unsqueeze(1) < 2, x * float("nan"), x)


@bad("still")
def still(x):
    return x * 0 + 4


@bad("for_images", modalities=("image",))
def for_images(x):
    return x


@bad("negative")
def negative(x):
    return -torch.ones_like(x).cumsum(1)


class Reported:
    """An explainer whose report holds what JSON has no word for."""

    def __init__(self, report):
        self.report = report

    def __call__(self, x, target):
        return x * 2


@METHODS.register("odd_report", kind="baseline")
@dataclass(frozen=True)
class OddReport(Method):
    """Says strange things of its training."""

    def prepare(self, task, seed):
        return Reported({"r2": float("nan"), "losses": torch.tensor([1.0, float("inf")]), "self": Reported, 3: {1}})


@bad("flaky")
def flaky(x):
    if "BOOM" in os.environ:
        raise MemoryError("not today")
    return x * 2


@METHODS.register("bad_teacher", kind="baseline")
@dataclass(frozen=True)
class BadTeacher(Method):
    """Cannot say what it learns from."""

    def learns_from(self, modality):
        raise KeyError("nobody")

    def prepare(self, task, seed):
        return lambda x, target: x * 2
