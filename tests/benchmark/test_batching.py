"""Rows are asked in forwards that fit the memory, and each is answered once."""

from __future__ import annotations

import pytest
import torch

from benchmark.models.batching import Batching, bytes_per_row
from tests import toys


@pytest.fixture
def task():
    return toys.table(samples=50)


def ten_rows(task):
    """Return a batching whose forwards have ten rows at most."""
    return Batching(task, 10 * bytes_per_row(task, task.test.x))


def test_forwards_have_equal_sizes_and_answers_their_order(task):
    x, slices = task.test.x[:41], []

    def ask(rows):
        slices.append(rows)
        return x[rows].sum(1)

    assert torch.equal(ten_rows(task).ask(x, ask), x.sum(1))
    assert [rows.stop - rows.start for rows in slices] == [9, 8, 8, 8, 8]


@pytest.mark.parametrize("failing", [{1}, {2}, {5}, {1, 2}, {2, 3, 5}, {1, 2, 3}])
def test_each_row_is_answered_once_wherever_memory_runs_out(task, failing):
    """Before a forward, in it, or while its answer is made: `ask` fails on some of its calls."""
    x, batching, calls = task.test.x, ten_rows(task), []

    def ask(rows):
        calls.append(rows)
        answer = task.model(x[rows])
        if len(calls) in failing:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answer

    torch.testing.assert_close(batching.ask(x, ask), task.model(x), rtol=0, atol=1e-12)
    assert batching.halvings == len(failing)
    answered = [rows for number, rows in enumerate(calls, 1) if number not in failing]
    assert [row for rows in answered for row in range(rows.start, rows.stop)] == list(range(50))


def test_an_error_of_the_one_who_takes_the_answers_is_not_an_error_of_memory_here(task):
    x, batching = task.test.x, ten_rows(task)

    def take(_answer):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        list(map(take, batching.answers(x, lambda rows: x[rows])))
    assert batching.halvings == 0


def test_out_of_memory_at_one_row_is_an_error(task):
    asked = []

    def ask(rows):
        asked.append(rows.stop - rows.start)
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        ten_rows(task).ask(task.test.x, ask)
    assert asked == [10, 5, 2, 1]
