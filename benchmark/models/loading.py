"""Loads a model of a person's own from FILE.py:NAME: an object, a function of a batch, or what builds one of them."""

from __future__ import annotations

import hashlib
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmark.core.errors import DataError, UsageError, describe, did_you_mean, short

WEIGHTS = (".safetensors", ".pt", ".pth", ".pt2", ".bin", ".ckpt", ".onnx", ".h5", ".pkl", ".joblib")
"""Endings of files that hold weights or a serialised model."""


def load_model(text: str) -> Any:
    r"""Return the model that FILE.py:NAME stands for.

    Args:
        text: a Python file and a name in it: of a model (an `nn.Module`, a fitted estimator), of a function that takes
            a batch, or of a class or function without required parameters that returns one of these.

    Raises:
        UsageError: the text has another form, the file has no such name, or it fails when it is imported or called.
        DataError: there is no such file.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "mine.py")
        >>> _ = path.write_text("import torch\ndef build(): return torch.nn.Linear(3, 2)")
        >>> load_model(f"{path}:build")
        Linear(in_features=3, out_features=2, bias=True)
    """
    path, name = _split(text)
    module = _module_name(path)
    with _folder_importable(path.parent):
        found = _import(path, module, name)
        return _built(found, f"--model {text}")


def _split(text: str) -> tuple[Path, str]:
    """Return the file and the name."""
    file, found, name = text.rpartition(":")
    path = Path(file if found else text)
    if path.suffix in WEIGHTS:
        raise UsageError(
            f"--model expects FILE.py:NAME, got {text!r}: such a file holds weights and not what to do with them, or "
            "code that runs as it is read; write a function without parameters that builds the model and loads them"
        )
    if not found or path.suffix != ".py" or not name.isidentifier():
        raise UsageError(f"--model expects FILE.py:NAME, such as my.py:model, got {text!r}")
    if not path.is_file():
        raise DataError(f"--model {text}: no such file as {path}; check the path")
    return path, name


def _module_name(path: Path) -> str:
    """Return a name that no module of another file has."""
    return f"own_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"


@contextmanager
def _folder_importable(folder: Path) -> Iterator[None]:
    """Let the file import its neighbours meanwhile; packages that are installed, and ours, come first."""
    place = str(folder.resolve())
    sys.path.append(place)
    try:
        yield
    finally:
        sys.path.remove(place)


def _import(path: Path, module: str, name: str) -> Any:
    """Run the file, compiled anew, and return what it calls `name`."""
    loaded = types.ModuleType(module)
    loaded.__file__ = str(path)
    sys.modules[module] = loaded  # where what is defined in it looks for its source
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), vars(loaded))
    except (Exception, SystemExit) as error:
        del sys.modules[module]
        why = f"{type(error).__name__}: {short(error)}"
        raise UsageError(f"--model: {path} fails when it is imported ({why}); mend it") from error
    if not hasattr(loaded, name):
        names = [key for key in vars(loaded) if not key.startswith("_")]
        raise UsageError(f"--model: {path} has no {name!r}" + did_you_mean(name, names))
    return getattr(loaded, name)


def _built(found: Any, what: str) -> Any:
    """Return the model, called for where `found` is what builds it."""
    if not callable(found):
        if hasattr(found, "predict_proba"):
            return found
        raise UsageError(f"{what} is a {type(found).__name__}, expected a model, or a function that is or builds one")
    if not _builds(found):
        return found
    try:
        model = found()
    except (Exception, SystemExit) as error:
        raise UsageError(f"{what} fails when it is called without arguments: {describe(error, found)}") from error
    if not callable(model) and not hasattr(model, "predict_proba"):
        raise UsageError(f"{what} takes no arguments and returns a {type(model).__name__}, expected a model")
    return model


def _builds(found: Callable[..., Any]) -> bool:
    """Tell whether this is a class, or a function without required parameters, and no model itself."""
    if isinstance(found, type):
        return True
    if not inspect.isroutine(found):
        return False
    try:
        parameters = inspect.signature(found).parameters.values()
    except ValueError:  # of a built-in, which says nothing of its parameters
        return False
    return all(p.default is not p.empty or p.kind is p.VAR_KEYWORD for p in parameters)
