"""Commands that check metrics: verify-metrics, ours against others or another's against ours; regress."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

from benchmark.core.errors import UsageError


def add_verify(verb: Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]) -> None:
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
