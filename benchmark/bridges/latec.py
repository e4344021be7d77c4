"""LATEC: its archives of saliency maps and of scores, which hold arrays and no names.

Both are .npz files of one array a model, `arr_0`, `arr_1`, ...: maps (observations, methods, channels, height, width),
scores (methods, metrics, observations). Its released configuration of images has the methods and metrics below, in this
order; the first fourteen methods are those of convolutional networks (Klein et al. 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmark.bridges.scores import Direction, Scores
from benchmark.core.errors import DataError, UsageError, did_you_mean
from benchmark.data.arrays import read_all

SOURCE = "LATEC"
METHODS = (
    "occlusion", "lime", "kernel_shap", "vanilla_gradient", "input_x_gradient", "guided_backprop", "grad_cam",
    "score_cam", "grad_cam_pp", "integrated_gradients", "expected_gradients", "deeplift", "deeplift_shap", "lrp",
    "raw_attention", "rollout_attention", "lrp_attention",
)  # fmt: skip
CONVOLUTIONAL = 14
METRICS = (
    "FaithfulnessCorrelation", "FaithfulnessEstimate", "MonotonicityCorrelation", "PixelFlipping", "RegionPerturbation",
    "InsertionDeletion", "IROF", "ROAD", "Sufficiency", "LocalLipschitzEstimate", "MaxSensitivity", "Continuity",
    "RelativeInputStability", "RelativeOutputStability", "RelativeRepresentationStability", "Infidelity", "Sparseness",
    "Complexity", "EffectiveComplexity",
)  # fmt: skip


def latec_attributions(
    path: str | Path, *, model: int = 0, methods: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Return the maps of an archive of LATEC's, by method.

    Args:
        path: a .npz of arrays (observations, methods, channels, height, width), or of one method's maps (observations,
            channels, height, width).
        model: which array.
        methods: their names in the order of the array; LATEC's own where it holds 14 or 17 methods of images.

    Returns:
        Maps (observations, channels, height, width) by method; a method alone is called as the file.

    Raises:
        UsageError: there is no such model, or names are missing or too many.
        DataError: the file does not hold such arrays.
    """
    array = _array(path, model)
    if array.ndim == 4:
        names = _names(methods, 1, "methods", path, (Path(path).stem,))
        return {names[0]: array}
    if array.ndim != 5:
        raise DataError(
            f"{path}: expected maps (observations, methods, channels, height, width), got shape {array.shape}"
        )
    names = _names(methods, array.shape[1], "methods", path, _methods(array.shape[1]))
    return {name: array[:, i] for i, name in enumerate(names)}


def from_latec(
    path: str | Path,
    *,
    model: int = 0,
    methods: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    better: Direction | None = None,
) -> Scores:
    """Return the scores of an archive of LATEC's, marked as its own.

    Args:
        path: a .npz of arrays (methods, metrics, observations).
        model: which array.
        methods: their names in the order of the array; LATEC's own where it holds 14 or 17.
        metrics: likewise; LATEC's own where it holds 19.
        better: "higher" or "lower" by metric, where known.

    Raises:
        UsageError: there is no such model, or names are missing or too many.
        DataError: the file does not hold such arrays.
    """
    array = _array(path, model)
    if array.ndim != 3:
        raise DataError(f"{path}: expected scores (methods, metrics, observations), got shape {array.shape}")
    rows = _names(methods, len(array), "methods", path, _methods(len(array)))
    columns = _names(metrics, array.shape[1], "metrics", path, METRICS if array.shape[1] == len(METRICS) else None)
    scores = {row: dict(zip(columns, of_row, strict=True)) for row, of_row in zip(rows, array, strict=True)}
    return Scores.of(SOURCE, scores, better=better)


def _array(path: str | Path, model: int) -> np.ndarray:
    """Return the array of a model."""
    if Path(path).suffix != ".npz":
        raise UsageError(f"{path}: expected a .npz archive of LATEC's")
    arrays = read_all(path)
    if f"arr_{model}" not in arrays:
        raise UsageError(f"{path} has no array of model {model}{did_you_mean(f'arr_{model}', arrays)}")
    return arrays[f"arr_{model}"]


def _methods(count: int) -> tuple[str, ...] | None:
    """Return LATEC's own methods where it has so many: all, or those of convolutional networks."""
    return METHODS[:count] if count in (CONVOLUTIONAL, len(METHODS)) else None


def _names(
    given: Sequence[str] | None, count: int, what: str, path: str | Path, known: tuple[str, ...] | None
) -> Sequence[str]:
    """Return the names of an axis, given or known."""
    names = known if given is None else given
    if names is None:
        raise UsageError(
            f"{path} holds {count} {what}, and LATEC's files hold no names: give {what}=[...] in its order"
        )
    if len(names) != count or len(set(names)) != count:
        raise UsageError(f"{path} holds {count} {what}, expected as many different names, got {len(names)}")
    return names
