"""What a method does on a task: the checks of `check method`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor

from benchmark.core.errors import UsageError, describe, shown
from benchmark.core.identity import method_identity
from benchmark.core.types import METHODS, Method, Modality, Task, TrainedExplainer
from benchmark.inspection.conformance.findings import Checks, Finding, Findings, Untried
from benchmark.inspection.conformance.method_facts import FACTS, MethodFacts
from benchmark.inspection.conformance.method_trial import OTHER_SEED, MethodTrial
from benchmark.inspection.conformance.trial_tasks import TRIAL_TASKS, spec_of
from benchmark.scoring.isolation import check_attribution

WORK: Checks[MethodTrial] = Checks()


def check_method(name: str, method: Method, tasks: dict[str, Callable[[], Task]] | None = None) -> Findings:
    """Try a method on small tasks of each modality that it claims, and say what is wrong with it.

    Args:
        name: that it is registered under.
        method: with its parameters; what is trained is trained with them, several times.
        tasks: what builds each task that it is tried on, by name; None for small ones of the modalities it claims.

    Returns:
        One finding for each check and task.

    Example:
        >>> from benchmark.core.types import METHODS, PACKAGES
        >>> METHODS.discover(*PACKAGES)
        >>> check_method("constant", METHODS.get("constant")()).passed
        True
    """
    claimed = METHODS.entry(name).facts.get("modalities") or get_args(Modality)
    tasks = {word: TRIAL_TASKS[word] for word in claimed} if tasks is None else tasks
    trials = {place: _trial(name, method, build) for place, build in tasks.items()}
    able = [trial for trial in trials.values() if isinstance(trial, MethodTrial)]
    findings = list(FACTS.tried(MethodFacts(name, method, able[0] if able else None), made=type(method)))
    for place, trial in trials.items():
        if isinstance(trial, MethodTrial):
            findings += WORK.tried(trial, place, type(method))
        else:
            findings.append(replace(trial, place=place))
    return Findings(f"method {name!r}", tuple(findings))


def _trial(name: str, method: Method, build: Callable[[], Task]) -> MethodTrial | Finding:
    """Return a method on a task, or what is found where it cannot explain it."""
    holds, task = "it says why it does not explain a task", build()
    try:
        method = method.resolved(task)
        why = method.unsupported(spec_of(task))
    except Exception as error:
        return Finding("wrong", holds, f"its resolved or unsupported raises {describe(error, type(method))}")
    if why is None:
        return MethodTrial(name, method, build)
    if isinstance(why, str) and why:
        return Finding("note", holds, why)
    found = f"unsupported returns {shown(why)}: expected None where it explains the task, else the reason in words"
    return Finding("wrong", holds, found)


@WORK.add("explains a batch that it is given without test rows: (B, G), real numbers", vital=True)
def explains(trial: MethodTrial) -> str | None:
    """Shape and type are those of `check_attribution`, which raises a sentence."""
    try:
        _ = trial.attribution
    except Exception:
        if _works_with_test_rows(trial):
            return "it works only where it is given test rows: fit and average on task.train"
        raise
    return None


def _works_with_test_rows(trial: MethodTrial) -> bool:
    """Tell whether a method works on a task with its test rows, which it is never given."""
    try:
        explain = trial.method.prepare(trial.build(), 0)
        check_attribution(explain(trial.x.clone(), trial.target.clone()), (len(trial.x), trial.task.n_features))
    except Exception:  # as before: test rows are not what it lacks
        return False
    return True


@WORK.add("gives finite numbers")
def finite(trial: MethodTrial) -> str | None:
    """A sample whose attribution is not finite leaves a gap in the board."""
    bad = ~(trial.attribution.isfinite() | ~trial.valid).all(1)
    if not bool(bad.any()):
        return None
    first = int(bad.nonzero()[0])
    return f"the attribution of {int(bad.sum())} of {len(bad)} samples holds NaN or infinity, first of sample {first}"


@WORK.add("leaves model, training rows and removal as they were")
def leaves_the_task(trial: MethodTrial) -> str | None:
    """The evaluator fails the cell of a method that does not."""
    return trial.changed or None


@WORK.add("leaves the process as it was: global generators, threads, modes")
def leaves_the_process(trial: MethodTrial) -> str | None:
    """Others run in the same process."""
    if not trial.left:
        return None
    advice = "draw from a torch.Generator of its own" if "generator" in trial.left[0] else "put it back"
    return f"it changes {' and '.join(trial.left)}: {advice}"


@WORK.add("the same seed gives the same attribution, to the bit")
def same_seed(trial: MethodTrial) -> str | None:
    """It is prepared anew, and what it trains is trained again."""
    return _differs(trial.ask(trial.prepared()), trial.attribution, "prepared twice with one seed")


@WORK.add("what it draws follows from its seed, not from global generators")
def own_randomness(trial: MethodTrial) -> str | None:
    """Global generators stand elsewhere in another run."""
    again = trial.ask(trial.prepared(state=1), state=1)
    return _differs(again, trial.attribution, "with global generators in another state")


def _differs(found: Tensor, before: Tensor, how: str) -> str | None:
    """Return the sentence for attributions that should be the same to the bit and are not."""
    if torch.equal(found.nan_to_num(), before.nan_to_num()):
        return None
    gap = float((found - before).abs().nan_to_num().max())
    return f"{how} it differs by up to {gap:.2g}: let all that it draws follow from the seed that prepare is given"


@WORK.add("another seed changes it only if it is random, and does where it is averaged over seeds")
def other_seed(trial: MethodTrial) -> str | None:
    """Records of a method with `repeats` are means over that many seeds."""
    if trial.method.repeats == 1:
        return None
    again = trial.ask(trial.prepared(OTHER_SEED))
    if not torch.equal(again, trial.attribution):
        return None
    return f"it is averaged over {trial.method.repeats} seeds, which all give the same: leave out `repeats`"


@WORK.add("an attribution does not depend on the other rows of a batch")
def neighbours(trial: MethodTrial) -> str | None:
    """Each row is explained alone."""
    alone = torch.cat([trial.ask(trial.explain, [row]) for row in range(len(trial.x))])
    return _apart(alone, trial, "alone")


@WORK.add("an attribution does not depend on the order of rows")
def order(trial: MethodTrial) -> str | None:
    """Rows are explained in the reverse order."""
    back = list(range(len(trial.x)))[::-1]
    return _apart(trial.ask(trial.explain, back)[back], trial, "in another order")


def _apart(found: Tensor, trial: MethodTrial, how: str) -> str | None:
    """Return the sentence for attributions that differ by more than rounding."""
    before = trial.attribution
    scale = before.abs().nan_to_num(0, 0, 0).amax(1, keepdim=True)
    gap = (found - before).abs().nan_to_num()
    bad = (gap > 1e-3 * before.abs().nan_to_num() + 2e-3 * scale + 1e-7).any(1)
    if not bool(bad.any()):
        return None
    row = int(bad.nonzero()[0])
    return (
        f"sample {row} explained {how} differs by {float(gap[row].max()):.2g} of at most {float(scale[row]):.2g}: "
        "nothing may be averaged, normalised or drawn over a batch"
    )


@WORK.add("padding gets exactly 0")
def padding(trial: MethodTrial) -> str | None:
    """Padding is no feature; a control need not know."""
    if bool(trial.valid.all()):
        raise Untried("nothing is padded")
    if METHODS.entry(trial.name).facts.get("kind") == "control":
        raise Untried("it is a control, which explains nothing")
    largest = float(trial.attribution[~trial.valid].abs().max())
    if largest == 0:
        return None
    return f"padding gets up to {largest:.2g}: multiply by task.removal.valid(x)"


@WORK.add("parameters that are left to the task are filled in once")
def resolves(trial: MethodTrial) -> str | None:
    """What `resolved` gives stands in the record."""
    again = trial.method.resolved(trial.task)
    return (
        None
        if again == trial.method
        else f"resolved({shown(trial.method)}) is {shown(again)}: expected no further change"
    )


@WORK.add("its source can be read, and what it learns from is known")
def source(trial: MethodTrial) -> str | None:
    """A record is bound to both."""
    entry = METHODS.entry(trial.name)
    method_identity(trial.method, trial.task.modality, entry.module)
    return None


@WORK.add("what it reports of its training is plain data")
def report(trial: MethodTrial) -> str | None:
    """A record holds it as JSON."""
    if not isinstance(trial.explain, TrainedExplainer):
        raise Untried("it reports nothing")
    try:
        json.dumps(trial.explain.report, allow_nan=False)
    except (TypeError, ValueError) as error:
        return f"its report cannot be stored: {error}; expected numbers, text, lists and dictionaries of them"
    return None


def unusable_method(name: str) -> Findings | None:
    """Return the report of a method that cannot be used at all, or None where it can.

    Raises:
        UsageError: there is no method of this name.
    """
    METHODS.entry(name)
    holds = "it is a dataclass derived from Method, and its parameters have defaults"
    try:
        METHODS.get(name)
    except UsageError as error:
        return Findings(f"method {name!r}", (Finding("wrong", holds, str(error)),))
    except Exception as error:
        return Findings(f"method {name!r}", (Finding("wrong", holds, f"importing it raises {describe(error, type)}"),))
    return None
