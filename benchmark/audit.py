"""How good are the metrics themselves on a task: noise, agreement, ties, and whether controls and oracles behave."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmark.evaluator import Evaluator
from benchmark.metrics import METRICS
from benchmark.statistics import spearman
from benchmark.types import METHODS, Method, Task


@dataclass(frozen=True)
class Audit:
    """What was found. Rows are metrics, but for `ties`, whose rows are methods.

    noise: standard deviation over seeds of a method's mean score, the largest among methods that are no controls;
    `gap`: the median distance between neighbouring methods' means, which noise should stay under. agreement: Spearman
    between metrics, over methods, mean over samples, 1 where two metrics order methods alike. controls: how many
    methods beat `random`, and the rank of the best oracle. ties: share of features that share their value with another.
    """

    task: str
    source: str
    samples: int
    seeds: int
    noise: pd.DataFrame
    agreement: pd.DataFrame
    controls: pd.DataFrame
    ties: pd.Series

    def text(self) -> str:
        """Return the audit for a terminal."""
        parts = {
            f"noise over {self.seeds} seeds of subsets and ties (standard deviation of the mean score)": self.noise,
            "agreement of metrics (Spearman over methods, mean over samples)": self.agreement,
            "controls and oracles": self.controls,
            "ties (share of features that share their value with another)": self.ties.to_frame("tied"),
        }
        return "\n\n".join(
            f"{title}\n{frame.to_string(float_format='{:.3f}'.format)}" for title, frame in parts.items()
        )

    def plain(self) -> dict[str, Any]:
        """Return the audit as plain data for JSON."""
        return {
            "task": self.task,
            "source": self.source,
            "samples": self.samples,
            "seeds": self.seeds,
            "noise": self.noise.to_dict("index"),
            "agreement": self.agreement.to_dict("index"),
            "controls": self.controls.to_dict("index"),
            "ties": self.ties.to_dict(),
        }


def audit(task: Task, methods: Iterable[tuple[str, Method]], samples: int, seeds: int, value_table: bool) -> Audit:
    """Explain `samples` test samples by every method once, and score them under `seeds` seeds."""
    methods = list(methods)
    runs: list[dict[str, dict[str, Tensor]]] = []
    attributions: dict[str, Tensor] = {}
    rows = list(range(min(samples, len(task.test.x))))
    for seed in range(seeds):
        evaluator = Evaluator(task, seed, rows, value_table=value_table)
        for name, method in methods:
            if name not in attributions:
                found = evaluator.evaluate(method, name)
                assert found.attributions is not None
                attributions[name] = found.attributions
        scored = evaluator.score_all([attributions[name] for name, _ in methods])
        runs.append({name: each.scores for (name, _), each in zip(methods, scored, strict=True)})
    names = [name for name, _ in methods]
    means = np.array([[[run[m][k].nanmean().item() for k in METRICS] for m in names] for run in runs])
    return Audit(
        task=task.name,
        source=task.source,
        samples=len(rows),
        seeds=seeds,
        noise=_noise(means[:, [METHODS.entry(name).facts.get("kind") != "control" for name in names]]),
        agreement=_agreement(runs[0], names),
        controls=_controls(means.mean(0), names),
        ties=pd.Series({name: _tied(attributions[name]) for name in names}),
    )


def _noise(means: np.ndarray) -> pd.DataFrame:
    """Return noise and gap by metric from means (seeds, methods, metrics)."""
    spread = means.std(axis=0, ddof=1) if len(means) > 1 else np.full(means.shape[1:], np.nan)
    gaps = np.median(np.diff(np.sort(means.mean(0), axis=0), axis=0), axis=0)
    return pd.DataFrame({"noise": spread.max(0), "gap": gaps}, index=list(METRICS))


def oriented(scores: dict[str, dict[str, Tensor]], names: list[str], metric: str) -> Tensor:
    """Return scores (samples, methods) of a metric, turned so that higher is better."""
    sign = 1 if METRICS[metric].higher_is_better else -1
    return sign * torch.stack([scores[name][metric] for name in names], 1)


def _agreement(scores: dict[str, dict[str, Tensor]], names: list[str]) -> pd.DataFrame:
    columns = {metric: oriented(scores, names, metric) for metric in METRICS}
    found = {
        a: {
            b: spearman(x.nan_to_num(), y.nan_to_num(), ~(x.isnan() | y.isnan())).nanmean().item()
            for b, y in columns.items()
        }
        for a, x in columns.items()
    }
    return pd.DataFrame(found, index=list(METRICS))


def _controls(means: np.ndarray, names: list[str]) -> pd.DataFrame:
    kinds = [METHODS.entry(name).facts.get("kind") for name in names]
    others = [i for i, kind in enumerate(kinds) if kind not in ("control", "oracle")]
    oracles = [i for i, kind in enumerate(kinds) if kind == "oracle"]
    rows = {}
    for k, metric in enumerate(METRICS):
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
        result.agreement, vmin=-1, vmax=1, cmap="vlag", annot=True, fmt=".2f", square=True, linewidths=0.5, ax=axes,
        cbar_kws={"label": "Spearman over methods, mean over samples"},
    )  # fmt: skip
    data = "SYNTHETIC data" if result.source == "synthetic" else "real data"
    axes.set_title(f"Do the metrics agree? {result.task}, {data}, {result.samples} samples")
    axes.tick_params(axis="y", rotation=0)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
