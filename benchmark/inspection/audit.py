"""Measures the metrics on a task: noise, agreement, ties, and whether controls and oracles rank as they should."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmark.core.errors import BenchmarkError
from benchmark.core.types import METHODS, Attribute, Method, Task
from benchmark.running.trial import Trial, refuse_non_finite
from benchmark.scoring.evaluation import Evaluation
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.metrics import METRICS, TEN
from benchmark.statistics.correlation import spearman


@dataclass(frozen=True)
class Audit:
    """How good the metrics are on a task. Rows of the tables are metrics, those of `ties` methods.

    Attributes:
        task: its name.
        source: real or synthetic.
        samples: number of test samples.
        seeds: number of seeds of subsets and ties.
        noise: `noise`, the standard deviation over seeds of a method's mean score, the largest among methods that are
            no controls; `gap`, the median distance between neighbouring methods' means, which noise should stay under.
        agreement: Spearman's correlation between metrics over methods, mean over samples, 1 where two metrics order
            methods alike.
        controls: how many methods beat `random`, and the rank of the best oracle.
        ties: share of features that share their attribution with another, by method, 0 to 1.
        failed: labels of methods that failed, and are left out.
    """

    task: str
    source: str
    samples: int
    seeds: int
    noise: pd.DataFrame
    agreement: pd.DataFrame
    controls: pd.DataFrame
    ties: pd.Series
    failed: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the audit for a terminal."""
        parts = {
            f"noise over {self.seeds} seeds of subsets and ties (standard deviation of the mean score)": self.noise,
            "agreement of metrics (Spearman over methods, mean over samples)": self.agreement,
            "controls and oracles": self.controls,
            "ties (share of features that share their value with another)": self.ties.to_frame("tied"),
        }
        return "\n\n".join(
            f"{title}\n{frame.to_string(float_format='{:.3f}'.format, na_rep='')}"
            for title, frame in parts.items()
            if len(frame.columns)
        )

    def plain(self) -> dict[str, Any]:
        """Return the audit as plain data for JSON."""
        return {
            "task": self.task,
            "source": self.source,
            "samples": self.samples,
            "seeds": self.seeds,
            "noise": _plain(self.noise),
            "agreement": _plain(self.agreement),
            "controls": _plain(self.controls),
            "ties": self.ties.to_dict(),
            "failed": list(self.failed),
        }


def _plain(frame: pd.DataFrame) -> dict[Any, dict[Any, Any]]:
    """Return a table by row, None where a cell is empty."""
    return frame.astype(object).where(frame.notna(), None).to_dict("index")


def audit(
    task: Task,
    methods: Iterable[tuple[str, str, Method]],
    samples: int,
    seeds: int,
    value_table: bool,
    build: Callable[[], Task] | None = None,
    metrics: Sequence[str] = TEN,
) -> Audit:
    """Explain test samples by every method once, those that fail left out, and score them under several seeds.

    Args:
        task: what is explained.
        methods: label, registered name and the method itself.
        samples: how many test samples.
        seeds: how many seeds.
        value_table: whether all removals are asked where they are few.
        build: builds the task anew, where a method spoils it; without it those that follow fail then.
        metrics: names of those that are examined.

    Raises:
        BenchmarkError: fewer than two methods are left.
    """
    rows = list(range(min(samples, len(task.test.x))))
    trial = Trial(task, lambda task: Evaluator(task, 0, rows, metrics=metrics, value_table=value_table), build)
    attributions: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    explainers: dict[str, Attribute | None] = {}
    for label, name, method in methods:
        evaluation = trial.run(label, method, partial(_evaluation, method=method, name=name))
        if evaluation is not None:
            assert evaluation.attributions is not None
            attributions[label], names[label] = evaluation.attributions, name
            explainers[label] = evaluation.explain
    trial.require(attributions)
    if len(attributions) < 2:
        raise BenchmarkError(f"{', '.join(attributions)} alone is left, and metrics agree over two methods at least")
    runs: list[dict[str, dict[str, Tensor]]] = []
    for seed in range(seeds):
        task = trial.evaluator.task
        evaluator = Evaluator(task, seed, rows, metrics=metrics, value_table=value_table) if seed else trial.evaluator
        scored = evaluator.score_all(list(attributions.values()), list(explainers.values()))
        runs.append({label: each.scores for label, each in zip(attributions, scored, strict=True)})
    means = np.array([[[run[m][k].nanmean().item() for k in metrics] for m in names] for run in runs])
    kinds = [METHODS.entry(name).facts.get("kind") for name in names.values()]
    return Audit(
        task=task.name,
        source=task.source,
        samples=len(rows),
        seeds=seeds,
        noise=_noise(means[:, [kind != "control" for kind in kinds]], metrics),
        agreement=_agreement(runs[0], list(names), metrics),
        controls=_controls(means.mean(0), list(names), kinds, metrics),
        ties=pd.Series({label: _tied(attribution) for label, attribution in attributions.items()}),
        failed=tuple(trial.failed),
    )


def _evaluation(evaluator: Evaluator, method: Method, name: str) -> Evaluation:
    return refuse_non_finite(evaluator.evaluate(method, name))


def _noise(means: np.ndarray, metrics: Sequence[str]) -> pd.DataFrame:
    """Return noise and gap by metric from means (seeds, methods, metrics), NaN where there are too few for one."""
    unknown = np.full(means.shape[2], np.nan)
    seeds, methods = means.shape[:2]
    noise = means.std(axis=0, ddof=1).max(0) if seeds > 1 and methods else unknown
    gaps = np.median(np.diff(np.sort(means.mean(0), axis=0), axis=0), axis=0) if methods > 1 else unknown
    return pd.DataFrame({"noise": noise, "gap": gaps}, index=list(metrics))


def oriented(scores: dict[str, dict[str, Tensor]], names: list[str], metric: str) -> Tensor:
    """Return scores (samples, methods) of a metric, turned so that higher is better."""
    sign = 1 if METRICS[metric].higher_is_better else -1
    return sign * torch.stack([scores[name][metric] for name in names], 1)


def _agreement(scores: dict[str, dict[str, Tensor]], names: list[str], metrics: Sequence[str]) -> pd.DataFrame:
    columns = {metric: oriented(scores, names, metric) for metric in metrics}
    correlations = {
        a: {
            b: spearman(x.nan_to_num(), y.nan_to_num(), ~(x.isnan() | y.isnan())).nanmean().item()
            for b, y in columns.items()
        }
        for a, x in columns.items()
    }
    return pd.DataFrame(correlations, index=list(metrics))


def _controls(means: np.ndarray, names: list[str], kinds: list[str | None], metrics: Sequence[str]) -> pd.DataFrame:
    others = [i for i, kind in enumerate(kinds) if kind not in ("control", "oracle")]
    oracles = [i for i, kind in enumerate(kinds) if kind == "oracle"]
    rows = {}
    for k, metric in enumerate(metrics):
        column = means[:, k] * (1 if METRICS[metric].higher_is_better else -1)
        row: dict[str, Any] = {}
        if "random" in names and others:
            beaten = sum(column[i] > column[names.index("random")] for i in others)
            row["beat random"] = f"{beaten} of {len(others)}"
        if oracles:
            best = max(column[i] for i in oracles)
            row["best oracle's rank"] = 1 + int((column > best).sum())
        rows[metric] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def _tied(attributions: Tensor) -> float:
    ordered = attributions.sort(1).values
    same = ordered[:, 1:] == ordered[:, :-1]
    edge = torch.zeros_like(same[:, :1])
    return (torch.cat([same, edge], 1) | torch.cat([edge, same], 1)).double().mean().item()


def heat_map(result: Audit, path: Path) -> Path:
    """Draw the agreement of metrics and save it."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt
    import seaborn as sns

    figure, axes = plt.subplots(figsize=(7.2, 6))
    sns.heatmap(
        result.agreement,
        vmin=-1,
        vmax=1,
        cmap="vlag",
        annot=True,
        fmt=".2f",
        square=True,
        linewidths=0.5,
        ax=axes,
        cbar_kws={"label": "Spearman over methods, mean over samples"},
    )
    data = "SYNTHETIC data" if result.source == "synthetic" else "real data"
    axes.set_title(f"Do the metrics agree? {result.task}, {data}, {result.samples} samples")
    axes.tick_params(axis="y", rotation=0)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
