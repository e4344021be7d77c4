"""Imports go one way, as docs/architecture.md draws it: from folder to folder downwards, and never in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = [  # a folder imports from those above it in this list, and from itself
    "benchmark.core",
    "benchmark.statistics",
    "benchmark.processes",
    "benchmark.data",
    "benchmark.models",
    "benchmark.engines",
    "benchmark.records",
    "benchmark.scoring",
    "benchmark.metrics",
    "benchmark.modalities",
    "benchmark.plugins",
    "benchmark.tasks",
    "benchmark.learning",
    "benchmark.tuned",
    "benchmark.running",
    "benchmark.scheduling",
    "benchmark.tuning",
    "benchmark.inspection",
    "benchmark.testing",
    "methods",
    "deepfaith",
    "leaderboards",
    "benchmark.api",
    "benchmark.bridges",
    "benchmark.cli",
    "benchmark.__main__",
]
BESIDE = {"methods", "deepfaith", "leaderboards"}
"""Packages that stand side by side and do not import each other."""


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for top in ("benchmark", *sorted(BESIDE)) for path in sorted((ROOT / top).rglob("*.py"))}


def imports(path):
    """Yield the modules of the project, and the packages of others, that a file names, for type checkers alone too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from {name if name in MODULES else node.module for name in full}


def layer(name):
    return next(height for height, folder in enumerate(LAYERS) if f"{name}.".startswith(f"{folder}."))


GRAPH = {name: {found for found in imports(path) if found in MODULES} for name, path in MODULES.items()}


@pytest.mark.parametrize("name", [name for name in MODULES if name != "benchmark"])
def test_imports_go_one_way(name):
    for found in GRAPH[name] - {"benchmark"}:
        assert layer(found) <= layer(name), f"{name} imports {found}, which stands above it"
        families = {name.split(".")[0], found.split(".")[0]}
        assert len(families & BESIDE) < 2, f"{name} imports {found}, which stands beside it"


def test_no_import_is_circular():
    list(TopologicalSorter(GRAPH).static_order())  # raises CycleError, which names the circle


def test_no_folder_is_a_heap():
    for folder in {path.parent for path in MODULES.values()} - {ROOT / top for top in BESIDE}:
        assert len([path for path in folder.glob("*.py") if path.stem != "__init__"]) <= 11, folder


def test_boards_are_made_without_torch():
    code = "import sys, leaderboards.rank, leaderboards.tables; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_quantus_stays_out_of_the_core():
    for name, path in MODULES.items():
        if name != "benchmark.inspection.crosscheck.references":  # reached by verify-metrics alone
            assert "quantus" not in {found.split(".")[0] for found in imports(path)}, path


def test_progress_bars_are_those_of_one_process():
    for name, path in MODULES.items():
        if name != "benchmark.processes.progress":  # which gives tqdm a lock of this process alone
            assert "tqdm" not in set(imports(path)), path
