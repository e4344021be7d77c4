"""Registries of methods, tasks, metrics and removals by name: a file registers its own, no other needs an edit.

Names, facts and summaries are read from the source text, so listing them imports nothing. An entry's module is
imported only when the entry is used.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib
import importlib.util
import logging
import re
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from benchmark.core.errors import DataError, UsageError, did_you_mean, short, shown
from benchmark.core.parameters import unusable
from benchmark.core.selection import chosen

T = TypeVar("T")
log = logging.getLogger("benchmark")
OURS = ("benchmark", "methods", "deepfaith")
"""Packages of this program whose source decides what a score is; `leaderboards` only reads records."""
Rule = Callable[[Any], "str | None"]
"""Says what a fact should be where it is not."""


def is_name(text: object) -> bool:
    """Tell whether tasks, methods and metrics may be called so: their names are folders, columns and labels."""
    return isinstance(text, str) and bool(re.fullmatch(r"[\w.+ -]{1,64}", text)) and not set(text) <= {"."}


def a_text(value: Any) -> str | None:
    """Say what is wrong with a fact that should be text."""
    return None if isinstance(value, str) else f"expects text, got {shown(value)}"


def one_of(*words: Any) -> Rule:
    """Return the rule of a fact that is one of `words`."""

    def problem(value: Any) -> str | None:
        return (
            None
            if value in words
            else f"expects one word, got {shown(value)}{did_you_mean(short(value), map(str, words))}"
        )

    return problem


def some_of(*words: str) -> Rule:
    """Return the rule of a fact that is a tuple of some of `words`."""

    def problem(value: Any) -> str | None:
        if not isinstance(value, (tuple, list)):
            return f"expects a tuple such as ({words[0]!r},), got {shown(value)}"
        wrong = next((word for word in value if word not in words), None)
        return None if wrong is None else f"expects known words, got {shown(wrong)}{did_you_mean(short(wrong), words)}"

    return problem


@dataclass(frozen=True)
class Entry:
    """What the source text says of a registered object, without importing it.

    Attributes:
        name: what it is registered as.
        module: the module that registers it.
        summary: the first line of its docstring.
        facts: the keyword arguments of `register`.
        distribution: name and version of the installed package that brings it as a plug-in; empty for ours and files.
    """

    name: str
    module: str
    summary: str
    facts: dict[str, Any]
    distribution: str = ""

    @property
    def built_in(self) -> bool:
        """Tell whether it is ours, and not of a file or package of the user's."""
        return self.module.partition(".")[0] in OURS


class Registry(Generic[T]):
    """Objects by name.

    Args:
        noun: what an object is called in sentences.
        variable: the name under which files import this registry: decorators that spell it are found in source text.
        base: where there is one, objects are dataclasses derived from it, whose parameters all have defaults.
        facts: the rules of the facts that `register` takes, by name; None where any may be given.
        of_file: how one of a file is named, for those who give the file alone.

    Example:
        >>> COLOURS = Registry("colour", "COLOURS", facts={"warm": one_of(True, False)})
        >>> @COLOURS.register("red", warm=True)
        ... def red():
        ...     "The colour of tomatoes."
        >>> COLOURS.names(), COLOURS.entry("red").summary, COLOURS.get("red") is red
        (['red'], 'The colour of tomatoes.', True)
    """

    every: ClassVar[weakref.WeakSet[Registry[Any]]] = weakref.WeakSet()
    """All registries: a file may register in several."""

    def __init__(
        self,
        noun: str,
        variable: str,
        base: type | None = None,
        facts: Mapping[str, Rule] | None = None,
        of_file: str = "",
    ) -> None:
        self.noun, self.variable, self.base, self.facts, self.of_file = noun, variable, base, facts, of_file
        self._entries: dict[str, Entry] = {}
        self._objects: dict[str, T] = {}
        self._checked: dict[str, T] = {}
        Registry.every.add(self)

    def register(self, name: str, **facts: Any) -> Callable[[T], T]:
        """Return a decorator that registers an object and returns it unchanged.

        Where a notebook's cell runs again, or a module is loaded again, what is registered replaces what was.

        Args:
            name: up to 64 letters, digits, spaces, '_', '-', '+' and '.', and not `all`.
            facts: what can be known of the object without importing it, as literals.

        Raises:
            ValueError: another object has the name already.
            UsageError: the name or a fact is not allowed.
        """
        self._check_facts(name, facts)

        def decorate(decorated: T) -> T:
            module = getattr(decorated, "__module__", "")
            known, before = self._entries.get(name), self._objects.get(name)
            again = before is not None and _is_run_again(before, decorated)
            if not again and (before is not None or (known is not None and known.module != module)):
                of = f" ({known.distribution} has one)" if known is not None and known.distribution else ""
                raise ValueError(f"two {self.noun}s are called {name!r}{of}: rename one of them")
            summary = (getattr(decorated, "__doc__", None) or "").strip().splitlines()
            self._objects[name] = decorated
            if known is None or again:
                self._entries[name] = Entry(name, module, summary[0] if summary else "", facts)
            return decorated

        return decorate

    def discover(self, *packages: str) -> None:
        """Read the files of `packages` for registrations, without importing them."""
        for package in packages:
            spec = importlib.util.find_spec(package)
            for folder in (spec.submodule_search_locations or ()) if spec else ():
                for path in sorted(Path(folder).glob("*.py")):
                    for entry in self.entries_in(path, f"{package}.{path.stem}"):
                        other = self._entries.get(entry.name)
                        if other is not None and other.module != entry.module:
                            both = f"{other.module}, {entry.module}"
                            raise ValueError(f"two {self.noun}s are called {entry.name!r}: {both}")
                        self.add(entry)

    def add(self, entry: Entry) -> None:
        """Make an entry known, whose module is imported when it is used; it replaces another of its name."""
        self._entries[entry.name] = entry

    def include(self, path: Path, option: str = "--include") -> types.ModuleType:
        """Import one file of the user's that registers entries, and return the module; see `load_file`.

        Args:
            path: of the file.
            option: that named it, for sentences.

        Raises:
            UsageError: the file fails to import or registers what cannot be used.
            DataError: there is no such file.
        """
        return load_file(path, option, self)

    def entries_in(self, path: Path, module: str) -> list[Entry]:
        """Return an entry for each registration in a file's source text, which is not imported.

        Args:
            path: of the file.
            module: that the file is.

        Raises:
            SyntaxError: the file is no Python.
            ValueError: it is no text, or a fact is no literal.
            UsageError: a name or a fact is not allowed.
        """
        entries = []
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
                        facts = {word.arg: ast.literal_eval(word.value) for word in keywords if word.arg}
                        self._check_facts(name, facts)
                        summary = (ast.get_docstring(node) or "").splitlines()
                        entries.append(Entry(name, module, summary[0] if summary else "", facts))
        return entries

    def names(self) -> list[str]:
        """Return all names in the order of registration: files by name, entries as they stand in them."""
        return list(self._entries)

    def entry(self, name: str) -> Entry:
        """Return what is known of `name` without importing it.

        Raises:
            UsageError: there is no such name; the message suggests the nearest.
        """
        if name not in self._entries:
            hint = f"; {self.of_file}" if self.of_file and name.endswith(".py") else ""
            raise UsageError(f"unknown {self.noun} {name!r}{did_you_mean(name, self._entries)}{hint}")
        return self._entries[name]

    def get(self, name: str) -> T:
        """Return the object called `name`, importing its module if need be.

        Raises:
            UsageError: there is no such name, or what is called so cannot be used.
        """
        entry = self.entry(name)
        if name not in self._objects:
            self._import(entry)
        registered = self._objects[name]
        if self._checked.get(name) is not registered:
            if self.base is not None and (problem := unusable(registered, self.base)) is not None:
                raise UsageError(f"the {self.noun} {name!r} cannot be used: {problem}")
            self._checked[name] = registered
        return registered

    def _import(self, entry: Entry) -> None:
        """Import the module of an entry.

        Raises:
            UsageError: it is a plug-in that fails to import, or does not register what its source says.
        """
        try:
            importlib.import_module(entry.module)
        except (Exception, SystemExit) as error:
            if not entry.distribution:
                raise
            for name in [name for name, other in self._entries.items() if other.module == entry.module]:
                self._objects.pop(name, None)  # what it had registered before it failed
            why = f"{entry.module} fails to import ({type(error).__name__}: {short(error)}); mend or remove the package"
            raise UsageError(f"the {self.noun} {entry.name!r} of {entry.distribution} cannot be used: {why}") from error
        if entry.distribution and entry.name not in self._objects:
            why = f"{entry.module} was imported and did not register it"
            raise UsageError(f"the {self.noun} {entry.name!r} of {entry.distribution} cannot be used: {why}")

    def _can_be_used(self, name: str) -> bool:
        """Tell whether an entry can be used, and say what is wrong with a plug-in that cannot."""
        if self._entries[name].distribution:
            try:
                self.get(name)
            except UsageError as error:
                log.warning(f"left out: {error}")
                return False
        return True

    def matching(self, item: str) -> list[str]:
        """Return the names that one item of a selection means: a name, a glob, a group, or `all`.

        `all` is every entry that belongs to no group. Plug-ins that cannot be used are left out with a warning, unless
        they are named.

        Raises:
            UsageError: it matches nothing.
        """
        if item in self._entries:
            return [item]
        group = None if item == "all" else item
        members = [name for name, entry in self._entries.items() if entry.facts.get("group") == group]
        names = members or [name for name in self._entries if fnmatchcase(name, item)]
        names = names or [self.entry(item).name]  # which raises, with the nearest name
        return [name for name in names if self._can_be_used(name)]

    def select(self, text: str) -> list[str]:
        """Return the names that a selection chooses (see `benchmark.core.selection`), in its order.

        Raises:
            UsageError: an item matches nothing, or nothing is left.
        """
        return chosen(text, self.matching, self.noun)

    def one(self, text: str) -> str:
        """Return the one name that a selection chooses.

        Raises:
            UsageError: it chooses none, or several.
        """
        names = self.select(text)
        if len(names) > 1:
            raise UsageError(f"expected one {self.noun}, got {text!r}, which is {len(names)}: {', '.join(names)}")
        return names[0]

    def _check_facts(self, name: str, facts: Mapping[str, Any]) -> None:
        """Check a name and facts against the rules.

        Raises:
            UsageError: the name or a fact is not allowed.
        """
        if not is_name(name) or name == "all":
            shown = name[:64] if isinstance(name, str) else name
            raise UsageError(
                f"no {self.noun} can be called {shown!r}: expected up to 64 letters, digits, spaces, '_', '-', '+' and "
                "'.', and not 'all'"
            )
        if self.facts is None:
            return
        for key, value in facts.items():
            if key not in self.facts:
                raise UsageError(f"the {self.noun} {name!r}: no fact is called {key!r}{did_you_mean(key, self.facts)}")
            if (problem := self.facts[key](value)) is not None:
                raise UsageError(f"the {self.noun} {name!r}: {key} {problem}")

    def registered_by(self, module: str) -> list[str]:
        """Return the names of the entries that a module registers."""
        return [name for name, entry in self._entries.items() if entry.module == module]

    def forget(self, names: Iterable[str]) -> None:
        """Make names unknown again."""
        for name in names:
            self._entries.pop(name, None)
            self._objects.pop(name, None)


def _is_run_again(before: object, now: object) -> bool:
    """Tell whether two objects come from the same lines: of a notebook or prompt, or of one name in one module."""
    module, name = getattr(now, "__module__", ""), getattr(now, "__qualname__", "")
    if getattr(before, "__module__", "") != module:
        return False
    return module == "__main__" or (name == getattr(before, "__qualname__", "") != "" and "<" not in name)


class _FromSource(SourceFileLoader):
    """Compiles a file anew: stored bytecode goes by size and second, and an edit can leave both as they were."""

    def get_code(self, fullname: str) -> types.CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


_modules: dict[Path, str] = {}
"""The module that each file was run as last."""


def included(stem: str) -> str:
    """Return how the names of modules begin that files of the user's are loaded as."""
    return f"included_{stem}"


def included_from() -> tuple[types.ModuleType, ...]:
    """Return the modules of all files of the user's that this process has loaded."""
    return tuple(sys.modules[name] for name in _modules.values() if name in sys.modules)


def forget_file(path: Path) -> None:
    """Forget a file of the user's and what it registered."""
    module = _modules.pop(path.resolve(), "")
    for registry in Registry.every:
        registry.forget(registry.registered_by(module))


def load_file(path: Path, option: str, used: Registry[Any] | None = None) -> types.ModuleType:
    """Run a Python file of the user's and return the module: once in a process, whatever names it, and after an edit.

    It can import its neighbours: its folder is searched after all others, from now on.

    Args:
        path: of the file.
        option: that named it, for sentences.
        used: what the file registers in this registry is tried; None for trying nothing.

    Raises:
        UsageError: it is no Python file, fails when it is imported, or registers what cannot be used.
        DataError: there is no such file.
    """
    if path.suffix != ".py":
        raise UsageError(f"{option} expects a Python file, got {str(path)!r}: its name must end in .py")
    if not path.is_file():
        raise DataError(f"{option} expects a Python file, got {str(path)!r}: no such file; check the path")
    place = path.resolve()
    digest = hashlib.sha256(str(place).encode() + path.read_bytes()).hexdigest()[:8]
    module = f"{included(path.stem)}_{digest}"  # an edit is another module, for all who remember something of modules
    before = _modules.pop(place, "")
    if module == before and module in sys.modules:
        _modules[place] = module
        return sys.modules[module]
    for registry in Registry.every:
        registry.forget(registry.registered_by(before))
    if (folder := str(path.parent.resolve())) not in sys.path:
        sys.path.append(folder)
    loader = _FromSource(module, str(path))
    spec = importlib.util.spec_from_file_location(module, path, loader=loader)
    assert spec is not None
    sys.modules[module] = loaded = importlib.util.module_from_spec(spec)
    known = {registry: set(registry.names()) for registry in Registry.every}

    def new(registry: Registry[Any]) -> list[str]:
        if registry not in known:  # the file was the first to import it, with what is ours in it
            return [name for name in registry.names() if not registry.entry(name).built_in]
        return [name for name in registry.names() if name not in known[registry]]

    try:
        loader.exec_module(loaded)
        if used is not None:
            for name in new(used):
                used.get(name)
    except (Exception, SystemExit) as error:
        del sys.modules[module]
        for registry in Registry.every:
            registry.forget(new(registry))
        reason = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {short(error, 400)}"
        raise UsageError(f"{option} {path} failed to import: {reason}") from error
    for registry in Registry.every:
        for name in new(registry):  # whoever made the class
            registry.add(dataclasses.replace(registry.entry(name), module=module))
    _modules[place] = module
    return loaded


def load_name(text: str, option: str, form: str) -> Any:
    """Return what a Python file of the user's calls by a name.

    Args:
        text: `FILE.py:NAME`.
        option: that named it, for sentences.
        form: of the text, with an example.

    Raises:
        UsageError: the text has another form, the file has no such name, or it fails when it is imported.
        DataError: there is no such file.
    """
    file, _, name = text.rpartition(":")
    path = Path(file)
    if path.suffix != ".py" or not name.isidentifier():
        raise UsageError(f"{option} expects {form}, got {short(text)!r}")
    names = vars(load_file(path, option))
    if name not in names:
        raise UsageError(f"{option}: {path} has no {name!r}" + did_you_mean(name, [n for n in names if n[0] != "_"]))
    return names[name]
