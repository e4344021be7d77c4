"""What a record says of what produced it: data, model, code, machine, versions."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

from benchmark.core.errors import RecordError
from benchmark.core.provenance import UNKNOWN, Checked, DataProvenance, ModelProvenance, Provenance
from benchmark.records.plain import plain_data

P = TypeVar("P", DataProvenance, "Environment", "Packing")
PACKAGES = ("torch", "captum", "numpy", "scipy", "pandas", "scikit-learn", "timm")
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Environment(Checked):
    """The program and the machine that made a record.

    `created` is a time in UTC (ISO 8601), `code` a digest of all source files, `commit` that of the checkout, if any,
    `versions` those of Python and the packages a score may depend on. `device` is the name of the GPU, or cpu;
    `peak_bytes` the most memory that was held on it, or by the process; `engine` is what answered for the
    model where no gradients were asked, and `difference` the largest of a probability from the model's own, on rows
    that both were asked.
    """

    created: str = UNKNOWN
    code: str = UNKNOWN
    commit: str | None = None
    versions: dict[str, Any] = field(default_factory=dict)
    platform: str = UNKNOWN
    cpus: int | None = None
    device: str = UNKNOWN
    threads: int | None = None
    peak_bytes: int | None = None
    engine: str = "eager"
    difference: float = 0.0


@dataclass(frozen=True)
class Packing(Checked):
    """How rows were packed into forwards: rows of one, bytes it may take, how often memory ran out (`halvings`)."""

    rows_per_forward: int | None = None
    byte_budget: int | None = None
    halvings: int | None = None


@dataclass(frozen=True)
class RecordProvenance(Provenance):
    """What a record says of what produced it; `traceback` is that of a cell that failed."""

    environment: Environment = field(default_factory=Environment)
    packing: Packing = field(default_factory=Packing)
    traceback: str = ""

    def plain(self) -> dict[str, Any]:
        """Return this as plain data for JSON, without what is not known; the model's `measures` stand beside the rest.

        Example:
            >>> RecordProvenance(DataProvenance(origin="trial.csv")).plain()["data"]
            {'origin': 'trial.csv'}
        """
        parts, _ = plain_data(asdict(self))
        parts["model"] |= parts["model"].pop("measures")
        return _known({name: _known(part) if isinstance(part, dict) else part for name, part in parts.items()})

    @classmethod
    def from_plain(cls, parts: Mapping[str, Any]) -> Self:
        """Return what `plain` gave.

        Raises:
            RecordError: a part or a value is not what belongs there; the sentence names it.
        """
        names = {each.name for each in fields(cls)}
        if unknown := parts.keys() - names:
            raise RecordError(f"provenance: no record says anything called {min(unknown)!r}")
        for name in names - {"traceback"}:
            if not isinstance(parts.get(name, {}), dict):
                raise RecordError(f"provenance: {name} is {parts[name]!r:.60}, expected names and values")
        try:
            return cls(
                data=_made(DataProvenance, parts.get("data", {})),
                model=ModelProvenance.of(parts.get("model", {})),
                environment=_made(Environment, _of_now(parts.get("environment", {}))),
                packing=_made(Packing, parts.get("packing", {})),
                traceback=parts.get("traceback", ""),
            )
        except TypeError as error:
            raise RecordError(f"provenance: {error}") from error


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that say something."""
    return {name: value for name, value in values.items() if value not in (None, UNKNOWN, "", {})}


def _of_now(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record says of the machine in the words of now: it once said whether torch compiled the model."""
    compiled = {"engine": "compile"} if environment.get("compiled") is True else {}
    return {key: value for key, value in environment.items() if key != "compiled"} | compiled


def _made(kind: type[P], values: dict[str, Any]) -> P:
    """Return an instance of a dataclass whose fields may all be left out."""
    if unknown := values.keys() - {each.name for each in fields(kind)}:
        raise RecordError(f"provenance: no {kind.__name__} says anything called {min(unknown)!r}")
    return kind(**values)


@cache
def code_digest() -> str:
    """Return the SHA-256 of this program's own source files."""
    sha = hashlib.sha256()
    for package in ("benchmark", "methods", "deepfaith"):
        for path in sorted((ROOT / package).rglob("*.py")):
            sha.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return sha.hexdigest()


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages a score may depend on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def checkout() -> Path | None:
    """Return the folder of the checkout this runs from, or None where it is installed."""
    return ROOT if (ROOT / "pyproject.toml").is_file() else None


def version() -> str:
    """Return name and version of this program: those of the checkout, or of the installed distribution."""
    if (root := checkout()) is not None:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return f"{project['name']} {project['version']}"
    name = "deepfaith-benchmark"
    return f"{name} {importlib.metadata.version(name)}"


@cache
def git_commit() -> str | None:
    """Return the commit of the checkout this runs from, with "+changes" if it has any, or None if it is none."""
    if not (ROOT / ".git").exists():
        return None

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False).stdout

    return git("rev-parse", "HEAD").strip() + ("+changes" if git("status", "--porcelain") else "")


def peak_bytes(cuda: bool) -> int:
    """Return the most bytes that this process has held so far, or on its GPU."""
    if cuda:
        import torch

        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts kilobytes


def environment(device: str, engine: str = "eager", difference: float = 0.0) -> Environment:
    """Return what a record made now by this process says of the program and the machine.

    Args:
        device: what the model runs on: cpu or cuda.
        engine: what answers for the model.
        difference: see `Environment`.
    """
    import torch

    cuda = device.startswith("cuda")
    return Environment(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        code=code_digest(),
        commit=git_commit(),
        versions=versions(),
        platform=platform.platform(),
        cpus=os.cpu_count(),
        device=torch.cuda.get_device_name() if cuda else "cpu",
        threads=torch.get_num_threads(),
        peak_bytes=peak_bytes(cuda),
        engine=engine,
        difference=difference,
    )
