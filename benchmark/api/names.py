"""What there is, by name: methods, metrics, tasks and removals."""

from __future__ import annotations

from typing import Any, cast, get_args

from benchmark.core.errors import UsageError, shown
from benchmark.core.parameters import configured
from benchmark.core.registry import Registry
from benchmark.core.types import METHODS, TASKS, Method, Modality
from benchmark.plugins.discovery import discover_all
from benchmark.scoring.metrics import METRICS


def list_methods(modality: Modality | None = None) -> list[str]:
    """Return the names of the methods that `method` takes.

    Example:
        >>> "integrated_gradients" in list_methods(), "grad_cam" in list_methods("table")
        (True, False)

    Args:
        modality: only those that explain a `table`, `image` or `text`.

    Raises:
        UsageError: the modality is none of these.
    """
    return _names_for(METHODS, modality)


def list_metrics() -> list[str]:
    """Return the names of the metrics that `evaluate` and `score` take.

    Example:
        >>> list_metrics()[:3]
        ['FC', 'FE', 'MC']
    """
    discover_all()
    return list(METRICS)


def list_tasks() -> list[str]:
    """Return the names of the tasks that `python -m benchmark run` takes.

    Example:
        >>> "nap_mlp" in list_tasks()
        True
    """
    discover_all()
    return TASKS.names()


def list_removals(modality: Modality | None = None) -> list[str]:
    """Return the names of the ways to remove features that `task` takes.

    Example:
        >>> list_removals("text")
        ['mask']

    Args:
        modality: only those for a `table`, `image` or `text`.

    Raises:
        UsageError: the modality is none of these.
    """
    from benchmark.modalities.removals import REMOVALS

    return _names_for(REMOVALS, modality)


def _names_for(registry: Registry[Any], modality: Modality | None) -> list[str]:
    """Return the names of what suits a modality, or of all; an entry that names none suits each."""
    discover_all()
    wanted = None if modality is None else known_modality(modality)
    kinds = {name: registry.entry(name).facts.get("modalities") for name in registry.names()}
    return [name for name, suits in kinds.items() if wanted is None or not suits or wanted in suits]


def known_modality(given: Any) -> Modality:
    """Return the modality that a person named.

    Raises:
        UsageError: there is none of that name.
    """
    if given not in get_args(Modality):
        raise UsageError(f"modality expects table, image or text, got {shown(given)}")
    return cast(Modality, given)


def method(name: str, **parameters: Any) -> Method:
    """Return one of the benchmark's methods with parameters, for `evaluate`.

    Example:
        >>> method("lime", n_samples=20).n_samples
        20

    Args:
        name: one of `list_methods()`.
        parameters: those that `python -m benchmark show NAME` lists; the others have their defaults.

    Raises:
        UsageError: no method is called so, or it has no such parameter or value.
    """
    discover_all()
    if not isinstance(name, str):
        raise UsageError(f"method expects the name of a method, got {type(name).__name__}")
    return configured(METHODS.get(name), name, parameters)


def registered_as(method: Method) -> str | None:
    """Return the name that a method's class is registered under, or None where it is none."""
    discover_all()
    same_file = METHODS.registered_by(type(method).__module__)
    return next((name for name in same_file if METHODS.get(name) is type(method)), None)
