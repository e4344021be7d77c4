"""Callables as methods: Captum's `attribute`, a `shap` explainer, Quantus's `explain_func`, any `(x, target)`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from benchmark.api.attributions import attributions_of
from benchmark.core.errors import UsageError, describe, in_a_line, short
from benchmark.core.types import Attribute, Method, Task
from benchmark.models.wrapping import counted


@dataclass(frozen=True)
class Callback(Method):
    """A callable as a method.

    Args:
        function: see `asked`.
    """

    function: Any
    __repr__ = in_a_line

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        ask = asked(self.function, task)

        def explain(x: Tensor, target: Tensor) -> Tensor:
            try:
                with counted(task.model):
                    given = ask(x, target)
            except Exception as error:  # of a person's explainer
                if isinstance(error, UsageError):
                    raise
                raise UsageError(f"it failed: {describe(error, self.function)}") from error
            return attributions_of(given, task, x, target, "what it returned")

        return explain


def is_explainer(given: object) -> bool:
    """Tell whether something is an explainer: callable, or with an `attribute` as Captum's."""
    return callable(given) or callable(getattr(given, "attribute", None))


def asked(function: Any, task: Task) -> Callable[[Tensor, Tensor], Any]:
    """Return a callable as a function of inputs and targets.

    One with the parameters model, inputs and targets is Quantus's: it gets the task's model and arrays. One with a
    parameter target gets it by name. An explainer of `shap`, and whatever takes inputs alone, gets those.
    """
    if not callable(function):
        function = function.attribute
    if type(function).__module__.partition(".")[0] == "shap" or hasattr(function, "shap_values"):
        return lambda x, _target: function(x.detach().cpu().numpy())
    try:
        given = inspect.signature(function).parameters
    except (ValueError, TypeError):  # it is not written in Python
        return function
    if {"model", "inputs", "targets"} <= set(given):
        return lambda x, target: function(
            model=task.model, inputs=x.detach().cpu().numpy(), targets=target.cpu().numpy()
        )
    if "target" in given and given["target"].kind is not inspect.Parameter.POSITIONAL_ONLY:
        return lambda x, target: function(x, target=target)
    kinds = [each.kind for each in given.values()]
    positional = [
        each for each in given.values()
        if each.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ]  # fmt: skip
    if len(positional) >= 2 or inspect.Parameter.VAR_POSITIONAL in kinds:
        return function
    if len(positional) == 1:
        return lambda x, _target: function(x)
    raise UsageError(f"an explainer expects inputs, or inputs and targets, and {short(function)} takes neither")
