"""Explains one sample by several methods, with the ten scores of each explanation. Draws nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from benchmark.core.errors import UsageError
from benchmark.core.types import Method, Task, UncertainExplainer
from benchmark.inspection.shading import strength
from benchmark.running.trial import Trial, refuse_non_finite
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.metrics import METRICS, TEN


@dataclass(frozen=True, eq=False)
class Explanation:
    """What one method says of a sample.

    Attributes:
        label: of the method.
        attribution: (G,).
        scores: by metric, NaN where one is undefined.
        interval: the lower and upper ends (G,) of the attribution, where the method knows how sure it is.
    """

    label: str
    attribution: np.ndarray
    scores: dict[str, float]
    interval: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True, eq=False)
class Explained:
    """One sample of a task and its explanations.

    Attributes:
        task: whose sample it is.
        sample: the number of its row among the test samples.
        label: name of its class in the data.
        target: name of the class explained.
        predicted: name of the class that the model predicts.
        probability: of the target, 0 to 1.
        explanations: one a method.
        valid: (G,) bool, False for padding.
        evidence: (G,) bool, where evidence was planted; None where the task does not know.
        names: of the valid features.
        pixels: of an image, (H, W) or (H, W, 3) in 0 to 1, else None.
        values: of a table, its standardised columns (G,), else None.
        failed: labels of methods that failed, and are left out.
    """

    task: Task
    sample: int
    label: str
    target: str
    predicted: str
    probability: float
    explanations: list[Explanation]
    valid: np.ndarray
    evidence: np.ndarray | None
    names: list[str]
    pixels: np.ndarray | None
    values: np.ndarray | None
    failed: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Return one line that says what is explained."""
        data = "synthetic stand-in" if self.task.source == "synthetic" else "real data"
        weak = ", WEAK model" if self.task.provenance.model.weak else ""
        usual = self.target == self.predicted
        explained, also = (
            (f"predicted {self.target}", "") if usual else (f"target {self.target}", f", predicted {self.predicted}")
        )
        return (
            f"{self.task.name} ({data}{weak}), sample {self.sample}: {explained} "
            f"({self.probability:.0%}){also}, labelled {self.label}"
        )

    @property
    def metrics(self) -> list[str]:
        """Return the names of the metrics, in the order of columns."""
        return list(self.explanations[0].scores)

    def best(self) -> dict[str, float]:
        """Return the best score of each metric among the explanations."""
        best = {}
        for name in self.metrics:
            metric = METRICS[name]
            scores = [e.scores[name] for e in self.explanations if not np.isnan(e.scores[name])]
            if scores:
                best[name] = max(scores) if metric.higher_is_better else min(scores)
        return best


def interval_widths(explained: Explained) -> list[tuple[str, np.ndarray]]:
    """Return, for each explanation that has intervals, a title and how wide they are, (G,), the widest 1."""
    return [
        (f"{explanation.label}: how unsure it is", strength(explanation.interval[1] - explanation.interval[0]))
        for explanation in explained.explanations
        if explanation.interval is not None
    ]


def explain(
    task: Task,
    sample: int,
    methods: Iterable[tuple[str, str, Method]],
    seed: int,
    build: Callable[[], Task] | None = None,
    metrics: Sequence[str] = TEN,
) -> Explained:
    """Explain test sample `sample` by methods, those that fail left out.

    Args:
        task: with the sample among its test rows.
        sample: the number of its row.
        methods: label, registered name and the method itself.
        seed: base of every random draw.
        build: builds the task anew, where a method spoils it; without it those that follow fail then.
        metrics: names of those that are scored.

    Raises:
        UsageError: there is no such sample.
        BenchmarkError: every method failed.
    """
    rows = len(task.test.x)
    if not 0 <= sample < rows:
        raise UsageError(f"--sample expects a test sample of {task.name}, 0 to {rows - 1}, got {sample}")
    trial = Trial(task, lambda task: Evaluator(task, seed, [sample], metrics=metrics), build)
    evaluator, explanations = trial.evaluator, []
    for label, name, method in methods:
        explanation = trial.run(label, method, partial(_explanation, label, name, method))
        explanations += [] if explanation is None else [explanation]
    trial.require(explanations)
    x, classes = task.test.x[sample], evaluator.shared.classes[0].view(-1).tolist()
    image, text = task.modality == "image", task.modality == "text"
    return Explained(
        task=task,
        sample=sample,
        label=task.class_names[int(task.test.y[sample])],
        target=task.class_names[classes[0]],
        predicted=task.class_names[classes[-1]],
        probability=float(evaluator.shared.clean[0]),
        explanations=explanations,
        valid=evaluator.valid[0].cpu().numpy(),
        evidence=None if task.evidence is None else task.evidence[sample].cpu().numpy(),
        names=task.words(x) if text and task.words else list(task.feature_names),
        pixels=_stretched(x) if image else None,
        values=None if image or text else x.cpu().numpy(),
        failed=tuple(trial.failed),
    )


def _explanation(label: str, name: str, method: Method, evaluator: Evaluator) -> Explanation:
    result = refuse_non_finite(evaluator.evaluate(method, name))
    assert result.attributions is not None
    scores = {metric: float(values[0]) for metric, values in result.scores.items()}
    interval = None
    if isinstance(result.explain, UncertainExplainer):
        lower, upper = result.explain.interval(evaluator.x.clone())
        interval = lower[0].double().cpu().numpy(), upper[0].double().cpu().numpy()
    return Explanation(label, result.attributions[0].double().cpu().numpy(), scores, interval)


def _stretched(x: torch.Tensor) -> np.ndarray:
    """Return an image as (H, W) or (H, W, 3) in 0 to 1, stretched over its own range."""
    low, high = x.min(), x.max()
    pixels = ((x - low) / (high - low).clamp(min=1e-12)).cpu().numpy()
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
