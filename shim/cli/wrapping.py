"""Text that arrives in pieces, broken between words at the edge of a terminal."""

from __future__ import annotations

from typing import Final

from rich.cells import cell_len

_TAB: Final = 8


class LineWrapper:
    """Breaks lines between words, without waiting for the end of a word.

    A word that turns out to be too long for its line is erased with backspaces and written again on the next line.
    Every terminal understands that, without control sequences.
    """

    def __init__(self) -> None:
        """Start at the left edge."""
        self._column = 0
        self._word = ""

    def wrap(self, text: str, columns: int) -> str:
        """Return what to write for the next piece of the text, for a terminal of so many columns."""
        # The last column is left empty: terminals differ in what they do after a character there.
        limit = max(columns - 1, 1)
        return "".join(self._place(character, limit) for character in text)

    def _place(self, character: str, limit: int) -> str:
        if character == "\n":
            return self._break_line()
        if character in " \t":
            return self._place_space(_TAB - self._column % _TAB if character == "\t" else 1, limit)
        width = cell_len(character)
        written = ""
        if width > 1:  # ideographs and emoji may be broken anywhere
            self._word = ""
        if self._column + width > limit:
            written = self._move_word()
        self._column += width
        self._word = self._word + character if width <= 1 else ""
        return written + character

    def _place_space(self, width: int, limit: int) -> str:
        self._word = ""
        if self._column + width > limit:
            return self._break_line()
        self._column += width
        return " " * width

    def _move_word(self) -> str:
        """Continue on the next line; take the current word along, unless the line holds nothing else."""
        word, width = self._word, cell_len(self._word)
        is_alone = width == self._column
        written = self._break_line()
        if is_alone or not word:
            return written
        self._word, self._column = word, width
        return "\b" * width + " " * width + written + word

    def _break_line(self) -> str:
        self._column, self._word = 0, ""
        return "\n"
