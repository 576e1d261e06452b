"""Which parts of a Markdown text are quoted: code, quotations, block quotes. Known while the text streams."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from shim.core.literals import end_of
from shim.core.surroundings import LAST_CHARS, Line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_FENCE: Final = 3
_INDENTED_CODE: Final = 4
_BLANKS: Final = re.compile(r"[ \t\r\ufeff]*")
_RUN: Final = {char: re.compile(f"{re.escape(char)}*") for char in "`~\"'-.=+"}
_RULES: Final = "-.=+"
_SHORTEST_RULE: Final = 4
"""What AsciiDoc encloses a listing in: two equal lines of at least four of these."""
_MARKS: Final = {
    "\u201c": "\u201d",
    "\u201e": "\u201c\u201d",
    "\u00ab": "\u00bb",
    "\u00bb": "\u00ab\u00bb",
    "\u300c": "\u300d",
    "\u2018": "\u2019",
    "\u201a": "\u2018\u2019",
    "\u2039": "\u203a",
    "\u203a": "\u2039\u203a",
    "\u300e": "\u300f",
    "\uff02": "\uff02",
}
"""What opens a quotation, and what closes it, beside `"` and `'`. The latter opens one after a blank or bracket."""
_BEFORE_QUOTATION: Final = " \t\r(["


class Mode(Enum):
    """What the text is in."""

    PLAIN = auto()
    QUOTATION = auto()  # between quotation marks, in a block quote or indented code: to the end of the line at most
    CODE = auto()  # between backticks: to the end of the paragraph at most
    STRING = auto()  # between three quotation marks each, as in Python and TOML
    OPENING_LINE = auto()  # on the line that opens a fence
    FENCE = auto()
    CLOSING_LINE = auto()  # on a line that closes the fence, if no other text is on it
    TRANSCRIPT = auto()  # to the end of the message


_ENDS: Final = {
    Mode.QUOTATION: re.compile(rf"""[\n\\"'{"".join(_MARKS.values())}]"""),
    Mode.CODE: re.compile(r"[\n`]"),
    Mode.STRING: re.compile(r"[\"']"),
    Mode.OPENING_LINE: re.compile(r"[\n`]"),
    Mode.FENCE: re.compile(r"\n"),
    Mode.TRANSCRIPT: re.compile(r"(?!)"),
}


class Stops:
    """Where `Quoting` looks closer.

    Attributes:
        all: What opens a quotation, ends a line, or is looked for.
        inside: The same, single characters only.
        at_end: What the end of a piece has if the next piece depends on it: a word that is looked for, cut, and what
            stands before a quotation.
    """

    def __init__(self, chars: str, words: Iterable[str]) -> None:
        """Look for these characters and words; a word may be cut by the end of a piece."""
        every = "\n`'\"" + "".join(_MARKS) + chars
        self.inside = re.compile(f"[{re.escape(every)}]")
        self.all = re.compile("|".join((self.inside.pattern, *map(tag, words))))
        starts = {word[:length] for word in words for length in range(1, len(word) + 1)}
        self.at_end = (*starts, *_BEFORE_QUOTATION, *LAST_CHARS)


def tag(literal: str) -> str:
    """A pattern for a literal that the end of the text may cut after its first character."""
    return re.escape(literal[0]) + "".join(rf"(?:{re.escape(char)}|\Z)" for char in literal[1:])


def whole_or_cut(group: str, literals: Iterable[str]) -> str:
    """A pattern for literals. The group matches where one is whole, and not where the end of the text cuts it."""
    longest_first = sorted(literals, key=len, reverse=True)
    whole, cut = "|".join(map(re.escape, longest_first)), "|".join(map(tag, longest_first))
    return rf"(?:{whole})(?P<{group}>)|(?:{cut})\Z"


class Quoting:
    """Follows a text and finds the places in it that are not quoted.

    Attributes:
        mode: What the text is in.
        is_at_line_start: Whether nothing but blanks of the current line was read.
    """

    def __init__(self, stops: Stops, take_rule: Callable[[str], None]) -> None:
        """Begin at the start of a line.

        Args:
            stops: What is looked for.
            take_rule: Takes each line that is nothing but a rule, which may enclose a listing.
        """
        self._stops = stops
        self._take_rule = take_rule
        self._line = Line()
        self.reset(at_line_start=True)

    def reset(self, *, at_line_start: bool) -> None:
        """Start again, with nothing quoted."""
        self.mode = Mode.PLAIN
        self.is_at_line_start = at_line_start
        self._indent = 0
        self._mark = ""
        self._run = ""
        self._place = 0
        self._is_after_blank = at_line_start
        self._is_escaped = False
        self._line.start()
        # How far the line before a literal text is indented.
        self._literal: int | None = None

    def open_fence(self, fence: str, *, at_line_start: bool) -> None:
        """Start again within a fence that such a run of characters has opened."""
        self.reset(at_line_start=at_line_start)
        self.mode = Mode.FENCE if at_line_start else Mode.OPENING_LINE
        self._mark = fence

    @property
    def unsteady(self) -> re.Pattern[str] | None:
        """What a piece of text must not have if it is to change nothing here; None where every piece does.

        Nor may it end with one of `Stops.at_end`.
        """
        if self.is_at_line_start or self._run or self._is_escaped:
            return None
        if self.mode is Mode.PLAIN:
            is_open = self._is_after_blank or self._line.is_undecided
            return None if is_open else self._stops.inside
        return _ENDS.get(self.mode)

    def find(self, text: str, at: int) -> int:
        """Read on to the next place that is not quoted and may be one that is looked for.

        Such places are the matches of the stops' pattern, and a bracket or brace at the start of a line.

        Returns:
            Its offset, or the end of the text.
        """
        while at < len(text):
            if self._run:
                at = self._read_run(text, at)
            elif self._is_escaped:
                self._is_escaped = False
                at += 1
            elif self.mode is Mode.PLAIN:
                found = self._read_line_start(text, at) if self.is_at_line_start else self._read_plain(text, at)
                if found is None:
                    return self._place
                at = found
            else:
                at = self._read_quoted(text, at)
        return at

    def pass_over(self, char: str) -> None:
        """Go on after a character at which `find` has stopped."""
        self.is_at_line_start = False
        self._is_after_blank = char in _BEFORE_QUOTATION
        self._line.read(char)

    def end(self) -> None:
        """Take the end of the message: it ends a line."""
        if self._run:
            self._end_run(self._run, "\n")

    def quotes(self, call: str) -> bool:
        """Whether what stands directly before a call quotes it, and the rest of its line with it."""
        return self._line.quotes(call)

    @property
    def is_in_list(self) -> bool:
        """Whether the line is an item of a list."""
        return self._line.is_item

    @property
    def is_in_sentence(self) -> bool:
        """Whether a sentence has begun on the line and has not ended."""
        return self._line.is_in_sentence

    def quote_line(self) -> None:
        """Take the rest of the line as quoted."""
        self._quote("")

    # Each reader takes a text and an offset and gives the offset that it has reached.

    def _read_line_start(self, text: str, at: int) -> int | None:
        """Read blanks and the first character after them; None at a place that may be looked for."""
        end = end_of(_BLANKS, text, at)
        self._indent += end - at + (_INDENTED_CODE - 1) * text.count("\t", at, end)
        if end == len(text):
            return end
        char = text[end]
        if char == "\n":
            self._start_line()
            return end + 1
        self.is_at_line_start = False
        self._is_after_blank = True
        if self._literal is not None and self._indent <= self._literal:
            self._literal = None
        if self._indent < self._line.margin:
            self._line.margin = 0
        if char in ">|" or self._indent >= self._line.margin + _INDENTED_CODE or self._literal is not None:
            self._quote("")
        elif char in "`~" or char in _RULES:
            self._run = char
            return end + 1
        elif char in "{[":
            self._place = end
            self.is_at_line_start = True
            return None
        return end

    def _read_plain(self, text: str, at: int) -> int | None:
        """Read on to the next stop; None at a place that may be looked for."""
        stop = self._stops.all.search(text, at)
        end = stop.start() if stop else len(text)
        if end > at:
            self._is_after_blank = text[end - 1] in _BEFORE_QUOTATION
            self._line.read(text[at:end])
        if stop is None:
            return end
        char = text[end]
        if self._line.begins_answer_in_transcript():
            self.mode = Mode.TRANSCRIPT
        elif char == "\n":
            if self._literal is None and self._line.ends_before_literal:
                self._literal = self._indent
            self._start_line()
        elif char in "`\"'":
            self._run = char
        elif char in _MARKS:
            self._quote(_MARKS[char])
        else:
            self._place = end
            return None
        return end + 1

    def _read_quoted(self, text: str, at: int) -> int:
        if self.is_at_line_start or self.mode is Mode.CLOSING_LINE:
            return self._read_quoted_line_start(text, at)
        stop = _ENDS[self.mode].search(text, at)
        if stop is None:
            return len(text)
        char = stop.group()
        if char == "\n":
            if self.mode in (Mode.QUOTATION, Mode.OPENING_LINE):
                self.mode = Mode.PLAIN if self.mode is Mode.QUOTATION else Mode.FENCE
            self._start_line()
        elif char == "\\":
            self._is_escaped = self._mark in ('"', "'")
        elif self.mode is not Mode.QUOTATION:
            self._run = char
        elif char in self._mark:
            self._leave()
        return stop.end()

    def _read_quoted_line_start(self, text: str, at: int) -> int:
        end = end_of(_BLANKS, text, at)
        if end == len(text):
            return end
        char = text[end]
        if char == "\n":
            # An empty line ends a paragraph, and with it what was between backticks.
            if self.mode is not Mode.FENCE:
                self._leave()
            self._start_line()
            return end + 1
        self.is_at_line_start = False
        if self.mode is Mode.CLOSING_LINE and char == "<":
            self._leave()  # a token of the model directly after the fence
        elif self.mode is Mode.CLOSING_LINE:
            self.mode = Mode.FENCE
        elif self.mode is Mode.FENCE and char == self._mark[0]:
            self._run = char
            return end + 1
        return end

    def _read_run(self, text: str, at: int) -> int:
        """Read the rest of a run of backticks or tildes."""
        end = end_of(_RUN[self._run[0]], text, at)
        self._run += text[at:end]
        if end < len(text):
            self._end_run(self._run, text[end])
        return end

    def _end_run(self, run: str, following: str) -> None:
        self._run = ""
        closes = run[0] == self._mark[:1] and len(run) >= len(self._mark)
        if run[0] in _RULES:
            self._end_rule(run, following)
        elif run[0] in "\"'":
            self._end_quotation_marks(run)
        elif self.mode is Mode.PLAIN:
            self._is_after_blank = False
            if len(run) >= _FENCE:
                self.mode = Mode.OPENING_LINE
            elif run[0] == "`":
                self.mode = Mode.CODE
            self._mark = run
            self._line.read(run)
        elif self.mode is Mode.FENCE:
            self.mode = Mode.CLOSING_LINE if closes else Mode.FENCE
        elif run == self._mark or (closes and self.mode is Mode.OPENING_LINE):
            self._leave()

    def _end_rule(self, run: str, following: str) -> None:
        self._line.read(run)
        if len(run) >= _SHORTEST_RULE and following in "\r\n":
            self._take_rule(run)
        elif run[0] == "+" or (run == "-" and following not in " \t\r\n>"):  # a line of a diff
            self._quote("")
        elif run[0] == ".":  # a directive of reStructuredText: what it is about is indented
            self._literal = self._indent

    def _end_quotation_marks(self, run: str) -> None:
        is_after_blank, self._is_after_blank = self._is_after_blank, False
        if self.mode is Mode.STRING:
            if run[0] == self._mark and len(run) >= _FENCE:
                self._leave()
        elif len(run) >= _FENCE:
            self.mode = Mode.STRING
            self._mark = run[0]
        elif len(run) == 1 and (run == '"' or is_after_blank):
            self._quote(run)

    def _quote(self, mark: str) -> None:
        self.mode = Mode.QUOTATION
        self._mark = mark

    def _leave(self) -> None:
        self.mode = Mode.PLAIN
        self._is_after_blank = False

    def _start_line(self) -> None:
        self._line.end(self._indent)
        self.is_at_line_start = True
        self._is_after_blank = True
        self._indent = 0
