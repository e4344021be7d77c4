"""A trained explainer that can be saved, loaded and used without the benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.core.errors import DataError, UsageError
from benchmark.core.files import write_atomically
from benchmark.core.seeding import seeded
from benchmark.core.store import Made, Unusable, sealed, unseal
from benchmark.learning.encoder import Shape
from benchmark.learning.prediction import margins
from benchmark.models.training import freeze
from benchmark.models.weights import fill
from deepfaith.explainer import Explainer

TOKENS = 2**15
"""Tokens that pass the explainer together."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained explainer: maps inputs to attributions, and can be saved.

    Example:
        >>> explainer = deepfaith.load("explainer.safetensors", model=model)
        >>> explainer.attribute(x)  # (B, G)

    Attributes:
        explainer: the network.
        model: what it explains; needed only where the explainer is conditioned on the model's prediction.
        report: `curves` of training, what was `copied`, and `costs`.
    """

    explainer: Explainer
    model: nn.Module | None = None
    report: dict[str, Any] = field(default_factory=dict)

    @torch.no_grad()
    def attribute(self, x: Tensor, target: Tensor | None = None) -> Tensor:
        """Explain inputs by one forward of the explainer, and one of the model where it needs the prediction.

        Args:
            x: inputs (B, ...).
            target: the classes (B,) that the model predicts, if they are known.

        Returns:
            Attributions (B, G), float32.

        Raises:
            UsageError: x has another shape than the training inputs, or the model is needed and not known.
        """
        self._check(x, target)
        rows = max(1, TOKENS // max(1, len(self.explainer.backbone.place)))
        targets = [None] * len(x.split(rows)) if target is None else target.split(rows)
        parts = [self._explain(*batch) for batch in zip(x.split(rows), targets, strict=True)]
        return torch.cat(parts)

    def _explain(self, x: Tensor, target: Tensor | None) -> Tensor:
        """Return the attributions (b, G) of one batch, for the model's predictions where the explainer needs them."""
        conditioning = self.explainer.conditioning
        if conditioning == "nothing" or (conditioning == "class" and target is not None):
            return self.explainer(x, target).float()
        if self.model is None:
            what = "the margin of the model's prediction" if conditioning == "margin" else "a target"
            raise UsageError(f"this explainer is conditioned on {what}: load it with model=, the model it explains")
        logits = self.model(x).double()
        target = logits.argmax(1) if target is None else target
        return self.explainer(x, target, margins(logits, target).float()).float()

    __call__ = attribute

    def _check(self, x: Tensor, target: Tensor | None) -> None:
        shape = self.explainer.backbone.shape
        expected: tuple[int, ...] = (shape.features,)
        if shape.modality == "image":
            expected = (shape.channels, shape.side, shape.side)
        if tuple(x.shape[1:]) != expected or not len(x):
            raise UsageError(f"expected inputs of shape (B, {', '.join(map(str, expected))}), got {tuple(x.shape)}")
        if x.is_floating_point() == (shape.modality == "text"):
            kind = "word numbers (integers)" if shape.modality == "text" else "floating-point numbers"
            raise UsageError(f"expected {kind}, got {x.dtype}")
        if target is not None and tuple(target.shape) != (len(x),):
            raise UsageError(f"expected a target for each of {len(x)} inputs, got {tuple(target.shape)}")

    def made(self) -> Made:
        """Return weights and plain facts, as a file holds them."""
        explainer = self.explainer
        facts = {
            "shape": explainer.backbone.shape.plain(),
            "classes": explainer.classes,
            "form": explainer.form,
            "conditioning": explainer.conditioning,
            "report": self.report,
        }
        return explainer.state_dict(), facts

    def save(self, path: str | Path) -> None:
        """Write the explainer, without the model, as safetensors with its configuration."""
        write_atomically(Path(path), sealed(*self.made()))


def load(path: str | Path, model: nn.Module | None = None, device: str = "cpu") -> Fitted:
    """Load an explainer.

    Example:
        >>> deepfaith.load("explainer.safetensors", model=model).attribute(x)

    Args:
        path: where `Fitted.save` wrote it.
        model: what it explains: maps inputs to logits (B, C).
        device: where the explainer goes.

    Raises:
        DataError: there is no such file, it holds no explainer, or it is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no explainer at {str(path)!r}: expected a .safetensors file that save wrote")
    try:
        return fitted(*unseal(path), model, device)
    except Unusable as why:
        raise DataError(f"explainer {path} {why}; save it again, or train it again") from why


def fitted(
    state: dict[str, Tensor], facts: dict[str, Any], model: nn.Module | None = None, device: str = "cpu"
) -> Fitted:
    """Build an explainer from what `Fitted.made` gave.

    Raises:
        Unusable: something else gave it.
    """
    try:
        with seeded(0):  # the weights that it begins with are replaced, but drawing them moves the global generator
            explainer = Explainer(Shape(**facts["shape"]), facts["classes"], facts["form"], facts["conditioning"])
        report = facts["report"]
    except (KeyError, TypeError) as error:
        raise Unusable(f"holds no explainer of this version ({type(error).__name__}: {error})") from error
    fill(explainer, state)
    freeze(explainer)
    return Fitted(explainer.to(device), model, report)
