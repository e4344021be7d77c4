"""Boards over several models of a task: means over all, and intervals over models, too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmark.core.errors import BenchmarkError
from leaderboards.board import GapError
from leaderboards.rank import rank
from leaderboards.tables import render
from tests.leaderboards.generated import IDENTITY, board, made

RNG = np.random.default_rng(0)


def of_model(record, seed, **identity):
    """Return a record as if it were of another model of its task."""
    changed = IDENTITY | {"model": f"m{seed}", "task": f"t{seed}"} | identity
    return replace(record, cell=replace(record.cell, model=seed), identity=changed)


def pooled(qualities, samples=30, seeds=(0,), noise=0.3):
    """Return records of methods by their quality on each model, a list by method."""
    return [
        of_model(made(np.full((10, 1), quality) + noise * RNG.normal(size=(10, samples)), name, seed=seed), model)
        for name, by_model in qualities.items()
        for model, quality in enumerate(by_model)
        for seed in seeds
    ]


def test_means_are_over_models():
    records = pooled({"a": [1.0, 2.0, 0.0], "b": [0.5, 0.5, 0.5]}, seeds=(0, 1))
    found = board(records)
    assert found.models == (0, 1, 2)
    for row in found.rows:
        mine = [record for record in records if record.label == row.method]
        for name in ("FC", "DEL"):
            expected = np.mean([r.scores["score"][r.scores["metric"] == name].mean() for r in mine])
            assert row.means[name] == pytest.approx(expected)
        assert row.valid == (3 * 2 * 10 * 30, 3 * 2 * 10 * 30)
    assert "seeds 0, 1 · models 0, 1, 2 · model: accuracy" in render([found], "table")


def test_a_method_that_suits_one_model_alone_has_a_wide_interval():
    steady = pooled({"a": [1.0, 1.0, 1.0], "b": [0.5, 0.5, 0.5]})
    moody = pooled({"a": [2.5, 0.25, 0.25], "b": [0.5, 0.5, 0.5]})
    best = {name: {row.method: row.best for row in board(records).rows} for name, records in
            {"steady": steady, "moody": moody}.items()}  # fmt: skip
    assert best["steady"]["a"] == 1
    assert 0.5 < best["moody"]["a"] < 0.9, "in (2/3)^3 of the draws the model that it suits is not drawn"


def test_the_order_of_models_does_not_matter():
    records = pooled({"a": [1.0, 2.0], "b": [0.5, 1.5], "c": [1.2, 0.1]})
    first, second = rank(records).board, rank(records[::-1]).board
    assert first.rows == second.rows


def test_one_model_is_as_before():
    records = pooled({"a": [1.0], "b": [0.5]})
    plain = [replace(record, identity=IDENTITY) for record in records]
    assert board(records).rows == board(plain).rows
    assert "models" not in render([board(plain)], "table")


def test_a_seed_that_is_missing_for_one_model_is_a_gap():
    records = pooled({"a": [1.0, 2.0], "b": [0.5, 1.5]}, seeds=(0, 1))
    with pytest.raises(GapError, match=r"a: no record for seed 1 of model 1.*with --seed and --models"):
        board([r for r in records if (r.label, r.cell.seed, r.cell.model) != ("a", 1, 1)])


def test_two_models_of_one_seed_share_no_board():
    records = pooled({"a": [1.0, 2.0], "b": [0.5, 1.5]})
    changed = [of_model(r, r.cell.model, model="other") if (r.label, r.cell.model) == ("b", 1) else r for r in records]
    with pytest.raises(BenchmarkError, match="with different models"):
        board(changed)
