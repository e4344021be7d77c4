"""Queries that each method changes: the removal sets that follow from the order of its attribution."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.core.types import Baseline
from benchmark.scoring import ordered_sets
from benchmark.scoring.masked_model import Predictions
from benchmark.scoring.metrics import Probe, Response
from benchmark.scoring.ordered_sets import OrderedSets, Ordering
from benchmark.scoring.shared_predictions import SharedPredictions
from benchmark.scoring.shared_queries import RANDOM, SharedQueries
from benchmark.statistics.correlation import is_constant


class OrderedQueries:
    """Asks about the removal sets of orderings, and what is shared already is read from there."""

    def __init__(self, common: SharedQueries) -> None:
        self.common, self.task, self.kinds = common, common.task, common.kinds - set(RANDOM)

    def respond(
        self, scores: Tensor, rows: slice, shared: SharedPredictions, constant_attribution: Tensor
    ) -> dict[Probe, Response]:
        """Return the model's response to every ordered kind of probe, for attributions `scores` (M, B, G)."""
        methods, batch, features = scores.shape
        steps = min(self.task.budget.steps, features)
        shuffled = ordered_sets.shuffle(self.common.seeds("ties", rows), features).repeat(methods, 1)
        stacked, valid = scores.flatten(0, 1), self.common.valid[rows].repeat(methods, 1)
        ordering = ordered_sets.order_features(stacked, valid, shuffled, steps, self.common.unpadded)
        exists = ordered_sets.groups(ordering).exists
        exists = None if exists is None else exists.view(methods, batch, -1)
        unused = scores.new_zeros(methods, batch, 0)  # what curves have no use for
        responses = {}
        for kind, found in self._predictions(ordering, rows, shared).items():
            mass = constant = unused
            if kind == "groups":
                mass = ordered_sets.group_mass(ordering, stacked).view(methods, batch, -1)
                constant = is_constant(found.prob, exists, floor=1.0)
            responses[Probe(kind)] = Response(
                found.prob, found.same_class, mass, exists, shared.clean, constant_attribution, constant
            )
        return responses

    def _predictions(self, ordering: Ordering, rows: slice, shared: SharedPredictions) -> dict[str, Predictions]:
        """Return the predictions (M, B, K) of each ordered kind of probe, for an ordering of M * B rows.

        With K = 4 groups g1 to g4 the model is asked without these:

            groups: g1 | g2 | g3 | g4
            morf:   g1 | g1 g2 | g1 g2 g3 | all
            lerf:   g4 | g3 g4 | g2 g3 g4 | all
            insert: g2 g3 g4 | g3 g4 | g4 | none

        The first of morf is the first of groups, the first of lerf their last; what removes all, or none, is shared;
        and insert is lerf read backwards where both have one baseline. So there is left to ask: groups, and two each
        of morf and lerf.
        """
        shares_lerf = "insert" in self.kinds and self.task.removal.shares_baseline
        single = "groups" in self.kinds
        parts = {"groups": ordered_sets.groups(ordering)} if single else {}
        first = 2 if single else 1
        if "morf" in self.kinds:
            parts["morf"] = ordered_sets.morf(ordering, first)
        if "lerf" in self.kinds or shares_lerf:
            parts["lerf"] = ordered_sets.lerf(ordering, first)
        found = self._find(parts, ordering, rows, shared)
        last = (ordering.steps - 1).view(-1, len(shared.clean), 1)
        none = Predictions(last[..., :0].double(), last[..., :0].bool())
        if "morf" in found:
            head = found["groups"][..., :1] if single else none
            found["morf"] = _curve(head, found["morf"], shared.empty, ordering)
        if "lerf" in found:
            head = found["groups"].gather(last) if single else none
            found["lerf"] = _curve(head, found["lerf"], shared.empty, ordering)
        if "insert" in self.kinds:
            whole = Predictions(shared.clean.unsqueeze(1), torch.ones_like(shared.clean, dtype=torch.bool).unsqueeze(1))
            if shares_lerf:
                backwards = (last - 1 - torch.arange(ordering.bounds.shape[1] - 2, device=last.device)).clamp(min=0)
                inserted = found["lerf"].gather(backwards)
            else:
                inserted = self._query(ordered_sets.insertions(ordering), rows, shared, "insertion")
            found["insert"] = _curve(none, inserted, whole, ordering)
        return {kind: predictions for kind, predictions in found.items() if kind in self.kinds}

    def _find(
        self, parts: dict[str, OrderedSets], ordering: Ordering, rows: slice, shared: SharedPredictions
    ) -> dict[str, Predictions]:
        """Return predictions from the value table, from those on single features, or by asking the model."""
        found, batch = {}, len(shared.clean)
        if shared.table is None and shared.singles is not None and "groups" in parts:
            found["groups"] = shared.singles.gather(ordering.order.view(-1, batch, ordering.order.shape[1]))
        rest = {kind: sets for kind, sets in parts.items() if kind not in found}
        if rest:
            sets = ordered_sets.join(list(rest.values()))
            if shared.table is not None:
                predictions = shared.table.gather(sets.codes().view(-1, batch, sets.shape[1]))
            else:
                predictions = self._query(sets, rows, shared)
            start = 0
            for kind, part in rest.items():
                found[kind] = predictions[..., start : start + part.shape[1]]
                start += part.shape[1]
        return found

    def _query(
        self, sets: OrderedSets, rows: slice, shared: SharedPredictions, kind: Baseline = "removal"
    ) -> Predictions:
        """Ask about S sets for each of M * B rows: (M, B, S)."""
        x, target, methods = self.common.x[rows], shared.target, sets.shape[0] // len(shared.clean)
        x, target = x.repeat(methods, *[1] * (x.dim() - 1)), target.repeat(methods)
        return self.common.model.query(x, target, sets, kind).view(methods, len(shared.clean), sets.shape[1])


def _curve(head: Predictions, body: Predictions, end: Predictions | None, ordering: Ordering) -> Predictions:
    """Join the first steps, the middle and k = K into (M, B, K); `end` (B, 1) goes to each sample's own K."""
    assert end is not None, "a curve ends in a prediction that is shared"
    steps = ordering.bounds.shape[1] - 1
    at = (ordering.steps - 1).view(*body.prob.shape[:2], 1)

    def joined(first: Tensor, middle: Tensor, last: Tensor) -> Tensor:
        last = last.expand(*middle.shape[:2], 1)
        return torch.cat([first, middle, last], -1)[..., :steps].scatter(-1, at, last)

    return Predictions(joined(head.prob, body.prob, end.prob), joined(head.same_class, body.same_class, end.same_class))
