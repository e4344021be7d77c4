"""A page of prose with parts that a command makes, each between two marks."""

from __future__ import annotations

import re
from pathlib import Path

from benchmark.core.errors import UsageError
from benchmark.core.files import write_atomically


class MarkedPage:
    """A page whose part NAME stands between `<!-- NAME -->` and `<!-- /NAME -->`, each on a line of its own.

    Args:
        option: that names the page, for sentences.
        path: of the page.
        parts: names of the parts that will be put.

    Raises:
        UsageError: it cannot be read, or has no marks of a part.
    """

    def __init__(self, option: str, path: Path, *parts: str) -> None:
        self._option, self._path = option, path
        try:
            self._text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise UsageError(f"cannot read {option} {str(path)!r}: {why}; name a page that is there") from error
        for part in parts:
            if len(_between(part).findall(self._text)) != 1:
                raise UsageError(
                    f"{option} {str(path)!r} has no one place for this: expected a line <!-- {part} --> and after it "
                    f"a line <!-- /{part} -->; add them"
                )

    def __getitem__(self, part: str) -> str:
        """Return what stands in a part."""
        return _between(part).findall(self._text)[0][1].strip()

    def put(self, part: str, content: str) -> None:
        """Put content in the place of what stands in a part."""
        self._text = _between(part).sub(lambda found: f"{found[1]}\n\n{content.strip()}\n\n{found[3]}", self._text)

    def write(self) -> None:
        """Write the page.

        Raises:
            UsageError: it cannot be written.
        """
        try:
            write_atomically(self._path, self._text.encode())
        except OSError as error:
            raise UsageError(f"cannot write {self._option} {str(self._path)!r}: {error.strerror}") from error


def _between(part: str) -> re.Pattern[str]:
    name = re.escape(part)
    return re.compile(rf"^(<!-- {name} -->)$(.*?)^(<!-- /{name} -->)$", re.MULTILINE | re.DOTALL)
