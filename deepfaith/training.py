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
from benchmark.learning.fitting import Fitting, fit
from benchmark.models.metering import Meter
from benchmark.scoring.masked_model import MaskedModel
from benchmark.scoring.metrics import TEN
from deepfaith.drawing import Drawing, Drawn
from deepfaith.explainer import OUTPUTS, Explainer, margins
from deepfaith.losses import local_correlation, pattern_consistency
from deepfaith.schedule import Schedule
from deepfaith.supervision import Prior, PriorPath, Supervision, supervise

VALIDATION_ROWS, VALIDATION_SUBSETS = 64, 64
NEGLIGIBLE = 1e-12
QUICK_DEVICES = ("cuda",)
"""Where bfloat16 and torch.compile pay."""


@dataclass(frozen=True)
class Hyperparameters:
    """Everything that makes an explainer but the task and the seed.

    `width`, `depth`, `heads`, `dropout`, `output`, `conditioning`: see `Explainer`. `rows`: training inputs that prior
    methods explain. A share `held_out` of them, and of all training inputs, though not more than 64, is for validation.
    `similarity` delta and `quantile` p choose among the explanations. Each iteration has `batch` inputs for L_LC and
    `copies` chosen explanations for L_PC. `mixed` computes in bfloat16 and `compiled` through torch.compile, both on a
    GPU alone.
    """

    fitting: Fitting
    drawing: Drawing
    schedule: Schedule
    width: int
    depth: int
    heads: int
    dropout: float
    output: str
    conditioning: str
    rows: int
    similarity: float
    quantile: float
    batch: int
    copies: int
    held_out: float = 0.1
    mixed: bool = True
    compiled: bool = False

    def plain(self) -> dict[str, Any]:
        """Return this recipe as plain data."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class ModelOutput:
    """What the model says of inputs: the predicted class (B,), its margin (B,) and its probability (B, 1)."""

    target: Tensor
    margin: Tensor
    clean: Tensor


class Joint:
    """The objective alpha * L_PC + (1 - alpha) * L_LC, its weights moved by Algorithm 1.

    Where no explanation was worth copying, which the report shows, only L_LC is left.
    """

    def __init__(
        self, explainer: Explainer, task: Task, recipe: Hyperparameters, inputs: Tensor,
        supervision: Supervision | None, chosen: Tensor | None, validation: Tensor,
        judged: Supervision | None, seed: int,
    ) -> None:  # fmt: skip
        self.explainer, self.task, self.recipe, self.inputs = explainer, task, recipe, inputs
        self.masked_model, self.judged, self.seed = MaskedModel(task), judged, seed
        self.schedule = recipe.schedule
        self.progress = recipe.schedule.start()
        self.device = inputs.device
        self.sums = {"copying": 0.0, "correlation": 0.0, "count": 0.0}
        if supervision is not None and chosen is not None and bool(chosen.any()):
            self.pairs = chosen.nonzero().to(self.device)
            self.copied, self.attributions = supervision.x, supervision.attributions
            output = self.query(supervision.x)
            self.copied_target, self.copied_margin = output.target, output.margin
        else:
            self.pairs = torch.zeros(0, 2, dtype=torch.long, device=self.device)
        forward = explainer.forward
        self.quick = self.device.type in QUICK_DEVICES
        self.forward = torch.compile(forward) if recipe.compiled and self.quick else forward
        self.validation = validation
        generator = torch.Generator(self.device).manual_seed(seed_for(seed, "validation"))
        drawing = replace(recipe.drawing, subsets=VALIDATION_SUBSETS)
        self.held = drawing.removals(task, validation, generator)
        self.held_output = self.query(validation)
        self.held_drops = self.drops(validation, self.held, self.held_output)

    @torch.no_grad()
    def query(self, x: Tensor) -> ModelOutput:
        """Ask the model about whole inputs."""
        rows = self.masked_model.rows_per_forward(x)
        logits = torch.cat([self.task.model(some).double() for some in x.split(rows)])
        target = logits.argmax(1)
        return ModelOutput(target, margins(logits, target).float(), logits.softmax(1).gather(1, target.unsqueeze(1)))

    def drops(self, x: Tensor, removed: Drawn, output: ModelOutput) -> Tensor:
        """Return v_0 - v_I of each removal set, (B, k)."""
        return (output.clean - self.masked_model.query(x, output.target, removed).prob).float().clone()

    def explain(self, x: Tensor, target: Tensor, margin: Tensor) -> Tensor:
        """Return attributions in float32, computed in bfloat16 on a GPU if wanted."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.mixed and self.quick):
            found = self.forward(x, target, margin)
        return found.float()

    def loss(self, generator: torch.Generator) -> Tensor:
        """See `Objective`."""
        recipe, alpha = self.recipe, self.progress.alpha
        copies = min(recipe.copies, len(self.pairs)) if alpha > NEGLIGIBLE or self.schedule.dynamic else 0
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        if copies:
            picked = self.pairs[torch.randint(len(self.pairs), (copies,), generator=generator, device=self.device)]
            rows = picked[:, 0]
            parts.append((self.copied[rows], self.copied_target[rows], self.copied_margin[rows]))
        removed = drops = None
        if alpha < 1 - NEGLIGIBLE or not len(self.pairs):
            drawn = torch.randint(len(self.inputs), (2, recipe.batch), generator=generator, device=self.device)
            x = recipe.drawing.inputs(self.task, self.inputs[drawn[0]], self.inputs[drawn[1]], generator)
            output = self.query(x)
            removed = recipe.drawing.removals(self.task, x, generator)
            drops = self.drops(x, removed, output)
            parts.append((x, output.target, output.margin))
        scores = self.explain(*(torch.cat(column) for column in zip(*parts, strict=True)))
        copying = correlation = scores.new_zeros(())
        if copies:
            wanted = self.attributions[picked[:, 0], picked[:, 1]]
            copying = pattern_consistency(scores[:copies], wanted, self.task.removal.valid(self.copied[rows]))
        if removed is not None and drops is not None:
            correlation = local_correlation(scores[copies:], removed.masks, drops)
        if not len(self.pairs):
            alpha = 0.0  # nothing to copy
        self.progress = self.schedule.step(self.progress, float(copying.detach()))
        self._count(copying, correlation)
        return alpha * copying + (1 - alpha) * correlation

    def _count(self, copying: Tensor, correlation: Tensor) -> None:
        self.sums["copying"] += float(copying.detach())
        self.sums["correlation"] += float(correlation.detach())
        self.sums["count"] += 1

    def validate(self) -> dict[str, float]:
        """See `Objective`: L_LC on inputs that are not trained on, and the mean rank there among the priors."""
        count = max(1.0, self.sums["count"])
        figures = {"copying": self.sums["copying"] / count, "correlation": self.sums["correlation"] / count}
        figures["alpha"] = self.progress.alpha
        if self.schedule.dynamic and len(self.pairs) and self.progress.converged_at is None:
            figures["waiting"] = 1.0  # local correlation has no weight yet
        self.sums = dict.fromkeys(self.sums, 0.0)
        output = self.held_output
        rows = max(1, self.recipe.batch)
        scores = torch.cat([
            self.explainer(*some)
            for some in zip(
                *(part.split(rows) for part in (self.validation, output.target, output.margin)), strict=True
            )
        ])  # fmt: skip
        figures["loss"] = float(local_correlation(scores, self.held.masks, self.held_drops))
        if self.judged is not None:
            figures["mean_rank"] = self._mean_rank(scores[: len(self.judged.x)])
        return figures

    def _mean_rank(self, scores: Tensor) -> float:
        from benchmark.scoring.evaluator import Evaluator

        assert self.judged is not None
        if not hasattr(self, "evaluator"):
            rows = replace(self.task, test=Split(self.judged.x, self.judged.target), evidence=None)
            self.evaluator = Evaluator(rows, self.seed, metrics=TEN)
        found = self.evaluator.score(scores).scores
        return self.judged.mean_rank(torch.stack([found[metric] for metric in TEN], 1))

    def state(self) -> dict[str, Any]:
        """See `Objective`."""
        return {"progress": asdict(self.progress), "sums": self.sums}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Objective`."""
        found, sums = state["progress"], state["sums"]
        self.progress = replace(self.progress, **{**found, "seen": tuple(found["seen"])})
        self.sums = sums


def train(
    task: Task,
    recipe: Hyperparameters,
    seed: int,
    priors: Sequence[Prior],
    checkpoint: Path | None = None,
    prior_path: PriorPath | None = None,
) -> tuple[Explainer, dict[str, Any]]:
    """Return a trained explainer of `task` and a report: curves, what was copied, costs.

    Work that was interrupted goes on from `checkpoint`, and with the explanations of prior methods at `prior_path`.

    Raises:
        DivergedError: a loss is not finite.
    """
    meter = Meter()
    generator = torch.Generator().manual_seed(seed_for(seed, "rows"))
    drawn = torch.randperm(len(task.train.x), generator=generator).to(task.train.x.device)
    explained = min(recipe.rows, len(drawn))
    ranked = max(1, round(recipe.held_out * explained))
    held = max(ranked, min(VALIDATION_ROWS, round(recipe.held_out * len(drawn))))
    copied = drawn[held : held + explained - ranked]
    supervision = judged = chosen = None
    with meter.phase("supervision", task.model):
        if priors and recipe.schedule.copies:
            whole = supervise(
                task, task.train.x[torch.cat([drawn[:ranked], copied])], priors, seed_for(seed, "supervision"),
                prior_path,
            )  # fmt: skip
            judged, supervision = whole.part(slice(0, ranked)), whole.part(slice(ranked, None))
            chosen = supervision.choose(recipe.similarity, recipe.quantile)
    with seeded(seed):
        explainer = Explainer(
            shape_of(task, OUTPUTS, recipe.width, recipe.depth, recipe.heads, recipe.dropout),
            len(task.class_names), recipe.output, recipe.conditioning,
        ).to(task.train.x.device)  # fmt: skip
        explainer.backbone.start_from(task)
    with meter.phase("training", task.model):
        joint = Joint(
            explainer,
            task,
            recipe,
            task.train.x[drawn[held:]],
            supervision,
            chosen,
            task.train.x[drawn[:held]],
            judged,
            seed,
        )
        curves = fit(explainer, joint, recipe.fitting, seed, checkpoint, "deepfaith")
    report: dict[str, Any] = {"curves": curves, "costs": meter.summary()}
    if supervision is not None and chosen is not None:
        counts = Counter(supervision.names[column] for column in chosen.nonzero()[:, 1].tolist())
        report["copied"] = {"of": chosen.numel(), "kept": int(chosen.sum()), "by_method": dict(counts)}
    return explainer, report
