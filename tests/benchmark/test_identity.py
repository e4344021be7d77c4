"""What computed a number: digests of weights, rows and source."""

from __future__ import annotations

import ast
import importlib
import sys
from dataclasses import replace

import pytest
import torch
from sklearn.ensemble import RandomForestClassifier

from benchmark.core import identity
from benchmark.core.errors import DataError
from benchmark.core.seeding import seeded
from benchmark.core.types import METHODS, Split
from benchmark.models.others.wrapping import wrap
from tests import toys

METHOD = '''
"""A method."""
from helper import {name} as scale
from benchmark.core.types import Method


class Mine(Method):
    """{words}"""

    def prepare(self, task, seed):
        # {words}
        return lambda x, target: x * scale
'''


@pytest.fixture
def reread_sources():
    """Return a function after which source is read again, as a new process would; it is called after the test, too."""

    def reread():
        for cached in (identity.source_digest, identity._file):
            cached.cache_clear()
        importlib.invalidate_caches()

    yield reread
    reread()


@pytest.fixture
def module(tmp_path, monkeypatch, reread_sources):
    """Return what gives the digest of a module and of the helper that it imports."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def digest(helper="one = 1", name="one", words="Words."):
        (tmp_path / "helper.py").write_text(helper)
        (tmp_path / "mine.py").write_text(METHOD.format(name=name, words=words))
        reread_sources()
        return identity.source_digest("mine")

    yield digest
    for name in ("mine", "helper"):
        sys.modules.pop(name, None)


def test_code_counts_and_words_do_not(module):
    first = module()
    assert module(words="Other words.") == first
    assert module("# a comment\none = 1\n") == first
    assert module("one = 2") != first  # what a method imports from beside itself
    assert module("one = two = 1", name="two") != first
    assert module() == first


def test_a_digest_follows_imports_inside_functions_but_not_those_for_types():
    tree = ast.parse("if TYPE_CHECKING:\n import a\nelse:\n import b\ndef f():\n from . import c\n from d.e import g\n")
    assert {*identity._imports(tree, "methods.lime")} == {"b", "methods", "methods.c", "d", "d.e", "d.e.g"}


@pytest.mark.slow
def test_every_method_has_a_digest_and_families_differ():
    ours = [name for name in METHODS.names() if METHODS.entry(name).module.startswith(("methods.", "deepfaith."))]
    found = {name: identity.method_digest(METHODS.get(name)(), "table") for name in ours}
    assert len(set(found.values())) == len(found)
    assert all(len(digest) == 64 for digest in found.values())
    files = {METHODS.entry(name).module for name in ours}
    assert len({identity.source_digest(module) for module in files}) == len(files)


def test_deepfaith_depends_on_what_it_copies(monkeypatch):
    method = METHODS.get("deepfaith")()
    before = identity.method_digest(method, "table")
    monkeypatch.setattr(type(method), "learns_from", lambda self, modality: [])
    assert identity.method_digest(method, "table") != before


def test_a_task_is_its_weights_and_rows():
    task = toys.table()
    base = identity.task_identity(task)
    assert identity.task_identity(toys.table()) == base
    moved = Split(task.test.x + 1e-6, task.test.y)
    assert identity.what_changed(base, identity.task_identity(replace(task, test=moved))) == "the data changed"
    with torch.no_grad():
        next(task.model.parameters()).flatten()[0] += 1e-6
    assert "other weights" in identity.what_changed(base, identity.task_identity(task))
    fewer = replace(toys.table(), budget=replace(task.budget, subsets=7))
    assert "budget" in identity.what_changed(base, identity.task_identity(fewer))


class Tempered(torch.nn.Linear):
    temperature = 1.0

    def forward(self, x):
        return super().forward(x) / self.temperature


def test_a_model_is_its_plain_settings_too():
    """What no weight shows: a temperature, a stride, how much is dropped, the mode; in anybody's layers."""

    def digests(change):
        with seeded(0):
            model = torch.nn.Sequential(torch.nn.Conv1d(1, 1, 3), torch.nn.Dropout(0.1), Tempered(4, 2)).eval()
        before = identity.model_digest(model, [torch.ones(9, 1, 3)])
        assert identity.model_digest(model, [torch.ones(9, 1, 3)]) == before
        change(model)
        return before, identity.model_digest(model, [torch.ones(9, 1, 3)])

    changes = [
        lambda model: setattr(model[2], "temperature", 2.0),
        lambda model: setattr(model[0], "stride", (2,)),
        lambda model: setattr(model[1], "p", 0.2),
        lambda model: model[1].train(),
        lambda model: setattr(model[2], "classes", {"a": [1, 2]}),
    ]
    found = [digests(change) for change in changes]
    assert len({before for before, _ in found}) == 1
    assert len({after for _, after in found} | {found[0][0]}) == len(changes) + 1
    assert len(set(digests(lambda model: setattr(model, "_cache", 3)))) == 1, "what is private is no setting"


class Estimator:
    """Something of which a digest can read nothing."""

    def __init__(self, scale):
        self.scale = scale

    def times(self, x):
        return x * self.scale


class Wrapping(torch.nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.estimator = Estimator(scale)

    def forward(self, x):
        return torch.stack([x.sum(1), x.sum(1) * self.estimator.scale], 1)


def test_a_model_that_cannot_be_read_counts_by_its_answers():
    x = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
    assert identity.model_digest(Wrapping(2.0), [x]) == identity.model_digest(Wrapping(2.0), [x])
    assert identity.model_digest(Wrapping(2.0), [x]) != identity.model_digest(Wrapping(3.0), [x])
    traced = [torch.jit.trace(torch.nn.Linear(3, 2).requires_grad_(False), x) for _ in range(2)]
    assert identity.model_digest(traced[0], [x]) == identity.model_digest(traced[0], [x])
    assert identity.model_digest(traced[0], [x]) != identity.model_digest(traced[1], [x])


WEIGHTS = torch.arange(21.0, dtype=torch.float64).reshape(7, 3).sin()
APART = {
    "by a last digit": lambda x, _task: x @ WEIGHTS * (1 + 1e-12),
    "on one test row": lambda x, task: x @ WEIGHTS + (x == task.test.x[-1]).all(1, keepdim=True) * 0.1,
    "where rows are mixed": lambda x, task: (
        x @ WEIGHTS + ~(x[:, None, :2] == rows_of(task)[:, :2]).all(2).any(1)[:, None] * 1
    ),
}


def rows_of(task):
    return torch.cat([task.train.x, task.test.x])


def split_toy():
    task = toys.table(samples=30)
    parts = [Split(task.test.x[rows], task.test.y[rows]) for rows in (slice(20), slice(20, None))]
    return replace(task, train=parts[0], test=parts[1])


@pytest.mark.parametrize("apart", APART)
def test_black_boxes_that_differ_near_what_is_asked_are_different_models(apart):
    task = split_toy()
    functions = [lambda x: x @ WEIGHTS, lambda x: x @ WEIGHTS, lambda x: APART[apart](x, task)]
    assert apart == "by a last digit" or torch.equal(functions[0](task.train.x), functions[2](task.train.x))
    boxes = [wrap(function, task.train.x).model for function in functions]
    found = [identity.task_identity(replace(task, model=model))["model"] for model in boxes]
    assert found[0] == found[1] != found[2]


def test_a_forest_of_many_threads_is_the_same_model_whenever_it_is_asked():
    task, labels = split_toy(), torch.arange(20) % 3
    forest = RandomForestClassifier(60, n_jobs=4, random_state=0).fit(task.train.x.numpy(), labels.numpy())
    task = replace(task, model=wrap(forest, task.train.x).model)
    assert len({identity.task_identity(task)["model"] for _ in range(3)}) == 1


class Holding(torch.nn.Module):
    """Holds something beside its layers."""

    def __init__(self, name, value):
        super().__init__()
        self.layer = torch.nn.Linear(7, 3).requires_grad_(False)
        torch.nn.init.constant_(self.layer.weight, 0.5)
        torch.nn.init.zeros_(self.layer.bias)
        setattr(self, name, value)

    def forward(self, x):
        held = {**vars(self), **self._modules}
        if "scales" in held:
            return self.layer(x) * self.scales[0]
        return self.layer(x) * held["_scale"] if "_scale" in held else held["act"](self.layer(x))


def closure(scale):
    class Local(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) * scale

    local = Local(7, 3).requires_grad_(False)
    for weight in local.parameters():
        torch.nn.init.constant_(weight, 0.5)
    return local


def hooked(scale):
    model = Holding("act", torch.nn.Identity())
    model.layer.register_forward_hook(lambda _module, _inputs, output: output * scale)
    return model


def patched(scale):
    model = Holding("act", torch.nn.Identity())
    model.layer.forward = lambda x: x[:, :3] * scale
    return model


HOLDERS = {
    "a function": lambda: (Holding("act", lambda x: x * 2), Holding("act", lambda x: x * 3)),
    "a method": lambda: (Holding("act", Estimator(2).times), Holding("act", Estimator(3).times)),
    "torch's own": lambda: (Holding("act", torch.relu), Holding("act", torch.tanh)),
    "torch's functional": lambda: (Holding("act", torch.nn.functional.relu), Holding("act", torch.nn.functional.elu)),
    "a list of tensors": lambda: (Holding("scales", [torch.tensor(2.0)]), Holding("scales", [torch.tensor(3.0)])),
    "what is private": lambda: (Holding("_scale", 2.0), Holding("_scale", 3.0)),
    "what is private and a tensor": lambda: (
        Holding("_scale", torch.tensor(2.0)),
        Holding("_scale", torch.tensor(3.0)),
    ),
    "names around a class": lambda: (closure(2.0), closure(3.0)),
    "a hook": lambda: (hooked(2.0), hooked(3.0)),
    "a forward of its own": lambda: (patched(2.0), patched(3.0)),
}


@pytest.mark.parametrize("what", HOLDERS)
def test_a_module_is_what_it_holds_too(what):
    x = torch.randn(9, 7, generator=torch.Generator().manual_seed(0))
    first, other = (identity.model_digest(model, [x]) for model in HOLDERS[what]())
    assert first == identity.model_digest(HOLDERS[what]()[0], [x])
    assert first != other


def test_a_model_that_answers_no_tensor_cannot_be_identified():
    model = Holding("act", lambda x: [x])
    with pytest.raises(DataError, match="must give a tensor of logits .*, got list"):
        identity.model_digest(model, [torch.ones(2, 7)])


@pytest.mark.parametrize("name", ["nap_mlp", "imdb_lstm", "imdb_transformer"])
def test_our_own_models_can_be_read(name):
    """So that no answer, which hangs on the machine, stands in their digest."""
    from benchmark.models.mlp import mlp
    from benchmark.models.text import LSTMClassifier, TransformerClassifier

    made = {
        "nap_mlp": lambda: mlp(7, 2, 8, 1, 0.0), "imdb_lstm": lambda: LSTMClassifier(9, 2, 4, 4, 0.1),
        "imdb_transformer": lambda: TransformerClassifier(9, 2, 4, 1, 2, 8, 0.1),
    }  # fmt: skip
    assert not any(map(identity._is_opaque, made[name]().modules()))


def test_what_a_subclass_adds_to_a_removal_counts_and_what_cannot_be_read_is_refused():
    from benchmark.modalities.removal import ColumnRemoval

    class More(ColumnRemoval):
        pass

    task = toys.table()
    found = []
    for value in (1, 2, torch.ones(2), torch.zeros(2)):
        removal = More(task.removal.means)
        object.__setattr__(removal, "more", value)
        found.append(identity.settings_digest(replace(task, removal=removal)))
    assert len(set(found)) == 4
    object.__setattr__(removal, "more", lambda x: x)
    with pytest.raises(DataError, match="More.more is a function"):
        identity.settings_digest(replace(task, removal=removal))


def test_imports_of_parents_and_under_other_conditions_are_followed():
    tree = ast.parse("import plug.sub.deep\nif not TYPE_CHECKING:\n import a\nif typing.TYPE_CHECKING:\n import b\n")
    assert {*identity._imports(tree, "mine")} == {"plug", "plug.sub", "plug.sub.deep", "a"}


FACTORY = """
from dataclasses import dataclass
from benchmark.core.types import METHODS, Method

def made(name, sign):
    @METHODS.register(name, kind="baseline")
    @dataclass(frozen=True)
    class Made(Method):
        def prepare(self, task, seed):
            return lambda x, target: sign * x
"""


def test_the_file_that_registers_counts_whoever_made_the_class(tmp_path, monkeypatch, forget_registered):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "factory_of_mine.py").write_text(FACTORY)
    found = []
    for number, sign in enumerate(("1.0", "-1.0", "1.0")):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "mine.py"
        path.write_text(f"from factory_of_mine import made\nmade(NAME, {sign})\n".replace("NAME", repr("made")))
        forget_registered()
        METHODS.include(path)
        found.append(identity.method_identity(METHODS.get("made")(), "table", METHODS.entry("made").module)["code"])
    assert found[0] == found[2] != found[1]


def test_what_is_trained_does_not_hang_on_test_rows():
    task = toys.table()
    none = Split(task.test.x[:0], task.test.y[:0])
    assert identity.training_digest(replace(task, test=none)) == identity.training_digest(task)


INCLUDED = """
from dataclasses import dataclass
from beside import scale
from benchmark.core.types import METHODS, Method

@METHODS.register("mine_from_a_file")
@dataclass(frozen=True)
class Mine(Method):
    def prepare(self, task, seed):
        return lambda x, target: x * scale
"""


@pytest.fixture
def included(tmp_path, monkeypatch, reread_sources, forget_registered):
    """Return what gives the identity of a method in a file of a folder, and what stands beside it."""

    def forget():
        forget_registered()
        sys.modules.pop("beside", None)
        reread_sources()

    def found(folder, beside="scale = 1\n", text=INCLUDED):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "mine.py").write_text(text)
        (tmp_path / folder / "beside.py").write_text(beside)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "path", [str(tmp_path / folder), *sys.path])
            patch.setattr(sys, "dont_write_bytecode", True)
            forget()
            METHODS.include(tmp_path / folder / "mine.py")
            return identity.method_identity(METHODS.get("mine_from_a_file")(), "table")

    yield found
    forget()


def test_an_included_file_is_known_by_its_content_wherever_it_is(included):
    first = included("one")
    assert included("two") == first
    assert included("two", "scale = 2\n") != first, "what it imports from beside itself"
    assert included("two", text=INCLUDED.replace("x * scale", "-x * scale")) != first
    assert included("one") == first


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("lime", "methods.lime"),
        ("l2x", "methods.l2x"),
        ("l2x", "benchmark.learning.sizes"),
        ("deepfaith", "deepfaith.method"),
        ("deepfaith", "benchmark.running.presets"),
        ("deepfaith", "methods.lime"),
    ],
)
@pytest.mark.slow
def test_tables_of_defaults_are_code_that_counts(name, module, tmp_path, monkeypatch, reread_sources):
    """SAMPLES, USUAL, SIZES and PRESETS: one number in the source of `module` is another."""
    method = METHODS.get(name)()
    before, path = identity.method_digest(method, "table"), identity._file(module)
    edited = tmp_path / path.name
    edited.write_text(path.read_text().replace('"table": ', '"table": 0 or ', 1))
    assert edited.read_text() != path.read_text()
    file = identity._file
    monkeypatch.setattr(identity, "_file", lambda other: edited if other == module else file(other))
    identity.source_digest.cache_clear()  # `_file` is no longer the one with a cache
    assert identity.method_digest(method, "table") != before
    monkeypatch.undo()
    reread_sources()
    assert identity.method_digest(method, "table") == before


def test_one_number_of_any_stride_has_a_digest():
    assert identity.tensors_digest({"a": torch.ones(1, 128)[:, 0]}) == identity.tensors_digest({"a": torch.ones(1)})
