"""The explainer: one forward pass from an input, and from what the model predicts for it, to an attribution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.learning.encoder import SPREAD, Backbone, Shape
from benchmark.learning.prediction import Lead

OUTPUTS = 2
"""What the explainer needs of each feature: how it differs from the others, and its share of their level."""
LEVEL = 0.5
"""Where the mean attribution starts: the more is removed the lower a probability falls."""


class Explainer(nn.Module):
    """Inputs (B, ...) to attributions (B, G) of the predicted class.

    How features differ and their mean level come from two outputs of each token, because pattern consistency sees
    only the first: left to itself while explanations are copied, a level drifts and takes long to come back.

    Args:
        shape: of the encoder; its `outputs` are `OUTPUTS`.
        classes: how many the explained model has.
        form: of attributions: `signed`, any number, or `unit`, the paper's [0, 1].
        conditioning: what the explainer is given of the model's prediction: `margin`, the class and by how much its
            logit leads; `class`; or `nothing`, as in the paper.
    """

    def __init__(self, shape: Shape, classes: int, form: str = "signed", conditioning: str = "margin") -> None:
        super().__init__()
        self.classes, self.form, self.conditioning = classes, form, conditioning
        self.backbone = Backbone(shape)
        nn.init.constant_(self.backbone.head.bias, LEVEL)
        if conditioning != "nothing":
            self.label = nn.Parameter(SPREAD * torch.randn(classes, shape.width))
        if conditioning == "margin":
            self.lead = Lead(shape.width)

    def forward(self, x: Tensor, target: Tensor | None = None, margin: Tensor | None = None) -> Tensor:
        """Return attributions (B, G).

        Args:
            x: inputs (B, ...).
            target: predicted classes (B,), where the explainer is conditioned on them.
            margin: by how much their logits lead, (B,), where it is conditioned on that.
        """
        extra = None
        if self.conditioning != "nothing":
            assert target is not None, "an explainer that is conditioned on the class needs it"
            extra = self.label[target].unsqueeze(1)
        if self.conditioning == "margin":
            assert margin is not None, "an explainer that is conditioned on the margin needs it"
            extra = extra + self.lead(margin).unsqueeze(1)
        differences, levels = self.backbone(x, extra).unbind(-1)
        valid = self.backbone.valid(x)
        count = valid.sum(1, keepdim=True).clamp(min=1)
        scores = differences + ((levels - differences) * valid).sum(1, keepdim=True) / count
        scores = scores.masked_fill(~valid, 0.0)
        return scores.sigmoid() if self.form == "unit" else scores
