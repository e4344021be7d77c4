"""What a metric is: what is said of it, and what it needs, removal sets or the explainer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmark.scoring.metrics.probes import Probe
from benchmark.scoring.metrics.readings import PROBABILITY, Reading
from benchmark.scoring.metrics.response import Response, Scores

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.core.types import Task
    from benchmark.scoring.metrics.subject import Subject


class Metric:
    """What is said of a metric, whatever it needs: derive from `ProbeMetric` or from `ExplainerMetric`.

    `name`, `group` and `family` are those that it is registered under.

    Attributes:
        name: the column in tables and records.
        title: the name in words.
        group: metrics of one group share a board; `ten` are those of the paper.
        family: metrics that are nearly functions of one another share it, and count once in a family rank.
        higher_is_better: the direction that a board ranks by.
        low: the least score that there can be.
        high: the largest.
        formula: in words.
        meaning: the question that it answers.
        blind_to: what it cannot see.
        redundancy: what it shares with others.
        source: the paper and section, and any departure from it.
        version: raised when scores change; a record of another version is computed anew.
    """

    name: str = ""
    title: str = ""
    group: str = ""
    family: str = ""
    higher_is_better: bool = True
    low: float = -float("inf")
    high: float = float("inf")
    formula: str = ""
    meaning: str = ""
    blind_to: str = ""
    redundancy: str = ""
    source: str = ""
    version: int = 1

    def unsupported(self, task: Task) -> str | None:
        """Return why no score can be had on a task, or None where it can; all scores are undefined then."""
        return None


class ProbeMetric(Metric, ABC):
    """A metric of what the model answers about removal sets.

    Attributes:
        probe: which removal sets it needs.
        reading: what it reads of the answers.
        linear: its score is Pearson's r of the drop with the summed attribution, which can be taken from covariances
            of features where sets are random (see `benchmark.statistics.linear_pearson`).
    """

    probe: Probe
    reading: Reading = PROBABILITY
    linear: bool = False

    def reading_on(self, task: Task) -> Reading:
        """Return what is read on a task: `reading`, unless the names of layers depend on the model."""
        return self.reading

    @abstractmethod
    def score(self, response: Response) -> Scores | Tensor:
        """Return the scores (M, B) float64 and their reason codes (M, B) int8, keys of `REASONS`; or scores alone.

        Aggregates such as `benchmark.scoring.metrics.mean` give both. What is NaN without a reason is marked as
        undefined.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class EffectMetric(ProbeMetric):
    """A metric that is a probe, an effect and an aggregate.

    Attributes:
        effect: makes of a response the effect of each removal, (M, B, S) or (B, S).
        aggregate: makes of effects and response one score a sample.

    Example:
        >>> from benchmark.scoring.metrics import METRICS
        >>> METRICS["DEL"].probe.kind, METRICS["DEL"].higher_is_better
        ('morf', False)
    """

    name: str = ""
    title: str = field()
    probe: Probe
    effect: Callable[[Response], Tensor]
    aggregate: Callable[[Tensor, Response], Scores]
    higher_is_better: bool = field()
    low: float = -float("inf")
    high: float = float("inf")
    group: str = ""
    family: str = ""
    formula: str = ""
    meaning: str = ""
    blind_to: str = ""
    redundancy: str = ""
    source: str = ""
    reading: Reading = PROBABILITY
    linear: bool = False
    version: int = 1

    def score(self, response: Response) -> Scores:
        """Return the scores (M, B) float64 of this metric and their reason codes (M, B) int8, keys of `REASONS`."""
        return self.aggregate(self.effect(response), response)


class ExplainerMetric(Metric, ABC):
    """A metric that asks the explainer about other inputs, or about another model.

    Where attributions alone are given, its scores are undefined, with a reason that says so.

    Attributes:
        cost: what it asks of the explainer, in words.
    """

    cost: str = "those of the explanations that it asks for"

    @abstractmethod
    def score(self, subject: Subject) -> Tensor:
        """Return one score a sample, (B,); NaN where it is undefined.

        Args:
            subject: inputs, targets, attributions, and the explainer.
        """
