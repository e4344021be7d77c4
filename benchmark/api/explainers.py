"""Callables as methods: Captum's `attribute`, a `shap` explainer, Quantus's `explain_func`, any `(x, target)`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from benchmark.api.attributions import Values, attributions_of
from benchmark.core.errors import UsageError, describe, few, in_a_line, short
from benchmark.core.types import Attribute, Method, Task
from benchmark.models.others.adapters import AsLogits
from benchmark.models.others.wrapping import counted, given_for

TARGETS = ("target", "targets", "label", "labels", "y")
"""What a parameter that takes the target is called."""


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

    - An explainer of `shap`, or its `shap_values`, gets inputs alone, as an array.
    - One with the parameters model, inputs and targets is Quantus's: it gets the task's model and arrays.
    - One with a parameter called target, targets, label, labels or y gets the target by that name; Captum's explain the
      target of a model of one column, too.
    - One with a second positional parameter that has no default, or that takes any number, gets the target there.
    - Any other gets inputs alone: what a second parameter with a default is for is not known.

    Raises:
        UsageError: it takes neither, or needs more.
    """
    if not callable(function):
        function = function.attribute
    maker = _maker(function)
    if maker == "shap" or hasattr(function, "shap_values"):
        return lambda x, _target: _as_values(function(x.detach().cpu().numpy()))
    try:
        given = inspect.signature(function).parameters
    except (ValueError, TypeError):  # it is not written in Python
        return function
    if {"model", "inputs", "targets"} <= set(given):
        _check_rest(function, given, {"model", "inputs", "targets"})
        return lambda x, target: function(
            model=task.model, inputs=x.detach().cpu().numpy(), targets=target.cpu().numpy()
        )
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [each for each in given.values() if each.kind in places]
    by_name = [each for each in given if each in TARGETS and each not in [first.name for first in positional[:1]]]
    _check_rest(function, given, {each.name for each in positional[: 1 if by_name else 2]} | set(by_name[:1]))
    if by_name and given[by_name[0]].kind is not inspect.Parameter.POSITIONAL_ONLY:
        name = by_name[0]
        if maker == "captum":
            return lambda x, target: _in_two_columns(task, functools.partial(function, x, **{name: target}))
        return lambda x, target: function(x, **{name: target})
    if any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in given.values()):
        return function
    if not positional:
        raise UsageError(f"an explainer expects inputs, or inputs and targets, and {short(function)} takes neither")
    if len(positional) > 1 and positional[1].default is inspect.Parameter.empty:
        return function
    return lambda x, _target: function(x)


def _check_rest(function: Any, given: Mapping[str, inspect.Parameter], filled: set[str]) -> None:
    """Make sure that a callable needs no parameter but those that are filled.

    Raises:
        UsageError: it does.
    """
    open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [name for name, each in given.items() if each.default is each.empty and each.kind not in open_ended]
    if rest := [name for name in needed if name not in filled]:
        raise UsageError(
            f"an explainer is given inputs and targets, and {short(function)} needs {few(rest)}, too: give it a "
            "default, or bind it with functools.partial"
        )


def _maker(function: Any) -> str:
    """Return the package whose explainer a callable is, or is a method of."""
    while isinstance(function, functools.partial):
        function = function.func
    return type(getattr(function, "__self__", function)).__module__.partition(".")[0]


def _as_values(given: Any) -> Any:
    """Return what an explainer of `shap` gave as an object with values: `shap_values` gives an array."""
    return given if given is None or hasattr(given, "base_values") else Values(given)


def _in_two_columns(task: Task, ask: Callable[[], Any]) -> Any:
    """Return what `ask` gives while the module that a person gave has a column for each class, where it has one only.

    An explainer then explains the target as of any model; to turn the sign of what it says of one column would be wrong
    of magnitudes, and of rules that treat signs differently.
    """
    model, wrapped = given_for(task.model), task.model
    if model is None or not isinstance(wrapped, AsLogits) or not wrapped.binary:
        return ask()
    hook = model.register_forward_hook(
        lambda _module, _inputs, output: wrapped.columns(output) if isinstance(output, Tensor) else output
    )
    try:
        return ask()
    finally:
        hook.remove()
