"""Runs the pages of docs/gallery and draws their pictures: `python -m tests.gallery --write`."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
GALLERY = ROOT / "docs" / "gallery"
MOST_LINES = 10
"""Lines of an example beyond loading and imports."""


def blocks(page: Path) -> list[str]:
    """Return the Python of a page, block by block."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def lines_of(block: str) -> int:
    """Return how many lines of a block are neither empty nor imports."""
    return len([line for line in block.splitlines() if line.strip() and not line.startswith(("import ", "from "))])


def run(page: Path) -> dict[str, Any]:
    """Run the blocks of a page one after the other.

    Returns:
        The names that they defined.
    """
    names: dict[str, Any] = {"__name__": "gallery"}
    for block in blocks(page):
        exec(compile(block, page.name, "exec"), names)
    return names


def write() -> None:
    """Draw the pictures of the pages that draw any."""
    for page in sorted(GALLERY.glob("*.md")):
        if "board.png" in page.read_text():
            with tempfile.TemporaryDirectory() as folder:
                os.chdir(folder)
                run(page)
                shutil.copy("board.png", ROOT / "docs" / "pictures" / f"gallery_{page.stem}.png")
                os.chdir(ROOT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", required=True, help="renew docs/pictures/gallery_*.png")
    parser.parse_args()
    write()
