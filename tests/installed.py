"""Packages as pip leaves them: a folder of modules and one of metadata, on the path."""

from __future__ import annotations

import contextlib
import importlib
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from benchmark.core import identity
from benchmark.plugins import discovery, installed

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "examples" / "plugin"
"""The package to copy."""

METHOD = '''
from dataclasses import dataclass
from benchmark.core.types import METHODS, Method

@METHODS.register("{name}", kind="baseline", modalities=("table",))
@dataclass(frozen=True)
class Mine(Method):
    """{summary}"""

    def prepare(self, task, seed):
        return lambda x, target: x * 2
'''


def method(name="theirs", summary="Twice the row."):
    """Return the source of a module that registers a method."""
    return METHOD.format(name=name, summary=summary)


class Site:
    """A folder of installed packages at the head of the path, until `leave`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tops = folder, set()
        folder.mkdir(exist_ok=True)
        sys.path.insert(0, str(folder))
        self.forget()

    def install(self, name, modules, points, version="1.0"):
        """Install a distribution: sources by path, and entry points as text by group."""
        for path, text in modules.items():
            place = self.folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
            self.tops.add(Path(path).parts[0].removesuffix(".py"))
        for old in self.folder.glob(f"{name.replace('-', '_')}-*.dist-info"):
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "RECORD").write_text("".join(f"{path},,\n" for path in modules))
        lines = [f"[deepfaith_benchmark.{group}]\n{text}\n" for group, text in points.items()]
        (info / "entry_points.txt").write_text("".join(lines))
        self.forget()

    def forget(self):
        """Know of no package, as a new process does."""
        importlib.invalidate_caches()
        for known in (installed.installed, discovery._read, discovery.discover_all, identity.distribution_of,
                      identity._place, identity._file, identity.source_digest):  # fmt: skip
            known.cache_clear()

    def loaded(self):
        """Return which modules of the packages are imported."""
        return {name for name in sys.modules if name.partition(".")[0] in self.tops}

    def leave(self):
        """Take the folder off the path, and forget its modules."""
        sys.path.remove(str(self.folder))
        for name in self.loaded():
            del sys.modules[name]
        self.forget()


@contextlib.contextmanager
def template_installed() -> Iterator[None]:
    """Have the package under examples/plugin on the path, laid out as pip leaves it."""
    project = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["project"]
    points = {
        group.removeprefix(installed.PREFIX): "\n".join(f"{name} = {module}" for name, module in named.items())
        for group, named in project["entry-points"].items()
    }
    modules = {str(path.relative_to(TEMPLATE)): path.read_text() for path in TEMPLATE.glob("example_plugin/*.py")}
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        try:
            site.install(project["name"], modules, points, project["version"])
            yield
        finally:
            site.leave()
