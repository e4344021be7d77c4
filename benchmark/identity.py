"""What computed a number: digests of weights, of rows and of source code, taken from the things themselves.

Names, settings and files can stay as they are while what they stand for changes; nothing here trusts them.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmark.types import Method, Modality, Split, Task

OURS = ("benchmark", "methods", "deepfaith")
"""Packages whose source counts; `leaderboards` only reads records."""
CHANGED = {
    "data": "the data changed",
    "model": "the model has other weights or other code",
    "task": "the task's budget or its way to remove features changed",
    "code": "its code changed",
    "distribution": "it comes from another distribution",
}
"""What a record's identity holds, and what is said where a part of it is no longer the same."""


def task_identity(task: Task) -> dict[str, str]:
    """Return digests of a task's rows (`data`), of its model (`model`) and of what is asked of it (`task`)."""
    return {
        "data": rows_digest(task.train, task.test),
        "model": model_digest(task.model),
        "task": settings_digest(task),
    }


def method_identity(method: Method, modality: Modality) -> dict[str, str]:
    """Return the digest of a method's source (`code`) and where it was installed from (`distribution`).

    Args:
        method: with its parameters, which are no part of this.
        modality: of the task; what a method learns from may depend on it.

    Returns:
        `distribution` is the name and version of the installed distribution that a plug-in comes from, and empty for
        this program's own methods and for files.

    Raises:
        UsageError: the method's source cannot be read.
    """
    code = method_digest(method, modality)
    return {"code": code, "distribution": distribution_of(type(method).__module__)}


def what_changed(before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """Return the sentence for the first part of an identity that is not the same, or None where all are."""
    return next((said for part, said in CHANGED.items() if before.get(part) != now.get(part)), None)


def tensors_digest(named: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors: names, types, shapes and contents, in the order of the names."""
    import torch

    sha = hashlib.sha256()
    for name in sorted(named):
        tensor = named[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(memoryview(tensor.flatten().view(torch.uint8).numpy()))  # type: ignore[arg-type]
    return sha.hexdigest()


def model_digest(model: nn.Module) -> str:
    """Return a digest of a model's parameters, buffers, settings of each layer, and of the code of its layers.

    Settings are the mode and all public attributes that are plain data: a stride, a temperature. Layers of installed
    packages (torch, timm) count by the names of their classes alone.
    """
    state = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    layers = [[name, type(module).__qualname__, _settings(module)] for name, module in model.named_modules()]
    modules = sorted({type(module).__module__ for module in model.modules()})
    code = [source_digest(module) for module in modules if _counts(module)]
    return _hash([tensors_digest(state), layers, code])


def _settings(module: nn.Module) -> list[tuple[str, str]]:
    """Return a layer's mode and its public attributes that are plain data, by name."""
    public = {name: value for name, value in vars(module).items() if not name.startswith("_") and _is_plain(value)}
    return [(name, repr(public[name])) for name in sorted(public)]


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, [*value, *value.values()]))
    return value is None or type(value) in (bool, int, float, complex, str, bytes)


def rows_digest(*splits: Split) -> str:
    """Return a digest of inputs and labels."""
    return _hash([tensors_digest({"x": split.x, "y": split.y}) for split in splits])


def settings_digest(task: Task) -> str:
    """Return a digest of what a task asks of a model: modality, budget, how features are removed, planted evidence."""
    removal = task.removal
    state = {f.name: getattr(removal, f.name) for f in fields(removal)} if is_dataclass(removal) else vars(removal)
    evidence = {} if task.evidence is None else {"evidence": task.evidence}
    tensors = {name: value for name, value in state.items() if hasattr(value, "detach")} | evidence
    plain = {name: repr(value) for name, value in state.items() if name not in tensors}
    kind = type(removal)
    code = source_digest(kind.__module__) if _counts(kind.__module__) else ""
    words = [task.modality, asdict(task.budget), kind.__qualname__, plain, list(task.class_names), code]
    return _hash([*words, tensors_digest(tensors)])


def training_digest(task: Task) -> str:
    """Return a digest of all of a task that an explainer is trained from: all but its test rows."""
    return _hash([task.name, task.source, rows_digest(task.train), model_digest(task.model), settings_digest(task)])


def method_digest(method: Method, modality: Modality) -> str:
    """Return a digest of a method's source, and of that of the methods it learns from."""
    cls = type(method)
    uses = sorted({type(other).__module__ for other in method.learns_from(modality)})
    return _hash([cls.__qualname__, source_digest(cls.__module__), [source_digest(module) for module in uses]])


@cache
def distribution_of(module: str) -> str:
    """Return name and version of the installed distribution that holds `module`; empty for our own and for files."""
    top = module.partition(".")[0]
    if top in OURS:
        return ""
    names = importlib.metadata.packages_distributions().get(top, ())
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in sorted(set(names)))


@cache
def source_digest(module: str) -> str:
    """Return a digest of a module's source and of all that it imports of this program or of its own package.

    Comments, docstrings and layout play no part. Imports inside functions count, those for type checking do not.

    Raises:
        UsageError: the module has no readable source.
    """
    top, seen, left = module.partition(".")[0], dict[str, str](), [module]
    while left:
        name = left.pop()
        if name in seen:
            continue
        path = _file(name)
        if path is None:
            raise UsageError(f"the source of {name!r} cannot be read: a result must be bound to the code that made it")
        tree = ast.parse(path.read_bytes())
        seen[name] = _hash(_plain(tree))
        left += [other for other in _imports(tree, name) if _counts(other, top) and _file(other) is not None]
    root = seen.pop(module)  # by its content: the file of a person is not called as it was on another machine
    return _hash([root, sorted(seen.items())])


def _counts(module: str, top: str = "") -> bool:
    """Tell whether a module's source belongs to what computed a number: ours, that of package `top`, or a person's."""
    head = module.partition(".")[0]
    if head in (*OURS, top):
        return True
    if head in sys.stdlib_module_names:
        return False
    path = _file(module)
    return path is not None and not {"site-packages", "dist-packages"} & set(path.parts)


@cache
def _file(module: str) -> Path | None:
    """Return a module's source file without importing it, or None where there is none."""
    loaded = sys.modules.get(module)
    origin = getattr(loaded, "__file__", None)
    if origin is None and loaded is None:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError, AttributeError):
            return None
        origin = spec.origin if spec is not None else None
    path = Path(origin).resolve() if origin else None
    return path if path is not None and path.suffix == ".py" and path.is_file() else None


def _imports(tree: ast.AST, module: str) -> Iterator[str]:
    """Yield the modules that source imports when it runs; names taken from a package may be modules, too."""
    for node in _running(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            if node.level:
                path = _file(module)
                parts = module.split(".")
                drop = node.level - (path is not None and path.name == "__init__.py")
                start = ".".join([*parts[: len(parts) - drop], *([node.module] if node.module else [])])
            yield start
            yield from (f"{start}.{alias.name}" for alias in node.names)


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those under `if TYPE_CHECKING`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for other in child.orelse:
                yield from _running(other)
        else:
            yield from _running(child)


def _plain(node: Any) -> Any:
    """Return syntax as nested lists without docstrings and places; the same for every version of Python."""
    if isinstance(node, ast.AST):
        parts = [(name, _plain(value)) for name, value in ast.iter_fields(node) if value not in (None, [])]
        return [type(node).__name__, *parts]
    if isinstance(node, list):
        return [_plain(item) for item in node if not _is_text(item)]
    return repr(node)


def _is_text(node: Any) -> bool:
    """Tell whether a statement is a bare string, which does nothing: a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _hash(plain: Any) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
