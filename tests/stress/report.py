"""Runs the stress suite, prints what held, and writes docs/reliability.md with --write: see `tox -e stress`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TARGET = HERE.parent.parent / "docs" / "reliability.md"
PARTS = ("kills", "damage", "faults", "foreign")


class Figures:
    """A pytest plugin that collects what the suite tried and what held."""

    def __init__(self, kills: int) -> None:
        self._kills = kills
        self.tried: dict[str, dict[str, Counter[str]]] = {}

    @pytest.fixture
    def kills(self) -> int:
        """How many runs are killed by SIGKILL; everything else is as often in proportion."""
        return self._kills

    @pytest.fixture
    def figures(self) -> Figures:
        """Where tests say what they tried."""
        return self

    def add(self, group: str, what: str, tried: int, held: int, **more: int) -> None:
        """Count some tries of one kind."""
        counts = self.tried.setdefault(group, {}).setdefault(what, Counter())
        counts.update({"tried": tried, "held": held, **{key: int(value) for key, value in more.items()}})


def table(rows: dict[str, Counter[str]]) -> str:
    """Return a Markdown table."""
    names = list(dict.fromkeys(name for counts in rows.values() for name in counts))
    heads = {"met": "met a run at work", "partial": "left part of the work"}
    lines = [["", *(heads.get(name, name) for name in names)], ["---", *["---:"] * len(names)]]
    lines += [[what, *(str(counts[name]) for name in names)] for what, counts in rows.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


HEAD = """# Reliability

Made by `tox -e stress -- --write` (`python -m tests.stress.report --write`); `--kills N` kills N runs in place of 100
and does all else in proportion; `--part` and `-k` choose tests, and only their sections are renewed. A run here is a
small task with trained weights, decoded data, five methods, two of which train an explainer, and a checkpoint four
times a second. A whole one takes some seconds. Kills come at uniformly random moments of its length, or at a random
one of its writes; with two workers, which take long to start, every other one comes once a part of the work is there:
some records, a checkpoint or a half-written file."""
MEANING = {
    "killed runs, resumed": """Held: the scores and examples of the resumed run are those of an undisturbed run, byte
for byte, and so is run.json but for times; no process lives on, no half-written file is left, nothing was set
aside.""",
    "runs ended by SIGTERM, resumed": """Held: as above; the exit code is 130 and no traceback is shown.""",
    "one flipped bit": """Held: the next run ends with exit code 0 and the same scores; what was damaged is named, set
aside and made again.""",
    "disks and folders": """Held: scores are the same, or one sentence says what is wrong and a later run completes the
work.""",
    "together": "Held: all end with exit code 0 and the same scores, nothing is set aside.",
    "foreign records": """Held: no traceback; what cannot be read is named and left out; no control character and no
markup of a record reaches the output.""",
}


def sections(figures: Figures) -> dict[str, str]:
    """Return the sections of the document by their headings."""
    found = {}
    for group, rows in figures.tried.items():
        total = sum((counts for counts in rows.values()), Counter())
        shown = rows | ({"**all**": total} if len(rows) > 1 else {})
        found[f"{group[0].upper()}{group[1:]}"] = f"{MEANING[group]}\n\n{table(shown)}"
    return found


def read() -> dict[str, str]:
    """Return the sections of the document as it stands."""
    parts = TARGET.read_text(encoding="utf-8").split("\n## ")[1:] if TARGET.exists() else []
    return {heading: text.strip() for heading, _, text in (part.partition("\n") for part in parts)}


def page(found: dict[str, str]) -> str:
    """Return the whole document."""
    order = [f"{group[0].upper()}{group[1:]}" for group in MEANING]
    return "\n\n".join([HEAD, *(f"## {name}\n\n{found[name]}" for name in order if name in found)]) + "\n"


def main() -> int:
    """Run the suite; return pytest's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="runs killed by SIGKILL (default: 100)")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part (may be given several times)")
    parser.add_argument("-k", default="", metavar="EXPR", help="only these tests, as pytest chooses them")
    parser.add_argument("--write", action="store_true", help=f"renew these sections of {TARGET.name}")
    arguments = parser.parse_args()
    figures = Figures(arguments.kills)
    files = [str(HERE / f"{part}.py") for part in arguments.part or PARTS]
    code = pytest.main(
        ["-q", "--durations=0", "--durations-min=1", "-p", "no:cacheprovider", "-k", arguments.k, *files], [figures]
    )
    found = sections(figures)
    print(page(found))
    if arguments.write and code == 0:
        TARGET.write_text(page(read() | found), encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
