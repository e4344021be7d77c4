"""Runs the pages of docs/gallery: `python -m tests.gallery --write` renews what they print and draw."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.installed import ROOT, TEMPLATE, template_installed

GALLERY = ROOT / "docs" / "gallery"
MOST_LINES = 10
"""Lines of an example beyond loading and imports."""


def blocks(page: Path) -> list[str]:
    """Return the Python of a page, block by block."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def lines_of(block: str) -> int:
    """Return how many lines of a block are neither empty nor imports."""
    return len([line for line in block.splitlines() if line.strip() and not line.startswith(("import ", "from "))])


def run(page: Path) -> str:
    """Run the blocks of a page one after the other, where the template is installed if the page installs it.

    Returns:
        The page with what each block prints below it, up to the legend of a board.
    """
    names: dict[str, Any] = {"__name__": "gallery"}

    def shown(match: re.Match[str]) -> str:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(match[1], page.name, "exec"), names)
        text = re.sub(r"\n\n↑ .*?(?=\n\n|\Z)", "", out.getvalue().rstrip(), flags=re.DOTALL)
        return f"```python\n{match[1]}```" + (f"\n\n```text\n{text}\n```" if text else "")

    text = page.read_text()
    with template_installed() if f"pip install ./{TEMPLATE.relative_to(ROOT)}" in text else contextlib.nullcontext():
        return re.sub(r"```python\n(.*?)```(\n\n```text\n.*?```)?", shown, text, flags=re.DOTALL)


def alike(text: str) -> list[str]:
    """Return the lines of a page without numbers, which differ a little between machines, and in no order."""
    plain = re.sub(r"-{2,}", " ", re.sub(r"-?\d+(\.\d+)?", "0", text))
    return sorted(" ".join(line.split()) for line in plain.splitlines())


def write() -> None:
    """Renew what the pages print, and the pictures of those that draw any."""
    for page in sorted(GALLERY.glob("*.md")):
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            page.write_text(run(page))
            if Path("board.png").exists():
                shutil.copy("board.png", ROOT / "docs" / "pictures" / f"gallery_{page.stem}.png")
            os.chdir(ROOT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--write", action="store_true", required=True, help="renew docs/gallery and docs/pictures/gallery_*.png"
    )
    parser.parse_args()
    write()
