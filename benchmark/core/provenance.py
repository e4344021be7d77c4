"""What a task says of its data and of its model: copied into records, and never needed to compute a score.

What nobody said is `UNKNOWN` where it is text and None where it is a number. Every value is checked against the type of
its field when it is set, so that a record cannot hold an accuracy that is no number.
"""

from __future__ import annotations

import math
import numbers
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from benchmark.core.parameters import KINDS

UNKNOWN = "unknown"


class Checked:
    """Base of dataclasses whose values are checked against the types of their fields."""

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            TypeError: a value is of another type than its field, or a number that is not finite.
        """
        for name, hint in typing.get_type_hints(type(self)).items():
            value, kinds = getattr(self, name), _kinds(hint)
            if float in kinds and isinstance(value, numbers.Real) and not isinstance(value, (bool, int)):
                value = float(value)  # numpy's, too
                object.__setattr__(self, name, value)
            fits = type(value) in kinds or (float in kinds and type(value) is int) or _is_instance(value, kinds)
            if not fits or (isinstance(value, float) and not math.isfinite(value)):
                expected = " or ".join(_NAMES.get(kind) or f"a {kind.__name__}" for kind in kinds)
                raise TypeError(f"{type(self).__name__}: {name} is {value!r:.60}, expected {expected}")


_NAMES = KINDS | {dict: "names and values", types.NoneType: "nothing"}


def _kinds(hint: Any) -> list[type]:
    """Return the alternatives of a type hint, without what stands in their brackets."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return [typing.get_origin(kind) or kind for kind in (typing.get_args(hint) if is_union else (hint,))]


def _is_instance(value: object, kinds: list[type]) -> bool:
    """Tell whether a value is an instance of one of `kinds` that is no plain number, of which True would be one."""
    return isinstance(value, tuple(kind for kind in kinds if kind not in (int, float)))


@dataclass(frozen=True)
class DataProvenance(Checked):
    """Where a task's rows come from.

    `digest` is that of the file or files, `origin` their path or address; `train_rows` and `test_rows` are those of the
    data set, of which a task may explain fewer.
    """

    name: str = UNKNOWN
    origin: str = UNKNOWN
    digest: str = UNKNOWN
    licence: str = UNKNOWN
    train_rows: int | None = None
    test_rows: int | None = None


@dataclass(frozen=True)
class ModelProvenance(Checked):
    """What is explained: its weights, how it was made and how good it is.

    `accuracy` and `balanced_accuracy` (mean recall of the classes) are shares in [0, 1] of the test rows; `weak` says
    that the latter is under `floor`, the least that is worth explaining. `recipe` is every setting the model depends
    on. `measures` are further numbers by name.
    """

    digest: str = UNKNOWN
    accuracy: float | None = None
    balanced_accuracy: float | None = None
    predicted_classes: int | None = None
    floor: float | None = None
    weak: bool = False
    pretrained: bool | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    measures: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """Return the provenance with `facts` by name; those that are no field become `measures`.

        Raises:
            TypeError: a value is of another type than its field.
        """
        names = {each.name for each in fields(cls)} - {"measures"}
        known = {name: value for name, value in facts.items() if name in names}
        return cls(**known, measures={name: value for name, value in facts.items() if name not in names})


@dataclass(frozen=True)
class Provenance(Checked):
    """What a task says of its data and of its model.

    Example:
        >>> Provenance(DataProvenance(origin="trial.csv"), ModelProvenance(accuracy=0.91)).data.digest
        'unknown'
    """

    data: DataProvenance = field(default_factory=DataProvenance)
    model: ModelProvenance = field(default_factory=ModelProvenance)


def shown(share: float | None) -> str:
    """Return a share as text with three decimals, or `UNKNOWN`."""
    return UNKNOWN if share is None else f"{share:.3f}"
