"""What a metric reads of the model's answers: the target's probability, all logits, what layers give."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """What is kept of the model's answer about each removal set, beside the target's probability.

    Equal readings of equal probes are asked once, whatever the number of metrics.

    Attributes:
        logits: whether all logits are kept (`Response.logits`).
        layers: names of submodules of the model, as in `named_modules`, whose outputs are kept
            (`Response.activations`). A layer must give a tensor, or begin with one, with a row for each input.
    """

    logits: bool = False
    layers: tuple[str, ...] = ()


PROBABILITY, LOGITS = Reading(), Reading(logits=True)


def activations(*layers: str, logits: bool = False) -> Reading:
    """Return the reading of what some layers give.

    Args:
        layers: names of submodules of the model.
        logits: whether all logits are kept, too.

    Example:
        >>> activations("0", "2")
        Reading(logits=False, layers=('0', '2'))
    """
    return Reading(logits, layers)
