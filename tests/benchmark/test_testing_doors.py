"""The doors to check_metric: command line, plug-in of pytest, workflow, page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from benchmark.cli.parser import build_parser, main
from benchmark.scoring.metrics import METRICS
from benchmark.testing import check_metric

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import neighbour\n"
        "def deletion(predict, x, target, attribution, remove, steps):\n"
        "    order, curve = (-attribution).argsort(1), []\n"
        "    for k in range(neighbour.FIRST, steps + 1):\n"
        "        gone = order.argsort(1) < round(k * order.shape[1] / steps)\n"
        "        curve.append(predict(remove(x, gone))[range(len(x)), target])\n"
        "    return sum(curve) / len(curve)\n"
        "number = 3\n"
    )
    (tmp_path / "neighbour.py").write_text("FIRST = 0\n")
    yield path
    sys.modules.pop("neighbour", None)
    if str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


def test_the_command_line_says_what_differs_and_ends_with_it(mine, capsys):
    words = ["verify-metrics", "--implementation", f"{mine}:deletion", "--metric", "DEL"]
    assert main(words) == 1
    assert "it equals the variant 'start'" in capsys.readouterr().out
    assert main([*words, "--variant", "start", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"]
    assert report["expected_variants"] == ["start"]
    assert main([*words, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["variants"] == ["start"]
    assert report["exact"]
    assert main([*words, "--tolerance", "0.1"]) == 0


@pytest.mark.parametrize(
    ("implementation", "metric", "sentence"),
    [
        ("{}:deletion", None, "go together"),
        (None, "DEL", "go together"),
        ("{}:deletion", "DLE", "unknown metric 'DLE'; did you mean 'DEL'"),
        ("{}:deletions", "DEL", "has no 'deletions'; did you mean 'deletion'"),
        ("{}:number", "DEL", ":number is a int, expected a function"),
        ("{}", "DEL", r"expects FILE.py:FUNCTION, such as my.py:deletion, got"),
        ("absent.py:deletion", "DEL", "got 'absent.py': no such file; check the path"),
        ("broken.py:deletion", "DEL", "broken.py failed to import: ZeroDivisionError"),
    ],
)
def test_wrong_words_are_one_sentence(implementation, metric, sentence, mine, capsys, monkeypatch):
    monkeypatch.chdir(mine.parent)
    (mine.parent / "broken.py").write_text("1 / 0")
    words = ["verify-metrics"]
    words += [] if implementation is None else ["--implementation", implementation.format(mine)]
    words += [] if metric is None else ["--metric", metric]
    assert main(words) == (3 if "no such file" in sentence else 2)
    assert re.search(sentence, capsys.readouterr().err)


def test_the_plug_in_of_pytest_reports_and_imports_nothing_before_it_is_used(mine):
    (mine.parent / "test_it.py").write_text(
        "import sys\n"
        "from mine import deletion\n"
        "def test_nothing_is_imported():\n"
        "    assert not {'torch', 'numpy', 'benchmark'} & set(sys.modules)\n"
        "def test_wrong(check_metric):\n"
        "    check_metric('DEL', deletion)\n"
        "def test_right(check_metric):\n"
        "    check_metric('DEL', deletion, variants=['start'])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    words = ["-m", "pytest", "-q", "-p", "pytest_deepfaith", "-p", "no:cacheprovider", "--rootdir", str(mine.parent)]
    done = subprocess.run(
        [sys.executable, *words], cwd=mine.parent, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 2 passed" in done.stdout
    assert "it equals the variant 'start'" in done.stdout
    assert "Traceback" not in done.stdout


def test_the_plug_in_is_installed_with_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {"deepfaith": "pytest_deepfaith"}
    assert "pytest_deepfaith" in project["tool"]["setuptools"]["py-modules"]
    assert (ROOT / "pytest_deepfaith.py").is_file()


def test_the_workflow_runs_commands_that_there_are():
    text = (ROOT / ".github" / "workflows" / "check-metrics.yml").read_text()
    workflow = yaml.safe_load(text)
    inputs = workflow[True]["workflow_call"]["inputs"]  # YAML reads `on` as True
    assert set(inputs) >= {"implementation", "metric", "python-version", "package-spec"}
    assert {name for name, options in inputs.items() if options.get("required")} == {"implementation", "metric"}
    (job,) = workflow["jobs"].values()
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(inputs), "each is used, and no other"
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert not any("${{" in command for command in commands), "no input is run as a command"
    variables = {"IMPLEMENTATION": "my.py:deletion", "METRIC": "DEL"}
    (verify,) = [command for command in commands if "verify-metrics" in command]
    assert set(re.findall(r"\$(\w+)", "\n".join(commands))) == set(job["env"])
    program, *words = [re.sub(r'"\$(\w+)"', lambda found: variables[found[1]], word) for word in verify.split()]
    assert program in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    arguments = build_parser().parse_args(words)
    assert (arguments.implementation, arguments.metric) == ("my.py:deletion", "DEL")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(), re.DOTALL)


def test_the_page_shows_what_comes_out(capsys):
    code, _ = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    exec(compile(code, "docs/testing.md", "exec"), {})
    assert capsys.readouterr().out == blocks("text")[0]


def test_the_page_names_all_that_a_function_is_given():
    from benchmark.testing.given import NAMES

    table = (ROOT / "docs" / "testing.md").read_text()
    assert set(NAMES) <= set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert all(f"- `{name}`" in check_metric.__doc__ or f"`{name}" in check_metric.__doc__ for name in NAMES)


@pytest.mark.slow
def test_snippets_of_the_page_are_of_this_package(tmp_path):
    snippet = yaml.safe_load(blocks("yaml")[0])
    (job,) = snippet["jobs"].values()
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "check-metrics.yml").read_text())
    assert job["uses"].split("/", 2)[2] == ".github/workflows/check-metrics.yml@main"
    assert set(job["with"]) <= set(workflow[True]["workflow_call"]["inputs"])
    assert job["with"]["metric"] in METRICS
    _, test = blocks("python")
    (tmp_path / "test_it.py").write_text(test)
    code, _ = blocks("python")
    (tmp_path / "my_metrics.py").write_text(code.replace("print(", "("))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    words = ["-m", "pytest", "-q", "-p", "pytest_deepfaith", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "1 passed" in done.stdout, done.stdout
