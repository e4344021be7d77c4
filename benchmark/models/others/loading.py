"""Loads a model of a person's own from FILE.py:NAME: an object, a function of a batch, or what builds one of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark.core.errors import UsageError, describe
from benchmark.core.registry import load_name

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
    path = Path(text.rpartition(":")[0] or text)
    if path.suffix in WEIGHTS:
        raise UsageError(
            f"--model expects FILE.py:NAME, got {text!r}: such a file holds weights and not what to do with them, or "
            "code that runs as it is read; write a function without parameters that builds the model and loads them"
        )
    return _built(load_name(text, "--model", "FILE.py:NAME, such as my.py:model"), f"--model {text}")


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
