"""Several hinted explainers as one: their orders, and their sizes, are averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from deepfaith.hinted.explainer import HintedExplainer
from deepfaith.hinted.training import Answered, explained


def agreed(members: Sequence[HintedExplainer], given: Answered, batch: int) -> tuple[Tensor, Tensor]:
    """Return the order and size (B, G) of all inputs on which members agree: the means of theirs.

    Each member's are scaled to a length of 1 over an input's features first: no correlation asks for a scale, so that
    members may differ in theirs. A single member's are left as they are.

    Args:
        members: trained explainers of one task and recipe.
        given: the inputs, with what explainers are given of them.
        batch: how many are explained at a time.

    Example:
        >>> order, size = agreed([first, second, third], given, batch=64)
    """
    found = [explained(member, given, batch) for member in members]
    if len(found) == 1:
        return found[0]
    order, size = (torch.stack([F.normalize(one) for one in parts]).mean(0) for parts in zip(*found, strict=True))
    return order, size


def report_of(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what trainings by name say together: all curves, with the number of the training as `member`; all costs.

    What else they say, such as their starts, stands under their names. A single report is left as it is.
    """
    if len(parts) == 1:
        return dict(*parts.values())
    return {
        "curves": [p | {"member": float(i)} for i, part in enumerate(parts.values()) for p in part["curves"]],
        "iterations": sum(part["iterations"] for part in parts.values()),
        "costs": {f"{name} {key}": cost for name, part in parts.items() for key, cost in part["costs"].items()},
        **{name: {key: part[key] for key in part if key not in ("curves", "costs")} for name, part in parts.items()},
    }
