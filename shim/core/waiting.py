"""Calls that may still turn out to be text, and the text after them, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shim.core.call_forms import Call


class Doubt(Enum):
    """What would show that something is text after all."""

    NONE = auto()
    SPACE = auto()  # text follows directly, or no call is beside it: white space
    LOOSE = auto()  # no call follows directly: a lone opening, a special token
    LINE = auto()  # text follows on the same line
    LAST = auto()  # text follows
    THOUGHT = auto()  # the message began within a thought, which ends later


_DOUBTS_OF_TEXT = (Doubt.SPACE, Doubt.LOOSE, Doubt.LINE, Doubt.LAST)


@dataclass(slots=True)
class _Entry:
    """A part of the message.

    Attributes:
        raw: The text as it was written.
        doubt: Why it waits.
        calls: What leaves in place of the text; None where the text itself does.
    """

    raw: str
    doubt: Doubt = Doubt.NONE
    calls: tuple[Call, ...] | None = None

    def keep_as_text(self) -> None:
        self.doubt = Doubt.NONE
        self.calls = None


class Waiting:
    """Holds what is found until it is certain.

    Attributes:
        size: How many characters wait.
        has_text: Whether there was text.
        is_beside_call: Whether nothing but white space and tokens was read since a call.
        is_tight: Whether a bracket too many may follow.
        has_structured_call: Whether the service has given a call itself.
    """

    def __init__(self) -> None:
        """Begin a message."""
        self._entries: list[_Entry] = []
        self._certain: list[str | Call] = []
        self.size = 0
        self.has_text = False
        self.is_beside_call = False
        self.is_tight = False
        self.has_structured_call = False

    @property
    def is_fenced(self) -> bool:
        """Whether what waits begins with a fence."""
        return bool(self._entries) and self._entries[0].raw.lstrip().startswith(("```", "~~~"))

    def add_text(self, text: str) -> None:
        """Add text; what waited for no text to follow is text as well."""
        for entry in self._entries:
            if entry.doubt in _DOUBTS_OF_TEXT:
                entry.keep_as_text()
        self.has_text = True
        self.is_beside_call = self.is_tight = False
        self._add(_Entry(text))

    def add_space(self, text: str) -> None:
        """Add white space, or what separates calls."""
        self.is_tight = False
        self._add(_Entry(text, Doubt.SPACE, ()))

    def add_loose(self, text: str) -> None:
        """Add a lone opening or a special token."""
        self.is_tight = False
        self._add(_Entry(text, Doubt.LOOSE, ()))

    def add_fence(self, text: str) -> None:
        """Add the opening line of a fence that may be the whole message."""
        self.is_beside_call = self.is_tight = False
        self._add(_Entry(self._with_space(text), Doubt.LAST, ()))

    def add_calls(self, calls: tuple[Call, ...], text: str, doubt: Doubt, *, is_tight: bool) -> None:
        """Add calls, with the text that they were written as; tight are those that end with a bracket."""
        self.is_beside_call = True
        self.is_tight = is_tight
        self._add(_Entry(self._with_space(text), doubt, calls))

    def add_closing(self, text: str, *, is_tight: bool = False) -> None:
        """Add what ends a call: it goes if the call does."""
        text = self._with_space(text)
        self.is_tight = is_tight
        self._add(_Entry(text, self._entries[-1].doubt if self._entries else Doubt.NONE, ()))

    def end_line(self) -> None:
        """Take note that a line has ended."""
        self._resolve(Doubt.LINE)

    def settle(self) -> None:
        """Take note that no thought without a beginning can end any more."""
        self._resolve(Doubt.THOUGHT)

    def keep_as_text(self) -> None:
        """Take note that whatever waits is text."""
        if self._entries:
            self.has_text = True
            self.is_beside_call = self.is_tight = False
        for entry in self._entries:
            entry.keep_as_text()
        self._advance()

    def end(self) -> None:
        """Take note that the message has ended."""
        for entry in self._entries:
            stays = entry.doubt in (Doubt.SPACE, Doubt.LOOSE) and not self.is_beside_call
            if stays and not (entry.doubt is Doubt.LOOSE and self.has_structured_call):
                entry.keep_as_text()
            entry.doubt = Doubt.NONE
        self._advance()

    def flush(self) -> list[str | Call]:
        """Give what is certain, in order; adjacent texts are joined."""
        certain, self._certain = self._certain, []
        return certain

    def _with_space(self, text: str) -> str:
        """Join white space and loose tokens to what follows them."""
        while self._entries and self._entries[-1].doubt in (Doubt.SPACE, Doubt.LOOSE):
            entry = self._entries.pop()
            self.size -= len(entry.raw)
            text = entry.raw + text
        return text

    def _add(self, entry: _Entry) -> None:
        self._entries.append(entry)
        self.size += len(entry.raw)
        self._advance()

    def _resolve(self, doubt: Doubt) -> None:
        for entry in self._entries:
            if entry.doubt is doubt:
                entry.doubt = Doubt.NONE
        self._advance()

    def _advance(self) -> None:
        """Let go what is certain and has nothing uncertain before it."""
        count = 0
        for entry in self._entries:
            if entry.doubt is not Doubt.NONE:
                break
            count += 1
            self.size -= len(entry.raw)
            if entry.calls is not None:
                self._certain += entry.calls
            elif self._certain and isinstance(self._certain[-1], str):
                self._certain[-1] += entry.raw
            else:
                self._certain.append(entry.raw)
        del self._entries[:count]
