"""Commands that check: verify-metrics, regress, and anyone's method, task or metric."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from benchmark.cli.arguments import Verb, add_sources, chosen_sources
from benchmark.core.errors import UsageError
from benchmark.core.types import TASKS
from benchmark.plugins.task_files import include_task, is_task_file
from benchmark.running.presets import PRESETS

if TYPE_CHECKING:
    from benchmark.core.types import Task
    from benchmark.inspection.conformance.findings import Findings


def add_verify(verb: Verb) -> None:
    """Add verify-metrics to the parser."""
    verify = verb("verify-metrics", verify_command, "Compare every metric with Quantus, Captum and plain loops, or an "
                  "implementation of yours with ours.")  # fmt: skip
    verify.add_argument(
        "--implementation", metavar="FILE.py:FUNCTION", help="a function of yours that scores attributions"
    )
    verify.add_argument("--metric", metavar="NAME", help="which metric it is")
    verify.add_argument("--variant", action="append", default=[], metavar="NAME",
                        help="a known variant that it means to be (may be given several times)")  # fmt: skip
    verify.add_argument("--tolerance", type=float, default=1e-9, help="up to which scores are equal (default: 1e-9)")
    verify.add_argument("--json", action="store_true", help="print as JSON")


def verify_command(arguments: argparse.Namespace) -> int:
    """Print the agreement of every metric with code that is not ours, or of one implementation with the metric."""
    if arguments.implementation is not None or arguments.metric is not None:
        return _check_implementation(arguments)
    from benchmark.inspection.crosscheck.checks import DIFFERENCES, render
    from benchmark.inspection.crosscheck.verify import verify
    from benchmark.running.settings import single_threaded

    single_threaded()
    checks = verify()
    if arguments.json:
        print(json.dumps({"checks": [check.row() for check in checks], "differences": DIFFERENCES}, indent=1))
    else:
        print(render(checks))
    return int(not all(check.passed for check in checks))


def _check_implementation(arguments: argparse.Namespace) -> int:
    """Print how someone's implementation compares with a metric."""
    if arguments.implementation is None or arguments.metric is None:
        raise UsageError("--implementation FILE.py:FUNCTION and --metric NAME go together: give both, or none of them")
    from benchmark.running.settings import single_threaded
    from benchmark.testing import check_metric
    from benchmark.testing.loading import load_function

    single_threaded()
    report = check_metric(arguments.metric, load_function(arguments.implementation), tolerance=arguments.tolerance,
                          variants=arguments.variant)  # fmt: skip
    print(json.dumps(report.row(), indent=1) if arguments.json else report)
    return int(not report.passed)


def regress_command(arguments: argparse.Namespace) -> int:
    """Compare with golden values, or renew them."""
    from benchmark.inspection.crosscheck import regress
    from benchmark.records.provenance import checkout
    from benchmark.running.settings import single_threaded

    single_threaded()
    if arguments.update and arguments.golden is None and checkout() is None:
        raise UsageError("regress --update renews the golden values of a checkout; this is an installed package: name "
                         "a file of yours with --golden FILE")  # fmt: skip
    path = arguments.golden or regress.GOLDEN
    if arguments.device == "cuda":
        from benchmark.running.settings import require_cuda

        require_cuda()
    new = arguments.update and arguments.golden is not None and not path.exists()
    golden = regress.Golden({}, {}) if new else regress.read(path)
    measured = regress.measure(arguments.device)
    changes = regress.compare(golden.values, measured, arguments.device)
    if arguments.update:
        regress.write(regress.renewed(golden, measured, arguments.device), path)
    if arguments.json:
        print(json.dumps([{"where": change.where, **vars(change)} for change in changes], indent=1))
    else:
        print(regress.render(changes, measured, "changed" if arguments.update else "moved"))
    if not arguments.update:
        regress.check(golden)
    return int(bool(changes) and not arguments.update)


def add_check(verb: Verb) -> None:
    """Add the command to the parser."""
    check = verb("check", check_command, "Try a method, a task or a metric, and say what is wrong with it.")
    check.add_argument("what", choices=("method", "task", "metric"))
    check.add_argument("name", help="of it; a method may have parameters, a task may be FILE.py:NAME")
    check.add_argument("--task", help="try a method or metric on this task (default: small ones of each modality)")
    check.add_argument("--preset", choices=tuple(PRESETS), default="quick", help="what methods may spend")
    check.add_argument("--json", action="store_true", help="print as JSON")
    add_sources(check)


def check_command(arguments: argparse.Namespace) -> int:
    """Print what each check found; 1 where something is wrong."""
    from benchmark.running.settings import single_threaded

    single_threaded()
    report = {"method": _method, "task": _task, "metric": _metric}[arguments.what](arguments)
    print(json.dumps(report.plain(), indent=1) if arguments.json else report.text())
    return int(not report.passed)


def _method(arguments: argparse.Namespace) -> Findings:
    from benchmark.inspection.conformance.methods import check_method, unusable_method
    from benchmark.running.plan import method_for, parse_methods

    name = arguments.name.partition("[")[0]
    if (report := unusable_method(name)) is not None:
        return report
    (choice,) = parse_methods(arguments.name)
    return check_method(name, method_for(choice, arguments.preset), _tasks(arguments))


def _task(arguments: argparse.Namespace) -> Findings:
    from benchmark.inspection.conformance.tasks import check_task_named

    if arguments.task is not None:
        raise UsageError(f"check task tries the task itself: leave out --task {arguments.task}")
    own = is_task_file(arguments.name)
    name = include_task(arguments.name, "check task") if own else TASKS.entry(arguments.name).name
    return check_task_named(name, chosen_sources(arguments))


def _metric(arguments: argparse.Namespace) -> Findings:
    from benchmark.inspection.conformance.metrics import check_metric_named
    from benchmark.scoring.metrics import METRICS, select_metrics

    chosen = [arguments.name] if arguments.name in METRICS else select_metrics(arguments.name)
    if len(chosen) > 1:
        raise UsageError(f"check metric tries one, got {arguments.name!r}, which is {', '.join(chosen)}")
    return check_metric_named(chosen[0], _tasks(arguments))


def _tasks(arguments: argparse.Namespace) -> dict[str, Callable[[], Task]] | None:
    """Return what builds the task that --task names, with a few of its test rows; None where it names none."""
    from benchmark.inspection.conformance.trial_tasks import first_rows

    if arguments.task is None:
        return None
    name = TASKS.one(arguments.task)
    spec = TASKS.get(name)()
    located = spec.locate(chosen_sources(arguments))
    return {name: first_rows(partial(spec.build, located, name, "cpu"))}
