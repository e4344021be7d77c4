"""What each method changes: predictions for the removal sets that follow from the order of its attribution.

`OrderedQueries.respond` is called by the evaluator for a batch of samples and all methods that are scored together.
Only here and in shared_queries.py does an evaluation ask `MaskedModel.query` for predictions.

With K = 4 groups g1 to g4 the four ordered probes need predictions without these:

    k =          1            2           3        4
    groups    g1           g2          g3       g4
    morf      g1           g1 g2       g1 g2 g3 all
    lerf      g4           g3 g4       g2 g3 g4 all
    insert    g2 g3 g4     g3 g4       g4       none

Few of them are asked: morf begins with the first of groups, lerf with the last; what removes all, or none, is shared by
all methods; and insert is lerf read backwards where both have one baseline. What remains is groups, and k = 2 and 3 of
morf and of lerf: K + 2 (K - 2) = 8 of 16.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.core.types import Baseline
from benchmark.scoring import ordered_sets
from benchmark.scoring.masked_model import Predictions
from benchmark.scoring.metrics import Response
from benchmark.scoring.ordered_sets import OrderedSets, Ordering
from benchmark.scoring.shared_predictions import SharedPredictions
from benchmark.scoring.shared_queries import RANDOM, SharedQueries
from benchmark.statistics.correlation import is_constant


class OrderedQueries:
    """Makes the responses to the ordered probes: the model is asked about what neither is shared nor in a table."""

    def __init__(self, common: SharedQueries) -> None:
        self.common, self.task, self.kinds = common, common.task, common.kinds - set(RANDOM)

    def respond(
        self, scores: Tensor, rows: slice, shared: SharedPredictions, constant_attribution: Tensor | None
    ) -> dict[str, Response]:
        """Return the model's response to every ordered kind of probe.

        Args:
            scores: finite attributions (M, B, G) float64 of M methods.
            rows: the samples.
            shared: predictions for these samples that no method changes.
            constant_attribution: (M, B) bool, which a response to groups holds; None where nobody needs it.
        """
        methods, batch, _ = scores.shape
        stacked, ordering = scores.flatten(0, 1), ordering_of(self.common, scores, rows)
        exists = ordered_sets.groups(ordering).exists
        exists = None if exists is None else exists.view(methods, batch, -1)
        responses = {}
        for kind, predictions in self._predictions(ordering, rows, shared).items():
            mass = constant = None
            if kind == "groups":
                mass = ordered_sets.group_mass(ordering, stacked).view(methods, batch, -1)
                constant = is_constant(predictions.prob, exists, floor=1.0)
            responses[kind] = Response(
                predictions.prob, predictions.same_class, shared.clean, exists, mass, constant_attribution, constant
            )
        return responses

    def _predictions(self, ordering: Ordering, rows: slice, shared: SharedPredictions) -> dict[str, Predictions]:
        """Return the predictions (M, B, K) of each ordered kind, for an ordering of M * B rows."""
        asked = self._answers(self._sets_to_ask(ordering), ordering, rows, shared)
        groups = asked.get("groups")
        curves = {} if groups is None else {"groups": groups}
        if "morf" in asked:
            head = None if groups is None else groups[..., :1]
            curves["morf"] = _curve(head, asked["morf"], shared.everything_removed, ordering)
        if "lerf" in asked:
            head = None if groups is None else groups.gather(_last_step(ordering, len(shared.clean)))
            curves["lerf"] = _curve(head, asked["lerf"], shared.everything_removed, ordering)
        if "insert" in self.kinds:
            if self._lerf_answers_insert:
                body = _backwards(curves["lerf"], ordering)
            else:
                body = self._query(ordered_sets.insertions(ordering), rows, shared, "insertion")
            curves["insert"] = _curve(None, body, shared.nothing_removed, ordering)
        return {kind: predictions for kind, predictions in curves.items() if kind in self.kinds}

    @property
    def _lerf_answers_insert(self) -> bool:
        """Tell whether insertion is needed and has the baseline of removal, so that it is LeRF read backwards."""
        return "insert" in self.kinds and self.task.removal.shares_baseline

    def _sets_to_ask(self, ordering: Ordering) -> dict[str, OrderedSets]:
        """Return the removal sets that are needed under the removal baseline, by kind.

        Where groups are among them, they answer k = 1 of both curves.
        """
        sets, first = {}, 1
        if "groups" in self.kinds:
            sets["groups"], first = ordered_sets.groups(ordering), 2
        if "morf" in self.kinds:
            sets["morf"] = ordered_sets.morf(ordering, first)
        if "lerf" in self.kinds or self._lerf_answers_insert:
            sets["lerf"] = ordered_sets.lerf(ordering, first)
        return sets

    def _answers(
        self, sets_by_kind: dict[str, OrderedSets], ordering: Ordering, rows: slice, shared: SharedPredictions
    ) -> dict[str, Predictions]:
        """Return predictions (M, B, S): from the value table, from removals of single features, or from the model."""
        answers, batch = {}, len(shared.clean)
        if shared.table is None and shared.singles is not None and "groups" in sets_by_kind:  # one feature a group
            answers["groups"] = shared.singles.gather(ordering.order.view(-1, batch, ordering.order.shape[1]))
        remaining = {kind: sets for kind, sets in sets_by_kind.items() if kind not in answers}
        if not remaining:
            return answers
        sets = ordered_sets.join(list(remaining.values()))
        if shared.table is not None:
            predictions = shared.table.gather(sets.codes().view(-1, batch, sets.shape[1]))
        else:
            predictions = self._query(sets, rows, shared)
        start = 0
        for kind, part in remaining.items():
            answers[kind] = predictions[..., start : start + part.shape[1]]
            start += part.shape[1]
        return answers

    def _query(
        self, sets: OrderedSets, rows: slice, shared: SharedPredictions, kind: Baseline = "removal"
    ) -> Predictions:
        """Ask the model about S sets for each of M * B rows: (M, B, S)."""
        x, classes, methods = self.common.x[rows], shared.classes, sets.shape[0] // len(shared.clean)
        x, classes = (rows.repeat(methods, *[1] * (rows.dim() - 1)) for rows in (x, classes))
        return self.common.model.query(x, classes, sets, kind).view(methods, len(shared.clean), sets.shape[1])


def ordering_of(common: SharedQueries, scores: Tensor, rows: slice) -> Ordering:
    """Return the ordering of M * B rows by finite attributions (M, B, G); ties fall alike for all methods."""
    methods, _, features = scores.shape
    steps = min(common.task.budget.steps, features)
    shuffled = ordered_sets.shuffle(common.seeds("ties", rows), features).repeat(methods, 1)
    valid = common.valid[rows].repeat(methods, 1)
    return ordered_sets.order_features(scores.flatten(0, 1), valid, shuffled, steps, common.unpadded)


def _last_step(ordering: Ordering, batch: int) -> Tensor:
    """Return the index of k = K in a curve, (M, B, 1), where K is each sample's own number of groups."""
    return (ordering.steps - 1).view(-1, batch, 1)


def _backwards(lerf: Predictions, ordering: Ordering) -> Predictions:
    """Return insertion's predictions for k = 1..K - 1, (M, B, K - 1), from a whole LeRF curve (M, B, K).

    When k groups are put back, the last K - k are still removed: that is LeRF's step K - k.
    """
    k = ordering.numbers(1, ordering.most_steps - 1)
    step = _last_step(ordering, lerf.prob.shape[1]) + 1 - k
    return lerf.gather((step - 1).clamp(min=0))  # under 1 only where a sample has no step k


def _curve(head: Predictions | None, body: Predictions, end: Predictions, ordering: Ordering) -> Predictions:
    """Return a whole curve, k = 1..K: (M, B, K).

    Args:
        head: predictions (M, B, 1) for k = 1; None where the body begins with it.
        body: predictions (M, B, S) up to k = K - 1.
        end: predictions (B, 1) for k = K, the same for all methods. A sample with fewer groups than its neighbours has
            its end at its own K; what follows in its row does not exist.
        ordering: of M * B rows.
    """
    at = _last_step(ordering, body.prob.shape[1])

    def joined(parts: list[Tensor], last: Tensor) -> Tensor:
        last = last.expand(*parts[0].shape[:2], 1)
        return torch.cat([*parts, last], -1)[..., : ordering.most_steps].scatter(-1, at, last)

    parts = [body] if head is None else [head, body]
    return Predictions(
        joined([part.prob for part in parts], end.prob), joined([part.same_class for part in parts], end.same_class)
    )
