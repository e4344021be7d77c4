"""DeepFaith that is given hints, as a method of the benchmark: trained when prepared, cached like `deepfaith`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from benchmark.core.errors import UsageError
from benchmark.core.parameters import Space, bounded, parameters, with_defaults
from benchmark.core.seeding import seed_for
from benchmark.core.types import METHODS, Attribute, Method, Modality, Task, TaskSpec, Told
from benchmark.learning.fitting import Fitting
from benchmark.learning.hints import USUAL, Hints
from benchmark.learning.sizes import HEADS
from benchmark.scoring.masked_model import MaskedModel
from deepfaith.hinted.distilling import Distilling, without_hints
from deepfaith.hinted.ensemble import agreed, report_of
from deepfaith.hinted.explainer import HintedExplainer
from deepfaith.hinted.groups import MIXED
from deepfaith.hinted.hyperparameters import HintedHyperparameters
from deepfaith.hinted.stored import trained_member, trained_student
from deepfaith.hinted.training import NOTHING, attribution_of, prepared

CHECKS, PATIENCE = 10, 6
DEFAULTS: dict[Modality, dict[str, Any]] = {
    "table": {"gains": True, "additive": True, "separate": False, "ordering": 0.1, "noise": 0.3,
              "iterations": 1500, "batch": 128, "sets": 24, "width": 48, "depth": 2, "rate": 2e-3, "mix": 0.25,
              "fresh": 128, "every": 1, "pool": 512, "validation": 128, "ensemble": 1, "copied": 4000},
    "text": {"gains": True, "additive": False, "separate": True, "ordering": 1.0, "noise": 0.3,
             "iterations": 600, "batch": 48, "sets": 8, "width": 64, "depth": 2, "rate": 1e-3, "mix": 0.0,
             "fresh": 64, "every": 10, "pool": 2560, "validation": 64, "ensemble": 1, "copied": 6000},
    "image": {"gains": True, "additive": False, "separate": True, "ordering": 1.0, "noise": 1.0,
              "iterations": 1500, "batch": 96, "sets": 8, "width": 64, "depth": 2, "rate": 1e-3, "mix": 0.0,
              "fresh": 96, "every": 4, "pool": 1536, "validation": 48, "ensemble": 1, "copied": 6000},
}  # fmt: skip
LARGE_IMAGE = {"iterations": 400, "batch": 16, "fresh": 16, "every": 8, "pool": 256, "validation": 6,
               "ensemble": 1, "copied": 400}  # fmt: skip
"""In place of these, on images of more than `LARGE` features, on which a forward costs far more."""
LARGE = 2**10
DISTILLING: dict[Modality, int] = {"table": 2, "text": 4, "image": 2}
"""As many members' shares of the iterations go to distilling."""
STARTS, LOSSES = ("best", NOTHING), ("groups", MIXED)
TRAINED_IN = (
    "gains", "additive", "separate", "ordering", "noise", "width", "depth", "batch", "sets", "mix", "fresh", "every",
    "pool", "validation",
)  # fmt: skip
"""Settings that the recipe has under the same name."""


@METHODS.register("deepfaith_hinted", kind="learned", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class HintedDeepFaith(Method):
    """DeepFaith given gradients: learns how each feature's log-odds gradients, on the way to the input, are weighed.

    Our variant of DeepFaith (ICLR 2026, arXiv 2508.03586). Like it, an explainer is trained to correlate with what
    removals do, and then explains at the cost of a few rows. Unlike it, it is given hints, untrained attributions of
    the input; attributions begin as the best combination of them on training rows, which takes part in validation, so
    that training does not lower their mean value in the ten metrics there; removal sets are drawn in groups as metrics
    draw them; and, but on tables, order and size of attributions are two outputs, joined by isotonic regression.
    No method's explanations are copied.

    Args:
        points: places on the way from the removal baseline to the input, each a row forward and backward; with 0, and
            without rules, there are no hints.
        rules: whether LRP and DeepLIFT are hints too, on images.
        gains: whether gains are learned; otherwise hints are weighed as at the start, which needs `additive=true`.
        additive: whether numbers that no hint is a factor of are added to the weighed hints.
        separate: whether order and size are two outputs, joined by isotonic regression; otherwise one is both.
        start: `best` begins at the best untrained combination of hints, `nothing` with all gains 0.
        loss: `groups` correlates inside groups of removal sets that are drawn as metrics draw them, `mixed` over as
            many sets of mixed sizes, as `deepfaith` does, which is of one output.
        ensemble: explainers that are trained, each from a seed of its own; their orders and sizes are averaged.
        distilled: whether an explainer that is given no hints is trained to give their order and sizes, and explains in
            their place: in one row forward, without gradients. On images of more than 1024 pixels it gives one number a
            patch.
        copied: inputs whose order and sizes it is given; it trains on nine in ten of them, and the others validate.
        iterations: training steps, which members share equally; distilling counts as two members, on texts as four. 0
            gives the start, which needs `start=best`.
        seconds: ends training in place of `iterations`, and is shared alike.
        batch: inputs a step.
        sets: removal sets of each group and input.
        noise: how far removal sets in an order may be from the explainer's order.
        ordering: weight of cuts of orders in the loss, beside 1 for removal sets of a size.
        width: of the encoder, a multiple of its 4 heads.
        depth: layers of the encoder.
        rate: peak of the learning rate.

    Example:
        >>> explain = HintedDeepFaith(iterations=200).prepare(task, seed=0)
        >>> explain(x, target)  # (B, G)
    """

    told: ClassVar[Told] = Told(
        training_rows=True,
        prediction="class and margin",
        gradients="unless points=0 and rules=false; with distilled=true of training rows alone",
        layers="in texts, word vectors; in images what all layers take and give, and their weights",
        optimises="correlation over removal sets as of FC, FE, INF, DEL and INS; all ten choose start and weights",
    )
    space: ClassVar[Space] = Space(
        {"noise": (0.3, 1.0), "rate": (1e-3, 2e-3)},
        by_rows={
            5: {"points": (2,), "rules": (False,)},
            60: {"points": (3, 5, 10)},
            500: {"points": (10, 30)},
            None: {"points": (10, 30)},
        },
    )
    only_predicted: ClassVar[bool] = True
    points: int | None = bounded(None, low=0)
    rules: bool | None = None
    gains: bool | None = None
    additive: bool | None = None
    separate: bool | None = None
    start: str = bounded("best", among=STARTS)
    loss: str = bounded("groups", among=LOSSES)
    ensemble: int | None = bounded(None, low=1)
    distilled: bool = False
    copied: int | None = bounded(None, low=2)
    iterations: int | None = bounded(None, low=0)
    seconds: float | None = bounded(None, above=0)
    batch: int | None = bounded(None, low=1)
    sets: int | None = bounded(None, low=2)
    noise: float | None = bounded(None, low=0)
    ordering: float | None = bounded(None, low=0)
    width: int | None = bounded(None, low=HEADS)
    depth: int | None = bounded(None, low=1)
    rate: float | None = bounded(None, low=0)

    def __post_init__(self) -> None:
        if self.width is not None and self.width % HEADS:
            raise UsageError(f"deepfaith_hinted[width] expects a multiple of {HEADS}, got {self.width}")
        if self.loss == MIXED and self.separate:
            raise UsageError("deepfaith_hinted[loss=mixed] trains one output: leave out separate=true")
        if self.gains is False and self.start == NOTHING:
            raise UsageError("deepfaith_hinted[gains=false] weighs hints as at the start: leave out start=nothing")
        if self.iterations == 0 and self.start == NOTHING:
            raise UsageError("deepfaith_hinted[start=nothing] has no start for iterations=0 to give: leave out one")
        if self.iterations == 0 and self.distilled:
            raise UsageError("deepfaith_hinted[distilled=true] trains: leave out iterations=0")

    def unsupported(self, spec: TaskSpec) -> str | None:
        """See `Method`."""
        if self.rules and spec.modality != "image":
            return "rules=true asks for LRP and DeepLIFT, which are hints on images alone"
        settings = parameters(self.resolved(spec))
        has_hints = settings["points"] > 0 or settings["rules"]
        if settings["iterations"] == 0 and not has_hints:
            return "points=0 leaves no hints, and so no start for iterations=0 to give"
        if settings["iterations"] and not settings["additive"] and not (has_hints and settings["gains"]):
            lacks = "gains=false learns nothing" if has_hints else "points=0 leaves no hints"
            return f"{lacks} on {spec.modality}s without additive=true"
        return None

    def resolved(self, task: Task | TaskSpec) -> Self:
        """See `Method`."""
        defaults = defaults_for(task) | ({"separate": False} if self.loss == MIXED else {})
        defaults["iterations"] *= self._shares(task)
        return with_defaults(self, defaults)

    def _shares(self, task: Task | TaskSpec) -> int:
        """Return in how many equal parts training is shared, of which each member has one."""
        ensemble = defaults_for(task)["ensemble"] if self.ensemble is None else self.ensemble
        return ensemble + self._distilling_shares(task)

    def _distilling_shares(self, task: Task | TaskSpec) -> int:
        return DISTILLING[task.modality] if self.distilled else 0

    def recipe(self, task: Task | TaskSpec) -> HintedHyperparameters:
        """Return every setting of the training on a task, its defaults filled in."""
        settings = defaults_for(task) | parameters(self.resolved(task))
        return HintedHyperparameters(
            hints=Hints(settings["points"], settings["rules"]),
            fitting=Fitting(
                settings["iterations"], settings["rate"], checks=CHECKS, patience=PATIENCE, seconds=self.seconds,
                from_start=True,
            ).part(self._shares(task)),
            start=self.start,
            loss=self.loss,
            heads=HEADS,
            dropout=0.0,
            **{name: settings[name] for name in TRAINED_IN},
        )  # fmt: skip

    def learns_from(self, modality: Modality) -> list[Method]:
        """Return the methods whose attributions are hints."""
        rules = USUAL[modality].rules if self.rules is None else self.rules
        return list(Hints(1, rules).methods().values())

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`; the explainer is a `TrainedExplainer`.

        Raises:
            DivergedError: a loss is not finite.
            NoGradientError: no gradient passes the model.
        """
        recipe = self.recipe(task)
        settings = parameters(self.resolved(task))
        seeds = [seed if i == 0 else seed_for(seed, "member", i) for i in range(settings["ensemble"])]
        members = [trained_member(task, recipe, one) for one in seeds]
        explainers = [explainer for explainer, _ in members]
        reports = {f"member {i + 1}": report for i, (_, report) in enumerate(members)}
        if self.distilled:
            distilling = Distilling.of(recipe.fitting, self._distilling_shares(task), settings["copied"])
            student, reports["distilled"] = trained_student(task, recipe, explainers, distilling, seed)
            explainers, recipe = [student], without_hints(recipe)
        return TrainedHinted(task, recipe, explainers, report_of(reports))


def defaults_for(task: Task | TaskSpec) -> dict[str, Any]:
    """Return every setting that is left to the task."""
    large = task.modality == "image" and task.n_features > LARGE
    return parameters(USUAL[task.modality]) | DEFAULTS[task.modality] | (LARGE_IMAGE if large else {})


@dataclass(frozen=True, eq=False)
class TrainedHinted:
    """A trained hinted explainer: an `Attribute` with a `report`.

    Attributes:
        task: model and removal; its rows play no part.
        recipe: all settings.
        explainers: the networks, on which order and size are averaged.
        report: of training.
    """

    task: Task
    recipe: HintedHyperparameters
    explainers: Sequence[HintedExplainer]
    report: dict[str, Any]

    def __call__(self, x: Tensor, target: Tensor) -> Tensor:
        """Return attributions (B, G) of the classes that the model predicts."""
        given, _ = prepared(self.task, self.recipe, x, MaskedModel(self.task))
        with torch.no_grad():
            order, size = agreed(self.explainers, given, self.recipe.batch)
        return attribution_of(self.recipe, order, size, self.task.removal.valid(x))
