"""Sizes of the encoder by modality, the same for every learned explainer, so that methods are compared, not sizes."""

from __future__ import annotations

from benchmark.core.types import Modality

HEADS = 4
SIZES: dict[Modality, dict[str, int]] = {
    "table": {"width": 48, "depth": 2},
    "text": {"width": 96, "depth": 2},
    "image": {"width": 96, "depth": 3},
}
