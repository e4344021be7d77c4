"""DeepFaith as a method of the benchmark: trained in place, kept by the hash of task, recipe and seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from benchmark.core.errors import UsageError
from benchmark.core.parameters import bounded, configure, parameters, with_defaults
from benchmark.core.types import METHODS, Attribute, Method, Modality, Task, TaskSpec
from benchmark.learning.sizes import HEADS, SIZES
from benchmark.running.presets import PRESETS

if TYPE_CHECKING:
    from pathlib import Path

    from deepfaith.supervision import Prior
    from deepfaith.training import Hyperparameters

OUTPUTS = ("signed", "unit")
CONDITIONING = ("margin", "class", "nothing")
DEFAULTS: dict[Modality, dict[str, Any]] = {
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

    `output`: signed, or unit for the paper's [0, 1]; `conditioning`: what the explainer is given of the prediction
    (margin and class, class, or nothing, as in the paper); `alpha`: weight of copying prior explanations, -1 for
    Algorithm 1; `similarity` delta and `quantile` p choose what is copied (2 and 0: everything); `mixing`: whether
    inputs go beyond the training rows; `priors`: the preset under which prior methods run.
    """

    output: str = bounded("signed", among=OUTPUTS)
    conditioning: str = bounded("margin", among=CONDITIONING)
    alpha: float = bounded(-1.0, low=-1, high=1)
    similarity: float = bounded(0.9, low=-1, high=2)
    quantile: float = bounded(0.2, low=0, high=1)
    mixing: bool = True
    priors: str = bounded("standard", among=tuple(PRESETS))
    iterations: int | None = bounded(None, low=1)
    rows: int | None = bounded(None, low=2)
    batch: int | None = bounded(None, low=1)
    subsets: int | None = bounded(None, low=2)
    width: int | None = bounded(None, low=HEADS)
    depth: int | None = bounded(None, low=1)
    rate: float | None = bounded(None, low=0)
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.width is not None and self.width % HEADS:
            raise UsageError(f"deepfaith[width] expects a multiple of {HEADS}, got {self.width}")

    def resolved(self, task: Task | TaskSpec) -> Self:
        """See `Method`."""
        return with_defaults(self, SIZES[task.modality] | DEFAULTS[task.modality])

    def recipe(self, modality: Modality) -> Hyperparameters:
        """Return every setting of the training, defaults of the modality filled in."""
        from benchmark.learning.fitting import Fitting
        from deepfaith.drawing import Drawing
        from deepfaith.schedule import DYNAMIC, Schedule
        from deepfaith.training import Hyperparameters

        own = DEFAULTS[modality] | parameters(with_defaults(self, SIZES[modality] | DEFAULTS[modality]))
        own |= {} if self.mixing else {"mix": 0.0, "hide": 0.0}
        return Hyperparameters(
            fitting=Fitting(own["iterations"], own["rate"]),
            drawing=Drawing(own["subsets"], own["low"], own["high"], own["mix"], own["hide"]),
            schedule=Schedule(
                settled=own["settled"], decay=own["iterations"] / DECAYS,
                fixed=DYNAMIC if self.alpha < 0 else self.alpha,
            ),
            width=own["width"], depth=own["depth"], heads=HEADS, dropout=own["dropout"],
            output=self.output, conditioning=self.conditioning, rows=own["rows"],
            similarity=self.similarity, quantile=self.quantile,
            batch=own["batch"], copies=own["copies"], compiled=self.compiled,
        )  # fmt: skip

    def learns_from(self, modality: Modality) -> list[Method]:
        """Return the prior methods whose explanations are copied."""
        return [method for _, method in priors_for(modality, self.priors)]

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; the explainer has a `report`.

        Raises:
            DivergedError: a loss is not finite.
        """
        from benchmark.core.store import kept
        from deepfaith.fitted import Fitted, fitted
        from deepfaith.training import train

        recipe = self.recipe(task.modality)
        priors = priors_for(task.modality, self.priors)
        path = kept_path(task, recipe, priors, seed)

        def make() -> Any:
            prior_path = partial(explanations_path, task, recipe, seed)
            explainer, report = train(task, recipe, seed, priors, path.with_suffix(".pt"), prior_path)
            return Fitted(explainer, report=report).made()

        state, facts = kept(path, make, "explainer", fitted)
        return fitted(state, facts, task.model, str(task.train.x.device))


def kept_path(task: Task, recipe: Hyperparameters, priors: list[Prior], seed: int) -> Path:
    """Return where the explainer of a task, recipe and seed is, or will be."""
    from benchmark.modalities.building import explainer_path

    copied = [plain_prior(name, prior, task) for name, prior in priors]
    return explainer_path("deepfaith", "deepfaith.training", task, recipe.plain(), copied, seed)


def explanations_path(task: Task, recipe: Hyperparameters, seed: int, name: str, prior: Method) -> Path:
    """Return where what a prior method says of a task's training inputs is, or will be; recipes may share it."""
    from benchmark.core.identity import source_digest, training_digest
    from benchmark.core.sources import cache_folder
    from benchmark.core.store import key_of

    rows = source_digest("deepfaith.supervision"), training_digest(task), recipe.rows, recipe.held_out, seed
    folder = f"{task.name}-{key_of(*rows)}"
    return cache_folder() / "explanations" / folder / f"{name}-{key_of(plain_prior(name, prior, task))}.safetensors"


def plain_prior(name: str, prior: Method, task: Task) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Return what the explanations of a prior method on a task follow from: all its parameters, and its code."""
    from benchmark.core.identity import method_identity

    return name, parameters(prior.resolved(task)), method_identity(prior, task.modality, METHODS.entry(name).module)


def priors_for(modality: Modality, preset: str = "standard") -> list[Prior]:
    """Return the benchmark's own baselines for a modality, in their registered order, as under `preset`."""
    found = []
    for name in METHODS.names():
        entry = METHODS.entry(name)
        own = entry.builtin and entry.facts.get("kind") == "baseline"
        if own and modality in entry.facts["modalities"]:
            cls = METHODS.get(name)
            found.append((name, configure(cls, name, PRESETS[preset].given(cls, {}))))
    return found
