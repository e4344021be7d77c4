"""What learned explainers are told of a prediction: by how much its logit leads."""

from __future__ import annotations

from torch import Tensor, nn

LARGEST_MARGIN = 8.0
"""Logit margins are cut here: beyond it a probability no longer moves."""


def margins(logits: Tensor, target: Tensor) -> Tensor:
    """Return by how much the target's logit leads the best of the others, (B,), for logits (B, C)."""
    of_target = logits.gather(1, target.unsqueeze(1)).squeeze(1)
    best_other = logits.scatter(1, target.unsqueeze(1), -float("inf")).amax(1)
    return of_target - best_other


class Lead(nn.Sequential):
    """Margins (B,) to what they add to the token of the prediction, (B, width)."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(1, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, margin: Tensor) -> Tensor:
        """Return (B, width)."""
        return super().forward(margin.clamp(-LARGEST_MARGIN, LARGEST_MARGIN).unsqueeze(1) / LARGEST_MARGIN)
