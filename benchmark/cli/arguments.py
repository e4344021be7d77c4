"""Arguments that several commands share, the types of their values, and the data and records that they choose."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.core.errors import UsageError
from benchmark.core.selection import select_labels
from benchmark.core.types import PACKAGES, TASKS
from benchmark.engines.names import AUTO, CHOICES, EAGER
from benchmark.running.presets import PRESETS
from benchmark.scoring.metrics import TEN

if TYPE_CHECKING:
    from benchmark.core.sources import Sources
    from benchmark.records.record import Record
    from benchmark.records.store import RecordStore
    from benchmark.running.settings import Settings

log = logging.getLogger("benchmark")

Verb = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]
"""Adds a command to the parser: its name, what runs it, and what it does, in a sentence."""


def add_out(parser: argparse.ArgumentParser) -> None:
    """Add the folder of records."""
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of records (default: results)")


def add_allow_weak(parser: argparse.ArgumentParser) -> None:
    """Add leave to explain a model that is under its floor."""
    parser.add_argument("--allow-weak-model", action="store_true",
                        help="explain a model whose accuracy is under the task's floor, and say so")  # fmt: skip


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the device and the number of worker processes."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--jobs", type=positive, metavar="N", help="worker processes (default: one per core or GPU)")


def add_computing(parser: argparse.ArgumentParser) -> None:
    """Add what answers for the model, where shards are computed and how large they are."""
    parser.add_argument("--engine", choices=CHOICES, default=AUTO,
                     help="what answers for the model where no gradients are asked: auto (default) takes the fastest "
                     "that is installed and answers as the model does, within 1e-5 of a probability")  # fmt: skip
    parser.add_argument("--cluster", metavar="WHERE",
                     help="compute on a cluster: the address of a Dask scheduler, a .yaml file that says how to ask a "
                     "queue for workers, or local")  # fmt: skip
    parser.add_argument("--shard-size", type=positive, metavar="N",
                     help="samples that are computed and kept at once, rounded up to batches of the evaluator "
                     "(default: what takes some minutes)")  # fmt: skip


def settings_of(arguments: argparse.Namespace, root: Path, metrics: Sequence[str] = TEN) -> Settings:
    """Return how cells are run; options of `run` that a command does not have are at their defaults.

    Args:
        arguments: of the command.
        root: of the store of records.
        metrics: that are scored.

    Raises:
        UsageError: a GPU was asked for and there is none.
    """
    from benchmark.running.settings import Settings

    given = vars(arguments)
    return Settings(
        metrics=tuple(metrics),
        device=given.get("device", "auto"),
        jobs=arguments.jobs,
        overwrite=given.get("overwrite", "missing"),
        packages=PACKAGES,
        included=tuple(arguments.include),
        root=root.absolute(),
        engine=given.get("engine", EAGER),
        allow_weak=arguments.allow_weak_model,
        task_files=arguments.task_files,
        shard_size=given.get("shard_size"),
        cluster=given.get("cluster"),
    ).settled()


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add where data may come from."""
    parser.add_argument("--source", choices=("auto", "real", "synthetic"), default="auto",
                        help="auto: real data where they are found, else the synthetic stand-in")  # fmt: skip
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("BENCHMARK_DATA") or None,
                        help="folder of real data (default: BENCHMARK_DATA)")  # fmt: skip
    parser.add_argument("--offline", action="store_true", help="open no network connection")
    parser.add_argument("--verify", action="store_true", help="refuse data that differ from the pinned version")


def chosen_sources(arguments: argparse.Namespace) -> Sources:
    """Return where data may come from.

    Raises:
        UsageError: BENCHMARK_CACHE_GB is no size.
    """
    from benchmark.core.sources import Sources, cache_limit

    cache_limit()
    folder = arguments.data_dir and Path(arguments.data_dir)
    return Sources(arguments.source, folder, arguments.offline, arguments.verify)


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    return _whole(text, 1)


def add_metrics(parser: argparse.ArgumentParser, default: str, what: str) -> None:
    """Add which metrics are meant."""
    parser.add_argument("--metrics", default=default,
                        help=f"names, groups such as ten, globs, all, !name (default: {what})")  # fmt: skip


def natural(text: str) -> int:
    """Parse a whole number of at least 0."""
    return _whole(text, 0)


def naturals(text: str) -> tuple[int, ...]:
    """Parse whole numbers of at least 0 between commas; each counts once, the smallest first."""
    return tuple(sorted({natural(part.strip()) for part in text.split(",")}))


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
    return int(text)


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add which records are meant."""
    parser.add_argument("--task", default="all", help="names or globs of tasks that have records (default: all)")
    parser.add_argument("--methods", default="all", help="names, labels or globs of methods, !name to leave out")
    add_kind(parser)


def add_kind(parser: argparse.ArgumentParser) -> None:
    """Add which boards are meant, where a folder holds several."""
    parser.add_argument("--source", choices=("auto", "real", "synthetic"), default="auto",
                        help="which data the records are of (default: both, each on its own board)")  # fmt: skip
    parser.add_argument("--limit", type=_limit, metavar="N", help="only boards of N test samples; all: without limit")
    parser.add_argument("--seed", type=natural, action="append", metavar="S", help="only this seed (several times)")
    parser.add_argument("--models", type=naturals, metavar="S,S", help="only models of these seeds")
    parser.add_argument("--preset", choices=tuple(PRESETS), help="only boards of this preset")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="only boards of this precision")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="only boards of this class of device")


def _limit(text: str) -> int | str:
    return "all" if text == "all" else positive(text)


def chosen_records(arguments: argparse.Namespace, methods: str | None = None) -> list[Record]:
    """Return the records that the arguments of `add_choice` choose, those of these tasks alone being read.

    Args:
        arguments: of the command.
        methods: a selection in place of --methods.

    Raises:
        UsageError: there are none.
    """
    from benchmark.records.store import RecordStore
    from leaderboards.selection import choose

    store = RecordStore(arguments.out)
    tasks = chosen_tasks(arguments, store)
    records = [record for task in tasks for record in read_records(store, arguments.source, task)]
    records = [record for record in records if of_kind(record, arguments)]
    if not records:
        raise UsageError(f"no {_what(arguments)} of {arguments.task} with this --limit, --seed, --models, --preset, "
                         f"--precision or --device in {str(arguments.out)!r}")  # fmt: skip
    return choose(records, arguments.methods if methods is None else methods)


def chosen_tasks(arguments: argparse.Namespace, store: RecordStore) -> list[str]:
    """Return the tasks that --task and --source choose among those that have records.

    Raises:
        UsageError: there are none.
    """
    what = _what(arguments)
    stored = store.tasks(None if arguments.source == "auto" else arguments.source)
    if not stored:
        raise UsageError(f"no {what} in {str(arguments.out)!r}: run some first, or name another --out")
    named = [task for task in TASKS.names() if task not in stored]
    tasks = set(select_labels(arguments.task, [*stored, *named], "task"))
    if not tasks & set(stored):
        raise UsageError(f"no {what} of {arguments.task} in {str(arguments.out)!r}: there are those of "
                         f"{', '.join(stored)}; run some first")  # fmt: skip
    return [task for task in stored if task in tasks]


def _what(arguments: argparse.Namespace) -> str:
    return "records" if arguments.source == "auto" else f"{arguments.source} records"


def read_records(store: RecordStore, source: str = "auto", task: str | None = None) -> list[Record]:
    """Return the records of a folder that can be believed, saying which cannot."""
    from leaderboards.selection import misdirected

    records, problems = store.scan(None if source == "auto" else source, task)
    for problem in problems:
        log.warning(f"left out: {problem}")
    believed = []
    for record in records:
        if wrong := misdirected(record):
            log.warning(f"left out: {wrong}")
        else:
            believed.append(record)
    return believed


def of_kind(record: Record, arguments: argparse.Namespace) -> bool:
    """Tell whether a record is of the boards that the arguments of `add_kind` choose."""
    cell, limit = record.cell, arguments.limit
    whole = cell.limit is None and (limit == "all" or (limit is not None and record.facts.get("rows", limit) <= limit))
    return (
        (limit is None or cell.limit == limit or whole)
        and (arguments.seed is None or cell.seed in arguments.seed)
        and (arguments.models is None or cell.model in arguments.models)
        and arguments.preset in (None, cell.preset)
        and arguments.precision in (None, cell.precision)
        and arguments.device in (None, cell.device)
    )
