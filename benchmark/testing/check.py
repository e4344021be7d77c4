"""Check someone's implementation of a metric: call it on golden cases, compare, say how it differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmark.core.errors import UsageError, did_you_mean, shown
from benchmark.core.selection import several
from benchmark.plugins.discovery import discover_all
from benchmark.scoring.metrics import METRICS
from benchmark.testing.calling import called, name_of, wanted
from benchmark.testing.diagnosis import Diagnosis, diagnose, tie_rule
from benchmark.testing.given import FRAMEWORKS, Framework, missing
from benchmark.testing.golden import CHOICES, Golden, golden, select_cases
from benchmark.testing.observed import Observed, distance, matches, scores_of
from benchmark.testing.report import CaseResult, Report
from benchmark.testing.sentences import nothing_to_judge, sentences
from benchmark.testing.variants.catalogue import BY_NAME, varied


def check_metric(
    name: str,
    function: Callable[..., Any],
    *,
    cases: CHOICES = None,
    tolerance: float = 1e-9,
    framework: Framework = "numpy",
    variants: str | Sequence[str] = (),
) -> Report:
    """Compare someone's implementation of a metric with ours on golden cases, and say how it differs.

    The function is called once a case, with those of the following that it has parameters for, and returns one score a
    sample, (N,), as an array, a tensor or a list:

    - `model`: a frozen `torch.nn.Module`, rows (B, ...) to logits (B, C); it answers arrays with arrays, tensors with
      tensors. `predict` does the same and gives probabilities.
    - `x`: inputs (N, ...); `target`: the class predicted on each, (N,); `attribution`: (N, G).
    - `baseline`: what stands in the place of what is removed, of the shape of x; for INS, and other metrics whose probe
      says so, what features are put into.
    - `remove(rows, removed)`: puts the baseline where `removed` (B, G) bool is True, into unchanged rows of x.
    - `steps`: K, the most groups that features are removed in: the k-th ends at round(k G / K). `features_in_step`:
      G / K; a function that has it is not asked about cases where this is no whole number.
    - `subsets`: the random removal sets (N, R, G) bool, of FC and INF alone.
    - `valid`: which features exist, (N, G) bool; a function without it is not asked about cases with padding.
    - `ties`: the order (N, G) that equal attributions keep; without it, samples whose score depends on that order are
      not judged.
    - `seed`: of the case.

    All numbers are float64, whole ones int64; all is copied, so a function may change what it is given.

    Args:
        name: of the metric, one of `METRICS`.
        function: the implementation.
        cases: names or globs of golden cases, or cases (see `golden_cases`); a text is one of them. None for all.
        tolerance: up to which scores count as equal.
        framework: "numpy" or "torch": what the function is given, and `model`, `predict` and `remove` may be.
        variants: known variants of the metric that the function means to be (see `variants_of`): their scores are
            expected in place of ours. A text is one of them.

    Returns:
        A report, which prints as sentences, is true where nothing differs, and raises on `raise_for_difference()`.

    Raises:
        UsageError: the metric, a case or a variant is unknown, the function needs what no case has, or no case can be
            judged.

    Example:
        >>> def deletion(predict, x, target, attribution, remove, steps):
        ...     order, rows = (-attribution).argsort(1), range(len(x))
        ...     curve = []
        ...     for k in range(1, steps + 1):
        ...         gone = order.argsort(1) < round(k * order.shape[1] / steps)
        ...         curve.append(predict(remove(x, gone))[rows, target])
        ...     return sum(curve) / steps
        >>> bool(check_metric("DEL", deletion))
        True
    """
    discover_all()
    if name not in METRICS:
        raise UsageError(f"unknown metric {shown(name)}{did_you_mean(str(name), METRICS)}")
    if framework not in FRAMEWORKS:
        raise UsageError(f"framework is one of {', '.join(FRAMEWORKS)}, got {shown(framework)}")
    if not (isinstance(tolerance, (int, float)) and 0 <= tolerance < np.inf):
        raise UsageError(f"expected a tolerance of at least 0, got {shown(tolerance)}")
    variants = several(variants, "variants")
    recipe = varied(name, variants)
    chosen = [golden(name, case) for case in select_cases(cases)]
    names = wanted(function, name, any(one.subsets is not None for one in chosen))
    left_out = {one.case.name: why for one in chosen if (why := missing(names, one) or _unsupported(name, one))}
    ordered = "ties" in names or any("ties" in BY_NAME[variant].parts for variant in variants)
    observed: list[Observed] = []
    results: list[CaseResult] = []
    for one in chosen:
        if one.case.name in left_out:
            continue
        got = called(function, one, names, framework)
        if isinstance(got, str):
            results.append(CaseResult(one.case.name, len(one.x), len(one.x), float("inf"), got))
            continue
        expected = scores_of(recipe, one) if variants else one.expected
        observed.append(Observed(one, expected, got, ~one.tied | ordered))
        results.append(observed[-1].result(tolerance))
    if not any(case.samples for case in results) or all(np.isnan(one.expected).all() for one in chosen):
        raise UsageError(nothing_to_judge(name, left_out))
    report = Report(name, name_of(function), tolerance, tuple(variants), tuple(results))
    diagnosis, notes = None, []
    if any(one.result(tolerance).differing for one in observed):
        if variants and matches(varied(name, ()), observed, tolerance):
            diagnosis = Diagnosis((), True, f"On all judged samples it equals {name} as it stands.")
        else:
            diagnosis = diagnose(name, recipe, observed, tolerance)
        if not diagnosis.exact and (apart := _changes(function, observed, names, framework)) > tolerance:
            notes.append(
                f"Called again on the same cases it gives other scores, by up to {apart:.3g}: it draws at random what "
                "a case would give it, such as subsets, the order of ties or a baseline."
            )
    if observed and (diagnosis is None or diagnosis.exact):
        same = varied(name, [*variants, *(diagnosis.variants if diagnosis else ())])
        notes += tie_rule(same, observed, tolerance)
    return replace(
        report,
        variants=diagnosis.variants if diagnosis else (),
        exact=report.passed if diagnosis is None else diagnosis.exact,
        sentences=sentences(report, observed, diagnosis, left_out, notes),
    )


def _unsupported(name: str, one: Golden) -> str | None:
    """Return why a metric has no score on a case, or None where it has."""
    why = METRICS[name].unsupported(one.task)
    return None if why is None else f"no score of {name} ({why})"


def _changes(
    function: Callable[..., Any], observed: list[Observed], names: frozenset[str], framework: Framework
) -> float:
    """Return by how much scores change when a function is called again; infinite where it gives none."""
    apart = [0.0]
    for one in observed:
        again = called(function, one.golden, names, framework)
        apart.append(np.inf if isinstance(again, str) else float(distance(one.got, again).max()))
    return max(apart)
