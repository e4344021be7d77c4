"""What methods say that they are told: without what a method says it does without, its attributions are the same.

And they are others, or none, without what it says it is told.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace

import pytest
import torch
from torch import nn

from benchmark.core.errors import DataError, UsageError
from benchmark.core.parameters import configure
from benchmark.core.seeding import seeded
from benchmark.core.types import METHODS, Method, Split, Told
from benchmark.inspection.cards import card, told_card
from benchmark.running.presets import PRESETS
from tests import toys
from tests.methods.test_pairs import methods_for

ROWS = 24
EXPLAINED = 6
FEW = {"iterations": "6", "rows": "20", "batch": "8", "members": "1", "coalitions": "4", "subsets": "4", "rounds": "2",
       "steps": "20", "tuning": "20", "search": "30", "width": "16", "depth": "1", "similarity": "2", "quantile": "0",
       }  # fmt: skip
"""Settings of learned methods: training shows what it was told, all prior explanations are copied, and no more."""


class Words(nn.Module):
    """Takes word numbers, or embeddings and which words are real, as the models of text tasks do."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30, 6)
        self.head = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x, real=None):
        real = (x != 0) if real is None else real
        words = x if x.is_floating_point() else self.embed(x)
        place = 1 + torch.arange(x.shape[1]).view(1, -1, 1) / 10
        return self.head((torch.sin(words * place * 3) * real.unsqueeze(-1)).sum(1))


def model_for(modality):
    """Return an untrained model that takes a toy of this modality, with activations that every rule knows."""
    if modality == "text":
        return Words()
    if modality == "image":
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 3))


def make(modality):
    """Return a small task in float32 whose labels are not all the same."""
    small = {
        "table": lambda: toys.table(5, ROWS),
        "text": lambda: toys.text(7, 3, ROWS),
        "image": lambda: toys.image(6, 3, ROWS),
    }[modality]()
    with seeded(1), torch.no_grad():
        model = model_for(modality)
        for weight in model.parameters():
            weight.mul_(3)  # answers that removals move
    x = small.train.x if modality == "text" else small.train.x.float()
    removal = small.removal if modality == "text" else replace(small.removal, means=small.removal.means.float())
    rows = Split(x, torch.arange(ROWS) % 3)
    spatial = "0" if modality == "image" else None
    return replace(
        small, model=model.requires_grad_(False).eval(), train=rows, test=rows, removal=removal, spatial=spatial
    )


def other_labels(task):
    return replace(task, train=Split(task.train.x, task.train.y.flip(0)), test=Split(task.test.x, task.test.y.flip(0)))


def other_rows(task):
    """Return the task with the rows to explain as they are, and training rows of other numbers."""
    x = task.train.x
    with seeded(2):
        x = torch.randint(2, 30, x.shape).where(x > 0, x) if task.modality == "text" else torch.randn_like(x)
    return replace(task, train=Split(x, task.train.y))


class NoGradientError(Exception):
    """A gradient of the model was asked for."""


class _Shut(torch.autograd.Function):
    """Passes numbers on, and no gradient."""

    @staticmethod
    def forward(context, logits):
        return logits.clone()

    @staticmethod
    def backward(context, *slopes):
        raise NoGradientError


class Shut(nn.Module):
    """The same answers, of which no gradient can be taken."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    @property
    def embed(self):
        return self.model.embed

    def forward(self, *inputs):
        return _Shut.apply(self.model(*inputs))


class Switched(nn.Module):
    """The same answers, until they are switched to others."""

    def __init__(self, model):
        super().__init__()
        self.model, self.switched = model, False

    @property
    def embed(self):
        return self.model.embed

    def forward(self, *inputs):
        logits = self.model(*inputs)
        return logits.flip(1) * 2 if self.switched else logits


class Closed(nn.Module):
    """The same answers from one module, of which nothing but they can be seen."""

    def __init__(self, model):
        super().__init__()
        self.answer = [model]  # a list hides it from torch

    def forward(self, x):
        return self.answer[0](x)


def wrapped(task, kind):
    """Return the task with its model in one of these."""
    return replace(task, model=kind(task.model).eval(), spatial=task.spatial and f"model.{task.spatial}")


def method(name, **given):
    """Return a method that does little and is otherwise as it is by default."""
    cls = METHODS.get(name)
    learned = METHODS.entry(name).facts["kind"] == "learned"
    own = {field.name for field in fields(cls)}
    few = {key: value for key, value in FEW.items() if learned and key in own}
    return configure(cls, name, PRESETS["quick"].given(cls, few | given))


@pytest.fixture
def attributions(tmp_path, monkeypatch):
    """Return what explains rows of a task, with nothing that another call has trained."""
    caches = iter(range(99))

    def explain(name, task, **given):
        monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / str(next(caches))))
        return method(name, **given).prepare(task, 3)(*explained(task))

    return explain


def explained(task):
    """Return the rows that are explained, and classes."""
    return task.test.x[-EXPLAINED:], torch.arange(EXPLAINED) % 3


def says(answer, modality):
    """Return whether a method says that it is told, on tasks of this modality and as it is by default: see `Told`."""
    if isinstance(answer, bool):
        return answer
    return f"in {modality}s" in answer if answer.startswith("in ") else not answer.startswith("with ")


def shut(task):
    return wrapped(task, Shut)


def closed(task):
    return wrapped(task, Closed)


KIND = {name: METHODS.entry(name).facts["kind"] for modality in toys.TASKS for name in methods_for(modality)}
PAIRS = [
    pytest.param(modality, name, marks=[pytest.mark.slow] * (KIND[name] == "learned" and modality != "table"))
    for modality in toys.TASKS
    for name in methods_for(modality)
]
LEARNED = [pair for pair in PAIRS if KIND[pair.values[1]] == "learned"]


@pytest.mark.parametrize(("modality", "name"), PAIRS)
def test_a_method_is_told_what_it_says(modality, name, attributions):
    card, task = METHODS.get(name).told, make(modality)
    plain = attributions(name, task)
    assert torch.equal(attributions(name, task), plain), "or nothing could be compared"
    assert torch.equal(attributions(name, other_labels(task)), plain) != says(card.labels, modality)
    assert torch.equal(attributions(name, other_rows(task)), plain) != says(card.training_rows, modality)
    assert bool((plain < 0).any()) == says(card.signed, modality)

    if says(card.gradients, modality):
        with pytest.raises(NoGradientError):
            attributions(name, shut(task))
    else:
        assert torch.equal(attributions(name, shut(task)), plain)

    if not says(card.layers, modality):
        assert torch.equal(attributions(name, closed(task)), plain)
        return
    try:
        found = attributions(name, closed(task))
    except (AttributeError, ValueError) as error:
        found = str(error)
    if isinstance(found, str):
        assert "has no" in found, "the layer that it looks for"
    else:
        assert not torch.equal(found, plain)


@pytest.mark.parametrize(("modality", "name"), LEARNED)
def test_a_trained_explainer_is_given_the_prediction_where_it_says_so(modality, name, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    task = wrapped(make(modality), Switched)
    explain = method(name).prepare(task, 3)
    plain = explain(*explained(task))
    task.model.switched = True
    assert torch.equal(explain(*explained(task)), plain) != says(METHODS.get(name).told.prediction, modality)


def test_only_explainers_that_are_trained_say_that_they_are_given_the_prediction():
    named = {name for name in KIND if METHODS.get(name).told.prediction}
    assert named == {"cxplain", "deepfaith", "deepfaith_hinted", "fastshap"}
    assert {KIND[name] for name in named} == {"learned"}
    assert not says(METHODS.get("cxplain").told.prediction, "table"), "unless it is given gradients"


@pytest.mark.parametrize(
    ("modality", "name", "given", "change", "sees"),
    [
        ("table", "integrated_gradients", {"reference": "mean"}, other_rows, True),
        ("table", "integrated_gradients", {"reference": "noise"}, other_rows, True),
        ("table", "deeplift", {"reference": "mean"}, other_rows, True),
        ("table", "gradient_shap", {"reference": "removal"}, other_rows, False),
        ("image", "expected_gradients", {"reference": "removal"}, other_rows, False),
        ("table", "deepfaith", {"alpha": "0"}, shut, False),
        ("table", "deepfaith", {"alpha": "0"}, closed, False),
    ],
)
def test_when_rows_gradients_and_layers_are_seen(modality, name, given, change, sees, attributions):
    task = make(modality)
    assert torch.equal(attributions(name, change(task), **given), attributions(name, task, **given)) != sees


@pytest.mark.parametrize("name", ["lime", "kernel_shap", "occlusion", "feature_ablation"])
def test_words_that_take_the_zero_vector_need_word_vectors(name, attributions):
    with pytest.raises(DataError, match="embeddings, and the model of toy shows none"):
        attributions(name, closed(make("text")), removal="zero")


def test_signs_follow_parameters(attributions):
    assert (attributions("saliency", make("table"), form="signed") < 0).any()
    assert (attributions("deepfaith", make("table"), form="unit") >= 0).all()


def test_every_method_of_ours_says_what_it_is_told():
    assert [name for name in KIND if "not stated" in told_card(name).values()] == []


@dataclass(frozen=True)
class Silent(Method):
    """Says nothing of itself."""

    def prepare(self, task, seed):
        return lambda x, target: x


class Speaking(Silent):
    """Speaks for itself."""

    told = Told(training_rows="all of them", labels=True)


class Inheriting(Speaking):
    """Inherits from one that speaks for itself, and may be told more."""


class Wrong(Silent):
    """Says it in another way."""

    told = "gradients"


@pytest.fixture
def registered(monkeypatch):
    """Return what lets one of these classes stand in the registry under the name of a method."""

    def register(cls):
        get = METHODS.get
        monkeypatch.setattr(METHODS, "get", lambda name: cls if name == "random" else get(name))

    return register


def test_a_method_that_says_nothing_is_not_stated(registered):
    for cls in (Silent, Inheriting):
        registered(cls)
        facts = card("random")
        assert [facts[field.name.replace("_", " ")] for field in fields(Told)] == ["not stated"] * 7


def test_a_card_is_in_words(registered):
    registered(Speaking)
    assert told_card("random") == {
        "training rows": "all of them", "labels": "yes", "prediction": "no", "gradients": "no", "layers": "no",
        "optimises": "none of the ten", "signed": "yes",
    }  # fmt: skip


def test_what_is_no_card_is_refused(registered):
    registered(Wrong)
    with pytest.raises(UsageError, match="told of the method random expects a Told of benchmark.core.types, got "):
        card("random")
    with pytest.raises(UsageError, match="labels of Told expects True, False or a text, got 1"):
        Told(labels=1)
    with pytest.raises(UsageError, match="optimises of Told expects a text, got False"):
        Told(optimises=False)


def test_show_prints_what_a_method_is_told(capsys):
    from benchmark.cli.parser import main

    assert main(["show", "feature_ablation"]) == 0
    assert "optimises      asks what FE and MC ask, of single features\n" in capsys.readouterr().out
    assert main(["show", "saliency", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gradients"] == "yes"
