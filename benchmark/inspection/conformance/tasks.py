"""What a task must be: the checks of `check task`."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import torch

from benchmark.core.errors import BenchmarkError, UsageError, describe, shown
from benchmark.core.identity import task_identity, what_changed
from benchmark.core.sources import Located, Sources
from benchmark.core.types import TASKS, Budget, Modality, Task, TaskSpec
from benchmark.inspection.conformance.findings import Checks, Finding, Findings, Untried
from benchmark.inspection.conformance.task_removal import REMOVAL
from benchmark.inspection.conformance.task_rows import ROWS
from benchmark.scoring.model_checks import check_model, check_task

TRIED = 64
"""Test rows that the model is asked about."""


@dataclass(frozen=True)
class TaskTrial:
    """A task spec under its name, what it locates and what it builds, each done once."""

    name: str
    spec: TaskSpec
    sources: Sources

    @cached_property
    def located(self) -> Located:
        """Return where its data are."""
        return self.spec.locate(self.sources)

    @cached_property
    def task(self) -> Task:
        """Return the task, built for the CPU."""
        return self.spec.build(self.located, self.name, "cpu")


SPEC: Checks[TaskTrial] = Checks()
MODEL: Checks[TaskTrial] = Checks()


def check_task_named(name: str, sources: Sources) -> Findings:
    """Build a task and say what is wrong with it: what it says of itself, its model, its rows, its removal.

    Args:
        name: that it is registered under.
        sources: where its data may come from.

    Returns:
        One finding for each check.

    Raises:
        DataError: its data are missing.
        UsageError: there is no task of this name.
    """
    subject = f"task {name!r}"
    try:
        made = TASKS.get(name)
        spec = made()
    except UsageError as error:
        return Findings(subject, (Finding("wrong", "it can be made", str(error)),))
    except Exception as error:
        return Findings(
            subject, (Finding("wrong", "it can be made", f"making it raises {describe(error, TASKS.get)}"),)
        )
    trial = TaskTrial(name, spec, sources)
    spec.locate(sources)  # raises where data are missing, which is no fault of the task
    place = type(spec) if type(spec).__module__ == made.__module__ else made
    findings = list(SPEC.tried(trial, made=place))
    if findings[-1].verdict == "ok":
        findings += MODEL.tried(trial, made=place)
        for checks in (ROWS, REMOVAL):
            findings += checks.tried(trial.task, made=place)
    return Findings(subject, tuple(findings))


@SPEC.add("its docstring begins with a summary")
def summary(trial: TaskTrial) -> str | None:
    """`list` prints it."""
    if TASKS.entry(trial.name).summary:
        return None
    return "it has no docstring: its first line is what `list tasks` says of it"


@SPEC.add("it says modality, features, budget and floor")
def facts(trial: TaskTrial) -> str | None:
    """What a run is planned with."""
    spec: Any = trial.spec
    if spec.modality not in get_args(Modality):
        return f"its modality is {shown(spec.modality)}, expected one of {', '.join(get_args(Modality))}"
    said = TASKS.entry(trial.name).facts.get("modality", spec.modality)
    if said != spec.modality:
        return f"it is registered as {said}, and its spec says {spec.modality}: give both the same modality"
    if type(spec.n_features) is not int or spec.n_features < 1:
        return f"its n_features is {shown(spec.n_features)}, expected a whole number of at least 1"
    if not isinstance(spec.budget, Budget) or spec.budget.steps < 1 or spec.budget.subsets < 1:
        return f"its budget is {shown(spec.budget)}, expected a Budget with at least one step and one subset"
    if not (isinstance(spec.floor, (int, float)) and 0 <= spec.floor <= 1):
        return f"its floor is {shown(spec.floor)}, expected a balanced accuracy, 0 to 1"
    words = spec.facts()
    if not isinstance(words, dict) or not all(isinstance(text, str) for pair in words.items() for text in pair):
        return f"its facts() are {shown(words)}, expected text by topic"
    return None


@SPEC.add("its recipe is plain data")
def recipe(trial: TaskTrial) -> str | None:
    """The name of cached weights hashes it."""
    try:
        json.dumps(trial.spec.recipe(trial.located.source), allow_nan=False)
    except (TypeError, ValueError) as error:
        return f"its recipe is not: {error}; expected numbers, text, lists and dictionaries of them"
    return None


@SPEC.add("located twice, its data have the same digest")
def located_alike(trial: TaskTrial) -> str | None:
    """Cached weights and records go by it."""
    first, again = trial.located, trial.spec.locate(trial.sources)
    if not isinstance(first, Located):
        return f"locate returns {type(first).__name__}, expected benchmark.core.sources.Located"
    if first.source not in ("real", "synthetic"):
        return f"its source is {shown(first.source)}, expected 'real' or 'synthetic'"
    if first.digest == again.digest and first.source == again.source:
        return None
    return f"the digest is {shown(first.digest)} and then {shown(again.digest)}: let it depend on the content alone"


@SPEC.add("builds a Task of the name, modality and source that it said", vital=True)
def builds(trial: TaskTrial) -> str | None:
    """What was planned is what is run."""
    task, spec = trial.task, trial.spec
    if not isinstance(task, Task):
        return f"build returns {type(task).__name__}, expected benchmark.core.types.Task"
    said = {"name": trial.name, "modality": spec.modality, "source": trial.located.source}
    for key, value in said.items():
        if getattr(task, key) != value:
            return f"the task's {key} is {shown(getattr(task, key))}, and its spec said {shown(value)}"
    return None


@MODEL.add("has as many features as it said")
def features(trial: TaskTrial) -> str | None:
    """Methods that ask for all removal sets are planned by that number; a stand-in may be smaller."""
    found, said = trial.task.n_features, trial.spec.n_features
    if found == said:
        return None
    if trial.located.source == "synthetic":
        raise Untried(f"the stand-in has {found} features, its spec says {said}")
    return f"the task has {found} features, and its spec says {said}"


@MODEL.add("built twice, it is the same: rows, model, budget and removal")
def built_alike(trial: TaskTrial) -> str | None:
    """Each worker builds its own."""
    first = task_identity(trial.task)
    again = task_identity(trial.spec.build(trial.located, trial.name, "cpu"))
    changed = what_changed(first, again)
    return None if changed is None else f"{changed} from one build to the next: draw and train under fixed seeds"


@MODEL.add("its model is in eval mode and frozen, and its rows are tensors")
def frozen(trial: TaskTrial) -> str | None:
    """Methods may take gradients of inputs, not of weights."""
    check_task(trial.task)
    wanting = [name for name, weight in trial.task.model.named_parameters() if weight.requires_grad]
    return f"gradients are taken of its weights ({wanting[0]}): call requires_grad_(False)" if wanting else None


@MODEL.add("its model gives logits, no probabilities, and answers a row alike whenever it is asked")
def logits(trial: TaskTrial) -> str | None:
    """As the evaluator checks it before any query."""
    check_model(trial.task, trial.task.test.x)
    return None


@MODEL.add("its model gives finite logits, one for each class name")
def classes(trial: TaskTrial) -> str | None:
    """A sample about which an answer is not finite is left out for every method."""
    task = trial.task
    with torch.no_grad():
        found = task.model(task.test.x[:TRIED])
    if found.shape[1] != len(task.class_names):
        return f"it has {found.shape[1]} logits and {len(task.class_names)} class names: name each class"
    bad = int((~found.isfinite()).any(1).sum())
    return f"the logits of {bad} of {len(found)} test rows are not finite" if bad else None


@MODEL.add("its model is better than its floor")
def floor(trial: TaskTrial) -> str | None:
    """A model that has learned nothing is not worth explaining."""
    model = trial.task.provenance.model
    if math.isnan(model.balanced_accuracy or math.nan):
        raise Untried("it says nothing of its model's accuracy")
    if not model.weak:
        return None
    return f"its balanced accuracy is {model.balanced_accuracy:.3f}, under its floor of {model.floor}"


@MODEL.add("gradient and CAM methods can explain it")
def layers(trial: TaskTrial) -> str | None:
    """What they need of a model beyond logits is not asked of every task."""
    task = trial.task
    if task.modality == "image":
        if task.spatial is None:
            raise Untried("it does not say which submodule gives its last map of places (spatial): no CAM methods")
        known = dict(task.model.named_modules())
        return (
            None if task.spatial in known else f"its model has no submodule {shown(task.spatial)}, which spatial names"
        )
    if task.modality == "text":
        if not hasattr(task.model, "embed"):
            raise Untried("its model has no `embed`, which gradient methods look words up with")
        x = task.test.x[:2]
        try:
            whole = task.model(x)
            apart = task.model(task.model.embed(x), task.removal.valid(x))  # type: ignore[operator]
        except BenchmarkError:
            raise
        except Exception as error:
            return f"its model does not take embeddings with a mask of real words: {describe(error, type(task.model))}"
        if not torch.allclose(whole, apart, atol=1e-3):
            return "its model answers embeddings of the words otherwise than the words themselves"
    return None
