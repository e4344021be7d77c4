"""A few samples with their explanations, small enough to store beside a record and to show in a report."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.scoring.evaluator import Evaluation, Evaluator

EXAMPLES = 3
"""Samples that are kept: the first ones."""
SIDE, PIXELS = 28, 112
"""The largest side of a kept heat map, whose cells are means of sites, and of a kept image."""
DIGITS = 4


def examples(evaluator: Evaluator, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return the first samples, each with what was seen, what was predicted and the attribution, as plain data.

    `probability` is that of the target. `kind` is table (`names`, `values`), text (`words`) or image (`image`, a PNG in
    base 64; the attribution is a square map in raster order, `side` cells a side).
    """
    task, descriptions = evaluator.task, []
    assert evaluation.attributions is not None
    for at, sample in enumerate(evaluation.samples[:EXAMPLES]):
        x, valid = evaluator.x[at], evaluator.valid[at].cpu().numpy()
        attribution = evaluation.attributions[at].double().cpu().numpy()
        description: dict[str, Any] = {
            "sample": int(sample),
            "kind": task.modality,
            "target": task.class_names[evaluation.target[at]],
            "predicted": task.class_names[int(evaluator.shared.classes.view(len(evaluator.x), -1)[at, -1])],
            "probability": round(float(evaluator.shared.clean[at]), DIGITS),
            "label": task.class_names[int(task.test.y[sample])],
        }
        match task.modality:
            case "table":
                description |= {"names": list(task.feature_names), "values": _short(_array(x))}
            case "text":
                attribution = attribution[valid]
                description |= {"words": task.words(x) if task.words else list(np.array(task.feature_names)[valid])}
            case "image":
                attribution = pooled(attribution.reshape(x.shape[-2:]))
                description |= {"image": png(_array(x)), "side": len(attribution)}
        descriptions.append(description | {"attribution": _short(attribution.reshape(-1))})
    return descriptions


def pooled(heat: np.ndarray) -> np.ndarray:
    """Return a square map (H, H) as means of equal blocks, at most 28 a side."""
    side = len(heat)
    cells = next(n for n in range(min(side, SIDE), 0, -1) if side % n == 0)
    step = side // cells
    return heat.reshape(cells, step, cells, step).mean((1, 3))


def png(x: np.ndarray) -> str:
    """Return an image (C, H, W), stretched over its own range, as a PNG of at most 112 pixels a side in base 64.

    Of more channels than a PNG has, their mean is shown.
    """
    x = x if len(x) <= 4 else x.mean(0, keepdims=True)
    low, high = x.min(), x.max()
    pixels = ((x - low) / max(high - low, 1e-12) * 255).round().astype(np.uint8)
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    picture.thumbnail((PIXELS, PIXELS))
    sink = io.BytesIO()
    picture.save(sink, "PNG", optimize=True)
    return base64.b64encode(sink.getvalue()).decode()


def _array(x: Tensor) -> np.ndarray:
    """Return an input as an array, float32 at least: NumPy has no bfloat16."""
    return (x.float() if x.element_size() < 4 else x).cpu().numpy()


def _short(values: np.ndarray) -> list[float | None]:
    """Return numbers with four digits that count; None for what is not finite."""
    return [float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in values]
