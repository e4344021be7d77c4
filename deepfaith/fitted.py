"""A trained explainer that can be saved, loaded and used without the benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.core.errors import DataError, UsageError
from benchmark.core.files import write_atomically
from benchmark.core.store import Made, Unusable, sealed, unseal
from benchmark.learning.encoder import Shape
from benchmark.models.training import freeze
from benchmark.models.weights import fill
from deepfaith.explainer import Explainer, margins

TOKENS = 2**15
"""Tokens that pass the explainer together."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained explainer. `model` is what it explains: needed only where the explainer is conditioned on the margin.

    `report` has the curves, what was copied, and what training cost.
    """

    explainer: Explainer
    model: nn.Module | None = None
    report: dict[str, Any] = field(default_factory=dict)

    @torch.no_grad()
    def attribute(self, x: Tensor, target: Tensor | None = None) -> Tensor:
        """Return attributions (B, G), float32, for inputs x (B, ...) and the classes (B,) that the model predicts.

        One forward of the explainer, and, where it is conditioned on the margin or no target is given, one of the
        model.

        Raises:
            UsageError: x has another shape than the training inputs, or the model is needed and not known.
        """
        self._check(x, target)
        conditioning = self.explainer.conditioning
        tokens = max(1, len(self.explainer.backbone.place))
        rows = max(1, TOKENS // tokens)
        parts = []
        for start in range(0, len(x), rows):
            some = x[start : start + rows]
            own = None if target is None else target[start : start + rows]
            margin = None
            if conditioning == "margin" or (conditioning == "class" and own is None):
                if self.model is None:
                    what = "the margin of the model's prediction" if conditioning == "margin" else "a target"
                    raise UsageError(
                        f"this explainer is conditioned on {what}: load it with model=, the model it explains"
                    )
                logits = self.model(some).double()
                own = logits.argmax(1) if own is None else own
                margin = margins(logits, own).float()
            parts.append(self.explainer(some, own, margin).float())
        return torch.cat(parts)

    __call__ = attribute

    def _check(self, x: Tensor, target: Tensor | None) -> None:
        shape = self.explainer.backbone.shape
        wanted: tuple[int, ...] = (shape.features,)
        if shape.modality == "image":
            wanted = (shape.channels, shape.side, shape.side)
        if tuple(x.shape[1:]) != wanted or not len(x):
            raise UsageError(f"expected inputs of shape (B, {', '.join(map(str, wanted))}), got {tuple(x.shape)}")
        if x.is_floating_point() == (shape.modality == "text"):
            kind = "word numbers (integers)" if shape.modality == "text" else "floating-point numbers"
            raise UsageError(f"expected {kind}, got {x.dtype}")
        if target is not None and tuple(target.shape) != (len(x),):
            raise UsageError(f"expected a target for each of {len(x)} inputs, got {tuple(target.shape)}")

    def made(self) -> Made:
        """Return weights and plain facts, as a file holds them."""
        explainer = self.explainer
        facts = {
            "shape": explainer.backbone.shape.plain(), "classes": explainer.classes, "output": explainer.output,
            "conditioning": explainer.conditioning, "report": self.report,
        }  # fmt: skip
        return explainer.state_dict(), facts

    def save(self, path: str | Path) -> None:
        """Write the explainer, without the model, as safetensors with its configuration."""
        write_atomically(Path(path), sealed(*self.made()))


def load(path: str | Path, model: nn.Module | None = None, device: str = "cpu") -> Fitted:
    """Return the explainer that was saved at `path`; `model` is what it explains.

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
        explainer = Explainer(Shape(**facts["shape"]), facts["classes"], facts["output"], facts["conditioning"])
        report = facts["report"]
    except (KeyError, TypeError) as error:
        raise Unusable(f"holds no explainer of this version ({type(error).__name__}: {error})") from error
    fill(explainer, state)
    freeze(explainer)
    return Fitted(explainer.to(device), model, report)
