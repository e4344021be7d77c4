"""Trains a hinted explainer: start, pool of answers, group loss, and validation by the ten metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.core.errors import UsageError
from benchmark.core.seeding import seed_for, seeded
from benchmark.core.types import Split, Task
from benchmark.learning.beside import all_beside
from benchmark.learning.encoder import embedding_of, shape_of
from benchmark.learning.fitting import Curves, fit, iterations
from benchmark.models.metering import Meter
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.masked_model import MaskedModel
from benchmark.scoring.metrics import METRICS, TEN
from deepfaith.drawing import Drawing, Drawn
from deepfaith.hinted.explainer import HintedExplainer
from deepfaith.hinted.groups import MIXED, ORDERS, Groups, group_loss, kinds_for
from deepfaith.hinted.hyperparameters import HintedHyperparameters
from deepfaith.hinted.isotonic import joined

POOL_BYTES = 2**26
"""Of inputs, hints and removal sets that are kept."""
LENGTHS = 16
"""Texts of about one length that are asked about together: forwards are as long as their longest text."""
COARSE_FROM = 4
"""Pixels a side above which a patch's gains hold for all its pixels."""
ORDERED = tuple(name for name in TEN if METRICS[name].family in ("deletion", "insertion", "POS"))
"""The metrics that ask for an order alone."""
SIGNS = torch.tensor([1.0 if METRICS[name].higher_is_better else -1.0 for name in TEN], dtype=torch.float64)
LEAST_SPREAD = 1e-4
"""Below this the candidates' scores in a metric differ by rounding, or by as little as if they did."""
NOTHING = "nothing"
"""A start at which all gains are 0."""
LARGEST_LEAD = 3.0
"""Standard deviations of the candidates by which an attribution may be better in one metric, as far as that counts."""


@dataclass(frozen=True, eq=False)
class Answered:
    """Inputs (b, ...) with what the explainer is given of them, removal sets and how much these lower the probability.

    Attributes:
        x: inputs.
        target: predicted classes (b,).
        margin: by how much their logits lead, (b,).
        hints: (b, G, J).
        masks: removal sets (b, groups, k, G) bool; none where nothing was asked.
        drops: v_0 - v_I, (b, groups, k) float32.
    """

    x: Tensor
    target: Tensor
    margin: Tensor
    hints: Tensor
    masks: Tensor
    drops: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what the explainer is given."""
        return self.x, self.target, self.margin, self.hints

    def __getitem__(self, rows: Tensor | slice) -> Answered:
        return Answered(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def together(cls, parts: Sequence[Answered]) -> Answered:
        """Return the rows of all parts."""
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))


class Judge:
    """Says how good attributions of training rows are, by the ten metrics.

    A metric's score counts by how many standard deviations of the candidates' scores it is above their mean, since that
    is what decides between good attributions; the value is the mean over metrics. See `calibrate` for a single one.

    Args:
        task: whose rows they are.
        x: training inputs (V, ...).
        seed: of the evaluator.
    """

    def __init__(self, task: Task, x: Tensor, seed: int) -> None:
        labels = torch.zeros(len(x), dtype=torch.long, device=x.device)
        rows = replace(task, test=Split(x, labels), evidence=None, target="predicted")
        self.evaluator = Evaluator(rows, seed, metrics=TEN)
        self.mean = self.spread = torch.zeros(len(TEN), dtype=torch.float64)

    def scores(self, attributions: Sequence[Tensor]) -> Tensor:
        """Return mean scores (n, metrics), higher is better in each, of n attributions (V, G)."""
        found = self.evaluator.score_all(list(attributions))
        means = [torch.stack([one.scores[name].nanmean() for name in TEN]) for one in found]
        return torch.stack(means).double() * SIGNS

    def calibrate(self, scores: Tensor) -> None:
        """Let scores (n, metrics) of candidates say what counts; where there is one, scores count as they are.

        Random attributions beside it would not do: by their small spread all that is better than random is at the cut.
        """
        self.mean = scores.mean(0)
        self.spread = scores.std(0, correction=0) if len(scores) > 1 else torch.ones(len(TEN), dtype=torch.float64)

    def value(self, scores: Tensor, names: Sequence[str] = TEN) -> Tensor:
        """Return the value (n,) of scores (n, metrics) in some of the metrics; one that is undefined counts nothing."""
        leads = (scores - self.mean) / self.spread.clamp(min=LEAST_SPREAD)
        columns = [TEN.index(name) for name in names]
        return leads.clamp(-LARGEST_LEAD, LARGEST_LEAD).nan_to_num(nan=0.0)[:, columns].mean(1)


@dataclass(frozen=True)
class Start:
    """The best untrained combination of hints on training rows.

    Attributes:
        order, size: names of the combinations.
        gains: of either.
    """

    order: str
    size: str
    gains: tuple[list[float], list[float]]


def best_start(judge: Judge, held: Answered, recipe: HintedHyperparameters, valid: Tensor) -> Start:
    """Return the combination that orders best, and beside it the one whose sizes are best in all ten metrics.

    Where order and size are one, it is the combination that is best in all ten. The judge is calibrated by them.
    """
    candidates = recipe.hints.candidates()
    names = list(candidates)
    maps = [(held.hints * held.hints.new_tensor(candidates[name])).sum(-1) for name in names]
    scores = judge.scores(maps)
    judge.calibrate(scores)
    if recipe.start == NOTHING:
        return Start(NOTHING, NOTHING, ([0.0] * len(recipe.hints.names),) * 2)
    order = int(judge.value(scores, ORDERED if recipe.separate else TEN).argmax())
    size = order
    if recipe.separate:
        size = int(judge.value(judge.scores([joined(maps[order], one, valid) for one in maps])).argmax())
    return Start(names[order], names[size], (candidates[names[order]], candidates[names[size]]))


class GroupObjective:
    """The objective of a hinted explainer; see `benchmark.learning.fitting.Objective`.

    Args:
        explainer: is trained.
        task: whose model is asked.
        recipe: all settings.
        inputs: training inputs (N, ...), of texts in the order of their lengths.
        held: inputs that validate.
        judge: of these.
    """

    progress: float = 0.0

    def __init__(
        self, explainer: HintedExplainer, task: Task, recipe: HintedHyperparameters, inputs: Tensor, held: Answered,
        judge: Judge,
    ) -> None:  # fmt: skip
        self.explainer, self.task, self.recipe, self.inputs = explainer, task, recipe, inputs
        self.held, self.judge = held, judge
        self.masked_model = MaskedModel(task)
        kinds = kinds_for(task.budget, task.n_features)
        self.groups = Groups(kinds, recipe.sets, recipe.noise)
        if recipe.loss == MIXED:
            self.groups = Groups((MIXED,), recipe.sets * len(kinds), recipe.noise)
        self.mixing = Drawing(subsets=1, low=1.0, high=1.0, mix=recipe.mix, hide=0.0)
        of_sets = len(self.groups.kinds) * self.groups.sets
        row_bytes = inputs[:1].nbytes + (of_sets + 4 * len(recipe.hints.names)) * task.n_features
        self.room = max(recipe.fresh, recipe.batch, min(recipe.pool, POOL_BYTES // row_bytes))
        self.pool: list[Answered] = []
        self.done, self.answers, self.lost = 0, 0, 0.0

    def loss(self, generator: torch.Generator) -> Tensor:
        """See `Objective`."""
        if self.done % self.recipe.every == 0:
            self._refresh(generator)
        self.done += 1
        batch = self._batch(generator)
        order, size = self.explainer(*batch.inputs)
        masses = [
            (masks.to(order) @ (order if kind in ORDERS else size).unsqueeze(-1)).squeeze(-1)
            for kind, masks in zip(self.groups.kinds, batch.masks.unbind(1), strict=True)
        ]
        loss = group_loss(self.groups.kinds, torch.stack(masses, 1), batch.drops, self.recipe.ordering)
        self.lost += float(loss.detach())
        return loss

    def _refresh(self, generator: torch.Generator) -> None:
        """Draw inputs, ask about removal sets of theirs, and keep the answers in place of the oldest ones."""
        count = self.recipe.fresh if self.pool else max(self.recipe.fresh, self.recipe.batch)
        drawn = torch.randint(len(self.inputs), (count,), generator=generator, device=self.inputs.device)
        if self.task.removal.pads:
            drawn = drawn.sort().values
        others = torch.randint(len(self.inputs), (len(drawn),), generator=generator, device=self.inputs.device)
        x = self.mixing.inputs(self.task, self.inputs[drawn], self.inputs[others], generator)
        height = LENGTHS if self.task.removal.pads else len(x)
        self.explainer.eval()
        for part in x.split(height):
            answered = self._ask(part, generator)
            self.answers += answered.drops.numel()
            self.pool.append(answered)
        self.explainer.train()
        kept = sum(len(part.x) for part in self.pool)
        while kept > self.room and kept - len(self.pool[0].x) >= self.recipe.batch:
            kept -= len(self.pool.pop(0).x)

    @torch.no_grad()
    def _ask(self, x: Tensor, generator: torch.Generator) -> Answered:
        """Return inputs x (b, ...) with removal sets of each and the model's answers about them."""
        plain, clean = prepared(self.task, self.recipe, x, self.masked_model)
        order, _ = self.explainer(*plain.inputs)
        masks = self.groups.draw(self.task, x, order, generator)
        answers = self.masked_model.query(x, plain.target, Drawn(masks.flatten(1, 2)))
        drops = (clean - answers.prob).float().view(masks.shape[:3]).clone()
        return replace(plain, masks=masks, drops=drops)

    def _batch(self, generator: torch.Generator) -> Answered:
        """Draw inputs whose answers are kept; texts of about one length, so that little is padding."""

        def at_random(count: int) -> Tensor:
            return torch.randperm(count, generator=generator, device=self.inputs.device)

        if not self.task.removal.pads:
            kept = at_random(sum(len(part.x) for part in self.pool))[: self.recipe.batch]
            ends = list(accumulate(len(part.x) for part in self.pool))
            places = [kept[(kept < end) & (kept >= end - len(part.x))] - (end - len(part.x))
                      for part, end in zip(self.pool, ends, strict=True)]  # fmt: skip
            return Answered.together([part[own] for part, own in zip(self.pool, places, strict=True)])
        parts = -(-self.recipe.batch // LENGTHS)
        lengths = torch.tensor([float(self.task.removal.valid(part.x).sum(1).max()) for part in self.pool])
        first = int(at_random(len(self.pool))[0])
        near = (lengths - lengths[first]).abs().argsort(stable=True)[: max(parts, len(self.pool) // 5)]
        chosen = at_random(len(near))[:parts].tolist()
        return Answered.together([self.pool[int(near[one])] for one in chosen])[: self.recipe.batch]

    def validate(self) -> dict[str, float]:
        """See `Objective`: the loss is the value of the ten metrics with its sign turned."""
        order, size = explained(self.explainer, self.held, self.recipe.batch)
        scores = self.judge.scores([attribution_of(self.recipe, order, size, self.task.removal.valid(self.held.x))])
        figures = {"loss": -float(self.judge.value(scores)[0]), "answers": float(self.answers)}
        if self.done:
            figures["correlation"] = self.lost / self.done
        return figures

    def state(self) -> dict[str, Any]:
        """See `Objective`."""
        pool = [{field.name: getattr(part, field.name) for field in fields(part)} for part in self.pool]
        return {"pool": pool, "done": self.done, "answers": self.answers, "lost": self.lost, "start": self._begun()}

    def _begun(self) -> Tensor:
        """Return the gains that training began with, and the scale of the judge."""
        return torch.cat([self.explainer.starts.flatten().cpu().double(), self.judge.mean, self.judge.spread])

    def restore(self, state: dict[str, Any]) -> None:
        """See `Objective`. What began elsewhere, or is judged by another scale, is that of another objective."""
        if not torch.equal(state["start"].cpu(), self._begun().cpu()):
            raise TypeError("training began at another combination of hints")
        pool = [Answered(**part) for part in state["pool"]]
        done, answers, lost = state["done"], state["answers"], state["lost"]
        self.pool, self.done, self.answers, self.lost = pool, done, answers, lost


def prepared(
    task: Task, recipe: HintedHyperparameters, x: Tensor, masked_model: MaskedModel
) -> tuple[Answered, Tensor]:
    """Return inputs x (b, ...) with what an explainer is given of them, without removal sets; and clean (b, 1)."""
    logits, target, margin, hints = all_beside(
        task, recipe.hints, x, masked_model.batching, otherwise="deepfaith_hinted[rules=false]"
    )
    nothing = x.new_zeros(len(x), 0)
    clean = logits.softmax(1).gather(1, target.unsqueeze(1))
    return Answered(x, target, margin, hints, nothing, nothing), clean


def explained(explainer: HintedExplainer, given: Answered, batch: int) -> tuple[Tensor, Tensor]:
    """Return order and size (B, G) of all inputs, some at a time."""
    parts = zip(*(column.split(max(1, batch)) for column in given.inputs), strict=True)
    orders, sizes = zip(*(explainer(*part) for part in parts), strict=True)
    return torch.cat(orders), torch.cat(sizes)


def attribution_of(recipe: HintedHyperparameters, order: Tensor, size: Tensor, valid: Tensor) -> Tensor:
    """Return attributions (B, G) with that order and, as far as it allows, those sizes, all (B, G)."""
    return joined(order, size, valid) if recipe.separate else size


def train(
    task: Task, recipe: HintedHyperparameters, seed: int, checkpoint: Path | None = None
) -> tuple[HintedExplainer, dict[str, Any]]:
    """Train a hinted explainer of `task`.

    Args:
        task: its training inputs are used, without their labels.
        recipe: all settings.
        seed: of everything that is drawn.
        checkpoint: from which work that was interrupted goes on.

    Returns:
        The trained explainer, and a report: `curves`, `costs`, `start` and `hints`.

    Raises:
        DivergedError: a loss is not finite.
        NoGradientError: no gradient passes the model.
        UsageError: there are fewer than two training inputs.
    """
    meter, x = Meter(), task.train.x
    x = x[task.removal.valid(x).any(1)]  # a text may have no words
    if len(x) < 2:
        raise UsageError(f"deepfaith_hinted needs 2 training inputs at least, one of which validates, got {len(x)}")
    drawn = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed_for(seed, "rows"))).to(x.device)
    held_rows = max(1, min(recipe.validation, len(x) // 4))
    inputs = x[drawn[held_rows:]]
    if task.removal.pads:
        inputs = inputs[task.removal.valid(inputs).sum(1).argsort(stable=True)]
    with meter.phase("start", task.model):
        held, _ = prepared(task, recipe, x[drawn[:held_rows]], MaskedModel(task))
        judge = Judge(task, held.x, seed_for(seed, "validation"))
        start = best_start(judge, held, recipe, task.removal.valid(held.x))
    explainer = untrained(task, recipe, start, seed)
    with meter.phase("training", task.model):
        objective = GroupObjective(explainer, task, recipe, inputs, held, judge)
        curves: Curves = []
        if recipe.fitting.iterations or recipe.fitting.seconds is not None:
            fitting = recipe.fitting.less(meter.phases["start"].seconds, "choosing the start")
            curves = fit(explainer, objective, fitting, seed, checkpoint, "deepfaith_hinted")
    report = {
        "curves": curves,
        "iterations": iterations(curves),
        "costs": meter.summary(),
        "hints": list(recipe.hints.names),
        "start": {"order": start.order, "size": start.size},
        "answers": objective.answers,
    }
    return explainer, report


def untrained(task: Task, recipe: HintedHyperparameters, start: Start, seed: int) -> HintedExplainer:
    """Return an explainer that gives its start, unless that is nothing; word vectors are the model's, where known."""
    count = len(recipe.hints.names)
    outputs = HintedExplainer.outputs(count, recipe.gains, recipe.additive, recipe.separate)
    shape = shape_of(task, outputs, recipe.width, recipe.depth, recipe.heads, recipe.dropout)
    shape = replace(shape, given=count, coarse=shape.patch > COARSE_FROM)
    with seeded(seed):
        explainer = HintedExplainer(
            shape, len(task.class_names), start.gains, recipe.gains, recipe.additive, recipe.separate
        )
    explainer = explainer.to(task.train.x.device)
    explainer.backbone.start_from(task)
    if task.modality == "text" and embedding_of(task) is not None:
        explainer.backbone.embed.weight.requires_grad_(False)
    return explainer
