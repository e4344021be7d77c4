"""Scores attributions: `Evaluator` goes from a method to a score for each sample and metric.

The way of a score, and where each part of it is:

1. What no method changes is asked once (`_share`): whole and empty inputs, random subsets (shared_queries.py, whose
   sets are those of random_sets.py).
2. A method is prepared (`_prepare`) and explains the samples (`_attribute`).
3. Its attributions become removal sets (ordered_sets.py), and these become predictions of the model
   (ordered_queries.py, by `MaskedModel.query`); those of random subsets are looked up: `_respond`.
   What other probes and readings need is asked as it stands (access/responses.py).
4. Metrics fold predictions and attributions into scores (metrics/): `_score_batch`. Those that ask the explainer do so
   one method after the other (access/explainer.py).

Rows of the model asked for N samples of G features, K steps, R subsets and M methods:

- G <= 12: N * 2^G, whatever the number of methods, metrics and subsets (the value table).
- otherwise, with one feature a step: N * (2 + 2R + G) shared and N * 2(G - 2) a method;
- with groups: N * (2 + 2R) shared and N * (K + 2(K - 2)) a method, plus N * (K - 1) for a second baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.core.errors import DataError, UsageError
from benchmark.core.seeding import method_seed, seed_for, seeded
from benchmark.core.types import Attribute, Method, Precision, Task, TrainedExplainer
from benchmark.models.batching import Batching
from benchmark.models.metering import Cost, Meter
from benchmark.scoring.access.explainer import PHASE, Explaining
from benchmark.scoring.access.responses import OtherQueries, is_fast, scored
from benchmark.scoring.evaluation import Evaluation, averaged
from benchmark.scoring.isolation import Guard, check_attribution, for_methods
from benchmark.scoring.masked_model import MaskedModel
from benchmark.scoring.metrics import (
    METRICS,
    MODEL_NON_FINITE,
    NON_FINITE,
    NOT_APPLICABLE,
    PROBABILITY,
    TEN,
    ExplainerMetric,
    ProbeMetric,
    Response,
    Scores,
)
from benchmark.scoring.model_checks import check_model, check_task
from benchmark.scoring.ordered_queries import OrderedQueries
from benchmark.scoring.removal_sets import MaskSets, PackedSets
from benchmark.scoring.shared_predictions import SharedPredictions
from benchmark.scoring.shared_queries import RANDOM, SharedQueries
from benchmark.statistics.correlation import is_constant

ORDERING_BYTES = 2**26
"""Bytes that the orderings of methods scored together may take."""


def samples_at_once(task: Task, byte_budget: int | None = None) -> int:
    """Return how many samples of a task an evaluator explains and asks about at once, at most.

    What it computes of such a batch follows from no other, to the bit.

    Args:
        task: what is explained.
        byte_budget: see `Batching`.
    """
    return max(1, Batching(task, byte_budget).byte_budget // (task.n_features * 256))


class Evaluator:
    """Evaluates any number of methods on one task, under one seed, on the same samples and the same subsets.

    Making one asks the model everything that no method changes.

    Args:
        task: inputs, a frozen model and a removal; the test split is explained.
        seed: what random subsets, the order of ties and the seeds of methods follow from.
        samples: row numbers of the test split; None for all.
        metrics: names in `METRICS`, by default the ten; only what they need is asked.
        value_table: whether all 2^G removal sets may be asked where G <= 12, in place of each as it comes.
        byte_budget: bytes that a forward may take (see `Batching`); None for a default that suits the device.
        precision: of forwards; probabilities and scores are float64 in any case.
        shared: predictions made before, by an evaluator of the same task, seed, samples and metrics.

    Raises:
        DataError: a sample has no feature, or the model is not what it must be (see
            `benchmark.scoring.model_checks`).
        UsageError: unknown metrics or samples, or none.

    Example:
        >>> from benchmark.inspection.crosscheck.cases import CASES  # small tasks, made by formula
        >>> task = CASES[0].task()
        >>> evaluator = Evaluator(task, metrics=["DEL", "FC"])
        >>> evaluation = evaluator.score(CASES[0].attributions(task))
        >>> {name: scores.shape for name, scores in evaluation.scores.items()}
        {'DEL': torch.Size([6]), 'FC': torch.Size([6])}
    """

    def __init__(
        self,
        task: Task,
        seed: int = 0,
        samples: Sequence[int] | None = None,
        *,
        metrics: Sequence[str] = TEN,
        value_table: bool = True,
        byte_budget: int | None = None,
        precision: Precision = "fp32",
        shared: SharedPredictions | None = None,
    ) -> None:
        check_task(task)
        self.task, self.seed, self.metrics = task, seed, tuple(metrics)
        if not metrics or not set(metrics) <= set(METRICS):
            raise UsageError(f"expected some of the metrics {', '.join(METRICS)}, got {list(metrics)}")
        chosen = [METRICS[name] for name in metrics]
        asking = [metric for metric in chosen if isinstance(metric, ProbeMetric)]
        self.unsupported = {metric.name for metric in chosen if metric.unsupported(task) is not None}
        self.asked = {metric.name: (metric.probe, metric.reading_on(task)) for metric in asking}
        fast = [metric for metric in asking if is_fast(*self.asked[metric.name])]
        self.kinds = {metric.probe.kind for metric in fast}
        self.samples = list(range(len(task.test.x)) if samples is None else samples)
        count = len(task.test.x)
        if not self.samples or min(self.samples) < 0 or max(self.samples) >= count:
            raise UsageError(f"expected some of the {count} test samples of {task.name}, got {samples}")
        self.device = task.test.x.device
        indices = torch.as_tensor(np.asarray(self.samples), device=self.device)
        self.masked_model = MaskedModel(task, byte_budget, precision)
        others = [metric for metric in asking if metric not in fast and metric.name not in self.unsupported]
        value_table &= bool(fast) or any(self.asked[metric.name][1] == PROBABILITY for metric in others)
        self.queries = SharedQueries(task, seed, indices, self.masked_model, self.kinds, value_table=value_table)
        self.ordered, self.others = OrderedQueries(self.queries), OtherQueries(self.queries, others)
        self.x, self.valid = self.queries.x, self.queries.valid
        if not bool(self.valid.any(1).all()):
            raise DataError(f"{task.name} has a test sample without any feature: drop empty inputs")
        self.batch = min(len(self.samples), samples_at_once(task, self.masked_model.batching.byte_budget))
        self.meter = Meter()
        self.guard = Guard(task)
        explained = [metric for metric in chosen if isinstance(metric, ExplainerMetric)]
        self.explaining = Explaining(self.queries, self.guard, explained)
        check_model(task, self.x, precision)
        self.guard.ignore_own_changes()
        self.shared = shared or self._share()
        self.model_is_finite = self.shared.finite()

    def evaluate(self, method: Method, name: str) -> Evaluation:
        """Prepare a method, explain the samples and score the explanations.

        A method with `repeats` runs under that many seeds, and its scores are averaged sample by sample. An explainer
        that was trained has a `report`: plain data for the record, in which `costs` are those of its training. Samples
        about which the model's answers are not finite are not explained.

        Args:
            method: with its parameters.
            name: what its seeds follow from, with the evaluator's seed and the task's name.

        Raises:
            BadAttributionError: the method returned another shape than (B, G), or no real numbers.
            ChangedTaskError: it left the task in another state than it found it in.
            UsageError: it explains the class predicted alone, and the task asks for another.
        """
        predicted = self.shared.predicted
        if predicted is not None and method.only_predicted and not torch.equal(predicted, self.shared.target):
            raise UsageError(
                f"{name} explains the class that the model predicts, and other classes are asked for: leave it out, or "
                "give no target"
            )
        meter = Meter()
        attributions: list[Tensor] = []
        explainers: list[Attribute | None] = []
        report: dict[str, Any] = {}
        for repeat in range(method.repeats):
            seed = method_seed(self.seed, self.task.name, name, repeat)
            explain, report = self._prepare(method, seed, meter)
            attributions.append(self._attribute(explain, seed, meter))
            explainers.append(explain)
        repeats = self.score_all(attributions, explainers, method)
        for phase in repeats[0].meter.phases:
            meter.phases[phase] = Cost.total(repeat.meter.phases[phase] for repeat in repeats)
        return replace(averaged(repeats), meter=meter, report=report, explain=explainers[0])

    def _prepare(self, method: Method, seed: int, meter: Meter) -> tuple[Attribute, dict[str, Any]]:
        """Return a method's explainer and its report; `prepare` costs what its training did, now or earlier."""
        with self.guard.watch(seed), meter.phase("prepare", self.task.model):
            explain = method.prepare(for_methods(self.task), seed)
        report: dict[str, Any] = dict(explain.report) if isinstance(explain, TrainedExplainer) else {}
        if costs := report.pop("costs", None):
            meter.phases["prepare"] = Cost.total(Cost(**cost) for cost in costs.values())
        return explain, report

    def _attribute(self, explain: Attribute, seed: int, meter: Meter) -> Tensor:
        """Return the attributions (N, G) of all samples."""
        with self.guard.watch(seed), meter.phase("attribute", self.task.model):
            return torch.cat([self._attribute_batch(explain, rows, seed) for rows in self._batches()]).to(self.device)

    def _attribute_batch(self, explain: Attribute, rows: slice, seed: int) -> Tensor:
        """Return the attributions (B, G) of a batch; 0 for samples that the model gave no finite answer about.

        What a method draws from the global generators follows from the batch alone, so that samples which are explained
        in another process, without those before them, are explained alike.
        """
        with seeded(seed_for(seed, self.samples[rows.start])):
            return self._explained(explain, rows)

    def _explained(self, explain: Attribute, rows: slice) -> Tensor:
        answered = self.model_is_finite[rows]
        features = self.task.n_features
        if bool(answered.all()):  # copies: a method may change them
            x, target = self.x[rows].clone(), self.shared.target[rows].clone()
            return check_attribution(explain(x, target), (len(x), features))
        x, target = self.x[rows][answered], self.shared.target[rows][answered]
        attributions = torch.zeros(len(answered), features, dtype=torch.float64, device=self.device)
        if len(x):
            attributions[answered] = check_attribution(explain(x, target), (len(x), features)).to(attributions)
        return attributions

    def subsets(self, kind: str, rows: slice) -> MaskSets | PackedSets:
        """Return the removal sets of FC (`fixed`) or INF (`bernoulli`) for some samples."""
        return self.queries.subsets(kind, rows)

    def score(self, attributions: Tensor, explain: Attribute | None = None) -> Evaluation:
        """Score attributions of this evaluator's samples, wherever they come from.

        Args:
            attributions: (N, G) real numbers, in the order of `samples`.
            explain: the explainer that gave them, for metrics that ask it; their scores are undefined without.

        Raises:
            BadAttributionError: another shape, or no real numbers.
        """
        return self.score_all([attributions], [explain])[0]

    def score_all(
        self, attributions: Sequence[Tensor], explainers: Sequence[Attribute | None] = (), method: Method | None = None
    ) -> list[Evaluation]:
        """Score the attributions of several methods: what `score` returns for each, in less time altogether.

        A method's cost is an equal share of the common one: each asks the model about as many rows.

        Args:
            attributions: one (N, G) a method.
            explainers: what gave each of them, see `score`; nothing where none is known.
            method: what all of them were prepared from, where one was.

        Raises:
            BadAttributionError: one of them has another shape, or no real numbers.
        """
        shape = len(self.samples), self.task.n_features
        attributions = [check_attribution(attribution, shape) for attribution in attributions]
        at_once = max(1, ORDERING_BYTES // (64 * self.batch * self.task.n_features))
        chunks = [attributions[i : i + at_once] for i in range(0, len(attributions), at_once)]
        evaluations = [evaluation for chunk in chunks for evaluation in self._score_together(chunk)]
        if self.explaining.metrics:
            for evaluation, explain in zip(evaluations, explainers or [None] * len(evaluations), strict=True):
                self._ask_explainer(evaluation, explain, method)
        return evaluations

    def _ask_explainer(self, evaluation: Evaluation, explain: Attribute | None, method: Method | None) -> None:
        """Add the scores of metrics that ask the explainer to an evaluation."""
        assert evaluation.attributions is not None
        evaluation.meter.phases[PHASE] = Cost()
        found = self.explaining.scores(
            evaluation.attributions, self.shared.target, self.model_is_finite, self._batches(), evaluation.meter,
            explain, method,
        )  # fmt: skip
        scores = evaluation.scores | {name: scores for name, (scores, _) in found.items()}
        reasons = evaluation.reasons | {name: codes for name, (_, codes) in found.items()}
        evaluation.scores = {name: scores[name] for name in self.metrics}
        evaluation.reasons = {name: reasons[name] for name in self.metrics}

    def _score_together(self, attributions: Sequence[Tensor]) -> list[Evaluation]:
        """Return the evaluations of methods whose orderings fit the memory together."""
        meter = Meter()
        columns: dict[str, list[Scores]] = {name: [] for name in self.asked}
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
        """Return the share (N,) of the positive attribution that lies on planted evidence, if there is any."""
        if self.task.evidence is None:
            return None
        positive = attributions.double().clamp(min=0).masked_fill(~self.valid, 0.0)
        return (positive * self.task.evidence[self.queries.indices]).sum(1) / positive.sum(1)

    def _batches(self) -> list[slice]:
        return [slice(i, i + self.batch) for i in range(0, len(self.samples), self.batch)]

    def _share(self) -> SharedPredictions:
        """Ask the model everything that no method changes."""
        with self.meter.phase("shared", self.task.model):
            parts = [self.queries.query(rows) for rows in self._batches()]
            if self.others.asked:
                others = (self.others.share(*item) for item in zip(self._batches(), parts, strict=True))
                parts = [replace(part, others=answers) for part, answers in zip(parts, others, strict=True)]
        if len(parts) == 1:  # copied is only what methods may differentiate with
            return replace(parts[0], target=parts[0].target.clone(), clean=parts[0].clean.clone())
        return SharedPredictions.concatenated(parts)

    def _score_batch(self, attributions: Tensor, rows: slice) -> dict[str, Scores]:
        """Return each metric's scores and reasons (M, B) for the attributions (M, B, G) of M methods."""
        valid = self.valid[rows]
        finite = (attributions.isfinite() | ~valid).all(-1)
        scores = attributions.double().masked_fill(~finite.unsqueeze(-1) | ~valid, 0.0)
        constant = None  # curves do not ask whether the attribution is constant
        if self.kinds & {"groups", *RANDOM} or any(probe.mass for probe, _ in self.others.asked):
            constant = is_constant(scores, None if self.queries.unpadded else self.valid[rows])
        responses = self._respond(scores, rows, constant)
        known = self.model_is_finite[rows].expand(len(scores), -1)
        model_is_finite = known
        for response in responses.values():
            model_is_finite = model_is_finite & response.prob.sum(-1).isfinite()
        others = self.others.respond(scores, rows, self.shared[rows], constant) if self.others.asked else {}
        columns = {}
        for name, asked in self.asked.items():
            metric, answered = METRICS[name], model_is_finite
            if name in self.unsupported:
                values = torch.full_like(scores[..., 0], torch.nan)
                reasons = torch.full_like(values, NOT_APPLICABLE, dtype=torch.int8)
            elif not is_fast(*asked):
                answered = known & others[asked].prob.sum(-1).isfinite()
                values, reasons = scored(metric, others[asked], scores.shape[:2])
            elif self._is_linear(metric):
                values, reasons = self.queries.score_linearly(metric, responses[metric.probe.kind], scores, rows)
            else:
                values, reasons = scored(metric, responses[metric.probe.kind], scores.shape[:2])
            values = values.masked_fill(~(finite & answered), float("nan"))
            reasons = reasons.masked_fill(~finite, NON_FINITE).masked_fill(~answered, MODEL_NON_FINITE)
            columns[name] = values, reasons
        return columns

    def _respond(self, scores: Tensor, rows: slice, constant: Tensor | None) -> dict[str, Response]:
        """Return the model's response to every kind of probe of the ten, for finite attributions (M, B, G)."""
        shared = self.shared[rows]
        metrics = [METRICS[name] for name in self.asked]
        with_mass = {metric.probe.kind for metric in metrics if not self._is_linear(metric)}
        responses = {
            kind: self.queries.respond(kind, scores, rows, shared, constant, kind in with_mass)
            for kind in self.kinds & set(RANDOM)
        }
        if self.kinds - set(RANDOM):
            responses |= self.ordered.respond(scores, rows, shared, constant)
        return responses

    def _is_linear(self, metric: ProbeMetric) -> bool:
        """Tell whether a metric is scored from covariances of features."""
        return metric.linear and metric.probe.kind in RANDOM and self.queries.uses_covariances
