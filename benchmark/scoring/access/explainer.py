"""Scores metrics that ask the explainer: watched, seeded and metered as methods are."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from benchmark.core.errors import BenchmarkError
from benchmark.core.seeding import seed_for
from benchmark.core.types import Attribute, Method, Task
from benchmark.models.metering import Meter
from benchmark.scoring.isolation import Guard, check_attribution, for_methods
from benchmark.scoring.metrics import (
    MODEL_NON_FINITE,
    NO_EXPLAINER,
    NON_FINITE,
    NOT_APPLICABLE,
    OK,
    UNDEFINED,
    ExplainerMetric,
    Scores,
)
from benchmark.scoring.metrics.subject import Subject
from benchmark.scoring.shared_queries import SharedQueries

PHASE = "explain"
"""The phase of the costs of explaining other inputs."""


class Explaining:
    """Scores what asks the explainer, sample by sample.

    Args:
        common: inputs and seeds.
        guard: watches the explainer.
        metrics: that ask it.
    """

    def __init__(self, common: SharedQueries, guard: Guard, metrics: list[ExplainerMetric]) -> None:
        self.common, self.guard, self.metrics, self.task = common, guard, metrics, common.task

    def scores(
        self, attributions: Tensor, target: Tensor, finite: Tensor, rows: list[slice], meter: Meter,
        explain: Attribute | None, method: Method | None = None,
    ) -> dict[str, Scores]:  # fmt: skip
        """Return the scores (N,) and reason codes (N,) of each metric, on the CPU.

        Args:
            attributions: what is judged, (N, G).
            target: the classes explained, (N,).
            finite: samples (N,) bool about which the model's answers are finite.
            rows: the batches.
            meter: takes the costs.
            explain: the explainer; without one all scores are undefined.
            method: that it was prepared from, where it was.
        """
        found = {}
        valid = self.common.valid
        judged = (attributions.isfinite() | ~valid).all(1)
        for metric in self.metrics:
            scores = torch.full((len(target),), torch.nan, dtype=torch.float64, device=target.device)
            codes = torch.full_like(target, OK, dtype=torch.int8)
            if metric.unsupported(self.task) is not None:
                codes[:] = NOT_APPLICABLE
            elif explain is None:
                codes[:] = NO_EXPLAINER
            else:
                usable = judged & finite
                for part in rows:
                    self._score_batch(metric, part, usable, (attributions, target), scores, meter, explain, method)
                codes[scores.isnan()] = UNDEFINED
                codes = codes.masked_fill(~judged, NON_FINITE).masked_fill(~finite, MODEL_NON_FINITE)
            found[metric.name] = scores.cpu(), codes.cpu()
        return found

    def _score_batch(
        self, metric: ExplainerMetric, rows: slice, usable: Tensor, given: tuple[Tensor, Tensor], scores: Tensor,
        meter: Meter, explain: Attribute, method: Method | None,
    ) -> None:  # fmt: skip
        """Write the scores of the usable samples of a batch into `scores` (N,)."""
        chosen = torch.arange(len(usable), device=usable.device)[rows][usable[rows]]
        if not len(chosen):
            return
        attributions, target = given
        valid = self.common.valid[chosen]
        seed = seed_for(self.common.seed, self.task.name, metric.name, "explainer")

        def seeds(purpose: str) -> Tensor:
            return self.common.seeds(f"{metric.name} {purpose}", chosen)

        with self.guard.watch(seed), meter.phase(PHASE, self.task.model):
            subject = Subject(
                task=for_methods(self.task),
                x=self.common.x[chosen].clone(),
                target=target[chosen].clone(),
                valid=valid.clone(),
                attribution=attributions[chosen].double().masked_fill(~valid, 0.0),
                seeds=seeds,
                explain=checked(explain, self.task),
                explain_model=None if method is None else partial(self._explain_model, method, seed),
            )
            made = metric.score(subject)
        if not isinstance(made, Tensor) or made.shape != (len(chosen),) or not made.is_floating_point():
            got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise BenchmarkError(
                f"the metric {metric.name}: expected a score for each of {len(chosen)} samples, got {got}"
            )
        scores[chosen] = made.detach().double().to(scores.device)

    def _explain_model(self, method: Method, seed: int, model: nn.Module) -> Attribute:
        """Return the explainer of a method prepared on another model of the same inputs."""
        return checked(method.prepare(replace(for_methods(self.task), model=model), seed), self.task)


def checked(explain: Attribute, task: Task) -> Attribute:
    """Return an explainer that is given copies, whose attributions (B, G) are checked, float64, and 0 at padding."""

    def call(x: Tensor, target: Tensor) -> Tensor:
        made = check_attribution(explain(x.clone(), target.clone()), (len(x), task.n_features))
        return made.double().to(x.device).masked_fill(~task.removal.valid(x), 0.0)

    return call
