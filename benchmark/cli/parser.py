"""The parser of the command line; commands import leaderboards and deepfaith when they run."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmark.cli.arguments import (
    add_allow_weak,
    add_computing,
    add_metrics,
    add_out,
    add_sources,
    add_workers,
    natural,
    naturals,
    positive,
)
from benchmark.cli.boards import add_boards
from benchmark.cli.crosscheck import add_check, add_verify, regress_command
from benchmark.cli.forget import add_forget
from benchmark.cli.inspect import audit_command, doctor_command, explain_command, prepare_command
from benchmark.cli.process import INTERRUPTED, SENTENCE, lost_output, refuse_foreign_packages
from benchmark.cli.run import list_command, run_command, show_command
from benchmark.cli.score import add_score
from benchmark.cli.studies.comparing import add_studies
from benchmark.cli.studies.conventions import add_conventions
from benchmark.cli.studies.places import add_places
from benchmark.cli.studies.tune import add_tune
from benchmark.core.errors import BenchmarkError, UsageError
from benchmark.core.registry import Registry
from benchmark.core.types import METHODS
from benchmark.plugins.discovery import discover_all
from benchmark.plugins.task_files import with_task_files
from benchmark.processes.allocation import keep_freed_memory
from benchmark.running.presets import PRESETS

LOST = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""Why what is printed cannot be written."""
log = logging.getLogger("benchmark")


def main(words: Sequence[str]) -> int:
    """Run one command and return its exit code.

    0: all is well; 1: some cells failed; 2: the call is wrong; 3: data or weights are missing; 130: interrupted.
    """
    keep_freed_memory()
    os.environ["MPLBACKEND"] = "agg"  # a command writes figures into files, with or without a display
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers, log.propagate = [handler], False
    try:
        return _run(words)
    except BenchmarkError as error:
        log.error(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        log.error(SENTENCE)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        log.error(f"error: {_sentence(error)}")
        log.info(traceback.format_exc())
        lost_output()
        return 1


def _sentence(error: Exception) -> str:
    """Return what is said of an error that no command has a sentence for."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot use {str(error.filename)!r}: {error.strerror}"
    if isinstance(error, OSError) and error.errno in LOST:
        return f"cannot write the output: {error.strerror}"
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(where.filename).name}, line {where.lineno}"
    return f"{type(error).__name__}: {error} ({place}): please report it; -v prints the traceback"


def _run(words: Sequence[str]) -> int:
    """Run one command; see `main`."""
    log.setLevel(logging.WARNING)
    refuse_foreign_packages()
    parser = build_parser()
    arguments = parser.parse_args(words)
    if arguments.version:
        from benchmark.records.provenance import version

        print(version())
        return 0
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return UsageError.exit_code
    log.setLevel(min(logging.WARNING - 10 * arguments.verbose + 10 * arguments.quiet, logging.ERROR))
    discover_all()
    named = [str(getattr(arguments, name, None)) for name in ("task", "model", "implementation", "name")]
    for path in arguments.include:
        _include(path, named)
    if isinstance(getattr(arguments, "task", None), str):
        arguments.task, arguments.task_files = with_task_files(arguments.task)
    return arguments.command(arguments)


def _include(path: Path, named: Sequence[str]) -> None:
    """Include a file; `named` are the values of options that may use it as FILE.py:NAME.

    Raises:
        UsageError: it registers nothing, and nothing else uses it.
    """
    module = METHODS.include(path)
    if any(registry.registered_by(module.__name__) for registry in Registry.every):
        return
    used = {Path(f"{file}.py").resolve() for text in named for file in re.findall(r"([^,]+)\.py:", text)}
    if path.resolve() not in used:
        raise UsageError(
            f"--include {path} registers nothing: expected a method, task, metric or removal, such as "
            '@METHODS.register("name") above a class'
        )


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark", description="A faithfulness benchmark for feature attributions."
    )
    parser.add_argument("--version", action="store_true", help="print the version of this program")
    parser.set_defaults(command=None, task_files=())
    verbs = parser.add_subparsers(metavar="COMMAND")

    def verb(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        sub.add_argument("--include", type=Path, action="append", default=[], metavar="FILE.py",
                         help="a file of yours that registers methods, tasks or metrics (may be repeated)")  # fmt: skip
        sub.add_argument("-v", "--verbose", action="count", default=0, help="say more")
        sub.add_argument("-q", "--quiet", action="count", default=0, help="say less")
        return sub

    run = verb("run", run_command, "Evaluate methods on tasks; what is stored already is kept.")
    run.add_argument("--task", required=True, help="names, globs or all, separated by commas")
    run.add_argument("--methods", required=True, help="names, globs, all, !name, name[parameter=value]")
    add_metrics(run, "ten", "the ten")
    run.add_argument("--preset", choices=tuple(PRESETS), default="standard",
                     help="quick: few samples, steps and subsets, for a look, never on a board with others; "
                     "standard (default); paper: all test samples, LIME and KernelSHAP as released")  # fmt: skip
    run.add_argument("--limit", type=positive, metavar="N", help="only the first N test samples")
    add_allow_weak(run)
    run.add_argument("--seed", type=natural, default=0, help="base of every random draw (default: 0)")
    run.add_argument("--training-budget", metavar="N|Ns",
                     help="train every learned method for N iterations, or for N seconds (60s)")  # fmt: skip
    run.add_argument("--models", type=naturals, default=(0,), metavar="S,S",
                     help="seeds of the task's model, for tables and texts of ours (default: 0)")  # fmt: skip
    add_workers(run)
    run.add_argument("--precision", choices=("fp32", "bf16"), default="fp32",
                     help="of the model's forwards while it is probed; boards never mix them")  # fmt: skip
    add_computing(run)
    add_out(run)
    run.add_argument("--overwrite", choices=("never", "missing", "always"), default="missing",
                     help="never: keep all that is there; missing: compute what is missing, stale or failed (default); "
                     "always: compute everything again")  # fmt: skip
    add_sources(run)
    tried = "say what would be computed and, from a few samples, what that takes; store no record"
    run.add_argument("--dry-run", action="store_true", help=tried)
    run.add_argument("--json", action="store_true", help="print the result as JSON")

    add_tune(verb)
    add_score(verb)
    add_boards(verb)
    add_check(verb)
    add_forget(verb)
    lists = verb("list", list_command, "List tasks, methods, metrics or removals.")
    lists.add_argument("what", choices=("tasks", "methods", "metrics", "removals"))
    lists.add_argument("--json", action="store_true", help="print as JSON")

    show = verb("show", show_command, "Show the card of a task, method, metric or removal.")
    show.add_argument(
        "name", help="of a task, method, metric or removal; metrics or methods for all of them as Markdown"
    )
    show.add_argument("--json", action="store_true", help="print as JSON")

    add_verify(verb)
    regress = verb("regress", regress_command, "Compare scores and forward counts of fixed cases with golden ones.")
    regress.add_argument("--update", action="store_true", help="make the present scores golden, and say what changed")
    regress.add_argument("--golden", type=Path, metavar="FILE", help="golden values (default: the committed ones)")
    regress.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    regress.add_argument("--json", action="store_true", help="print as JSON")

    audit = verb("audit", audit_command, "Examine the metrics themselves on a task, and draw how they agree.")
    audit.add_argument("--task", required=True)
    audit.add_argument("--methods", default="all", help="names, globs, all, !name, name[parameter=value]")
    add_metrics(audit, "ten", "the ten")
    audit.add_argument("--limit", type=positive, default=100, metavar="N", help="test samples (default: 100)")
    audit.add_argument("--seeds", type=positive, default=5, metavar="N", help="seeds of subsets and ties (default: 5)")
    audit.add_argument("--sampled", action="store_true", help="draw subsets even where all can be enumerated")
    audit.add_argument("--json", action="store_true", help="print as JSON")
    add_allow_weak(audit)
    add_out(audit)
    add_sources(audit)

    explain = verb("explain", explain_command, "Draw explanations of one test sample side by side, with their scores.")
    explain.add_argument("--task", required=True)
    explain.add_argument("--sample", type=natural, default=0, metavar="I", help="which test sample (default: 0)")
    explain.add_argument("--methods", default="all", help="names, globs, all, !name, name[parameter=value]")
    add_metrics(explain, "ten", "the ten")
    explain.add_argument("--seed", type=natural, default=0, help="base of every random draw (default: 0)")
    explain.add_argument("--preset", choices=tuple(PRESETS), default="standard", help="what methods may spend")
    explain.add_argument("--out", type=Path, required=True, metavar="FILE", help="a .png, .svg or .html file")
    add_allow_weak(explain)
    add_sources(explain)

    prepare = verb("prepare", prepare_command, "Download data and weights and train target models ahead of a run.")
    prepare.add_argument("--task", required=True, help="names, globs or all, separated by commas")
    prepare.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add_sources(prepare)

    doctor = verb("doctor", doctor_command, "Say what is ready on this machine and what is missing; downloads nothing.")
    doctor.add_argument("--task", help="names, globs or all: exit with 3 if anything they need is missing")
    doctor.add_argument("--clear", nargs="?", const="all", metavar="KIND",
                        help="empty the cache, or one KIND of what it holds such as models, and no more")  # fmt: skip
    doctor.add_argument("--json", action="store_true", help="print as JSON")
    add_sources(doctor)
    add_studies(verb)
    add_conventions(verb)
    add_places(verb)
    return parser
