"""A faithfulness benchmark for feature attributions: `import benchmark as fb`.

Importing this imports nothing else: each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.api.evaluate import evaluate, score
    from benchmark.api.names import list_methods, list_metrics, list_removals, list_tasks, method
    from benchmark.api.result import Result, load
    from benchmark.api.task import task
    from benchmark.core.errors import SomeFailedError
    from benchmark.core.types import Budget, Task

_FOUND_IN = {
    "task": "benchmark.api.task",
    "evaluate": "benchmark.api.evaluate",
    "score": "benchmark.api.evaluate",
    "Result": "benchmark.api.result",
    "load": "benchmark.api.result",
    "method": "benchmark.api.names",
    "list_methods": "benchmark.api.names",
    "list_metrics": "benchmark.api.names",
    "list_removals": "benchmark.api.names",
    "list_tasks": "benchmark.api.names",
    "SomeFailedError": "benchmark.core.errors",
    "Budget": "benchmark.core.types",
    "Task": "benchmark.core.types",
}
_MODULES = ("bridges", "testing")
__all__ = [
    "Budget",
    "Result",
    "SomeFailedError",
    "Task",
    "evaluate",
    "list_methods",
    "list_metrics",
    "list_removals",
    "list_tasks",
    "load",
    "method",
    "score",
    "task",
]


def __getattr__(name: str) -> Any:
    """Load what is exported when it is first used."""
    if name in _FOUND_IN:
        value = getattr(importlib.import_module(_FOUND_IN[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"benchmark.{name}")
    raise AttributeError(f"module 'benchmark' has no attribute {name!r}; it exports {', '.join(__all__)}")


def __dir__() -> list[str]:
    """Return what is exported."""
    return sorted({*globals(), *__all__, *_MODULES})
