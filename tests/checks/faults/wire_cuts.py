"""A recorded stream, cut at every byte, and what a program should see of each cut.

What is to be expected is read off the recording here, without the shim and without an HTTP library.
"""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from support.raw_server import Close, Hold, Reset, Send, Step, chunk, last_chunk
from support.streams import WIRE

Ending: TypeAlias = Literal["end", "close", "reset", "silence"]

_STRIDE = 97
_DONE = b"data: [DONE]"


@dataclass(frozen=True)
class Seen:
    """What a program saw.

    Attributes:
        kind: "complete", or the name of the exception, with its code if it has one.
        text: The text that came before.
    """

    kind: str
    text: str = ""

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.kind} after {self.text!r}" if self.text else self.kind


@dataclass(frozen=True)
class Recorded:
    """A recorded response to a request for a stream.

    Attributes:
        release: Of Foundry Local.
        case: The name of the recording.
    """

    release: str
    case: str = "length"

    @cached_property
    def wire(self) -> bytes:
        """All bytes of it."""
        return (WIRE / "live" / self.release / f"{self.case}.http").read_bytes()

    @cached_property
    def head_end(self) -> int:
        """Where the body begins."""
        return self.wire.index(b"\r\n\r\n") + 4

    @cached_property
    def body(self) -> bytes:
        """The whole body, out of its chunks."""
        return self.body_before(len(self.wire))

    def body_before(self, place: int) -> bytes:
        """The part of the body that has come when the first bytes of the response have."""
        rest = self.wire[self.head_end : place]
        body = b""
        while b"\r\n" in rest:
            size, _, rest = rest.partition(b"\r\n")
            body += rest[: int(size, 16)]
            rest = rest[int(size, 16) + 2 :]
        return body

    @cached_property
    def _answers(self) -> list[tuple[int, str, bool]]:
        """Of each event: where in the body its JSON ends, its text, and whether it says why the answer ends."""
        answers: list[tuple[int, str, bool]] = []
        for event in re.finditer(rb"^data: (\{.*\})$", self.body, re.MULTILINE):
            [choice] = json.loads(event[1])["choices"]
            answers.append((event.end(), choice["delta"].get("content") or "", bool(choice.get("finish_reason"))))
        return answers

    @cached_property
    def text(self) -> str:
        """The text of the answer."""
        return "".join(text for _, text, _ in self._answers)

    def cut(self, place: int, ending: Ending) -> list[Step]:
        """The steps that send what is before the place, and end there in that way."""
        if ending == "end":
            body = self.body[:place]
            return [Send(self.wire[: self.head_end] + (chunk(body) if body else b"") + last_chunk()), Close()]
        end: Step = {"close": Close(), "reset": Reset(), "silence": Hold()}[ending]
        return [*([Send(self.wire[:place])] if place else []), end]

    def places(self, ending: Ending) -> list[int]:
        """Where it can be cut: everywhere."""
        return list(range(len(self.body if ending == "end" else self.wire) + 1))

    def some_places(self, ending: Ending) -> list[int]:
        """Some of them: the boundaries of lines, events, chunks and the head, and every so many bytes."""
        cut = self.body if ending == "end" else self.wire
        boundaries = {match.end() for match in re.finditer(rb"\r\n\r\n|\n+\r\n|\n\n|\}\]?\n|\[DONE\]", cut)}
        before = {place - 1 for place in boundaries} if ending != "silence" else set[int]()
        return sorted({0, len(cut), *boundaries, *before, *range(0, len(cut), _STRIDE)})

    def expected(self, place: int, ending: Ending, major: str) -> Seen:
        """What a program should see of a cut."""
        if ending != "end" and place < self.head_end:
            return Seen("APITimeoutError" if ending == "silence" else "APIConnectionError")
        body = self.body[:place] if ending == "end" else self.body_before(place)
        came = [answer for answer in self._answers if answer[0] <= len(body)]
        text = "".join(text for _, text, _ in came)
        has_reason = any(is_last for *_, is_last in came)
        after = body[came[-1][0] :] if came else b""
        # More of the answer may follow a reason that stands beside content, as in 1.x.
        is_within = bool(came and came[-1][1]) and after.lstrip(b"\n").startswith(b"data")
        is_whole = after.startswith(b"\n\n") if ending == "silence" else not is_within
        if _DONE in body or (ending in {"end", "silence"} and has_reason and is_whole):
            return Seen("complete", text)
        if ending == "silence":
            return Seen("APITimeoutError" if major == "3" else "ReadTimeout", text)
        if not came:
            return Seen("InternalServerError empty_stream")
        if ending == "end":
            return Seen("APIError stream_truncated", text)
        broken = "RemoteProtocolError" if ending == "close" else "ReadError"
        return Seen("APIConnectionError" if major == "3" else broken, text)
