"""What a metric is given: the model's response to the removal sets of a probe; and why a score is flagged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmark.core.errors import in_a_line

if TYPE_CHECKING:
    from torch import Tensor

OK, CONSTANT_ATTRIBUTION, CONSTANT_RESPONSE, NON_FINITE, MODEL_NON_FINITE = range(5)  # joined by their maximum
UNDEFINED, NO_EXPLAINER, NOT_APPLICABLE = range(5, 8)  # of metrics beyond the ten
REASONS = {
    CONSTANT_ATTRIBUTION: "constant attribution: correlation set to 0",
    CONSTANT_RESPONSE: "constant response of the model: correlation undefined",
    NON_FINITE: "the attribution is not finite",
    MODEL_NON_FINITE: "the model's answer is not finite",
    UNDEFINED: "the metric is undefined here",
    NO_EXPLAINER: "only attributions were given: the metric asks the explainer",
    NOT_APPLICABLE: "the metric is not for this kind of task",
}
"""Why a score is flagged. Only the first kind of flagged score is valid."""

Scores = tuple["Tensor", "Tensor"]
"""Scores (M, B) float64 and their reason codes (M, B) int8."""


@dataclass(frozen=True, eq=False)
class Response:
    """What the model answers about the removal sets of one probe.

    Of `fixed` and `bernoulli`, whose sets no method changes, the predictions have no axis of methods where the target's
    probability alone is read, and `constant_response` neither; those of other probes always have it.

    Attributes:
        prob: the target's probability under each removal, v, (M, B, S) float64.
        same_class: whether the class predicted for the whole input is still predicted, (M, B, S) bool.
        clean: the target's probability on the whole input, v_0, (B,) float64.
        exists: (M, B, S) bool, False where a sample has fewer sets than its neighbours; None where all have S.
        mass: attribution summed over what is removed, (M, B, S) float64; None for probes without `mass`.
        constant_attribution: whether all features have one attribution, (M, B) bool; None without mass.
        constant_response: whether v is the same for all sets, (M, B) bool; None without mass.
        logits: all logits under each removal, (M, B, S, C) float64; None unless the metric's reading has them.
        clean_logits: those of the whole input, (B, C) float64; None likewise.
        activations: what layers give under each removal, (M, B, S, ...), by the names that the reading has.
        clean_activations: what they give of the whole input, (B, ...).
    """

    prob: Tensor
    same_class: Tensor
    clean: Tensor
    exists: Tensor | None = None
    mass: Tensor | None = None
    constant_attribution: Tensor | None = None
    constant_response: Tensor | None = None
    logits: Tensor | None = None
    clean_logits: Tensor | None = None
    activations: Mapping[str, Tensor] = field(default_factory=dict)
    clean_activations: Mapping[str, Tensor] = field(default_factory=dict)
    __repr__ = in_a_line


def required(part: Tensor | None, what: str) -> Tensor:
    """Return a part of a response.

    Raises:
        ValueError: the metric's probe, or its reading, does not give it.
    """
    if part is None:
        raise ValueError(f"the response has no {what}")
    return part


def all_logits(r: Response) -> tuple[Tensor, Tensor]:
    """Return the logits (M, B, S, C) of a response, and those of whole inputs (B, C).

    Raises:
        ValueError: the metric does not read logits.
    """
    hint = "logits: give the metric the reading LOGITS"
    return required(r.logits, hint), required(r.clean_logits, hint)
