"""Incremental splitting of the reasoning that models write before their answer from the answer.

Two spellings: ``<think>…</think>``, as the chat templates of Qwen 3 and DeepSeek R1 teach it, and the channels of
OpenAI's harmony format, as gpt-oss writes them.
"""

from __future__ import annotations

import re
from enum import Enum, Flag, auto
from typing import TYPE_CHECKING, Final, NamedTuple

from shim.repairs import Repair

if TYPE_CHECKING:
    from collections.abc import Iterable

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"
_WHITESPACE: Final = " \t\r\n"
_BRACKETS: Final = "<[{"
_MESSAGES: Final = ("<|channel|>", "<|start|>assistant")
"""What a message of harmony begins with."""
_CONTENT: Final = "<|message|>"
_FIRST_TOKENS: Final = ("<|start|>", "<|channel|>")
_TOKENS: Final = (*_FIRST_TOKENS, "<|end|>", "<|return|>", "<|call|>")
_TOKEN: Final = re.compile("|".join(map(re.escape, _TOKENS)))
_IN_CALL: Final = re.compile(rf'"|\\.?|{_TOKEN.pattern}', re.DOTALL)
_LONGEST_HEADER: Final = 300
_CHANNEL: Final = re.compile(r"<\|channel\|>(\w*)")
_RECIPIENT: Final = re.compile(r"\bto=\S")
# The model's own tools, such as its browser, are called within its analysis.
_FUNCTION: Final = re.compile(r"\bto=functions\.")

# The chat templates of DeepSeek-R1 and its distills, QwQ and Qwen3-Thinking open the thought in the prompt.
_BEGINS_IN_THOUGHT: Final = re.compile(r"(?:^|[^a-z0-9])(?:r1|qwq|thinking)(?:[^a-z0-9]|$)")


class Kind(Enum):
    """What a part of the content is."""

    CONTENT = auto()
    VERBATIM = auto()  # text in which no call is looked for
    REASONING = auto()
    REMOVED = auto()


class Part(NamedTuple):
    """A part of the content.

    Attributes:
        kind: What it is.
        text: The text as it was written.
        repair: The repair that takes it out of the content, once for each thought or message.
    """

    kind: Kind
    text: str
    repair: Repair | None = None


class Wants(Flag):
    """What is looked for in a message."""

    THOUGHTS = auto()
    SPLIT = auto()  # thoughts are moved out of the content
    WAIT = auto()  # without its beginning, a thought may still end: until then the text waits
    CHANNELS = auto()  # the channels of harmony
    CALLS = auto()  # calls are lifted: what begins with a bracket may be one, and a thought begins with words


class _State(Enum):
    BEFORE = auto()  # nothing but white space was read
    THOUGHT = auto()
    AFTER_THOUGHT = auto()  # in the white space before the answer
    UNOPENED = auto()  # in what is a thought if its end follows
    HEADER = auto()  # in the header of a message of harmony
    ANALYSIS = auto()
    FINAL = auto()
    CALL = auto()
    AFTER_MESSAGE = auto()
    ANSWER = auto()


_CHANNELS: Final = (_State.HEADER, _State.ANALYSIS, _State.FINAL, _State.CALL, _State.AFTER_MESSAGE)
_KINDS: Final = {_State.ANALYSIS: Kind.REASONING, _State.FINAL: Kind.CONTENT, _State.CALL: Kind.CONTENT}


def begins_in_thought(model: str | None) -> bool:
    """Whether a model of this name may begin inside its thought; one without a name may."""
    return model is None or bool(_BEGINS_IN_THOUGHT.search(model.lower()))


class ReasoningSplitter:
    """Separates the thoughts of one message from its answer.

    A thought begins with ``<think>`` before everything else and ends with ``</think>`` or the message. The texts of the
    parts, joined, are the content that was given, however it was cut.

    Attributes:
        is_settled: Whether it is known how the message begins, so that no thought without a beginning can end later.
    """

    def __init__(self, wants: Wants, *, limit: int) -> None:
        """Begin a message.

        Args:
            wants: What is looked for.
            limit: The most characters that wait for the end of a thought.
        """
        self._wants = wants
        self._limit = limit
        self._state = _State.BEFORE
        self._parts: list[Part] = []
        # Buffered are the pieces, and after them what may be the start of a marker.
        self._pieces: list[str] = []
        self._size = 0
        self._tail = ""
        self._is_after_reasoning = False
        # Where the arguments of a call are: in a string, and there after a backslash.
        self._is_in_string = False
        self._is_escaped = False
        self.is_settled = False

    @property
    def is_over(self) -> bool:
        """Whether the answer has begun: nothing but content can follow."""
        return self._state is _State.ANSWER

    def note_reasoning(self, *, removes_end: bool) -> None:
        """Take note that the service has sent reasoning itself.

        Args:
            removes_end: Whether the end of the thought goes, if the service has left it in the content.
        """
        self._is_after_reasoning = removes_end
        self._wants &= ~Wants.WAIT
        self.is_settled = True

    @property
    def is_buffering(self) -> bool:
        """Whether the start of a marker is buffered."""
        return bool(self._tail or self._size)

    def feed(self, text: str) -> list[Part]:
        """Take the next piece of the content and give the parts that are certain now."""
        text, self._tail = self._tail + text, ""
        while text:
            text = self._read_channel(text) if self._state in _CHANNELS else self._read(text)
        return self._take_parts()

    def finish(self) -> list[Part]:
        """Take the end of the content and give what was buffered."""
        kind = self._kind_of_thought if self._state is _State.THOUGHT else _KINDS.get(self._state, Kind.CONTENT)
        self._add(kind, self._take_buffered() + self._tail)
        self._tail = ""
        return self._take_parts()

    # Each reader takes a text, gives its parts, and returns what is left for the next reader.

    def _read(self, text: str) -> str:
        match self._state:
            case _State.BEFORE:
                return self._read_start(text)
            case _State.THOUGHT:
                return self._read_thought(text)
            case _State.AFTER_THOUGHT:
                return self._read_after_thought(text)
            case _State.UNOPENED:
                return self._read_unopened(text)
            case _:
                return self._add(Kind.CONTENT, text)

    def _read_channel(self, text: str) -> str:
        match self._state:
            case _State.HEADER:
                return self._read_header(text)
            case _State.AFTER_MESSAGE:
                return self._read_after_message(text)
            case _:
                return self._read_message(text)

    def _read_start(self, text: str) -> str:
        waits = Wants.THOUGHTS in self._wants
        start = text.lstrip(_WHITESPACE) if waits or self._is_after_reasoning else text
        space = text[: len(text) - len(start)]
        if waits and space:
            self._buffer(space)
        else:
            self._add(Kind.CONTENT, space)
        if not start:
            return ""
        marks = (*((_OPEN,) if waits else ()), *((_CLOSE,) if self._is_after_reasoning else ()))
        messages = _MESSAGES if Wants.CHANNELS in self._wants else ()
        marker = next(filter(start.startswith, (*marks, *messages)), None)
        # A token of harmony is one token of the model: no service cuts it after its first character. Where nothing else
        # is looked for, an answer that begins with `<` is emitted at once.
        if marker is None and (_may_begin(start, marks) or (len(start) > 1 and _may_begin(start, messages))):
            self._tail = start
            return ""
        if marker in _MESSAGES:
            self._add(Kind.CONTENT, self._take_buffered())
            self._state = _State.HEADER
            return start
        if marker is None:
            may_be_call = Wants.CALLS in self._wants and start[0] in _BRACKETS and not start.startswith("</")
            self._state = _State.UNOPENED if Wants.WAIT in self._wants and not may_be_call else _State.ANSWER
            return self._take_buffered() + start
        self.is_settled = True
        if marker == _CLOSE:
            self._wants |= Wants.SPLIT
        repair = Repair.REASONING if marker == _OPEN else Repair.REASONING_END
        self._remove(self._take_buffered() + marker, repair)
        self._state = _State.THOUGHT if marker == _OPEN else _State.AFTER_THOUGHT
        return start[len(marker) :]

    def _read_thought(self, text: str) -> str:
        thought, marker, rest = text.partition(_CLOSE)
        if not marker:
            return self._add(self._kind_of_thought, self._without_tail(text, _CLOSE))
        self._add(self._kind_of_thought, thought)
        self._remove(marker)
        self._state = _State.AFTER_THOUGHT
        return rest

    def _read_after_thought(self, text: str) -> str:
        answer = text.lstrip(_WHITESPACE)
        self._remove(text[: len(text) - len(answer)])
        if answer:
            self._state = _State.ANSWER
        return answer

    def _read_unopened(self, text: str) -> str:
        end = text.find(_CLOSE)
        while end >= 0 and self._is_quoted(text, end) and end + len(_CLOSE) < len(text):
            end = text.find(_CLOSE, end + 1)
        thought, marker, rest = (text, "", "") if end < 0 else (text[:end], _CLOSE, text[end + len(_CLOSE) :])
        if not marker:
            thought = self._without_tail(text, _CLOSE)
        elif not rest and self._is_quoted(text, end):
            marker, self._tail = "", _CLOSE  # the next character decides
        self._buffer(thought)
        if self._size > self._limit:
            self._state = _State.ANSWER
            tail, self._tail = self._tail, ""
            return self._take_buffered() + marker + rest + tail
        if not marker:
            return ""
        self.is_settled = True
        self._add(Kind.REASONING, self._take_buffered())
        self._remove(marker, Repair.REASONING)
        self._state = _State.AFTER_THOUGHT
        return rest

    def _is_quoted(self, text: str, at: int) -> bool:
        """Whether the end of a thought is only written about, or may be: between backticks."""
        before = text[at - 1 : at] if at else "".join(self._pieces[-1:])[-1:]
        return before == "`" and text[at + len(_CLOSE) : at + len(_CLOSE) + 1] in ("", "`")

    def _read_header(self, text: str) -> str:
        text = self._take_buffered() + text
        header, marker, rest = text.partition(_CONTENT)
        channel = _CHANNEL.search(header)
        longest = _LONGEST_HEADER if marker else _LONGEST_HEADER + len(_CONTENT)
        if len(header) > longest or (marker and channel is None):
            self._state = _State.ANSWER
            return text
        if channel is None or not marker:
            self._buffer(text)
            return ""
        self.is_settled = True
        is_analysis = channel[1] == "analysis"
        if not (_FUNCTION if is_analysis else _RECIPIENT).search(header):
            self._state = _State.ANALYSIS if is_analysis else _State.FINAL
            self._add(Kind.REMOVED, header + marker, Repair.HARMONY if Wants.CHANNELS in self._wants else None)
            self._wants &= ~Wants.CHANNELS  # counted once
        else:
            self._state = _State.CALL
            self._is_in_string = self._is_escaped = False
            self._add(Kind.CONTENT, header + marker)
        return rest

    def _read_message(self, text: str) -> str:
        kind = _KINDS[self._state]
        token = self._find_end_of_call(text) if self._state is _State.CALL else _TOKEN.search(text)
        if token is None:
            return self._add(kind, self._without_tail(text, *_TOKENS))
        self._add(kind, text[: token.start()])
        if token.group() in _FIRST_TOKENS:
            self._state = _State.HEADER
            return text[token.start() :]
        # The scanner recognises a call by its tokens.
        self._add(Kind.CONTENT if self._state is _State.CALL else Kind.REMOVED, token.group())
        self._state = _State.AFTER_MESSAGE
        return text[token.end() :]

    def _find_end_of_call(self, text: str) -> re.Match[str] | None:
        """The next token that is not in a string of the arguments."""
        start, self._is_escaped = int(self._is_escaped), False
        for found in _IN_CALL.finditer(text, start):
            match found.group()[0]:
                case '"':
                    self._is_in_string = not self._is_in_string
                case "\\":
                    self._is_escaped = found.group() == "\\"
                case _ if not self._is_in_string:
                    return found
                case _:
                    pass
        return None

    def _read_after_message(self, text: str) -> str:
        start = text.lstrip(_WHITESPACE)
        if len(start) < len(text):
            self._buffer(text[: len(text) - len(start)])
        if not start or _may_begin(start, _FIRST_TOKENS):
            self._tail = start
            return ""
        if start.startswith(_FIRST_TOKENS):
            self._add(Kind.REMOVED, self._take_buffered())
            self._state = _State.HEADER
            return start
        self._state = _State.FINAL
        return self._take_buffered() + start

    # What is read.

    @property
    def _kind_of_thought(self) -> Kind:
        return Kind.REASONING if Wants.SPLIT in self._wants else Kind.VERBATIM

    def _remove(self, text: str, repair: Repair | None = None) -> None:
        """Take the marks of a thought out of the content, if the thought is."""
        if Wants.SPLIT in self._wants:
            self._add(Kind.REMOVED, text, repair)
        else:
            self._add(Kind.VERBATIM, text)

    def _add(self, kind: Kind, text: str, repair: Repair | None = None) -> str:
        """Give a part; adjacent ones of a kind become one. Nothing is left to read."""
        if not text:
            return ""
        if self._parts and self._parts[-1].kind is kind:
            last = self._parts.pop()
            text, repair = last.text + text, last.repair or repair
        self._parts.append(Part(kind, text, repair))
        return ""

    def _take_parts(self) -> list[Part]:
        parts, self._parts = self._parts, []
        return parts

    def _buffer(self, text: str) -> None:
        if text:
            self._pieces.append(text)
            self._size += len(text)

    def _take_buffered(self) -> str:
        buffered = "".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return buffered

    def _without_tail(self, text: str, *markers: str) -> str:
        """A text without what may be the start of a marker at its end, which waits."""
        last = text.rfind("<", -max(map(len, markers)))
        if last >= 0 and _may_begin(text[last:], markers):
            self._tail = text[last:]
            return text[:last]
        return text


def _may_begin(text: str, markers: Iterable[str]) -> bool:
    return any(marker.startswith(text) for marker in markers)
