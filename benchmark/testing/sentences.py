"""The sentences of a report."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from benchmark.testing.diagnosis import Diagnosis, where
from benchmark.testing.observed import Observed
from benchmark.testing.report import CaseResult, Report


def sentences(
    report: Report,
    observed: list[Observed],
    diagnosis: Diagnosis | None,
    left_out: Mapping[str, str],
    notes: Sequence[str],
) -> tuple[str, ...]:
    """Return a report in sentences: the verdict, how scores differ, where first, and what was not judged."""
    found = [_verdict(report)]
    if diagnosis is not None:
        found += [diagnosis.sentence, *_first(observed, report.tolerance)]
    return (*found, *_problems(report), *notes, *_left_out(left_out))


def _verdict(report: Report) -> str:
    """Return whether scores are the same, on how many samples."""
    judged = sum(case.samples for case in report.cases)
    whose = report.metric
    if report.expected_variants:
        whose += f" in the variant {' and '.join(map(repr, report.expected_variants))}"
    if report.passed:
        largest = max(case.largest for case in report.cases)
        return (
            f"{report.implementation} is {whose} on all {judged} samples of {len(report.cases)} cases "
            f"(largest difference {largest:.1g}, tolerance {report.tolerance:g})."
        )
    differing = [case for case in report.cases if case.differing]
    numbers = [case.largest for case in differing if math.isfinite(case.largest)]
    by = f", by up to {max(numbers):.3g}" if numbers else ""
    return (
        f"{report.implementation} is not {whose}: it differs on {sum(case.differing for case in differing)} of "
        f"{judged} samples, in {len(differing)} of {len(report.cases)} cases{by} (tolerance {report.tolerance:g})."
    )


def _first(observed: list[Observed], tolerance: float) -> list[str]:
    """Return the first number that differs, and the first that is undefined for one side alone."""
    both: list[tuple[Observed, int]] = []
    lost: list[tuple[Observed, int]] = []
    extra: list[tuple[Observed, int]] = []
    for one in observed:
        for row in map(int, np.flatnonzero(one.apart() > tolerance)):
            kind = lost if not np.isfinite(one.got[row]) else extra if np.isnan(one.expected[row]) else both
            kind.append((one, row))
    found = []
    if both:
        one, row = both[0]
        why = f" ({one.reason(row)})" if one.reason(row) else ""
        found.append(f"First: {where(one, row)}, expected {one.expected[row]:.12g}{why}, got {one.got[row]:.12g}.")
    if lost:
        one, row = lost[0]
        why = f" ({one.reason(row)})" if one.reason(row) else ""
        found.append(
            f"It gives {one.got[row]:g} for {_count(lost, 'sample')} with a score, the first {where(one, row)}: "
            f"expected {one.expected[row]:.6g}{why}."
        )
    if extra:
        one, row = extra[0]
        found.append(
            f"It gives a number for {_count(extra, 'sample')} without a score, the first {where(one, row)}: "
            f"expected nan ({one.reason(row) or 'undefined'}), got {one.got[row]:.6g}."
        )
    return found


def _problems(report: Report) -> list[str]:
    """Return what a function did in place of giving scores: of each kind the first."""
    kinds: dict[str, list[CaseResult]] = defaultdict(list)
    for case in report.cases:
        if case.problem is not None:
            kinds[" ".join(case.problem.split()[:2])].append(case)
    return [
        f"On {len(cases)} of {_count(report.cases, 'case')}, the first {cases[0].case!r}, it {cases[0].problem}."
        for cases in kinds.values()
    ]


def _left_out(left_out: Mapping[str, str]) -> list[str]:
    reasons: dict[str, list[str]] = defaultdict(list)
    for case, why in left_out.items():
        reasons[why].append(case)
    return [f"Not asked: {_count(names, 'case')} with {why}." for why, names in reasons.items()]


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}{'s' * (len(things) != 1)}"


def nothing_to_judge(metric: str, left_out: Mapping[str, str]) -> str:
    """Return why no score can be compared."""
    if left_out:
        return f"no case is left to judge {metric} on: all have {' or '.join(dict.fromkeys(left_out.values()))}"
    return (
        f"{metric} has no score of the attributions of any of these cases, so no implementation can be compared with it"
    )
