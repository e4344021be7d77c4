"""Handwritten digits (UCI 80): which digit is it? Real data that scikit-learn ships."""

from __future__ import annotations

from benchmark.core.types import TASKS, Budget
from benchmark.data.images import BundledImages
from benchmark.modalities.image import ImageTask, Training

DIGITS = BundledImages(
    name="digits",
    channels=1,
    side=8,
    train_rows=1797,
    test_rows=1797,
    digest="0b7e9c3202d7bcd255d6a19a238d3743bf5e320ba74812a6679958a017c55382",
    licence="CC BY 4.0",
    stand_in_classes=4,
    stand_in_side=16,
)


@TASKS.register("digits_cnn", modality="image", group="builtin")
def digits_cnn() -> ImageTask:
    """Handwritten digit of 8 x 8 pixels (shipped with scikit-learn, UCI 80); three convolutions."""
    return ImageTask(
        DIGITS, "cnn", 0.9, (0.3,), (0.37,), training=Training(20, 50, 4e-3, 1e-2, 0.0, flip=False),
        budget=Budget(steps=16, subset_fraction=1 / 16, subset_minimum=1),
    )  # fmt: skip
