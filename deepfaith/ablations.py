"""Variants of DeepFaith with a part left out or replaced, as parameters."""

from __future__ import annotations

VARIANTS: dict[str, dict[str, str]] = {
    "full": {},
    "pattern consistency only": {"alpha": "1"},
    "local correlation only": {"alpha": "0"},
    "fixed alpha 0.5": {"alpha": "0.5"},
    "deduplication only": {"quantile": "0"},
    "filter only": {"similarity": "2"},
    "neither": {"quantile": "0", "similarity": "2"},
    "no input mixing": {"mixing": "false"},
    "unit form": {"form": "unit"},
    "conditioned on the class only": {"conditioning": "class"},
    "unconditioned": {"conditioning": "nothing"},
}
"""The paper's five and ours: signed form, inputs beyond the training rows, and conditioning on the prediction."""
