"""What a metric does: the checks of `check metric`, on the small tasks that methods are tried on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from benchmark.core.errors import UsageError, describe, shown
from benchmark.core.types import METHODS, Task
from benchmark.inspection.conformance.explainer_metrics import EXPLAINED, SMALL, ExplainerTrial, out_of_range
from benchmark.inspection.conformance.findings import Checks, Finding, Findings, Untried
from benchmark.inspection.conformance.trial_tasks import TRIAL_TASKS, spec_of
from benchmark.inspection.crosscheck.cases import formula
from benchmark.scoring.evaluator import Evaluation, Evaluator
from benchmark.scoring.metrics import METRICS, NON_FINITE, OK, ExplainerMetric

ROUNDING = 1e-9
TIED = 3
"""Different values of an attribution with ties."""


@dataclass
class MetricTrial:
    """A metric on one task, with attributions by formula; what is scored is scored once."""

    name: str
    task: Task
    made: dict[Any, Evaluator] = field(default_factory=dict)

    @cached_property
    def attributions(self) -> Tensor:
        """Return attributions (N, G) of both signs, without ties."""
        return formula(len(self.task.test.x), self.task.n_features, key=0.77)

    def scored(self, *attributions: Tensor, **how: Any) -> list[Evaluation]:
        """Return what an evaluator, made as `how` says, gives for attributions, scored together."""
        key = tuple(sorted(how.items()))
        if key not in self.made:
            self.made[key] = Evaluator(self.task, metrics=[self.name], **how)
        return self.made[key].score_all(list(attributions))

    def scores(self, *attributions: Tensor, **how: Any) -> Tensor:
        """Return the scores (N,) of the first attribution."""
        return self.scored(*attributions, **how)[0].scores[self.name]

    @cached_property
    def before(self) -> Tensor:
        """Return the scores (N,) of the attributions."""
        return self.scores(self.attributions)


FACTS: Checks[Any] = Checks()
SCORES: Checks[MetricTrial] = Checks()


def check_metric_named(name: str, tasks: dict[str, Callable[[], Task]] | None = None) -> Findings:
    """Score attributions by a metric on small tasks of each modality, and say what is wrong with it.

    Args:
        name: in `METRICS`.
        tasks: what builds each task, by name; None for a small one of each modality.

    Returns:
        One finding for each check and task.

    Raises:
        UsageError: there is no metric of this name.

    Example:
        >>> check_metric_named("DEL").passed
        True
    """
    subject, holds = f"metric {name!r}", "it can be made"
    try:
        metric = METRICS[name]
    except (KeyError, UsageError) as error:
        return Findings(subject, (Finding("wrong", holds, str(error)),))
    except Exception as error:
        return Findings(subject, (Finding("wrong", holds, f"making it raises {describe(error, check_metric_named)}"),))
    findings = list(FACTS.tried((name, metric), made=type(metric)))
    for place, build in (TRIAL_TASKS if tasks is None else tasks).items():
        if isinstance(metric, ExplainerMetric):
            findings += EXPLAINED.tried(ExplainerTrial(name, build()), str(place), type(metric))
        else:
            findings += SCORES.tried(MetricTrial(name, build()), str(place), type(metric))
    return Findings(subject, tuple(findings))


@FACTS.add("it says direction, range, family and version")
def facts(named: tuple[str, Any]) -> str | None:
    """What boards and records need; a metric whose range or version is none cannot be made (see `problem_of`)."""
    name, metric = named
    if metric.name != name:
        return f"it stands in the table as {name!r} and calls itself {shown(metric.name)}"
    if not isinstance(metric.higher_is_better, bool):
        return f"its higher_is_better is {shown(metric.higher_is_better)}, expected True or False"
    return None if metric.family and metric.title else "it has no family or no title"


@FACTS.add("its card says what it asks and what it cannot see")
def card(named: tuple[str, Any]) -> str | None:
    """`show` prints it."""
    empty = [word for word in ("formula", "meaning", "blind_to", "source") if not getattr(named[1], word, "")]
    if empty:
        raise Untried(f"nothing is said under {', '.join(empty)}")
    return None


@SCORES.add("gives a score or a reason for each sample", vital=True)
def scores(trial: MetricTrial) -> str | None:
    """(N,) float64; what is NaN has a reason code."""
    evaluation = trial.scored(trial.attributions)[0]
    found, reasons = evaluation.scores[trial.name], evaluation.reasons[trial.name]
    expected = (len(trial.task.test.x),)
    if tuple(found.shape) != expected or found.dtype != torch.float64:
        return f"its scores are {tuple(found.shape)} {found.dtype}, expected {expected} torch.float64"
    if bool(found.isnan().all()):
        return _without_scores(trial)
    if bool(found.isinf().any()):
        return "a score is infinite: give NaN and a reason where it is undefined"
    if bool((found.isnan() & (reasons == OK)).any()):
        return "a score is NaN without a reason: set a reason code where it is undefined"
    return None


def _without_scores(trial: MetricTrial) -> str:
    """Return the sentence for a metric without any score, unless it says why."""
    if (why := METRICS[trial.name].unsupported(trial.task)) is not None:
        raise Untried(why)
    return "no sample of this task has a score: each is NaN"


@SCORES.add("scores lie in its range")
def bounded(trial: MetricTrial) -> str | None:
    """Boards and pages draw the range."""
    return out_of_range(trial.name, trial.before[trial.before.isfinite()], ROUNDING)


@SCORES.add("scores do not depend on the scale of an attribution")
def scale(trial: MetricTrial) -> str | None:
    """Methods give attributions of any scale, and a board compares them."""
    return _moved(trial.scores(trial.attributions * 1024), trial, "an attribution times 1024")


@SCORES.add("scores do not depend on the order of samples")
def order(trial: MetricTrial) -> str | None:
    """Samples are taken in the reverse order."""
    back = tuple(range(len(trial.before)))[::-1]
    found = trial.scores(trial.attributions[list(back)], samples=back)
    return _moved(found[list(back)], trial, "samples in the reverse order")


@SCORES.add("scores do not depend on the batch")
def batch(trial: MetricTrial) -> str | None:
    """A sample is scored alone."""
    return _moved(trial.scores(trial.attributions, byte_budget=SMALL), trial, "samples in small batches")


@SCORES.add("scores do not depend on other methods")
def company(trial: MetricTrial) -> str | None:
    """Several methods are scored at once."""
    found = trial.scores(trial.attributions, -trial.attributions, trial.attributions.abs())
    return _moved(found, trial, "an attribution scored beside two others")


def _moved(found: Tensor, trial: MetricTrial, how: str) -> str | None:
    """Return the sentence for scores that should be as before and are not."""
    if torch.equal(found.isnan(), trial.before.isnan()):
        gap = float((found - trial.before).abs().nan_to_num().max())
        if gap <= 1e-6:  # forwards of another size round otherwise
            return None
        return f"{how} has scores that differ by up to {gap:.2g}: each sample is scored by itself, whatever the scale"
    return f"{how} has scores where there were none, or none where there were some"


@SCORES.add("a constant attribution has the same score, or the same reason, whatever the constant")
def constant(trial: MetricTrial) -> str | None:
    """It says nothing of any feature."""
    one, other = (trial.scored(torch.full_like(trial.attributions, value))[0] for value in (0.25, 4.0))
    name = trial.name
    if not torch.equal(one.reasons[name], other.reasons[name]):
        return "it flags an attribution of 0.25 everywhere and one of 4 differently"
    gap = float((one.scores[name] - other.scores[name]).abs().nan_to_num().max())
    return f"attributions of 0.25 and of 4 everywhere differ by {gap:.2g} in score" if gap > ROUNDING else None


@SCORES.add("ties are broken alike each time and beside any method")
def ties(trial: MetricTrial) -> str | None:
    """By a permutation drawn from seed and sample."""
    tied = (trial.attributions * TIED).round()
    alone, again = trial.scores(tied), trial.scores(tied, trial.attributions)
    gap = float((alone - again).abs().nan_to_num().max())
    return f"an attribution with ties differs by {gap:.2g} from one time to the next" if gap > ROUNDING else None


@SCORES.add("an attribution that is not finite has no score")
def not_finite(trial: MetricTrial) -> str | None:
    """The sample fails for its method; the others stay."""
    spoilt = trial.attributions.clone()
    spoilt[0, 0] = math.nan
    evaluation = trial.scored(spoilt)[0]
    found = evaluation.scores[trial.name]
    if not (bool(found[0].isnan()) and int(evaluation.reasons[trial.name][0]) == NON_FINITE):
        return "the sample with NaN in its attribution has a score"
    rest = (found - trial.before)[1:].abs().nan_to_num()
    return None if float(rest.max()) <= ROUNDING else "NaN in the attribution of one sample changes scores of others"


@SCORES.add("scores tell attributions apart")
def tells_apart(trial: MetricTrial) -> str | None:
    """A metric that every attribution satisfies alike ranks nothing."""
    others = [formula(*trial.attributions.shape, key=key) for key in (0.31, 0.53)]
    found = [evaluation.scores[trial.name] for evaluation in trial.scored(trial.attributions, *others)]
    return "three different attributions have the same scores" if _equal(found) else None


def _equal(found: list[Tensor]) -> bool:
    return all(torch.equal(one.nan_to_num(), found[0].nan_to_num()) for one in found)


@SCORES.add("an exact explanation is better than a random one, on average")
def direction(trial: MetricTrial) -> str | None:
    """News, not a fault: what a metric rewards is its own affair."""
    oracle = METHODS.get("exact_shapley")()
    if oracle.unsupported(spec_of(trial.task)) is not None:
        raise Untried("exact explanations are known of small tables alone")
    x = trial.task.test.x
    with torch.no_grad():
        target = trial.task.model(x).argmax(1)
    exact, random = trial.scored(oracle.prepare(trial.task, 0)(x, target), trial.attributions)
    a, b = (float(evaluation.scores[trial.name].nanmean()) for evaluation in (exact, random))
    if (a > b) == METRICS[trial.name].higher_is_better:
        return None
    raise Untried(f"Shapley values score {a:.3g}, random numbers {b:.3g}: is higher_is_better right?")
