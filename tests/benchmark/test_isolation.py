"""What one method does to what it is given reaches no other: a model, rows, generators, settings of torch."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune as pruning

from benchmark.core.provenance import ModelProvenance, Provenance
from benchmark.core.types import METHODS, Method, Split
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.isolation import ChangedTaskError, for_methods
from tests import toys

VICTIMS = ("saliency", "lime", "random")


@pytest.fixture
def task():
    """A table whose model has a buffer and a layer that has a mode."""
    toy = toys.table(samples=40)
    layers = [nn.BatchNorm1d(7), *toy.model, nn.Dropout(0.5)]
    model = nn.Sequential(*layers).double().eval().requires_grad_(False)
    model[3].scale = torch.ones(1)  # a tensor that is neither parameter nor buffer
    rows = Split(toy.test.x[:30], toy.test.y[:30])
    return replace(toy, model=model, train=rows, test=Split(toy.test.x[36:], toy.test.y[36:]))


@pytest.fixture(scope="module")
def whole():
    """The scores of the victims where nobody did anything."""
    return {}


@dataclass(frozen=True)
class Does(Method):
    """A method that does something to the task before, or to its arguments while, it explains."""

    before: object = None
    meanwhile: object = None

    def prepare(self, task, seed):
        if self.before is not None:
            self.before(task)

        def explain(x, target):
            if self.meanwhile is not None:
                self.meanwhile(x, target)
            return torch.ones(len(x), task.n_features).cumsum(1)

        return explain


def scores(evaluator, name):
    found = evaluator.evaluate(METHODS.get(name)(), name).scores
    return torch.stack(list(found.values()))


def remember(whole, evaluator):
    if not whole:
        whole |= {name: scores(evaluator, name) for name in VICTIMS}


def alike(a, b):
    return torch.equal(a.nan_to_num(7), b.nan_to_num(7))


def leave_hook(task):
    task.model.register_forward_hook(lambda _m, _i, output: -output)


def leave_inner_hook(task):
    task.model[1].register_forward_pre_hook(lambda _m, inputs: (inputs[0] * 2,))


def patch_forward(task):
    task.model[2].forward = lambda x: x


def replace_layer(task):
    task.model[2] = nn.Identity()


def replace_weight(task):
    task.model[1].weight = nn.Parameter(task.model[1].weight * 2, requires_grad=False)


def add_layer(task):
    task.model.append(nn.Identity())


BEFORE = {
    "the weights of the model (layer 1)": lambda task: task.model[1].weight.mul_(-1),
    "the weights of the model (layer 3)": lambda task: task.model[3].bias.data.add_(1),
    "the buffers of the model (layer 0)": lambda task: task.model[0].running_mean.fill_(3),
    "the mode of the model": lambda task: task.model.train(),
    "the hooks of the model": leave_hook,
    "the hooks of the model (layer 1)": leave_inner_hook,
    "the layers of the model (layer 2)": patch_forward,
    "whether gradients are taken of the weights": lambda task: task.model[1].requires_grad_(True),
    "the settings of the model (layer 4)": lambda task: setattr(task.model[4], "p", 0.9),
    "the settings of the model (layer 0)": lambda task: setattr(task.model[0], "more", 1),
    "the settings of the model (layer 3)": lambda task: task.model[3].scale.mul_(2),
}


def prune(task):
    pruning.random_unstructured(task.model[1], "weight", 0.5)


def shadow(task):
    weight = task.model[1].weight
    del task.model[1].weight
    task.model[1].weight = weight.data * 2


def other_class(task):
    task.model[2].__class__ = nn.ReLU


def patch_class(task):
    nn.Tanh.forward = lambda self, x: x


MORE = {
    "the layers of the model": (replace_layer, add_layer),
    "the weights of the model (layer 1)": (replace_weight, shadow),
    "of the model (layer 1)": (prune,),
    "the layers of the model (layer 2)": (other_class, patch_class),
}
CHANGES = [*BEFORE.items(), *((what, change) for what, changes in MORE.items() for change in changes)]


@pytest.mark.parametrize(("what", "change"), CHANGES)
def test_a_changed_model_is_named_and_put_back(what, change, task, whole):
    evaluator = Evaluator(task, 0)
    remember(whole, evaluator)
    with pytest.raises(ChangedTaskError, match="it changed ") as raised:
        evaluator.evaluate(Does(before=change), "does")
    assert what in str(raised.value)
    for name in VICTIMS:
        assert alike(scores(evaluator, name), whole[name]), name
    assert evaluator.evaluate(Does(), "does").failed.sum() == 0


def test_a_model_that_is_put_back_by_the_method_is_no_matter(task):
    def tune(task):
        before = task.model[1].weight.clone()
        task.model[1].weight.zero_()
        task.model[1].weight.copy_(before)

    Evaluator(task, 0).evaluate(Does(before=tune), "does")


def test_a_model_changed_by_a_method_that_raises_is_put_back(task):
    def spoil(task):
        task.model[1].weight.zero_()
        raise RuntimeError("no luck")

    evaluator = Evaluator(task, 0)
    whole = scores(evaluator, "saliency")
    with pytest.raises(RuntimeError, match="no luck"):
        evaluator.evaluate(Does(before=spoil), "does")
    assert alike(scores(evaluator, "saliency"), whole)


class Counting(nn.Module):
    """A model that counts its forwards, in a number and in a buffer, and answers alike all the same."""

    def __init__(self, model):
        super().__init__()
        self.model, self.calls = model, 0
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        self.seen += len(x)
        return self.model(x)


def test_what_the_models_own_forward_changes_is_no_ones_fault(task):
    counting = replace(task, model=Counting(task.model).eval())
    evaluator = Evaluator(counting, 0)
    assert alike(scores(evaluator, "occlusion"), scores(Evaluator(task, 0), "occlusion"))
    calls = counting.model.calls
    scores(evaluator, "occlusion")
    assert counting.model.calls > calls
    with pytest.raises(ChangedTaskError, match="the weights of the model"):
        evaluator.evaluate(Does(before=lambda task: task.model.model[1].weight.mul_(2)), "does")


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("the training rows", lambda task: task.train.x.mul_(0)),
        ("the training rows", lambda task: np.random.shuffle(task.train.x.numpy())),
        ("the weights of the model", lambda task: (task.train.x.zero_(), task.model[1].weight.mul_(2))),
        ("the training rows", lambda task: task.train.x.numpy().fill(1)),  # which torch does not see
        ("the training labels", lambda task: task.train.y.data.fill_(1)),
        ("the removal's means", lambda task: task.removal.means.add_(1)),
    ],
)
def test_changed_rows_are_named_and_nothing_more_is_scored(what, change, task):
    evaluator = Evaluator(task, 0)
    with pytest.raises(ChangedTaskError, match=what):
        evaluator.evaluate(Does(before=change), "does")
    assert not evaluator.guard.intact
    with pytest.raises(ChangedTaskError, match="build the task anew"):
        evaluator.evaluate(METHODS.get("saliency")(), "saliency")


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda x, _: x.mul_(0),
        lambda _, target: target.fill_(2),
        lambda x, target: (x.data.zero_(), target.data.add_(1)),
    ],
)
def test_inputs_and_targets_are_copies(meanwhile, task, whole):
    evaluator = Evaluator(task, 0)
    remember(whole, evaluator)
    x, target = evaluator.x.clone(), evaluator.shared.target.clone()
    own = evaluator.evaluate(Does(meanwhile=meanwhile), "does").scores
    assert alike(torch.stack(list(own.values())), scores_of_ramp(evaluator)), "its own scores are right, too"
    assert torch.equal(evaluator.x, x)
    assert torch.equal(evaluator.shared.target, target)
    for name in VICTIMS:
        assert alike(scores(evaluator, name), whole[name]), name


def scores_of_ramp(evaluator):
    ramp = torch.ones(len(evaluator.samples), evaluator.task.n_features).cumsum(1)
    return torch.stack(list(evaluator.score(ramp).scores.values()))


def test_generators_and_settings_are_put_back(task):
    def unsettle(_task):
        torch.set_default_dtype(torch.float16)
        torch.set_grad_enabled(False)
        torch.set_num_threads(2)
        torch.set_autocast_enabled("cpu", True)
        os.chdir("/")
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)

    threads, place = torch.get_num_threads(), os.getcwd()
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    evaluator = Evaluator(task, 0)
    evaluator.evaluate(Does(before=unsettle, meanwhile=lambda _x, _t: unsettle(None)), "does")
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert torch.get_num_threads() == threads
    assert not torch.is_autocast_enabled("cpu")
    assert os.getcwd() == place
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]


@dataclass(frozen=True)
class Drawn(Method):
    """Draws from the global generators, as a careless author does."""

    def prepare(self, task, seed):
        first = torch.rand(task.n_features) + np.random.rand() + random.random()
        return lambda x, target: first + torch.rand(len(x), task.n_features)


def test_a_method_that_draws_from_global_generators_is_repeatable(task):
    first = Evaluator(task, 0).evaluate(Drawn(), "drawn").attributions
    torch.rand(5)
    again = Evaluator(task, 0).evaluate(Drawn(), "drawn").attributions
    other = Evaluator(task, 1).evaluate(Drawn(), "drawn").attributions
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_method_is_given_no_test_rows(task):
    task = replace(
        task, evidence=torch.ones(4, 7).bool(), provenance=Provenance(model=ModelProvenance(recipe={"width": 4}))
    )
    given = for_methods(task)
    assert len(given.test.x) == len(given.test.y) == 0
    assert given.test.x.shape[1:] == task.test.x.shape[1:]
    assert given.test.x.device == task.test.x.device
    assert given.test.x.untyped_storage().data_ptr() != task.test.x.untyped_storage().data_ptr()
    assert given.evidence is None
    given.provenance.model.recipe["width"] = 5
    assert task.provenance.model.recipe == {"width": 4}
    seen = []
    Evaluator(task, 0).evaluate(Does(before=lambda task: seen.append(len(task.test.x))), "does")
    assert seen == [0]


@pytest.mark.slow
def test_no_method_changes_the_records_of_another(tmp_path):
    """In one process and in several; rows that were changed are read again for the next method."""
    from benchmark.cli.parser import main
    from benchmark.records.store import RecordStore

    poisons = ["changes_weights", "leaves_a_hook", "changes_means", "changes_inputs"]
    words = ["run", "--task", "breast_cancer_mlp", "--source", "synthetic", "--limit", "8", "--device", "cpu",
             "--include", str(Path(__file__).parent.parent / "poisons.py"), "--out"]  # fmt: skip
    assert main([*words, str(tmp_path / "alone"), "--jobs", "1", "--methods", "occlusion,saliency"]) == 0
    alone = {record.label: record.scores for record in RecordStore(tmp_path / "alone").scan()[0]}
    assert len(alone) == 2
    for jobs in ("1", "2"):
        out = tmp_path / jobs
        assert main([*words, str(out), "--jobs", jobs, "--methods", ",".join([*poisons, *alone])]) == 1
        found = {record.label: record for record in RecordStore(out).scan()[0]}
        for label, scores in alone.items():
            assert found[label].scores.equals(scores)
        assert "it changed the weights of the model" in found["changes_weights"].reason
        assert "it changed the hooks of the model" in found["leaves_a_hook"].reason
        assert "it changed the removal's means of the task" in found["changes_means"].reason
        assert found["changes_inputs"].status == "done"


def test_a_method_may_use_its_own_tensor_again(task):
    """For each batch: what was given before is not written over."""

    @dataclass(frozen=True)
    class Reuses(Method):
        def prepare(self, task, seed):
            own = torch.zeros(1, task.n_features)

            def explain(x, target):
                return own.copy_(x)

            return explain

    evaluator = Evaluator(task, 0)
    evaluator.batch = 1
    assert torch.equal(evaluator.evaluate(Reuses(), "reuses").attributions.double(), evaluator.x.float().double())


def test_what_a_method_prints_is_no_output_of_ours(task, capsys):
    Evaluator(task, 0).evaluate(Does(before=lambda _task: print("hello")), "does")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "hello\n"
