"""Cards: all that the registries know of a metric, a method, a task or a removal."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any, get_args

from benchmark.core.errors import UsageError, did_you_mean
from benchmark.core.parameters import parameters
from benchmark.core.registry import Entry
from benchmark.core.types import METHODS, TASKS, TOLD, Method, Modality, told_of
from benchmark.modalities.removals import REMOVALS
from benchmark.scoring.metrics import METRICS, PAPER, PROBABILITY, ExplainerMetric, ProbeMetric, Reading


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
        **told_of(entry.facts.get("told", {})),
        "parameters": ", ".join(f"{key}={value}" for key, value in values.items()) or "none",
        "description": _description(cls),
    }


SEEN = """\
What each method is told when it explains, and when it is trained. It declares that where it is registered
([a method](../CONTRIBUTING.md#a-method)); tests take from each what it says it is not told, and find that its
attributions stay as they were. `with` and `unless`: for these values of a parameter alone.

- **training rows**: inputs of the training split. The removal baseline is the task's, which metrics and methods share:
  that it is the mean of these rows counts for no method.
- **labels**: those of the training rows. Every method explains the model, not the labels: none is told any.
- **prediction**: what of the model's answer, for which inputs. The output of a class is its logit, its probability or
  its log odds (`output=`).
- **gradients**: whether it sends a gradient through the model, or a copy of it. DeepFaith does so through the prior
  methods that it is trained on.
- **hidden states**: whether it reads or changes what layers of the model give. The word vectors of a text model are not
  counted: gradient methods take gradients of them, and trained encoders begin with them.
- **optimises**: which metrics ask what the method computes or is trained for. FC and INF correlate attribution with the
  fall of the prediction over random subsets, FE and MC over single features or groups: a method that fits these falls
  is near the metric's own optimum, and a good score says that the fit is good. A method that `tune` chose settings for
  has been judged by the metrics on training rows in any case.
- **sign**: `unsigned` attributions say how much a feature matters, but not whether for or against the class. FC, FE and
  INF ask which, so that an unsigned method cannot win them where features speak against a class; MC takes sizes alone.
- **rows an explanation**, **rows in training**: through the model, as a formula of parameters; n players (columns,
  words, patches or cells), N training rows. What was measured stands on boards. `no`: none."""


def methods_document() -> str:
    """Return what our methods are told as the Markdown document docs/methods.md."""
    header = ["method", "kind", *TOLD]
    rows = [[f"`{name}`", METHODS.entry(name).facts["kind"], *told_of(METHODS.entry(name).facts["told"]).values()]
            for name in METHODS.names() if METHODS.entry(name).built_in]  # fmt: skip
    table = [f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows]]
    made = "Made by `python -m benchmark show methods`; `show lime` says more of one."
    return "\n\n".join(["# Methods: who is told what", made, SEEN, "\n".join(table)]) + "\n"


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
