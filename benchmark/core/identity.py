"""Digests of what a number was computed from: weights, rows and source code.

They are taken of the objects themselves, because names, settings and files can stay the same while what they stand for
changes.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import sys
import types
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import DataError, UsageError
from benchmark.core.registry import OURS
from benchmark.core.seeding import seed_for

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmark.core.types import Method, Modality, Removal, Split, Task

CHANGED = {
    "data": "the data changed",
    "model": "the model has other weights or other code",
    "task": "the task's budget or its way to remove features changed",
    "code": "its code changed",
    "distribution": "it comes from another distribution or version",
}
"""What a record's identity holds, and what is said where a part of it is no longer the same."""


def task_identity(task: Task) -> dict[str, str]:
    """Return digests of a task's rows (`data`), of its model (`model`) and of what is asked of it (`task`)."""
    return {
        "data": rows_digest(task.train, task.test),
        "model": model_digest(task.model, rows_near(task, task.train, task.test)),
        "task": settings_digest(task),
    }


def method_identity(method: Method, modality: Modality, registered: str = "") -> dict[str, str]:
    """Return the digest of a method's source (`code`) and where it was installed from (`distribution`).

    Args:
        method: with its parameters, which are no part of this.
        modality: of the task; what a method learns from may depend on it.
        registered: the module that registers the method, where that is another than its class says it is from.

    Returns:
        `distribution` is the name and version of the installed distribution that a plug-in comes from, and empty for
        this program's own methods and for files.

    Raises:
        UsageError: the method's source cannot be read.
    """
    code = method_digest(method, modality, registered)
    return {"code": code, "distribution": distribution_of(type(method).__module__)}


def what_changed(before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """Return the sentence for the first part of an identity that is not the same, or None where all are."""
    part = next((part for part in CHANGED if before.get(part) != now.get(part)), None)
    if part != "distribution":
        return None if part is None else CHANGED[part]
    return f"{CHANGED[part]} ({before.get(part) or 'none'} then, {now.get(part) or 'none'} now)"


def tensors_digest(named: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors: names, types, shapes and contents, in the order of the names."""
    import torch

    sha = hashlib.sha256()
    for name in sorted(named):
        tensor = named[name].detach().cpu().contiguous()
        if tensor.numel() == 1:  # of one number any stride passes for contiguous, and not every one can be viewed
            tensor = tensor.clone(memory_format=torch.contiguous_format)
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(memoryview(tensor.flatten().view(torch.uint8).numpy()))  # type: ignore[arg-type]
    return sha.hexdigest()


def model_digest(model: nn.Module, rows: Iterable[Tensor]) -> str:
    """Return a digest of a model's parameters, buffers, settings of each layer, and of the code of its layers.

    Settings are the mode and all public attributes that are plain data or tensors: a stride, a temperature. Layers of
    installed packages (torch, timm) count by the names of their classes alone. A model that holds something which
    cannot be read (a script, a quantised layer, an estimator, a function) counts by its answers, too, to the last bit.

    Args:
        model: the model.
        rows: batches of inputs (n, ...) that are asked where the model cannot be read; see `rows_near`.
    """
    state = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    layers = []
    for name, module in model.named_modules():
        settings, tensors = layer_settings(module)
        functions = sorted((key, _name_of(value)) for key, value in vars(module).items() if _name_of(value))
        layer = [name, type(module).__qualname__, [(key, repr(settings[key])) for key in sorted(settings)]]
        layers.append([*layer, functions] if functions else layer)
        state |= {f"{name}.{key}": tensor for key, tensor in tensors.items()}
    modules = sorted({type(module).__module__ for module in model.modules()})
    parts = [tensors_digest(state), layers, [source_digest(module) for module in modules if _counts(module)]]
    if any(map(_is_opaque, model.modules())) or any(map(_is_hooked, model.children())):
        parts.append(_answers(model, rows))
    return _hash(parts)


ASKED = 256  # rows of each split that a model is asked about where it cannot be read
BATCH = 32  # of them at a time


def rows_near(task: Task, *splits: Split) -> Iterator[Tensor]:
    """Yield batches of what an evaluation asks about, and of what lies near it.

    They are the first rows of each split, these with features of rows of the first split in place of their own, and
    these with features removed. Which features is drawn, alike on every machine.

    Args:
        task: says what a feature is, and how it is removed.
        splits: training rows first.
    """
    import torch

    generator = torch.Generator().manual_seed(seed_for(0, "rows near"))
    removal = task.removal
    for split in splits:
        pool = splits[0].x if len(splits[0].x) and splits[0].x.shape[1:] == split.x.shape[1:] else split.x
        for x in split.x[:ASKED].split(BATCH) if len(split.x) else ():
            others = pool[torch.randint(len(pool), (len(x),), generator=generator).to(pool.device)]
            drawn = torch.randint(2, (2, len(x), task.n_features), generator=generator).bool().to(x.device)
            real = removal.valid(x)
            yield x.clone()
            yield others.where(removal.expand(drawn[0] & real & removal.valid(others)), x)
            yield task.remove(x, drawn[1] & real)


def _answers(model: nn.Module, rows: Iterable[Tensor]) -> list[str]:
    """Return a digest of a model's answers to each batch, all their digits.

    Raises:
        DataError: it answers something else than a tensor.
    """
    import torch

    digests = []
    with torch.no_grad(), _one_thread_each():
        for x in rows:
            given = model.forward(x)
            if not isinstance(given, torch.Tensor):
                raise DataError(f"a model must give a tensor of logits (batch, classes), got {type(given).__name__}")
            digests.append(tensors_digest({"answers": given}))
    return digests


def _one_thread_each() -> AbstractContextManager[Any]:
    """Let estimators sum in one order meanwhile: the threads of a forest add up its trees as they happen to end."""
    joblib = sys.modules.get("joblib")
    return nullcontext() if joblib is None else joblib.parallel_config(backend="sequential")


def _is_opaque(module: nn.Module) -> bool:
    """Tell whether a layer's answers may follow from something that `model_digest` does not see.

    Layers of torch and timm hold lists of their own weights, weak references and private settings; in anybody else's
    these may hold what the answers follow from.
    """
    import torch

    kind = type(module)
    if isinstance(module, (torch.jit.ScriptModule, torch.fx.GraphModule)) or "quantized" in kind.__module__:
        return True
    theirs = kind.__module__.partition(".")[0] in INSTALLED
    if not theirs and ("<locals>" in kind.__qualname__ or _is_unread(kind.__module__)):
        return True
    attributes = {name: value for name, value in vars(module).items() if name not in vars(torch.nn.Module())}
    return not all(_is_read(name, value, theirs) for name, value in attributes.items())


def _is_hooked(module: nn.Module) -> bool:
    """Tell whether hooks may change what a layer, or one in it, gives; a meter's stand on the model itself."""
    return any(layer._forward_hooks or layer._forward_pre_hooks for layer in module.modules())


INSTALLED = ("torch", "timm")
"""Packages whose layers are known by the names of their classes."""


def _is_read(name: str, value: object, theirs: bool) -> bool:
    """Tell whether `model_digest` sees all of an attribute, or may pass over it in a layer of theirs."""
    import torch

    if isinstance(value, (torch.Tensor, torch.nn.Module, torch.device, torch.dtype)) or _is_plain(value):
        return theirs or not name.startswith("_")
    if name == "_compiled_call_impl" or _name_of(value):
        return True
    if type(value).__module__.partition(".")[0] in (*INSTALLED, "weakref"):
        return theirs and not callable(value)
    items = value if theirs and isinstance(value, (list, tuple)) else (None,)
    return all(isinstance(item, (torch.Tensor, weakref.ref, str)) for item in items)


def _name_of(value: object) -> str:
    """Return the name of a function or class of torch or timm that says all of it, and of others nothing."""
    if not isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        return ""
    owner = getattr(value, "__self__", None)  # of a built-in: a module, or the class that holds torch's own
    known = getattr(value, "__module__", None) or getattr(owner, "__name__", None) or ""
    whole = f"{known}.{value.__qualname__}"
    return whole if known.partition(".")[0].lstrip("_") in INSTALLED and "<" not in whole else ""


def _is_unread(module: str) -> bool:
    """Tell whether a module's source is nowhere to be read: a notebook's, a prompt's."""
    return module == "__main__" and _file(module) is None


def layer_settings(module: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a layer's public attributes that are plain data, its mode among them, and those that are tensors."""
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    plain = {name: value for name, value in public.items() if _is_plain(value)}
    return plain, {name: value for name, value in public.items() if hasattr(value, "untyped_storage")}


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
    """Return a digest of what a task asks of a model: modality, budget, target, removal, planted evidence.

    Raises:
        DataError: the removal holds something that is neither a tensor nor plain data.
    """
    plain, tensors = removal_state(task.removal)
    tensors |= {} if task.evidence is None else {"evidence": task.evidence}
    kind, settings = type(task.removal), {name: repr(value) for name, value in plain.items()}
    words: list[Any] = [task.modality, asdict(task.budget), kind.__qualname__, settings, list(task.class_names)]
    words += [_code(kind)] if task.spatial is None else [_code(kind), task.spatial]
    target = task.target if isinstance(task.target, (str, int)) else tensors_digest({"target": task.target})
    return _hash([*words, *([] if target == "predicted" else [["target", target]]), tensors_digest(tensors)])


def _code(cls: type) -> str:
    """Return the digest of the source of a class's module, or nothing where it is no part of what computes a number."""
    return source_digest(cls.__module__) if _counts(cls.__module__) else ""


def removal_state(removal: Removal) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what a removal holds, and what a removal in it holds: plain data and tensors, each by name.

    Raises:
        DataError: something in it is neither.
    """
    named: dict[str, Any] = {f.name: getattr(removal, f.name) for f in fields(removal)} if is_dataclass(removal) else {}
    named |= vars(removal)  # what a subclass adds, too
    for name, inner in [(name, value) for name, value in named.items() if is_dataclass(value)]:
        for held in removal_state(inner):  # type: ignore[arg-type]
            named |= {f"{name}.{key}": value for key, value in held.items()}
        named[name] = [type(inner).__qualname__, _code(type(inner))]
    tensors = {name: value for name, value in named.items() if hasattr(value, "untyped_storage")}
    plain = {name: value for name, value in named.items() if name not in tensors}
    for name, value in plain.items():
        if not _is_plain(value):
            raise DataError(
                f"{type(removal).__name__}.{name} is a {type(value).__name__}: a removal may hold tensors, numbers and "
                "text alone, or a result could not be bound to it"
            )
    return plain, tensors


def training_digest(task: Task) -> str:
    """Return a digest of all of a task that an explainer is trained from: all but its test rows."""
    model = model_digest(task.model, rows_near(task, task.train))
    return _hash([task.name, task.source, rows_digest(task.train), model, settings_digest(task)])


def method_digest(method: Method, modality: Modality, registered: str = "") -> str:
    """Return a digest of a method's source, of what it inherits from, and of the methods it learns from."""
    uses = [type(other) for other in method.learns_from(modality)]
    return _hash([type(method).__qualname__, _sources(type(method), registered), *sorted(map(_sources, uses))])


def metric_digest(metric: object, registered: str) -> str:
    """Return a digest of the source of a metric, of its probe, and of the module that registers it."""
    probe = getattr(metric, "probe", None)
    return _hash([_sources(type(metric), registered), [] if probe is None else _sources(type(probe))])


def _sources(cls: type, registered: str = "") -> list[str]:
    """Return the digests of the source of a class, of its bases and of the module that registers it."""
    counted = {base.__module__ for base in cls.__mro__ if _counts(base.__module__)}
    return sorted(map(source_digest, counted | {registered or cls.__module__}))


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
    top, digests, to_read = module.partition(".")[0], dict[str, str](), [module]
    while to_read:
        name = to_read.pop()
        if name in digests:
            continue
        path = _file(name)
        if path is None:
            raise UsageError(f"the source of {name!r} cannot be read: a result must be bound to the code that made it")
        tree = ast.parse(path.read_bytes())
        digests[name] = _hash(_plain(tree))
        to_read += [other for other in _imports(tree, name) if _counts(other, top) and _file(other) is not None]
    root = digests.pop(module)  # by its content: the file of a person is not called as it was on another machine
    return _hash([root, sorted(digests.items())])


def _counts(module: str, top: str = "") -> bool:
    """Tell whether a module's source belongs to what computed a number: ours, that of package `top`, or a person's."""
    head = module.partition(".")[0]
    if head in (*OURS, top):
        return True
    if head in sys.stdlib_module_names:
        return False
    place = _place(head)  # of the package: to look for a part of it would import it
    return place is not None and not {"site-packages", "dist-packages"} & set(place.parts)


@cache
def _place(head: str) -> Path | None:
    """Return where a package or module of this name is, without importing it, or None where there is no file."""
    loaded = sys.modules.get(head)
    try:
        spec = importlib.util.find_spec(head) if loaded is None else getattr(loaded, "__spec__", None)
    except (ImportError, ValueError):
        return None
    places = [getattr(loaded, "__file__", None), getattr(spec, "origin", None)]
    places += list(getattr(spec, "submodule_search_locations", None) or ())
    return next((Path(place).resolve() for place in places if place and Path(place).exists()), None)


@cache
def _file(module: str) -> Path | None:
    """Return the source file of a module that counts, or None where there is none.

    A part of a package that is not loaded imports the package: `_counts` says first whether it is ours to read.
    """
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
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            if node.level:
                path = _file(module)
                parts = module.split(".")
                drop = node.level - (path is not None and path.name == "__init__.py")
                start = ".".join([*parts[: len(parts) - drop], *([node.module] if node.module else [])])
            yield from _with_parents(start)
            yield from (f"{start}.{alias.name}" for alias in node.names)


def _with_parents(module: str) -> Iterator[str]:
    """Yield a module and the packages that it is in, which are imported before it."""
    parts = module.split(".")
    yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those under `if TYPE_CHECKING`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).rpartition(".")[2] == "TYPE_CHECKING":
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
