"""One self-contained page about explanations of a sample, which asks for nothing elsewhere."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader

from benchmark.inspection.explain import Explained, Explanation, interval_widths
from benchmark.inspection.shading import Word, bars, grey, outline, overlay, png, strength, strongest, words
from benchmark.scoring.metrics import METRICS


def page(explained: Explained) -> str:
    """Return HTML that draws each explanation and lists the scores of all."""
    environment = Environment(
        loader=PackageLoader("benchmark.inspection"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    columns = strongest(np.stack([strength(explanation.attribution) for explanation in explained.explanations]))
    draw = {"image": _maps, "text": _words, "table": _bars}[explained.task.modality]
    picture, planted = explained.pixels, explained.evidence
    left_out = len(explained.names) - len(columns) if explained.task.modality == "table" else 0
    return (
        environment.get_template("explain.html.jinja")
        .render(
            explained=explained,
            kind=explained.task.modality,
            planted=planted is not None,
            uncertain=bool(interval_widths(explained)),
            image="" if picture is None else png((picture * 255).round().astype(np.uint8)),
            outline="" if picture is None or planted is None else outline(planted.reshape(picture.shape[:2])),
            panels=draw(explained),
            shown=len(columns),
            left_out=left_out,
            metrics=[f"{name}{'↑' if METRICS[name].higher_is_better else '↓'}" for name in explained.metrics],
            rows=[(e.label, _scores(e, explained.best())) for e in explained.explanations],
        )
        .lstrip()
        + "\n"
    )


def _scores(explanation: Explanation, best: dict[str, float]) -> list[tuple[str, bool]]:
    """Return each score as text, and whether no other explanation has a better one."""
    scores = [(explanation.scores[name], best.get(name)) for name in explanation.scores]
    return [("–" if math.isnan(score) else f"{score:.3f}", score == top) for score, top in scores]


def _bars(explained: Explained) -> list[dict[str, Any]]:
    assert explained.values is not None
    columns = strongest(np.stack([strength(explanation.attribution) for explanation in explained.explanations]))
    names = [f"{name} {value:+.1f}" for name, value in zip(explained.names, explained.values, strict=True)]
    return [{"title": e.label, "bars": bars(names, e.attribution, columns, e.interval)} for e in explained.explanations]


def _maps(explained: Explained) -> list[dict[str, Any]]:
    """Return a heat map for each explanation, then how wide intervals are, where there are any."""
    assert explained.pixels is not None
    shape = explained.pixels.shape[:2]
    panels = [
        {"title": e.label, "map": overlay(strength(e.attribution).reshape(shape))} for e in explained.explanations
    ]
    for title, width in interval_widths(explained):
        pixels = np.full((*shape, 4), 64, np.uint8)
        pixels[..., 3] = (width.reshape(shape) * 235).round()
        panels.append({"title": title, "map": png(pixels)})
    return panels


def _words(explained: Explained) -> list[dict[str, Any]]:
    """Return the words in the colours of each explanation, then in those of how wide intervals are."""
    planted = (np.zeros_like(explained.valid) if explained.evidence is None else explained.evidence)[explained.valid]
    panels = []
    for explanation in explained.explanations:
        attribution = explanation.attribution[explained.valid]
        notes = [f"{value:.4g}" for value in attribution]
        if explanation.interval is not None:
            ends = [end[explained.valid] for end in explanation.interval]
            notes = [f"{note}, {low:.4g} to {high:.4g}" for note, low, high in zip(notes, *ends, strict=True)]
        panels.append((explanation.label, words(explained.names, attribution, notes, planted, faint=0.0)))
    for title, width in interval_widths(explained):
        wide = width[explained.valid]
        texts = zip(explained.names, wide, planted, strict=True)
        panels.append((title, [Word(name, grey(share), f"{share:.2f}", bool(here)) for name, share, here in texts]))
    return [{"title": title, "words": items} for title, items in panels]
