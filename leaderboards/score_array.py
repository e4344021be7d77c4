"""The scores of one board as an array, and ranks along it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
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
    """The scores of M methods, S seeds, K metrics and N samples on one task, and the ranks that follow from them.

    A sample is a test row explained of one of the task's models: rows of the first model come first, then those of the
    next.

    Attributes:
        methods: M labels, sorted.
        seeds: S seeds, sorted.
        metrics: K names, in the order of a board's columns.
        samples: numbers of the test rows, (N,), sorted for each model.
        models: the seed of the model of each sample, (N,).
        scores: (M, S, K, N), NaN where there is none to average.
        expected: (M, S, K, N) bool, True where a record should have a score.
        higher: (K,) bool, True where higher is better.
        families: the family of each metric.
        undefined: (K, N), 0 where methods are judged, else 1 + the index in `LEFT_OUT` of why they are not.
    """

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    samples: np.ndarray
    models: np.ndarray
    scores: np.ndarray
    expected: np.ndarray
    higher: np.ndarray
    families: tuple[str, ...]
    undefined: np.ndarray

    @cached_property
    def means(self) -> np.ndarray:
        """Mean scores (M, K) over seeds and samples, NaN where there is no score."""
        return mean_over(self.scores, (1, 3))

    @cached_property
    def ranks(self) -> np.ndarray:
        """Ranks (M, K) of the methods by their mean scores, 1 for the best; NaN where there is no score."""
        return better_first(self.means, self.higher, 0)

    @cached_property
    def sample_ranks(self) -> np.ndarray:
        """Ranks (M, S, N, K) of the methods within each seed, sample and metric; NaN where not all have a score."""
        scores = np.moveaxis(self.scores, 2, 3)
        scores = np.where(np.isnan(scores).any(0), np.nan, scores)
        return better_first(scores, self.higher, 0)

    def only(self, metrics: list[str]) -> ScoreArray:
        """Return this array with some of its metrics."""
        columns = [self.metrics.index(name) for name in metrics]
        return ScoreArray(
            self.methods,
            self.seeds,
            tuple(metrics),
            self.samples,
            self.models,
            self.scores[:, :, columns],
            self.expected[:, :, columns],
            self.higher[columns],
            tuple(self.families[column] for column in columns),
            self.undefined[columns],
        )


def score_array(done: list[Record], methods: list[str], seeds: tuple[int, ...]) -> ScoreArray:
    """Return the scores of finished records of one task.

    Args:
        done: finished records, each of one method, seed and model.
        methods: labels of the methods, those without a finished record too.
        seeds: all seeds.

    Raises:
        BenchmarkError: records of one model hold different samples, or two are of one method, seed and model.
    """
    facts = metric_facts_of(done)
    metrics = sorted(facts, key=lambda name: (facts[name]["order"], name))
    position = {name: i for i, name in enumerate(metrics)}
    of_model = {
        model: _common_samples([record for record in done if record.cell.model == model])
        for model in sorted({record.cell.model for record in done})
    }
    samples = np.concatenate(list(of_model.values()))
    models = np.repeat(list(of_model), list(map(len, of_model.values())))
    shape = len(methods), len(seeds), len(metrics), len(samples)
    scores, expected, undefined = np.full(shape, np.nan), np.zeros(shape, bool), np.zeros(shape[2:], np.int8)
    for record in done:
        cell = methods.index(record.label), seeds.index(record.cell.seed)
        of_this = models == record.cell.model
        if expected[cell][:, of_this].any():
            raise BenchmarkError(f"two records of {record.cell.task} are {record.label}, seed {record.cell.seed}")
        table = record.scores
        metric = table["metric"].astype("category")
        row = np.array([position.get(name, -1) for name in metric.cat.categories])[metric.cat.codes.to_numpy()]
        column = of_this.argmax() + np.searchsorted(samples[of_this], table["sample"].to_numpy())
        valid = table["valid"].to_numpy(bool)
        scores[(*cell, row, column)] = np.where(valid, table["score"].to_numpy(float), np.nan)
        expected[(*cell, row, column)] = True
        reasons = table["reason"].astype(object)
        for number, reason in enumerate(LEFT_OUT, 1):
            if (left_out := (reasons == reason).to_numpy()).any():
                undefined[row[left_out], column[left_out]] = number
    scores[:, :, undefined > 0] = np.nan
    higher = np.array([bool(facts[name]["higher_is_better"]) for name in metrics])
    families = tuple(facts[name]["family"] for name in metrics)
    return ScoreArray(
        tuple(methods), seeds, tuple(metrics), samples, models, scores, expected, higher, families, undefined
    )


def _common_samples(done: list[Record]) -> np.ndarray:
    """Return the samples (N,) that all records hold.

    Raises:
        BenchmarkError: they hold different ones.
    """
    first = np.unique(done[0].scores["sample"].to_numpy())
    for record in done[1:]:
        samples = np.unique(record.scores["sample"].to_numpy())
        if not np.array_equal(samples, first):
            raise BenchmarkError(
                f"records of {record.cell.task} hold different samples: {done[0].label} has {len(first)}, "
                f"{record.label} has {len(samples)} or others; run again with one --limit"
            )
    return first


def metric_facts_of(records: list[Record]) -> dict[str, dict[str, Any]]:
    """Return what the records say of each metric: version, higher_is_better, family, order and title by name.

    Raises:
        BenchmarkError: they say different things of one.
    """
    facts: dict[str, dict[str, Any]] = {}
    for record in records:
        for name, stated in record.metrics.items():
            first = facts.setdefault(name, stated)
            for what in ("version", "higher_is_better", "family", "digest"):
                if stated.get(what) != first.get(what):
                    raise BenchmarkError(
                        f"records of {record.cell.task} hold different versions of {name}: {what} is "
                        f"{first.get(what)} and {stated.get(what)} ({record.label}); run again to renew the old"
                    )
    return facts


def mid_ranks(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return ranks along an axis, 1 for the least, ties averaged, NaN where there is no value."""
    moved = np.moveaxis(np.asarray(values, float), axis, 0)
    ranks = np.empty_like(moved)
    for i, value in enumerate(moved):
        with np.errstate(invalid="ignore"):
            ranks[i] = (moved < value).sum(0) + (moved == value).sum(0) / 2 + 0.5
    ranks[np.isnan(moved)] = np.nan
    return np.moveaxis(ranks, 0, axis)


def better_first(values: np.ndarray, higher: np.ndarray, axis: int) -> np.ndarray:
    """Return mid-ranks along `axis`, 1 for the best, of values (..., K) whose last axis is that of metrics."""
    return mid_ranks(np.round(np.where(higher, -values, values), DIGITS), axis)


def mean_over(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Return the mean over an axis of what is a number, NaN where nothing is."""
    count = np.isfinite(values).sum(axis)
    return np.where(count, np.nansum(values, axis) / np.maximum(count, 1), np.nan)
