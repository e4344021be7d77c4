"""Variants of DeepFaith with a part left out or replaced, as parameters."""

from __future__ import annotations

VARIANTS: dict[str, dict[str, dict[str, str]]] = {
    "deepfaith": {
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
    },
    "deepfaith_hinted": {
        "full": {},
        "start alone": {"iterations": "0"},
        "no start": {"start": "nothing"},
        "no hints": {"points": "0", "rules": "false", "gains": "false", "additive": "true"},
        "one gradient": {"points": "1", "rules": "false"},
        "mixed sizes": {"loss": "mixed", "separate": "false"},
        "gains alone": {"additive": "false"},
        "no gains": {"gains": "false", "additive": "true"},
        "one output": {"separate": "false"},
        "two outputs": {"separate": "true"},
        "three members": {"ensemble": "3"},
        "distilled": {"distilled": "true"},
    },
}
"""By method. `deepfaith`: the paper's five and ours, signed form, inputs beyond the training rows, and conditioning on
the prediction. `deepfaith_hinted`: learning, start, hints, loss, gains, outputs, members, and distilling; some are
`full` on some tasks."""
