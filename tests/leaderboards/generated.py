"""Records made from numbers: as many tasks, methods, seeds and samples as a test wants."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmark.records.record import Cell, Record
from benchmark.running.plan import metric_facts
from benchmark.scoring.metrics import METRICS, TEN
from leaderboards.rank import rank, rankings

NAMES = TEN
IDENTITY = {"task": "t", "data": "d", "model": "m", "code": "c", "distribution": ""}
FACTS = {"modality": "table", "origin": "o", "rows": 20, "accuracy": 0.9, "balanced_accuracy": 0.8, "weak": False}


def scores_table(scores):
    """Return scores (K, N) as a record holds them; NaN is invalid."""
    metrics, samples = scores.shape
    flat = scores.reshape(-1)
    return pd.DataFrame(
        {
            "sample": np.tile(np.arange(samples), metrics),
            "target": 0,
            "metric": pd.Categorical(np.repeat(list(NAMES[:metrics]), samples), list(NAMES)),
            "score": flat,
            "valid": np.isfinite(flat),
            "reason": pd.Categorical([None] * len(flat), ["constant response of the model"]),
        }
    )


def made(scores, method, task="t", seed=0, kind="baseline", source="real", **changes):
    """Return a finished record with scores (K, N)."""
    costs = {phase: {"forwards": 10, "backwards": 0, "seconds": 0.1} for phase in ("prepare", "attribute", "probe")}
    return Record(
        Cell(source, task, method, {}, seed, None), "done", label=method, kind=kind, identity=IDENTITY, facts=FACTS,
        metrics=metric_facts(list(NAMES[: len(scores)])), n_total=scores.shape[1], costs=costs,
        scores=scores_table(scores), **changes,
    )  # fmt: skip


def several(tasks=2, methods=4, seeds=2, samples=20, metrics=10, spread=0.3, rng=None, shared=0.0):
    """Return records, and the true quality (tasks, methods, metrics) of each, better = larger.

    A part `shared` of a method's quality is the same in all metrics.
    """
    rng = rng or np.random.default_rng(0)
    truth = shared * rng.normal(size=(tasks, methods, 1)) + (1 - shared) * rng.normal(size=(tasks, methods, metrics))
    truth *= spread
    signs = np.array([1 if METRICS[name].higher_is_better else -1 for name in NAMES[:metrics]])
    records = []
    for task in range(tasks):
        hard = rng.normal(size=samples)
        for method in range(methods):
            for seed in range(seeds):
                noise = hard + 0.5 * rng.normal(size=samples) + 0.5 * rng.normal(size=(metrics, samples))
                scores = signs[:, None] * (truth[task, method][:, None] + noise)
                records.append(made(scores, f"m{method:02d}", f"t{task:02d}", seed))
    return records, truth


def board(records, partial=False):
    """Return the board of one task's records."""
    return rank(records, partial).board


def boards(records, partial=False):
    """Return the boards of records of any tasks."""
    return [ranking.board for ranking in rankings(records, partial)]
