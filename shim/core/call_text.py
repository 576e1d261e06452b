"""Tool calls that a model wrote as text, lifted out of the text while it streams.

The spellings are the rows of `shim.core.dialects`. What is a call, and what only looks like one, is written down in
docs/dialects.md.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shim.core.call_forms import (
    ArgumentsReader,
    Call,
    CallReader,
    Declared,
    NotACallError,
    ParametersReader,
)
from shim.core.dialects import Dialect, Form, Place
from shim.core.enclosures import ENCLOSURES, enclosure_of
from shim.core.literals import UnreadableError, end_of
from shim.core.openings import (
    BARE,
    FENCE,
    LAST_CHARS,
    LONE_CLOSINGS,
    LONGEST_RUN,
    LOOSE_AT_END,
    MARKED,
    OPENING,
    RUNS,
    STOP,
    STOPS,
    WRAPPERS,
    closing_of,
)
from shim.core.quoting import Quoting
from shim.core.surroundings import find_end_of_quotation, goes_on, is_cut
from shim.core.waiting import Doubt, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shim.core.call_forms import Reader

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_BRACKETS: Final = re.compile(r"[\]}]*")


class _State(Enum):
    EDGE = auto()  # at the start of the message, or directly after a call or a lone opening
    TEXT = auto()
    CALL = auto()  # after the opening of what may be a call
    ENCLOSED = auto()  # in a thought, or in what another markup quotes


class _Step(Enum):
    """The result of a search."""

    TAKEN = auto()
    CUT = auto()  # it may be there: only more text shows it
    ABSENT = auto()


class _Fence(NamedTuple):
    """A fence with which the message begins.

    Attributes:
        run: The characters that open it.
        has_line_end: Whether their line has ended.
        is_program: Whether the calls in it are written as a program.
    """

    run: str
    has_line_end: bool
    is_program: bool


class _Candidate(NamedTuple):
    """What may be a call, or was the last one.

    Attributes:
        dialect: How it is written.
        reader: What reads it.
        wrappers: What was opened directly before it and goes with it.
    """

    dialect: Dialect
    reader: Reader
    wrappers: frozenset[str] = frozenset()


class _Buffer:
    """The part of the text that is not decided.

    Attributes:
        text: The last piece, with what was not read of those before it.
        at: How far the text was read.
        is_ended: Whether the text is complete.
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
        """Read what is undecided again, from the offset that is returned."""
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

    The output does not depend on how the content is cut. What is not a call is kept to the character; only white space
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
        self._quoting = Quoting(STOPS, self._waiting.toggle)
        self._state = _State.EDGE
        self._candidate = _Candidate(BARE, CallReader(self._declared, strict=True))
        self._fence: _Fence | None = None
        self._enclosure = ENCLOSURES["<think>"]
        self._is_settled = False
        self._find_unsteady: Callable[[str], object] | None = None
        self._undeclared = 0

    @property
    def is_buffering(self) -> bool:
        """Whether some of the content may still become a call."""
        return bool(self._buffer.text or len(self._buffer) or self._waiting.size)

    @property
    def is_left_over(self) -> bool:
        """Whether the end of the content so far is dropped if the service gives a call after it."""
        is_outside = self._state in (_State.EDGE, _State.TEXT)
        is_cut = is_outside and bool(LOOSE_AT_END.match(self._buffer.text, self._buffer.at))
        return not self._waiting.is_beside_call and (is_cut or self._waiting.is_loose)

    def passes(self, text: str) -> bool:
        """Whether a piece of the content is certainly no part of a call, changes nothing, and nothing is buffered."""
        find_unsteady = self._find_unsteady
        return (
            find_unsteady is not None
            and not find_unsteady(text)
            and not (text[-1:] in LAST_CHARS and text.endswith(STOPS.at_end))
        )

    def feed(self, text: str) -> list[str | Call]:
        """Take the next piece of the content and give what is certain now, in order; adjacent text is joined."""
        if self.passes(text):
            return [text] if text else []
        self._buffer.add(text)
        self._read()
        is_empty = self._state is _State.TEXT and not (self._buffer.text or self._waiting.size)
        unsteady = self._quoting.unsteady if is_empty else None
        self._find_unsteady = unsteady.search if unsteady else None
        return self._waiting.flush()

    def finish(self, *, is_cut_off: bool = False) -> list[str | Call]:
        """Take the end of the content and give what was buffered.

        Args:
            is_cut_off: Whether the content has not ended by itself: a call that is not complete is text then.
        """
        if is_cut_off and self._state is _State.CALL:
            self._refuse_all(len(self._buffer.text))
        self._buffer.is_ended = True
        self._read()
        self._quoting.end()
        if self._fence and not self._waiting.is_beside_call:
            self._waiting.keep_as_text()
        self._waiting.end()
        return self._waiting.flush()

    def settle(self) -> None:
        """Take note that no thought without a beginning can be in the content."""
        self._is_settled = True
        self._waiting.settle()

    def begin_anew(self) -> None:
        """Take note that what follows is not quoted by what was before: another part of the message begins."""
        if self._state in (_State.TEXT, _State.ENCLOSED):
            self._find_unsteady = None
            self._state = _State.EDGE
            self._quoting.reset(at_line_start=True)

    def note_structured_call(self) -> None:
        """Take note that the service has given a call itself; what it left of its opening in the text is dropped."""
        self._waiting.note_structured_call()

    def take_undeclared(self) -> int:
        """Give how many calls have named no declared function since the last time. They stay text."""
        undeclared, self._undeclared = self._undeclared, 0
        return undeclared

    def _read(self) -> None:
        while self._advance():
            pass
        self._buffer.cut()

    def _advance(self) -> bool:
        """Read on as far as one thing goes; False where that takes more text."""
        if self._state is _State.TEXT:
            return self._read_text()
        if self._state is _State.EDGE:
            return self._read_edge()
        return self._read_call() if self._state is _State.CALL else self._read_enclosed()

    def _read_text(self) -> bool:
        buffer = self._buffer
        at = self._quoting.find(buffer.text, buffer.at)
        self._say(at)
        if at == len(buffer.text):
            return False
        step = self._open(at)
        if step is _Step.ABSENT:
            self._pass_over(at)
        return step is not _Step.CUT

    def _read_edge(self) -> bool:
        text, at = self._buffer.text, self._buffer.at
        if at == len(text):
            return False
        for look in (
            *(self._take_brackets, self._take_space, self._close, self._end_quotation),
            *(self._open_fence, self._open),
        ):
            step = look(at)
            if step is not _Step.ABSENT:
                return step is _Step.TAKEN
        self._begin_text()
        if STOP.match(text, at):
            self._pass_over(at)
        return True

    # Each of these looks for something at an offset.

    def _take_brackets(self, at: int) -> _Step:
        """Take brackets too many: small models close more than they have opened."""
        end = end_of(_BRACKETS, self._buffer.text, at) if self._waiting.is_tight else at
        if end == at:
            return _Step.ABSENT
        fits = min(end, at + self._room)
        self._waiting.add_closing(self._buffer.take(fits), is_tight=True)
        if fits < end:
            self._overflow(fits)
        return _Step.TAKEN

    def _take_space(self, at: int) -> _Step:
        end = end_of(_SPACE, self._buffer.text, at)
        if end == at:
            return _Step.ABSENT
        fits = min(end, at + self._room)
        space = self._buffer.take(fits)
        self._waiting.add_space(space)
        if "\n" in space:
            self._waiting.end_line()
            self._quoting.reset(at_line_start=True)
        if fits < end:
            self._overflow(fits)
        return _Step.TAKEN

    def _close(self, at: int) -> _Step:
        """Take what ends a call, or separates it from the next one."""
        buffer = self._buffer
        if not self._waiting.is_beside_call:
            return _Step.ABSENT
        if self._fence and buffer.text[at] == self._fence.run[0]:
            return self._close_fence(at, self._fence.run)
        found = closing_of(self._candidate.dialect, self._candidate.wrappers).match(buffer.text, at)
        if found and self._waiting.size and found.end() - at > self._room:
            return _Step.ABSENT
        if found and (found["whole"] is not None or (buffer.is_ended and found.group().startswith("</"))):
            self._waiting.add_closing(buffer.take(found.end()))
        elif found and not buffer.is_ended:
            return _Step.CUT
        elif buffer.text[at] in ",;" and self._room:
            self._waiting.add_space(buffer.take(at + 1))
        else:
            return _Step.ABSENT
        return _Step.TAKEN

    def _end_quotation(self, at: int) -> _Step:
        """Look for what shows that calls are quoted: a mark that closes, or the rest of their sentence."""
        buffer, waiting = self._buffer, self._waiting
        if waiting.is_followed:
            is_touching = not waiting.ends_with_space
            found = find_end_of_quotation(buffer.text, at, is_touching=is_touching)
            if found and is_cut(found) and not buffer.is_ended:
                return _Step.CUT
            if found or (waiting.is_in_sentence and goes_on(buffer.text[at], is_touching=is_touching)):
                waiting.quote()
        return _Step.ABSENT

    def _close_fence(self, at: int, run: str) -> _Step:
        buffer = self._buffer
        end = end_of(RUNS[run[0]], buffer.text, at)
        length = end - at
        if end == len(buffer.text) and length <= LONGEST_RUN and not buffer.is_ended:
            return _Step.CUT
        if not len(run) <= length <= LONGEST_RUN:
            return _Step.ABSENT
        self._fence = None
        self._waiting.add_closing(buffer.take(end))
        return _Step.TAKEN

    def _open_fence(self, at: int) -> _Step:
        """Take the opening line of a fence that may be the whole message, or go on to the next one."""
        buffer, waiting = self._buffer, self._waiting
        if self._fence or waiting.has_text or (waiting.is_beside_call and not waiting.is_fenced):
            return _Step.ABSENT
        found = FENCE.match(buffer.text, at)
        if found is None or found.end() - at > self._room:
            return _Step.ABSENT
        if found["whole"] is None:
            return _Step.ABSENT if buffer.is_ended else _Step.CUT
        self._fence = _Fence(found["run"], "\n" in found.group(), found["program"] is not None)
        waiting.add_fence(buffer.take(found.end()))
        return _Step.TAKEN

    def _open(self, at: int) -> _Step:
        """Take the opening of a call, a special token before calls, or a mark of a thought."""
        buffer = self._buffer
        found = OPENING.match(buffer.text, at)
        if found is None or found.end() - at > self._room:
            return self._open_bare(at)
        kind = found.lastgroup or ""
        if kind.startswith("row"):
            return self._open_marked(int(kind.removeprefix("row")), found)
        if kind == "enclosure" or kind.startswith("variable"):
            return self._open_enclosure(found.group(), found.end())
        if kind.endswith("_tag"):
            return self._note_tag(found)
        if kind in ("answer", "loose"):
            return (self._end_thought if kind == "answer" else self._open_loosely)(found.end())
        return self._open_late(at) if buffer.is_ended else _Step.CUT

    def _note_tag(self, found: re.Match[str]) -> _Step:
        """Take note of a tag of some markup, which is text."""
        if found["opened"]:
            self._waiting.open(found["opened"].lower())
        else:
            self._waiting.close(found["closed"].lower())
        return _Step.ABSENT

    def _open_late(self, at: int) -> _Step:
        """Take an opening that the end of the message cuts."""
        loose = LOOSE_AT_END.match(self._buffer.text, at)
        return self._open_loosely(loose.end()) if loose else self._open_bare(at)

    def _open_marked(self, number: int, found: re.Match[str]) -> _Step:
        dialect = MARKED[number]
        if dialect.form not in (Form.ARGUMENTS, Form.PARAMETERS):
            reader: Reader = CallReader(self._declared, strict=dialect.form is Form.OBJECTS)
            return self._begin_call(dialect, reader, found.end())
        groups = found.groupdict()
        try:
            name = self._declared.find(groups[f"name{number}"])
        except NotACallError:
            self._undeclared += 1
            return _Step.ABSENT
        if dialect.form is Form.ARGUMENTS:
            reader = ArgumentsReader(self._declared, name, groups.get(f"id{number}"))
        else:
            reader = ParametersReader(self._declared, name)
        return self._begin_call(dialect, reader, found.end())

    def _open_bare(self, at: int) -> _Step:
        """Begin a call without an opening of its own: one on a line of its own, or another one after a call."""
        char = self._buffer.text[at]
        is_next = self._state is _State.EDGE and self._waiting.is_beside_call
        is_program = self._fence is not None and self._fence.is_program
        is_in_python = is_program or (is_next and self._candidate.reader.is_python)
        is_named = is_in_python and (char.isalpha() or char == "_")
        is_bracket = char in "{[" and (is_next or self._quoting.is_at_line_start)
        if not (is_named or is_bracket) or not self._room:
            return _Step.ABSENT
        named_forms = (Form.ARGUMENTS, Form.PARAMETERS)
        dialect = self._candidate.dialect if is_next and self._candidate.dialect.form not in named_forms else BARE
        reader = CallReader(self._declared, strict=dialect.form is Form.OBJECTS, is_program=is_program)
        return self._begin_call(dialect, reader, at)

    def _begin_call(self, dialect: Dialect, reader: Reader, at: int) -> _Step:
        self._candidate = _Candidate(dialect, reader, self._candidate.wrappers)
        self._state = _State.CALL
        self._buffer.at = at
        return _Step.TAKEN

    def _open_loosely(self, end: int) -> _Step:
        """Take a special token, or an opening without a call: it goes if a call follows.

        A closing without a call goes beside a call of the service only.
        """
        token = self._buffer.text[self._buffer.at : end]
        is_closing = token in LONE_CLOSINGS
        if token in WRAPPERS:
            self._candidate = self._candidate._replace(wrappers=self._candidate.wrappers | {token})
        self._waiting.add_loose(self._buffer.take(end), is_closing=is_closing)
        self._state = _State.EDGE
        if is_closing:
            self._quoting.reset(at_line_start=False)
        return _Step.TAKEN

    def _open_enclosure(self, opening: str, end: int) -> _Step:
        if self._fence:
            return _Step.ABSENT
        self._enclosure = enclosure_of(opening)
        self._state = _State.ENCLOSED
        self._say(end)
        if self._enclosure.is_thought:
            self.settle()
        return _Step.TAKEN

    def _end_thought(self, end: int) -> _Step:
        """Take the end of a thought with which the message began: nothing before it was a call."""
        if self._fence or self._is_settled:
            return _Step.ABSENT
        self._waiting.keep_as_text()
        self._say(end)
        self.settle()
        self._begin_answer()
        return _Step.TAKEN

    # What may be a call.

    def _read_call(self) -> bool:
        buffer, text = self._buffer, self._buffer.text
        bound = buffer.at + max(0, self._room - len(buffer))
        try:
            return self._read_candidate(text if len(text) <= bound else text[:bound])
        except UnreadableError as reason:
            is_undeclared = isinstance(reason, NotACallError) and reason.is_undeclared
            if is_undeclared and self._candidate.dialect.form is not Form.OBJECTS:
                self._undeclared += 1
            return self._refuse()

    def _read_candidate(self, text: str) -> bool:
        """Read on in what may be a call, in a text that ends where no more may be buffered."""
        buffer, reader = self._buffer, self._candidate.reader
        buffer.at = reader.read(text, buffer.at)
        if reader.is_complete:
            return self._complete()
        if buffer.at < len(text) and not reader.is_waiting:
            return self._end_early(text)
        if buffer.is_ended and len(text) == len(buffer.text):
            return self._end_late(text)
        reader.check_unfinished()
        return self._overflow(len(text)) if len(text) < len(buffer.text) else False

    def _end_early(self, text: str) -> bool:
        """End a call that lacks its last brace or tag, where something that ends it follows."""
        buffer, (dialect, reader, wrappers) = self._buffer, self._candidate
        if not reader.can_end:
            return self._refuse()
        closing, opening = closing_of(dialect, wrappers).match(text, buffer.at), OPENING.match(text, buffer.at)
        is_closed = closing and closing["whole"] is not None
        if is_closed or (opening and (opening.lastgroup or "").startswith("row")):
            reader.end()
            return self._complete()
        if (closing or opening) and not buffer.is_ended:
            return self._overflow(len(text)) if len(text) < len(buffer.text) else False
        return self._refuse()

    def _end_late(self, text: str) -> bool:
        """End a call with the message; if that cannot be, nothing in it is a call."""
        buffer, reader = self._buffer, self._candidate.reader
        reader.read_rest(text[buffer.at :])
        buffer.at = len(text)
        if reader.can_end:
            reader.end()
            return self._complete()
        return self._refuse_all(len(text))

    def _complete(self) -> bool:
        """What was read is a call, or several."""
        dialect, reader, _ = self._candidate
        calls = tuple(reader.calls)
        if not calls:
            return self._refuse()
        is_tight = dialect.form is not Form.PARAMETERS
        written = self._buffer.take(self._buffer.at)
        is_in_list = self._quoting.is_in_list and "\n" not in written
        if self._quoting.quotes(written) or (is_in_list and self._waiting.note_item(dialect.opening)):
            self._begin_text()
            self._quoting.quote_line()
            self._waiting.add_text(written)
            return True
        doubt = Doubt.LIST if is_in_list else self._doubt(dialect)
        is_in_sentence = is_in_list or self._quoting.is_in_sentence
        self._waiting.add_calls(calls, written, doubt, is_tight=is_tight, is_in_sentence=is_in_sentence)
        self._state = _State.EDGE
        self._quoting.reset(at_line_start=False)
        return True

    def _doubt(self, dialect: Dialect) -> Doubt:
        """What would show that a complete call is none."""
        if self._fence:
            return Doubt.LAST
        if dialect.place is Place.OWN_LINES:
            return Doubt.LAST if self._waiting.has_text else Doubt.LINE
        return Doubt.THOUGHT if self._waiting.has_text and not self._is_settled else Doubt.NONE

    def _refuse(self) -> bool:
        """What was read is not a call. One may begin after its first character."""
        at = self._buffer.rewind()
        self._begin_text()
        self._pass_over(at)
        return True

    def _refuse_all(self, end: int) -> bool:
        """What was read up to the end of the content is not a call, and nothing in it is one."""
        self._begin_text()
        self._say(end)
        return True

    def _overflow(self, end: int) -> bool:
        """As much as may be buffered ends at an offset: it is text, and so is what waits."""
        self._waiting.keep_as_text()
        self._begin_text()
        text = self._say(end)
        if text.strip():
            self._quoting.pass_over(text[-1])
        return True

    # What is text.

    def _begin_text(self) -> None:
        self._state = _State.TEXT
        self._candidate = self._candidate._replace(wrappers=frozenset())
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

    def _begin_answer(self) -> None:
        """A thought is over: the message begins anew."""
        self._waiting.begin_anew()
        self._state = _State.EDGE
        self._quoting.reset(at_line_start=True)

    def _read_enclosed(self) -> bool:
        buffer = self._buffer
        found = self._enclosure.end.search(buffer.text, buffer.at)
        if found and found.lastgroup:
            self._say(found.end())
            if self._enclosure.is_thought:
                self._begin_answer()
            else:
                self._state = _State.TEXT
                self._quoting.reset(at_line_start=found.group().endswith("\n"))
            return True
        self._say(found.start() if found and not buffer.is_ended else len(buffer.text))
        return False

    @property
    def _room(self) -> int:
        """How many characters may be buffered beside those that wait."""
        return max(0, self._limit - self._waiting.size)
