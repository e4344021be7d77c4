"""Examples in docstrings run, and show what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.test_layers import MODULES

FOLDERS = (
    *("benchmark.api", "benchmark.bridges", "benchmark.core", "benchmark.data", "benchmark.statistics"),
    *("benchmark.records", "benchmark.scoring", "benchmark.models.others.wrapping", "benchmark.plugins"),
    *(
        "benchmark.modalities.grouping",
        "benchmark.modalities.removals",
        "benchmark.inspection.conformance",
        "benchmark.testing",
    ),
)
WITH_EXAMPLES = [name for name, path in MODULES.items() if name.startswith(FOLDERS) and ">>> " in path.read_text()]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings_show_what_they_say(name):
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried > 0
    assert failed == 0
