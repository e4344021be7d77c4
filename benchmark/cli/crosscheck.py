"""Commands that check the metrics: verify-metrics against other packages, regress against golden values."""

from __future__ import annotations

import argparse
import json

from benchmark.core.errors import UsageError


def verify_command(arguments: argparse.Namespace) -> int:
    """Print the agreement of every metric with code that is not ours."""
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
