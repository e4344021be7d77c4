"""The scores of one board as an array, and ranks along it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.core.errors import BenchmarkError
from benchmark.records.record import Record
from benchmark.scoring.metrics import CONSTANT_RESPONSE, MODEL_NON_FINITE, REASONS

LEFT_OUT = (REASONS[CONSTANT_RESPONSE], REASONS[MODEL_NON_FINITE])
"""Reasons of a score that no method could have had: such a sample is left out for all of them."""
DIGITS = 12
"""Means that agree to this many decimals are tied."""


@dataclass(frozen=True, eq=False)
class ScoreArray:
    """Scores (M, S, K, N) of M methods, S seeds, K metrics and N samples, NaN where there is none to average.

    `asked` (M, S, K, N) is True where a record should have a score; `higher` (K,) where higher is better; `silent`
    (K, N) is 0 where methods are judged, else 1 + the number of the reason in `LEFT_OUT`.
    """

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    samples: np.ndarray
    scores: np.ndarray
    asked: np.ndarray
    higher: np.ndarray
    families: tuple[str, ...]
    undefined: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """Return mean scores (M, K) over seeds and samples, NaN where there is nothing."""
        count = np.isfinite(self.scores).sum((1, 3))
        return np.where(count, np.nansum(self.scores, (1, 3)) / np.maximum(count, 1), np.nan)

    def only(self, metrics: list[str]) -> ScoreArray:
        """Return this cube with some of its metrics."""
        at = [self.metrics.index(name) for name in metrics]
        return ScoreArray(
            self.methods, self.seeds, tuple(metrics), self.samples, self.scores[:, :, at], self.asked[:, :, at],
            self.higher[at], tuple(self.families[i] for i in at), self.undefined[at],
        )  # fmt: skip


def score_array(done: list[Record], methods: list[str], seeds: tuple[int, ...]) -> ScoreArray:
    """Return the scores of finished records of one task.

    Raises:
        BenchmarkError: records hold different samples.
    """
    facts = metric_facts_of(done)
    metrics = sorted(facts, key=lambda name: (facts[name]["order"], name))
    known = {name: i for i, name in enumerate(metrics)}
    columns = [
        (record, record.scores["sample"].to_numpy(), record.scores["metric"].astype("category")) for record in done
    ]
    sets = [np.unique(sample) for _, sample, _ in columns]
    samples = sets[0]
    for record, own in zip(done, sets, strict=True):
        if not np.array_equal(own, samples):
            raise BenchmarkError(
                f"records of {record.cell.task} hold different samples: {done[0].label} has {len(samples)}, "
                f"{record.label} has {len(own)} or others; run again with one --limit"
            )
    shape = len(methods), len(seeds), len(metrics), len(samples)
    scores, asked, undefined = np.full(shape, np.nan), np.zeros(shape, bool), np.zeros(shape[2:], np.int8)
    for record, sample, metric in columns:
        at = methods.index(record.label), seeds.index(record.cell.seed)
        if asked[at].any():
            raise BenchmarkError(f"two records of {record.cell.task} are {record.label}, seed {record.cell.seed}")
        row = np.array([known.get(name, -1) for name in metric.cat.categories])[metric.cat.codes.to_numpy()]
        column = np.searchsorted(samples, sample)
        score = record.scores["score"].to_numpy(float)
        scores[(*at, row, column)] = np.where(record.scores["valid"].to_numpy(bool), score, np.nan)
        asked[(*at, row, column)] = True
        reasons = record.scores["reason"].astype(object)
        for number, reason in enumerate(LEFT_OUT, 1):
            if (there := (reasons == reason).to_numpy()).any():
                undefined[row[there], column[there]] = number
    scores[:, :, undefined > 0] = np.nan
    higher = np.array([bool(facts[name]["higher_is_better"]) for name in metrics])
    return ScoreArray(
        tuple(methods), seeds, tuple(metrics), samples, scores, asked, higher,
        tuple(facts[name]["family"] for name in metrics), undefined,
    )  # fmt: skip


def metric_facts_of(records: list[Record]) -> dict[str, dict[str, Any]]:
    """Return what the records say of each metric.

    Raises:
        BenchmarkError: they say different things of one.
    """
    facts: dict[str, dict[str, Any]] = {}
    for record in records:
        for name, own in record.metrics.items():
            first = facts.setdefault(name, own)
            for what in ("version", "higher_is_better", "family"):
                if own[what] != first[what]:
                    raise BenchmarkError(
                        f"records of {record.cell.task} hold different versions of {name}: {what} is {first[what]} and "
                        f"{own[what]} ({record.label}); run again to renew the old"
                    )
    return facts


def mid_ranks(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return ranks along an axis, 1 for the least, ties averaged, NaN where there is no value."""
    moved = np.moveaxis(np.asarray(values, float), axis, 0)
    ranks = np.empty_like(moved)
    for i, own in enumerate(moved):
        with np.errstate(invalid="ignore"):
            ranks[i] = (moved < own).sum(0) + (moved == own).sum(0) / 2 + 0.5
    ranks[np.isnan(moved)] = np.nan
    return np.moveaxis(ranks, 0, axis)


def better_first(values: np.ndarray, higher: np.ndarray, axis: int) -> np.ndarray:
    """Return mid-ranks along `axis`, 1 for the best, of values (..., K) whose last axis is that of metrics."""
    return mid_ranks(np.round(np.where(higher, -values, values), DIGITS), axis)


def sample_ranks(found: ScoreArray) -> np.ndarray:
    """Return ranks (M, S, N, K) of methods within each seed, sample and metric; NaN where not all have a score."""
    scores = np.moveaxis(found.scores, 2, 3)
    scores = np.where(np.isnan(scores).any(0), np.nan, scores)
    return better_first(scores, found.higher, 0)
