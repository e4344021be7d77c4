"""What is ready on this machine: data, weights and trained models of each task, and what the cache holds."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.core.errors import BenchmarkError, UsageError, describe, did_you_mean
from benchmark.core.files import TAG, entries_in, sweep
from benchmark.core.sources import KINDS, Sources
from benchmark.core.types import TASKS
from benchmark.modalities.building import model_path


@dataclass(frozen=True)
class Readiness:
    """Whether a task's data (and pretrained weights) are here, from where, and whether its model is trained.

    `hint` says what to do where something is missing.
    """

    task: str
    ready: bool
    origin: str = ""
    trained: bool = False
    hint: str = ""

    def plain(self) -> dict[str, Any]:
        """Return this as plain data for JSON."""
        return asdict(self)

    def text(self) -> str:
        """Return one line for a terminal."""
        if not self.ready:
            return f"{self.task:<22} missing  {self.hint}"
        model = (
            "model trained" if self.trained else f"model not made yet: python -m benchmark prepare --task {self.task}"
        )
        return f"{self.task:<22} ready    {self.origin}; {model}" + (f"; {self.hint}" if self.hint else "")


def readiness(name: str, sources: Sources) -> Readiness:
    """Look for a task's data and model without downloading anything; `sources` are offline, or only looking."""
    try:
        spec = TASKS.get(name)()
        located = spec.locate(sources)
    except BenchmarkError as error:
        return Readiness(name, False, hint=str(error))
    except Exception as error:  # of a task that is not ours
        return Readiness(name, False, hint=describe(error, TASKS.get(name)))
    path = model_path(name, spec.recipe(located.source), located)
    return Readiness(name, True, located.origin, path.exists(), "; ".join(located.notes))


@dataclass(frozen=True)
class CacheUse:
    """How many entries of a kind the cache holds, and their size in bytes."""

    kind: str
    entries: int
    size: int

    def plain(self) -> dict[str, Any]:
        """Return this as plain data for JSON."""
        return asdict(self)

    def text(self) -> str:
        """Return one line for a terminal."""
        return f"cache of {self.kind:<13} {self.entries:>7,} entries  {readable(self.size):>10}"


def readable(size: int) -> str:
    """Return a number of bytes for a person, in powers of 1,000.

    Example:
        >>> readable(1_234_567)
        '1.2 MB'
    """
    power = min((len(str(size)) - 1) // 3, 3)
    return f"{size / 1000**power:.{min(power, 1)}f} {('bytes', 'kB', 'MB', 'GB')[power]}"


def cache_use(cache: Path) -> list[CacheUse]:
    """Return what the folder `cache` holds of each kind."""
    use = []
    for kind in KINDS:
        entries = entries_in(cache / kind)
        use.append(CacheUse(kind, len(entries), sum(entry.size for entry in entries)))
    return use


def chosen_kinds(text: str) -> tuple[str, ...]:
    """Return the kinds of entries that `doctor --clear` names: one of them, or `all`.

    Raises:
        UsageError: there is no such kind.
    """
    if text == "all":
        return KINDS
    if text not in KINDS:
        raise UsageError(f"--clear: the cache has no kind {text!r}{did_you_mean(text, (*KINDS, 'all'))}")
    return (text,)


def clear_cache(cache: Path, kind: str) -> tuple[CacheUse, int]:
    """Remove all entries of a kind from the folder `cache`.

    Returns:
        What was removed, and how many entries are left, because they are locked, in use or not ours to remove.
    """
    entries = entries_in(cache / kind)
    removed = [entry for entry in entries if entry.remove()]
    sweep(cache / kind)
    if (cache / kind / TAG).is_file():  # the hub's links to what is gone
        for path in (Path(place, name) for place, _, names in os.walk(cache / kind) for name in names):
            if path.is_symlink() and not path.exists():
                path.unlink()
    folders = {folder for entry in removed for folder in entry.files[0].parents if folder.is_relative_to(cache / kind)}
    for folder in sorted(folders, reverse=True):  # those below first
        with suppress(OSError):  # one that is not empty stays
            folder.rmdir()
    return CacheUse(kind, len(removed), sum(entry.size for entry in removed)), len(entries) - len(removed)
