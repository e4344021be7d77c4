"""Cards: all that the registries know of a metric, a method, a task or a removal."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any, get_args

from benchmark.core.errors import UsageError, did_you_mean, shown
from benchmark.core.parameters import Space, parameters
from benchmark.core.registry import Entry
from benchmark.core.types import FIXED, METHODS, TASKS, Method, Modality, Told
from benchmark.modalities.removals import REMOVALS
from benchmark.scoring.metrics import METRICS, PAPER, PROBABILITY, ExplainerMetric, ProbeMetric, Reading
from benchmark.tuned.classes import name_of


def card(name: str) -> dict[str, Any]:
    """Return the card of a metric, method, task or removal: what there is to know of it, as plain data by topic.

    Args:
        name: of a metric (in any case), a registered method, task or removal.

    Raises:
        UsageError: nothing is called so.

    Example:
        >>> from benchmark.inspection.cards import card
        >>> card("DEL")["direction"]
        'lower is better'
    """
    if (called := next((metric for metric in METRICS if metric.lower() == name.lower()), None)) is not None:
        return metric_card(METRICS[called]) | _package(METRICS.entry(called))
    if name in METHODS.names():
        return method_card(name) | _package(METHODS.entry(name))
    if name in TASKS.names():
        return task_card(name) | _package(TASKS.entry(name))
    if name in REMOVALS.names():
        return removal_card(name) | _package(REMOVALS.entry(name))
    known = [*METRICS, *METHODS.names(), *TASKS.names(), *REMOVALS.names()]
    raise UsageError(f"nothing is called {name!r}{did_you_mean(name, known)}")


def _package(entry: Entry) -> dict[str, str]:
    """Return the installed package that brings a plug-in; nothing for ours and for files."""
    return {"package": entry.distribution} if entry.distribution else {}


BASELINE = (
    "a removed feature takes the task's baseline: the training mean on tables, a <mask> token in texts, the channel "
    "means in images; insertion starts from the same, but from a blurred image where the task has one"
)
TIES = "equal attributions are ordered by a random permutation drawn from (seed, sample), the same for all methods"
NO_TIES = "the order of features plays no part"


def metric_card(metric: ProbeMetric | ExplainerMetric) -> dict[str, Any]:
    """Return what there is to know of a metric."""
    if isinstance(metric, ExplainerMetric):
        needs = {"needs": "the explainer; undefined where attributions alone are given", "cost": metric.cost}
    else:
        needs = {
            "baseline": BASELINE,
            "ties": TIES if metric.probe.ordered else NO_TIES,
            **_read(metric.reading),
            "cost": f"forward passes a sample: {_passes(metric)}",
        }
    return {
        "metric": f"{metric.name}: {metric.title}",
        "question": metric.meaning,
        "formula": metric.formula,
        "direction": "higher is better" if metric.higher_is_better else "lower is better",
        "range": f"[{metric.low:g}, {metric.high:g}]",
        **{key: needs[key] for key in needs if key != "cost"},
        "cannot see": metric.blind_to,
        "redundancy": metric.redundancy,
        "cost": needs["cost"],
        "group": metric.group,
        "family": metric.family,
        "source": metric.source,
        "version": metric.version,
    }


def _read(reading: Reading) -> dict[str, str]:
    """Return what a metric reads of the model's answers, where that is more than the target's probability."""
    parts = ["all logits"] * reading.logits + [f"the layer {name}" for name in reading.layers]
    return {"reads": ", ".join(parts)} if parts else {}


def _passes(metric: ProbeMetric) -> str:
    """Return the forward passes a sample, in words."""
    if metric.reading == PROBABILITY:
        return metric.probe.cost
    sets = "one for each removal set" + ("" if metric.probe.ordered else ", shared by all methods")
    return f"{sets}, and one for the whole input: no other metric keeps these answers"


def metrics_document() -> str:
    """Return the cards of our metrics as the Markdown document docs/metrics.md."""
    parts = [
        "# Metrics",
        "Made by `python -m benchmark show metrics`. v_I is the target's probability with the features of I removed, "
        "v_0 with none removed; the target is the class predicted on the whole input, unless the task says which; s is "
        "the attribution. Features are sorted by descending attribution and cut into K groups. "
        f"Baseline of all that remove features: {BASELINE}.",
    ]
    ours = [name for name in METRICS if METRICS.entry(name).built_in]
    for group in dict.fromkeys(map(METRICS.group, ours)):
        parts.append(
            "## The ten\n\nThe paper's, which make up the mean rank."
            if group == PAPER
            else f"## Group {group}\n\nBeyond the ten (`--metrics {group}`), on a board of its own."
        )
        for metric in (METRICS[name] for name in ours if METRICS.group(name) == group):
            facts = metric_card(metric)
            lines = [f"- **{key}**: {facts[key]}" for key in facts if key not in ("metric", "question", "baseline")]
            parts.append("\n".join([f"### {facts['metric']}", "", facts["question"], "", *lines]))
    return "\n\n".join(parts) + "\n"


def method_card(name: str) -> dict[str, Any]:
    """Return what there is to know of a method."""
    entry, cls = METHODS.entry(name), METHODS.get(name)
    method = cls()
    defaults = _by_modality(method, entry.facts.get("modalities") or get_args(Modality))
    values = {key: defaults.get(key, "none" if value is None else value) for key, value in parameters(method).items()}
    return {
        "method": name,
        "kind": entry.facts.get("kind", ""),
        "explains": ", ".join(entry.facts.get("modalities", ())),
        "parameters": ", ".join(f"{key}={value}" for key, value in values.items()) or "none",
        "tuning tries": _tried(cls.space) if entry.facts.get("kind") not in FIXED else "nothing",
        **told_card(name),
        "description": _description(cls),
    }


def _tried(space: Space) -> str:
    """Return the values that `tune` combines, in words."""
    by_place = [
        ("", space.values),
        *((f"{modality}: ", values) for modality, values in space.by_modality.items()),
        *((f"at {name_of(rows)} rows: ", values) for rows, values in space.by_rows.items()),
    ]
    parts = [place + ", ".join(map(_values, values, values.values())) for place, values in by_place if values]
    return "; ".join(parts) or "its defaults alone"


def _values(key: str, values: Sequence[object]) -> str:
    return f"{key}={'|'.join('none' if value is None else str(value) for value in values)}"


def told_card(name: str) -> dict[str, str]:
    """Return what a method says that it is told, in words.

    A class speaks for itself alone: one that inherits from another may be told more.

    Raises:
        UsageError: what it declares is no `Told`.
    """
    topics = {field.name: field.name.replace("_", " ") for field in dataclasses.fields(Told)}
    told = vars(METHODS.get(name)).get("told")
    if told is None:
        return dict.fromkeys(topics.values(), "not stated")
    if not isinstance(told, Told):
        raise UsageError(f"told of the method {name} expects a Told of benchmark.core.types, got {shown(told)}")
    words = {True: "yes", False: "no", "": "none of the ten"}
    return {topic: words.get(value := getattr(told, key), value) for key, topic in topics.items()}


def methods_document() -> str:
    """Return what our methods are told as the Markdown document docs/methods.md."""
    rows = [
        {"method": f"`{name}`", "kind": METHODS.entry(name).facts["kind"], **told_card(name)}
        for name in METHODS.names()
        if METHODS.entry(name).built_in
    ]
    lines = [" | ".join(cells) for cells in (rows[0], ["---"] * len(rows[0]), *(row.values() for row in rows))]
    return "\n\n".join([METHODS_TEXT, "\n".join(f"| {line} |" for line in lines)]) + "\n"


METHODS_TEXT = """\
# What methods are told

Made by `python -m benchmark show methods`; what a method does, and its parameters, `show NAME` says. A method is told
more than another where it sees training rows, or the inside of the model, or where it aims at what a metric asks. Each
says so itself (`Told` in `benchmark/core/types.py`), and tests take away what it says it does without: its attributions
must stay the same, to the last bit.

- **All** are given the input, the target class, and the model to ask. All remove features as the task does, by a
  baseline that may be a mean of training rows; that is not counted as seeing them.
- **training rows**, **labels**: the inputs that the task's model was trained on, and their labels.
- **prediction**: whether an explainer that was trained is given what the model predicts for the input. Others ask the
  model themselves.
- **gradients**, **layers**: of the model; layers are hidden states or weights. Without both the model may be any
  function.
- **optimises**: which metric of [the ten](metrics.md) it optimises, or whose question it asks. It has a head start
  there.
- **signed**: whether attributions tell what speaks against the class. Unsigned ones cannot do well in FC, FE and INF,
  which read signs, where features speak against the class; MC reads sizes alone, and the others the order.

A text that begins with *with* or *in* says when: otherwise the answer is no. What a method costs is measured: rows in
training and in explaining, and seconds, stand on [boards](leaderboards.md)."""


def _description(cls: type) -> str:
    """Return a class's docstring as one paragraph, its parameters included and its example left out."""
    text = (inspect.getdoc(cls) or "").partition("\nExample:\n")[0]
    return " ".join(text.replace("\nArgs:\n", "\n").split())


def _by_modality(method: Method, modalities: Sequence[str]) -> dict[str, str]:
    """Return what stands for each parameter that a method leaves to the task: its values on the tasks that are ours."""
    specs = [TASKS.get(name)() for name in TASKS.names() if TASKS.entry(name).built_in]
    defaults: dict[str, list[str]] = {}
    for modality in modalities:
        resolved = [parameters(method.resolved(spec)) for spec in specs if spec.modality == modality]
        for key, value in parameters(method).items():
            values = sorted({settings[key] for settings in resolved if settings[key] != value})
            if value is None and values:
                defaults.setdefault(key, []).append(f"{modality} {' or '.join(map(str, values))}")
    return {key: f"by modality ({', '.join(words)})" for key, words in defaults.items()}


def removal_card(name: str) -> dict[str, Any]:
    """Return what there is to know of a removal."""
    entry, cls = REMOVALS.entry(name), REMOVALS.get(name)
    return {
        "removal": name,
        "removes from": ", ".join(entry.facts.get("modalities") or get_args(Modality)),
        "parameters": ", ".join(f"{key}={value}" for key, value in parameters(cls()).items()) or "none",
        "description": _description(cls),
    }


def task_card(name: str) -> dict[str, Any]:
    """Return what there is to know of a task."""
    spec = TASKS.get(name)()
    return {
        "task": name,
        "description": TASKS.entry(name).summary,
        "modality": spec.modality,
        "features": spec.n_features,
        "budget": ", ".join(f"{key} {value:g}" for key, value in dataclasses.asdict(spec.budget).items()),
        **spec.facts(),
    }
