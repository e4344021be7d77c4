"""The entry point of the command line. It handles signals before any large package is imported."""

from __future__ import annotations

import sys

from benchmark.cli.process import end_on_signals, lost_output


def entry() -> None:
    """Run the command line and exit."""
    end_on_signals()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # an arrow that a terminal lacks ends nothing
    from benchmark.cli.parser import main

    code = main(sys.argv[1:])
    end_on_signals()  # nothing is left to interrupt
    if (why := lost_output()) is not None and not isinstance(why, BrokenPipeError):  # a reader may have seen enough
        print(f"error: cannot write the output: {why.strerror}", file=sys.stderr)
        code = code or 1
    sys.exit(code)
