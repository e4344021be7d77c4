"""What methods say that they are told is true: what one is not told may change, and its attributions stay.

And the other way round: what it says that it is told matters.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, fields, replace

import pytest
import torch
from torch import nn

from benchmark.core.errors import UsageError
from benchmark.core.parameters import parameters
from benchmark.core.registry import texts
from benchmark.core.seeding import seeded
from benchmark.core.types import METHODS, PACKAGES, TOLD, Budget, Method, Split, told_of
from benchmark.inspection.cards import card
from benchmark.modalities.removal import ColumnRemoval, PixelRemoval
from benchmark.models.metering import Meter
from tests import toys

HASTY = {
    "l2x": {"iterations": 2}, "fastshap": {"iterations": 2}, "cxplain": {"iterations": 2, "rows": 12},
    "vert": {"rows": 12, "rounds": 2, "steps": 25, "tuning": 4, "search": 8},
    "vert_amortised": {"rows": 12, "rounds": 2, "steps": 2, "tuning": 2, "iterations": 2},
    "deepfaith": {"iterations": 40, "rows": 6, "subsets": 16, "priors": "quick"},
    "integrated_gradients": {"steps": 4, "references": 2}, "score_cam": {"channels": 3},
    "deeplift_shap": {"background": 4},
}  # fmt: skip
"""What is trained is trained for a moment, but long enough for what it is told to matter."""
NAMES = [name for name in METHODS.names() if METHODS.entry(name).module.partition(".")[0] in PACKAGES]


def table():
    model = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 3))
    return model, torch.randn(30, 5), ColumnRemoval(torch.randn(5))


def image():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(5 * 36, 3),
    )  # fmt: skip
    return model, torch.randn(30, 3, 6, 6), PixelRemoval(torch.randn(3), 6, 6, sigma=None)


def a_task(name):
    """Return a small task that the method explains: a table where it can, and else images."""
    modality = "table" if "table" in METHODS.entry(name).facts["modalities"] else "image"
    with seeded(0):
        model, x, removal = {"table": table, "image": image}[modality]()
        made = toys.make(model, x, removal, Budget(5, subsets=8), modality)
    model.float()
    return replace(
        made, spatial="3", train=Split(x[:24], torch.arange(24) % 3), test=Split(x[24:], torch.arange(6) % 3)
    )


@pytest.fixture
def attribute(tmp_path, monkeypatch):
    """Return what explains a task's test rows by a method, which is trained anew each time."""

    def explained(name, task, **given):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        monkeypatch.setenv("BENCHMARK_CACHE", str(folder))
        method = METHODS.get(name)(**(HASTY.get(name, {}) | given))
        with seeded(0):
            return method.prepare(task, 1)(task.test.x, torch.arange(6) % 3)

    return explained


def cases(item, names=NAMES):
    """Return what each method says of an item as (name, what is given, what then holds).

    That is "yes" or "no", or, of the sign, "signed" or "unsigned".
    """
    found = []
    for name in names:
        word, _, condition = told_of(METHODS.entry(name).facts["told"])[item].partition(" ")
        if word in ("with", "unless"):
            word, condition = "yes", f"{word} {condition}"
        if not condition:
            found.append(pytest.param(name, {}, word, id=name))
            continue
        kind, key, text = re.fullmatch(r"(with|unless) (\w+)=(.+)", condition).groups()
        other = {"yes": "no", "unsigned": "signed", "signed": "unsigned"}[word]
        values = next(field for field in fields(METHODS.get(name)) if field.name == key).metadata["among"]
        assert set(text.split(" or ")) < set(values), f"{name} has no such {key}"
        for value in values:
            holds = (value in text.split(" or ")) == (kind == "with")
            found.append(pytest.param(name, {key: value}, word if holds else other, id=f"{name}-{key}={value}"))
    return found


def test_each_of_ours_says_what_it_is_told():
    for name in NAMES:
        assert set(METHODS.entry(name).facts["told"]) <= set(TOLD), name
        assert (METHODS.entry(name).facts["told"].get("rows in training", "no") != "no") == (
            METHODS.entry(name).facts["kind"] == "learned"
        ), name


@pytest.mark.parametrize(("name", "given", "told"), cases("labels"))
def test_labels(name, given, told, attribute):
    task = a_task(name)
    others = replace(task, train=replace(task.train, y=task.train.y.flip(0)))
    assert torch.equal(attribute(name, task, **given), attribute(name, others, **given)) == (told == "no")


@dataclass(frozen=True)
class Nosy(Method):
    """The mean of training rows by class."""

    def prepare(self, task, seed):
        means = torch.stack([task.train.x[task.train.y == label].mean(0) for label in range(3)])
        return lambda x, target: means[target]


def test_labels_would_be_noticed(attribute):
    METHODS.register("nosy", kind="other", modalities=("table",), told={"labels": "no", "sign": "signed"})(Nosy)
    with pytest.raises(AssertionError):
        test_labels("nosy", {}, "no", attribute)


@pytest.mark.parametrize(("name", "given", "told"), cases("training rows"))
def test_training_rows(name, given, told, attribute):
    task = a_task(name)
    others = replace(task, train=replace(task.train, x=2 * task.train.x.roll(1, -1) + 1))
    assert torch.equal(attribute(name, task, **given), attribute(name, others, **given)) == (told == "no")


class Refuse(torch.autograd.Function):
    @staticmethod
    def forward(context, answer):
        return answer.clone()

    @staticmethod
    def backward(context, slope):
        raise RuntimeError("no gradient passes")


@pytest.mark.parametrize(("name", "given", "told"), cases("gradients"))
def test_gradients(name, given, told, attribute):
    task = a_task(name)
    before = attribute(name, task, **given)
    task.model.register_forward_hook(lambda _module, _inputs, answer: Refuse.apply(answer))
    if told == "no":
        assert torch.equal(attribute(name, task, **given), before)
    else:
        with pytest.raises(RuntimeError, match="no gradient passes"):
            attribute(name, task, **given)


CAM = dict.fromkeys(("grad_cam", "grad_cam_plus_plus", "score_cam"), "has no attribute")
REFUSE = CAM | {"guided_backprop": "no activation module"}
"""Methods that cannot do without layers, and what is said then."""


class Opaque(nn.Module):
    """A model of the same weights in one layer: there is nothing inside to look at."""

    def __init__(self, model):
        super().__init__()
        self.hidden = [model]
        for name, parameter in model.named_parameters():
            self.register_parameter(name.replace(".", "_"), parameter)

    def forward(self, x):
        return self.hidden[0](x)


@pytest.mark.parametrize(("name", "given", "told"), cases("hidden states"))
def test_hidden_states(name, given, told, attribute):
    task = a_task(name)
    before = attribute(name, task, **given)
    opaque = replace(task, model=Opaque(copy.deepcopy(task.model)).eval())
    if name in REFUSE:
        with pytest.raises((AttributeError, ValueError), match=REFUSE[name]):
            attribute(name, opaque, **given)
        assert told == "yes"
    else:
        assert torch.equal(attribute(name, opaque, **given), before) == (told == "no")


@pytest.mark.parametrize("name", NAMES)
def test_the_prediction(name, attribute):
    told, task = told_of(METHODS.entry(name).facts["told"])["prediction"], a_task(name)
    asked = []
    task.model.register_forward_hook(lambda _module, inputs, _answer: asked.append(inputs[0]))
    attribute(name, task)
    assert bool(asked) == (told != "no")
    whole = {row.numpy().tobytes() for row in torch.cat([task.train.x, task.test.x])}
    only_whole = all(row.numpy().tobytes() in whole for rows in asked for row in rows.detach())
    if told.endswith("whole inputs"):
        assert only_whole
    if told.endswith("removed"):
        assert not only_whole


@pytest.mark.parametrize(("name", "given", "told"), cases("sign"))
def test_the_sign(name, given, told, attribute):
    assert ("unsigned" if bool((attribute(name, a_task(name), **given) >= 0).all()) else "signed") == told


def rows_of(text, values):
    """Return forward and backward rows as the formula before a semicolon says, or None where it is in words."""
    if text == "no":
        return 0, 0
    formula = text.partition(";")[0].replace("^", "**")
    found = re.fullmatch(r"(.+?) forward(?: (and) backward|, (.+?) backward)?", formula)
    if found is None:
        return None
    known = {"__builtins__": {}, "min": min} | values
    forward = eval(found[1], known)
    return forward, forward if found[2] else eval(found[3], known) if found[3] else 0


@pytest.mark.parametrize("name", NAMES)
def test_rows(name, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    told, task = told_of(METHODS.entry(name).facts["told"]), a_task(name)
    method = METHODS.get(name)(**HASTY.get(name, {})).resolved(task)
    values = parameters(method) | {"n": 5, "N": len(task.train.x), "places": 5}
    meter = Meter()
    with seeded(0):
        with meter.phase("training", task.model):
            explain = method.prepare(task, 1)
        with meter.phase("explaining", task.model):
            explain(task.test.x, torch.arange(6) % 3)
    cost = meter.phases["explaining"]
    forward, backward = rows_of(told["rows an explanation"], values)
    assert (cost.forwards, cost.backwards) == (6 * forward, 6 * backward)
    training = Meter().summary() | getattr(explain, "report", {"costs": {}})["costs"]
    spent = [sum(cost[way] for cost in training.values()) for way in ("forwards", "backwards")]
    formula = rows_of(told["rows in training"], values)
    assert (spent[0] > 0) == (told["rows in training"] != "no")
    if formula is not None:  # what validates comes on top
        assert spent[0] >= formula[0]
        assert spent[1] >= formula[1]


def test_a_card_that_cannot_be_read_is_refused():
    rule = texts(TOLD)
    assert rule({"sign": "signed"}) is None
    assert rule({"sign": "unsigned unless form=signed", "gradients": "with output=logit or log_odds"}) is None
    assert "expects texts by name" in rule("signed")
    assert "expects texts by name" in rule({"sign": 1})
    assert "'signed' or 'unsigned'" in rule({"gradients": "yes"})
    assert "did you mean 'gradients'" in rule({"sign": "signed", "gradient": "yes"})
    assert "'yes', 'no'" in rule({"sign": "signed", "labels": "sometimes"})
    with pytest.raises(UsageError, match="the method 'mine': told expects of 'sign' 'signed' or 'unsigned'"):
        METHODS.register("mine", told={"sign": "both"})


def test_what_is_not_declared_is_not_stated():
    METHODS.register("plain", kind="other", modalities=("table",))(Nosy)
    assert set(TOLD) <= {item for item, text in card("plain").items() if text == "not stated"}
    assert card("saliency")["sign"] == "unsigned unless form=signed"
    assert set(told_of({}).values()) == {"not stated"}
    assert told_of({"sign": "signed"}) == dict.fromkeys(TOLD, "no") | {"sign": "signed"}
