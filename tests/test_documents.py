"""What the documents promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from benchmark.records.store import RecordStore
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


def test_python_in_the_readme_runs(capsys):
    (code,) = blocks("README.md", "python")
    exec(compile(code, "README.md", "exec"), {})
    assert "tensor(0." in capsys.readouterr().out


def test_the_example_method_runs(tmp_path, capsys):
    from benchmark.cli.parser import main

    (code,) = blocks("CONTRIBUTING.md", "python")
    (tmp_path / "example.py").write_text(code)
    words = ["run", "--task", "nap_mlp", "--methods", "gradient_x_input", "--source", "synthetic", "--limit", "5",
             "--jobs", "1", "--include", str(tmp_path / "example.py"), "--out", str(tmp_path)]  # fmt: skip
    assert main(words) == 0
    assert "gradient_x_input" in capsys.readouterr().out


def test_metric_cards_are_those_of_the_registry():
    from benchmark.inspection.cards import metrics_document

    text = (ROOT / "docs" / "metrics.md").read_text()
    assert text == metrics_document(), "renew it: python -m benchmark show metrics > docs/metrics.md"


def test_commands_in_the_readme_parse():
    from benchmark.cli.parser import build_parser

    for block in blocks("README.md", "bash")[1:]:
        for line in block.splitlines():
            words = re.findall(r"'[^']*'|\S+", line.split("#")[0])
            build_parser().parse_args([word.strip("'") for word in words[3:]])


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


def test_links_between_documents_lead_somewhere():
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.name} links to {target}"


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


@pytest.mark.parametrize("page", ["docs/deepfaith.md", "docs/leaderboards.md", "docs/optimality.md"])
def test_commands_in_pages_parse(page):
    from benchmark.cli.parser import build_parser

    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    assert lines
    for line in lines:
        words = re.findall(r"'[^']*'|\S+", line.split("#")[0])
        build_parser().parse_args([word.strip("'") for word in words[3:]])
