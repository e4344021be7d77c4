"""Names, globs, parameters, and files of the user's own."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass

import pytest

from benchmark.cli.parser import main
from benchmark.core.errors import DataError, UsageError, did_you_mean
from benchmark.core.parameters import bounded, configure, configured
from benchmark.core.registry import Registry
from benchmark.core.seeding import content_seeds, seed_for, seeded
from benchmark.core.sources import Sources
from benchmark.core.types import METHODS
from benchmark.running.plan import MethodChoice, method_for, parse_methods, plan_task


@dataclass(frozen=True)
class Thing:
    """A thing.

    With more to say.
    """

    count: int = bounded(3, low=1, high=9)
    share: float = 0.5
    loud: bool = False
    mode: str = bounded("fast", among=("fast", "slow"))
    k: int | None = bounded(None, low=1)
    rate: float = bounded(0.5, above=0, high=1)
    either: int | str | None = None
    layers: tuple[int, ...] = (3,)

    def __post_init__(self):
        if self.count == 7:
            raise ValueError("seven is no good")


def registry():
    things: Registry[type] = Registry("thing", "THINGS")
    for name in ("alpha", "beta", "alphabet"):
        things.register(name, kind="x")(type(name, (), {"__doc__": f"The {name}."}))
    return things


def test_register_and_get():
    things = registry()
    assert things.names() == ["alpha", "beta", "alphabet"]
    assert things.get("beta").__doc__ == "The beta."
    assert things.entry("beta").summary == "The beta."
    assert things.entry("beta").facts == {"kind": "x"}
    with pytest.raises(ValueError, match="two things are called 'beta'"):
        things.register("beta")(Thing)


def test_a_cell_that_runs_again_replaces_what_it_registered():
    cell = "@things.register('{}', kind={!r})\nclass {}:\n    'Version {}.'"
    things, notebook = registry(), {"__name__": "__main__"}
    for version, kind in enumerate("xy"):
        exec(cell.format("mine", kind, "Mine", version), notebook | {"things": things})
    assert things.names() == ["alpha", "beta", "alphabet", "mine"]
    assert things.get("mine").__doc__ == things.entry("mine").summary == "Version 1."
    assert things.entry("mine").facts == {"kind": "y"}
    with pytest.raises(ValueError, match="two things are called 'beta'"):
        exec(cell.format("beta", "x", "Mine", 2), notebook | {"things": things})


def test_a_module_that_is_loaded_again_replaces_what_it_registered_but_no_other_of_its_names():
    module = {"__name__": "mine", "things": registry()}
    for version in range(2):
        exec(f"@things.register('mine')\nclass Mine:\n    'Version {version}.'", module)
    assert module["things"].get("mine").__doc__ == "Version 1."
    for other in ("@things.register('mine')\nclass Other: pass", "(lambda: things.register('mine')(lambda: 0))()"):
        with pytest.raises(ValueError, match="two things are called 'mine'"):
            exec(other, module)


def test_select():
    things = registry()
    things.register("gamma", group="more")(Thing)
    assert things.select("all") == ["alpha", "beta", "alphabet"]
    assert things.select("alpha*") == ["alpha", "alphabet"]
    assert things.select("all,!beta") == things.select("!beta") == things.select("!beta, all") == ["alpha", "alphabet"]
    assert things.select("beta, alpha,") == ["beta", "alpha"]
    assert things.select("more,beta,!alpha*") == ["gamma", "beta"]
    assert things.one("b*") == "beta"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bta", "unknown thing 'bta'; did you mean 'beta'"),
        ("all,!nothing", "unknown thing 'nothing'"),
        ("beta,!b*", "'beta,!b\\*' leaves no thing"),
        (" ,", "expected names separated by commas"),
        ("beta[", "brackets do not match"),
        ("alpha*", "expected one thing, got 'alpha\\*', which is 2: alpha, alphabet"),
    ],
)
def test_select_refuses(text, message):
    with pytest.raises(UsageError, match=message):
        registry().one(text)


def test_discovery_reads_source_and_imports_late(tmp_path, monkeypatch):
    package = tmp_path / "late_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text(
        "from tests.benchmark.test_registry import LATE as THINGS\n"
        "@THINGS.register('one', kind='y')\nclass One:\n    '''The one.'''\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    LATE.discover("late_package")
    assert LATE.entry("one").summary == "The one."
    assert LATE.entry("one").facts == {"kind": "y"}
    assert "late_package.one" not in __import__("sys").modules
    assert LATE.get("one").__name__ == "One"


LATE: Registry[type] = Registry("thing", "THINGS")


METHOD = """
from dataclasses import dataclass
from benchmark.core.types import METHODS, Method
@METHODS.register('mine')
@dataclass(frozen=True)
class A(Method):
    k: int | None = None
    def prepare(self, task, seed):
        return lambda x, target: x
"""
REGISTER = "@METHODS.register('mine'"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("@dataclass(frozen=True)\n", "", r"class A is no dataclass: write @dataclass\(frozen=True\)"),
        ("def prepare", "def prepared", "class A has no prepare"),
        ("A(Method)", "A", "class A is not derived from benchmark.core.types.Method"),
        ("k: int | None = None", "k: int", "parameter 'k' has no default"),
        ("k: int | None = None", "k: object = object()", "parameter 'k' is <object .* by default, expected a number"),
        ("k: int | None = None", "k: float = float('nan')", "parameter 'k' is nan by default"),
        (
            "    def prep",
            "    def __post_init__(self): 1 / 0\n    def prep",
            "fails: ZeroDivisionError: .*mine.py, line",
        ),
        (REGISTER, REGISTER + ", modalities=('tabel',)", "got 'tabel'; did you mean 'table'"),
        (REGISTER, REGISTER + ", modalities='table'", r"modalities expects a tuple such as \('table',\), got 'table'"),
        (REGISTER, REGISTER + ", kind=3", "kind expects text, got 3"),
        (REGISTER, REGISTER + ", knd='control'", "no fact is called 'knd'; did you mean 'kind'"),
        ("'mine'", "'../mine'", "no method can be called '../mine': expected up to 64 letters"),
        ("'mine'", "'..'", "no method can be called '..'"),
        ("'mine'", "'m' * 300", "no method can be called 'mmm"),
        ("'mine'", "'a\\nb'", r"no method can be called 'a\\nb'"),
        ("'mine'", "'all'", "and not 'all'"),
        ("'mine'", "3", "no method can be called 3"),
        ("class A", "raise SystemExit(0)\nclass A", "invalid syntax"),
        ("from dataclasses", "raise SystemExit(0)\nfrom dataclasses", "SystemExit: 0"),
        (
            METHOD,
            "from benchmark.core.types import METHODS\nMETHODS.register('mine')(len)\n",
            "expected a class .*, got <built",
        ),
        (
            METHOD,
            "from benchmark.core.types import TASKS\nTASKS.register('t', modality='tabel')(len)\n",
            "mean 'table'",
        ),
    ],
)
def test_what_cannot_be_used_is_named_when_it_is_included(before, after, message, tmp_path, capsys):
    assert before in METHOD
    known, path = METHODS.names(), tmp_path / "mine.py"
    path.write_text(METHOD.replace(before, after))
    assert main(["run", "--task", "nap_mlp", "--methods", "saliency", "--include", str(path), "--dry-run"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: --include {path} failed to import: ")
    assert re.search(message, said)
    assert METHODS.names() == known
    path.write_text(METHOD)
    METHODS.include(path)  # once it is mended


def test_an_edit_in_the_same_second_that_keeps_the_size_is_seen(tmp_path, monkeypatch, forget_registered):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "mine.py"
    for name in ("'mine'", "'your'"):
        path.write_text(METHOD.replace("'mine'", name))
        os.utime(path, (1_700_000_000, 1_700_000_000))
        METHODS.include(path)
        assert METHODS.entry(name.strip("'")).module.startswith("included_mine_")
        forget_registered()


def test_include(tmp_path):
    from benchmark.core.types import METHODS

    with pytest.raises(DataError, match="no such file"):
        METHODS.include(tmp_path / "nothing.py")
    (tmp_path / "notes.md").write_text("")
    with pytest.raises(UsageError, match="must end in .py"):
        METHODS.include(tmp_path / "notes.md")
    text = METHOD.replace("'mine'", "{!r}")
    for folder, name in (("a", "first_of_two"), ("b", "second_of_two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(text.format(name))
        METHODS.include(tmp_path / folder / "mine.py")
        assert METHODS.get(name).__name__ == "A"
    (tmp_path / "taken.py").write_text(text.format("lime"))
    with pytest.raises(UsageError, match="two methods are called 'lime'"):
        METHODS.include(tmp_path / "taken.py")
    broken = tmp_path / "broken_file.py"
    broken.write_text("1 / 0\n")
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        METHODS.include(broken)


def test_configure():
    assert configure(Thing, "thing", {}) == Thing()
    assert configure(Thing, "thing", {"count": "9", "share": "1e-3", "loud": "True", "mode": "slow"}) == Thing(
        9, 1e-3, True, "slow"
    )


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [("k", "2", 2), ("k", "none", None), ("k", "None", None), ("either", "2", 2), ("either", "two", "two"),
     ("either", "none", None), ("share", "2", 2.0), ("rate", "1", 1.0)],
)  # fmt: skip
def test_configure_follows_the_type_of_a_field(key, text, value):
    found = getattr(configure(Thing, "thing", {key: text}), key)
    assert (found, type(found)) == (value, type(value))
    assert getattr(configured(Thing, "thing", {key: value}), key) == value


def test_a_type_that_is_not_known_is_said():
    @dataclass(frozen=True)
    class Odd:
        k: Nowhere = 3  # noqa: F821

    assert configure(Odd, "odd", {}).k == 3
    with pytest.raises(UsageError, match=r"odd\[k\] cannot be given: its type is not known \(name 'Nowhere'"):
        configure(Odd, "odd", {"k": "3"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cuont": "1"}, r"thing has no parameter 'cuont'; did you mean 'count'"),
        ({"count": "two"}, r"thing\[count\] expects a whole number, got 'two'"),
        ({"count": "1.5"}, "expects a whole number"),
        ({"count": "0"}, r"expects 1 to 9, got 0"),
        ({"share": "x"}, "expects a number"),
        ({"loud": "maybe"}, "expects true or false"),
        ({"mode": "lazy"}, "expects one of fast, slow, got 'lazy'"),
        ({"share": "nan"}, "expects a number, got 'nan'"),
        ({"share": "inf"}, "expects a number, got 'inf'"),
        ({"k": "two"}, r"thing\[k\] expects a whole number or none, got 'two'"),
        ({"k": "0"}, "expects at least 1, got 0"),
        ({"rate": "0"}, "expects more than 0, got 0.0"),
        ({"rate": "1.5"}, "expects at most 1, got 1.5"),
        (
            {"layers": "3"},
            r"thing\[layers\] cannot be given: its type is tuple\[int, ...\], expected one of a whole number",
        ),
        ({"count": "7"}, r"thing\[count=7\] is refused: ValueError: seven is no good"),
    ],
)
def test_configure_refuses(given, message):
    with pytest.raises(UsageError, match=message):
        configure(Thing, "thing", given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cuont": 1}, "thing has no parameter 'cuont'"),
        ({"count": True}, "expects a whole number, got True"),
        ({"count": 2.0}, "expects a whole number, got 2.0"),
        ({"share": "1"}, "expects a number, got '1'"),
        ({"k": 0}, "expects at least 1, got 0"),
    ],
)
def test_configured_refuses(given, message):
    with pytest.raises(UsageError, match=message):
        configured(Thing, "thing", given)


def test_did_you_mean_ignores_case():
    assert did_you_mean("fc", ["FC", "DEL"]).startswith("; did you mean 'FC'?")
    assert did_you_mean("zzz", ["FC"]) == "; known: FC"


def test_parse_methods():
    assert parse_methods("lime,saliency") == [MethodChoice("lime"), MethodChoice("saliency")]
    assert parse_methods("lime[n_samples=200,penalty=0.1],lime") == [
        MethodChoice("lime"),
        MethodChoice("lime", (("n_samples", "200"), ("penalty", "0.1"))),
    ]
    names = [choice.name for choice in parse_methods("all,!exact_*,!random")]
    assert "lime" in names
    assert not {"exact_shapley", "exact_banzhaf", "random"} & set(names)
    assert [c.label for c in parse_methods("lime[n_samples=5],!random")] == ["lime[n_samples=5]"]
    two = "lime[n_samples=5],lime[penalty=1,n_samples=6]"
    assert [c.label for c in parse_methods(two)] == ["lime[n_samples=5]", "lime[n_samples=6,penalty=1]"]
    assert [c.label for c in parse_methods(f"{two},!lime[n_samples=5]")] == ["lime[n_samples=6,penalty=1]"]
    assert len(parse_methods("!random")) == len(METHODS.select("all")) - 1
    assert method_for(MethodChoice("lime", (("n_samples", "200"),))).n_samples == 200


def cells(text, task="nap_mlp", preset="standard"):
    plan = plan_task(task, parse_methods(text), Sources("synthetic"), 0, None, preset=preset)
    return [cell for cell, _ in plan.cells]


def test_a_plan_has_all_parameters_as_they_are_used(monkeypatch):
    (lime,) = cells("lime,lime[n_samples=100],lime[n_samples=none]")
    assert lime.params == {
        "n_samples": 100, "estimator": "lime", "penalty": 1.0, "output": "logit", "removal": "task",
    }  # fmt: skip
    assert [cell.params["n_samples"] for cell in cells("lime,lime[n_samples=100]", "imdb_lstm")] == [400, 100]
    assert cells("lime", preset="paper")[0].params["n_samples"] == 20
    assert [cells("occlusion", task)[0].params["window"] for task in ("digits_cnn", "oct_resnet")] == [2, 16]
    for name in METHODS.names():
        (cell,) = cells(name)
        left = {key for key, value in cell.params.items() if value is None} - {"channels", "seconds"}
        assert not left, f"{name} leaves {left} open"
    from methods.lime import SAMPLES

    monkeypatch.setitem(SAMPLES, "table", 200)
    assert cells("lime")[0].params["n_samples"] == 200
    assert cells("lime")[0].key != lime.key, "a changed default is another cell"
    assert cells("lime[n_samples=100]")[0].key == lime.key


def test_a_zero_that_is_meant_is_kept():
    (cell,) = cells("deepfaith[rate=0]")
    assert cell.params["rate"] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lmie", "did you mean 'lime'"),
        ("lmie[n_samples=2]", "did you mean 'lime'"),
        ("lime[n_samples]", r"write name or name\[parameter=value"),
        ("lime[n_samples=2", "brackets do not match"),
        ("lime[n_samples=2,n_samples=3]", "n_samples is given twice"),
        ("lime,!lime", "leaves no method"),
    ],
)
def test_parse_methods_refuses(text, message):
    with pytest.raises(UsageError, match=message):
        parse_methods(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lime[n_samples=0]", r"lime\[n_samples\] expects at least 1, got 0"),
        ("lime[n_samples=x]", r"lime\[n_samples\] expects a whole number or none, got 'x'"),
        ("l2x[temperature=0]", r"l2x\[temperature\] expects more than 0, got 0.0"),
        ("deepfaith[width=6]", "expects a multiple of 4, got 6"),
    ],
)
def test_a_plan_refuses_parameters(text, message):
    with pytest.raises(UsageError, match=message):
        cells(text)


def test_seeds_are_hashes_of_identity():
    assert seed_for(0, "a", 1) == seed_for(0, "a", 1)
    assert len({seed_for(0, "a", 1), seed_for(1, "a", 1), seed_for(0, "a1"), seed_for(0, "a", "1")}) == 4
    assert all(0 <= seed_for(0, i) < 2**63 for i in range(100))


def test_seeded_puts_generators_back():
    import random

    import numpy as np
    import torch

    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with seeded(5):
        inside = draw()
    assert draw() == expected
    with seeded(5):
        assert draw() == inside


def test_content_seeds_follow_content():
    import torch

    x = torch.randn(4, 3)
    a = content_seeds(0, x)
    assert content_seeds(0, x[[2, 0]]) == [a[2], a[0]]
    assert len(set(a)) == 4
    assert content_seeds(1, x) != a
