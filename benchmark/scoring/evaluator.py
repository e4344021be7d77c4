"""Scores attributions: what no method changes is asked once, the rest once per method, then folded into metrics.

Rows of the model asked for N samples of G features, K steps, R subsets and M methods:

- G <= 12: N * 2^G, whatever the number of methods, metrics and subsets (the value table).
- otherwise, with one feature a step: N * (2 + 2R + G) shared and N * 2(G - 2) a method;
- with groups: N * (2 + 2R) shared and N * (K + 2(K - 2)) a method, plus N * (K - 1) for a second baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.core.errors import BenchmarkError, DataError, UsageError
from benchmark.core.seeding import seed_for
from benchmark.core.types import Attribute, Method, Precision, Task, TrainedExplainer
from benchmark.models.metering import Cost, Meter
from benchmark.scoring.isolation import Guard, for_methods
from benchmark.scoring.masked_model import MaskedModel
from benchmark.scoring.metrics import METRICS, MODEL_NON_FINITE, NON_FINITE, Metric, Probe, Response, Scores
from benchmark.scoring.model_checks import check_model, check_task
from benchmark.scoring.ordered_queries import OrderedQueries
from benchmark.scoring.removal_sets import MaskSets, PackedSets
from benchmark.scoring.shared_predictions import SharedPredictions
from benchmark.scoring.shared_queries import RANDOM, SharedQueries
from benchmark.statistics.correlation import is_constant

ORDERING_BYTES = 2**26
"""Bytes that the orderings of methods scored together may take."""


class BadAttributionError(BenchmarkError):
    """A method returned something that is no attribution."""


@dataclass
class Evaluation:
    """Scores (N,) and reason codes (N,) of each metric, in the order of `samples`; costs by phase."""

    samples: list[int]
    target: list[int]
    scores: dict[str, Tensor]
    reasons: dict[str, Tensor]
    meter: Meter = field(default_factory=Meter)
    attributions: Tensor | None = None
    evidence: Tensor | None = None
    """The share (N,) of each sample's positive attribution that lies on planted evidence, where there is any."""
    report: dict[str, Any] = field(default_factory=dict)
    """What a trained explainer says of its training."""
    explain: Attribute | None = None
    """What was evaluated, where it was a method; it may be an `UncertainExplainer`."""

    @property
    def failed(self) -> Tensor:
        """Return (N,) bool: samples whose attribution is not finite."""
        return torch.stack(list(self.reasons.values())).eq(NON_FINITE).any(0)

    @property
    def model_not_finite(self) -> Tensor:
        """Return (N,) bool: samples about which the model gave an answer that is not finite."""
        return torch.stack(list(self.reasons.values())).eq(MODEL_NON_FINITE).any(0)


class Evaluator:
    """Evaluates any number of methods on one task, under one seed, on the same samples and the same subsets.

    Only what `metrics` need is asked. `value_table=False` asks each removal as it comes even where G <= 12; `shared`
    takes answers made before; `byte_budget` bounds a forward (see `MaskedModel`).

    Raises:
        DataError: a sample without features, or a model that is not what it must be (see
            `benchmark.scoring.model_checks`).
        UsageError: unknown metrics or samples, or none.
    """

    def __init__(
        self, task: Task, seed: int = 0, samples: Sequence[int] | None = None, *,
        metrics: Sequence[str] = tuple(METRICS), value_table: bool = True, byte_budget: int | None = None,
        precision: Precision = "fp32", shared: SharedPredictions | None = None,
    ) -> None:  # fmt: skip
        check_task(task)
        self.task, self.seed, self.metrics = task, seed, tuple(metrics)
        if not metrics or not set(metrics) <= set(METRICS):
            raise UsageError(f"expected some of the metrics {', '.join(METRICS)}, got {list(metrics)}")
        self.kinds = {METRICS[name].probe.kind for name in metrics}
        self.samples = list(range(len(task.test.x)) if samples is None else samples)
        if not self.samples or not all(0 <= sample < len(task.test.x) for sample in self.samples):
            raise UsageError(f"expected some of the {len(task.test.x)} test samples of {task.name}, got {samples}")
        self.device = task.test.x.device
        indices = torch.as_tensor(np.asarray(self.samples), device=self.device)
        self.masked_model = MaskedModel(task, byte_budget, precision)
        self.queries = SharedQueries(task, seed, indices, self.masked_model, self.kinds, value_table=value_table)
        self.ordered = OrderedQueries(self.queries)
        self.x, self.valid = self.queries.x, self.queries.valid
        if not bool(self.valid.any(1).all()):
            raise DataError(f"{task.name} has a test sample without any feature: drop empty inputs")
        self.batch = max(1, min(len(self.samples), self.masked_model.byte_budget // (task.n_features * 256)))
        self.meter = Meter()
        self.guard = Guard(task)
        check_model(task, self.x, precision)
        self.guard.ignore_own_changes()
        self.shared = shared or self._share()
        self.model_is_finite = self.shared.finite()

    def evaluate(self, method: Method, name: str) -> Evaluation:
        """Prepare `method`, explain the samples and score the explanations.

        A method with `repeats` is run under that many seeds and its scores are averaged sample by sample. An explainer
        that was trained has a `report`: plain data for the record, in which `costs` are those of its training. Samples
        about which the model's answers are not finite are not explained.

        Raises:
            BadAttributionError: the method returned another shape than (B, G), or no real numbers.
            ChangedTaskError: it left the task in another state than it found it in.
        """
        meter, maps = Meter(), []
        report: dict[str, Any] = {}
        for repeat in range(method.repeats):
            seed = seed_for(self.seed, self.task.name, name, repeat)
            with self.guard.watch(seed), meter.phase("prepare", self.task.model):
                explain = method.prepare(for_methods(self.task), seed)
            report = dict(explain.report) if isinstance(explain, TrainedExplainer) else {}
            if costs := report.pop("costs", None):  # an explainer that was kept costs what its training did
                meter.phases["prepare"] = Cost.total(Cost(**cost) for cost in costs.values())
            with self.guard.watch(seed), meter.phase("attribute", self.task.model):
                maps.append(torch.cat([self._explained(explain, rows) for rows in self._batches()]).to(self.device))
        runs = self.score_all(maps)
        first = runs[0]
        meter.phases["probe"] = Cost.total(run.meter.phases["probe"] for run in runs)
        first.meter, first.report, first.explain = meter, report, explain
        for metric in self.metrics if len(runs) > 1 else ():
            first.scores[metric] = torch.stack([run.scores[metric] for run in runs]).mean(0)
            first.reasons[metric] = torch.stack([run.reasons[metric] for run in runs]).amax(0)
        if first.evidence is not None:
            first.evidence = torch.stack([run.evidence for run in runs if run.evidence is not None]).mean(0)
        return first

    def _explained(self, explain: Attribute, rows: slice) -> Tensor:
        """Return the attributions (B, G) of a batch; 0 for samples that the model gave no finite answer about."""
        model_is_finite = self.model_is_finite[rows]
        features = self.task.n_features
        if bool(model_is_finite.all()):  # copies: what a method does to them is its own affair
            x, target = self.x[rows].clone(), self.shared.target[rows].clone()
            return check_attribution(explain(x, target), (len(x), features))
        x, target = self.x[rows][model_is_finite], self.shared.target[rows][model_is_finite]
        found = torch.zeros(len(model_is_finite), features, dtype=torch.float64, device=self.device)
        if len(x):
            found[model_is_finite] = check_attribution(explain(x, target), (len(x), features)).to(found)
        return found

    def subsets(self, kind: str, rows: slice) -> MaskSets | PackedSets:
        """Return the removal sets of FC (`fixed`) or INF (`bernoulli`) for some samples."""
        return self.queries.subsets(kind, rows)

    def score(self, attributions: Tensor) -> Evaluation:
        """Score attributions (N, G) of this evaluator's samples, wherever they come from; see `score_all`."""
        return self.score_all([attributions])[0]

    def score_all(self, attributions: Sequence[Tensor]) -> list[Evaluation]:
        """Score several methods' attributions, each (N, G): what `score` says of each, in less time altogether.

        A method's cost is an equal share of the common one: each asks the model about as many rows.

        Raises:
            BadAttributionError: one of them has another shape, or no real numbers.
        """
        shape = len(self.samples), self.task.n_features
        attributions = [check_attribution(attribution, shape) for attribution in attributions]
        at_once = max(1, ORDERING_BYTES // (64 * self.batch * self.task.n_features))
        chunks = [attributions[i : i + at_once] for i in range(0, len(attributions), at_once)]
        return [evaluation for chunk in chunks for evaluation in self._score_together(chunk)]

    def _score_together(self, attributions: Sequence[Tensor]) -> list[Evaluation]:
        meter = Meter()
        columns: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in self.metrics}
        with meter.phase("probe", self.task.model) as cost:
            for rows in self._batches():
                stacked = torch.stack([attribution[rows] for attribution in attributions])
                for name, column in self._score_batch(stacked, rows).items():
                    columns[name].append(column)
        methods = len(attributions)
        share = Cost(cost.forwards // methods, cost.backwards // methods, cost.seconds / methods)
        scores = {name: torch.cat([scores for scores, _ in parts], 1).cpu() for name, parts in columns.items()}
        reasons = {name: torch.cat([codes for _, codes in parts], 1).cpu() for name, parts in columns.items()}
        target = self.shared.target.tolist()
        return [
            Evaluation(
                samples=self.samples,
                target=target,
                scores={name: column[i] for name, column in scores.items()},
                reasons={name: column[i] for name, column in reasons.items()},
                meter=Meter({"probe": replace(share)}),
                attributions=attribution,
                evidence=self._on_evidence(attribution),
            )
            for i, attribution in enumerate(attributions)
        ]

    def _on_evidence(self, attributions: Tensor) -> Tensor | None:
        if self.task.evidence is None:
            return None
        positive = attributions.double().clamp(min=0).masked_fill(~self.valid, 0.0)
        return (positive * self.task.evidence[self.queries.indices]).sum(1) / positive.sum(1)

    def _batches(self) -> list[slice]:
        return [slice(i, i + self.batch) for i in range(0, len(self.samples), self.batch)]

    def _share(self) -> SharedPredictions:
        with self.meter.phase("shared", self.task.model):
            parts = [self.queries.query(rows) for rows in self._batches()]
        if len(parts) == 1:  # not copied, but for what methods may differentiate with
            return replace(parts[0], target=parts[0].target.clone(), clean=parts[0].clean.clone())
        named = [part.tensors() for part in parts]
        return SharedPredictions.from_tensors({key: torch.cat([part[key] for part in named]) for key in named[0]})

    def _score_batch(self, attributions: Tensor, rows: slice) -> dict[str, Scores]:
        """Return each metric's scores and reasons (M, B) for the attributions (M, B, G) of M methods."""
        valid = self.valid[rows]
        finite = (attributions.isfinite() | ~valid).all(-1)
        scores = attributions.double().masked_fill(~finite.unsqueeze(-1) | ~valid, 0.0)
        responses = self.respond(scores, rows)
        model_is_finite = self.model_is_finite[rows].expand(len(scores), -1)
        for response in responses.values():
            model_is_finite = model_is_finite & response.prob.sum(-1).isfinite()
        columns = {}
        for name in self.metrics:
            metric = METRICS[name]
            if self._linear(metric):
                values, reasons = self.queries.score_linearly(metric, responses[metric.probe], scores, rows)
            else:
                values, reasons = metric.score(responses[metric.probe])
            values = values.masked_fill(~(finite & model_is_finite), float("nan"))
            reasons = reasons.masked_fill(~finite, NON_FINITE).masked_fill(~model_is_finite, MODEL_NON_FINITE)
            columns[name] = values, reasons
        return columns

    def _linear(self, metric: Metric) -> bool:
        """Tell whether a metric is scored from covariances of features."""
        return metric.linear and metric.probe.kind in RANDOM and self.queries.uses_covariances

    def respond(self, scores: Tensor, rows: slice) -> dict[Probe, Response]:
        """Return the model's response to every probe of this evaluator's metrics, for finite scores (M, B, G)."""
        shared = self.shared[rows]
        constant = scores.new_zeros(*scores.shape[:2], 0)  # what curves have no use for
        if self.kinds & {"groups", *RANDOM}:
            constant = is_constant(scores, None if self.queries.unpadded else self.valid[rows])
        responses = {}
        for kind in self.kinds & set(RANDOM):
            needs_mass = any(
                METRICS[name].probe.kind == kind and not self._linear(METRICS[name]) for name in self.metrics
            )
            responses[Probe(kind)] = self.queries.respond(kind, scores, rows, shared, constant, needs_mass)
        if self.kinds - set(RANDOM):
            responses |= self.ordered.respond(scores, rows, shared, constant)
        return responses


def check_attribution(attribution: object, shape: tuple[int, int]) -> Tensor:
    """Return `attribution` detached, as float32 or float64, if it is one.

    Raises:
        BadAttributionError: not a tensor, another shape than `shape`, or complex or integer numbers.
    """
    if not isinstance(attribution, Tensor):
        raise BadAttributionError(
            f"expected an attribution of shape {shape}, got {type(attribution).__name__}: return a tensor"
        )
    if tuple(attribution.shape) != shape:
        raise BadAttributionError(
            f"expected an attribution of shape {shape} (samples, features), got {tuple(attribution.shape)}"
        )
    if not attribution.is_floating_point():
        raise BadAttributionError(f"expected a floating-point attribution, got {attribution.dtype}")
    own = attribution.detach().clone()  # a method may use its tensor again
    return own if own.dtype == torch.float64 else own.float()
