"""Explanations of a table beside the best possible scores: how far is S* from each metric's optimum, and DeepFaith?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmark.evaluator import Evaluator
from benchmark.metrics import TEN
from benchmark.seeding import seed_for
from benchmark.types import METHODS, Method, Task
from deepfaith.optimality import bernoulli, best_map, optimum

if TYPE_CHECKING:
    import pandas as pd

SHARES = (0.5, 0.3)
"""How often S* is asked to see a feature removed: a fair coin, as in INF, and what DeepFaith draws."""


def compare_with_optimum(
    task: Task, methods: Sequence[tuple[str, str, Method]], limit: int | None = None, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return mean scores (explanation x metric) and, in long form, the share of the way from random to the optimum.

    methods: label, name and method.
    """
    import pandas as pd

    samples = list(range(len(task.test.x)))[:limit]
    evaluator = Evaluator(task, seed, samples, metrics=TEN)
    table = evaluator.shared.table
    assert table is not None, "a table of few columns has a value table"
    rows = {"optimum": {name: float(best.nanmean()) for name, best in optimum(table, task.budget).items()}}
    for share in SHARES:
        found = evaluator.score(best_map(table, bernoulli(task.n_features, share))).scores
        rows[f"S* ({share:g})"] = {name: float(found[name].nanmean()) for name in TEN}
    for label, name, method in [*methods, ("random", "random", METHODS.get("random")())]:
        explain = method.prepare(task, seed_for(seed, task.name, name, 0))
        found = evaluator.score(explain(evaluator.x, evaluator.shared.target).detach()).scores
        rows[label] = {metric: float(found[metric].nanmean()) for metric in TEN}
    scores = pd.DataFrame.from_dict(rows, orient="index")[list(TEN)]
    shares = (scores - scores.loc["random"]) / (scores.loc["optimum"] - scores.loc["random"])
    long = shares.drop(index=["random", "optimum"]).rename_axis("explanation").reset_index()
    return scores, long.melt("explanation", var_name="metric", value_name="share")
