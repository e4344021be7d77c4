"""Attributions as colours, bars and pictures: what `explain` and the report have in common. Needs no torch."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

ORANGE, PURPLE, BLUE = (217, 95, 2), (117, 82, 178), (0, 114, 178)
"""Colours (red, green, blue) of what speaks for the predicted class, of what speaks against it, of planted evidence."""
BARS = 14
"""Columns of a table that are drawn: the strongest."""
OUTLIERS = 0.995
"""Attributions beyond this quantile of their size are drawn as strong as it."""
OUTLINE = 160
"""Pixels that an outline is at least wide or high, where the image is smaller."""
FAINT = 0.02
"""Words weaker than this are not coloured."""


@dataclass(frozen=True)
class Word:
    """A word of a text: its background as CSS, its attribution in words, and whether evidence was planted in it."""

    text: str
    style: str
    note: str = ""
    planted: bool = False


@dataclass(frozen=True)
class Bar:
    """A column of a table: its share of the strongest in percent, -100 to 100, and the ends of its interval alike."""

    name: str
    share: int
    interval: tuple[int, int] | None = None


def scale(attribution: np.ndarray) -> float:
    """Return the size of attribution that is drawn strongest: the 99.5th percentile, so that one outlier hides nothing.

    Args:
        attribution: of any shape; what is not finite does not count.
    """
    size = np.nan_to_num(np.abs(attribution), posinf=0.0)
    return float(np.quantile(size, OUTLIERS) or size.max() or 1.0)


def strength(attribution: np.ndarray) -> np.ndarray:
    """Return attributions scaled to [-1, 1] by their `scale`, 0 where they are no number."""
    return np.clip(np.nan_to_num(attribution) / scale(attribution), -1, 1)


def strongest(strengths: np.ndarray) -> np.ndarray:
    """Return the indices of the `BARS` features that are strongest over all explanations, (M, G), in their order."""
    return np.sort(np.argsort(-np.abs(strengths).mean(0), kind="stable")[:BARS])


def background(shade: float) -> str:
    """Return a colour as CSS, from purple (-1) over none (0) to orange (1).

    The page's own background shows through, so that text reads in light and in dark.
    """
    red, green, blue = ORANGE if shade > 0 else PURPLE
    return f"background:rgba({red},{green},{blue},{0.6 * min(1.0, abs(shade)):.2f})"


def grey(width: float) -> str:
    """Return a grey as CSS, from none (0) to the darkest that text is read on (1)."""
    return f"background:rgba(128,128,128,{0.7 * min(1.0, abs(width)):.2f})"


def words(
    texts: Sequence[str],
    attribution: np.ndarray,
    notes: Sequence[str],
    planted: np.ndarray | None = None,
    faint: float = FAINT,
) -> list[Word]:
    """Return the words of a text in the colours of their attribution (G,).

    Args:
        texts: the words, G of them.
        attribution: of each word.
        notes: what is said of each word when it is pointed at.
        planted: where evidence was planted, (G,) bool.
        faint: words weaker than this, 0 to 1, are left plain.
    """
    marked = np.zeros(len(texts), bool) if planted is None else planted
    return [
        Word(text, background(shade) if shown else "", note if shown else "", bool(evident))
        for text, shade, note, evident in zip(texts, strength(attribution), notes, marked, strict=True)
        for shown in [abs(shade) >= faint]
    ]


def bars(
    names: Sequence[str],
    attribution: np.ndarray,
    columns: np.ndarray,
    interval: tuple[np.ndarray, np.ndarray] | None = None,
) -> list[Bar]:
    """Return the bars of some `columns` (indices) of a table; `attribution` and the ends of its interval are (G,)."""
    shares = np.round(100 * strength(attribution)).astype(int)
    ends = [np.round(100 * np.clip(end / scale(attribution), -1, 1)).astype(int) for end in interval or ()]
    return [Bar(names[i], int(shares[i]), (int(ends[0][i]), int(ends[1][i])) if ends else None) for i in columns]


def overlay(heat: np.ndarray) -> str:
    """Return a map (H, W) in [-1, 1] as a transparent PNG in base 64: orange for, purple against."""
    pixels = np.zeros((*heat.shape, 4), np.uint8)
    pixels[heat > 0, :3], pixels[heat <= 0, :3] = ORANGE, PURPLE
    pixels[..., 3] = (np.abs(heat) ** 0.7 * 235).round()
    return png(pixels)


def outline(planted: np.ndarray) -> str:
    """Return the edge of an area (H, W) bool as a transparent PNG in base 64, enlarged so that the edge is thin."""
    planted = np.kron(planted, np.ones((max(1, OUTLINE // max(planted.shape)),) * 2, bool))
    padded = np.pad(planted, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    pixels = np.zeros((*planted.shape, 4), np.uint8)
    pixels[planted & ~inside] = (*BLUE, 255)
    return png(pixels)


def png(pixels: np.ndarray) -> str:
    """Return pixels (H, W), (H, W, 3) or (H, W, 4), uint8, as a PNG in base 64."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG", optimize=True)
    return base64.b64encode(sink.getvalue()).decode()
