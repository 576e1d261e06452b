"""What stands around a call and shows that it is only quoted: on its line before it, and directly after it."""

from __future__ import annotations

import re
from typing import Final

_LONGEST_HEAD: Final = 24
_LONGEST_TAIL: Final = 8
_OPENING_QUOTES: Final = "\u2018\u201a\u2039\u300e\u00bb\u00ab\uff02\u201c\u201e\u300c"
_CLOSING_QUOTES: Final = "\u201d\u2019\u00bb\u203a\u300d\u300f"
_OPENING_MARK: Final = re.compile(rf"(?:(?:^|[\s(\[\"'])(?:\*{{1,3}}|_{{1,3}})|~~|==|\$\$|[(\[{{{_OPENING_QUOTES}])\Z")
"""What quotes a call that follows it directly."""
_QUOTING_LINE: Final = re.compile(
    r"(?::|#+|//+|/\*+|--|;+|%|\$)[ \t]"  # of a definition, a heading, a comment, a shell's prompt
    r"|\[?\d{1,4}[-:/]\d\d|\[?(?:TRACE|DEBUG|INFO|WARN|ERROR)"  # a line of a log
)
"""How a line begins in which nothing is a call that is complete on it."""
_ITEM: Final = re.compile(r"(?:[-*\u2022]|\d{1,3}[.)])[ \t]+")
"""How an item of a list begins."""
_GOES_ON: Final = frozenset(".\u3002\uff0c\u3001\uff1b\u060c")
"""The punctuation that makes a call a part of the sentence before it, where it touches the call."""
SENTENCE_END: Final = tuple(".!?:\u2026\u3002\uff01\uff1f\uff1a")
_BEFORE_LITERAL: Final = re.compile(r"(?:::|: [|>][+-]?)[ \t\r]*\Z")
"""The end of a line after which indented lines are a literal text, in reStructuredText and YAML."""
LAST_CHARS: Final = (*"*_~=$([{", *_OPENING_QUOTES, *SENTENCE_END, *":|>+- \t\r")
"""The characters that a line may end with for any of this."""
_LAST_CHARS: Final = frozenset(LAST_CHARS)
_USERS: Final = ("user", "human", "customer", "question", "input", "prompt", "q")
_ASSISTANTS: Final = ("assistant", "ai", "bot", "model", "agent", "answer", "output", "response", "completion", "a")
_LEVELS: Final = ("trace", "debug", "info", "warn", "error")
_ROLE: Final = f"(?:(?P<user%d>{'|'.join(_USERS)})|{'|'.join(_ASSISTANTS)})"
_WORDS: Final = (*_USERS, *_ASSISTANTS, *_LEVELS)
_STARTS: Final = sorted({word[:length] for word in _WORDS for length in range(1, len(word) + 1)})
_MAY_TELL: Final = re.compile(
    rf"[*_>#\[\s\u2022/;:%$-]*(?:\d{{0,4}}[-:/.)]?\d?[ \t]*|(?:{'|'.join(_STARTS)})[\]*_:\s]*)\Z", re.IGNORECASE
)
"""How a line begins that may turn out to be one of these, or to name who speaks."""
_TURN: Final = re.compile(
    "|".join(
        (
            r"[*_>\s]{0,4}" + _ROLE % 1 + r"[*_]{0,3}:",
            r"#{1,6}[ *]*" + _ROLE % 2 + r"[*:]*\s*\Z",
            r"(?:\[|\*\*)" + _ROLE % 3 + r":?(?:\]|\*\*)",
        )
    ),
    re.IGNORECASE,
)
"""How a line begins that names who speaks, in a transcript."""

_MAY_OPEN: Final = r"(?:[\"'`]|\*\*|__|~~|==|\$\$)(?:(?=[\s)\]},.;:#!?])|(?P<cut>\Z))"
_CLOSING_MARK: Final = re.compile(rf"[)\]}}{_CLOSING_QUOTES}]|{_MAY_OPEN}|[*_~=$](?P<half>\Z)")
_TOUCHING_MARK: Final = re.compile(
    rf"[){_CLOSING_QUOTES}\u00ab\u2039\u201c\u2018\uff02\"'*_~|]|==|\$\$|`(?:(?=[^`])|(?P<cut>\Z))|[=$](?P<half>\Z)"
)


class Line:
    """The start and the end of a line, as far as it was read and is not quoted itself.

    Attributes:
        margin: Where the text of an item of a list stands, if the line may go on with one: code is indented from there.
    """

    def __init__(self) -> None:
        """Begin a message."""
        self.start()
        self.margin = 0
        self._has_user = False

    @property
    def is_undecided(self) -> bool:
        """Whether the next characters matter: at the start of the line, and after a mark."""
        return self._is_open or self._tail[-1:] in _LAST_CHARS

    @property
    def is_in_sentence(self) -> bool:
        """Whether a sentence has begun on the line and has not ended."""
        tail = self._tail.rstrip()
        return bool(tail) and not tail.endswith(SENTENCE_END)

    @property
    def is_item(self) -> bool:
        """Whether an item of a list begins on the line."""
        return bool(_ITEM.match(self._head))

    @property
    def ends_before_literal(self) -> bool:
        """Whether indented lines after this one are a literal text."""
        return bool(_BEFORE_LITERAL.search(self._tail))

    def start(self) -> None:
        """Begin a line."""
        self._head = self._tail = ""
        self._is_open = True

    def end(self, indent: int) -> None:
        """Take note that a line with such an indent is over, and begin the next one."""
        found = _ITEM.match(self._head)
        if found:
            self.margin = indent + found.end()
        self.start()

    def read(self, text: str) -> None:
        """Take what follows on the line."""
        if self._is_open:
            self._head = (self._head + text[:_LONGEST_HEAD])[:_LONGEST_HEAD]
            self._is_open = len(self._head) < _LONGEST_HEAD and bool(_MAY_TELL.match(self._head))
        self._tail = (self._tail + text[-_LONGEST_TAIL:])[-_LONGEST_TAIL:]

    def quotes(self, call: str) -> bool:
        """Whether a call that follows is quoted: by a mark that touches it, or by the start of its line."""
        is_on_line = "\n" not in call and bool(_QUOTING_LINE.match(self._head))
        return is_on_line or bool(_OPENING_MARK.search(self._tail))

    def begins_answer_in_transcript(self) -> bool:
        """Whether an assistant speaks from here on, after a user did: earlier, or in what a model makes up."""
        found = _TURN.match(self._head)
        is_user = found is not None and any(found.groups())
        self._has_user |= is_user
        return found is not None and not is_user and self._has_user


def goes_on(char: str, *, is_touching: bool) -> bool:
    """Whether a character after a call goes on with the sentence before it."""
    return char == "|" or (is_touching and char in _GOES_ON) or (char.isalpha() and not char.isupper())


def find_end_of_quotation(text: str, at: int, *, is_touching: bool) -> re.Match[str] | None:
    """Find a mark after a call that closes what the call is quoted in.

    Args:
        text: The text.
        at: The offset after the call, and after the white space that follows it.
        is_touching: Whether no white space follows. If some does, a mark that may open something else closes nothing.

    Returns:
        What was found; see `is_cut`.
    """
    return (_TOUCHING_MARK if is_touching else _CLOSING_MARK).match(text, at)


def is_cut(mark: re.Match[str]) -> bool:
    """Whether more text has to tell if this is a mark that closes."""
    return mark["cut"] is not None or mark["half"] is not None
