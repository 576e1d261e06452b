"""The thought that reasoning models put before their answer, told apart while it streams."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"
_WHITESPACE: Final = " \t\r\n"


class Part(NamedTuple):
    """A piece of the content; "marker" is also the whitespace before ``<think>`` and behind ``</think>``."""

    kind: Literal["content", "reasoning", "marker"]
    text: str


class ReasoningSplitter:
    """Tells thought and answer of one message apart.

    A thought begins with ``<think>`` before everything else, and ends with ``</think>`` or the message: so the chat
    templates of Qwen 3 and DeepSeek R1 teach it. The texts of the parts, joined, are the content that came, however it
    was cut.
    """

    def __init__(self) -> None:
        """Begin a message."""
        self._read = self._before
        self._held: list[str] = []
        self._opened = 0
        self._parts: list[Part] = []

    @property
    def is_over(self) -> bool:
        """Whether the answer has begun: nothing but content can come."""
        return self._read == self._answer

    @property
    def is_buffering(self) -> bool:
        """Whether the start of a marker is buffered."""
        return any(self._held)

    def feed(self, text: str) -> list[Part]:
        """Take the next piece of the content and give the parts that are certain now."""
        while text:
            text = self._read(text)
        parts, self._parts = self._parts, []
        return parts

    def finish(self) -> list[Part]:
        """Take the end of the content and give what was held for the rest of a marker."""
        self._add("reasoning" if self._read == self._thought else "content", "".join(self._held))
        self._held.clear()
        return self.feed("")

    # Each reader takes a text, gives its parts, and returns what is left for the next reader.

    def _before(self, text: str) -> str:
        at = 0 if self._opened else len(text) - len(text.lstrip(_WHITESPACE))
        while at < len(text) and self._opened < len(_OPEN) and text[at] == _OPEN[self._opened]:
            at += 1
            self._opened += 1
        self._held.append(text[:at])
        if self._opened == len(_OPEN):
            self._add("marker", "".join(self._held))
            self._read = self._thought
        elif at < len(text):
            self._add("content", "".join(self._held))
            self._read = self._answer
        else:
            return ""
        self._held.clear()
        return text[at:]

    def _thought(self, text: str) -> str:
        text = "".join((*self._held, text))
        self._held.clear()
        thought, marker, rest = text.partition(_CLOSE)
        if marker:
            self._add("reasoning", thought)
            self._add("marker", marker)
            self._read = self._behind
            return rest
        last = text.rfind(_CLOSE[0])
        if last >= 0 and _CLOSE.startswith(text[last:]):
            self._held.append(text[last:])
            text = text[:last]
        self._add("reasoning", text)
        return ""

    def _behind(self, text: str) -> str:
        answer = text.lstrip(_WHITESPACE)
        self._add("marker", text[: len(text) - len(answer)])
        if answer:
            self._read = self._answer
        return answer

    def _answer(self, text: str) -> str:
        self._add("content", text)
        return ""

    def _add(self, kind: Literal["content", "reasoning", "marker"], text: str) -> None:
        if not text:
            return
        if self._parts and self._parts[-1].kind == kind:
            text = self._parts.pop().text + text
        self._parts.append(Part(kind, text))
