"""Timings for pytest-benchmark: they record and fail on nothing. `tox -e perf` runs them and the report."""

from __future__ import annotations

import pytest

from benchmark.scoring.metrics import TEN
from tests.performance import workloads


@pytest.mark.parametrize("metric", TEN)
def test_table_one_method(benchmark, metric):
    task = workloads.table()
    methods = workloads.attributions(task)
    benchmark(workloads.ours, task, methods, [metric])


def test_table_nine_methods(benchmark):
    task = workloads.table()
    benchmark(workloads.ours, task, workloads.attributions(task, 9))


def test_image_one_method(benchmark):
    task = workloads.image(samples=8)
    benchmark.pedantic(workloads.ours, (task, workloads.attributions(task)), rounds=3)
