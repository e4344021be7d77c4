"""The explainer: one forward pass from an input, and from what the model predicted, to an attribution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.models.backbone import SPREAD, Backbone, Shape

LARGEST_MARGIN = 8.0
"""Logit margins are cut here: beyond it a probability no longer moves."""


class Explainer(nn.Module):
    """Inputs (B, ...) to attributions (B, G) of the predicted class.

    `output` is signed (any number) or unit (the paper's [0, 1]). `told` says what the explainer hears of the model's
    prediction: margin (the class, and by how much its logit leads), class, or nothing, as in the paper.
    """

    def __init__(self, shape: Shape, classes: int, output: str = "signed", told: str = "margin") -> None:
        super().__init__()
        self.classes, self.output, self.told = classes, output, told
        self.backbone = Backbone(shape)
        if told != "nothing":
            self.label = nn.Parameter(SPREAD * torch.randn(classes, shape.width))
        if told == "margin":
            self.lead = nn.Sequential(nn.Linear(1, shape.width), nn.GELU(), nn.Linear(shape.width, shape.width))

    def forward(self, x: Tensor, target: Tensor | None = None, margin: Tensor | None = None) -> Tensor:
        """Return attributions (B, G) for targets (B,) and the margins (B,) of their logits, as far as they are told."""
        extra = None
        if self.told != "nothing":
            assert target is not None, "an explainer that is told the class needs it"
            extra = self.label[target].unsqueeze(1)
        if self.told == "margin":
            assert margin is not None, "an explainer that is told the margin needs it"
            lead = margin.clamp(-LARGEST_MARGIN, LARGEST_MARGIN).unsqueeze(1) / LARGEST_MARGIN
            extra = extra + self.lead(lead).unsqueeze(1)
        scores = self.backbone(x, extra).squeeze(-1)
        return scores.sigmoid() if self.output == "unit" else scores


def margins(logits: Tensor, target: Tensor) -> Tensor:
    """Return by how much the target's logit leads the best of the others, (B,), for logits (B, C)."""
    own = logits.gather(1, target.unsqueeze(1))
    others = logits.scatter(1, target.unsqueeze(1), -float("inf")).amax(1)
    return own.squeeze(1) - others
