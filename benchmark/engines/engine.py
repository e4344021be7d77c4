"""What an engine is: a way to compute the answers of a frozen model. Gradients stay with PyTorch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, cast

from torch import Tensor, nn

from benchmark.core.errors import BenchmarkError
from benchmark.core.types import Precision
from benchmark.data.words import PAD
from benchmark.engines.names import EAGER, ENGINES
from benchmark.models.others.adapters import view
from benchmark.models.text import TextModel

Forward = Callable[[Tensor], Tensor]
"""Logits (n, C) of rows (n, ...), for any n."""


@dataclass(frozen=True)
class Engine:
    """What answers for a task's model.

    Attributes:
        name: `eager`, or one of `benchmark.engines.names.ENGINES`.
        difference: the largest of a probability from that of the eager model in 32 bits, on rows of the task.
        milliseconds: a row, by name of an engine, where several were tried.
    """

    name: str = EAGER
    difference: float = 0.0
    milliseconds: dict[str, float] = field(default_factory=dict)


class EngineError(BenchmarkError):
    """An engine cannot run a model here."""


class Builder(Protocol):
    """What the module of an engine offers."""

    def build(self, exported: Exported, rows: Tensor, precision: Precision) -> Forward:
        """Return the forward of a model.

        Args:
            exported: the model.
            rows: inputs (n, ...) like those that it will be asked about.
            precision: of the forward.

        Raises:
            EngineError: the engine is not for this model, precision or device.
            ImportError: it is not installed; see `benchmark.engines.choosing.check_installed`.
        """


@dataclass(frozen=True, eq=False)
class Exported:
    """A model as it can be exported: what depends on the values of its input is done before it.

    Attributes:
        module: gives logits (n, C), and takes whatever `before` returns. It is not the model itself, whose weights it
            shares.
        before: applied to inputs first.
        dynamic: dimensions of the input, beside the first, that differ from forward to forward.
    """

    module: nn.Module
    before: Forward = field(default=lambda x: x)
    dynamic: tuple[int, ...] = ()


def exported(model: nn.Module) -> Exported:
    """Return a model as engines take it."""
    if isinstance(model, TextModel):
        return Exported(_Untrimmed(model).eval(), _trimmed, (1,))
    return Exported(model)


class _Untrimmed(nn.Module):
    """A text model that leaves columns of padding where they are: how many there are follows from values."""

    def __init__(self, model: TextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return logits for word numbers (B, L)."""
        return self.model.classify(self.model.embed(x), x != PAD)


def _trimmed(x: Tensor) -> Tensor:
    """Return texts (B, L) without the columns that are padding in all of them, as `TextModel.forward` reads them."""
    return x[:, : max(1, int((x != PAD).sum(1).max()))].contiguous()  # compilers tell layouts apart


def build(name: str, model: nn.Module, rows: Tensor, precision: Precision = "fp32") -> Forward:
    """Return the forward of a model through an engine, which nobody has compared with the model's own yet.

    Example:
        >>> forward = build("onnxruntime", model, x)
        >>> forward(x)  # logits (n, C)

    Args:
        name: one of `ENGINES`.
        model: in eval mode.
        rows: inputs (n, ...) like those that it will be asked about.
        precision: of the forward.

    Raises:
        EngineError: it is not for this model, precision or device; what its compiler cannot do, it says in any type.
        ImportError: it is not installed.
    """
    taken = exported(view(model))  # compilers keep what they are given: with the model itself, what is installed on it
    builder = cast(Builder, importlib.import_module(ENGINES[name]))
    before = taken.before
    forward = builder.build(taken, before(rows), precision)
    return lambda x: forward(before(x))  # and so nothing of the model, which holds what is installed
