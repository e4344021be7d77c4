"""What no method changes: predictions for whole and empty inputs and for random subsets, asked once for all methods.

`SharedQueries.query` is called by the evaluator before any method runs. Its predictions are `SharedPredictions`, which
running/built.py keeps on disk. `respond` and `score_linearly` then serve FC and INF, whose removal sets are among them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmark.core.errors import DataError
from benchmark.core.seeding import probe_seed, random_bits
from benchmark.core.types import VALUE_TABLE_LIMIT, Task
from benchmark.scoring.masked_model import MaskedModel, Predictions
from benchmark.scoring.metrics import EffectMetric, Response, Samples, Scores, flagged
from benchmark.scoring.metrics.probes import Subsets
from benchmark.scoring.random_sets import subset_sizes
from benchmark.scoring.removal_sets import MaskSets, PackedSets, all_subsets, subset_mass
from benchmark.scoring.shared_predictions import SharedPredictions, target_and_predicted
from benchmark.statistics.correlation import is_constant
from benchmark.statistics.linear_pearson import LinearPearson

RANDOM = ("fixed", "bernoulli")
"""Kinds of probe whose removal sets are random, so that no method changes them."""
COVARIANCE_LIMIT = 32
"""Up to this many features, correlations over random subsets are taken from covariances of features."""
SUBSET_BYTES = 2**29
"""Random subsets are kept up to this size; beyond it they are drawn again, which gives the same ones."""


class SharedQueries:
    """What all methods share on the test rows `indices` (N,) of a task: inputs, subsets, predictions.

    Args:
        task: whose test rows are explained.
        seed: what random subsets and the order of ties follow from, with the task's name and the row numbers.
        indices: row numbers (N,) of the test split.
        model: answers queries.
        kinds: kinds of probe that the metrics need.
        value_table: whether all 2^G removal sets may be asked where G is small enough.
    """

    def __init__(
        self, task: Task, seed: int, indices: Tensor, model: MaskedModel, kinds: set[str], *, value_table: bool
    ) -> None:
        self.task, self.seed, self.indices, self.model, self.kinds = task, seed, indices, model, kinds
        self.x = task.test.x[indices]
        self.targets = targets_of(task, indices)
        self.valid = task.removal.valid(self.x)
        # decided by the task, not by these samples: otherwise a score would depend on the batch of its sample
        self.unpadded = not task.removal.pads
        self.uses_table = value_table and self.unpadded and task.n_features <= VALUE_TABLE_LIMIT
        self.uses_covariances = self.unpadded and task.n_features <= COVARIANCE_LIMIT
        # by kind or metric and rows: they depend on no attribution
        self._subsets: dict[tuple[str, int, int], MaskSets | PackedSets] = {}
        self._constant: dict[tuple[str, int, int], Tensor] = {}
        self._covariances: dict[tuple[str, int, int], LinearPearson] = {}

    def seeds(self, purpose: str, rows: slice | Tensor) -> Tensor:
        """Return the seeds (B,) of some samples for `purpose`: each follows from the number of its row."""
        base = torch.tensor(probe_seed(self.seed, self.task.name, purpose), device=self.x.device)
        return random_bits(base, self.indices[rows])

    def samples(self, rows: slice) -> Samples:
        """Return what a probe may know of some samples."""
        seeds = partial(self.seeds, rows=rows)
        return Samples(self.x[rows], self.valid[rows], self.unpadded, self.task.budget, seeds)

    def query(self, rows: slice) -> SharedPredictions:
        """Ask the model everything about some samples that no method changes."""
        return self._query_table(rows) if self.uses_table else self._query_each(rows)

    def _query_table(self, rows: slice) -> SharedPredictions:
        """Ask about all 2^G removal sets; INF takes them all, FC those of its size."""
        classes, table = self.model.value_table(self.x[rows], self._given(rows))
        random: dict[str, Any] = dict.fromkeys(self.kinds & set(RANDOM), table)
        if "fixed" in random:
            random["fixed"] = table.gather(self._all_sets("fixed", rows).codes())
        target, predicted = target_and_predicted(classes)
        clean, empty = table.prob[:, 0], table[:, -1:]
        return SharedPredictions(self.indices[rows], target, clean, predicted, empty, **random, table=table)

    def _query_each(self, rows: slice) -> SharedPredictions:
        """Ask about whole and empty inputs, random subsets, and single features where each is a group."""
        x = self.x[rows]
        asked: dict[str, Any] = {}
        if self.kinds & {"morf", "lerf", "insert"}:
            classes, clean, asked["empty"] = self.model.clean_and_empty(x, self._given(rows))
        else:
            classes, clean = self.model.clean(x, self._given(rows))
        for kind in sorted(self.kinds & set(RANDOM)):
            asked[kind] = self.model.query(x, classes, self.subsets(kind, rows))
        if "groups" in self.kinds and self.task.budget.steps >= self.task.n_features and self.unpadded:
            single = torch.eye(self.task.n_features, dtype=torch.bool, device=x.device)
            asked["singles"] = self.model.query(x, classes, MaskSets(single.unsqueeze(1), len(x)))
        target, predicted = target_and_predicted(classes)
        return SharedPredictions(self.indices[rows], target, clean, predicted, **asked)

    def _given(self, rows: slice) -> Tensor | None:
        """Return the classes (B,) that are to be explained, where the task says so."""
        return None if self.targets is None else self.targets[rows]

    def subsets(self, kind: str, rows: slice) -> MaskSets | PackedSets:
        """Return the removal sets of FC (`fixed`) or INF (`bernoulli`): all there are where there is a value table."""
        if self.uses_table:
            return self._all_sets(kind, rows)
        key = kind, rows.start, rows.stop
        if key not in self._subsets:
            if sum(sets.nbytes for sets in self._subsets.values()) > SUBSET_BYTES:
                self._subsets.clear()
            self._subsets[key] = Subsets(kind).sets(self.samples(rows))
        return self._subsets[key]

    def _all_sets(self, kind: str, rows: slice) -> MaskSets:
        """Return all removal sets of a kind that there are."""
        valid, masks = self.valid[rows], all_subsets(self.task.n_features, self.x.device)
        if kind == "fixed":
            masks = masks[masks.sum(1) == subset_sizes(valid[:1], self.task.budget)]
        return MaskSets(masks.unsqueeze(1), len(valid))

    def respond(
        self, kind: str, scores: Tensor, rows: slice, shared: SharedPredictions, constant_attribution: Tensor | None,
        needs_mass: bool,
    ) -> Response:  # fmt: skip
        """Return the model's response to a random kind of probe.

        Args:
            kind: `fixed` or `bernoulli`.
            scores: finite attributions (M, B, G) float64 of M methods.
            rows: the samples.
            shared: predictions for these samples.
            constant_attribution: (M, B) bool.
            needs_mass: whether the response has a mass; `score_linearly` does without.
        """
        predictions: Predictions = getattr(shared, kind)
        key = kind, rows.start, rows.stop
        if key not in self._constant:
            self._constant[key] = is_constant(predictions.prob, None, floor=1.0)
        return Response(
            predictions.prob,
            predictions.same_class,
            shared.clean,
            mass=subset_mass(self.subsets(kind, rows), scores) if needs_mass else None,
            constant_attribution=constant_attribution,
            constant_response=self._constant[key],
        )

    def score_linearly(self, metric: EffectMetric, response: Response, scores: Tensor, rows: slice) -> Scores:
        """Score a Pearson correlation with summed attributions from covariances of features, which are kept.

        It equals `metric.score` of a response with a mass (see `LinearPearson`).
        """
        key = metric.name, rows.start, rows.stop
        if key not in self._covariances:
            sets = self.subsets(metric.probe.kind, rows)
            batch, number = sets.shape
            masks = sets.masks if isinstance(sets, MaskSets) else sets.block(slice(0, batch), slice(0, number))
            self._covariances[key] = LinearPearson(masks, metric.effect(response))
        r = self._covariances[key](scores)
        return flagged(r, r.isnan(), response)


def targets_of(task: Task, indices: Tensor) -> Tensor | None:
    """Return the classes (N,) to explain of the test rows `indices`, or None for those that the model predicts.

    Raises:
        DataError: the task's target is no word, class or tensor of a class for each test row.
    """
    target, rows = task.target, len(task.test.x)
    if isinstance(target, str) and target == "predicted":
        return None
    if isinstance(target, str) and target == "label":
        target = task.test.y
    if isinstance(target, int) and not isinstance(target, bool):
        return torch.full_like(indices, target)
    if isinstance(target, Tensor) and target.dtype == torch.int64 and tuple(target.shape) == (rows,):
        return target.to(indices.device)[indices]
    came = f"{tuple(target.shape)} of {target.dtype}" if isinstance(target, Tensor) else repr(target)
    raise DataError(
        f'the target of {task.name} is {came}: expected "predicted", "label", a class, or an int64 class for each of '
        f"its {rows} test rows"
    )
