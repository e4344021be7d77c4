"""A plug-in for pytest: the fixture `check_metric`, for tests of one's own implementations of metrics.

Nothing is imported before a test uses the fixture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def check_metric() -> Callable[..., None]:
    """Return a function that fails the test where an implementation differs from the metric, and says how.

    It takes what `benchmark.testing.check_metric` takes.

    Example:
        >>> def test_deletion(check_metric):
        ...     check_metric("DEL", my_package.deletion)
    """

    def check(name: str, function: Callable[..., Any], **options: Any) -> None:
        from benchmark.testing import check_metric as compared

        __tracebackhide__ = True
        report = compared(name, function, **options)
        if not report.passed:
            pytest.fail(str(report), pytrace=False)

    return check
