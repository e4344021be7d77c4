"""What `check` finds: nothing wrong with what is ours, and the one thing that is wrong with what was made so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from benchmark.cli.parser import main
from benchmark.core.errors import UsageError
from benchmark.core.parameters import configured
from benchmark.core.sources import Located, Sources
from benchmark.core.types import METHODS, TASKS, Split
from benchmark.inspection.conformance.findings import Checks, Findings, Untried
from benchmark.inspection.conformance.methods import check_method, unusable_method
from benchmark.inspection.conformance.metrics import check_metric_named
from benchmark.inspection.conformance.tasks import check_task_named
from benchmark.inspection.conformance.trial_tasks import TRIAL_TASKS
from benchmark.modalities.removal import ColumnRemoval
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.metrics import GROUPS, METRICS, TEN, ExplainerMetric, SharedProbe
from benchmark.testing import check_metric as compare
from tests.methods.test_pairs import quick
from tests.tiers import by_task

HERE = Path(__file__).parent.parent
QUICK = ("saliency", "lime", "random", "exact_shapley")
OURS = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in METHODS.names()]


@pytest.mark.parametrize("name", OURS)
def test_our_methods_keep_all_promises(name):
    report = check_method(name, quick(name))
    assert report.problems() == []
    claimed = METHODS.entry(name).facts["modalities"]
    tried = {finding.place for finding in report.findings if finding.holds.startswith("explains") and finding.place}
    assert tried == set(claimed), "it was tried on all that it claims"


@pytest.mark.parametrize("name", by_task(["nap_mlp", "breast_cancer_mlp", "imdb_lstm", "digits_cnn"]))
def test_our_tasks_keep_all_promises(name):
    assert check_task_named(name, Sources("synthetic")).problems() == []


@pytest.mark.parametrize("name", TEN)
def test_our_metrics_keep_all_promises(name):
    report = check_metric_named(name)
    assert report.problems() == []
    assert sum(finding.verdict == "ok" for finding in report.findings) > 30


BAD_METHODS = {
    "raises": "raises RuntimeError: no luck today (bad_methods.py, line",
    "quits": "raises SystemExit: 0",
    "wrong_shape": "expected an attribution of shape (6, 8) (samples, features), got (6, 7)",
    "no_tensor": "expected an attribution of shape (6, 8), got ndarray: return a tensor",
    "integers": "expected a floating-point attribution, got torch.int64",
    "all_nan": "the attribution of 6 of 6 samples holds NaN or infinity, first of sample 0",
    "all_inf": "the attribution of 6 of 6 samples holds NaN or infinity",
    "some_nan": "the attribution of 2 of 6 samples holds NaN or infinity, first of sample 0",
    "odd_report": "its report cannot be stored: ",
    "bad_teacher": "raises KeyError: 'nobody' (bad_methods.py, line",
}
BROKEN = {
    "normalised_over_the_batch": "nothing may be averaged, normalised or drawn over a batch",
    "by_place": "explained in another order differs by",
    "unseeded": "prepared twice with one seed it differs by",
    "global_torch": "it changes the state of torch's global generator: draw from a torch.Generator of its own",
    "global_numpy": "it changes the state of NumPy's global generator",
    "two_threads": "it changes torch's number of threads: put it back",
    "writes_weights": "it changed the weights of the model",
    "writes_rows": "it changed the training rows of the task",
    "leaves_a_hook": "it changed the hooks of the model",
    "wants_test_rows": "it works only where it is given test rows: fit and average on task.train",
    "sees_padding": "padding gets up to 1: multiply by task.removal.valid(x)",
    "only_tables": "expected an attribution of shape (6, 256) (samples, features), got (6, 3, 16, 16)",
    "of_no_kind": "its kind is 'basline'; did you mean 'baseline'?",
    "thawed": "Thawed can be changed after it is made: write @dataclass(frozen=True)",
    "silent": "Silent has no docstring",
    "boundless": "steps=-1 is taken, and then raises RuntimeError",
    "evasive": "unsupported returns True: expected None where it explains the task, else the reason in words",
    "tireless": "it is averaged over 3 seeds, which all give the same: leave out `repeats`",
    "restless": "expected no further change",
}
TABLE = {"table": TRIAL_TASKS["table"]}


@pytest.mark.parametrize("name", BAD_METHODS)
def test_a_bad_method_is_named_by_the_right_sentence(name):
    METHODS.include(HERE / "bad_methods.py")
    problems = check_method(name, METHODS.get(name)(), TABLE).problems()
    assert any(BAD_METHODS[name] in problem for problem in problems), problems
    assert len(problems) == 2, "the other: they do not say which modalities they explain"
    assert "says no modalities" in problems[0]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_named(name):
    METHODS.include(HERE / "broken_promises.py")
    problems = check_method(name, METHODS.get(name)()).problems()
    assert any(BROKEN[name] in problem for problem in problems), problems
    allowed = {"global_torch": 4, "unseeded": 4, "by_place": 2}  # what it draws for a batch is not a row's, either
    assert len(problems) <= allowed.get(name, 1), problems


def test_a_method_that_keeps_its_promises_passes():
    METHODS.include(HERE / "broken_promises.py")
    assert check_method("fair", METHODS.get("fair")()).passed


def test_what_cannot_be_used_is_said_before_anything_is_tried():
    METHODS.register("no_class")(lambda: None)
    report = unusable_method("no_class")
    assert "expected a class derived from benchmark.core.types.Method" in report.problems()[0]
    assert unusable_method("saliency") is None
    with pytest.raises(UsageError, match="did you mean 'saliency'"):
        unusable_method("salency")


class Altered:
    """The task spec of breast_cancer_mlp with some of its members, and its task, replaced."""

    def __init__(self, task=None, **members):
        self.inner, self.change = TASKS.get("breast_cancer_mlp")(), task or (lambda task: task)
        self.members = members

    def __getattr__(self, name):
        return self.members[name] if name in self.members else getattr(self.inner, name)

    def build(self, located, name, device):
        return self.change(self.inner.build(located, name, device))


class Leaky(ColumnRemoval):
    """Removes its neighbour as well."""

    def expand(self, removed):
        return removed | removed.roll(1, -1)


class Reluctant(ColumnRemoval):
    """Never removes the first column."""

    def expand(self, removed):
        return removed & (torch.arange(removed.shape[-1]) > 0)


class Eager(ColumnRemoval):
    """Always removes the first column."""

    def expand(self, removed):
        return removed | (torch.arange(removed.shape[-1]) < 1)


class Unshared(ColumnRemoval):
    """Inserts into other values."""

    def baseline(self, x, kind="removal"):
        return super().baseline(x, kind) + (kind == "insertion")


class Squeezed(ColumnRemoval):
    """Forgets the axis of samples."""

    def baseline(self, x, kind="removal"):
        return self.means


def with_removal(kind):
    return {"task": lambda task: replace(task, removal=kind(task.removal.means))}


def with_model(*layers):
    def change(task):
        model = torch.nn.Sequential(task.model, *layers).eval().requires_grad_(False)
        return replace(task, model=model)

    return {"task": change}


def thaw(task):
    task.model.requires_grad_(True)
    return task


def in_training(task):
    task.model.train()
    return task


def weak(task):
    model = replace(task.provenance.model, balanced_accuracy=0.1, floor=0.9, weak=True)
    return replace(task, provenance=replace(task.provenance, model=model))


counted = iter(range(1000))
BAD_TASKS = {
    "another modality": ({"modality": "text"}, "it is registered as table, and its spec says text"),
    "no features": ({"n_features": 0}, "its n_features is 0, expected a whole number of at least 1"),
    "budget": ({"budget": 5}, "its budget is 5, expected a Budget"),
    "floor": ({"floor": 70}, "its floor is 70, expected a balanced accuracy, 0 to 1"),
    "facts": ({"facts": lambda: {"rows": 3}}, "its facts() are {'rows': 3}, expected text by topic"),
    "recipe": ({"recipe": lambda source: {"at": {1}}}, "its recipe is not: Object of type set"),
    "digest": ({"locate": lambda _: Located("real", "here", str(next(counted)))}, "let it depend on the content alone"),
    "fewer features": ({"n_features": 29}, "the task has 30 features, and its spec says 29"),
    "name": ({"task": lambda task: replace(task, name="other")}, "the task's name is 'other', and its spec said"),
    "no task": ({"task": lambda task: None}, "build returns NoneType, expected benchmark.core.types.Task"),
    "thawed": ({"task": thaw}, "gradients are taken of its weights"),
    "training": ({"task": in_training}, "is in training mode"),
    "probabilities": (with_model(torch.nn.Softmax(1)), "gives probabilities, expected logits"),
    "classes": ({"task": lambda task: replace(task, class_names=("a", "b", "c"))}, "2 logits and 3 class names"),
    "feature names": ({"task": lambda task: replace(task, feature_names=("a",))}, "1 feature names and 30 features"),
    "train is test": ({"task": lambda task: replace(task, test=task.train)}, "are training rows as well: split them"),
    "labels": (
        {"task": lambda task: replace(task, test=Split(task.test.x, task.test.y + 7))},
        "labels of test rows are 7 to 8, and there are 2 class names",
    ),
    "label type": (
        {"task": lambda task: replace(task, test=Split(task.test.x, task.test.y.float()))},
        "test.y is (113,) torch.float32, expected (113,) torch.int64",
    ),
    "holes": (
        {"task": lambda task: replace(task, train=Split(task.train.x.log(), task.train.y))},
        "train rows hold NaN or infinity: fill them in or drop them",
    ),
    "evidence": (
        {"task": lambda task: replace(task, evidence=torch.ones(3, 30).bool())},
        "evidence is (3, 30) torch.bool, expected (113, 30) torch.bool",
    ),
    "under its floor": ({"task": weak}, "its balanced accuracy is 0.100, under its floor of 0.9"),
    "words": ({"task": lambda task: replace(task, words=lambda x: ["one"])}, "gives 1 words for a text of 30 features"),
    "leaky": (with_removal(Leaky), "two features cover one place of the input"),
    "reluctant": (with_removal(Reluctant), "feature 0 covers nothing of the input"),
    "reluctant, of all": (with_removal(Reluctant), "every feature is removed is not the removal baseline"),
    "eager": (with_removal(Eager), "an input from which nothing is removed is another"),
    "unshared": (with_removal(Unshared), "removal.shares_baseline is True, and the two baselines differ"),
    "squeezed": (with_removal(Squeezed), "baseline gives (30,) torch.float32 for removal, expected (1 or 4, 30)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_TASKS)
def test_a_bad_task_is_named_by_the_right_sentence(name):
    members, message = BAD_TASKS[name]

    @TASKS.register("altered", modality="table")
    def altered():
        """Altered in one place."""
        return Altered(**members)

    problems = check_task_named("altered", Sources("real")).problems()
    assert any(message in problem for problem in problems), problems


def test_a_task_that_differs_from_build_to_build_is_named():
    def change(task):
        return replace(task, train=Split(task.train.x + next(counted), task.train.y))

    TASKS.register("altered", modality="table")(lambda: Altered(change))
    problems = check_task_named("altered", Sources("real")).problems()
    assert "it has no docstring" in problems[0]
    assert problems[1] == "the data changed from one build to the next: draw and train under fixed seeds"


@pytest.fixture
def metric():
    """Return a function that adds DEL with another aggregate or other facts."""

    def add(**changes):
        made = replace(METRICS["DEL"], name="ODD", **changes)
        METRICS.register("ODD")(made)
        return check_metric_named("ODD")

    return add


def scored(function):
    """Return an aggregate that gives what a function does of (M, B, K) effects."""
    return lambda values, response: (scores := function(values), scores.new_zeros(scores.shape).char())


def heavy(values, response):
    """An aggregate: the mean mass, which has the scale of the attribution."""
    return (scores := response.mass.mean(-1)), scores.new_zeros(scores.shape).char()


BAD_METRICS = {
    "over the range": ({"aggregate": scored(lambda v: 3 + v.mean(-1))}, "scores reach from 3."),
    "by the batch": ({"aggregate": scored(lambda v: v.mean(-1) / v.mean((1, 2)).unsqueeze(1))}, "in small batches has"),
    "by the company": ({"aggregate": scored(lambda v: v.mean(-1) - v.mean((0, 2)))}, "scored beside two others has"),
    "by the scale": ({"probe": GROUPS, "aggregate": heavy}, "an attribution times 1024 has scores that differ"),
    "by the constant": ({"probe": GROUPS, "aggregate": heavy}, "attributions of 0.25 and of 4 everywhere differ by"),
    "by the place": (
        {"aggregate": scored(lambda v: v.mean(-1) + torch.arange(v.shape[1]))},
        "samples in the reverse order has scores that differ",
    ),
    "by the time": ({"aggregate": scored(lambda v: v.mean(-1) + next(counted))}, "an attribution with ties differs by"),
    "infinite": ({"aggregate": scored(lambda v: v.mean(-1) / 0), "high": float("inf")}, "a score is infinite"),
    "not a number": ({"aggregate": scored(lambda v: v.mean(-1) * torch.nan)}, "no sample of this task has a score"),
    "blind": ({"aggregate": scored(lambda v: v.mean(-1) * 0)}, "three different attributions have the same scores"),
    "raises": ({"aggregate": scored(lambda v: 1 / 0)}, "raises ZeroDivisionError"),
    "version": ({"version": 0}, "its version is 0, expected a"),
    "range": ({"low": 2, "high": 1}, "expected low < high"),
    "direction": ({"higher_is_better": "yes"}, "higher_is_better is 'yes', expected True or False"),
}


@pytest.mark.parametrize("name", BAD_METRICS)
def test_a_bad_metric_is_named_by_the_right_sentence(metric, name):
    changes, message = BAD_METRICS[name]
    problems = metric(**changes).problems()
    assert any(message in problem for problem in problems), problems


CALLS: list[int] = []


BAD_EXPLAINED = {
    "the batch": (lambda s: (n := s.attribution.norm(dim=1)) / n.mean(), "samples in small batches: saliency scores"),
    "a global generator": (lambda s: torch.rand(len(s.x)), "samples in the reverse order: saliency scores"),
    "the place": (lambda s: torch.arange(len(s.x)).double(), "samples in the reverse order: saliency scores"),
    "others": (lambda s: torch.full((len(s.x),), float(len(s.x))), "beside fewer samples: saliency scores"),
    "what was before": (lambda s: CALLS.append(1) or torch.full((len(s.x),), float(len(CALLS))), "scored again: "),
    "the scale": (lambda s: s.attribution.norm(dim=1), "attributions times 1024: saliency scores"),
    "padding": (
        lambda s: s.attribution.mean(1) / s.attribution.abs().amax(1),
        "texts with more padding: saliency scores",
    ),
    "nothing": (lambda s: torch.zeros(len(s.x)), "saliency, random, constant have the same scores"),
    "infinity": (lambda s: s.attribution.sum(1) / 0, "a score of saliency is infinite"),
    "no number": (lambda s: s.attribution.sum(1) * torch.nan, "no sample of this task has a score of saliency, random"),
    "another shape": (lambda s: s.attribution, "the metric ODD: expected a score for each of 6 samples, got (6, 8)"),
    "an error": (lambda s: 1 / 0, "raises ZeroDivisionError"),
    "the range": (lambda s: 3 + 0 * s.attribution.sum(1), "scores reach from 3 to 3, and its range is 0 to 1"),
}


@pytest.mark.parametrize("name", BAD_EXPLAINED)
def test_a_bad_metric_of_explainers_is_named_by_the_right_sentence(name):
    score, message = BAD_EXPLAINED[name]

    class Odd(ExplainerMetric):
        low, high = (0.0, 1.0) if name == "the range" else (-float("inf"), float("inf"))

        def score(self, subject):
            return score(subject)

    METRICS.register("ODD")(Odd())
    tasks = {place: TRIAL_TASKS[place] for place in (["text"] if name == "padding" else ["table"])}
    problems = check_metric_named("ODD", tasks).problems()
    assert any(message in problem for problem in problems), problems


class Long:
    def __repr__(self):
        return "long\n" * 200


LONG: dict[str, Callable[[], object]] = {
    "a direction": lambda: METRICS._metric("X", lambda: replace(METRICS["DEL"], higher_is_better=Long())),
    "a metric": lambda: METRICS.register("X")(Long) and METRICS["X"],
    "a fact": lambda: METRICS.register("X", family=Long()),
    "a method": lambda: METHODS.register("x")(Long()) and METHODS.get("x"),
    "a parameter": lambda: configured(METHODS.get("lime"), "lime", {"n_samples": Long()}),
    "a tolerance": lambda: compare("DEL", print, tolerance=Long()),
    "a metric to compare": lambda: compare("long\n" * 200, print),
    "a probe": lambda: (
        METRICS.register("X")(replace(METRICS["DEL"], probe=Nothing(Long())))
        and Evaluator(TRIAL_TASKS["table"](), metrics=["X"])
    ),
}


@dataclass(frozen=True)
class Nothing(SharedProbe):
    what: object

    def sets(self, samples):
        return None


@pytest.mark.parametrize("what", LONG)
def test_what_is_long_is_shown_shortly(what):
    with pytest.raises(UsageError) as raised:
        METRICS.forget(["X"]) or LONG[what]()
    assert len(str(raised.value).splitlines()) == 1
    assert len(str(raised.value)) < 800
    assert " characters)" in str(raised.value), "how long it is"


def test_our_metric_of_explainers_is_tried_with_explainers():
    report = check_metric_named("SENS")
    assert report.problems() == []
    tried = {finding.place for finding in report.findings if finding.verdict == "ok"}
    assert {"table", "image"} <= tried


def test_a_metric_of_the_wrong_direction_is_noted_and_passes(metric):
    report = metric(higher_is_better=True)
    assert report.passed
    assert any("is higher_is_better right?" in finding.found for finding in report.findings)


def test_check_prints_a_table_and_its_counts(capsys):
    METHODS.include(HERE / "bad_methods.py")
    assert main(["check", "method", "saliency", "--task", "breast_cancer_mlp"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "ok     gives finite numbers [breast_cancer_mlp]" in lines
    assert lines[-1] == "method 'saliency': 17 ok, 0 wrong, 2 noted"
    assert main(["check", "method", "all_nan", "--json"]) == 1
    plain = json.loads(capsys.readouterr().out)
    assert (plain["subject"], plain["passed"]) == ("method 'all_nan'", False)
    assert {finding["verdict"] for finding in plain["findings"]} == {"ok", "wrong", "note"}


def test_check_takes_files_and_parameters(capsys, tmp_path):
    assert main(["check", "task", f"{HERE / 'file_tasks.py'}:as_spec"]) == 0
    assert main(["check", "method", "lime[n_samples=20]", "--task", "nap_mlp", "--source", "synthetic"]) == 0
    assert main(["check", "metric", "del", "--task", f"{HERE / 'file_tasks.py'}:as_task"]) == 0
    assert "metric 'DEL': 13 ok" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["method", "salency"], 2, "unknown method 'salency'; did you mean 'saliency'"),
        (["task", "nap"], 2, "unknown task 'nap'"),
        (["metric", "DLE"], 2, "unknown metric 'DLE'; did you mean 'DEL'"),
        (["metric", "*F*"], 2, "check metric tries one, got '*F*', which is FC, FE, INF, IROF"),
        (["task", "nope.py:x"], 3, "check task expects a Python file, got 'nope.py': no such file"),
        (["task", f"{HERE / 'file_tasks.py'}:as_taks"], 2, "error: check task "),
        (["task", "mine.py"], 2, "; a task of a file is FILE.py:NAME"),
        (["task", "nap_mlp", "--task", "wcd_mlp"], 2, "check task tries the task itself: leave out --task"),
        (["method", "lime[n_samples=0]"], 2, "lime[n_samples] expects at least 1, got 0"),
        (["task", "imdb_lstm", "--source", "real", "--data-dir", "docs", "--offline"], 3, "no real data for"),
    ],
)
def test_wrong_calls_are_one_sentence(words, code, message, capsys):
    assert main(["check", *words]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert message.lower() in line.lower()


def test_a_vital_check_that_fails_ends_the_suite():
    numbers: Checks[int] = Checks()

    @numbers.add("is no 3", vital=True)
    def no_three(number):
        return "it is 3" if number == 3 else None

    @numbers.add("is small")
    def small(number):
        if number < 0:
            raise Untried("it is negative")
        return f"it is {10 // number}"

    def verdicts(number):
        return [(finding.verdict, finding.found) for finding in numbers.tried(number)]

    assert verdicts(3) == [("wrong", "it is 3")]
    assert verdicts(-1) == [("ok", ""), ("note", "it is negative")]
    assert verdicts(0)[1][1].startswith("raises ZeroDivisionError: ")
    assert Findings("x", tuple(numbers.tried(5))).text().splitlines()[-1] == "x: 1 ok, 1 wrong, 0 noted"
