"""Timings for pytest-benchmark: they record and fail on nothing. `tox -e perf` runs them and the report."""

from __future__ import annotations

import pytest

from benchmark.scoring.metrics import TEN
from tests.leaderboards.generated import boards, several
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


def test_board_with_intervals(benchmark):
    records, _ = several(13, 20, 3, 256)
    benchmark.pedantic(boards, (records,), rounds=3)
