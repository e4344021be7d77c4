"""Compares explanations of a table with the best possible scores of each metric, S* and DeepFaith among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from benchmark.core.seeding import method_seed
from benchmark.core.types import METHODS, Method, Task
from benchmark.running.trial import Trial, refuse_non_finite
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.isolation import for_methods
from benchmark.scoring.metrics import TEN
from deepfaith.optimality import bernoulli, best_map, optimum

if TYPE_CHECKING:
    import pandas as pd

SHARES = (0.5, 0.3)
"""How often S* is asked to see a feature removed: a fair coin, as in INF, and what DeepFaith draws."""


def compare_with_optimum(
    task: Task, methods: Sequence[tuple[str, str, Method]], limit: int | None = None, seed: int = 0,
    build: Callable[[], Task] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:  # fmt: skip
    """Score methods, `random` and S* beside the optimum.

    Args:
        task: a table of few columns.
        methods: label, registered name and the method itself.
        limit: only the first test samples.
        seed: base of every random draw.
        build: builds the task anew, where a method spoils it; without it those that follow fail then.

    Returns:
        Mean scores (explanation x metric), in long form the share of the way from random to the optimum, and the
        labels of methods that failed, which are left out.

    Raises:
        BenchmarkError: every method failed.
    """
    import pandas as pd

    samples = list(range(len(task.test.x)))[:limit]
    trial = Trial(task, lambda task: Evaluator(task, seed, samples, metrics=TEN), build)
    evaluator = trial.evaluator
    table = evaluator.shared.table
    assert table is not None, "a table of few columns has a value table"
    rows = {"optimum": {name: float(best.nanmean()) for name, best in optimum(table, task.budget).items()}}
    for share in SHARES:
        found = evaluator.score(best_map(table, bernoulli(task.n_features, share))).scores
        rows[f"S* ({share:g})"] = {name: float(found[name].nanmean()) for name in TEN}
    for label, name, method in [*methods, ("random", "random", METHODS.get("random")())]:
        scores = trial.run(label, method, partial(_mean_scores, method=method, name=name))
        if scores is not None:
            rows[label] = scores
    trial.require(any(label in rows for label, _, _ in methods))
    table_of = pd.DataFrame.from_dict(rows, orient="index")[list(TEN)]
    shares = (table_of - table_of.loc["random"]) / (table_of.loc["optimum"] - table_of.loc["random"])
    long = shares.drop(index=["random", "optimum"]).rename_axis("explanation").reset_index()
    return table_of, long.melt("explanation", var_name="metric", value_name="share"), trial.failed


def _mean_scores(evaluator: Evaluator, method: Method, name: str) -> dict[str, float]:
    """Return the mean scores of one explanation a sample, also of a method that a record averages over several."""
    seed = method_seed(evaluator.seed, evaluator.task.name, name)
    with evaluator.guard.watch(seed):
        explain = method.prepare(for_methods(evaluator.task), seed)
    with evaluator.guard.watch(seed):
        attributions = explain(evaluator.x.clone(), evaluator.shared.target.clone())
    found = refuse_non_finite(evaluator.score(attributions)).scores
    return {metric: float(found[metric].nanmean()) for metric in TEN}
