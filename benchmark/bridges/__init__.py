"""Bridges to other libraries: their scores and explainers in, ours out; none of them is imported for it.

Scores of others stay marked as theirs. They stand beside a board, and no rank or mean of ours is made of them.
"""

from __future__ import annotations

import importlib
from typing import Any

_PLACES = {
    "Scores": "scores",
    "as_callable": "callables",
    "as_explain_func": "quantus_calls",
    "as_quantus": "quantus_calls",
    "beside": "boards",
    "from_latec": "latec",
    "from_openxai": "openxai",
    "from_quantus": "quantus",
    "latec_attributions": "latec",
    "to_csv": "tidy",
    "to_frame": "tidy",
    "to_parquet": "tidy",
    "write_dataset": "dataset",
}
"""The module of each public name."""
__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    """Import what is public on first use, so that nothing heavy is loaded before it is needed."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return list(__all__)
