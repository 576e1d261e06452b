"""Characters that a service has cut: their bytes or their halves are in two events, and are joined again."""

from __future__ import annotations

import re
from typing import Final

from shim.core.jsontext import STRAY_BYTE, decode_stray_bytes

# The start of a character at the end of a text: half of a surrogate pair, or up to three bytes of UTF-8.
_CUT: Final = re.compile(
    "(?:[\ud800-\udb7f]|[\udbc2-\udbdf]|[\udbe0-\udbef][\udb80-\udbbf]?|[\udbf0-\udbf4][\udb80-\udbbf]{0,2})$"
)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def has_cut_character(text: str) -> bool:
    """Whether a text has bytes or halves of characters."""
    return not text.isascii() and _SURROGATE.search(text) is not None


class CharacterJoiner:
    """Joins the characters of one text that is received in pieces.

    What a piece ends with is buffered if it is the start of a character. Bytes that are no character become U+FFFD;
    half of a pair without the other half passes through, as it does in the official client.
    """

    __slots__ = ("_buffered",)

    def __init__(self) -> None:
        """Start a text."""
        self._buffered = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is buffered."""
        return not self._buffered

    def feed(self, piece: str) -> str:
        """Take the next piece and return what is complete."""
        if not self._buffered and not has_cut_character(piece):
            return piece
        text = self._buffered + piece
        cut = _CUT.search(text)
        self._buffered = text[cut.start() :] if cut else ""
        return _join(text[: cut.start()] if cut else text)

    def flush(self) -> str:
        """Return what is buffered: the rest of its character will not be received."""
        buffered, self._buffered = self._buffered, ""
        return _join(buffered)


def _join(text: str) -> str:
    if STRAY_BYTE.search(text):
        text = decode_stray_bytes(text)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
