"""Responses to any probe with any reading: what the fast ways of the ten metrics' probes do not answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmark.core.errors import BenchmarkError, UsageError, shown
from benchmark.scoring.access.answers import Answers, read, read_clean
from benchmark.scoring.metrics import (
    OK,
    PROBABILITY,
    UNDEFINED,
    OrderedProbe,
    Probe,
    ProbeMetric,
    Reading,
    Response,
    Samples,
    Scores,
)
from benchmark.scoring.metrics.probes import Curve, SharedProbe, Subsets
from benchmark.scoring.ordered_queries import ordering_of
from benchmark.scoring.removal_sets import WORKING_SET, MaskSets, RemovalSets
from benchmark.scoring.shared_predictions import SharedPredictions
from benchmark.scoring.shared_queries import SharedQueries
from benchmark.statistics.correlation import is_constant

Asked = tuple[Probe, Reading]


def is_fast(probe: Probe, reading: Reading) -> bool:
    """Tell whether `SharedQueries` and `OrderedQueries` respond to a probe: those of the ten, read as they read it."""
    return type(probe) in (Curve, Subsets) and reading == PROBABILITY


class OtherQueries:
    """Asks about probes beyond those of the ten, and reads more than the target's probability.

    Args:
        common: inputs, seeds and the masked model.
        metrics: those that are not answered by `SharedQueries` and `OrderedQueries`.
    """

    def __init__(self, common: SharedQueries, metrics: Iterable[ProbeMetric]) -> None:
        self.common = common
        self.asked: dict[Asked, str] = {}
        """The first by name of the metrics that ask this: reprs of two packages' probes may be one, names are not."""
        for metric in sorted(metrics, key=lambda metric: metric.name):
            self.asked.setdefault((metric.probe, metric.reading_on(common.task)), metric.name)
        self.readings: dict[Reading, str] = {}
        for (_, reading), name in self.asked.items():
            self.readings.setdefault(reading, name)

    def share(self, rows: slice, shared: SharedPredictions) -> Answers:
        """Return the answers that no method changes, by name: about whole inputs, and about sets of shared probes."""
        x, classes = self.common.x[rows], shared.classes
        answers: Answers = {}
        for reading, metric in self.readings.items():
            if reading != PROBABILITY:
                clean = read_clean(self.common.model, x, classes, reading)
                answers |= {f"clean/{metric}/{name}": part[:, 0] for name, part in clean.items()}
        for (probe, reading), metric in self.asked.items():
            if isinstance(probe, SharedProbe):
                found = self._answers(probe, reading, self._shared_sets(probe, rows), x, shared)
                answers |= {f"sets/{metric}/{name}": part for name, part in found.items()}
        return answers

    def respond(
        self, scores: Tensor, rows: slice, shared: SharedPredictions, constant_attribution: Tensor | None
    ) -> dict[Asked, Response]:
        """Return the response to each probe and reading, for finite attributions `scores` (M, B, G) of M methods."""
        responses: dict[Asked, Response] = {}
        ordering = None
        for (probe, reading), metric in self.asked.items():
            sets: RemovalSets
            if isinstance(probe, SharedProbe):
                sets = self._shared_sets(probe, rows)
                answers = _chosen(shared.others, f"sets/{metric}/")
            else:
                assert isinstance(probe, OrderedProbe)
                ordering = ordering or ordering_of(self.common, scores, rows)
                sets = probe.sets(self._repeated(rows, len(scores)), ordering)
                x = self.common.x[rows]
                x = x.repeat(len(scores), *[1] * (x.dim() - 1))
                self._check(probe, sets, len(x))
                answers = self._answers(probe, reading, sets, x, shared)
            responses[probe, reading] = self._response(
                probe, reading, sets, answers, scores, shared, constant_attribution
            )
        return responses

    def _response(
        self, probe: Probe, reading: Reading, sets: RemovalSets, answers: Answers, scores: Tensor,
        shared: SharedPredictions, constant_attribution: Tensor | None,
    ) -> Response:  # fmt: skip
        methods, batch, _ = scores.shape

        def by_method(part: Tensor) -> Tensor:
            if len(part) == batch and not probe.ordered:
                return part.expand(methods, *part.shape)
            return part.reshape(methods, batch, *part.shape[1:])

        exists = None if sets.exists is None else by_method(sets.exists)
        parts = {name: by_method(part) for name, part in answers.items()}
        mass = constant = None
        if probe.mass:
            flat = scores if not probe.ordered else scores.flatten(0, 1).unsqueeze(0)
            mass = mass_of_sets(sets, flat).reshape(methods, batch, -1)
            constant = is_constant(parts["prob"], exists, floor=1.0)
        clean = _chosen(shared.others, f"clean/{self.readings[reading]}/")
        return Response(
            parts["prob"], parts["same_class"], shared.clean, exists, mass,
            constant_attribution if probe.mass else None, constant, parts.get("logits"), clean.get("logits"),
            _chosen(parts, "layer "), _chosen(clean, "layer "),
        )  # fmt: skip

    def _answers(
        self, probe: Probe, reading: Reading, sets: RemovalSets, x: Tensor, shared: SharedPredictions
    ) -> Answers:
        """Return the answers about the sets of B samples, or of M * B: from the value table, or from the model."""
        common = self.common
        classes = shared.classes
        classes = classes.repeat(len(x) // len(classes), *[1] * (classes.dim() - 1))
        looked_up = probe.baseline == "removal" or common.task.removal.shares_baseline
        if reading == PROBABILITY and shared.table is not None and looked_up:
            codes = codes_of(sets).view(-1, len(shared.target), sets.shape[1])
            found = shared.table.gather(codes)
            parts = {"prob": found.prob.flatten(0, 1), "same_class": found.same_class.flatten(0, 1)}
            return parts if sets.exists is None else {name: part * sets.exists for name, part in parts.items()}
        return read(common.model, x, classes, sets, reading, probe.baseline)

    def _shared_sets(self, probe: SharedProbe, rows: slice) -> RemovalSets:
        if isinstance(probe, Subsets):
            return self.common.subsets(probe.kind, rows)
        sets = probe.sets(self.common.samples(rows))
        self._check(probe, sets, len(self.common.x[rows]))
        return sets

    def _repeated(self, rows: slice, methods: int) -> Samples:
        """Return some samples, each once for each method."""
        one = self.common.samples(rows)
        x = one.x.repeat(methods, *[1] * (one.x.dim() - 1))
        return Samples(
            x, one.valid.repeat(methods, 1), one.unpadded, one.budget, lambda word: one.seeds(word).repeat(methods)
        )

    def _check(self, probe: Probe, sets: RemovalSets, batch: int) -> None:
        """Make sure that a probe gives what it must.

        Raises:
            UsageError: it gives no removal sets, or not those of these samples.
        """
        if not hasattr(sets, "block"):
            raise UsageError(
                f"{shown(probe)}: expected removal sets such as MaskSets.of(masks), got a {type(sets).__name__}"
            )
        if sets.shape[0] != batch or not sets.shape[1]:
            raise UsageError(
                f"{shown(probe)}: expected removal sets of {batch} samples, got the shape {tuple(sets.shape)}"
            )
        features = sets.block(slice(0, 1), slice(0, 1)).shape[-1]
        if features != self.common.task.n_features:
            raise UsageError(
                f"{shown(probe)}: expected masks of {self.common.task.n_features} features, got {features}"
            )


def scored(metric: ProbeMetric, response: Response, shape: Sequence[int]) -> Scores:
    """Return a metric's scores (M, B) and reason codes, those of a tensor alone being 0; NaN always has a reason.

    Raises:
        BenchmarkError: the metric gave something else.
    """
    made: Any = metric.score(response)
    values, reasons = made if isinstance(made, tuple) else (made, None)
    if not isinstance(values, Tensor) or tuple(values.shape) != tuple(shape) or not values.is_floating_point():
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise BenchmarkError(
            f"the metric {metric.name}: expected scores of shape {tuple(shape)} (methods, samples), got {got}: take "
            "them along the last axis of the response"
        )
    values = values.double()
    reasons = torch.zeros_like(values, dtype=torch.int8) if reasons is None else reasons
    return values, reasons.masked_fill(values.isnan() & (reasons == OK), UNDEFINED)


def _chosen(answers: Answers, start: str) -> Answers:
    """Return the answers whose names begin with a word, by the rest of their names."""
    return {name.removeprefix(start): part for name, part in answers.items() if name.startswith(start)}


def codes_of(sets: RemovalSets) -> Tensor:
    """Return the row of the value table (see `all_subsets`) that each set is, (B, S)."""
    if hasattr(sets, "codes"):
        return sets.codes()
    batch, number = sets.shape
    masks = sets.block(slice(0, batch), slice(0, number))
    return MaskSets(masks, batch).codes()


def mass_of_sets(sets: RemovalSets, scores: Tensor) -> Tensor:
    """Return attributions (M, B, G) summed over the sets of B samples: (M, B, S) float64."""
    batch, number = sets.shape
    parts = []
    step = max(1, WORKING_SET // (8 * scores[0].numel()))
    for begin in range(0, number, step):
        masks = sets.block(slice(0, batch), slice(begin, min(number, begin + step))).double()  # (s, b or 1, G)
        rows = masks.expand(-1, batch, -1).permute(1, 2, 0)  # (B, G, s)
        parts.append((scores.transpose(0, 1) @ rows).transpose(0, 1))
    return torch.cat(parts, -1)
