"""Explainers of other libraries, which are objects, as the callable that `evaluate` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmark.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.core.types import Attribute

NAMES = {"attribute": "target", "get_explanations": None, "get_explanation": None}
"""What the objects call their function, and the keyword of the target; None where it is the second argument.

Captum's `Attribution.attribute(inputs, target=...)`; OpenXAI's `Explainer.get_explanations(inputs, labels)`, which was
`get_explanation` in its first version.
"""


def as_callable(explainer: Any, **options: Any) -> Attribute:
    """Return an explainer of Captum's or OpenXAI's as a callable `(x, target) -> attribution`.

    Args:
        explainer: an object with `attribute(inputs, target=...)`, as Captum's, or `get_explanations(inputs, labels)`,
            as OpenXAI's. Nothing of either library is imported.
        options: keyword arguments of each call, such as `n_steps=50` or `baselines=...`.

    Returns:
        A function of inputs (B, ...) and classes (B,) that returns what the explainer does, detached.

    Raises:
        UsageError: it has neither function.

    Example:
        >>> import torch
        >>> from captum.attr import InputXGradient
        >>> model = torch.nn.Linear(4, 3)
        >>> as_callable(InputXGradient(model))(torch.ones(5, 4), torch.zeros(5, dtype=torch.long)).shape
        torch.Size([5, 4])
    """
    name = next((name for name in NAMES if callable(getattr(explainer, name, None))), None)
    if name is None or isinstance(explainer, type):
        got = explainer.__name__ if isinstance(explainer, type) else type(explainer).__name__
        more = ": make an object of the class first" if isinstance(explainer, type) else ""
        raise UsageError(f"expected an explainer with {' or '.join(list(NAMES)[:2])}, got {got}{more}")
    keyword = NAMES[name]

    def explain(x: Tensor, target: Tensor) -> Tensor:
        function = getattr(explainer, name)
        given = function(x, target, **options) if keyword is None else function(x, **{keyword: target}, **options)
        given = given[0] if isinstance(given, tuple) else given  # Captum gives one a tuple of inputs
        return given.detach()

    return explain
