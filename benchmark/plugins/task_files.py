"""Tasks of single files, `--task FILE.py:NAME`: registered ones, task specs, tasks, and functions that make them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmark.core.errors import UsageError, describe, did_you_mean
from benchmark.core.selection import items_of
from benchmark.core.types import METHODS, TASKS, Task, TaskSpec
from benchmark.plugins.given_task import GivenTask

MEMBERS = ("modality", "n_features", "budget", "floor", "facts", "locate", "recipe", "build")
"""What a task spec has."""
EXPECTED = "expected a Task, a task spec, or a function without arguments that returns one of them"


def with_task_files(selection: str) -> tuple[str, tuple[str, ...]]:
    """Include the files that a selection of tasks names, and return it with the names of their tasks.

    Args:
        selection: as users write it, in which an item may be `FILE.py:NAME`.

    Returns:
        The selection of names alone, and the items `FILE.py:NAME`, which another process has to include, too.

    Raises:
        UsageError: a file cannot be used, or holds no such task.
    """
    files = [item for item in items_of(selection) if is_task_file(item)]
    if not files:
        return selection, ()
    items = [include_task(item) if item in files else item for item in items_of(selection)]
    return ",".join(items), tuple(files)


def is_task_file(item: str) -> bool:
    """Tell whether an item of a selection is `FILE.py:NAME`."""
    return re.search(r"\.py:", item) is not None


def include_task(text: str, option: str = "--task") -> str:
    """Include the file of `FILE.py:NAME`, and return the name under which its task is registered.

    NAME is the name of a task that the file registers, or of a variable: a `Task`, a task spec, or a function without
    arguments that returns one. A variable is registered as `FILE.NAME`, without `.py`.

    Args:
        text: `FILE.py:NAME`.
        option: that named it, for sentences.

    Raises:
        UsageError: there is no such file or name, or it is no task.
    """
    place, _, name = text.partition(".py:")
    path = Path(f"{place}.py")
    module = METHODS.include(path, option)
    mine = TASKS.registered_by(module.__name__)
    if name in mine:
        return name
    if name not in vars(module):
        offered = [*mine, *(key for key, value in vars(module).items() if _may_be_task(value, module))]
        raise UsageError(f"{option} {text}: {path.name} has no task {name!r}{did_you_mean(name, offered or ['none'])}")
    value = vars(module)[name]
    registered = next((known for known in mine if TASKS.get(known) is value), None)
    if registered is not None:
        return registered
    title = f"{path.stem}.{name}"
    if title in TASKS.names():
        return title  # included before in this process
    maker = _maker(text, option, title, value)
    maker.__module__, maker.__doc__ = module.__name__, getattr(value, "__doc__", None) if callable(value) else title
    TASKS.register(title, modality=maker().modality)(maker)
    return title


def _maker(text: str, option: str, title: str, value: Any) -> Callable[[], TaskSpec]:
    """Return the function to register for what a file holds under a name."""
    made = value if isinstance(value, Task) or _lacks(value) == [] else _called(text, option, value)
    if isinstance(made, Task):
        again = (lambda: copy.deepcopy(made)) if made is value else (lambda: _called(text, option, value))
        spec: TaskSpec = GivenTask(title, made if made is not value else again(), again, text)
        return lambda: spec
    if missing := _lacks(made):
        what = f"gives {type(made).__name__}" if made is not value else f"is {type(value).__name__}"
        raise UsageError(f"{option} {text} {what}, which has no {' and no '.join(missing)}: {EXPECTED}")
    return (lambda: made) if made is value else (lambda: _called(text, option, value))


def _called(text: str, option: str, value: Any) -> Any:
    """Return what a function of a file returns.

    Raises:
        UsageError: it is no function, or it fails.
    """
    if not callable(value):
        raise UsageError(f"{option} {text} is {type(value).__name__}: {EXPECTED}")
    try:
        return value()
    except Exception as error:
        made = value if hasattr(value, "__module__") else type(value)
        raise UsageError(f"{option} {text} cannot be called: {describe(error, made)}; {EXPECTED}") from error


def _lacks(value: Any) -> list[str]:
    """Return which members of a task spec something has not; a class has them only once it is called."""
    return ["instance"] if isinstance(value, type) else [member for member in MEMBERS if not hasattr(value, member)]


def _may_be_task(value: Any, module: ModuleType) -> bool:
    """Tell whether something in a file may be meant as a task: what it imports is not."""
    return isinstance(value, Task) or (callable(value) and getattr(value, "__module__", "") == module.__name__)
