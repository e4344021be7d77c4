"""The registry of metrics, and which of them a selection chooses."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from benchmark.core.errors import UsageError, describe, did_you_mean, shown
from benchmark.core.registry import Registry, a_text, is_name, one_of
from benchmark.core.selection import chosen, items_of
from benchmark.scoring.metrics.metric import ExplainerMetric, Metric, ProbeMetric

PAPER = "ten"
"""The group of the paper's ten metrics, which alone make up its mean rank."""
OWN = "own"
"""The group of a metric that is registered without one."""
RESERVED = ("all", PAPER)


class MetricRegistry(Registry[Any]):
    """Metrics by name, as a mapping: the ten first, then the others in the order of their registration.

    What is registered is a metric, or a class or function that makes one without arguments. Of one that was found in
    source text (`discover`) the module is imported when the metric is used.

    Example:
        >>> from benchmark.scoring.metrics import LERF, METRICS, ProbeMetric, mean, share_lost
        >>> list(METRICS)[:3], METRICS["DEL"].title, METRICS.entry("SENS").facts["group"]
        (['FC', 'FE', 'MC'], 'Deletion', 'stability')
    """

    def __init__(self) -> None:
        facts = {"group": _a_group, "family": a_text, "higher_is_better": one_of(True, False)}
        super().__init__("metric", "METRICS", facts=facts)
        self.closed: set[str] = set()
        self._made: dict[str, tuple[Any, Metric]] = {}

    def register(self, name: str, **facts: Any) -> Callable[[Any], Any]:
        """Return a decorator that registers a metric, or what makes one, and returns it unchanged.

        Args:
            name: as in other registries; another metric may not be called so in other capitals.
            facts: `group`, a word for the metrics that it shares a board with, never `ten` (default: `own`); `family`,
                for those that it is nearly a function of (default: its own name); `higher_is_better`.

        Raises:
            ValueError: another metric has the name already.
            UsageError: the name or a fact is not allowed.

        Example:
            >>> @METRICS.register("LEAST", group="own")  # doctest: +SKIP
            ... class Least(ProbeMetric):
            ...     "Loss of the least relevant."
            ...     probe, higher_is_better = LERF, False
            ...     def score(self, response):
            ...         return mean(share_lost(response), response)
        """
        decorate = super().register(name, **facts)
        place = sys._getframe(1).f_globals.get("__name__", "")  # an object does not know which module made it

        def registered(metric: Any) -> Any:
            if not isinstance(metric, Metric):
                return decorate(metric)

            def maker() -> Metric:
                return metric

            maker.__module__, maker.__doc__ = place, metric.title
            decorate(maker)
            return metric

        return registered

    def get(self, name: str, default: Any = ...) -> Any:
        """Return the metric called `name`, importing its module if need be.

        Raises:
            UsageError: there is none and no `default` is given, or what is called so cannot be used.
        """
        if default is not ... and name not in self:
            return default
        registered = super().get(name)
        made = self._made.get(name)
        if made is None or made[0] is not registered:
            made = self._made[name] = registered, self._metric(name, registered)
        return made[1]

    def _metric(self, name: str, registered: Any) -> Metric:
        """Return the metric that a registered object makes, under the name and the facts of its registration.

        Raises:
            UsageError: it makes none, or one that cannot be used.
        """
        refused = f"the metric {name!r} cannot be used"
        try:
            made = registered()
        except Exception as error:
            raise UsageError(f"{refused}: making it without arguments fails: {describe(error, registered)}") from error
        if (problem := problem_of(made)) is not None:
            raise UsageError(f"{refused}: {problem}")
        facts = dict(self._entries[name].facts)
        metric = copy.copy(made)
        vars(metric).update(
            {"name": name, "group": OWN, "family": metric.family or name, "title": metric.title or name} | facts
        )
        return metric

    def group(self, name: str) -> str:
        """Return the group of a metric, without importing it."""
        return self.entry(name).facts.get("group", OWN)

    def groups(self) -> list[str]:
        """Return all groups, the ten first."""
        return list(dict.fromkeys(map(self.group, self)))

    def matching(self, item: str) -> list[str]:
        """Return the metrics that one item of a selection means: `all`, a name, a group or a glob, in any capitals.

        Raises:
            UsageError: it matches nothing.
        """
        return matching(item, {name: self.group(name) for name in self})

    def select(self, text: str) -> list[str]:
        """Return the metrics that a selection chooses, in the order of the registry; see `select_metrics`."""
        return select_from(text, {name: self.group(name) for name in self})

    def _check_facts(self, name: str, facts: Mapping[str, Any]) -> None:
        super()._check_facts(name, facts)
        if name.lower() in RESERVED:
            raise UsageError(f"no metric can be called {name!r}: the word stands for several in selections")
        if facts.get("group") in self.closed and name not in self._entries:
            raise UsageError(
                f"the metric {name!r}: the group {shown(facts['group'])} is the paper's; choose another word"
            )
        twins = [other for other in self._entries if other.lower() == name.lower() and other != name]
        if twins:
            raise ValueError(f"two metrics are called {name!r} but for capitals: rename one of them")

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        return self.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self._entries)

    def keys(self) -> list[str]:
        """Return the names."""
        return self.names()

    def values(self) -> list[Any]:
        """Return the metrics; all of them are imported."""
        return [self.get(name) for name in self]

    def items(self) -> list[tuple[str, Any]]:
        """Return names and metrics; all of them are imported."""
        return [(name, self.get(name)) for name in self]


Mapping.register(MetricRegistry)


def _a_group(value: Any) -> str | None:
    return None if is_name(value) and value not in ("all",) else f"expects a word, got {shown(value)}"


def problem_of(metric: Any) -> str | None:
    """Return why something is no metric that can be used, or None where it is one."""
    if not isinstance(metric, (ProbeMetric, ExplainerMetric)):
        return f"expected a ProbeMetric or an ExplainerMetric, got {shown(metric)}"
    if isinstance(metric, ProbeMetric) and not callable(getattr(getattr(metric, "probe", None), "sets", None)):
        return f"its probe is {shown(getattr(metric, 'probe', None))}, expected a Probe such as MORF"
    if isinstance(metric, ProbeMetric) and not _is_hashable(metric.probe):
        return f"its probe {type(metric.probe).__name__} has no hash: write @dataclass(frozen=True) above its class"
    if not isinstance(metric.higher_is_better, bool):
        return f"higher_is_better is {shown(metric.higher_is_better)}, expected True or False"
    if type(metric.version) is not int or metric.version < 1:
        return f"its version is {shown(metric.version)}, expected a number from 1 on"
    if not metric.low < metric.high:
        return f"its scores lie between {shown(metric.low)} and {shown(metric.high)}: expected low < high"
    return None


def _is_hashable(value: object) -> bool:
    """Tell whether a value can be compared with others: those that are equal are asked once."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


def matching(item: str, groups: Mapping[str, str]) -> list[str]:
    """Return the metrics among `groups`, a group by name, that one item of a selection means.

    Raises:
        UsageError: it matches nothing.
    """
    wanted = item.lower()
    if wanted == "all":
        return list(groups)
    found = [name for name in groups if name.lower() == wanted]
    found = found or [name for name, group in groups.items() if group.lower() == wanted]
    found = found or [name for name in groups if fnmatchcase(name.lower(), wanted)]
    if not found:
        raise UsageError(f"unknown metric {item!r}{did_you_mean(item, [*groups, *dict.fromkeys(groups.values())])}")
    return found


def select_from(text: str, groups: Mapping[str, str]) -> list[str]:
    """Return the metrics among `groups`, a group by name, that a selection chooses, in their order.

    Raises:
        UsageError: an item matches nothing, or nothing is left.
    """
    items = items_of(text)
    if items and all(item.startswith("!") for item in items):
        text = f"{PAPER},{text}"
    found = chosen(text, lambda item: matching(item, groups), "metric")
    return [name for name in groups if name in found]


METRICS = MetricRegistry()
"""All metrics by name. A metric of one's own is one more entry."""


def select_metrics(text: str) -> list[str]:
    """Return the metrics that a selection chooses (see `benchmark.core.selection`), in the registry's order.

    Args:
        text: names, groups such as `ten` or `stability`, globs and `all` between commas, `!name` to leave one out;
            capitals do not matter. A selection of nothing but `!names` starts from the ten.

    Raises:
        UsageError: an item matches nothing, or nothing is left.

    Example:
        >>> select_metrics("f*,!fe")
        ['FC']
        >>> select_metrics("sens,ten")[-2:]
        ['IROF', 'SENS']
    """
    return METRICS.select(text)
