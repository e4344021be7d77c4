"""Arguments that several commands share, and the types of their values."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add_out(parser: argparse.ArgumentParser) -> None:
    """Add the folder of records."""
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of records (default: results)")


def add_allow_weak(parser: argparse.ArgumentParser) -> None:
    """Add leave to explain a model that is under its floor."""
    parser.add_argument("--allow-weak-model", action="store_true",
                        help="explain a model whose accuracy is under the task's floor, and say so")  # fmt: skip


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add where data may come from."""
    parser.add_argument("--source", choices=("auto", "real", "synthetic"), default="auto",
                        help="auto: real data where they are found, else the synthetic stand-in")  # fmt: skip
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("BENCHMARK_DATA") or None,
                        help="folder of real data (default: BENCHMARK_DATA)")  # fmt: skip
    parser.add_argument("--offline", action="store_true", help="open no network connection")
    parser.add_argument("--verify", action="store_true", help="refuse data that differ from the pinned version")


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    return _whole(text, 1)


def add_metrics(parser: argparse.ArgumentParser, default: str, what: str) -> None:
    """Add which metrics are meant."""
    parser.add_argument("--metrics", default=default,
                        help=f"names, groups such as ten, globs, all, !name (default: {what})")  # fmt: skip


def natural(text: str) -> int:
    """Parse a whole number of at least 0."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
    return int(text)
