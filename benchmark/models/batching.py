"""Asks a model about many rows, in forwards that fit the memory; every row is answered once.

The evaluator, perturbation methods and the training of explainers ask a task's model through this. Only checks of a few
rows, and the training of the model itself, ask it directly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmark.core.errors import DataError
from benchmark.core.types import Task

MAX_ROWS = 2**17
"""Rows of a forward, however small they are."""


class Batching:
    """Decides how many rows a forward of a task's model may have, and asks in such forwards.

    Rows a forward = `byte_budget` / what the largest row may hold (`bytes_per_row`). Where memory runs out all the
    same, the number is halved for good and the rows that have no answer yet are asked again.

    Example:
        >>> batching = Batching(task)
        >>> logits = batching.ask(x, lambda rows: task.model(x[rows]))  # (n, C), whatever n

    Args:
        task: whose model is asked; its inputs say how large a row is.
        byte_budget: bound of the memory of one forward, in bytes. By default it is 2 GiB on a GPU; on a CPU 8 MiB,
            about what caches hold, or the size of the weights where that is more. It does not follow from timings, so
            that the same machine always packs alike.

    Attributes:
        halvings: how often memory ran out.
    """

    def __init__(self, task: Task, byte_budget: int | None = None) -> None:
        self.task, self.halvings = task, 0
        weights = sum(weight.nelement() * weight.element_size() for weight in task.model.parameters())
        on_cpu = task.train.x.device.type == "cpu"
        self.byte_budget = byte_budget or (max(2**23, weights) if on_cpu else 2**31)
        self._max_rows = MAX_ROWS
        self._row_bytes: int | None = None

    def rows_per_forward(self, x: Tensor) -> int:
        """Return how many rows fit one forward if each is as large as the largest of x (n, ...), at least one."""
        if self._row_bytes is None:
            self._row_bytes = bytes_per_row(self.task, x)
        row_bytes = self._row_bytes
        if self.task.removal.pads:  # what a model holds of a text grows with its words at least
            longest = int(self.task.removal.valid(x).sum(1).max())
            row_bytes = max(1, row_bytes * longest // self.task.n_features)
        return self._rows_of(row_bytes)

    def _rows_of(self, row_bytes: int) -> int:
        return max(1, min(self._max_rows, self.byte_budget // row_bytes))

    def packing(self) -> dict[str, int]:
        """Return what a record says of how rows were packed; `rows_per_forward` is that of the largest input."""
        rows = 0 if self._row_bytes is None else self._rows_of(self._row_bytes)
        return {"rows_per_forward": rows, "byte_budget": self.byte_budget, "halvings": self.halvings}

    def answers(self, x: Tensor, ask: Callable[[slice], Tensor]) -> Iterator[Tensor]:
        """Yield the answers about rows 0 to n, forward by forward, in their order.

        Forwards have nearly equal sizes. What `ask` makes for a forward counts for memory, too: rows are best built in
        it. It may be called again for rows that it failed on, so it changes nothing.

        Args:
            x: the inputs (n, ...) that the rows are, or are made from by removing features; an expanded view will do.
            ask: gives the answers (k, ...) about the rows of a slice of k.

        Raises:
            torch.OutOfMemoryError: a single row does not fit.
        """
        done = 0
        while done < len(x):
            left = len(x) - done
            most = min(self.rows_per_forward(x[done:]), left)
            rows = slice(done, done + _ceil(left, _ceil(left, most)))
            try:
                answer = ask(rows)
            except torch.OutOfMemoryError:
                if most == 1:
                    raise
            else:
                yield answer
                done = rows.stop
                continue
            self._max_rows = most // 2  # after the clause: the error holds on to what the failed forward made
            self.halvings += 1
            torch.cuda.empty_cache()

    def ask(self, x: Tensor, ask: Callable[[slice], Tensor]) -> Tensor:
        """Return the answers about all rows, (n, ...); see `answers`. At least one row is needed."""
        return torch.cat(list(self.answers(x, ask)))


def _ceil(count: int, size: int) -> int:
    return -(-count // size)


def bytes_per_row(task: Task, x: Tensor) -> int:
    """Return what one row of a forward holds at its peak, in bytes: 3 x the largest layer output + 2 x the input.

    It is that of a row without padding, the largest that there can be: one like those of x (B, ...) with every feature
    removed.

    Raises:
        DataError: the model gives anything but logits (B, C) of two classes or more.
    """
    largest = 0

    def measure(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal largest
        largest = max(largest, *(tensor.nelement() * tensor.element_size() for tensor in tensors_in(output)), 0)

    row = task.removal.baseline(x[:1]).expand_as(x[:1]) if task.removal.pads else x[:1]
    hooks = [module.register_forward_hook(measure) for module in task.model.modules() if module is not task.model]
    try:
        with torch.inference_mode():
            logits = bare(task.model)(row)
    finally:
        for hook in hooks:
            hook.remove()
    check_logits(logits)
    return max(1, 3 * largest + 2 * row.nelement() * row.element_size())


def check_logits(logits: object) -> Tensor:
    """Return what a model gave if it is logits (B, C) of two classes or more.

    Raises:
        DataError: it is anything else.
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        what = str(logits.dtype) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise DataError(f"a model must give a tensor of real logits (batch, classes), got {what}: wrap it")
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise DataError(
            "a model must give logits of shape (batch, classes) with at least two classes, got "
            f"{(1, *logits.shape[1:])} for one sample"
        )
    return logits


def tensors_in(output: object) -> Iterator[Tensor]:
    """Yield the tensors of what a layer gives: itself, or those in tuples, lists and dictionaries."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        for part in output.values():
            yield from tensors_in(part)
    elif isinstance(output, (tuple, list)):
        for part in output:
            yield from tensors_in(part)


def bare(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the model's forward without the hooks on the model itself, so that a meter does not count it."""
    return model.forward
