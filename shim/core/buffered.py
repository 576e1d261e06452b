"""Chunks and events that wait because their text is buffered, until it turns out to be only text."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")


class Buffered(Generic[T]):
    """Things whose texts are buffered, in their order, until as much text has been emitted.

    Attributes:
        is_only_text: Whether the emitted text is that of the things; otherwise some of it was taken out.
    """

    def __init__(self) -> None:
        """Wait for nothing."""
        self._things: deque[tuple[str, T]] = deque()
        self._emitted = ""
        self.is_only_text = True

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._things)

    @property
    def last(self) -> T | None:
        """The last thing that waits; None if nothing does."""
        return self._things[-1][1] if self._things else None

    def add(self, text: str, thing: T) -> None:
        """Add a thing with its text, which may be empty."""
        self._things.append((text, thing))

    def release(self, emitted: str) -> Iterator[tuple[str, T]]:
        """Take text that was emitted, and yield the things whose texts are emitted in full, with these."""
        known, start = self._emitted + emitted, 0
        while self._things and known.startswith(self._things[0][0], start):
            text, thing = self._things.popleft()
            start += len(text)
            yield text, thing
        self._emitted = known[start:]
        if emitted:
            self.is_only_text = (self._things[0][0] if self._things else "").startswith(self._emitted)

    def give_up(self) -> tuple[str, list[T]]:
        """Wait for nothing any more; return the things that waited, and what was emitted of the text of the first."""
        things, self._things = [thing for _, thing in self._things], deque[tuple[str, T]]()
        emitted, self._emitted, self.is_only_text = self._emitted, "", True
        return emitted, things
