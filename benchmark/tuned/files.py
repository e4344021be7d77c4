"""Reads and writes what was chosen for the methods on a task, with everything that was tried."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.core.errors import DataError, UsageError, few
from benchmark.core.files import locked, set_aside, write_atomically
from benchmark.core.registry import is_name
from benchmark.core.types import METHODS
from benchmark.tuned.classes import CLASSES, name_of

PUBLISHED = Path(__file__).parent
"""Where the files of published boards are."""
OWN = Path("tuned")
"""Where `tune` writes by default, and where files are looked for first: below the working folder."""
VERSION = 1
log = logging.getLogger("benchmark")


class UntunedError(UsageError):
    """Nothing was chosen of a method in a class of costs."""


@dataclass(frozen=True)
class Trial:
    """One configuration that was tried.

    Attributes:
        params: all parameters of the method.
        classes: names of the classes of costs that it was tried for.
        rows: forward and backward passes an explanation, mean over the explained rows; None where it failed.
        scores: mean score by metric.
        reason: why there are none.
    """

    params: dict[str, Any]
    classes: tuple[str, ...]
    rows: float | None
    scores: dict[str, float]
    reason: str = ""


@dataclass(frozen=True)
class Choice:
    """What was chosen of a method in one class of costs.

    Attributes:
        params: all its parameters.
        rows: see `Trial`.
        value: mean over the metrics of its scores, 0 for those of `random` and 1 for the best of this method in the
            class.
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
        held_out: training rows that judged, on which no method was trained.
        seed: of methods and of the choice of configurations.
        identity: digests of the rows, the model and the task that were judged on.
        random: mean score of `random` by metric.
        trials: all that was tried, by method.
        chosen: by method and by class of costs.
        configurations: of each method in each class of costs, at most; 0 where the file does not say.
        training_budget: what each learned method was trained for, in words; empty where each configuration says it.
    """

    task: str
    source: str
    held_out: int
    seed: int
    identity: dict[str, str]
    random: dict[str, float]
    trials: dict[str, list[Trial]]
    chosen: dict[str, dict[str, Choice]]
    configurations: int = 0
    training_budget: str = ""

    def of(self, method: str, rows: int | None) -> Choice:
        """Return what was chosen of a method in a class.

        Raises:
            UntunedError: nothing was.
        """
        if method not in self.chosen:
            tries = f" --configurations {self.configurations}" if self.configurations else ""
            raise UntunedError(
                f"was not tuned on {self.task}, but {few(sorted(self.chosen))}: run python -m benchmark tune "
                f"--task {self.task} --source {self.source}{tries} for it"
            )
        if name_of(rows) not in self.chosen[method]:
            there = ", ".join(rows for rows in map(name_of, CLASSES) if rows in self.chosen[method]) or "no class"
            raise UntunedError(
                f"asks more than {name_of(rows)} rows in each configuration tried on {self.task}: it was tuned for "
                f"{there}"
            )
        return self.chosen[method][name_of(rows)]

    def beside(self, former: Tuned | None) -> Tuned:
        """Return this with the methods of an earlier file that were not tried now, where both were judged alike."""
        if former is None:
            return self
        alike = ("task", "source", "held_out", "seed", "configurations", "identity", "random")
        other = [name for name in alike if getattr(self, name) != getattr(former, name)]
        absent = sorted(former.trials.keys() - self.trials.keys())
        budget = self.training_budget if _learned(self.trials) else former.training_budget
        dropped = absent
        if not other:
            dropped = _learned(absent) if former.training_budget != budget else []
            other = ["training budget"]
        if dropped:
            log.warning(f"{few(dropped)} were tuned on {self.task} with another {', '.join(other)}: left out, so tune "
                        "them again, which takes what is stored of them")  # fmt: skip
        kept = [name for name in absent if name not in dropped]
        return dataclasses.replace(
            self,
            trials={name: former.trials[name] for name in kept} | self.trials,
            chosen={name: former.chosen[name] for name in kept if name in former.chosen} | self.chosen,
            training_budget=budget if kept else self.training_budget,
        )


def _learned(methods: Iterable[str]) -> list[str]:
    """Return those that are learned, or not known here."""
    known = METHODS.names()
    return [name for name in methods if name not in known or METHODS.entry(name).facts.get("kind") == "learned"]


def write(tuned: Tuned, folder: Path) -> Path:
    """Write what was chosen as `folder/TASK.json`, and return the path.

    Methods that the file held and that were not tried now stay in it, unless they were judged on other rows, another
    model or another version of a metric, in more or fewer tries, or, if learned, within another training budget.
    """
    path = folder / f"{tuned.task}.json"
    with locked(path):  # another run of tune may add its methods meanwhile
        if path.is_file():
            tuned = tuned.beside(_former(tuned.task, path))
        text = json.dumps({"version": VERSION, **asdict(tuned)}, indent=1, sort_keys=True, allow_nan=False)
        write_atomically(path, (text + "\n").encode())
    return path


def _former(task: str, path: Path) -> Tuned | None:
    """Return what a file holds; one that cannot be read is set aside."""
    try:
        return read(task, [path.parent])
    except DataError as error:
        log.warning(f"{error}; set aside as {set_aside(path)}, only what was tried now is written")
        return None


def found(task: str, folders: Sequence[Path] = (OWN, PUBLISHED)) -> Path:
    """Return the file of a task in the first of the folders that has one.

    Raises:
        DataError: none has.
    """
    assert is_name(task)
    path = next((path for folder in folders if (path := folder / f"{task}.json").exists()), None)
    if path is None:
        raise DataError(f"nothing was tuned on {task}: run python -m benchmark tune --task {task} first")
    return path


def read(task: str, folders: Sequence[Path] = (OWN, PUBLISHED)) -> Tuned:
    """Return what was chosen on a task, from the first of the folders that has its file.

    Raises:
        DataError: none has, or the file is damaged.
    """
    path = found(task, folders)
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
        if stated.pop("version") != VERSION:
            raise DataError(f"{path} is of another version of this program: run tune again")
        trials = {
            name: [Trial(**{**one, "classes": tuple(one["classes"])}) for one in tried]
            for name, tried in stated.pop("trials").items()
        }
        chosen = {
            name: {rows: Choice(**one) for rows, one in by_class.items()}
            for name, by_class in stated.pop("chosen").items()
        }
        classes = {rows for by_class in chosen.values() for rows in by_class}
        if not classes <= set(map(name_of, CLASSES)):
            raise DataError(f"{path} names unknown classes of costs, {few(sorted(classes))}: run tune again")
        tuned = Tuned(trials=trials, chosen=chosen, **stated)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}: {error}): run tune again") from error
    if tuned.task != task:
        raise DataError(f"{path} is of the task {tuned.task}: run tune again")
    return tuned
