"""Trains an explainer of a task: prior explanations, the joint objective, weights on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.core.seeding import seed_for, seeded
from benchmark.core.types import Split, Task
from benchmark.learning.encoder import shape_of
from benchmark.learning.fitting import fit, iterations
from benchmark.learning.prediction import margins
from benchmark.models.metering import Meter
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.masked_model import MaskedModel
from benchmark.scoring.metrics import TEN
from deepfaith.drawing import Drawn
from deepfaith.explainer import OUTPUTS, Explainer
from deepfaith.hyperparameters import Hyperparameters
from deepfaith.losses import local_correlation, pattern_consistency
from deepfaith.schedule import DECAYS, Schedule
from deepfaith.supervision import Prior, PriorPath, Supervision, supervise

VALIDATION_ROWS, VALIDATION_SUBSETS = 64, 64
NEGLIGIBLE = 1e-12
ACCELERATED = ("cuda",)
"""Where bfloat16 and torch.compile pay."""


@dataclass(frozen=True, eq=False)
class ModelOutput:
    """The explained model's output for B inputs.

    Attributes:
        target: predicted class, (B,).
        margin: by how much its logit leads, (B,) float32.
        clean: its probability, (B, 1) float64.
    """

    target: Tensor
    margin: Tensor
    clean: Tensor


@dataclass(frozen=True, eq=False)
class CopiedBatch:
    """Inputs x (b, ...) with what the explainer is told of them, and explanations (b, G) to copy."""

    x: Tensor
    target: Tensor
    margin: Tensor
    explanations: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the explainer is given."""
        return self.x, self.target, self.margin


@dataclass(frozen=True, eq=False)
class RemovalBatch:
    """Inputs x (b, ...) with the model's output, k removal sets of each, and how much these lower the probability.

    `drops` is v_0 - v_I, (b, k) float32.
    """

    x: Tensor
    output: ModelOutput
    removed: Drawn
    drops: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the explainer is given."""
        return self.x, self.output.target, self.output.margin


class Joint:
    """The objective alpha * L_PC + (1 - alpha) * L_LC, its weights moved by Algorithm 1.

    Where no explanation was worth copying, which the report shows, only L_LC is left.

    Args:
        explainer: is trained.
        task: whose model is asked.
        recipe: all settings.
        inputs: training inputs (N, ...) for L_LC.
        supervision: explanations to copy, if any.
        chosen: which of them are worth it, bool, by input and prior method.
        validation: inputs (V, ...) that are not trained on.
        judged: explanations of the first of these by the prior methods, for the mean rank.
        seed: of the removal sets that validate, and of the evaluator, whose are those that judged the prior methods.
    """

    def __init__(
        self,
        explainer: Explainer,
        task: Task,
        recipe: Hyperparameters,
        inputs: Tensor,
        supervision: Supervision | None,
        chosen: Tensor | None,
        validation: Tensor,
        judged: Supervision | None,
        seed: int,
    ) -> None:
        self.explainer, self.task, self.recipe, self.inputs = explainer, task, recipe, inputs
        self.masked_model, self.judged, self.seed = MaskedModel(task), judged, seed
        self.schedule = recipe.schedule
        self.balance, self.progress = recipe.schedule.start(), 0.0
        self.device = inputs.device
        self.sums = {"copying": 0.0, "correlation": 0.0, "count": 0.0}
        self.pairs = torch.zeros(0, 2, dtype=torch.long, device=self.device)  # of an input and a prior method
        if supervision is not None and chosen is not None and bool(chosen.any()):
            self.pairs = chosen.nonzero().to(self.device)
            self.copied, self.attributions = supervision.x, supervision.attributions
            self.copied_output = self.query(supervision.x)
        forward = explainer.forward
        self.accelerated = self.device.type in ACCELERATED
        self.forward = torch.compile(forward) if recipe.compiled and self.accelerated else forward
        generator = torch.Generator(self.device).manual_seed(seed_for(seed, "validation"))
        drawing = replace(recipe.drawing, subsets=VALIDATION_SUBSETS)
        removed = drawing.removals(task, validation, generator)
        output = self.query(validation)
        self.held = RemovalBatch(validation, output, removed, self.drops(validation, removed, output))
        self.evaluator: Evaluator | None = None

    @torch.no_grad()
    def query(self, x: Tensor) -> ModelOutput:
        """Ask the model about whole inputs x (B, ...)."""
        logits = self.masked_model.batching.ask(x, lambda rows: self.task.model(x[rows]).double())
        target = logits.argmax(1)
        return ModelOutput(target, margins(logits, target).float(), logits.softmax(1).gather(1, target.unsqueeze(1)))

    def drops(self, x: Tensor, removed: Drawn, output: ModelOutput) -> Tensor:
        """Return v_0 - v_I of each removal set, (B, k)."""
        return (output.clean - self.masked_model.query(x, output.target, removed).prob).float().clone()

    def explain(self, x: Tensor, target: Tensor, margin: Tensor) -> Tensor:
        """Return attributions (B, G) in float32, on a GPU computed in bfloat16 where the recipe is mixed."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.mixed and self.accelerated):
            scores = self.forward(x, target, margin)
        return scores.float()

    def loss(self, generator: torch.Generator) -> Tensor:
        """See `Objective`. What has no weight is not asked; both batches pass the explainer together."""
        alpha = self.balance.alpha if len(self.pairs) else 0.0
        copies = len(self.pairs) > 0 and (alpha > NEGLIGIBLE or self.schedule.dynamic)
        copied = self._draw_copied(generator) if copies else None
        removal = self._draw_removals(generator) if alpha < 1 - NEGLIGIBLE else None

        batches = [batch.inputs for batch in (copied, removal) if batch is not None]
        x, target, margin = (torch.cat(column) for column in zip(*batches, strict=True))
        scores = self.explain(x, target, margin)  # of what is copied first, then of what has removal sets

        copying = correlation = scores.new_zeros(())
        if copied is not None:
            valid = self.task.removal.valid(copied.x)
            copying = pattern_consistency(scores[: len(copied.x)], copied.explanations, valid)
        if removal is not None:
            correlation = local_correlation(scores[-len(removal.x) :], removal.removed.masks, removal.drops)
        self.balance = self._schedule().step(self.balance, float(copying.detach()))
        self._count(copying, correlation)
        return alpha * copying + (1 - alpha) * correlation

    def _schedule(self) -> Schedule:
        """Return the settings of Algorithm 1; where training ends by seconds, C follows from the iterations so far."""
        if self.recipe.fitting.seconds is None or not self.progress:
            return self.schedule
        return replace(self.schedule, decay=self.balance.iteration / self.progress / DECAYS)

    def _draw_copied(self, generator: torch.Generator) -> CopiedBatch:
        """Draw explanations to copy, with replacement."""
        count = min(self.recipe.copies, len(self.pairs))
        drawn = torch.randint(len(self.pairs), (count,), generator=generator, device=self.device)
        rows, priors = self.pairs[drawn].unbind(1)
        output = self.copied_output
        return CopiedBatch(self.copied[rows], output.target[rows], output.margin[rows], self.attributions[rows, priors])

    def _draw_removals(self, generator: torch.Generator) -> RemovalBatch:
        """Draw inputs, which mix two training rows each, and removal sets, and ask the model about them."""
        drawing, shape = self.recipe.drawing, (2, self.recipe.batch)
        rows, others = torch.randint(len(self.inputs), shape, generator=generator, device=self.device)
        x = drawing.inputs(self.task, self.inputs[rows], self.inputs[others], generator)
        output = self.query(x)
        removed = drawing.removals(self.task, x, generator)
        return RemovalBatch(x, output, removed, self.drops(x, removed, output))

    def _count(self, copying: Tensor, correlation: Tensor) -> None:
        self.sums["copying"] += float(copying.detach())
        self.sums["correlation"] += float(correlation.detach())
        self.sums["count"] += 1

    def validate(self) -> dict[str, float]:
        """See `Objective`: L_LC on inputs that are not trained on, and the mean rank there among the priors."""
        count = max(1.0, self.sums["count"])
        figures = {"copying": self.sums["copying"] / count, "correlation": self.sums["correlation"] / count}
        figures["alpha"] = self.balance.alpha
        if self.schedule.dynamic and len(self.pairs) and self.balance.converged_at is None:
            figures["waiting"] = 1.0  # local correlation has no weight yet
        self.sums = dict.fromkeys(self.sums, 0.0)
        rows = max(1, self.recipe.batch)
        batches = zip(*(column.split(rows) for column in self.held.inputs), strict=True)
        scores = torch.cat([self.explainer(*batch) for batch in batches])
        figures["loss"] = float(local_correlation(scores, self.held.removed.masks, self.held.drops))
        if self.judged is not None:
            figures["mean_rank"] = self._mean_rank(self.judged, scores[: len(self.judged.x)])
        return figures

    def _mean_rank(self, judged: Supervision, scores: Tensor) -> float:
        """Return the mean rank of attributions `scores` (N, G) among those of the prior methods."""
        if self.evaluator is None:
            rows = replace(self.task, test=Split(judged.x, judged.target), evidence=None, target="predicted")
            self.evaluator = Evaluator(rows, seed_for(self.seed, "supervision"), metrics=TEN)
        by_metric = self.evaluator.score(scores).scores
        return judged.mean_rank(torch.stack([by_metric[metric] for metric in TEN], 1))

    def state(self) -> dict[str, Any]:
        """See `Objective`."""
        return {"balance": asdict(self.balance), "sums": self.sums}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Objective`."""
        balance, sums = state["balance"], state["sums"]
        self.balance = replace(self.balance, **{**balance, "recent": tuple(balance["recent"])})
        self.sums = sums


@dataclass(frozen=True, eq=False)
class Rows:
    """Which training inputs, by number, do what; those that validate are never trained on.

    Attributes:
        inputs: are trained on for L_LC.
        copied: are explained by prior methods and trained on for L_PC; some of `inputs`.
        validation: validate.
        ranked: are explained by prior methods too, for the mean rank; the first of `validation`.
    """

    inputs: Tensor
    copied: Tensor
    validation: Tensor
    ranked: Tensor


def divide(task: Task, recipe: Hyperparameters, seed: int) -> Rows:
    """Return what each training input is for, drawn by `seed`."""
    generator = torch.Generator().manual_seed(seed_for(seed, "rows"))
    drawn = torch.randperm(len(task.train.x), generator=generator).to(task.train.x.device)
    explained = min(recipe.rows, len(drawn))
    ranked = max(1, round(recipe.held_out * explained))
    held = max(ranked, min(VALIDATION_ROWS, round(recipe.held_out * len(drawn))))
    return Rows(
        inputs=drawn[held:],
        copied=drawn[held : held + explained - ranked],
        validation=drawn[:held],
        ranked=drawn[:ranked],
    )


def train(
    task: Task,
    recipe: Hyperparameters,
    seed: int,
    priors: Sequence[Prior],
    checkpoint: Path | None = None,
    prior_path: PriorPath | None = None,
) -> tuple[Explainer, dict[str, Any]]:
    """Train an explainer of `task`.

    Args:
        task: its training inputs are used, without their labels.
        recipe: all settings.
        seed: of everything that is drawn.
        priors: methods whose explanations are copied.
        checkpoint: from which work that was interrupted goes on.
        prior_path: where the explanations of prior methods are stored.

    Returns:
        The trained explainer, and a report: `curves`, `costs` and, where priors were asked, what was `copied`.

    Raises:
        DivergedError: a loss is not finite.
    """
    meter, rows, x = Meter(), divide(task, recipe, seed), task.train.x
    supervision = judged = chosen = None
    with meter.phase("supervision", task.model):
        if priors and recipe.schedule.copies:
            explained = x[torch.cat([rows.ranked, rows.copied])]
            whole = supervise(task, explained, priors, seed_for(seed, "supervision"), prior_path)
            judged, supervision = whole.part(slice(0, len(rows.ranked))), whole.part(slice(len(rows.ranked), None))
            chosen = supervision.choose(recipe.similarity, recipe.quantile)
    explainer = _untrained(task, recipe, seed)
    with meter.phase("training", task.model):
        joint = Joint(explainer, task, recipe, x[rows.inputs], supervision, chosen, x[rows.validation], judged, seed)
        fitting = recipe.fitting.less(meter.phases["supervision"].seconds, "explaining by prior methods")
        curves = fit(explainer, joint, fitting, seed, checkpoint, "deepfaith")
    report: dict[str, Any] = {"curves": curves, "iterations": iterations(curves), "costs": meter.summary()}
    if supervision is not None and chosen is not None:
        counts = Counter(supervision.names[column] for column in chosen.nonzero()[:, 1].tolist())
        report["copied"] = {"of": chosen.numel(), "kept": int(chosen.sum()), "by_method": dict(counts)}
    return explainer, report


def _untrained(task: Task, recipe: Hyperparameters, seed: int) -> Explainer:
    """Return an explainer with its first weights, and the word vectors of the task's model."""
    shape = shape_of(task, OUTPUTS, recipe.width, recipe.depth, recipe.heads, recipe.dropout)
    with seeded(seed):
        explainer = Explainer(shape, len(task.class_names), recipe.form, recipe.conditioning)
        explainer = explainer.to(task.train.x.device)
        explainer.backbone.start_from(task)
    return explainer
