"""Imports go one way, as docs/architecture.md draws it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = [  # lower may not import higher; modules of one layer may import each other
    {"benchmark.errors", "benchmark.arguments", "benchmark.allocation", "benchmark.interruption", "benchmark.workers"},
    {"benchmark.registry", "benchmark.selection"},
    {"benchmark.types"},
    {"benchmark.statistics", "benchmark.seeding", "benchmark.data.download", "benchmark.data.source"},
    {"benchmark.identity", "benchmark.plain"},
    {"benchmark.records", "benchmark.metering", "benchmark.provenance", "benchmark.data", "benchmark.models"},
    {"benchmark.metrics", "benchmark.probes", "benchmark.prober", "benchmark.shared", "benchmark.tasks"},
    {"benchmark.isolation", "benchmark.model_checks"},
    {
        "benchmark.evaluator",
        "benchmark.crosscheck",
        "benchmark.audit",
        "benchmark.plan",
        "benchmark.runner",
        "benchmark.cards",
        "benchmark.commands",
        "benchmark.explain",
        "benchmark.pictures",
        "benchmark.ready",
        "benchmark.several",
        "benchmark.trial",
        "benchmark.presets",
        "benchmark.payback",
        "benchmark.examples",
    },
    {"methods", "deepfaith", "leaderboards"},
    {"benchmark.studies", "benchmark.boards", "benchmark.forget"},
    {"benchmark.__main__", "benchmark.start"},
]
PACKAGES = ("benchmark", "methods", "deepfaith", "leaderboards")


def layer(module):
    """Return the layer of the longest listed prefix."""
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        for height, names in enumerate(LAYERS):
            if ".".join(parts[:end]) in names:
                return height
    raise AssertionError(f"{module} is in no layer: add it to LAYERS and to docs/architecture.md")


def modules():
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            if name not in PACKAGES or name != "benchmark":
                yield name, path


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            known = [name for name in names if (ROOT / Path(*name.split("."))).with_suffix(".py").exists()]
            yield from known or [node.module]


def under_type_checking(path):
    """Return imports that only type checkers see."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            found |= {(n.module) for n in ast.walk(node) if isinstance(n, ast.ImportFrom)}
    return found


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_imports_go_one_way(name, path):
    for target in imports(path):
        family = target.split(".")[0]
        if family not in PACKAGES or target in under_type_checking(path) or target == "benchmark":
            continue
        assert layer(target) <= layer(name), f"{name} imports {target}, which stands above it"
        if layer(name) == layer("methods"):
            own = name.split(".")[0]
            assert family in ("benchmark", own), f"{name} imports {target}: {own} stands beside {family}"


def test_leaderboards_load_without_torch():
    import subprocess
    import sys

    code = "import sys, leaderboards.rank, leaderboards.tables; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_quantus_stays_out_of_the_core():
    for name, path in modules():
        if name == "benchmark.crosscheck.references":  # reached by verify-metrics alone
            continue
        assert "quantus" not in {target.split(".")[0] for target in imports(path)}, path
