"""Quantus: its results in, marked as its own. Quantus itself is never imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from benchmark.bridges.scores import Direction, Scores
from benchmark.core.errors import UsageError

SOURCE = "Quantus"


def from_quantus(
    results: Any,
    *,
    outer: Literal["method", "metric"] = "method",
    method: str | None = None,
    metric: str | None = None,
    better: Direction | None = None,
) -> Scores:
    """Return scores that Quantus computed, marked as its own.

    Args:
        results: what `quantus.evaluate` returns: by method, then metric, scores of each sample, or by keyword arguments
            of the call once more (which become `metric [name]`); its data frame; a dictionary by metric, then method;
            or, with `method` and `metric`, what one metric returns.
        outer: what the keys of the outer dictionary are; `quantus.evaluate` has methods there.
        method: name of the method that a single list is of.
        metric: name of the metric that a single list is of.
        better: "higher" or "lower" by metric, where known (`score_direction` of a Quantus metric says it).

    Raises:
        UsageError: the scores are no numbers, are curves, or differ in length from method to method.

    Example:
        >>> from_quantus({"ROAD": {"lime": [0.5, 0.7]}}, outer="metric").means()
        {'ROAD': {'lime': 0.6}}
    """
    if outer not in ("method", "metric"):
        raise UsageError(f"outer: expected method or metric, got {outer!r}")
    if (method is None) != (metric is None):
        raise UsageError("expected both method and metric, for what one Quantus metric returned, or neither")
    if method is not None and metric is not None:
        return Scores.of(SOURCE, {method: {metric: results}}, better=better)
    nested = results.to_dict() if hasattr(results, "to_dict") else results
    if not isinstance(nested, Mapping) or not all(isinstance(inner, Mapping) for inner in nested.values()):
        raise UsageError(
            "expected a dictionary of dictionaries, as quantus.evaluate returns, got "
            f"{type(results).__name__}: name method and metric for the scores of one metric"
        )
    by_method: dict[str, dict[str, Any]] = {}
    for first, inner in nested.items():
        for second, values in inner.items():
            of, by = (first, second) if outer == "method" else (second, first)
            if isinstance(values, Mapping):
                if not values:
                    raise UsageError(f"{by} of {of}: Quantus gave no scores; it printed why: leave it out or mend that")
                by_method.setdefault(of, {}).update({f"{by} [{name}]": part for name, part in values.items()})
            else:
                by_method.setdefault(of, {})[by] = values
    return Scores.of(SOURCE, by_method, better=better)
