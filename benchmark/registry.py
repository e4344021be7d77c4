"""Names and what they stand for. A file registers itself; nothing else needs an edit.

Names, facts and summaries are read from the source text, so listing them imports nothing. An entry's module is
imported only when the entry is used.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import fnmatch
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from benchmark.errors import UsageError

T = TypeVar("T")
BY_MODALITY = 0
"""The value of a method's parameter that stands for the default of the task's modality."""


@dataclass(frozen=True)
class Entry:
    """What the source text says of a registered object, without importing it."""

    name: str
    module: str
    summary: str
    facts: dict[str, Any]


class Registry(Generic[T]):
    """Objects by name. `variable` is the name under which files import this registry."""

    def __init__(self, noun: str, variable: str) -> None:
        self.noun, self.variable = noun, variable
        self._entries: dict[str, Entry] = {}
        self._objects: dict[str, T] = {}

    def register(self, name: str, **facts: Any) -> Callable[[T], T]:
        """Register the decorated object under `name`; `facts` must be literals.

        Raises:
            ValueError: another object has the name already.
        """

        def put(thing: T) -> T:
            module = getattr(thing, "__module__", "")
            if name in self._objects or (name in self._entries and self._entries[name].module != module):
                raise ValueError(f"two {self.noun}s are called {name!r}: rename one of them")
            summary = (getattr(thing, "__doc__", None) or "").strip().splitlines()
            self._objects[name] = thing
            self._entries.setdefault(name, Entry(name, module, summary[0] if summary else "", facts))
            return thing

        return put

    def discover(self, *packages: str) -> None:
        """Read the files of `packages` for registrations, without importing them."""
        for package in packages:
            spec = importlib.util.find_spec(package)
            for folder in (spec.submodule_search_locations or ()) if spec else ():
                for path in sorted(Path(folder).glob("*.py")):
                    self._read(path, f"{package}.{path.stem}")

    def include(self, path: Path) -> None:
        """Import one file of the user's that registers entries.

        Raises:
            UsageError: the file is missing or fails to import.
        """
        module = f"included_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
        if module in sys.modules:
            return
        spec = importlib.util.spec_from_file_location(module, path)
        if not path.is_file():
            raise UsageError(f"--include expects a Python file, got {str(path)!r}: no such file")
        if spec is None or spec.loader is None:
            raise UsageError(f"--include expects a Python file, got {str(path)!r}: its name must end in .py")
        sys.modules[module] = loaded = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(loaded)
        except Exception as error:
            del sys.modules[module]
            raise UsageError(f"--include {path} failed to import: {type(error).__name__}: {error}") from error

    def _read(self, path: Path, module: str) -> None:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                continue
            for call in node.decorator_list:
                match call:
                    case ast.Call(
                        func=ast.Attribute(value=ast.Name(id=self.variable), attr="register"),
                        args=[ast.Constant(value=str(name))],
                        keywords=keywords,
                    ):
                        seen = self._entries.get(name)
                        if seen is not None and seen.module != module:
                            raise ValueError(f"two {self.noun}s are called {name!r}: {seen.module}, {module}")
                        facts = {word.arg: ast.literal_eval(word.value) for word in keywords if word.arg}
                        summary = (ast.get_docstring(node) or "").splitlines()
                        self._entries[name] = Entry(name, module, summary[0] if summary else "", facts)

    def names(self) -> list[str]:
        """Return all names in the order of registration: files by name, entries as they stand in them."""
        return list(self._entries)

    def entry(self, name: str) -> Entry:
        """Return what is known of `name` without importing it.

        Raises:
            UsageError: there is no such name; the message suggests the nearest.
        """
        if name not in self._entries:
            raise UsageError(f"unknown {self.noun} {name!r}{did_you_mean(name, self._entries)}")
        return self._entries[name]

    def get(self, name: str) -> T:
        """Return the object called `name`, importing its module if need be.

        Raises:
            UsageError: there is no such name.
        """
        entry = self.entry(name)
        if name not in self._objects:
            importlib.import_module(entry.module)
        return self._objects[name]

    def select(self, patterns: Iterable[str]) -> list[str]:
        """Return the names that `patterns` choose: a name, a glob, a group, `all`, and `!pattern` to take away.

        `all` is every entry that belongs to no group.

        Raises:
            UsageError: a pattern matches nothing.
        """
        patterns = list(patterns)
        chosen: dict[str, None] = {}
        if patterns and all(pattern.startswith("!") for pattern in patterns):
            patterns.insert(0, "all")
        for pattern in patterns:
            word = pattern.removeprefix("!")
            group = None if word == "all" else word
            found = [name for name, entry in self._entries.items() if entry.facts.get("group") == group]
            found = found or fnmatch.filter(self.names(), word)
            if not found:
                self.entry(word)  # raises, with the nearest name
            for name in found:
                if pattern.startswith("!"):
                    chosen.pop(name, None)
                else:
                    chosen[name] = None
        return list(chosen)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of an error sentence: the nearest known name, then all of them."""
    known = list(known)
    lowered = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), lowered, n=1)
    hint = f"; did you mean {lowered[near[0]]!r}?" if near else ";"
    return f"{hint} known: {', '.join(known)}"


def bounded(default: Any, low: float | None = None, high: float | None = None, among: tuple[Any, ...] = ()) -> Any:
    """Return a dataclass field whose value, when given on the command line, must lie in a range or a set."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "among": among})


def configure(cls: type[T], name: str, given: dict[str, str]) -> T:
    """Build the frozen dataclass `cls` from text parameters, checked for name, type and range.

    Raises:
        UsageError: an unknown parameter, a value of another type, or one out of range.
    """
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, text in given.items():
        if key not in fields:
            raise UsageError(f"{name} has no parameter {key!r}{did_you_mean(key, fields)}")
        field = fields[key]
        values[key] = _parse(name, key, text, type(field.default))
        low, high = field.metadata.get("low"), field.metadata.get("high")
        among = field.metadata.get("among") or ()
        if among and values[key] not in among:
            raise UsageError(f"{name}[{key}] expects one of {', '.join(map(str, among))}, got {text!r}")
        if (low is not None and values[key] < low) or (high is not None and values[key] > high):
            span = f"at least {low}" if high is None else f"at most {high}" if low is None else f"{low} to {high}"
            raise UsageError(f"{name}[{key}] expects {span}, got {text}")
    return cls(**values)


def filled(method: Any, usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return a modality's `usual` settings, with the parameters of `method` in their place that are given."""
    given = {key: getattr(method, key, BY_MODALITY) for key in usual}
    return dict(usual) | {key: value for key, value in given.items() if value != BY_MODALITY}


def _parse(name: str, key: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
    else:
        try:
            return kind(text)
        except ValueError:
            pass  # falls through to the one message below
    wanted = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, kind.__name__)
    raise UsageError(f"{name}[{key}] expects {wanted}, got {text!r}")
