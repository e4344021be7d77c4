"""What an evaluation gives: scores and reasons for each sample and metric, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from benchmark.core.errors import in_a_line
from benchmark.core.types import Attribute
from benchmark.models.metering import Meter
from benchmark.scoring.metrics import MODEL_NON_FINITE, NON_FINITE


@dataclass
class Evaluation:
    """What `Evaluator` returns of one method on N samples.

    Attributes:
        samples: row numbers of the test split.
        target: the class explained, of each sample: the one that the model predicts, unless the task says which.
        scores: a score a sample by metric, (N,) float64; NaN where it is undefined.
        reasons: a reason code a sample by metric, (N,) int8: 0, or a key of `benchmark.scoring.metrics.REASONS`.
        meter: costs by phase: `prepare`, `attribute` and `probe`; `explain`, where a metric asks the explainer.
        attributions: what was scored, (N, G).
        evidence: the share of each sample's positive attribution that lies on planted evidence, (N,) float64; None
            where nothing was planted.
        report: what a trained explainer says of its training, as plain data.
        explain: what was evaluated, where it was a method; it may be an `UncertainExplainer`.
    """

    samples: list[int]
    target: list[int]
    scores: dict[str, Tensor]
    reasons: dict[str, Tensor]
    meter: Meter = field(default_factory=Meter, repr=False)
    attributions: Tensor | None = None
    evidence: Tensor | None = None
    report: dict[str, Any] = field(default_factory=dict)
    explain: Attribute | None = None
    __repr__ = in_a_line

    @property
    def failed(self) -> Tensor:
        """Return (N,) bool: samples whose attribution is not finite."""
        return torch.stack(list(self.reasons.values())).eq(NON_FINITE).any(0)

    @property
    def model_not_finite(self) -> Tensor:
        """Return (N,) bool: samples about which the model gave an answer that is not finite."""
        return torch.stack(list(self.reasons.values())).eq(MODEL_NON_FINITE).any(0)


def joined(parts: list[Evaluation]) -> Evaluation:
    """Return the evaluations of some samples and of those that follow them as one, without attributions and costs."""
    first = parts[0]
    evidence = [part.evidence for part in parts if part.evidence is not None]
    return Evaluation(
        samples=[sample for part in parts for sample in part.samples],
        target=[target for part in parts for target in part.target],
        scores={name: torch.cat([part.scores[name] for part in parts]) for name in first.scores},
        reasons={name: torch.cat([part.reasons[name] for part in parts]) for name in first.reasons},
        evidence=torch.cat(evidence) if evidence else None,
    )


def averaged(repeats: list[Evaluation]) -> Evaluation:
    """Return the first of several evaluations of one method, with scores and shares of evidence averaged over all."""
    first = repeats[0]
    if len(repeats) == 1:
        return first
    evidence = [repeat.evidence for repeat in repeats if repeat.evidence is not None]
    return replace(
        first,
        scores={name: _mean([repeat.scores[name] for repeat in repeats]) for name in first.scores},
        reasons={name: torch.stack([repeat.reasons[name] for repeat in repeats]).amax(0) for name in first.reasons},
        evidence=_mean(evidence) if evidence else None,
    )


def _mean(values: list[Tensor]) -> Tensor:
    """Return the mean of several (N,), for each sample to the bit the same whichever others stand beside it.

    `Tensor.mean` over a dimension adds in an order that depends on the length of the other.
    """
    return sum(values[1:], values[0]) / len(values)
