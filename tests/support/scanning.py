"""Putting a text through the scanner of calls, whole and in pieces, and counting what that takes."""

import contextlib
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from shim.core import call_forms, call_text, literals, quoting, reasoning, surroundings
from shim.core.call_forms import Call
from shim.core.call_text import CallScanner
from shim.core.dialects import DIALECTS

ROOMY = 10**7


def in_pieces(text: str, size: int) -> list[str]:
    """Cut a text into pieces of a size."""
    return [text[at : at + size] for at in range(0, len(text), size)]


def joined(found: Iterable[str | Call]) -> list[str | Call]:
    """Join adjacent texts, so that what was found can be compared whatever the cuts were."""
    out: list[str | Call] = []
    for each in found:
        if isinstance(each, str) and out and isinstance(out[-1], str):
            out[-1] += each
        else:
            out.append(each)
    return out


def scan(
    pieces: Iterable[str], tools: Mapping[str, Mapping[str, Any]], limit: int = ROOMY
) -> tuple[list[str | Call], int]:
    """Put pieces through a scanner; gives what is found, and how many calls were of no declared function."""
    scanner = CallScanner(tools, limit=limit)
    found = [each for piece in pieces for each in scanner.feed(piece)]
    found += scanner.finish()
    return joined(found), scanner.take_undeclared()


def most_buffered(text: str, tools: Mapping[str, Mapping[str, Any]]) -> int:
    """Put a text through a scanner character by character; gives the most characters that it has buffered."""
    scanner = CallScanner(tools, limit=ROOMY)
    most, emitted = 0, 0
    for fed, char in enumerate(text, 1):
        emitted += sum(len(each) for each in scanner.feed(char) if isinstance(each, str))
        most = max(most, fed - emitted)
    return most


class _Counting:
    """A compiled pattern that counts the characters that it visits."""

    def __init__(self, pattern: re.Pattern[str], visits: list[int]) -> None:
        self._wrapped = pattern
        self._visits = visits
        self.pattern = pattern.pattern

    def _count(self, text: str, at: int, found: re.Match[str] | None, *, searched: bool) -> re.Match[str] | None:
        end = found.end() if found else len(text) if searched else at
        self._visits[0] += 1 + max(0, end - at)
        return found

    def match(self, text: str, at: int = 0) -> re.Match[str] | None:
        return self._count(text, at, self._wrapped.match(text, at), searched=False)

    def search(self, text: str, at: int = 0) -> re.Match[str] | None:
        return self._count(text, at, self._wrapped.search(text, at), searched=True)

    def fullmatch(self, text: str) -> re.Match[str] | None:
        return self._count(text, 0, self._wrapped.fullmatch(text), searched=True)

    def sub(self, *arguments: Any, **options: Any) -> str:
        return self._wrapped.sub(*arguments, **options)


@contextlib.contextmanager
def counted_visits() -> Iterator[list[int]]:
    """Count the characters that the patterns of the scanner visit, within a block."""
    visits = [0]

    def counting(value: Any) -> Any:
        if isinstance(value, re.Pattern):
            return _Counting(value, visits)
        if isinstance(value, dict) and any(isinstance(each, re.Pattern) for each in value.values()):
            return {key: counting(each) for key, each in value.items()}
        return value

    with pytest.MonkeyPatch.context() as patch:
        for module in (call_forms, call_text, literals, quoting, reasoning, surroundings):
            for name, value in vars(module).items():
                if (replaced := counting(value)) is not value:
                    patch.setattr(module, name, replaced)
        closing = call_text.closing_of
        patch.setattr(call_text, "closing_of", lambda *found: _Counting(closing(*found), visits))
        for name in ("all", "inside"):
            patch.setattr(call_text.STOPS, name, _Counting(getattr(call_text.STOPS, name), visits))
        yield visits


def steps(pieces: Sequence[str], tools: Mapping[str, Mapping[str, Any]]) -> int:
    """Put pieces through a scanner; gives the characters that its patterns visit and the calls that it makes."""
    calls = 0

    def count(_frame: types.FrameType, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    for dialect in DIALECTS:
        call_text.closing_of(dialect, frozenset())  # compiled once in a program
    with counted_visits() as visits:
        scanner = CallScanner(tools, limit=ROOMY)
        previous = sys.getprofile()
        sys.setprofile(count)
        try:
            for piece in pieces:
                scanner.feed(piece)
            scanner.finish()
        finally:
            sys.setprofile(previous)
    return visits[0] + calls
