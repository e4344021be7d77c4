"""What a metric that asks the explainer does: its checks in `check metric`, with explainers of ours."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from benchmark.core.types import METHODS, Attribute, Method, Split, Task
from benchmark.inspection.conformance.findings import Checks, Untried
from benchmark.inspection.conformance.trial_tasks import spec_of
from benchmark.modalities.removal import TokenRemoval
from benchmark.scoring.evaluator import Evaluation, Evaluator
from benchmark.scoring.metrics import METRICS, NON_FINITE, OK

EXPLAINERS = ("saliency", "random", "constant")
"""One that follows the model, one that follows the input alone, and one that follows nothing."""
SMALL = 2 * 8 * 256
"""Bytes of a forward that cut a task into many batches."""
ROUNDING = 1e-5
"""Explanations in float32 differ by as much from batch to batch."""
MORE_PADDING = 3


@dataclass(frozen=True)
class Changed(Method):
    """A method whose attributions (B, G) are changed by a function of inputs and attributions."""

    method: Method
    change: Callable[[Tensor, Tensor], Tensor] = lambda _x, made: made

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        explain = self.method.prepare(task, seed)
        return lambda x, target: self.change(x, explain(x, target))


@dataclass
class ExplainerTrial:
    """A metric on one task, with several explainers; what is scored is scored once."""

    name: str
    task: Task
    made: dict[Any, Evaluator] = field(default_factory=dict)

    @cached_property
    def explainers(self) -> dict[str, Method]:
        """Return the explainers that explain the task, by name."""
        known = {name: METHODS.get(name)() for name in EXPLAINERS}
        return {name: method for name, method in known.items() if method.unsupported(spec_of(self.task)) is None}

    def evaluated(self, name: str, change: Any = None, **how: Any) -> Evaluation:
        """Return what an evaluator, made as `how` says, gives for an explainer, whose attributions may be changed."""
        key = tuple(sorted(how.items()))
        if key not in self.made:
            self.made[key] = Evaluator(self.task, metrics=[self.name], **how)
        method = Changed(self.explainers[name]) if change is None else Changed(self.explainers[name], change)
        return self.made[key].evaluate(method, name)

    @cached_property
    def before(self) -> dict[str, Evaluation]:
        """Return the evaluation of each explainer."""
        return {name: self.evaluated(name) for name in self.explainers}

    def scores(self, name: str) -> Tensor:
        """Return the scores (N,) of an explainer."""
        return self.before[name].scores[self.name]

    def moved(
        self, how: str, found: Callable[[str], Tensor], rows: Any = slice(None), leave_out: str | None = None
    ) -> str | None:
        """Return the sentence for an explainer whose scores should be as before in some rows and are not, if any is."""
        for name in self.explainers:
            if name == leave_out:
                continue
            now, before = found(name), self.scores(name)[rows]
            if not torch.equal(now.isnan(), before.isnan()):
                return f"{how}: {name} has scores where there were none, or none where there were some"
            gap = ((now - before).abs() / before.abs().clamp(min=1.0)).nan_to_num()
            if float(gap.max()) > ROUNDING:
                at = int(gap.argmax())
                return f"{how}: {name} scores {now[at]:.6g} on a sample where it scored {before[at]:.6g}"
        return None


EXPLAINED: Checks[ExplainerTrial] = Checks()


@EXPLAINED.add("gives each explainer a score or a reason for each sample", vital=True)
def scores(trial: ExplainerTrial) -> str | None:
    """(N,) float64; what is NaN has a reason code."""
    if (why := METRICS[trial.name].unsupported(trial.task)) is not None:
        raise Untried(why)
    for name, evaluation in trial.before.items():
        found, reasons = evaluation.scores[trial.name], evaluation.reasons[trial.name]
        if bool(found.isinf().any()):
            return f"a score of {name} is infinite: give NaN where it is undefined"
        if bool((found.isnan() & (reasons == OK)).any()):
            return f"a score of {name} is NaN without a reason"
    if all(bool(trial.scores(name).isnan().all()) for name in trial.explainers):
        return f"no sample of this task has a score of {', '.join(trial.explainers)}: each is NaN"
    return None


@EXPLAINED.add("scores lie in its range")
def bounded(trial: ExplainerTrial) -> str | None:
    """Boards and pages draw the range."""
    found = torch.cat([trial.scores(name) for name in trial.explainers])
    return out_of_range(trial.name, found[~found.isnan()], ROUNDING)


def out_of_range(name: str, found: Tensor, rounding: float) -> str | None:
    """Return the sentence for scores, of which none is NaN, that lie outside the range of their metric, if any do."""
    metric, low, high = METRICS[name], float(found.min()), float(found.max())
    if low >= metric.low - rounding and high <= metric.high + rounding:
        return None
    return f"scores reach from {low:.4g} to {high:.4g}, and its range is {metric.low:g} to {metric.high:g}"


@EXPLAINED.add("scored again, after other explainers, scores are the same")
def again(trial: ExplainerTrial) -> str | None:
    """What is drawn follows from the seed, and nothing is kept from one explainer to the next."""
    assert trial.before
    return trial.moved("scored again", lambda name: trial.evaluated(name).scores[trial.name])


@EXPLAINED.add("scores do not depend on the scale of an attribution")
def scale(trial: ExplainerTrial) -> str | None:
    """Methods give attributions of any scale, and a board compares them."""

    def larger(name: str) -> Tensor:
        return trial.evaluated(name, lambda _x, made: made * 1024).scores[trial.name]

    return trial.moved("attributions times 1024", larger)


@EXPLAINED.add("scores do not depend on the order of samples")
def order(trial: ExplainerTrial) -> str | None:
    """Samples are taken in the reverse order."""
    back = tuple(range(len(trial.task.test.x)))[::-1]
    return trial.moved(
        "samples in the reverse order", lambda name: trial.evaluated(name, samples=back).scores[trial.name].flip(0)
    )


@EXPLAINED.add("scores do not depend on the batch")
def batch(trial: ExplainerTrial) -> str | None:
    """A sample is scored alone."""
    return trial.moved(
        "samples in small batches", lambda name: trial.evaluated(name, byte_budget=SMALL).scores[trial.name]
    )


@EXPLAINED.add("scores do not depend on other samples")
def company(trial: ExplainerTrial) -> str | None:
    """Every second sample is left out."""
    some = tuple(range(0, len(trial.task.test.x), 2))
    return trial.moved(
        "beside fewer samples", lambda name: trial.evaluated(name, samples=some).scores[trial.name], list(some)
    )


@EXPLAINED.add("scores do not depend on how much padding there is")
def padding(trial: ExplainerTrial) -> str | None:
    """Padding is no feature: its attribution is 0 and may not count."""
    removal = trial.task.removal
    if not isinstance(removal, TokenRemoval):
        raise Untried("there is no padding")
    longer = replace(removal, n_features=removal.n_features + MORE_PADDING)
    task = replace(
        trial.task, removal=longer, train=_padded(trial.task.train, removal), test=_padded(trial.task.test, removal),
        feature_names=tuple(f"f{i}" for i in range(longer.n_features)), evidence=None,
    )  # fmt: skip
    other = ExplainerTrial(trial.name, task)
    return trial.moved("texts with more padding", other.scores, leave_out="random")  # which follows padding, too


def _padded(split: Split, removal: TokenRemoval) -> Split:
    return Split(pad(split.x, (0, MORE_PADDING), value=removal.pad_id), split.y)


@EXPLAINED.add("an attribution that is not finite has no score")
def not_finite(trial: ExplainerTrial) -> str | None:
    """The sample fails for its method; the others stay."""
    first = trial.task.test.x[0]

    def spoilt(x: Tensor, made: Tensor) -> Tensor:
        same = (x == first).flatten(1).all(1)
        return made.masked_fill(same.unsqueeze(1), math.nan)

    for name in trial.explainers:
        evaluation = trial.evaluated(name, spoilt)
        found, reasons = evaluation.scores[trial.name], evaluation.reasons[trial.name]
        if not (bool(found[0].isnan()) and int(reasons[0]) == NON_FINITE):
            return f"the sample with NaN in its attribution by {name} has a score"
    return trial.moved(
        "NaN in the attribution of another sample", lambda name: trial.evaluated(name, spoilt).scores[trial.name][1:],
        slice(1, None),
    )  # fmt: skip


@EXPLAINED.add("scores tell explainers apart")
def tells_apart(trial: ExplainerTrial) -> str | None:
    """A metric that every explainer satisfies alike ranks nothing."""
    found = [trial.scores(name).nan_to_num() for name in trial.explainers]
    if all(torch.equal(one, found[0]) for one in found):
        return f"{', '.join(trial.explainers)} have the same scores"
    return None
