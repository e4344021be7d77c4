"""Reads and writes what was chosen for the methods on a task, with everything that was tried."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.core.errors import DataError, UsageError, few
from benchmark.core.files import write_atomically
from benchmark.core.registry import is_name
from benchmark.tuned.classes import CLASSES, name_of

PUBLISHED = Path(__file__).parent
"""Where the files of published boards are."""
OWN = Path("tuned")
"""Where `tune` writes by default, and where files are looked for first: below the working folder."""
VERSION = 1


@dataclass(frozen=True)
class Trial:
    """One configuration that was tried.

    Attributes:
        params: all parameters of the method.
        rows: forward and backward passes an explanation, mean over the explained rows.
        scores: mean score by metric.
        reason: why there are none.
    """

    params: dict[str, Any]
    rows: float | None
    scores: dict[str, float]
    reason: str = ""


@dataclass(frozen=True)
class Choice:
    """What was chosen of a method in one class of costs.

    Attributes:
        params: all its parameters.
        rows: see `Trial`.
        value: mean over the metrics of its scores, 0 for those of `random` and 1 for the best of this method here.
        tried: how many configurations entered the class.
    """

    params: dict[str, Any]
    rows: float
    value: float
    tried: int


@dataclass(frozen=True)
class Tuned:
    """What was chosen on a task.

    Attributes:
        task: its name.
        source: of its data, real or synthetic.
        held_out: training rows that judged, on which nothing was trained.
        seed: of methods and of the choice of configurations.
        random: mean score of `random` by metric.
        trials: all that was tried, by method.
        chosen: by method and by class of costs.
    """

    task: str
    source: str
    held_out: int
    seed: int
    random: dict[str, float]
    trials: dict[str, list[Trial]]
    chosen: dict[str, dict[str, Choice]]

    def of(self, method: str, rows: int | None) -> Choice:
        """Return what was chosen of a method in a class.

        Raises:
            UsageError: nothing was.
        """
        if method not in self.chosen:
            raise UsageError(
                f"{method} was not tuned on {self.task}: there are {few(sorted(self.chosen))}; "
                f"run tune --task {self.task} --methods {method}"
            )
        if name_of(rows) not in self.chosen[method]:
            there = few(list(self.chosen[method])) if self.chosen[method] else "no class"
            raise UsageError(
                f"no explanation of {method} on {self.task} asks at most {name_of(rows)} rows: it was tuned in {there}"
            )
        return self.chosen[method][name_of(rows)]


def write(tuned: Tuned, folder: Path) -> Path:
    """Write what was chosen as `folder/TASK.json`, and return the path; methods of before that were not tried stay."""
    path = folder / f"{tuned.task}.json"
    text = json.dumps({"version": VERSION, **asdict(tuned)}, indent=1, sort_keys=True, allow_nan=False)
    write_atomically(path, (text + "\n").encode())
    return path


def read(task: str, folders: Sequence[Path] = (OWN, PUBLISHED)) -> Tuned:
    """Return what was chosen on a task, from the first of the folders that has its file.

    Raises:
        DataError: none has, or the file is damaged.
    """
    assert is_name(task)
    path = next((path for folder in folders if (path := folder / f"{task}.json").is_file()), None)
    if path is None:
        raise DataError(f"nothing was tuned on {task}: run python -m benchmark tune --task {task} first")
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
        if stated.pop("version") != VERSION:
            raise DataError(f"{path} is of another version of this program: run tune again")
        trials = {name: [Trial(**one) for one in tried] for name, tried in stated.pop("trials").items()}
        chosen = {
            name: {rows: Choice(**one) for rows, one in by_class.items()}
            for name, by_class in stated.pop("chosen").items()
        }
        classes = {rows for by_class in chosen.values() for rows in by_class}
        if not classes <= set(map(name_of, CLASSES)):
            raise DataError(f"{path} names unknown classes of costs, {few(sorted(classes))}: run tune again")
        return Tuned(trials=trials, chosen=chosen, **stated)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}: {error}): run tune again") from error
