"""A figure as SVG inside a page: in the page's colours and font, light or dark, with a word on what each point is."""

from __future__ import annotations

import io
import re
from html import escape

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from leaderboards.figures import ACCENT, FAINT, GRID, INK, PLAIN

PAGE_COLOURS = {INK: "--ink", FAINT: "--soft", GRID: "--line", ACCENT: "--accent", PLAIN: "--dot"}
"""Variables of the page's style sheet that stand for the colours of figures."""


def inline_svg(figure: Figure, label: str) -> str:
    """Return a figure as an SVG element and close it.

    Lines and texts that carry a label of matplotlib's show it when they are pointed at.

    Args:
        figure: drawn in the colours of `leaderboards.figures`.
        label: says in a sentence what is drawn, for those who do not see it.
    """
    tips = {f"tip-{at}": artist for at, artist in enumerate(figure.findobj(_has_tip))}
    for name, artist in tips.items():
        artist.set_gid(name)
    sink = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):  # the salt keeps two figures' names apart
        figure.savefig(sink, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    drawn = sink.getvalue()
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawn)[0]
    body = drawn[drawn.index("</metadata>") + len("</metadata>") : drawn.rindex("</svg>")]
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    for name, artist in tips.items():
        body = body.replace(f'<g id="{name}">', f"<g><title>{escape(str(artist.get_label()))}</title>")
    body = re.sub(r'<g id="[^"]*">', "<g>", body)  # names that a second figure would have, too
    body = re.sub(r"font-family: [^;]*; ", "", body)
    body = re.sub(r" transform=\"rotate\(-0 [^)]*\)\"", "", body)
    for colour, variable in PAGE_COLOURS.items():
        body = body.replace(f": {colour}", f": var({variable})")
    body = re.sub(r' (d|x|y|transform)="[^"]*"', _rounded, re.sub(r"\s+", " ", body))
    title = escape(label)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}"><title>{title}</title>{body}</svg>'


def _rounded(attribute: re.Match[str]) -> str:
    """Return an attribute with its coordinates to a tenth of a point."""
    return re.sub(r"\d+\.\d\d+", lambda number: f"{float(number[0]):.1f}", attribute[0])


def _has_tip(artist: Artist) -> bool:
    label = str(artist.get_label())
    return isinstance(artist, Line2D | Text) and label != "" and not label.startswith("_")
