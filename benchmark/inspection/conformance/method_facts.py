"""What is said of a method: its class, its docstring, its facts and its parameters."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, get_args

from benchmark.core.errors import BenchmarkError, UsageError, describe, did_you_mean, shown
from benchmark.core.parameters import configure, configured, fields_of, parameters
from benchmark.core.types import METHODS, Method, Modality
from benchmark.inspection.conformance.findings import Checks, Untried
from benchmark.inspection.conformance.method_trial import MethodTrial

KINDS = ("baseline", "learned", "control", "oracle")


@dataclass(frozen=True)
class MethodFacts:
    """A method as it is registered; `trial` is a task to try parameters on, None where it explains none."""

    name: str
    method: Method
    trial: MethodTrial | None

    @property
    def cls(self) -> type[Method]:
        """Return its class."""
        return type(self.method)

    def fact(self, key: str) -> Any:
        """Return a fact of its registration, or None."""
        return METHODS.entry(self.name).facts.get(key)


FACTS: Checks[MethodFacts] = Checks()


@FACTS.add("its class is a frozen dataclass")
def frozen(facts: MethodFacts) -> str | None:
    """Its parameters are hashed into the name of a record: they may not change."""
    if facts.cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return None
    return f"{facts.cls.__name__} can be changed after it is made: write @dataclass(frozen=True)"


@FACTS.add("its docstring begins with a summary")
def summary(facts: MethodFacts) -> str | None:
    """`list` and `show` print it."""
    text = METHODS.entry(facts.name).summary
    if text and not text.startswith(f"{facts.cls.__name__}("):  # what dataclass writes where there is none
        return None
    return f"{facts.cls.__name__} has no docstring: its first line is what `list methods` says of it"


@FACTS.add("its registration says of what kind it is")
def kind(facts: MethodFacts) -> str | None:
    """Boards put controls last and say which methods were trained."""
    said = facts.fact("kind")
    if said in KINDS:
        return None
    if said is None:
        return f"register({facts.name!r}) says no kind: add kind='baseline', or another of {', '.join(KINDS)}"
    return f"its kind is {shown(said)}{did_you_mean(str(said), KINDS)}"


@FACTS.add("its registration says which modalities it explains")
def modalities(facts: MethodFacts) -> str | None:
    """What it does not explain is passed over in place of failing."""
    if facts.fact("modalities"):
        return None
    words = ", ".join(map(repr, get_args(Modality)))
    return f"register({facts.name!r}) says no modalities: add modalities=(...,) with some of {words}"


@FACTS.add("its parameters can be given as text, and give the same again")
def as_text(facts: MethodFacts) -> str | None:
    """So the command line and records give them."""
    for key, value in parameters(facts.cls()).items():
        given = {} if value is None else {key: str(value)}
        again = getattr(configure(facts.cls, facts.name, given), key)
        if again != value:
            became = f"{key}={shown(value)}, given as text, becomes {shown(again)}"
            return f"{became}: let it be a number, text, True, False or None"
    return None


@FACTS.add("parameters out of range are refused")
def ranges(facts: MethodFacts) -> str | None:
    """A value that no range forbids must work, or be refused in a sentence."""
    for key, field in fields_of(facts.cls).items():
        for value in _doubtful(field, getattr(facts.cls(), key)):
            found = _with(facts, key, value)
            if found is not None:
                return (
                    f"{key}={shown(value)} is taken, and then {found}: give its range, such as "
                    f"{key}: {type(value).__name__} = bounded(default, low=...)"
                )
    return None


def _doubtful(field: dataclasses.Field[Any], default: Any) -> list[Any]:
    """Return values that a parameter may well not mean: those beyond its range are refused by `bounded` already."""
    if field.metadata.get("among") or isinstance(default, bool) or default is None:
        return []
    if isinstance(default, (int, float)):
        low = field.metadata.get("low", field.metadata.get("above"))
        return [] if low is not None else [type(default)(-1), type(default)(0)]
    return ["no such word"]


def _with(facts: MethodFacts, key: str, value: Any) -> str | None:
    """Return what happens where a parameter has a value, or None where it is refused or works."""
    try:
        method = configured(facts.cls, facts.name, parameters(facts.method) | {key: value})
    except UsageError:
        return None
    if facts.trial is None:
        raise Untried("it explains none of the tasks that it could be tried on")
    trial = MethodTrial(facts.name, method, facts.trial.build)
    try:
        found = trial.attribution
    except BenchmarkError as error:
        return None if isinstance(error, UsageError) else str(error)
    except Exception as error:
        return f"raises {describe(error, facts.cls)}"
    return None if bool(found[trial.valid].isfinite().all()) else "gives attributions that are not finite"
