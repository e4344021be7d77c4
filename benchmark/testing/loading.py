"""Loads a function of a person's own from FILE.py:FUNCTION."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmark.core.errors import UsageError
from benchmark.core.registry import load_name


def load_function(text: str) -> Callable[..., Any]:
    r"""Return the function that FILE.py:FUNCTION stands for.

    Args:
        text: a Python file and the name of a function, or of anything that can be called, in it.

    Raises:
        UsageError: the text has another form, there is no such name, it cannot be called, or the file fails when it is
            imported.
        DataError: there is no such file.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp(), "mine.py")
        >>> _ = path.write_text("def deletion(x): return 0 * x[:, 0]")
        >>> load_function(f"{path}:deletion").__name__
        'deletion'
    """
    found = load_name(text, "--implementation", "FILE.py:FUNCTION, such as my.py:deletion")
    if not callable(found):
        raise UsageError(f"--implementation {text} is a {type(found).__name__}, expected a function")
    return found
