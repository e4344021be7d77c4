"""What a learned explainer may be given beside the input: the predicted class, how far its logit leads, and hints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmark.core.types import Method, Modality, Task
from benchmark.learning.hints import USUAL, Hints
from benchmark.learning.prediction import margins
from benchmark.modalities.building import origin_of
from benchmark.models.batching import Batching

GIVEN = ("nothing", "gradient")
KEPT_BYTES = 2**29
"""What the hints of training rows may take; where all would take more, those of each batch are computed anew."""


def all_beside(task: Task, hints: Hints, x: Tensor, batching: Batching, otherwise: str) -> tuple[Tensor, ...]:
    """Return logits (B, C), float64, predicted classes (B,), by how much their logits lead (B,), and hints (B, G, J).

    Args:
        task: whose model is asked.
        hints: which.
        x: inputs (B, ...).
        batching: of the model's forwards.
        otherwise: see `Hints.of`.

    Raises:
        NoGradientError: no gradient passes the model.
        BenchmarkError: LRP or DeepLIFT cannot be taken of the model.
    """
    with torch.no_grad():
        logits = batching.ask(x, lambda rows: task.model(x[rows]).double())
    target = logits.argmax(1)
    return logits, target, margins(logits, target).float(), hints.of(task, x, target, otherwise).detach()


class Beside:
    """Maps inputs (B, ...) to what an encoder is given beside them.

    Args:
        task: whose model is asked.
        given: `nothing`, an empty tuple; or `gradient`, what `deepfaith_hinted` is given by default: predicted classes
            (B,), by how much their logits lead (B,), and their hints (B, G, J).
        method: on whose behalf, for errors.

    Attributes:
        count: J, or 0.

    Example:
        >>> Beside(task, "nothing", "cxplain")(x)
        ()
        >>> target, margin, hints = Beside(task, "gradient", "cxplain")(x)
    """

    def __init__(self, task: Task, given: str, method: str) -> None:
        self.task, self.method = task, method
        self.hints = USUAL[task.modality] if given == "gradient" else None
        self.count = len(self.hints.names) if self.hints else 0
        self.batching = Batching(task)

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return what is given beside inputs x (B, ...).

        Raises:
            NoGradientError: no gradient passes the model.
            BenchmarkError: LRP or DeepLIFT cannot be taken of the model.
        """
        if self.hints is None:
            return ()
        return all_beside(self.task, self.hints, x, self.batching, f"{self.method}[given=nothing]")[1:]

    def of_rows(self, x: Tensor) -> Callable[[Tensor], tuple[Tensor, ...]]:
        """Return what maps rows, numbers (B,), of inputs x (N, ...) to what is given beside these.

        It is computed once, unless the hints would take more than `KEPT_BYTES`.
        """
        if len(x) * self.task.n_features * self.count * 4 > KEPT_BYTES:
            return lambda rows: self(x[rows])
        kept = self(x)
        return lambda rows: tuple(column[rows] for column in kept)

    def origins(self) -> list[Any]:
        """Return what the hints follow from beside this source, as plain data; see `origin_of`."""
        methods = self.hints.methods() if self.hints else {}
        return [origin_of(name, method, self.task) for name, method in methods.items()]


def nothing(_rows: Tensor) -> tuple[Tensor, ...]:
    """Return what is given beside rows where nothing is."""
    return ()


def methods_beside(given: str, modality: Modality) -> Sequence[Method]:
    """Return the methods whose attributions are given beside inputs of a modality; see `Beside`."""
    return list(USUAL[modality].methods().values()) if given == "gradient" else []
