"""Joins an order of features and their sizes into one attribution, by isotonic regression."""

from __future__ import annotations

import torch
from scipy.optimize import isotonic_regression
from torch import Tensor

TIES = 1e-3
"""Of the sizes' spread: by how much features of one block rise with the order, all ranks together."""


def joined(order: Tensor, size: Tensor, valid: Tensor) -> Tensor:
    """Return the attributions nearest to `size` that stand in the order of `order`.

    Six of the ten metrics ask for an order alone, and the others correlate with sizes. Features that isotonic
    regression makes equal are told apart by steps too small to matter to a correlation; those that are equal in the
    order stay equal, with the mean of their sizes, so that metrics break such ties as they do.

    Args:
        order: (B, G); the largest is the most relevant.
        size: (B, G).
        valid: (B, G) bool, False for padding, which gets 0.

    Returns:
        Attributions (B, G), float64, in the order of `order`.

    Example:
        >>> row = torch.tensor([[1.0, 2.0, 3.0]])
        >>> joined(row, torch.tensor([[0.0, 4.0, 2.0]]), row > 0).round(decimals=2)
        tensor([[0., 3., 3.]], dtype=torch.float64)
    """
    attributions = torch.zeros(order.shape, dtype=torch.float64)
    for row, (ranked, sizes, real) in enumerate(zip(order.cpu(), size.cpu().double(), valid.cpu(), strict=True)):
        count = int(real.sum())
        if not count:
            continue
        levels, rank, members = ranked[real].unique(return_inverse=True, return_counts=True)
        means = torch.zeros(len(levels), dtype=torch.float64).index_add_(0, rank, sizes[real]) / members
        fitted = torch.from_numpy(isotonic_regression(means.numpy(), weights=members.double().numpy()).x.copy())
        step = TIES * (sizes[real].std(correction=0) or 1.0) / count
        attributions[row, real] = (fitted + step * torch.arange(len(levels), dtype=torch.float64))[rank]
    return attributions.to(order.device)
