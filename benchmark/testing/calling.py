"""Calls a person's function on a golden case and turns what it returns into scores, or into a sentence."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from benchmark.core.errors import UsageError, describe, did_you_mean
from benchmark.testing.given import NAMES, Framework, arguments
from benchmark.testing.golden import Golden

Function = Callable[..., Any]


def name_of(function: Function) -> str:
    """Return what a function is called in sentences.

    Example:
        >>> name_of(functools.partial(sorted, reverse=True))
        'sorted'
    """
    inner = _without_partials(function)
    return str(getattr(inner, "__name__", type(inner).__name__))


def wanted(function: Function, metric: str, has_subsets: bool) -> frozenset[str]:
    """Return which of `NAMES` a function asks for.

    Raises:
        UsageError: it is no function, or needs something that no case has.
    """
    if not callable(function):
        raise UsageError(f"expected a function that scores attributions, got a {type(function).__name__}")
    name = name_of(function)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{name} does not say what its parameters are ({error}): put a function with named parameters around it"
        ) from error
    bound = function.keywords if isinstance(function, functools.partial) else {}
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for key, parameter in parameters.items():
        needed = parameter.default is parameter.empty and parameter.kind not in (
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        )
        if needed and (key not in NAMES or parameter.kind not in by_name):
            known = [known for known in NAMES if has_subsets or known != "subsets"]
            raise UsageError(
                f"{name} needs a parameter {key!r}, which cases do not have by name" + did_you_mean(key, known)
            )
    names = frozenset(key for key, p in parameters.items() if key in NAMES and p.kind in by_name and key not in bound)
    if "subsets" in names and not has_subsets:
        if parameters["subsets"].default is inspect.Parameter.empty:
            raise UsageError(f"{name} asks for `subsets`, and {metric} has no random removal sets: leave it out")
        names -= {"subsets"}
    return names


def called(function: Function, golden: Golden, names: frozenset[str], framework: Framework) -> np.ndarray | str:
    """Return a function's scores (N,) of a case, or what is wrong with what it did, as the end of a sentence."""
    try:
        returned = function(**arguments(golden, names, framework))
    except (Exception, SystemExit) as error:
        inner = _without_partials(function)
        return f"raised {describe(error, inner if hasattr(inner, '__module__') else type(inner))}"
    expected = f"expected scores of shape ({len(golden.x)},), one a sample"
    if returned is None:
        return f"returned nothing, {expected}"
    try:
        scores = returned.detach().cpu().double().numpy() if isinstance(returned, Tensor) else np.asarray(returned)
        if np.iscomplexobj(scores):
            return f"returned complex numbers, {expected}"
        scores = scores.astype(np.float64)
    except (TypeError, ValueError):
        return f"returned a {type(returned).__name__} that holds no numbers, {expected}"
    if scores.shape != golden.expected.shape:
        return f"returned shape {tuple(scores.shape)}, {expected}"
    return scores


def _without_partials(function: Function) -> Function:
    """Return the function that `functools.partial` was called with, however often."""
    while isinstance(function, functools.partial):
        function = function.func
    return function
