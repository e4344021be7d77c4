"""DeepFaith, the amortised explainer of "Learning for Highly Faithful Explainability" (ICLR 2026).

`fit(model, x)` trains an explainer of any model, `load(path)` loads a saved one; `explainer.attribute(x)` explains.
"""

from __future__ import annotations

from typing import Any

__all__ = ["fit", "load"]


def __getattr__(name: str) -> Any:
    """Import what is public on first use: the command line lists this method without loading torch."""
    if name == "fit":
        from deepfaith.api import fit

        return fit
    if name == "load":
        from deepfaith.fitted import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
