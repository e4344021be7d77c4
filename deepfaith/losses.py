"""The two losses of the paper: local correlation needs no labels, pattern consistency copies prior explanations."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.statistics.correlation import is_constant, pearson

CHUNK_NUMBERS = 2**26
"""Numbers of removal sets that exist as floats at a time."""


def local_correlation(scores: Tensor, removed: Tensor, drops: Tensor) -> Tensor:
    """Return L_LC = 1/2 - 1/2 * mean over x of Pearson's r between removed mass and drops, a scalar in [0, 1].

    Inputs whose drops are all the same say nothing and are left out; constant scores have no correlation, which costs
    1/2. Source: section 3.2.

    Args:
        scores: attributions (B, G).
        removed: random removal sets (B, k, G) bool.
        drops: v_0 - v_I, how much each lowers the target's probability, (B, k).
    """
    rows = max(1, CHUNK_NUMBERS // removed[0].numel())
    parts = zip(removed.split(rows), scores.split(rows), strict=True)
    mass = torch.cat([(sets.to(part) @ part.unsqueeze(-1)).squeeze(-1) for sets, part in parts])  # (B, k)
    return (1 - _mean_correlation(mass, drops)) / 2


def pattern_consistency(scores: Tensor, chosen: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return L_PC = mean over (x, s) of 1 - Pearson's r between scores and chosen explanations s, a scalar in [0, 2].

    Constant explanations are left out. Source: section 3.2.

    Args:
        scores: attributions (B, G).
        chosen: explanations (B, G) that they copy.
        valid: (B, G) bool, False for padding, which is left out.
    """
    return 1 - _mean_correlation(scores, chosen, valid)


def _mean_correlation(x: Tensor, reference: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the mean r between rows of x and `reference`, both (B, n), over rows whose reference varies.

    A row of x that does not vary counts 0.
    """
    varies = ~is_constant(reference, valid, floor=1e-6)
    r = pearson(x, reference.to(x), valid).nan_to_num(nan=0.0)
    return (r * varies).sum() / varies.sum().clamp(min=1)
