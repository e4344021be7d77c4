"""Scores attributions: what no method changes is asked once, the rest once per method, then folded into metrics.

Rows of the model asked for N samples of G features, K steps, R subsets and M methods:

- G <= 12: N * 2^G, whatever the number of methods, metrics and subsets (the value table).
- otherwise, with one feature a step: N * (2 + 2R + G) shared and N * 2(G - 2) a method;
- with groups: N * (2 + 2R) shared and N * (K + 2(K - 2)) a method, plus N * (K - 1) for a second baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmark import probes
from benchmark.errors import BenchmarkError, DataError
from benchmark.metering import Meter
from benchmark.metrics import METRICS, NON_FINITE, OK, Probe, Response
from benchmark.probes import Answers, Draws, Listed, Ordering, Prober
from benchmark.seeding import seed_for
from benchmark.shared import Shared
from benchmark.statistics import is_constant
from benchmark.types import VALUE_TABLE_LIMIT, Method, Task


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

    @property
    def failed(self) -> Tensor:
        """Return (N,) bool: samples whose attribution is not finite."""
        return torch.stack(list(self.reasons.values())).eq(NON_FINITE).any(0)


class Evaluator:
    """Evaluates any number of methods on one task, under one seed, on the same samples and the same subsets."""

    def __init__(
        self, task: Task, seed: int = 0, samples: Sequence[int] | None = None, *,
        value_table: bool = True, byte_budget: int | None = None, shared: Shared | None = None,
    ) -> None:  # fmt: skip
        self.task, self.seed = task, seed
        self.samples = list(range(len(task.test.x)) if samples is None else samples)
        self.device = task.test.x.device
        self.x = task.test.x[self.samples]
        self.valid = task.removal.valid(self.x)
        self.prober = Prober(task, byte_budget)
        self.meter = Meter()
        if not bool(self.valid.any(1).all()):
            raise DataError(f"{task.name} has a test sample without any feature: drop empty inputs")
        self._check_model()
        small = task.n_features <= VALUE_TABLE_LIMIT and bool(self.valid.all())
        self.uses_table = value_table and small
        self.batch = max(1, min(len(self.samples), self.prober.byte_budget // (task.n_features * 256)))
        self.shared = shared or self._share()

    def _check_model(self) -> None:
        with torch.inference_mode():
            shape = tuple(probes.bare(self.task.model)(self.x[:1]).shape)
        if len(shape) != 2 or shape[1] < 2:
            raise DataError(
                f"the model of {self.task.name} must give logits of shape (batch, classes) with at least two classes, "
                f"got {shape} for one sample"
            )

    def evaluate(self, method: Method, name: str, metrics: Sequence[str] = tuple(METRICS)) -> Evaluation:
        """Prepare `method`, explain the samples and score the explanations with `metrics`.

        A method with `repeats` is run under that many seeds and its scores are averaged sample by sample.

        Raises:
            BadAttributionError: the method returned another shape than (B, G), or no real numbers.
        """
        meter, runs = Meter(), []
        for repeat in range(method.repeats):
            with meter.phase("prepare", self.task.model):
                explain = method.prepare(self.task, seed_for(self.seed, self.task.name, name, repeat))
            parts = []
            with meter.phase("attribute", self.task.model):
                for rows in self._batches():
                    x, target = self.x[rows], self.shared.target[rows]
                    parts.append(check_attribution(explain(x, target), (len(x), self.task.n_features)))
            attributions = torch.cat(parts).to(self.device)
            runs.append(self.score(attributions, metrics, meter))
        first = runs[0]
        for metric in metrics if len(runs) > 1 else ():
            first.scores[metric] = torch.stack([run.scores[metric] for run in runs]).mean(0)
            first.reasons[metric] = torch.stack([run.reasons[metric] for run in runs]).amax(0)
        return first

    def score(
        self, attributions: Tensor, metrics: Sequence[str] = tuple(METRICS), meter: Meter | None = None
    ) -> Evaluation:
        """Score attributions (N, G) of this evaluator's samples, wherever they come from."""
        meter = meter or Meter()
        columns: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in metrics}
        with meter.phase("probe", self.task.model):
            for rows in self._batches():
                for name, column in self._score_batch(attributions[rows], rows, metrics).items():
                    columns[name].append(column)
        return Evaluation(
            samples=self.samples,
            target=self.shared.target.tolist(),
            scores={name: torch.cat([scores for scores, _ in parts]).cpu() for name, parts in columns.items()},
            reasons={name: torch.cat([codes for _, codes in parts]).cpu() for name, parts in columns.items()},
            meter=meter,
            attributions=attributions,
        )

    def _batches(self) -> list[slice]:
        return [slice(i, i + self.batch) for i in range(0, len(self.samples), self.batch)]

    def _seeds(self, purpose: str, rows: slice) -> Tensor:
        seeds = [seed_for(self.seed, self.task.name, purpose, sample) for sample in self.samples[rows]]
        return torch.tensor(seeds, device=self.device)

    # What no method changes

    def _share(self) -> Shared:
        with self.meter.phase("shared", self.task.model):
            parts = [self._share_batch(rows) for rows in self._batches()]
        flat = [part.tensors() for part in parts]
        return Shared.from_tensors({key: torch.cat([part[key] for part in flat]) for key in flat[0]})

    def _share_batch(self, rows: slice) -> Shared:
        x, valid = self.x[rows], self.valid[rows]
        samples = torch.tensor(self.samples[rows], device=self.device)
        if self.uses_table:
            target, table = self.prober.value_table(x)
            look = {purpose: self._look_up(table, self.subsets(purpose, rows)) for purpose in ("fixed", "bernoulli")}
            return Shared(samples, target, table.prob[:, 0], table[:, -1:], **look, table=table)
        target, clean = self.prober.clean(x)
        asked = {purpose: self.prober.ask(x, target, self.subsets(purpose, rows)) for purpose in ("fixed", "bernoulli")}
        everything = self._ask_runs(x, target, valid, 1)
        singles = None
        if self.task.budget.steps >= self.task.n_features and bool(valid.all()):
            singles = self.prober.ask(
                x, target, Listed(torch.eye(self.task.n_features, dtype=torch.bool, device=x.device), len(x))
            )
        return Shared(samples, target, clean, everything, **asked, singles=singles)

    def _ask_runs(self, x: Tensor, target: Tensor, valid: Tensor, steps: int) -> Answers:
        ordering = probes.order_features(valid.double(), valid, torch.zeros_like(target), steps)
        return self.prober.ask(x, target, probes.groups(ordering))

    def _look_up(self, table: Answers, removals: probes.Removals) -> Answers:
        return probes.look_up(table, removals, self.task.n_features)

    def subsets(self, purpose: str, rows: slice) -> Draws | Listed:
        """Return the removal sets of FC (`fixed`) or INF (`bernoulli`): enumerated where there is a value table."""
        valid = self.valid[rows]
        size = probes.subset_sizes(valid, self.task.budget) if purpose == "fixed" else None
        if self.uses_table:
            masks = probes.all_subsets(self.task.n_features, self.device)
            masks = masks if size is None else masks[masks.sum(1) == size[0]]
            return Listed(masks, len(valid))
        return Draws(self._seeds(purpose, rows), valid, self.task.budget.subsets, size)

    # What each method changes

    def _score_batch(
        self, attributions: Tensor, rows: slice, metrics: Sequence[str]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        valid, shared = self.valid[rows], self.shared[rows]
        finite = (attributions.isfinite() | ~valid).all(1)
        scores = attributions.double().masked_fill(~finite.unsqueeze(1) | ~valid, 0.0)
        flat = is_constant(scores, valid)
        wanted = {METRICS[name].probe for name in metrics}
        responses = self._respond(scores, flat, rows, shared, wanted)
        columns = {}
        for name in metrics:
            values, reasons = METRICS[name].score(responses[METRICS[name].probe])
            values = values.masked_fill(~finite, float("nan"))
            columns[name] = values, reasons.masked_fill(~finite, NON_FINITE)
        return columns

    def _respond(
        self, scores: Tensor, flat: Tensor, rows: slice, shared: Shared, wanted: set[Probe]
    ) -> dict[Probe, Response]:
        responses = {}
        for probe in wanted:
            if probe.kind in ("fixed", "bernoulli"):
                answers: Answers = getattr(shared, probe.kind)
                subsets = self.subsets(probe.kind, rows)
                mass = probes.subset_mass(subsets, scores)
                responses[probe] = Response(answers.prob, answers.kept, mass, subsets.counted, shared.clean, flat)
        kinds = {probe.kind for probe in wanted} - {"fixed", "bernoulli"}
        if kinds:
            valid = self.valid[rows]
            steps = min(self.task.budget.steps, self.task.n_features)
            ordering = probes.order_features(scores, valid, self._seeds("ties", rows), steps)
            mass = probes.group_mass(ordering, scores)
            counted = probes.groups(ordering).counted
            curves = self._curves(ordering, self.x[rows], shared, kinds)
            for kind, answers in curves.items():
                responses[Probe(kind)] = Response(answers.prob, answers.kept, mass, counted, shared.clean, flat)
        return responses

    def _curves(self, ordering: Ordering, x: Tensor, shared: Shared, kinds: set[str]) -> dict[str, Answers]:
        """Return the answers to each kind of run, (B, K): what two kinds have in common is asked once."""
        steps = ordering.bounds.shape[1] - 1
        parts = [probes.groups(ordering), probes.inner_morf(ordering), probes.inner_lerf(ordering)]
        if shared.table is not None:
            answers = self._look_up(shared.table, probes.join(parts))
        elif shared.singles is not None:
            order = ordering.order
            alone = Answers(shared.singles.prob.gather(1, order), shared.singles.kept.gather(1, order))
            rest = self.prober.ask(x, shared.target, probes.join(parts[1:]))
            answers = Answers(torch.cat([alone.prob, rest.prob], 1), torch.cat([alone.kept, rest.kept], 1))
        else:
            answers = self.prober.ask(x, shared.target, probes.join(parts))
        inner = max(0, steps - 2)
        alone, middle = answers[:, :steps], answers[:, steps : steps + inner]
        first = (ordering.steps - 1).unsqueeze(1)
        last_alone = Answers(alone.prob.gather(1, first), alone.kept.gather(1, first))
        morf = _curve(alone[:, :1], middle, shared.empty, ordering)
        lerf = _curve(last_alone, answers[:, steps + inner :], shared.empty, ordering)
        curves = {"groups": alone, "morf": morf, "lerf": lerf}
        if "insert" in kinds:
            whole = Answers(shared.clean.unsqueeze(1), torch.ones_like(first, dtype=torch.bool))
            if self.task.removal.shares_baseline:
                k = torch.arange(1, steps + 1, device=x.device)
                back = (ordering.steps.unsqueeze(1) - k - 1).clamp(min=0)
                inserted = Answers(lerf.prob.gather(1, back), lerf.kept.gather(1, back))
            else:
                inserted = self.prober.ask(x, shared.target, probes.insertions(ordering), "insertion")
            curves["insert"] = _curve(inserted[:, :1], inserted[:, 1 : steps - 1], whole, ordering)
        return {kind: answers for kind, answers in curves.items() if kind in kinds}


def _curve(first: Answers, middle: Answers, last: Answers, ordering: Ordering) -> Answers:
    """Join k = 1, k = 2..K-1 and k = K into (B, K); `last` goes to each sample's own K."""
    steps = ordering.bounds.shape[1] - 1
    at = (ordering.steps - 1).unsqueeze(1).clamp(min=0)

    def lay(head: Tensor, body: Tensor, tail: Tensor) -> Tensor:
        head = head if head.shape[1] else tail
        return torch.cat([head, body, tail], 1)[:, :steps].scatter(1, at, tail)

    return Answers(lay(first.prob, middle.prob, last.prob), lay(first.kept, middle.kept, last.kept))


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
    return attribution.detach() if attribution.dtype == torch.float64 else attribution.detach().float()


assert OK == 0, "reasons are joined by their maximum, so 0 must mean none"
