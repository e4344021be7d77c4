"""Plug-ins of installed packages: found by their entry points, read as text, and never in anybody's way."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from torch import nn

import benchmark as fb
from benchmark.cli.parser import main
from benchmark.core.errors import UsageError
from benchmark.core.types import METHODS, TASKS
from benchmark.plugins.discovery import discover_plugins
from benchmark.plugins.installed import PREFIX, source_of
from benchmark.records.store import RecordStore
from tests.installed import Site, method

ROOT = Path(__file__).resolve().parent.parent.parent
EXPLOSIVE = "raise RuntimeError('this was imported')\n"
OWN_TASK = (
    "import tests.file_tasks as own\nfrom benchmark.core.types import TASKS\n"
    "@TASKS.register('their_rows', modality='table')\ndef rows():\n    '''Rows of theirs.'''\n    return own.Rows()\n"
)


@pytest.fixture
def site(tmp_path, forget_registered):
    place = Site(tmp_path / "site")
    yield place
    forget_registered()
    place.leave()


def run(tmp_path, *words):
    words = ["--source", "synthetic", "--limit", "6", "--jobs", "1", "--metrics", "DEL", *words]
    return main(["run", "--task", "nap_mlp", "--out", str(tmp_path / "out"), *words])


def test_a_list_names_a_plug_in_and_imports_nothing_of_it(site, capsys):
    site.install(
        "their-methods",
        {"their/__init__.py": EXPLOSIVE, "their/deep/__init__.py": EXPLOSIVE, "their/deep/one.py": EXPLOSIVE + method(),
         "their/rows.py": EXPLOSIVE + OWN_TASK},
        {"methods": "any = their.deep.one", "tasks": "rows = their.rows"},
    )  # fmt: skip
    assert main(["list", "methods"]) == 0
    out = capsys.readouterr()
    assert "theirs                 baseline  Twice the row. [their-methods 1.0]\n" in out.out
    assert out.err == ""
    assert main(["list", "tasks", "--json"]) == 0
    (row,) = [row for row in json.loads(capsys.readouterr().out) if row["name"] == "their_rows"]
    assert row["distribution"] == "their-methods 1.0"
    assert row["summary"] == "Rows of theirs."
    assert not site.loaded()


def test_a_list_is_still_quick_and_free_of_torch(site):
    site.install("their-methods", {"their.py": method()}, {"methods": "theirs = their"})
    code = (
        f"import sys; sys.path.insert(0, {str(site.folder)!r}); from benchmark.cli.parser import main;"
        "main(['list', 'methods']); assert not {'torch', 'pandas', 'their'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "[their-methods 1.0]" in done.stdout


def test_a_record_says_which_distribution_and_another_version_is_computed_again(site, tmp_path, capsys, caplog):
    def install(version):
        site.install("their-methods", {"their.py": method()}, {"methods": "theirs = their"}, version)

    install("1.0")
    assert run(tmp_path, "--methods", "theirs") == 0
    (record,), _ = RecordStore(tmp_path / "out").scan()
    assert record.identity["distribution"] == "their-methods 1.0"
    capsys.readouterr()
    assert run(tmp_path, "--methods", "theirs") == 0
    assert "1 kept" in capsys.readouterr().out
    install("1.1")
    assert run(tmp_path, "--methods", "theirs") == 0
    said = capsys.readouterr().err
    assert "it comes from another distribution or version (their-methods 1.0 then, their-methods 1.1 now)" in said


@pytest.mark.slow
def test_workers_know_plug_ins_too(site, tmp_path, capsys):
    modules = {"their.py": method() + method("their_other").replace("Mine", "Other"), "their_task.py": OWN_TASK}
    site.install("their-methods", modules, {"methods": "theirs = their", "tasks": "rows = their_task"})
    words = ["run", "--task", "their_rows", "--methods", "theirs,their_other", "--jobs", "2", "--metrics", "DEL"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert "2 computed" in capsys.readouterr().out


def test_a_name_of_ours_stays_ours(site, capsys):
    site.install("their-methods", {"their.py": method("lime")}, {"methods": "lime = their"})
    ours = METHODS.entry("lime")
    assert main(["list", "methods"]) == 0
    captured = capsys.readouterr()
    assert captured.err == (
        "left out: their of their-methods 1.0: its method 'lime' is called like one of ours, which stays: its author "
        "has to rename it\n"
    )
    assert METHODS.entry("lime") == ours
    assert "their-methods" not in captured.out


def test_of_two_that_want_a_name_neither_gets_it(site, capsys):
    for name in ("aaa", "bbb"):
        site.install(name, {f"their_{name}.py": method()}, {"methods": f"theirs = their_{name}"})
    assert main(["list", "methods"]) == 0
    captured = capsys.readouterr()
    assert "theirs" not in captured.out
    assert captured.err.splitlines() == [
        f"left out: their_{one} of {one} 1.0: {other} 1.0 (their_{other}) has a method 'theirs', too, and neither is "
        "used: remove one of them"
        for one, other in (("aaa", "bbb"), ("bbb", "aaa"))
    ]


@pytest.mark.parametrize(
    ("source", "points", "message"),
    [
        ("def (:", "methods", r"its source cannot be read (SyntaxError: "),
        (None, "methods", "the entry point 'x' names a module that has no source file: expected one such as"),
        ("answer = 42", "methods", "it registers no method: expected @METHODS.register('name', ...)"),
        (method(), "tasks", "it registers no task: expected @TASKS.register('name', ...)"),
        (method(), "method", "no entry points are called 'deepfaith_benchmark.method'; did you mean 'methods'?"),
        (method().replace("table", "tabel"), "methods", "got 'tabel'; did you mean 'table'?"),
        (method().replace('"baseline"', "KIND"), "methods", "its source cannot be read (ValueError: malformed node"),
        (method() + method(), "methods", "it registers 'theirs' twice"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(site, capsys, source, points, message):
    modules = {} if source is None else {"their.py": source}
    site.install("their-methods", modules, {points: "x = their"})
    assert main(["list", "methods"]) == 0
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("left out: their of their-methods 1.0: ")
    assert message in line
    assert "lime" in captured.out


def test_a_module_of_ours_is_no_plug_in(site):
    site.install("their-methods", {}, {"methods": "x = methods.lime"})
    (plugin,) = discover_plugins()
    assert "names a module of this program" in plugin.problem


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (f"import no_such_package\n{method()}", "their fails to import (ModuleNotFoundError: No module named"),
        (f"{method()}\nraise SystemExit(3)", "their fails to import (SystemExit: 3)"),
        (method().replace("@METHODS", "METHODS = type(METHODS)('method', 'METHODS')\n@METHODS"),
         "their was imported and did not register it"),
        (method().replace("@dataclass(frozen=True)", ""), "its class Mine is no dataclass"),
    ],
)  # fmt: skip
def test_what_fails_when_it_is_used_breaks_no_other(site, capsys, source, message):
    site.install("their-methods", {"their.py": source}, {"methods": "theirs = their"})
    assert main(["list", "methods"]) == 0
    assert main(["show", "theirs"]) == 2
    assert message in capsys.readouterr().err
    assert "theirs" not in METHODS.select("all")
    assert "lime" in METHODS.select("all")
    assert "left out: the method 'theirs'" in capsys.readouterr().err
    with pytest.raises(UsageError, match="cannot be used"):
        METHODS.get("theirs")


def test_doctor_shows_plug_ins_and_what_is_wrong_with_them(site, capsys):
    site.install("good", {"their_good.py": method("good_one")}, {"methods": "x = their_good"})
    site.install("bad", {"their_bad.py": EXPLOSIVE + method("bad_one")}, {"methods": "x = their_bad"})
    site.install("rows", {"their_rows.py": OWN_TASK.replace("own.Rows()", "1 / 0")}, {"tasks": "x = their_rows"})
    words = ["doctor", "--task", "nap_mlp,their_rows", "--source", "synthetic"]
    assert main(words) == 3
    out = capsys.readouterr().out
    assert "plug-in good 1.0               ready    methods good_one (their_good)" in out
    assert "plug-in bad 1.0                broken   the method 'bad_one' of bad 1.0 cannot be used: their_bad" in out
    assert "their_rows             missing  ZeroDivisionError: division by zero (their_rows.py, line 6)" in out
    assert main([*words, "--json"]) == 3
    plugins = json.loads(capsys.readouterr().out)["plugins"]
    assert [plugin["distribution"] for plugin in plugins] == ["bad 1.0", "good 1.0", "rows 1.0"]


def test_a_task_that_cannot_be_planned_is_passed_over(site, tmp_path, capsys):
    source = OWN_TASK.replace("own.Rows()", "[][1]")
    site.install("rows", {"their_rows.py": source}, {"tasks": "x = their_rows"})
    words = ["run", "--task", "their_rows,breast_cancer_mlp", "--methods", "saliency", "--limit", "3", "--jobs", "1"]
    assert main([*words, "--out", str(tmp_path / "out"), "--metrics", "DEL"]) == 3
    captured = capsys.readouterr()
    assert "error: their_rows: the task cannot be planned: IndexError: list index out of range (their_rows.py" in (
        captured.err
    )
    assert "1 computed" in captured.out


def test_a_file_that_takes_a_plug_ins_name_is_told_whose_it_is(site, tmp_path, capsys):
    site.install("their-methods", {"their.py": method()}, {"methods": "theirs = their"})
    (tmp_path / "mine.py").write_text(method())
    assert main(["list", "methods", "--include", str(tmp_path / "mine.py")]) == 2
    assert "two methods are called 'theirs' (their-methods 1.0 has one): rename one of them" in capsys.readouterr().err


def test_sources_are_found_without_imports(site):
    site.install("x", {"their/__init__.py": EXPLOSIVE, "their/a/b.py": EXPLOSIVE}, {})
    assert source_of("their.a.b") == site.folder / "their" / "a" / "b.py"
    assert source_of("their") == site.folder / "their" / "__init__.py"
    for missing in ("their.c", "their.a", "their.a.b.c", "no_such_package", "sys"):
        assert source_of(missing) is None
    assert not site.loaded()


def test_known_names_are_those_before_where_nothing_is_installed():
    before = METHODS.names(), TASKS.names()
    assert not [plugin for plugin in discover_plugins() if not plugin.point.distribution]
    assert (METHODS.names(), TASKS.names()) == before


def test_the_example_of_the_page_runs(site, tmp_path, monkeypatch, capsys):
    """The module, the entry point and the commands after it, as docs/plugins.md shows them."""
    page = (ROOT / "docs" / "plugins.md").read_text()
    (code,), (table,) = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("python", "toml"))
    assert len([line for line in code.splitlines() if line and "import" not in line]) <= 10
    ((group, points),) = tomllib.loads(table)["project"]["entry-points"].items()
    ((name, module),) = points.items()
    site.install("my-method", {f"{module}.py": code}, {group.removeprefix(PREFIX): f"{name} = {module}"})
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)[0].splitlines()
    for command in commands:
        assert main([*shlex.split(command, comments=True)[3:]]) == 0, command
    out = capsys.readouterr().out
    assert "How far each column lies from its baseline. [my-method 1.0]" in out
    assert re.search(r"method 'distance': \d\d ok, 0 wrong", out)
    assert "3 computed" in out


METRIC = (
    "from benchmark.scoring.metrics import METRICS, MORF, ProbeMetric, drop\n"
    "@METRICS.register('THEIRS', group='own', higher_is_better=True)\nclass First(ProbeMetric):\n"
    "    '''What the first group costs.'''\n    probe = MORF\n"
    "    def score(self, response): return drop(response)[..., 0]\n"
)
REMOVAL = (
    "from dataclasses import dataclass\nfrom benchmark.modalities.removals import REMOVALS, RemovalSpec\n"
    "@REMOVALS.register('median', modalities=('table',))\n@dataclass(frozen=True)\nclass Median(RemovalSpec):\n"
    "    '''The median of each column.'''\n"
    "    def make(self, inputs): return inputs.replaced_by(inputs.background.median(0).values)\n"
)


def install_all(site):
    modules = {"their.py": method(), "their_task.py": OWN_TASK, "their_metric.py": METRIC, "their_removal.py": REMOVAL}
    points = {"methods": "their", "tasks": "their_task", "metrics": "their_metric", "removals": "their_removal"}
    site.install("their-things", modules, {group: f"any = {module}" for group, module in points.items()})


def test_python_knows_what_is_installed(site):
    install_all(site)
    assert "theirs" in fb.list_methods()
    assert "their_rows" in fb.list_tasks()
    assert "THEIRS" in fb.list_metrics()
    assert "median" in fb.list_removals("table")
    assert not site.loaded()


@pytest.mark.parametrize(
    "use",
    [
        lambda rows: fb.method("theirs"),
        lambda rows: fb.score("THEIRS", fb.task(nn.Linear(3, 2), rows), rows),
        lambda rows: fb.evaluate(fb.task(nn.Linear(3, 2), rows), {"mine": rows}, metrics="own"),
        lambda rows: fb.task(nn.Linear(3, 2), rows, removal="median"),
        lambda rows: fb.bridges.as_quantus("THEIRS"),
        lambda rows: fb.testing.check_metric("THEIRS", lambda attribution: attribution[:, 0], cases="mlp10, some*"),
    ],
)
def test_python_uses_what_is_installed_without_asking_for_a_list_first(site, use):
    install_all(site)
    use(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))


def test_python_says_once_what_is_left_out(site, monkeypatch):
    said = []
    monkeypatch.setattr("benchmark.plugins.discovery.log.warning", said.append)
    site.install("their-methods", {"their.py": method("lime")}, {"methods": "lime = their"})
    fb.list_methods(), fb.list_methods(), fb.method("lime")
    (sentence,) = said
    assert sentence.startswith("left out: their of their-methods 1.0: its method 'lime' is called like one of ours")


def test_metrics_and_removals_of_packages_are_listed(site, capsys):
    install_all(site)
    assert main(["list", "metrics"]) == 0
    assert re.search(r"^THEIRS .* What the first group costs. \[their-things 1.0\]$", capsys.readouterr().out, re.M)
    assert main(["list", "removals"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^median +table +The median of each column. \[their-things 1.0\]$", out, re.M)
    assert re.search(r"^mean +table, image +Means over the background", out, re.M)
    assert not site.loaded()


@pytest.mark.slow
def test_metrics_and_removals_of_packages_are_checked_shown_and_run(site, tmp_path, capsys):
    install_all(site)
    assert main(["check", "metric", "THEIRS"]) == 0
    assert " 0 wrong" in capsys.readouterr().out
    assert main(["show", "median"]) == 0
    assert "their-things 1.0" in capsys.readouterr().out
    assert main(["doctor", "--task", "nap_mlp", "--source", "synthetic"]) == 0
    out = capsys.readouterr().out
    assert "plug-in their-things 1.0       ready    metrics THEIRS (their_metric)" in out
    assert "plug-in their-things 1.0       ready    removals median (their_removal)" in out
    assert run(tmp_path, "--methods", "theirs", "--metrics", "DEL,THEIRS") == 0
    assert "THEIRS↑" in capsys.readouterr().out
