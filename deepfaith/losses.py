"""The two losses of the paper: local correlation needs no labels, pattern consistency copies chosen explanations."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.statistics.correlation import is_constant, pearson

HELD = 2**26
"""Numbers of removal sets that exist as floats at a time."""


def local_correlation(scores: Tensor, removed: Tensor, drops: Tensor) -> Tensor:
    """Return L_LC = 1/2 - 1/2 * mean over x of Pearson's r between removed mass and drops, a scalar in [0, 1].

    scores (B, G): attributions; removed (B, k, G): random removal sets; drops (B, k): v_0 - v_I. Inputs whose drops are
    all the same say nothing and are left out; constant scores have no correlation, which costs 1/2.
    Source: section 3.2.
    """
    rows = max(1, HELD // removed[0].numel())
    parts = zip(removed.split(rows), scores.split(rows), strict=True)
    mass = torch.cat([(some.to(own) @ own.unsqueeze(-1)).squeeze(-1) for some, own in parts])
    return (1 - _mean_correlation(mass, drops)) / 2


def pattern_consistency(scores: Tensor, chosen: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return L_PC = mean over (x, s) of 1 - Pearson's r between scores (B, G) and chosen explanations s (B, G).

    A scalar in [0, 2]; `valid` (B, G) leaves padding out. Constant explanations are left out. Source: section 3.2.
    """
    return 1 - _mean_correlation(scores, chosen, valid)


def _mean_correlation(found: Tensor, wanted: Tensor, counted: Tensor | None = None) -> Tensor:
    """Return the mean r over rows whose wanted side varies; 0 counts where the found side does not."""
    said = ~is_constant(wanted, counted, floor=1e-6)
    r = pearson(found, wanted.to(found), counted).nan_to_num(nan=0.0)
    return (r * said).sum() / said.sum().clamp(min=1)
