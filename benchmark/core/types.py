"""The central types: what a task, a method and an attribution are. No logic.

Shapes: B batch, G features, K steps, R random subsets, C classes, N samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, get_args, runtime_checkable

from benchmark.core.errors import UsageError, in_a_line, shown
from benchmark.core.parameters import Space
from benchmark.core.provenance import Provenance
from benchmark.core.registry import Registry, a_text, one_of, some_of, texts
from benchmark.core.sources import Located, Source, Sources

if TYPE_CHECKING:
    from torch import Tensor, nn

Modality = Literal["table", "text", "image"]
Device = Literal["cpu", "cuda"]
"""The class of device that a result was computed on; times of the two never share a column."""
Precision = Literal["fp32", "bf16"]
"""What a model's forwards are computed in; probabilities and scores are float64 in any case."""
Baseline = Literal["removal", "insertion"]
"""What takes a removed feature's place: the removal baseline, or, for INS, the insertion baseline."""

Target = Literal["predicted", "label"]
"""Which class is explained of each test row: the one that the model predicts, or the one that it is labelled with."""

VALUE_TABLE_LIMIT = 12
"""Up to this many features, without padding, every removal set of a sample is asked once and looked up ever after."""

Attribute = Callable[["Tensor", "Tensor"], "Tensor"]
"""Maps inputs (B, ...) and targets (B,) to attributions (B, G): float, finite, signed, larger = more support."""


@dataclass(frozen=True)
class Budget:
    """How finely a task is probed.

    `steps` K is capped by a sample's own number of features; `subsets` R holds for FC and INF each; FC removes
    max(`subset_minimum`, round(`subset_fraction` * features)) features at a time.
    """

    steps: int
    subsets: int = 100
    subset_fraction: float = 1 / 3
    subset_minimum: int = 2

    def __post_init__(self) -> None:
        """Make sure that there is something to probe.

        Raises:
            UsageError: a number is of another type, or out of range.
        """
        for name, least in (("steps", 1), ("subsets", 1), ("subset_minimum", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise UsageError(f"{name} of a budget expects a whole number of at least {least}, got {shown(value)}")
        share = self.subset_fraction
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise UsageError(f"subset_fraction of a budget expects a share from 0 to 1, got {shown(share)}")


class Removal(Protocol):
    """How features are removed in one modality. True in `removed` (B, G) means the feature is taken away."""

    @property
    def n_features(self) -> int:
        """Return G."""

    @property
    def pads(self) -> bool:
        """Tell whether inputs may be padded, so that samples can have different numbers of features."""

    @property
    def shares_baseline(self) -> bool:
        """Tell whether removal and insertion use the same baseline, so that INS can be read off the LeRF curve."""

    def baseline(self, x: Tensor, kind: Baseline = "removal") -> Tensor:
        """Return what stands in x's place where everything is removed: (1, ...) for all samples or (B, ...)."""

    def expand(self, removed: Tensor) -> Tensor:
        """Return `removed` (B, G) in a shape that broadcasts against x."""

    def valid(self, x: Tensor) -> Tensor:
        """Return (B, G) bool: True where there is a feature, False for padding."""

    def pool(self, raw: Tensor) -> Tensor:
        """Sum what a gradient gives for x's own layout into one number a feature, (B, G)."""


@dataclass(frozen=True, eq=False)
class Split:
    """Inputs (N, ...) and labels (N,)."""

    x: Tensor
    y: Tensor
    __repr__ = in_a_line


@dataclass(frozen=True, eq=False)
class Task:
    """Inputs, a frozen model and a way to remove features.

    `model` is in eval mode, its parameters need no gradient, and it maps inputs to logits (B, C).
    """

    name: str
    modality: Modality
    source: Source
    model: nn.Module
    train: Split
    test: Split
    removal: Removal
    budget: Budget
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    provenance: Provenance = field(default_factory=Provenance)
    """What is known of the data and of the model: copied into records."""
    evidence: Tensor | None = None
    """Where the evidence was planted in each test row (N, G) bool: only stand-ins know."""
    words: Callable[[Tensor], list[str]] | None = None
    """The words of one text (G,), padding left out."""
    spatial: str | None = None
    """The submodule of an image model whose output is its last map of places: what CAM methods look at."""
    target: Target | int | Tensor = "predicted"
    """The class explained of each test row: "predicted", "label", one class for all, or a class each, (N,) int64."""

    def __post_init__(self) -> None:
        """Make sure that the provenance is of the type that records are made from.

        Raises:
            TypeError: it is not.
        """
        if not isinstance(self.provenance, Provenance):
            kind = type(self.provenance).__name__
            raise TypeError(f"the provenance of {self.name} is a {kind}, expected a Provenance or nothing")

    def __repr__(self) -> str:
        """Return in a line what this is of."""
        size = f"{len(self.test.x)} of {self.removal.n_features} features, {len(self.class_names)} classes"
        parts = f"{type(self.model).__name__}, {type(self.removal).__name__}, {self.budget.steps} steps"
        return f"Task({self.name}: {self.modality}, {size}; {parts})"

    @property
    def n_features(self) -> int:
        """Return G."""
        return self.removal.n_features

    def remove(self, x: Tensor, removed: Tensor, kind: Baseline = "removal") -> Tensor:
        """Return x with the features that are True in `removed` (B, G) replaced by the baseline."""
        return self.removal.baseline(x, kind).where(self.removal.expand(removed), x)


class TaskSpec(Protocol):
    """What a task file registers: light enough to plan with, heavy only when built."""

    @property
    def modality(self) -> Modality:
        """Return table, text or image."""

    @property
    def n_features(self) -> int:
        """Return G."""

    @property
    def budget(self) -> Budget:
        """Return how finely the task is probed."""

    def facts(self) -> dict[str, str]:
        """Return what its card says beyond modality and features: data, model, training."""

    def locate(self, sources: Sources) -> Located:
        """Find and verify the data without loading torch."""

    def recipe(self, source: Source) -> dict[str, Any]:
        """Return every setting the model depends on, as plain data."""

    @property
    def floor(self) -> float:
        """Return the least balanced accuracy of a model worth explaining."""

    def build(self, located: Located, name: str, device: str) -> Task:
        """Load the data and the model, training the model where no weights are cached."""


class Method(ABC):
    """An explanation method: a frozen dataclass whose fields are its hyper-parameters.

    One that is None is left to the task: `resolved` fills it in.
    """

    repeats: ClassVar[int] = 1
    """How many seeds a record averages over; more than one only for controls that are pure chance."""
    space: ClassVar[Space] = Space()
    """What `tune` may choose."""
    only_predicted: ClassVar[bool] = False
    """Whether it explains the class that the model predicts, whichever is asked for: it is refused another target."""

    def unsupported(self, spec: TaskSpec) -> str | None:
        """Return why this method cannot explain the task, or None where it can."""
        return None

    def resolved(self, task: Task | TaskSpec) -> Self:
        """Return this method with every parameter that it has on a task of this modality and size.

        It stands in the record; `prepare` of either gives the same. Most methods have nothing to fill in.
        """
        return self

    def learns_from(self, modality: Modality) -> Sequence[Method]:
        """Return the methods whose explanations this one is trained on, so that it is made anew when they change."""
        return ()

    @abstractmethod
    def prepare(self, task: Task, seed: int) -> Attribute:
        """Get ready to explain `task`, training what has to be trained, and return the explainer.

        It may be a `TrainedExplainer`, and an `UncertainExplainer`.
        """


@runtime_checkable
class TrainedExplainer(Protocol):
    """An explainer that was trained, and says of its training what a record should hold."""

    report: dict[str, Any]
    """Plain data. `costs`, forwards, backwards and seconds by name, are taken out: they are those of training."""


@runtime_checkable
class UncertainExplainer(Protocol):
    """An explainer that knows how sure it is."""

    def interval(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the lower and the upper ends (B, G) of the attribution of inputs x (B, ...)."""


_CONDITION = r"(with|unless) \w+=[\w.]+( or [\w.]+)*"
_WHETHER = rf"yes|no|{_CONDITION}", "'yes', 'no', or for which values of a parameter: 'with p=a or b', 'unless p=a'"
_WORDS = r"[^\n]{1,120}", "a line of up to 120 letters"
TOLD: dict[str, tuple[str, str]] = {
    "training rows": _WHETHER,
    "labels": _WHETHER,
    "prediction": _WORDS,
    "gradients": _WHETHER,
    "hidden states": _WHETHER,
    "optimises": _WORDS,
    "sign": (rf"(un)?signed( {_CONDITION})?", "'signed' or 'unsigned', perhaps 'unless p=a'"),
    "rows an explanation": _WORDS,
    "rows in training": _WORDS,
}
"""What a method may say that it is told, and makes of it: the fact `told` of its registration, and how it is written.

What is left out is "no": it is not told that."""


def told_of(told: Mapping[str, str]) -> dict[str, str]:
    """Return what a method is told, every item of `TOLD` filled in; nothing at all is not stated."""
    return {item: told.get(item, "no") if told else "not stated" for item in TOLD}


PACKAGES = ("methods", "deepfaith")
"""Where methods are found."""
METHODS: Registry[type[Method]] = Registry(
    "method",
    "METHODS",
    Method,
    {"kind": a_text, "modalities": some_of(*get_args(Modality)), "group": a_text, "told": texts(TOLD)},
)
TASKS: Registry[Callable[[], TaskSpec]] = Registry(
    "task",
    "TASKS",
    facts={"modality": one_of(*get_args(Modality)), "group": a_text},
    of_file="a task of a file is FILE.py:NAME",
)
