"""Loads a function of a person's own from FILE.py:FUNCTION."""

from __future__ import annotations

import hashlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark.core.errors import UsageError, did_you_mean, short


def load_function(text: str) -> Callable[..., Any]:
    r"""Return the function that FILE.py:FUNCTION stands for.

    The file can import its neighbours: its folder is searched after all others, from now on.

    Args:
        text: a Python file and the name of a function, or of anything that can be called, in it.

    Raises:
        UsageError: the text has another form, there is no such file or name, it cannot be called, or the file fails
            when it is imported.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "mine.py")
        >>> _ = path.write_text("def deletion(x): return 0 * x[:, 0]")
        >>> load_function(f"{path}:deletion").__name__
        'deletion'
    """
    file, _, name = text.rpartition(":")
    path = Path(file)
    if path.suffix != ".py" or not name.isidentifier():
        raise UsageError(f"--implementation expects FILE.py:FUNCTION, such as my.py:deletion, got {text!r}")
    if not path.is_file():
        raise UsageError(f"--implementation {text}: no such file as {path}; check the path")
    module = f"implementation_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    loaded = types.ModuleType(module)
    loaded.__file__ = str(path)
    if (folder := str(path.parent.resolve())) not in sys.path:
        sys.path.append(folder)
    sys.modules[module] = loaded  # where errors look for the file of a function
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), vars(loaded))
    except (Exception, SystemExit) as error:
        del sys.modules[module]
        why = f"{type(error).__name__}: {short(error)}"
        raise UsageError(f"--implementation: {path} fails when it is imported ({why}); mend it") from error
    found = vars(loaded).get(name)
    if found is None:
        functions = [key for key, value in vars(loaded).items() if callable(value) and not key.startswith("_")]
        raise UsageError(f"--implementation: {path} has no {name!r}" + did_you_mean(name, functions))
    if not callable(found):
        raise UsageError(f"--implementation: {name} of {path} is a {type(found).__name__}, expected a function")
    return found
