"""DeepFaith as a method of the benchmark: trained when prepared, cached by the hash of task, recipe and seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

from benchmark.core.errors import UsageError
from benchmark.core.identity import source_digest, training_digest
from benchmark.core.parameters import Space, bounded, configure, parameters, with_defaults
from benchmark.core.store import EXPLAINERS, EXPLANATIONS, Made, key_of
from benchmark.core.types import METHODS, Attribute, Method, Modality, Task, TaskSpec, Told
from benchmark.learning.fitting import Fitting
from benchmark.learning.sizes import HEADS, SIZES
from benchmark.modalities.building import explainer_path, origin_of
from benchmark.running.presets import PRESETS
from deepfaith.drawing import Drawing
from deepfaith.fitted import Fitted, fitted
from deepfaith.hyperparameters import Hyperparameters
from deepfaith.schedule import DECAYS, DYNAMIC, Schedule
from deepfaith.supervision import Prior
from deepfaith.training import train

FORMS = ("signed", "unit")
CONDITIONING = ("margin", "class", "nothing")
DEFAULTS: dict[Modality, dict[str, Any]] = {
    "table": {"iterations": 2000, "batch": 128, "copies": 32, "subsets": 64, "dropout": 0.0,
              "rate": 2e-3, "rows": 400, "share": 0.3, "least": 1.0, "mix": 0.25, "hide": 0.0, "settled": 1e-3},
    "text": {"iterations": 3000, "batch": 48, "copies": 16, "subsets": 12, "dropout": 0.1,
             "rate": 1e-3, "rows": 200, "share": 0.5, "least": 0.04, "mix": 0.1, "hide": 0.1, "settled": 2e-3},
    "image": {"iterations": 2000, "batch": 32, "copies": 8, "subsets": 12, "dropout": 0.0,
              "rate": 1e-3, "rows": 64, "share": 0.5, "least": 0.04, "mix": 0.3, "hide": 0.3, "settled": 2e-3},
}  # fmt: skip
AS_THEY_ARE = (
    "width", "depth", "dropout", "form", "conditioning", "rows", "similarity", "quantile", "batch", "copies",
    "compiled",
)  # fmt: skip
"""Settings that the recipe has under the same name."""


@METHODS.register("deepfaith", kind="learned", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class DeepFaith(Method):
    """One forward pass of a Transformer trained to be faithful (DeepFaith, ICLR 2026, arXiv 2508.03586).

    Departures, each of which an option takes back: attributions are signed, the explainer is given the model's
    prediction, and inputs go beyond the training rows. What it explains is the probability of the predicted class, as
    the metrics ask it: local correlation is with how far that falls.

    Args:
        form: of attributions, `signed`, or `unit` for the paper's [0, 1].
        conditioning: what the explainer is given of the prediction: `margin` and class, `class`, or `nothing`, as in
            the paper.
        alpha: weight of copying prior explanations, -1 for Algorithm 1.
        similarity: delta, the cosine from which two explanations are one; 2 leaves all of them.
        quantile: p, below which in any metric an explanation is not copied; 0 leaves all of them.
        mixing: whether inputs go beyond the training rows.
        priors: the preset under which prior methods run.
        iterations: training steps.
        seconds: ends training in place of `iterations`, the explanations of prior methods included.
        rows: training inputs that prior methods explain.
        batch: inputs a step.
        subsets: removal sets of each.
        share: of features that a removal set removes, on texts and images at most, and down to a 25th of that.
        width: of the encoder, a multiple of its 4 heads.
        depth: layers of the encoder.
        rate: peak of the learning rate.
        compiled: whether the explainer goes through torch.compile, on a GPU alone.

    Example:
        >>> explain = DeepFaith(iterations=500).prepare(task, seed=0)
        >>> explain(x, target)  # (B, G)
    """

    told: ClassVar[Told] = Told(
        training_rows=True,
        prediction="class and margin, unless conditioning says less",
        gradients="of prior methods, unless alpha=0",
        layers="of prior methods, unless alpha=0",
        optimises="correlation over random removal sets, as FC and INF; copies explanations that do well in all ten",
        signed="unless form=unit",
    )
    space: ClassVar[Space] = Space(
        {"alpha": (DYNAMIC, 0.0)},
        {"table": {"share": (0.3, 0.15, 0.5)}, "text": {"share": (0.5, 0.2, 0.8)}, "image": {"share": (0.5, 0.2, 0.8)}},
    )
    only_predicted: ClassVar[bool] = True
    form: str = bounded("signed", among=FORMS)
    conditioning: str = bounded("margin", among=CONDITIONING)
    alpha: float = bounded(DYNAMIC, low=-1, high=1)
    similarity: float = bounded(0.9, low=-1, high=2)
    quantile: float = bounded(0.2, low=0, high=1)
    mixing: bool = True
    priors: str = bounded("standard", among=tuple(PRESETS))
    iterations: int | None = bounded(None, low=1)
    seconds: float | None = bounded(None, above=0)
    rows: int | None = bounded(None, low=2)
    batch: int | None = bounded(None, low=1)
    subsets: int | None = bounded(None, low=2)
    share: float | None = bounded(None, above=0, high=1)
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
        settings = DEFAULTS[modality] | parameters(with_defaults(self, SIZES[modality] | DEFAULTS[modality]))
        settings |= {} if self.mixing else {"mix": 0.0, "hide": 0.0}
        schedule = Schedule(
            settled=settings["settled"],
            decay=settings["iterations"] / DECAYS,
            fixed=DYNAMIC if self.alpha < 0 else self.alpha,
        )
        return Hyperparameters(
            fitting=Fitting(settings["iterations"], settings["rate"], seconds=self.seconds),
            drawing=Drawing(
                subsets=settings["subsets"],
                low=settings["share"] * settings["least"],
                high=settings["share"],
                mix=settings["mix"],
                hide=settings["hide"],
            ),
            schedule=schedule,
            heads=HEADS,
            **{name: settings[name] for name in AS_THEY_ARE},
        )

    def learns_from(self, modality: Modality) -> list[Method]:
        """Return the prior methods whose explanations are copied."""
        return [method for _, method in priors_for(modality, self.priors)]

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; the explainer is a `TrainedExplainer`.

        Raises:
            DivergedError: a loss is not finite.
        """
        recipe = self.recipe(task.modality)
        priors = priors_for(task.modality, self.priors)
        path = stored_path(task, recipe, priors, seed)

        def make() -> Made:
            prior_path = partial(explanations_path, task, recipe, seed)
            explainer, report = train(task, recipe, seed, priors, path.with_suffix(".pt"), prior_path)
            return Fitted(explainer, report=report).made()

        state, facts = EXPLAINERS.get(path, make, fitted)
        return fitted(state, facts, task.model, str(task.train.x.device))


def stored_path(task: Task, recipe: Hyperparameters, priors: list[Prior], seed: int) -> Path:
    """Return where the explainer of a task, recipe and seed is, or will be."""
    copied = [origin_of(name, prior, task) for name, prior in priors]
    return explainer_path("deepfaith", "deepfaith.training", task, recipe.plain(), copied, seed)


def explanations_path(task: Task, recipe: Hyperparameters, seed: int, name: str, prior: Method) -> Path:
    """Return where a prior method's explanations of a task's training inputs are, or will be; recipes may share it."""
    rows = source_digest("deepfaith.supervision"), training_digest(task), recipe.rows, recipe.held_out, seed
    folder = f"{task.name}-{key_of(*rows)}"
    return EXPLANATIONS.path(f"{folder}/{name}", origin_of(name, prior, task))


def priors_for(modality: Modality, preset: str = "standard") -> list[Prior]:
    """Return the benchmark's own baselines for a modality, in their registered order, as under `preset`."""
    priors = []
    for name in METHODS.names():
        entry = METHODS.entry(name)
        is_baseline = entry.built_in and entry.facts.get("kind") == "baseline"
        if is_baseline and modality in entry.facts["modalities"]:
            cls = METHODS.get(name)
            priors.append((name, configure(cls, name, PRESETS[preset].given(cls, {}))))
    return priors
