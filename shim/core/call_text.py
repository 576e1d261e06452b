"""Tool calls that a model wrote as text, lifted out of the text while it streams.

The spellings are the rows of `shim.core.dialects`. What is a call, and what only looks like one, is decided here: see
docs/dialects.md.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shim.core.call_forms import (
    ArgumentsReader,
    Call,
    CallReader,
    Declared,
    NotACall,
    ParametersReader,
    tag,
)
from shim.core.dialects import DIALECTS, FIRST_TOKENS, LAST_TOKENS, Dialect, Form, Place
from shim.core.literals import Unreadable, end_of
from shim.core.quoting import Quoting, Stops
from shim.core.waiting import Doubt, Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# All are bounded, because what the end of a piece cuts is matched again with the next piece.
_PLACEHOLDERS: Final = {
    " ": r"[ \t\r\n]{0,64}+",
    "{name}": r"(?:(?P<name%d>[^\s<>{}()\[\]\"'`=,;|]{1,200}+)|\Z)",
    "{id}": r"(?:(?P<id%d>[\w-]{1,64}+)|\Z)",
    "{format}": rf"[ \t]{{0,8}}+(?:{tag('<|constrain|>')}[ \t]{{0,8}}+)?[\w-]{{0,40}}+[ \t]{{0,8}}+",
}
_IN_OPENING: Final = re.compile(r" |\{(?:name|id|format)\}|.", re.DOTALL)
_FOLLOWS: Final = {
    Form.CALLS: r"[\[{A-Za-z_]",
    Form.LIST: r"\[",
    Form.OBJECTS: r"[\[{]",
    Form.ARGUMENTS: r"\{",
    Form.PARAMETERS: "<",
}
_THOUGHT: Final = ("<think>", "</think>")


def _opening(number: int, dialect: Dialect) -> str:
    """A pattern for the opening of a call; it has the row's name where the opening is whole and its form can follow."""
    first, *parts = _IN_OPENING.findall(dialect.opening)
    pattern = re.escape(first)
    for part in parts:
        known = _PLACEHOLDERS.get(part)
        pattern += rf"(?:{re.escape(part)}|\Z)" if known is None else known.replace("%d", str(number))
    return rf"{pattern}(?:(?={_FOLLOWS[dialect.form]})(?P<row{number}>)|\Z)"


def _whole_or_cut(name: str, literals: Iterable[str]) -> str:
    """A pattern for literals; the group has matched where one of them is whole, none where the end of the text cuts it."""
    longest_first = sorted(literals, key=len, reverse=True)
    whole = "|".join(map(re.escape, longest_first))
    return rf"(?:{whole})(?P<{name}>)|(?:{'|'.join(map(tag, longest_first))})\Z"


_MARKED: Final = {number: each for number, each in enumerate(DIALECTS) if each.place is Place.ANYWHERE}
_BARE: Final = next(each for each in DIALECTS if each.place is Place.OWN_LINES)
_LOOSE: Final = {each.opening.split("{")[0].split(" ")[0] for each in _MARKED.values() if not each.opening[0].isalpha()}
_LOOSE_TOKENS: Final = sorted({*FIRST_TOKENS, *(each for each in _LOOSE if each[-1] in ">]")})
_OPENING: Final = re.compile(
    "|".join(
        (
            *(_opening(number, each) for number, each in _MARKED.items()),
            _whole_or_cut("loose", _LOOSE_TOKENS),
            *(_whole_or_cut(name, [literal]) for name, literal in zip(("thinks", "thought"), _THOUGHT, strict=True)),
        )
    )
)
_LOOSE_AT_END: Final = re.compile("|".join(map(re.escape, _LOOSE_TOKENS)))
_WORDS: Final = {each.opening for each in _MARKED.values() if each.opening[0].isalpha()}
_PLACE: Final = "|".join((r"[<\[]", *(tag(word) for word in _WORDS)))
_STOPS: Final = Stops(_PLACE)
_IS_PLACE: Final = re.compile(_PLACE)
_FENCE: Final = re.compile(
    r"(?P<fence>(?P<char>[`~])(?P=char){2,15}+)[ \t]{0,8}+[\w+.#-]{0,24}+[ \t\r\n]{0,64}+(?:(?=[<\[{])(?P<whole>)|\Z)"
    r"|[`~]{1,2}\Z"
)
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_BRACKETS: Final = re.compile(r"[\]}]*")
_END_OF_THOUGHT: Final = re.compile(_whole_or_cut("whole", _THOUGHT[1:]))


@cache
def _closing(dialect: Dialect) -> re.Pattern[str]:
    closing = set(dialect.closing)
    if dialect.place is not Place.ANYWHERE:
        # The service may have taken the opening for a special token, and left it out.
        closing |= {each for other in _MARKED.values() if other.form is Form.CALLS for each in other.closing}
    return re.compile(_whole_or_cut("whole", {*closing, *LAST_TOKENS}))


class _State(Enum):
    EDGE = auto()  # at the start of the message, or directly after a call or a lone opening
    TEXT = auto()
    CALL = auto()  # after the opening of what may be a call
    THOUGHT = auto()  # between <think> and </think>


class _Fence(NamedTuple):
    """A fence with which the message begins: the characters that open it, and whether a line has ended since."""

    run: str
    has_line_end: bool


class _Candidate(NamedTuple):
    """What may be a call."""

    dialect: Dialect
    reader: CallReader | ArgumentsReader | ParametersReader


class _Buffer:
    """The part of the text that is not decided.

    Attributes:
        text: The last piece, with what was not read of those before it.
        at: How far the text was read.
        is_ended: Whether no more text comes.
    """

    def __init__(self) -> None:
        self.text = ""
        self.at = 0
        self.is_ended = False
        # Undecided are the earlier pieces and, of the text, what stands from here on.
        self._start = 0
        self._pieces: list[str] = []
        self._size = 0

    def __len__(self) -> int:
        """How many undecided characters were read."""
        return self._size + self.at - self._start

    def add(self, text: str) -> None:
        """Take the next piece."""
        self.text += text

    def take(self, end: int) -> str:
        """Take everything undecided up to an offset in the text out of here."""
        taken = self.text[self._start : end]
        if self._pieces:
            taken = "".join((*self._pieces, taken))
            self._pieces.clear()
            self._size = 0
        self._start = self.at = end
        return taken

    def rewind(self) -> int:
        """Read what is undecided again; gives the offset of its first character."""
        if self._pieces:
            self.text = "".join((*self._pieces, self.text[self._start :]))
            self._pieces.clear()
            self._size = self._start = 0
        self.at = self._start
        return self.at

    def cut(self) -> None:
        """Keep nothing of the text but what is undecided or was not read."""
        if self._start < self.at:
            self._pieces.append(self.text[self._start : self.at])
            self._size += self.at - self._start
        self.text = self.text[self.at :]
        self._start = self.at = 0


class CallScanner:
    """Takes the calls out of the content of one message.

    The output does not depend on how the content is cut. What is no call is kept to the character; only white space
    and special tokens between calls, and between a call and the start or the end of the content, go with them.
    """

    def __init__(self, tools: Mapping[str, Mapping[str, Any]], *, limit: int) -> None:
        """Begin a message.

        Args:
            tools: The declared functions, each with the JSON schema of its parameters.
            limit: The most characters that are buffered.
        """
        self._declared = Declared(tools)
        self._limit = limit
        self._buffer = _Buffer()
        self._waiting = Waiting()
        self._quoting = Quoting(_STOPS)
        self._state = _State.EDGE
        self._candidate: _Candidate | None = None
        self._fence: _Fence | None = None
        self._is_settled = False
        self._plain: re.Pattern[str] | None = None
        self._undeclared = 0

    def passes(self, text: str) -> bool:
        """Whether a piece of the content is certainly no part of a call, changes nothing, and nothing is buffered."""
        return self._plain is not None and not self._plain.search(text)

    def feed(self, text: str) -> list[str | Call]:
        """Take the next piece of the content and give what is certain now, in order; adjacent text is joined."""
        if self.passes(text):
            return [text] if text else []
        self._buffer.add(text)
        while self._step():
            pass
        self._buffer.cut()
        is_plain = self._state is _State.TEXT and not (self._buffer.text or self._waiting.size)
        self._plain = self._quoting.plain if is_plain else None
        return self._waiting.flush()

    def finish(self) -> list[str | Call]:
        """Take the end of the content and give what was buffered."""
        self._buffer.is_ended = True
        self._plain = None
        out = self.feed("")
        if self._fence and not self._waiting.is_beside_call:
            self._waiting.keep_as_text()
        self._waiting.end()
        return join([*out, *self._waiting.flush()])

    def settle(self) -> None:
        """Take note that no thought without a beginning can be in the content."""
        self._is_settled = True
        self._waiting.settle()

    def take_undeclared(self) -> int:
        """Give how many calls have named no declared function since the last time. They stay text."""
        undeclared, self._undeclared = self._undeclared, 0
        return undeclared

    def note_structured_call(self) -> None:
        """Take note that the service has given a call itself; what it left of its opening in the text is dropped."""
        self._waiting.has_structured_call = True

    # Each step reads on as far as one thing goes. False where that takes more text.

    def _step(self) -> bool:
        match self._state:
            case _State.TEXT:
                return self._read_text()
            case _State.EDGE:
                return self._read_edge()
            case _State.CALL:
                return self._read_call()
            case _State.THOUGHT:
                return self._read_thought()

    def _read_text(self) -> bool:
        buffer = self._buffer
        at = self._quoting.find(buffer.text, buffer.at)
        self._say(at)
        if at == len(buffer.text):
            return False
        opened = self._open(at)
        if opened is None:
            self._pass_over(at)
        return opened is not False

    def _read_edge(self) -> bool:
        buffer = self._buffer
        text, at = buffer.text, buffer.at
        if at == len(text):
            return False
        if self._waiting.is_tight and (end := end_of(_BRACKETS, text, at)) > at:
            # Small models close more brackets than they have opened.
            self._waiting.add_closing(buffer.take(end), is_tight=True)
            return True
        if (end := end_of(_SPACE, text, at)) > at:
            return self._read_space(end)
        for read in (self._close, self._open_fence, self._open):
            progress = read(at)
            if progress is not None:
                return progress
        self._begin_text()
        if _IS_PLACE.match(text, at):
            self._pass_over(at)
        return True

    def _read_space(self, end: int) -> bool:
        buffer = self._buffer
        fits = min(end, buffer.at + self._room)
        space = buffer.take(fits)
        self._waiting.add_space(space)
        if "\n" in space:
            self._waiting.end_line()
            self._quoting.reset(at_line_start=True)
        return True if fits == end else self._overflow(fits)

    @property
    def _room(self) -> int:
        """How many characters may be buffered beside those that wait."""
        return max(0, self._limit - self._waiting.size)

    def _close(self, at: int) -> bool | None:
        """Read what may end a call; None where nothing of the kind stands there."""
        buffer = self._buffer
        if self._candidate is None or not self._waiting.is_beside_call:
            return None
        if self._fence and buffer.text[at] == self._fence.run[0]:
            return self._close_fence(at, self._fence.run)
        found = _closing(self._candidate.dialect).match(buffer.text, at)
        if found and found["whole"] is not None:
            self._waiting.add_closing(buffer.take(found.end()))
            return True
        if found and not buffer.is_ended:
            return False
        if buffer.text[at] in ",;":
            self._waiting.add_space(buffer.take(at + 1))
            return True
        return None

    def _close_fence(self, at: int, run: str) -> bool | None:
        buffer = self._buffer
        end = at
        while end < len(buffer.text) and buffer.text[end] == run[0]:
            end += 1
        if end == len(buffer.text) and not buffer.is_ended:
            return False
        if end - at < len(run):
            return None
        self._fence = None
        self._waiting.add_closing(buffer.take(end))
        return True

    def _open_fence(self, at: int) -> bool | None:
        """Read the opening line of a fence that may be the whole message; None where there is none."""
        buffer, waiting = self._buffer, self._waiting
        if self._fence or waiting.has_text or (waiting.is_beside_call and not waiting.is_fenced):
            return None
        found = _FENCE.match(buffer.text, at)
        if found is None or found.end() - at > self._room:
            return None
        if found["whole"] is None:
            return None if buffer.is_ended else False
        self._fence = _Fence(found["fence"], "\n" in found.group())
        waiting.add_fence(buffer.take(found.end()))
        return True

    def _open(self, at: int) -> bool | None:
        """Read the opening of a call; None where there is none."""
        buffer = self._buffer
        found = _OPENING.match(buffer.text, at)
        if found is None or found.end() - at > self._room:
            return self._open_bare(at)
        kind = found.lastgroup or ""
        if kind.startswith("row"):
            return self._open_marked(int(kind.removeprefix("row")), found)
        if kind == "loose":
            return self._open_loosely(found.end())
        if kind in ("thinks", "thought"):
            return self._read_thought_tag(kind, found.end())
        if buffer.is_ended:
            loose = _LOOSE_AT_END.match(buffer.text, at)
            return self._open_loosely(loose.end()) if loose else self._open_bare(at)
        if kind.startswith("name") and not self._declared.names.can_begin(found[kind]):
            self._undeclared += 1
            return None
        return False

    def _open_marked(self, number: int, found: re.Match[str]) -> bool | None:
        dialect = _MARKED[number]
        reader: CallReader | ArgumentsReader | ParametersReader
        if dialect.form in (Form.ARGUMENTS, Form.PARAMETERS):
            groups = found.groupdict()
            try:
                name = self._declared.find(groups[f"name{number}"])
            except NotACall:
                self._undeclared += 1
                return None
            if dialect.form is Form.ARGUMENTS:
                reader = ArgumentsReader(self._declared, name, groups.get(f"id{number}"))
            else:
                reader = ParametersReader(self._declared, name)
        else:
            reader = CallReader(self._declared, strict=dialect.form is Form.OBJECTS)
        return self._begin_call(dialect, reader, found.end())

    def _open_bare(self, at: int) -> bool | None:
        """Begin a call without an opening of its own, or another one after the same opening."""
        is_next = self._state is _State.EDGE and self._waiting.is_beside_call
        previous = self._candidate if is_next else None
        char = self._buffer.text[at]
        is_named = previous is not None and previous.reader.is_python and (char.isalpha() or char == "_")
        is_bracket = char in "{[" and (is_next or self._quoting.is_at_line_start)
        if not (is_named or is_bracket) or not self._room:
            return None
        dialect = _BARE
        if previous is not None and previous.dialect.form not in (Form.ARGUMENTS, Form.PARAMETERS):
            dialect = previous.dialect
        strict = dialect.form is Form.OBJECTS
        return self._begin_call(dialect, CallReader(self._declared, strict=strict), at)

    def _begin_call(
        self, dialect: Dialect, reader: CallReader | ArgumentsReader | ParametersReader, at: int
    ) -> bool:
        self._candidate = _Candidate(dialect, reader)
        self._state = _State.CALL
        self._buffer.at = at
        return True

    def _open_loosely(self, end: int) -> bool:
        """Take an opening without a call, or a special token: it goes if a call follows."""
        self._waiting.add_loose(self._buffer.take(end))
        self._state = _State.EDGE
        self._quoting.reset(at_line_start=self._quoting.is_at_line_start)
        return True

    def _read_call(self) -> bool:
        """Read on in what may be a call."""
        assert self._candidate is not None
        buffer, reader = self._buffer, self._candidate.reader
        text = buffer.text
        bound = buffer.at + max(0, self._room - len(buffer))
        visible = text if len(text) <= bound else text[:bound]
        try:
            buffer.at = reader.read(visible, buffer.at)
            if reader.is_complete:
                return self._complete()
            if buffer.at < len(visible) and not reader.is_waiting:
                return self._end_early(visible)
            if len(visible) < len(text):
                return self._overflow(bound)
            if buffer.is_ended:
                reader.read_rest(text[buffer.at :])
                buffer.at = len(text)
                if not reader.can_end(message_ended=True):
                    return self._refuse_all()
                reader.end()
                return self._complete()
            reader.check_unfinished()
        except Unreadable as reason:
            return self._refuse(reason)
        return False

    def _end_early(self, text: str) -> bool:
        """End a call without its last brace or tag, where something that ends it follows."""
        assert self._candidate is not None
        buffer, reader = self._buffer, self._candidate.reader
        if not reader.can_end(message_ended=False):
            return self._refuse()
        ends = _closing(self._candidate.dialect).match(text, buffer.at)
        begins = _OPENING.match(text, buffer.at)
        if (ends and ends["whole"] is not None) or (begins and (begins.lastgroup or "").startswith("row")):
            reader.end()
            return self._complete()
        if (ends or begins) and not buffer.is_ended:
            return self._overflow(len(text)) if len(text) < len(buffer.text) else False
        return self._refuse()

    def _complete(self) -> bool:
        """What was read is a call, or several."""
        assert self._candidate is not None
        dialect, reader = self._candidate
        calls = tuple(reader.calls)
        is_literal = not isinstance(reader, ParametersReader)
        doubt = self._doubt(dialect)
        self._waiting.add_calls(calls, self._buffer.take(self._buffer.at), doubt, is_tight=is_literal)
        self._state = _State.EDGE
        self._quoting.reset(at_line_start=False)
        return True

    def _doubt(self, dialect: Dialect) -> Doubt:
        """What would show that a complete call is none."""
        if self._fence:
            return Doubt.LAST
        if dialect.place is Place.OWN_LINES:
            return Doubt.LAST if self._waiting.has_text else Doubt.LINE
        return Doubt.NONE if self._is_settled or not self._waiting.has_text else Doubt.THOUGHT

    def _refuse(self, reason: Unreadable | None = None) -> bool:
        """What was read is no call. One may begin after its first character."""
        assert self._candidate is not None
        if isinstance(reason, NotACall) and reason.is_undeclared and self._candidate.dialect.form is not Form.OBJECTS:
            self._undeclared += 1
        at = self._buffer.rewind()
        self._begin_text()
        self._pass_over(at)
        return True

    def _refuse_all(self) -> bool:
        """What was read to the end of the message is no call, and nothing in it is one."""
        self._begin_text()
        self._say(self._buffer.at)
        return True

    def _overflow(self, end: int) -> bool:
        """Up to an offset there is as much as may be buffered: it is text, and so is what waits."""
        self._waiting.keep_as_text()
        self._begin_text()
        text = self._say(end)
        if text.strip():
            self._quoting.pass_over(text[-1])
        return True

    def _begin_text(self) -> None:
        self._state = _State.TEXT
        self._candidate = None
        self._quoting.reset(at_line_start=self._quoting.is_at_line_start)
        if self._fence:
            self._quoting.open_fence(self._fence.run, at_line_start=self._fence.has_line_end)
            self._fence = None

    def _pass_over(self, at: int) -> None:
        """The character at an offset is text."""
        self._quoting.pass_over(self._buffer.text[at])
        self._say(at + 1)

    def _say(self, end: int) -> str:
        """What is undecided, up to an offset, is text."""
        text = self._buffer.take(end)
        if text:
            self._waiting.add_text(text)
            if self._waiting.size > self._limit:
                self._waiting.keep_as_text()
        return text

    def _read_thought_tag(self, kind: str, end: int) -> bool | None:
        if self._fence or (kind == "thought" and self._is_settled):
            return None
        if kind == "thought":
            # The message began within a thought: no call before this was one.
            self._waiting.keep_as_text()
        self._say(end)
        self.settle()
        self._candidate = None
        if kind == "thinks":
            self._state = _State.THOUGHT
        else:
            self._begin_answer()
        return True

    def _begin_answer(self) -> None:
        self._waiting.has_text = False
        self._state = _State.EDGE
        self._quoting.reset(at_line_start=True)

    def _read_thought(self) -> bool:
        buffer = self._buffer
        found = _END_OF_THOUGHT.search(buffer.text, buffer.at)
        if found and found["whole"] is not None:
            self._say(found.end())
            self._begin_answer()
            return True
        self._say(found.start() if found and not buffer.is_ended else len(buffer.text))
        return False


def join(found: list[str | Call]) -> list[str | Call]:
    """Join adjacent texts."""
    out: list[str | Call] = []
    for each in found:
        if isinstance(each, str) and out and isinstance(out[-1], str):
            out[-1] += each
        else:
            out.append(each)
    return out
