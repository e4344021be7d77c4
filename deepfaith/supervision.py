"""Chooses prior explanations to copy: deduplicates them, then filters them by all ten metrics."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.core.store import EXPLANATIONS, Made, Unusable
from benchmark.core.types import Method, Split, Task
from benchmark.models.batching import Batching
from benchmark.models.metering import Cost, charge, spent
from benchmark.processes.progress import tqdm
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.metrics import METRICS, TEN

HIGHER = torch.tensor([METRICS[name].higher_is_better for name in TEN])
"""The direction of each metric, in the table's order."""

ROUNDING = 1e-9
"""What a cosine of a vector with itself may lack to 1."""

Prior = tuple[str, Method]
PriorPath = Callable[[str, Method], Path]
"""Where the explanations of a prior are, or will be."""


def deduplicate(attributions: Tensor, similarity: float) -> Tensor:
    """Return which attributions stay when those that are nearly the same are dropped, (M,) bool.

    Source: section 3.3.

    Args:
        attributions: of one input, (M, G), in the order of preference.
        similarity: an attribution is dropped where its cosine with one that stays is at least this; above 1 none is.
            What is not finite or all zero is dropped in any case.
    """
    norms = attributions.double().norm(dim=1, keepdim=True)
    usable = norms.squeeze(1).isfinite() & (norms.squeeze(1) > 0)
    directions = attributions.double() / norms.where(norms > 0, torch.ones_like(norms))
    chosen = torch.zeros(len(attributions), dtype=torch.bool)
    for i in usable.nonzero().squeeze(1).tolist():
        cosines = directions[chosen] @ directions[i]
        chosen[i] = not bool((cosines >= similarity - ROUNDING).any())
    return chosen


def passing(scores: Tensor, quantile: float, higher: Tensor = HIGHER) -> Tensor:
    """Return which candidates are at least as good as a quantile of all in every metric, (M,) bool.

    A metric that is undefined (NaN) for all candidates takes no part; a candidate for which alone one is undefined
    fails. Quantiles are interpolated linearly. Source: section 3.3.

    Args:
        scores: of the candidates, (M, metrics).
        quantile: p in [0, 1]; 0 lets all pass.
        higher: whether higher is better, (metrics,) bool.
    """
    signed = scores.double().where(higher, -scores.double())
    judged = signed[:, ~signed.isnan().all(0)]
    if not len(judged) or not judged.shape[1]:
        return torch.ones(len(scores), dtype=torch.bool)
    return (judged >= judged.nanquantile(quantile, dim=0)).all(1)


@dataclass(frozen=True, eq=False)
class Supervision:
    """Explanations of N inputs by M prior methods, with their scores.

    Attributes:
        x: inputs (N, ...).
        target: classes (N,) that the model predicts.
        attributions: (N, M, G).
        scores: (N, M, metrics), in the order of `TEN`.
        names: of the methods, M.
    """

    x: Tensor
    target: Tensor
    attributions: Tensor
    scores: Tensor
    names: tuple[str, ...]

    def choose(self, similarity: float, quantile: float) -> Tensor:
        """Return which explanations belong to Z, (N, M) bool: see `deduplicate`, then `passing`."""
        rows = []
        for attributions, scores in zip(self.attributions.cpu(), self.scores, strict=True):
            unique = deduplicate(attributions, similarity)
            good = torch.zeros_like(unique)
            good[unique] = passing(scores[unique], quantile)
            rows.append(good)
        return torch.stack(rows)

    def part(self, rows: slice) -> Supervision:
        """Return the explanations of some inputs."""
        whole = {name: getattr(self, name)[rows] for name in ("x", "target", "attributions", "scores")}
        return replace(self, **whole)

    @cached_property
    def means(self) -> Tensor:
        """Return each prior's mean scores (M, metrics)."""
        return self.scores.nanmean(0)

    def mean_rank(self, scores: Tensor) -> float:
        """Return the mean rank over metrics, from 1, of explanations with scores (N, metrics) among the priors."""
        signed = torch.cat([scores.nanmean(0, keepdim=True), self.means]) * torch.where(HIGHER, 1.0, -1.0)
        signed = signed[:, ~signed.isnan().any(0)]
        ahead = (signed[1:] > signed[:1]).sum(0) + (signed[1:] == signed[:1]).sum(0) / 2
        return float((1 + ahead).mean())


def _check_costs(_tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    if not {"cost", "common"} <= set(facts):
        raise Unusable("do not say what they cost")


def supervise(task: Task, x: Tensor, priors: Sequence[Prior], seed: int, path: PriorPath | None = None) -> Supervision:
    """Explain inputs by all prior methods and score the explanations by the evaluator's ten metrics.

    Stored explanations cost what they cost when they were made.

    Args:
        task: model and removal.
        x: inputs (N, ...).
        priors: name and method of each.
        seed: of the methods and of the evaluator.
        path: where the explanations of each are stored, so that work interrupted goes on with the next; without it
            none are.
    """
    rows = replace(
        task, test=Split(x, torch.zeros(len(x), dtype=torch.long, device=x.device)), evidence=None, target="predicted"
    )

    @cache
    def evaluator() -> tuple[Evaluator, Cost]:
        """Return the evaluator of all priors and its cost; not made where all explanations are stored."""
        before = spent()
        ready = Evaluator(rows, seed, metrics=TEN)
        return ready, spent() - before

    def explain(name: str, method: Method) -> Made:
        ready, common = evaluator()
        before = spent()
        result = ready.evaluate(method, name)
        assert result.attributions is not None
        scores = torch.stack([result.scores[metric] for metric in TEN], 1)
        facts = {"cost": asdict(spent() - before), "common": asdict(common)}
        return {"attributions": result.attributions, "scores": scores}, facts

    begun, costs, common = spent(), [], Cost()
    parts = []
    for name, method in tqdm(priors, desc="prior explanations", disable=not sys.stderr.isatty(), leave=False):
        make = partial(explain, name, method)
        part, facts = make() if path is None else EXPLANATIONS.get(path(name, method), make, _check_costs)
        parts.append(part)
        costs.append(Cost(**facts["cost"]))
        common = Cost(**facts["common"])
    charge(Cost.total([*costs, common]) - (spent() - begun))
    with torch.no_grad():
        target = Batching(task).ask(x, lambda rows: task.model(x[rows])).argmax(-1)
    return Supervision(
        x,
        target,
        torch.stack([part["attributions"].to(x.device) for part in parts], 1),
        torch.stack([part["scores"] for part in parts], 1),
        tuple(name for name, _ in priors),
    )
