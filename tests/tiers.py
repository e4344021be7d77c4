"""Which tests are slow: `tox -e fast` leaves them out, `tox` runs everything.

A test is slow if it takes more than about four seconds of a processor and others show that its part works: trainings
whose result is judged, kills, mutations, studies, and tasks whose stand-in models take long to train.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

QUICK_TASKS = ("nap_mlp", "breast_cancer_mlp", "imdb_lstm")
"""Their models are trained within seconds."""


def by_task(cases: Iterable[str | tuple[str, ...]]) -> list[object]:
    """Return cases for `parametrize`, each a task or a tuple that begins with one; those of other tasks are slow."""
    rows = [(case,) if isinstance(case, str) else case for case in cases]
    return [pytest.param(*row, marks=() if row[0] in QUICK_TASKS else pytest.mark.slow) for row in rows]
