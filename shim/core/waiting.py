"""Calls that may still turn out to be text, and the text after them, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from shim.core.call_forms import Call


class Doubt(Enum):
    """What would show that something is text after all."""

    NONE = auto()
    SPACE = auto()  # text follows directly, or no call is beside it: white space
    LOOSE = auto()  # no call follows directly: a lone opening, a special token
    STRAY = auto()  # the service gives no call: a lone closing
    LINE = auto()  # text follows on the same line
    LAST = auto()  # text follows
    LIST = auto()  # a call in another spelling follows in an item of a list: the list is about spellings
    THOUGHT = auto()  # the message began within a thought, whose end follows


_MOST_OPEN: Final = 100
_BETWEEN_CALLS: Final = (Doubt.SPACE, Doubt.LOOSE)
_ENDED_BY_TEXT: Final = (*_BETWEEN_CALLS, Doubt.STRAY, Doubt.LINE, Doubt.LAST)
_ENDED_BY_LINE: Final = (*_BETWEEN_CALLS, Doubt.STRAY, Doubt.LINE)


@dataclass(slots=True)
class _Entry:
    """A part of the message.

    Attributes:
        pieces: The text as it was written.
        doubt: Why it waits.
        calls: What is emitted in place of the text; None where the text itself does.
        depth: How many marks that may enclose it are open; it is quoted if one of them is closed. Later parts have no
            less.
    """

    pieces: list[str]
    doubt: Doubt = Doubt.NONE
    calls: tuple[Call, ...] | None = None
    depth: int = 0

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
        is_followed: Whether what follows the last calls tells if they are quoted.
        is_in_sentence: Whether they stand in the middle of a line, after words.
    """

    def __init__(self) -> None:
        """Begin a message."""
        self._entries: list[_Entry] = []
        self._strays: list[_Entry] = []
        self._certain: list[str | Call] = []
        self.size = 0
        self.has_text = False
        self.is_beside_call = False
        self.is_tight = False
        self.has_structured_call = False
        self.is_followed = False
        self.is_in_sentence = False
        self._open: list[str] = []
        self._spellings: set[str] = set()

    @property
    def ends_with_space(self) -> bool:
        """Whether white space was read last."""
        return bool(self._entries) and self._entries[-1].doubt is Doubt.SPACE

    @property
    def is_fenced(self) -> bool:
        """Whether what waits begins with a fence."""
        return bool(self._entries) and self._entries[0].doubt is Doubt.LAST and not self._entries[0].calls

    @property
    def is_loose(self) -> bool:
        """Whether a lone opening or closing waits, or a special token."""
        return any(entry.doubt in (Doubt.LOOSE, Doubt.STRAY) for entry in self._entries)

    def add_text(self, text: str) -> None:
        """Add text; what waited for no text to follow is text as well."""
        self.has_text = True
        self.is_beside_call = self.is_tight = False
        self._limit_depth()
        if not self._entries:
            self._certain.append(text)
            return
        for entry in reversed(self._entries):
            if entry.doubt not in _ENDED_BY_TEXT:
                break
            entry.keep_as_text()
        self._add([text], Doubt.NONE, None)

    def add_space(self, text: str) -> None:
        """Add white space, or what separates calls; after a lone closing, it goes with that."""
        self.is_tight = False
        is_stray = bool(self._entries) and self._entries[-1].doubt is Doubt.STRAY
        self._add([text], Doubt.STRAY if is_stray else Doubt.SPACE)

    def add_loose(self, text: str, *, is_closing: bool) -> None:
        """Add a lone opening or a special token, or a lone closing, which no call in the text takes with it."""
        self.is_tight = False
        is_stray = is_closing and not self.has_structured_call
        self.has_text |= is_stray
        self._add([text], Doubt.STRAY if is_stray else Doubt.LOOSE)

    def note_structured_call(self) -> None:
        """Take note that the service has given a call itself: what it left of the spelling in the text goes."""
        self.has_structured_call = True
        for entry in self._strays:
            if entry.doubt is Doubt.STRAY:
                entry.doubt = Doubt.LOOSE
        self._strays.clear()

    def add_fence(self, text: str) -> None:
        """Add the opening line of a fence that may be the whole message."""
        self.is_beside_call = self.is_tight = False
        self._add([*self._take_space(), text], Doubt.LAST)

    def add_calls(
        self, calls: tuple[Call, ...], text: str, doubt: Doubt, *, is_tight: bool, is_in_sentence: bool
    ) -> None:
        """Add calls, with the text that they were written as; tight are those that end with a bracket."""
        self.is_beside_call = True
        self.is_tight = is_tight
        if self.has_text and doubt is not Doubt.LAST and not self.is_followed:
            self.is_followed = True
            self.is_in_sentence = is_in_sentence
        for entry in self._strays:
            entry.keep_as_text()
        self._strays.clear()
        self._add([*self._take_space(), text], doubt, calls)

    def add_closing(self, text: str, *, is_tight: bool = False) -> None:
        """Add what ends a call: it goes if the call does."""
        pieces = [*self._take_space(), text]
        self.is_tight = is_tight
        self._add(pieces, self._entries[-1].doubt if self._entries else Doubt.NONE)

    def open(self, mark: str) -> None:
        """Take note of a mark that may enclose what follows."""
        self._limit_depth()
        if len(self._open) < _MOST_OPEN:
            self._open.append(mark)

    def close(self, mark: str) -> bool:
        """Take note of a closing mark: what was read since it was opened is quoted. Whether it was open."""
        if mark not in self._open:
            return False
        while self._open.pop() != mark:
            pass
        self.quote()
        return True

    def toggle(self, mark: str) -> None:
        """Take note of a mark that closes what an equal one has opened."""
        if not self.close(mark):
            self.open(mark)

    def quote(self) -> None:
        """Take note that the last calls are quoted, or all that marks have enclosed which are closed now."""
        self._limit_depth(is_quoted=True)
        self.is_beside_call = self.is_tight = False

    def begin_anew(self) -> None:
        """Take note that a thought is over: what was before it encloses nothing."""
        self.has_text = False
        self._open.clear()
        self._limit_depth()

    def end_line(self) -> None:
        """Take note that a line has ended."""
        self.is_in_sentence = False
        for entry in reversed(self._entries):
            if entry.doubt not in _ENDED_BY_LINE:
                break
            if entry.doubt is Doubt.LINE:
                entry.doubt = Doubt.NONE
        self._advance()

    def note_item(self, spelling: str) -> bool:
        """Take note of a call in an item of a list. Whether it is quoted: the list shows several spellings."""
        is_mixed = bool(self._spellings - {spelling})
        if is_mixed and spelling not in self._spellings:
            for entry in self._entries:
                if entry.doubt is Doubt.LIST:
                    entry.keep_as_text()
            self._advance()
        self._spellings.add(spelling)
        return is_mixed

    def settle(self) -> None:
        """Take note that no thought without a beginning can end any more."""
        for entry in self._entries:
            if entry.doubt is Doubt.THOUGHT:
                entry.doubt = Doubt.NONE
        self._advance()

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
            is_left_over = entry.doubt is Doubt.LOOSE and self.has_structured_call
            is_between = entry.doubt in _BETWEEN_CALLS and not self.is_beside_call
            if entry.doubt is Doubt.STRAY or (is_between and not is_left_over):
                entry.keep_as_text()
            entry.doubt = Doubt.NONE
            entry.depth = 0
        self._advance()

    def flush(self) -> list[str | Call]:
        """Give what is certain, in order; adjacent texts are joined."""
        certain, self._certain = self._certain, []
        return certain if len(certain) < 2 else _joined(certain)  # noqa: PLR2004 - nothing to join

    def _take_space(self) -> list[str]:
        """Take out the white space and loose tokens at the end, for what follows them."""
        start = len(self._entries)
        while start and self._entries[start - 1].doubt in _BETWEEN_CALLS:
            start -= 1
        pieces = [piece for entry in self._entries[start:] for piece in entry.pieces]
        del self._entries[start:]
        self.size -= sum(map(len, pieces))
        return pieces

    def _add(self, pieces: list[str], doubt: Doubt, calls: tuple[Call, ...] | None = ()) -> None:
        last = self._entries[-1] if self._entries else None
        depth = len(self._open) + self.is_followed
        if last and not calls and (last.doubt, last.calls, last.depth) == (doubt, calls, depth):
            last.pieces += pieces  # one entry, however many pieces it came in
        else:
            self._entries.append(_Entry(pieces, doubt, calls, depth))
            if doubt is Doubt.STRAY:
                self._strays.append(self._entries[-1])
        self.size += sum(map(len, pieces))
        self._advance()

    def _limit_depth(self, *, is_quoted: bool = False) -> None:
        """Take note that what has followed the last calls is known, and of the marks that are not open any more."""
        self.is_followed = False
        for entry in reversed(self._entries):
            if entry.depth <= len(self._open):
                break
            entry.depth = len(self._open)
            if is_quoted and entry.doubt is not Doubt.STRAY:
                entry.keep_as_text()
                self.has_text = True
        self._advance()

    def _advance(self) -> None:
        """Let go what is certain and has nothing uncertain before it."""
        count = 0
        for entry in self._entries:
            if entry.doubt is not Doubt.NONE or (entry.depth and entry.calls is not None):
                break
            count += 1
            self.size -= sum(map(len, entry.pieces))
            if entry.calls is None:
                self._certain += entry.pieces
            else:
                self._certain += entry.calls
        if count:
            del self._entries[:count]


def _joined(found: list[str | Call]) -> list[str | Call]:
    """Join adjacent texts."""
    out: list[str | Call] = []
    texts: list[str] = []
    for each in found:
        if isinstance(each, str):
            texts.append(each)
            continue
        if texts:
            out.append("".join(texts))
            texts.clear()
        out.append(each)
    return [*out, "".join(texts)] if texts else out
