"""Draws docs/pictures/layers.png: the folders of the project, from top to bottom as they import each other."""

from __future__ import annotations

import argparse
from collections import Counter

import matplotlib as mpl
import matplotlib.pyplot as plt

from tests.test_layers import GRAPH, LAYERS, MODULES, ROOT, layer

PICTURE = ROOT / "docs" / "pictures" / "layers.png"
COLUMN = {"methods": -1.0, "deepfaith": 0.0, "leaderboards": 1.0}


def edges() -> Counter[tuple[str, str]]:
    """Return how many modules of one folder import from another."""
    found: Counter[tuple[str, str]] = Counter()
    for name, imported in GRAPH.items():
        if name == "benchmark":
            continue
        for folder in {LAYERS[layer(other)] for other in imported if other != "benchmark"} - {LAYERS[layer(name)]}:
            found[LAYERS[layer(name)], folder] += 1
    return found


def draw() -> None:
    """Write the picture."""
    mpl.use("agg")
    figure, axes = plt.subplots(figsize=(9, 9))
    shown = [folder for folder in LAYERS if folder != "benchmark.__main__"]
    place, height = {}, 0.0
    for folder in shown:
        place[folder] = (COLUMN.get(folder, 0.0), height)
        height += 0.0 if folder in ("methods", "deepfaith") else 1.0
    for (importer, imported), count in edges().items():
        if importer in place and imported in place:
            (x, y), (u, v) = place[importer], place[imported]
            bend = 0.0 if abs(y - v) <= 1 else 0.25 + 0.02 * (y - v)
            arrow = {"arrowstyle": "-|>", "color": "#888888", "lw": 0.5 + 0.15 * count,
                     "connectionstyle": f"arc3,rad={bend}"}  # fmt: skip
            axes.annotate("", (u, v + 0.22), (x, y - 0.22), arrowprops=arrow, zorder=1)
    for folder, (x, y) in place.items():
        modules = sum(1 for name in MODULES if name.startswith(f"{folder}.") and not name.endswith("__init__"))
        label = f"{folder.replace('benchmark.', 'benchmark/')}  ·  {modules}"
        axes.text(x, y, label, ha="center", va="center", zorder=2,
                  bbox={"boxstyle": "round,pad=0.4", "fc": "#f4efe6", "ec": "#554433"})  # fmt: skip
    axes.set(xlim=(-1.8, 1.8), ylim=(-0.8, height))
    axes.set_title("A folder imports from those below it (number of modules)", fontsize=11)
    axes.axis("off")
    figure.savefig(PICTURE, dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", required=True, help="renew docs/pictures/layers.png")
    parser.parse_args()
    draw()
