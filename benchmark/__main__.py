"""Runs the command line: `python -m benchmark`."""

from benchmark.cli.start import entry

entry()
