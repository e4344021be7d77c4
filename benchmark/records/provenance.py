"""What a record says of how it came about: versions, machine, code."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import resource
import subprocess
import tomllib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "captum", "numpy", "scipy", "pandas", "scikit-learn", "timm")
ROOT = Path(__file__).resolve().parents[2]


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
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        found[package] = importlib.metadata.version(package)
    return found


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


def environment(device: str) -> dict[str, Any]:
    """Return everything about the program and the machine that belongs into a record."""
    import torch

    cuda = device.startswith("cuda")
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": code_digest(),
        "commit": git_commit(),
        "versions": versions(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "peak_bytes": torch.cuda.max_memory_allocated() if cuda
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }  # fmt: skip
