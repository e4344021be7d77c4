"""What a person's function is given of a golden case, by the names of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.testing.golden import Golden

Framework = Literal["numpy", "torch"]
FRAMEWORKS = get_args(Framework)
NAMES = (
    "model", "predict", "x", "target", "attribution", "baseline", "remove", "steps", "features_in_step", "subsets",
    "valid", "ties", "seed",
)  # fmt: skip
"""Parameters that a function may have; `check_metric` says what each is."""


class AnyRows(nn.Module):
    """A task's model that answers arrays with arrays and tensors with tensors, whatever their type of number."""

    def __init__(self, golden: Golden) -> None:
        super().__init__()
        self.model, self.number = golden.case.task().model, golden.x.dtype  # one that it may change

    def forward(self, rows: Any) -> Any:
        """Return logits (B, C) for rows (B, ...)."""
        if isinstance(rows, Tensor):
            return self.model(rows.to(self.number))
        with torch.no_grad():
            return self.model(torch.as_tensor(np.asarray(rows)).to(self.number)).numpy()


def missing(names: frozenset[str], golden: Golden) -> str | None:
    """Return why a function with these parameters cannot be judged on a case, or None where it can."""
    if golden.padded and "valid" not in names:
        return "padding, which parameter `valid` marks"
    if "features_in_step" in names and not golden.even:
        return "groups of several sizes, where parameter `features_in_step` is no one number"
    return None


def arguments(golden: Golden, names: frozenset[str], framework: Framework) -> dict[str, Any]:
    """Return what a function is given of a case: copies, which it may change."""
    model = AnyRows(golden).eval()
    make: dict[str, Callable[[], Any]] = {
        "model": lambda: model,
        "predict": lambda: _predict(model),
        "x": lambda: golden.x,
        "target": lambda: golden.target,
        "attribution": lambda: golden.attributions,
        "baseline": lambda: _baseline(golden),
        "remove": lambda: _remove(golden),
        "steps": lambda: golden.steps,
        "features_in_step": lambda: int(golden.valid[0].sum()) // golden.steps,
        "subsets": lambda: golden.subsets,
        "valid": lambda: golden.valid,
        "ties": lambda: golden.ties,
        "seed": lambda: golden.case.seed,
    }
    return {name: _handed(make[name](), framework) for name in make if name in names}


def _handed(value: Any, framework: Framework) -> Any:
    """Return a copy of a tensor in the framework, anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    return value.clone() if framework == "torch" else value.numpy().copy()


def _baseline(golden: Golden) -> Tensor:
    return golden.task.removal.baseline(golden.x, golden.kind).expand_as(golden.x).to(golden.x)


def _predict(model: AnyRows) -> Callable[[Any], Any]:
    def predict(rows: Any) -> Any:
        """Return probabilities (B, C) for rows (B, ...)."""
        logits = model(rows)
        if isinstance(logits, Tensor):
            return logits.softmax(-1)
        exps = np.exp(logits - logits.max(-1, keepdims=True))
        return exps / exps.sum(-1, keepdims=True)

    return predict


def _remove(golden: Golden) -> Callable[[Any, Any], Any]:
    def remove(rows: Any, removed: Any) -> Any:
        """Return rows (B, ...) with the features that are True in `removed` (B, G) at the baseline."""
        given = torch.as_tensor(rows).to(golden.x)
        gone = torch.as_tensor(removed).bool()
        made = golden.task.remove(given, gone, golden.kind)
        return made if isinstance(rows, Tensor) else made.numpy()

    return remove
