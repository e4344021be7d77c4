"""Parameters of methods and removals: dataclass fields, read from text or values, checked for type and range."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from benchmark.core.errors import UsageError, describe, did_you_mean, shown

T = TypeVar("T")


def bounded(
    default: Any, low: float | None = None, high: float | None = None, among: tuple[Any, ...] = (),
    above: float | None = None,
) -> Any:  # fmt: skip
    """Return a dataclass field whose value must lie in a range or a set.

    Args:
        default: the value where none is given.
        low: the least value.
        high: the largest.
        among: all values that there are.
        above: a bound that the value must exceed.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Smoothing:
        ...     steps: int = bounded(20, low=1)
        >>> configure(Smoothing, "smoothing", {"steps": "5"})
        Smoothing(steps=5)
    """
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "among": among, "above": above})


@dataclasses.dataclass(frozen=True)
class Space:
    """What may be chosen when a method is tuned: values of its parameters, of which every combination may be tried.

    Attributes:
        values: by parameter.
        by_modality: the same, for one modality alone.
        by_rows: the same, for one class of costs alone, by the most rows that an explanation may ask the model; None is
            for any number. Where one is named, the method enters no other. Each overrides what stands before it.

    Example:
        >>> space = Space({"output": ("logit", "probability")}, by_rows={60: {"steps": (10, 30)}})
        >>> len(space.combinations("table", 60)), len(space.combinations("table", 5))
        (5, 0)
    """

    values: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    by_modality: Mapping[str, Mapping[str, tuple[Any, ...]]] = dataclasses.field(default_factory=dict)
    by_rows: Mapping[int | None, Mapping[str, tuple[Any, ...]]] = dataclasses.field(default_factory=dict)

    def combinations(self, modality: str, rows: int | None) -> list[dict[str, Any]]:
        """Return all combinations for a modality and a class of costs, none where the method does not enter it.

        The first is the defaults, at the first of the values that the class has of its own.
        """
        if self.by_rows and rows not in self.by_rows:
            return []
        of_class = self.by_rows.get(rows, {})
        values = {**self.values, **self.by_modality.get(modality, {}), **of_class}
        combined = [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]
        return [{name: several[0] for name, several in of_class.items()}, *combined]


KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", types.NoneType: "none"}
"""The types that a parameter may have, alone or as alternatives, where it is given as text."""


def split_settings(text: str) -> tuple[str, dict[str, str]]:
    """Return the name and the settings, as text, of `name` or `name[setting=value,...]`.

    Raises:
        UsageError: it has another form, or a setting is given twice.

    Example:
        >>> split_settings("lime[n_samples=5, penalty=0.1]")
        ('lime', {'n_samples': '5', 'penalty': '0.1'})
    """
    name, bracket, rest = text.partition("[")
    given: dict[str, str] = {}
    for pair in filter(None, map(str.strip, rest.removesuffix("]").split(","))):
        key, equals, value = map(str.strip, pair.partition("="))
        if not equals:
            raise UsageError(f"cannot read {text!r}: write name or name[parameter=value,...]")
        if key in given:
            raise UsageError(f"cannot read {text!r}: {key} is given twice")
        given[key] = value
    if bracket and not rest.endswith("]"):
        raise UsageError(f"cannot read {text!r}: write name or name[parameter=value,...]")
    return name, given


def configure(cls: type[T], name: str, given: Mapping[str, str]) -> T:
    """Return an instance of a frozen dataclass from parameters as text, checked for name, type and range.

    Args:
        cls: the dataclass.
        name: what it is called in sentences.
        given: text by parameter; the others have their defaults.

    Raises:
        UsageError: an unknown parameter, a value of another type, one out of range, or what the class itself refuses.
    """
    fields, values = fields_of(cls), {}
    for key, text in given.items():
        if key not in fields:
            raise UsageError(f"{name} has no parameter {key!r}{did_you_mean(key, fields)}")
        where = f"{name}[{key}]"
        values[key] = _parse(where, text, _kinds(cls, where, key))
    return configured(cls, name, values)


def configured(cls: type[T], name: str, values: Mapping[str, Any]) -> T:
    """Return an instance of a frozen dataclass from values, checked for name, type and range.

    Args:
        cls: the dataclass.
        name: what it is called in sentences.
        values: by parameter; the others have their defaults.

    Raises:
        UsageError: an unknown parameter, a value of another type, one out of range, or what the class itself refuses.
    """
    fields = fields_of(cls)
    for key, value in values.items():
        if key not in fields:
            raise UsageError(f"{name} has no parameter {key!r}{did_you_mean(key, fields)}")
        where = f"{name}[{key}]"
        kinds = _kinds(cls, where, key)
        if type(value) not in kinds and not (float in kinds and type(value) is int):
            raise UsageError(f"{where} expects {_alternatives(kinds)}, got {shown(value)}")
        _check_range(where, fields[key], value)
    try:
        return cls(**values)
    except UsageError:
        raise
    except Exception as error:
        given_text = ",".join(f"{key}={value}" for key, value in values.items())
        raise UsageError(f"{name}[{given_text}] is refused: {describe(error, cls)}") from error


def fields_of(cls: type) -> dict[str, dataclasses.Field[Any]]:
    """Return the parameters of a dataclass: the fields that are set when it is made, by name."""
    return {field.name: field for field in dataclasses.fields(cls) if field.init}


def _check_range(where: str, field: dataclasses.Field[Any], value: Any) -> None:
    """Make sure that a value lies where `bounded` says; None, where a parameter takes it, lies everywhere."""
    low, high, among, above = (field.metadata.get(key) for key in ("low", "high", "among", "above"))
    if value is None:
        return
    if among and value not in among:
        raise UsageError(f"{where} expects one of {', '.join(map(str, among))}, got {shown(value)}")
    if above is not None and value <= above:
        raise UsageError(f"{where} expects more than {above}, got {value}")
    if (low is not None and value < low) or (high is not None and value > high):
        span = f"at least {low}" if high is None else f"at most {high}" if low is None else f"{low} to {high}"
        raise UsageError(f"{where} expects {span}, got {value}")


def parameters(instance: Any) -> dict[str, Any]:
    """Return the parameters of a dataclass's instance by name: with these its class makes it again."""
    return {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance) if field.init}


def with_defaults(instance: T, defaults: Mapping[str, Any]) -> T:
    """Return a dataclass's instance in which `defaults` replace parameters that are None."""
    filled_in = {key: defaults[key] for key, value in parameters(instance).items() if value is None and key in defaults}
    return dataclasses.replace(instance, **filled_in)  # type: ignore[type-var]


def _kinds(cls: type, where: str, key: str) -> set[Any]:
    """Return the types that a field takes, all among `KINDS`."""
    try:
        hint = typing.get_type_hints(cls)[key]
    except (NameError, TypeError, AttributeError) as error:
        raise UsageError(f"{where} cannot be given: its type is not known ({error})") from error
    kinds = set(typing.get_args(hint)) if typing.get_origin(hint) in (typing.Union, types.UnionType) else {hint}
    if not kinds <= set(KINDS):
        type_name = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else hint
        raise UsageError(
            f"{where} cannot be given: its type is {type_name}, expected one of {', '.join(KINDS.values())}"
        )
    return kinds


def _parse(where: str, text: str, kinds: set[Any]) -> Any:
    """Return the value that `text` stands for: the first of `KINDS` among `kinds` that it can be."""
    words: dict[str, Any] = {"none": None} if types.NoneType in kinds else {}
    words |= {"true": True, "false": False} if bool in kinds else {}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float, str):
        if kind in kinds:
            try:
                value = kind(text)
            except ValueError:
                continue  # another kind may do, or the message below is due
            if not isinstance(value, float) or math.isfinite(value):
                return value
    raise UsageError(f"{where} expects {_alternatives(kinds)}, got {text!r}")


def _alternatives(kinds: set[Any]) -> str:
    return " or ".join(words for kind, words in KINDS.items() if kind in kinds)


def unusable(registered: Any, base: type) -> str | None:
    """Return why what is registered is no dataclass derived from `base` whose parameters have defaults, or None."""
    kind = f"{base.__module__}.{base.__name__}"
    if not isinstance(registered, type):
        return f"expected a class derived from {kind}, got {shown(registered)}"
    if not issubclass(registered, base):
        return f"its class {registered.__name__} is not derived from {kind}"
    if missing := sorted(getattr(registered, "__abstractmethods__", ())):
        return f"its class {registered.__name__} has no {' and no '.join(missing)}"
    if "__dataclass_fields__" not in vars(registered):
        return f"its class {registered.__name__} is no dataclass: write @dataclass(frozen=True) right above it"
    for field in fields_of(registered).values():
        if field.default is field.default_factory is dataclasses.MISSING:
            return f"its parameter {field.name!r} has no default"
    try:
        values = parameters(registered())
    except Exception as error:
        return f"making it with its defaults fails: {describe(error, registered)}"
    for key, value in values.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            return f"its parameter {key!r} is {shown(value)} by default, expected a number, text, True, False or None"
    return None
