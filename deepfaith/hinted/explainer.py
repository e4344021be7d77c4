"""The hinted explainer: weighs the hints of each feature, once for its place in the order and once for its size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmark.learning.encoder import SPREAD, Backbone, Shape
from benchmark.learning.prediction import Lead


class HintedExplainer(nn.Module):
    """Inputs (B, ...) and their hints (B, G, J) to order and size (B, G) of the predicted class.

    Either is a sum over hints of gain x hint. Gains begin at their starts exactly, unless all of these are 0, and the
    encoder, which sees the input, its hints, and the class and margin of the prediction, learns what is added to them.

    Args:
        shape: of the encoder, with `given` = J.
        classes: how many the explained model has.
        starts: the gains that order and size begin with, J each.
        gains: whether gains are learned; otherwise they stay at their starts.
        additive: whether a number that no hint is a factor of is added, too.
        separate: whether order and size are two outputs; otherwise one is both.
    """

    def __init__(
        self, shape: Shape, classes: int, starts: Sequence[Sequence[float]], gains: bool, additive: bool, separate: bool
    ) -> None:
        super().__init__()
        self.classes, self.gains, self.additive = classes, gains, additive
        self.backbone = Backbone(shape)
        if any(any(start) for start in starts):  # else all masses were 0, and a correlation without a slope
            nn.init.zeros_(self.backbone.head.weight)
            nn.init.zeros_(self.backbone.head.bias)
        self.label = nn.Parameter(SPREAD * torch.randn(classes, shape.width))
        self.lead = Lead(shape.width)
        self.starts: Tensor
        self.register_buffer("starts", torch.tensor(starts if separate else starts[:1]))

    @staticmethod
    def outputs(hints: int, gains: bool, additive: bool, separate: bool) -> int:
        """Return how many numbers the encoder gives for each feature."""
        return (1 + separate) * (hints * gains + additive)

    def forward(self, x: Tensor, target: Tensor, margin: Tensor, hints: Tensor) -> tuple[Tensor, Tensor]:
        """Return order and size (B, G), 0 at padding.

        Args:
            x: inputs (B, ...).
            target: predicted classes (B,).
            margin: by how much their logits lead, (B,).
            hints: see `Hints.of`, (B, G, J).
        """
        extra = (self.label[target] + self.lead(margin)).unsqueeze(1)
        learned = self.backbone(x, extra, given=hints if self.backbone.shape.given else None)
        learned = learned.unflatten(-1, (len(self.starts), -1))  # (B, G, 1 or 2, J, J + 1 or 1)
        count = hints.shape[-1] if self.gains else 0
        gains = self.starts + learned[..., :count] if self.gains else self.starts
        scores = (gains * hints.unsqueeze(2)).sum(-1)
        if self.additive:
            scores = scores + learned[..., count]
        scores = scores.masked_fill(~self.backbone.valid(x).unsqueeze(-1), 0.0)
        return scores[..., 0], scores[..., -1]
