"""Draws docs/pictures/layers.png: the folders of the project, from top to bottom as they import each other."""

from __future__ import annotations

import argparse
from graphlib import TopologicalSorter

import matplotlib as mpl
import matplotlib.pyplot as plt

from tests.test_layers import GRAPH, LAYERS, MODULES, ROOT, layer

PICTURE = ROOT / "docs" / "pictures" / "layers.png"
WIDTH, HEIGHT = 0.84, 0.62
"""Size of a box; a layer is one high, a column one wide."""
COLUMN = {
    "benchmark.core": 0,
    "benchmark.processes": 2,
    "benchmark.data": -0.6,
    "benchmark.statistics": -1,
    "benchmark.records": 0.3,
    "benchmark.models": 0,
    "benchmark.engines": 2,
    "benchmark.scoring": -1,
    "benchmark.metrics": -2,
    "benchmark.modalities": 0,
    "benchmark.plugins": 2,
    "benchmark.learning": 1,
    "benchmark.tasks": -1,
    "methods": 1,
    "benchmark.tuned": 1.15,
    "benchmark.running": 2,
    "benchmark.scheduling": 2,
    "benchmark.tuning": 2,
    "benchmark.inspection": 0,
    "benchmark.testing": -1,
    "deepfaith": 1,
    "leaderboards": 0.5,
    "benchmark.api": 1.5,
    "benchmark.bridges": -0.5,
    "benchmark.cli": 1,
}
"""Where a folder stands in its layer, so that no arrow runs behind a box."""


def imported_folders() -> dict[str, set[str]]:
    """Return for each folder those that it imports from."""
    folders: dict[str, set[str]] = {folder: set() for folder in LAYERS if folder != "benchmark.__main__"}
    for name, imported in GRAPH.items():
        importer = LAYERS[layer(name)] if name != "benchmark" else None
        if importer in folders:
            folders[importer] |= {LAYERS[layer(other)] for other in imported if other != "benchmark"} - {importer}
    return folders


def reduced(folders: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the imports that follow from no others: what one of a folder's imports imports, too, is left out."""
    reached: dict[str, set[str]] = {}
    for folder in TopologicalSorter(folders).static_order():
        reached[folder] = folders[folder].union(*(reached[other] for other in folders[folder]))
    return {
        folder: {other for other in imported if not any(other in reached[between] for between in imported)}
        for folder, imported in folders.items()
    }


def heights(imports: dict[str, set[str]]) -> dict[str, int]:
    """Return the layer of each folder, from 0: each stands one above the highest that it imports from."""
    height: dict[str, int] = {}
    for folder in TopologicalSorter(imports).static_order():
        height[folder] = 1 + max((height[other] for other in imports[folder]), default=-1)
    return height


def draw() -> None:
    """Write the picture."""
    mpl.use("agg")
    imports = reduced(imported_folders())
    place = {folder: (COLUMN[folder], height) for folder, height in heights(imports).items()}
    top = max(y for _, y in place.values())
    figure, axes = plt.subplots(figsize=(11.3, 0.8 * top + 1.4))
    for importer, folders in imports.items():
        for imported in folders:
            (x, y), (u, v) = place[importer], place[imported]
            arrow = {"arrowstyle": "-|>", "color": "#5b6b7b", "lw": 1.3, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (u, v + HEIGHT / 2), (x, y - HEIGHT / 2), arrowprops=arrow, zorder=1)
    for folder, (x, y) in place.items():
        modules = sum(1 for name in MODULES if name.startswith(f"{folder}.") and not name.endswith("__init__"))
        corner = (x - WIDTH / 2, y - HEIGHT / 2)
        axes.add_patch(plt.Rectangle(corner, WIDTH, HEIGHT, facecolor="#f4efe6", edgecolor="#554433", zorder=2))
        axes.text(x, y + 0.08, folder.replace(".", "/"), ha="center", va="center", fontsize=9.5, zorder=3)
        axes.text(x, y - 0.17, f"{modules} modules", ha="center", va="center", fontsize=8.5, color="#555555", zorder=3)
    axes.set(xlim=(-2.45, 2.45), ylim=(-0.5, top + 0.5))
    axes.set_title("What a folder imports from; what follows from other arrows is left out", fontsize=11)
    axes.axis("off")
    figure.savefig(PICTURE, dpi=120, bbox_inches="tight")
    plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", required=True, help="renew docs/pictures/layers.png")
    parser.parse_args()
    draw()
