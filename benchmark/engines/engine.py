"""What an engine is: a way to compute a model's forwards. Gradients stay with PyTorch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from benchmark.core.errors import BenchmarkError, UsageError, did_you_mean
from benchmark.core.types import Precision
from benchmark.data.words import PAD
from benchmark.models.batching import bare
from benchmark.models.text import TextModel

EAGER, AUTO = "eager", "auto"
ENGINES = {
    "compile": "benchmark.engines.compiled",
    "onnxruntime": "benchmark.engines.onnx_runtime",
    "openvino": "benchmark.engines.open_vino",
}
"""Modules of engines by name, beside PyTorch's own forwards (`eager`). Each is imported when it is used."""

Forward = Callable[[Tensor], Tensor]
"""Logits (n, C) of rows (n, ...), for any n."""


class EngineError(BenchmarkError):
    """An engine cannot run a model here."""


class Builder(Protocol):
    """What a module of an engine offers."""

    def build(self, exported: Exported, rows: Tensor, precision: Precision) -> Forward:
        """Return the forward of a model.

        Args:
            exported: the model.
            rows: inputs (n, ...) like those that it will be asked about.
            precision: of the forwards.

        Raises:
            EngineError: the engine is not installed, or cannot run the model in this precision on these rows' device.
        """


@dataclass(frozen=True, eq=False)
class Exported:
    """A model as it can be exported: what depends on the values of its input is done before it.

    Attributes:
        module: gives logits (n, C), and takes whatever `before` returns.
        before: applied to inputs first.
        dynamic: dimensions of the input, beside the first, that differ from forward to forward.
    """

    module: nn.Module
    before: Forward
    dynamic: tuple[int, ...] = ()


def exported(model: nn.Module) -> Exported:
    """Return a model as engines take it; the module shares its weights."""
    if isinstance(model, TextModel):
        return Exported(_Untrimmed(model).eval(), _trimmed, (1,))
    return Exported(model, lambda x: x)


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
    return x[:, : max(1, int((x != PAD).sum(1).max()))]


class Engine:
    """A model's forwards through an engine; rows count as rows of the model, whoever counts them.

    Example:
        >>> engine = Engine("onnxruntime", model, x)
        >>> engine(x)  # logits (n, C)

    Args:
        name: one of `ENGINES`.
        model: in eval mode.
        rows: inputs (n, ...) like those that it will be asked about.
        precision: of the forwards.

    Raises:
        UsageError: there is no such engine.
        EngineError: it cannot run this model here.
    """

    def __init__(self, name: str, model: nn.Module, rows: Tensor, precision: Precision = "fp32") -> None:
        if name not in ENGINES:
            raise UsageError(f"unknown engine {name!r}{did_you_mean(name, [EAGER, AUTO, *ENGINES])}")
        self.name, self.model = name, model
        self._exported = exported(model)
        builder = cast(Builder, importlib.import_module(ENGINES[name]))
        try:
            self._forward = builder.build(self._exported, self._exported.before(rows), precision)
        except BenchmarkError:
            raise
        except Exception as error:  # what a compiler raises is of any type
            first = (str(error).strip().splitlines() or [""])[0]
            raise EngineError(f"{name} cannot run {type(model).__name__}: {type(error).__name__}: {first}") from error

    def __call__(self, x: Tensor) -> Tensor:
        """Return logits (n, C) of rows x (n, ...), and let the hooks on the model see them."""
        logits = self.uncounted(x)
        for hook in list(self.model._forward_hooks.values()):
            hook(self.model, (x,), logits)
        return logits

    def uncounted(self, x: Tensor) -> Tensor:
        """Return logits (n, C) without a word to whoever counts."""
        with torch.inference_mode():
            return self._forward(self._exported.before(x))


def eager(model: nn.Module, x: Tensor, precision: Precision) -> Tensor:
    """Return the logits (n, C) of PyTorch's own forward, uncounted."""
    with torch.inference_mode(), torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
        return bare(model)(x)
