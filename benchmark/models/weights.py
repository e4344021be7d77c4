"""Weights of target models: trained once and cached, or loaded from a file, and checked against the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from benchmark.core.errors import DataError, short
from benchmark.core.store import MODELS, Made, Unusable, digest_of
from benchmark.models.training import freeze


def trained(
    path: Path, build: Callable[[], nn.Module], train: Callable[[], tuple[nn.Module, dict[str, Any]]],
    check: Callable[[dict[str, Any]], object] | None = None,
) -> tuple[nn.Module, dict[str, Any]]:  # fmt: skip
    """Return the frozen model whose weights are at `path`, training it first if they are not, and facts about it.

    Args:
        path: where the weights are, or will be.
        build: returns the untrained model.
        train: returns a trained model and facts about it, as plain data.
        check: is given the facts, and raises `Unusable` where they are those of another model than is asked for.

    Returns:
        The model, in eval mode; what `train` said of it, and the digest of its weights.

    Raises:
        DataError: `train` gave other weights than the model's.
    """
    model = build()

    def make() -> Made:
        trained_model, facts = train()
        return trained_model.state_dict(), facts

    def fits(state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        if check is not None:
            check(facts)
        fill(model, state)

    state, facts = MODELS.get(path, make, fits)
    return freeze(model), facts | {"digest": digest_of(state)}


def fill(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Load weights into `model`.

    Raises:
        Unusable: a key is missing, extra or of another shape.
    """
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise Unusable(f"does not fit the model: {short(error, 600)}") from error


def load_strictly(model: nn.Module, state: dict[str, Tensor], what: str, hint: str) -> None:
    """Load weights from elsewhere into `model`.

    Raises:
        DataError: a key is missing, extra or of another shape.
    """
    try:
        fill(model, state)
    except Unusable as why:
        raise DataError(f"{what} {why}; {hint}") from why
