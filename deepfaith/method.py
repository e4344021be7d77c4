"""DeepFaith as a method of the benchmark: trained in place, kept by the hash of task, recipe and seed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benchmark.errors import UsageError
from benchmark.models.sizes import HEADS, SIZES
from benchmark.presets import PRESETS
from benchmark.registry import BY_MODALITY, bounded, configure, filled
from benchmark.types import METHODS, Attribute, Method, Modality, Task

if TYPE_CHECKING:
    from pathlib import Path

    from deepfaith.supervision import Prior
    from deepfaith.training import Recipe

OUTPUTS = ("signed", "unit")
TOLD = ("margin", "class", "nothing")
VERSION = 1
"""Raised when training changes, so that no cached explainer outlives it."""
USUAL: dict[Modality, dict[str, Any]] = {
    "table": {"iterations": 2000, "batch": 128, "copies": 32, "subsets": 64, "dropout": 0.0,
              "rate": 2e-3, "rows": 400, "low": 0.3, "high": 0.3, "mix": 0.25, "hide": 0.0, "settled": 1e-3},
    "text": {"iterations": 3000, "batch": 48, "copies": 16, "subsets": 12, "dropout": 0.1,
             "rate": 1e-3, "rows": 200, "low": 0.02, "high": 0.5, "mix": 0.1, "hide": 0.1, "settled": 2e-3},
    "image": {"iterations": 2000, "batch": 32, "copies": 8, "subsets": 12, "dropout": 0.0,
              "rate": 1e-3, "rows": 64, "low": 0.02, "high": 0.5, "mix": 0.3, "hide": 0.3, "settled": 2e-3},
}  # fmt: skip
DECAYS = 20.0
"""How often the decay constant of Algorithm 1 fits into the iterations: copying is over in the first half."""


@METHODS.register("deepfaith", kind="learned", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class DeepFaith(Method):
    """One forward pass of a Transformer trained to be faithful (DeepFaith, ICLR 2026, arXiv 2508.03586).

    `output`: signed, or unit for the paper's [0, 1]; `told`: what the explainer hears of the prediction (margin and
    class, class, or nothing, as in the paper); `alpha`: weight of copying prior explanations, -1 for Algorithm 1;
    `similarity` delta and `quantile` p choose what is copied (2 and 0: everything); `mixing`: whether inputs go beyond
    the training rows; `priors`: the preset under which prior methods run. 0 elsewhere means the modality's default.
    """

    output: str = bounded("signed", among=OUTPUTS)
    told: str = bounded("margin", among=TOLD)
    alpha: float = bounded(-1.0, low=-1, high=1)
    similarity: float = bounded(0.9, low=-1, high=2)
    quantile: float = bounded(0.2, low=0, high=1)
    mixing: bool = True
    priors: str = bounded("standard", among=tuple(PRESETS))
    iterations: int = bounded(BY_MODALITY, low=0)
    rows: int = bounded(BY_MODALITY, low=0)
    batch: int = bounded(BY_MODALITY, low=0)
    subsets: int = bounded(BY_MODALITY, low=0)
    width: int = bounded(BY_MODALITY, low=0)
    depth: int = bounded(BY_MODALITY, low=0)
    rate: float = bounded(float(BY_MODALITY), low=0)
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.width % HEADS:
            raise UsageError(f"deepfaith[width] expects a multiple of {HEADS}, got {self.width}")

    def recipe(self, modality: Modality) -> Recipe:
        """Return every setting of the training, defaults of the modality filled in."""
        from benchmark.models.fitting import Fitting
        from deepfaith.drawing import Drawing
        from deepfaith.schedule import DYNAMIC, Schedule
        from deepfaith.training import Recipe

        own = filled(self, SIZES[modality] | USUAL[modality]) | ({} if self.mixing else {"mix": 0.0, "hide": 0.0})
        return Recipe(
            fitting=Fitting(own["iterations"], own["rate"]),
            drawing=Drawing(own["subsets"], own["low"], own["high"], own["mix"], own["hide"]),
            schedule=Schedule(
                settled=own["settled"], decay=own["iterations"] / DECAYS,
                fixed=DYNAMIC if self.alpha < 0 else self.alpha,
            ),
            width=own["width"], depth=own["depth"], heads=HEADS, dropout=own["dropout"],
            output=self.output, told=self.told, rows=own["rows"], similarity=self.similarity, quantile=self.quantile,
            batch=own["batch"], copies=own["copies"], compiled=self.compiled,
        )  # fmt: skip

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; the explainer has a `report`.

        Raises:
            DivergedError: a loss is not finite.
            DataError: a kept explainer is damaged.
        """
        from benchmark.models.cache import kept
        from deepfaith.fitted import Fitted, fitted
        from deepfaith.training import train

        recipe = self.recipe(task.modality)
        priors = priors_for(task, self.priors)
        path = explainer_path(task, recipe, priors, seed)

        def make() -> Any:
            shelf = explanations_path(task, recipe, priors, seed)
            explainer, report = train(task, recipe, seed, priors, path.with_suffix(".pt"), shelf)
            return Fitted(explainer, report=report).made()

        state, facts = kept(path, make, "explainer")
        return fitted(state, facts, task.model, str(task.train.x.device), path)


def explainer_path(task: Task, recipe: Recipe, priors: list[Prior], seed: int) -> Path:
    """Return where the explainer of a task, recipe and seed is, or will be."""
    from benchmark.tasks.building import kept_path

    return kept_path("deepfaith", VERSION, task, recipe.plain(), _plain(priors), seed)


def explanations_path(task: Task, recipe: Recipe, priors: list[Prior], seed: int) -> Path:
    """Return the folder of what prior methods say of a task's training inputs; recipes may share it."""
    from benchmark.data.source import cache_folder
    from benchmark.models.cache import key_of
    from benchmark.tasks.building import task_identity

    key = key_of(VERSION, *task_identity(task), recipe.rows, recipe.held_out, _plain(priors), seed)
    return cache_folder() / "explanations" / f"{task.name}-{key}"


def _plain(priors: list[Prior]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, asdict(prior)) for name, prior in priors]  # type: ignore[call-overload]


def priors_for(task: Task, preset: str = "standard") -> list[Prior]:
    """Return the benchmark's own baselines for a task's modality, in their registered order, as under `preset`."""
    found = []
    for name in METHODS.names():
        entry = METHODS.entry(name)
        own = entry.module.startswith("methods.") and entry.facts.get("kind") == "baseline"
        if own and task.modality in entry.facts["modalities"]:
            cls = METHODS.get(name)
            found.append((name, configure(cls, name, PRESETS[preset].given(cls, {}))))
    return found
