"""Checks, what they find, and findings as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Generic, Literal, TypeVar

from benchmark.core.errors import BenchmarkError, describe

S = TypeVar("S")
Verdict = Literal["ok", "wrong", "note"]


class Untried(Exception):  # noqa: N818 - no error: a note
    """What a check raises where it does not apply, with the reason."""


@dataclass(frozen=True)
class Finding:
    """What one check found in one place.

    Attributes:
        verdict: `ok`; `wrong`; or `note`, for what is no fault: a check that does not apply, or news.
        holds: what holds if all is well.
        found: what is wrong or to be noted, and what to do; empty where all is well.
        place: on which task it was tried; empty where it was on none.
    """

    verdict: Verdict
    holds: str
    found: str = ""
    place: str = ""


@dataclass(frozen=True)
class Check(Generic[S]):
    """A function that returns what is wrong, or None where what `holds` says does hold.

    `vital` checks end the suite where they fail: the others could only say the same again.
    """

    holds: str
    test: Callable[[S], str | None]
    vital: bool = False


class Checks(Generic[S]):
    """The checks of one kind of subject, in the order in which they are tried.

    Example:
        >>> POSITIVE: Checks[int] = Checks()
        >>> @POSITIVE.add("is at least 0")
        ... def at_least_0(number):
        ...     return None if number >= 0 else f"expected at least 0, got {number}"
        >>> [finding.verdict for number in (3, -3) for finding in POSITIVE.tried(number)]
        ['ok', 'wrong']
    """

    def __init__(self) -> None:
        self.checks: list[Check[S]] = []

    def add(self, holds: str, *, vital: bool = False) -> Callable[[Callable[[S], str | None]], Callable[..., Any]]:
        """Return a decorator that adds a check; see `Check`."""

        def decorate(test: Callable[[S], str | None]) -> Callable[[S], str | None]:
            self.checks.append(Check(holds, test, vital))
            return test

        return decorate

    def tried(self, subject: S, place: str = "", made: Callable[..., Any] | None = None) -> Iterator[Finding]:
        """Yield what each check finds.

        Args:
            subject: what is checked.
            place: what it is tried on.
            made: the class or function that is at fault where a check raises, for the line in its file.
        """
        for check in self.checks:
            finding = _tried(check, subject, place, made)
            yield finding
            if check.vital and finding.verdict != "ok":
                return


def _tried(check: Check[S], subject: S, place: str, made: Callable[..., Any] | None) -> Finding:
    try:
        found = check.test(subject)
    except Untried as why:
        return Finding("note", check.holds, str(why), place)
    except BenchmarkError as error:
        found = str(error)
    except (Exception, SystemExit) as error:  # of what is checked: it is what was looked for
        found = f"raises {describe(error, made or check.test)}"
    return Finding("ok", check.holds, "", place) if found is None else Finding("wrong", check.holds, found, place)


@dataclass(frozen=True)
class Findings:
    """All findings about one subject, such as `method 'lime'`."""

    subject: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Tell whether nothing is wrong."""
        return not any(finding.verdict == "wrong" for finding in self.findings)

    def problems(self) -> list[str]:
        """Return what is wrong, one sentence each."""
        return [finding.found for finding in self.findings if finding.verdict == "wrong"]

    def plain(self) -> dict[str, Any]:
        """Return this as plain data for JSON."""
        findings = [asdict(finding) for finding in self.findings]
        return {"subject": self.subject, "passed": self.passed, "findings": findings}

    def text(self) -> str:
        """Return one line a finding, those of several places together where they say the same, and the counts."""
        lines: dict[tuple[str, str, str], list[str]] = {}
        for finding in self.findings:
            lines.setdefault((finding.verdict, finding.holds, finding.found), []).append(finding.place)
        table = [_line(verdict, holds, found, places) for (verdict, holds, found), places in lines.items()]
        counts = {verdict: sum(f.verdict == verdict for f in self.findings) for verdict in ("ok", "wrong", "note")}
        last = f"{self.subject}: {counts['ok']} ok, {counts['wrong']} wrong, {counts['note']} noted"
        return "\n".join([*table, last])


def _line(verdict: str, holds: str, found: str, places: Iterable[str]) -> str:
    where = ", ".join(filter(None, places))
    return f"{verdict:<5}  {holds}" + (f" [{where}]" if where else "") + (f": {found}" if found else "")
