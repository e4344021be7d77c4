"""How a person says how features are removed, and which are removed together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmark.api.inputs import tensor_of
from benchmark.core.errors import BenchmarkError, UsageError, describe, shown
from benchmark.core.parameters import configure, split_settings
from benchmark.core.types import Modality, Removal
from benchmark.modalities.grouping import GroupedRemoval
from benchmark.modalities.removals import REMOVALS, Inputs
from benchmark.models.others.wrapping import ROWS
from benchmark.plugins.discovery import discover_all

DEFAULT: dict[Modality, str] = {"table": "mean", "image": "mean", "text": "mask"}
ROUNDING = 64
"""By how many units of the last place the mean of equal numbers may differ from them."""
MEMBERS = ("n_features", "pads", "shares_baseline", "baseline", "expand", "valid", "pool")
"""What a removal has."""


def removal_of(given: Any, inputs: Inputs) -> Removal:
    """Return a removal from its name, a number, a row, or itself; None for that of the modality.

    Raises:
        UsageError: there is no such removal, it is not for this modality, or it is of another number of features.
    """
    if given is None:
        given = DEFAULT[inputs.modality]
    if isinstance(given, str):
        discover_all()
        return _named(given, inputs)
    if all(hasattr(given, member) for member in MEMBERS):
        features = inputs.background[0].numel() // (inputs.background.shape[1] if inputs.modality == "image" else 1)
        if given.n_features != features:
            raise UsageError(f"removal is one of {given.n_features} features, and an input of x has {features}")
        return given
    if inputs.modality == "text":
        raise UsageError("removal of a text expects mask, or an object with a removal's members: a token is no number")
    values = tensor_of(given, "removal").to(inputs.background)
    width = inputs.background.shape[1]
    if values.dim() > 1 or (values.dim() == 1 and len(values) != width):
        what = "channels" if inputs.modality == "image" else "columns"
        raise UsageError(f"removal expects a name, a number or a row of {width} {what}, got {tuple(values.shape)}")
    if not bool(values.isfinite().all()):
        raise UsageError(f"removal expects finite numbers of {values.dtype}, got {shown(given)}: mean is the default")
    return inputs.replaced_by(inputs.like(0.0) + values)


def check_removal(removal: Removal, x: Tensor, own_background: bool) -> None:
    """Make sure that removing features changes some input.

    Args:
        removal: of x's features.
        x: the inputs.
        own_background: x itself says what is usual.

    Raises:
        UsageError: every input is its own baseline, so that every attribution would score alike.
    """
    for part in x.split(ROWS):
        try:
            base = removal.baseline(part).expand_as(part)
        except Exception as error:  # of a removal of a person's own
            raise UsageError(f"the removal gives no baseline of x: {describe(error, type(removal))}") from error
        if base.is_floating_point() and not bool(base.isfinite().all()):
            raise UsageError("the removal puts NaN or infinity in the place of features: expected finite numbers")
        tolerance = ROUNDING * torch.finfo(part.dtype).eps if part.is_floating_point() else 0
        if not bool(((base - part).abs() <= tolerance * part.abs()).all()):
            return
    why = ", whose rows are equal and which is its own background" if own_background else ""
    raise UsageError(
        f"removing features changes nothing in x{why}: what takes their place is what is there, so pass background= "
        "with other rows, such as those of training, or removal= such as zero"
    )


def _named(text: str, inputs: Inputs) -> Removal:
    """Return the removal that `name` or `name[setting=value,...]` says."""
    name, settings = split_settings(text)
    entry = REMOVALS.entry(name)
    suits = entry.facts.get("modalities", ())
    if suits and inputs.modality not in suits:
        raise UsageError(f"the removal {name!r} is for {' and '.join(suits)}, and x is a {inputs.modality}")
    maker = configure(REMOVALS.get(name), name, settings)
    try:
        made = maker.make(inputs)
    except BenchmarkError:
        raise
    except Exception as error:  # of a removal of a person's own
        raise UsageError(f"the removal {name!r} cannot be made: {describe(error, type(maker))}") from error
    if missing := [member for member in MEMBERS if not hasattr(made, member)]:
        raise UsageError(f"the removal {name!r} makes a {type(made).__name__}, which has no {' and no '.join(missing)}")
    return made


def grouped(removal: Removal, given: Any, modality: Modality, x: Tensor) -> Removal:
    """Return a removal of groups of features.

    Args:
        removal: of single features.
        given: the number of the group of each feature, laid out as features are.
        modality: of the inputs.
        x: the inputs.

    Raises:
        UsageError: there is no group for each feature, or their numbers are none.
    """
    groups: Tensor = tensor_of(given, "groups")
    layout = tuple(x.shape[-2:] if modality == "image" else x.shape[1:])
    if tuple(groups.shape) != layout or groups.is_floating_point() or groups.dtype == torch.bool:
        raise UsageError(
            f"groups expects the number of a group for each feature, whole numbers of shape {layout}, got "
            f"{tuple(groups.shape)} of {groups.dtype}"
        )
    present = groups.unique().tolist()
    if present != list(range(len(present))):
        raise UsageError(
            f"groups expects numbers from 0 on without gaps, got {present[0]} to {present[-1]} with {len(present)} "
            "different ones: np.unique(groups, return_inverse=True)[1] numbers them so"
        )
    if modality == "text" and bool((groups.diff() < 0).any()):
        raise UsageError("groups of tokens expects numbers that never fall along a text: padding stands at its end")
    return GroupedRemoval(removal, groups.flatten().long().to(x.device))
