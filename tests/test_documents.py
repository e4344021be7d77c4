"""What the documents promise."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import benchmark as fb
from benchmark.core.seeding import seeded
from benchmark.records.store import RecordStore
from benchmark.scoring.metrics import METRICS, ProbeMetric
from tests import gallery
from tests.leaderboards.generated import several

ROOT = Path(__file__).resolve().parent.parent


def blocks(path, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / path).read_text(), re.DOTALL)


def test_the_first_screen_has_the_two_commands():
    first = blocks("README.md", "bash")[0].splitlines()
    assert first == [
        "pip install . && python -m benchmark run --task nap_mlp --methods all",
        "pip install tox && tox",
    ]


def test_ones_own_model_is_scored_in_five_lines():
    assert len([line for line in blocks("README.md", "python")[0].splitlines() if line]) <= 5


@pytest.fixture
def names():
    """Return what examples call the reader's own: a model, inputs, attributions, a callable."""
    with seeded(0):
        model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
        x, x_train = torch.randn(12, 5), torch.randn(50, 5)
    own = {"model": model, "x": x, "x_train": x_train, "attributions": x * 2}
    return own | {"any_callable": lambda x, target: x - x_train.mean(0)}


@pytest.mark.parametrize(
    ("page", "shown"),
    [
        ("README.md", "random (control)"),
        ("docs/usage.md", ""),
        ("docs/api.md", "['mean', 'zero', 'value', 'blur', 'marginal']"),
    ],
)
def test_python_in_pages_runs(page, shown, names, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for code in blocks(page, "python"):
        exec(compile(code, page, "exec"), names)
    assert shown in capsys.readouterr().out
    if page != "README.md":
        assert RecordStore(tmp_path / "results").tasks()


def test_the_interface_and_its_page_hold_the_same_names():
    text = (ROOT / "docs/api.md").read_text()
    parts = re.split(r"^## ", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)[1:]
    sections = {name: part for part in parts for name in re.findall(r"`fb\.(\w+)`", part.splitlines()[0])}
    assert set(sections) == set(fb.__all__)
    for name, part in sections.items():
        exported = getattr(fb, name)
        if inspect.isfunction(exported) and not name.startswith("list_"):
            listed = re.search(rf"`fb\.{name}\(([^`]*)\)", part)[1]
            stated = re.findall(r"\w+", re.sub(r"=[^,]*", "", listed))
            assert stated == list(inspect.signature(exported).parameters), name
    members = {*fb.Result.__dataclass_fields__, *(name for name in vars(fb.Result) if not name.startswith("_"))}
    assert [name for name in members - {"examples"} if f"`{name}" not in sections["Result"]] == []


GALLERY = [  # shap compiles itself when it is first used
    pytest.param(page, id=page.stem, marks=[pytest.mark.slow] * (page.stem in ("shap", "table")))
    for page in sorted(gallery.GALLERY.glob("*.md"))
]


@pytest.mark.parametrize("page", GALLERY)
def test_pages_of_the_gallery_run_and_are_short(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = [block for block in gallery.blocks(page) if "import benchmark as fb" in block or "fb." in block]
    assert examples
    assert all(gallery.lines_of(block) <= gallery.MOST_LINES for block in examples)
    made = gallery.run(page)
    assert "random (control)" in made
    assert "`python -m tests.gallery --write`" in made
    assert gallery.alike(made) == gallery.alike(page.read_text()), "renew it: python -m tests.gallery --write"


def test_what_the_gallery_imports_comes_with_the_tests_and_building_needs_none_of_it():
    read = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needs = [*read["project"]["dependencies"], *read["project"]["optional-dependencies"]["dev"]]
    known = {re.match(r"[\w-]+", need)[0] for need in needs} | {"benchmark"}
    code = "\n".join(block for page in gallery.GALLERY.glob("*.md") for block in gallery.blocks(page))
    imported = set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE)) - sys.stdlib_module_names
    assert {"scikit-learn" if name == "sklearn" else name for name in imported} <= known
    assert [re.match(r"[\w-]+", need)[0] for need in read["build-system"]["requires"]] == ["setuptools"]


@pytest.fixture
def example(tmp_path):
    """Return a file with the examples of a method, a task and a metric, which are forgotten afterwards."""
    (tmp_path / "example.py").write_text("\n\n".join(blocks("CONTRIBUTING.md", "python")))
    return tmp_path / "example.py"


def test_the_examples_of_a_method_a_task_and_a_metric_run(example, tmp_path, capsys):
    from benchmark.cli.parser import main

    words = ["run", "--task", "waves", "--methods", "gradient_x_input,random", "--metrics", "FC,LEAST", "--limit", "5",
             "--jobs", "1", "--include", str(example), "--out", str(tmp_path / "results")]  # fmt: skip
    assert main(words) == 0
    board = capsys.readouterr().out
    assert "waves · real data · 5 test samples (limit 5)" in board
    assert "gradient_x_input" in board
    assert "LEAST↓" in board


def test_the_metrics_of_ones_own_run(tmp_path, capsys):
    from benchmark.cli.parser import main

    first, *others = blocks("docs/own_metrics.md", "python")
    assert len([line for line in first.splitlines() if line.strip()]) <= 10
    file = tmp_path / "first.py"
    file.write_text("\n\n".join([first, *others]))
    words = ["run", "--task", "nap_mlp", "--source", "synthetic", "--methods", "saliency,random",
             "--metrics", "ten,own", "--limit", "5", "--jobs", "1", "--include", str(file),
             "--out", str(tmp_path / "results")]  # fmt: skip
    assert main(words) == 0
    ten, own = capsys.readouterr().out.split("\nnap_mlp · own metrics: ")
    assert own.startswith("FIRST, PAIRS, NEGATED · ")
    assert "IROF↑" in ten
    assert "FIRST" not in ten
    assert main(["show", "first", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["group"] == "own"


def test_metric_cards_are_those_of_the_registry():
    from benchmark.inspection.cards import metrics_document

    text = (ROOT / "docs" / "metrics.md").read_text()
    assert text == metrics_document(), "renew it: python -m benchmark show metrics > docs/metrics.md"


def test_what_methods_are_told_is_what_they_declare():
    from benchmark.inspection.cards import methods_document

    text = (ROOT / "docs" / "methods.md").read_text()
    assert text == methods_document(), "renew it: python -m benchmark show methods > docs/methods.md"


def test_the_installed_package_works_from_elsewhere(tmp_path):
    places = [str(dist.locate_file("")) for dist in metadata.distributions(name="deepfaith-benchmark")]
    if not any(Path(place).resolve() != ROOT for place in places):
        pytest.skip("the package is not installed here; tox installs it")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", "list", "methods"], cwd=tmp_path, env=environment, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "exact_banzhaf" in done.stdout


def test_version_and_licence_are_the_same_everywhere(capsys):
    from benchmark.cli.parser import main

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation), "what the format asks for"
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert citation["title"] == project["description"]
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{project['name']} {project['version']}\n"
    for installed in metadata.distributions(name=project["name"]):
        assert installed.version == project["version"], "the installed package is older: install it again"


def headings(path):
    """Return the anchors of a page's headings, as a web page of it has them."""
    lines = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}


def test_links_between_documents_lead_somewhere():
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", path.read_text()):
            if "://" not in target:
                page = path.parent / target if target else path
                assert page.exists(), f"{path.name} links to {target}"
                assert not anchor or anchor in headings(page), f"{path.name} links to {target}#{anchor}"


def defined(path):
    """Return the names of a file's classes, functions, methods and constants, methods with their class."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        names |= {target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)}
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{member.name}" for member in node.body if isinstance(member, ast.FunctionDef)}
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
    return names


def test_files_and_names_in_pages_exist():
    """`folder/file.py` is a file of the project; one or more `name` after it, between commas, are defined there."""
    places = 0
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
        for file, names in re.findall(r"`(\w+/[\w/]+\.py)`((?:,?\s+`[A-Za-z_][\w.]*`)*)", text):
            assert (ROOT / file).is_file(), f"{path.name} names {file}"
            for name in re.findall(r"`([^`]*)`", names):
                places += 1
                assert name in defined(ROOT / file), f"{path.name} names {name} of {file}"
    assert places > 30


def test_the_glossary_has_the_words_of_records_and_boards():
    from benchmark.core.identity import CHANGED
    from benchmark.records.record import SCORES_SCHEMA, Cell, Record
    from leaderboards import tables

    text = (ROOT / "docs" / "glossary.md").read_text()
    firsts = " , ".join(re.findall(r"^\| ([^|]*) \|", text, re.MULTILINE))
    known = {*re.findall(r"`([^`]+)`", text), *re.split(r"[,;()]\s*|\s+,\s+", firsts.replace("`", ""))}
    known = {word.strip() for word in known}
    words = [part.name for kind in (Record, Cell) for part in dataclasses.fields(kind)]
    words += [*SCORES_SCHEMA.names, *CHANGED, *tables.COLUMNS, *tables.COSTS, *tables.TRAINING]
    assert not [word for word in words if word not in known]
    kinds = {metric.probe.kind for metric in METRICS.values() if isinstance(metric, ProbeMetric)}
    assert set(METRICS.groups()) | {"own"} <= known
    assert kinds <= known


@pytest.mark.slow
def test_python_in_the_page_on_deepfaith_runs(tmp_path, monkeypatch, capsys):
    (code,) = blocks("docs/deepfaith.md", "python")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/deepfaith.md", "exec"), {})
    assert "torch.Size([5, 6])" in capsys.readouterr().out


def test_python_in_the_page_on_leaderboards_runs(tmp_path, monkeypatch, capsys):
    store = RecordStore(tmp_path / "results").open()
    for record in several(2, 4, 1, 12)[0]:
        store.write(replace(record, cell=replace(record.cell, source="synthetic")))
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("docs/leaderboards.md", "python")
    exec(compile(code, "docs/leaderboards.md", "exec"), {})
    out = capsys.readouterr().out
    assert "t01 · SYNTHETIC stand-in data" in out
    assert "Friedman" in out


def test_python_in_the_page_on_bridges_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks("docs/bridges.md", "python"))
    exec(compile(code, "docs/bridges.md", "exec"), {})
    out = capsys.readouterr().out
    assert "ROAD [Quantus]" in out
    assert "{'lime': (20, 1, 4, 4), 'grad_cam': (20, 1, 4, 4)}" in out
    assert "20 <class 'float'>" in out
    assert "['README.md', 'by_others.parquet', 'real.parquet']" in out


def test_the_command_score_in_the_page_on_usage_runs(tmp_path, monkeypatch, capsys):
    from benchmark.cli.parser import main

    monkeypatch.chdir(tmp_path)
    section = (ROOT / "docs" / "usage.md").read_text().split("## Score attributions from files")[1].split("\n## ")[0]
    file, commands = re.findall(r"```(?:python-file|bash)\n(.*?)```", section, re.DOTALL)
    (tmp_path / "my.py").write_text(file)
    rng = np.random.default_rng(0)
    np.savez("x.npz", rng.normal(size=(20, 6)))
    np.savez("train.npz", rng.normal(size=(50, 6)))
    np.savez("a.npz", rng.normal(size=(20, 6)))
    np.savez("maps.npz", lime=rng.normal(size=(20, 6)), ig=rng.normal(size=(20, 6)))
    np.save("y.npy", rng.integers(0, 3, 20))
    for line in commands.splitlines():
        words = re.split(r"\s+", re.split("#", line)[0].strip())[3:]
        assert main([word.strip("'") for word in words]) == 0
    assert "own" in capsys.readouterr().out
    assert (tmp_path / "page.html").exists()


PAGES = ["CONTRIBUTING.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_pages_parse(page):
    """Those in blocks, and those in sentences but for the letters in capitals that stand for a value."""
    from benchmark.cli.parser import build_parser

    text = (ROOT / page).read_text()
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    lines += [" ".join(line.split()) for line in re.findall(r"`(python -m benchmark [^`]*)`", text)]
    for line in lines:
        words = [word.strip("'") for word in re.findall(r"'[^']*'|\S+", re.split("[#>]", line)[0])]
        if words[:3] == ["python", "-m", "benchmark"]:
            build_parser().parse_args(words[3:])
