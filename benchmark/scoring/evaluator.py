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
from benchmark.core.statistics import LinearPearson, is_constant
from benchmark.core.types import VALUE_TABLE_LIMIT, Attribute, Baseline, Method, Precision, Task
from benchmark.scoring import removal_sets
from benchmark.scoring.isolation import Guard, for_methods
from benchmark.scoring.masked_model import MaskedModel, Predictions
from benchmark.scoring.metering import Cost, Meter
from benchmark.scoring.metrics import (
    METRICS,
    MODEL_NON_FINITE,
    NON_FINITE,
    OK,
    Metric,
    Probe,
    Response,
    correlation,
    flagged,
)
from benchmark.scoring.model_checks import check_model, check_task
from benchmark.scoring.removal_sets import MaskSets, OrderedSets, Ordering, PackedSets, RandomSets
from benchmark.scoring.shared_predictions import SharedPredictions

RANDOM = ("fixed", "bernoulli")
"""Kinds of probe whose sets no method changes."""
COVARIANCE_LIMIT = 32
"""Up to this many features correlations over such sets are taken from covariances of features."""
ORDERING_BYTES = 2**26
"""Bytes that the orderings of methods scored together may take."""
RANDOM_BYTES = 2**29
"""Drawn subsets are kept up to this size; beyond it they are drawn again, which gives the same ones."""


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
    """What was evaluated, where it was a method; it may know an `interval` (see `Method.prepare`)."""

    @property
    def failed(self) -> Tensor:
        """Return (N,) bool: samples whose attribution is not finite."""
        return torch.stack(list(self.reasons.values())).eq(NON_FINITE).any(0)

    @property
    def unanswered(self) -> Tensor:
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
        self.indices = torch.as_tensor(np.asarray(self.samples), device=self.device)
        self.x = task.test.x[self.indices]
        self.valid = task.removal.valid(self.x)
        self._constant: dict[tuple[str, int, int], Tensor] = {}
        self._covariances: dict[tuple[str, int, int], LinearPearson] = {}
        self._random_sets: dict[tuple[str, int, int], MaskSets | PackedSets] = {}
        self.masked_model = MaskedModel(task, byte_budget, precision)
        self.meter = Meter()
        if not bool(self.valid.any(1).all()):
            raise DataError(f"{task.name} has a test sample without any feature: drop empty inputs")
        self.unpadded = not task.removal.pads  # of the task, not of these samples: a sample's score knows no company
        small = task.n_features <= VALUE_TABLE_LIMIT and self.unpadded
        self.uses_table = value_table and small
        self.uses_covariances = self.unpadded and task.n_features <= COVARIANCE_LIMIT
        self.batch = max(1, min(len(self.samples), self.masked_model.byte_budget // (task.n_features * 256)))
        self.guard = Guard(task)
        check_model(task, self.x, precision)
        self.guard.ignore_own_changes()
        self.shared = shared or self._share()
        self.answered = self.shared.finite()

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
            report = dict(getattr(explain, "report", {}))
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
        answered = self.answered[rows]
        features = self.task.n_features
        if bool(answered.all()):  # copies: what a method does to them is its own affair
            x, target = self.x[rows].clone(), self.shared.target[rows].clone()
            return check_attribution(explain(x, target), (len(x), features))
        x, target = self.x[rows][answered], self.shared.target[rows][answered]
        found = torch.zeros(len(answered), features, dtype=torch.float64, device=self.device)
        if len(x):
            found[answered] = check_attribution(explain(x, target), (len(x), features)).to(found)
        return found

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
        return (positive * self.task.evidence[self.indices]).sum(1) / positive.sum(1)

    def _batches(self) -> list[slice]:
        return [slice(i, i + self.batch) for i in range(0, len(self.samples), self.batch)]

    def _seeds(self, purpose: str, rows: slice) -> Tensor:
        base = torch.tensor(seed_for(self.seed, self.task.name, purpose), device=self.device)
        return removal_sets.random_bits(base, self.indices[rows])

    # What no method changes

    def _share(self) -> SharedPredictions:
        with self.meter.phase("shared", self.task.model):
            parts = [self._share_batch(rows) for rows in self._batches()]
        if len(parts) == 1:  # not copied, but for what methods may differentiate with
            return replace(parts[0], target=parts[0].target.clone(), clean=parts[0].clean.clone())
        constant_attribution = [part.tensors() for part in parts]
        return SharedPredictions.from_tensors(
            {key: torch.cat([part[key] for part in constant_attribution]) for key in constant_attribution[0]}
        )

    def _share_batch(self, rows: slice) -> SharedPredictions:
        x = self.x[rows]
        samples = self.indices[rows]
        random = sorted(self.kinds & set(RANDOM))
        if self.uses_table:
            target, table = self.masked_model.value_table(x)
            found = dict.fromkeys(random, table)  # all subsets there are, or those of one size
            if "fixed" in random:
                found["fixed"] = table.gather(self._all_sets("fixed", rows).codes())
            return SharedPredictions(samples, target, table.prob[:, 0], table[:, -1:], **found, table=table)
        asked: dict[str, Predictions] = {}
        if self.kinds & {"morf", "lerf", "insert"}:
            target, clean, asked["empty"] = self.masked_model.clean_and_empty(x)
        else:
            target, clean = self.masked_model.clean(x)
        asked |= {kind: self.masked_model.query(x, target, self.subsets(kind, rows)) for kind in random}
        if "groups" in self.kinds and self.task.budget.steps >= self.task.n_features and self.unpadded:
            single_groups = torch.eye(self.task.n_features, dtype=torch.bool, device=x.device)
            asked["singles"] = self.masked_model.query(x, target, MaskSets(single_groups.unsqueeze(1), len(x)))
        return SharedPredictions(samples, target, clean, **asked)

    def subsets(self, purpose: str, rows: slice) -> MaskSets | PackedSets:
        """Return the removal sets of FC (`fixed`) or INF (`bernoulli`): enumerated where there is a value table."""
        if self.uses_table:
            return self._all_sets(purpose, rows)
        key = purpose, rows.start, rows.stop
        if key not in self._random_sets:
            if sum(random.nbytes for random in self._random_sets.values()) > RANDOM_BYTES:
                self._random_sets.clear()
            valid, budget = self.valid[rows], self.task.budget
            size = removal_sets.subset_sizes(valid, budget) if purpose == "fixed" else None
            self._random_sets[key] = RandomSets(
                self._seeds(purpose, rows), valid, budget.subsets, size, self.unpadded
            ).draw()
        return self._random_sets[key]

    def _all_sets(self, purpose: str, rows: slice) -> MaskSets:
        """Return all removal sets there are for `purpose`."""
        valid, masks = self.valid[rows], removal_sets.all_subsets(self.task.n_features, self.device)
        if purpose == "fixed":
            masks = masks[masks.sum(1) == removal_sets.subset_sizes(valid[:1], self.task.budget)]
        return MaskSets(masks.unsqueeze(1), len(valid))

    # What each method changes

    def _score_batch(self, attributions: Tensor, rows: slice) -> dict[str, tuple[Tensor, Tensor]]:
        """Return each metric's scores and reasons (M, B) for the attributions (M, B, G) of M methods."""
        valid = self.valid[rows]
        finite = (attributions.isfinite() | ~valid).all(-1)
        scores = attributions.double().masked_fill(~finite.unsqueeze(-1) | ~valid, 0.0)
        responses = self.respond(scores, rows)
        answered = self.answered[rows].expand(len(scores), -1)
        for response in responses.values():
            answered = answered & response.prob.sum(-1).isfinite()
        columns = {}
        for name in self.metrics:
            values, reasons = self._score(METRICS[name], responses[METRICS[name].probe], scores, rows)
            values = values.masked_fill(~(finite & answered), float("nan"))
            reasons = reasons.masked_fill(~finite, NON_FINITE).masked_fill(~answered, MODEL_NON_FINITE)
            columns[name] = values, reasons
        return columns

    def _score(self, metric: Metric, response: Response, scores: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Score one metric; with few features, correlations over drawn sets by covariances, which are kept."""
        if not (self.uses_covariances and metric.probe.kind in RANDOM and metric.aggregate is correlation):
            return metric.score(response)
        key = metric.name, rows.start, rows.stop
        if key not in self._covariances:
            subsets = self.subsets(metric.probe.kind, rows)
            batch, sets = subsets.shape
            masks = subsets.masks if isinstance(subsets, MaskSets) else subsets.block(slice(0, batch), slice(0, sets))
            self._covariances[key] = LinearPearson(masks, metric.effect(response))
        r = self._covariances[key](scores)
        return flagged(r, r.isnan(), response)

    def respond(self, scores: Tensor, rows: slice) -> dict[Probe, Response]:
        """Return the model's response to every probe of this evaluator's metrics, for finite scores (M, B, G)."""
        shared, correlates = self.shared[rows], self.kinds & {"fixed", "bernoulli", "groups"}
        nothing = scores.new_zeros(*scores.shape[:2], 0)  # what the curves have no use for
        constant_attribution = (
            is_constant(scores, None if self.unpadded else self.valid[rows]) if correlates else nothing
        )
        responses: dict[Probe, Response] = {}
        for kind in self.kinds & set(RANDOM):
            subsets = self.subsets(kind, rows)
            found: Predictions = getattr(shared, kind)
            mass = nothing if self.uses_covariances else removal_sets.subset_mass(subsets, scores)  # see _score
            constant_response = self._constant_response(kind, rows, found.prob)
            responses[Probe(kind)] = Response(
                found.prob, found.same_class, mass, None, shared.clean, constant_attribution, constant_response
            )
        if self.kinds - {"fixed", "bernoulli"}:
            methods, batch, features = scores.shape
            steps = min(self.task.budget.steps, features)
            shuffled = removal_sets.shuffle(self._seeds("ties", rows), features).repeat(methods, 1)
            stacked, valid = scores.flatten(0, 1), self.valid[rows].repeat(methods, 1)
            ordering = removal_sets.order_features(stacked, valid, shuffled, steps, self.unpadded)
            exists = removal_sets.groups(ordering).exists
            exists = None if exists is None else exists.view(methods, batch, -1)
            for kind, found in self._ordered(ordering, rows, shared).items():
                single_groups = kind == "groups"
                mass = removal_sets.group_mass(ordering, stacked).view(methods, batch, -1) if single_groups else nothing
                constant_response = is_constant(found.prob, exists, floor=1.0) if single_groups else nothing
                responses[Probe(kind)] = Response(
                    found.prob, found.same_class, mass, exists, shared.clean, constant_attribution, constant_response
                )
        return responses

    def _constant_response(self, kind: str, rows: slice, prob: Tensor) -> Tensor:
        """Tell where the model's answers to drawn subsets are constant, (B,); no method changes them."""
        key = kind, rows.start, rows.stop
        if key not in self._constant:
            self._constant[key] = is_constant(prob, None, floor=1.0)
        return self._constant[key]

    def _ordered(self, ordering: Ordering, rows: slice, shared: SharedPredictions) -> dict[str, Predictions]:
        """Return the answers to each ordered kind of probe, (M, B, K), for an ordering of M * B rows.

        What two kinds have in common is asked once.
        """
        reads_lerf = "lerf" in self.kinds or ("insert" in self.kinds and self.task.removal.shares_baseline)
        single_groups = "groups" in self.kinds
        parts: dict[str, OrderedSets] = {"groups": removal_sets.groups(ordering)} if single_groups else {}
        first = 2 if single_groups else 1  # a curve of which the single groups answer the first step
        if "morf" in self.kinds:
            parts["morf"] = removal_sets.morf(ordering, first)
        if reads_lerf:
            parts["lerf"] = removal_sets.lerf(ordering, first)
        found = self._query_ordered(parts, ordering, rows, shared)
        last = (ordering.steps - 1).view(-1, len(shared.clean), 1)
        nothing = Predictions(last[..., :0].double(), last[..., :0].bool())
        if "morf" in found:
            head = found["groups"][..., :1] if single_groups else nothing
            found["morf"] = _curve(head, found["morf"], shared.empty, ordering)
        if reads_lerf:
            head = found["groups"].gather(last) if single_groups else nothing
            found["lerf"] = _curve(head, found["lerf"], shared.empty, ordering)
        if "insert" in self.kinds:
            whole = Predictions(shared.clean.unsqueeze(1), torch.ones_like(shared.clean, dtype=torch.bool).unsqueeze(1))
            if self.task.removal.shares_baseline:
                back = (last - 1 - torch.arange(ordering.bounds.shape[1] - 2, device=last.device)).clamp(min=0)
                inserted = found["lerf"].gather(back)
            else:
                inserted = self._query(removal_sets.insertions(ordering), rows, shared, "insertion")
            found["insert"] = _curve(nothing, inserted, whole, ordering)
        return {kind: answers for kind, answers in found.items() if kind in self.kinds}

    def _query_ordered(
        self, parts: dict[str, OrderedSets], ordering: Ordering, rows: slice, shared: SharedPredictions
    ) -> dict[str, Predictions]:
        """Answer runs of one ordering from the value table, from the single removals, or by asking the model."""
        found, batch = {}, len(shared.clean)
        if shared.table is None and shared.singles is not None and "groups" in parts:
            found["groups"] = shared.singles.gather(ordering.order.view(-1, batch, ordering.order.shape[1]))
        rest = {kind: runs for kind, runs in parts.items() if kind not in found}
        if rest:
            runs = removal_sets.join(list(rest.values()))
            if shared.table is not None:
                answers = shared.table.gather(runs.codes().view(-1, batch, runs.shape[1]))
            else:
                answers = self._query(runs, rows, shared)
            start = 0
            for kind, part in rest.items():
                found[kind] = answers[..., start : start + part.shape[1]]
                start += part.shape[1]
        return found

    def _query(
        self, runs: OrderedSets, rows: slice, shared: SharedPredictions, kind: Baseline = "removal"
    ) -> Predictions:
        """Ask about runs of M * B rows: (M, B, S)."""
        x, target, methods = self.x[rows], shared.target, runs.shape[0] // len(shared.clean)
        x, target = x.repeat(methods, *[1] * (x.dim() - 1)), target.repeat(methods)
        return self.masked_model.query(x, target, runs, kind).view(methods, len(shared.clean), runs.shape[1])


def _curve(head: Predictions, body: Predictions, end: Predictions | None, ordering: Ordering) -> Predictions:
    """Join the first steps, the middle and k = K into (M, B, K); `end` (B, 1) goes to each sample's own K."""
    assert end is not None, "a curve ends in an answer that is shared"
    steps = ordering.bounds.shape[1] - 1
    at = (ordering.steps - 1).view(*body.prob.shape[:2], 1)

    def lay(first: Tensor, middle: Tensor, last: Tensor) -> Tensor:
        last = last.expand(*middle.shape[:2], 1)
        return torch.cat([first, middle, last], -1)[..., :steps].scatter(-1, at, last)

    return Predictions(lay(head.prob, body.prob, end.prob), lay(head.same_class, body.same_class, end.same_class))


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


assert OK == 0, "reasons are joined by their maximum, so 0 must mean none"
