"""The paper's tabular model: a halving multi-layer perceptron with batch normalisation and dropout."""

from __future__ import annotations

from torch import nn


def mlp(inputs: int, classes: int, width: int, depth: int, dropout: float) -> nn.Sequential:
    """Return a model (B, inputs) -> logits (B, classes) with `depth` hidden layers: `width`, `width` / 2, ..."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)]
        inputs, width = width, width // 2
    return nn.Sequential(*layers, nn.Linear(inputs, classes))
