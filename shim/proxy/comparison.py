"""What a program with the official client reads in a response: computed by that client, from the recorded bytes.

The same response is read twice, as it was received from the service and as the shim has sent it, so both sides of the
comparison are what a program would really get.
"""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import httpx

from shim.errors import causes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_RECORDED_BYTES: Final = 2 * 2**20
"""The longest response that is compared. The client needs some tenths of a millisecond for each chunk."""
MAX_LINES: Final = 2000
"""The most lines of an event. The client needs a time that grows with their square."""
_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_ADDRESS: Final = "http://recorded/v1"
_MAX_ERROR_CHARACTERS: Final = 500


class _EndOfRecordingError(httpx.ReadError):
    """The shim has read no further, so nobody knows what the service would have sent."""


@dataclass(slots=True)
class RecordedResponse:
    """A response, to be read by the official client.

    Attributes:
        status: Its HTTP status; None if there was no response.
        headers: Its headers.
        pieces: Its body, as far as it was read.
        failure: How it broke, if it did.
        is_complete: Whether its body was read to the end.
        size: The bytes of its body, including those that were too many to be recorded.
    """

    status: int | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    pieces: list[bytes] = field(default_factory=list[bytes])
    failure: httpx.HTTPError | None = None
    is_complete: bool = False
    size: int = 0

    def start(self, response: httpx.Response) -> None:
        """Record the status and the headers."""
        self.status = response.status_code
        self.headers = response.headers.raw

    @property
    def is_compressed(self) -> bool:
        """Whether the body has to be decompressed, to whatever size."""
        return any(name.lower() == b"content-encoding" and value != b"identity" for name, value in self.headers)

    @property
    def longest_event(self) -> int:
        """The number of lines of its longest event."""
        return max(len(_LINE_END.findall(event)) for event in _EVENT_END.split(b"".join(self.pieces)))

    def add(self, piece: bytes) -> None:
        """Record a piece of the body."""
        self.size += len(piece)
        if self.size <= MAX_RECORDED_BYTES:
            self.pieces.append(piece)
        else:
            self.pieces.clear()


def compare(received: RecordedResponse, sent: RecordedResponse) -> dict[str, Any]:
    """Read both responses in the two ways that programs use; this takes a moment, so do it in a thread.

    Returns:
        ``client``, the name and version of the official client, and ``readings``: for each way its name, and what a
        program gets without and with the shim. Or ``unavailable``: why there is nothing to compare.
    """
    if max(received.size, sent.size) > MAX_RECORDED_BYTES:
        return {"unavailable": f"The answer is larger than {MAX_RECORDED_BYTES // 2**20} MiB, so it was not recorded."}
    if received.is_compressed or sent.is_compressed:
        return {"unavailable": "The answer is compressed, although the shim asks for one that is not."}
    if max(received.longest_event, sent.longest_event) > MAX_LINES:
        return {"unavailable": f"An event of the answer has more than {MAX_LINES} lines."}
    import openai  # noqa: PLC0415 - slow, and needed after the first answer only

    ways: tuple[tuple[str, Callable[[RecordedResponse], dict[str, Any]]], ...] = (
        ("create", _read_chunks),
        ("stream", _read_with_helper),
    )
    return {
        "client": f"openai {openai.__version__}",
        "readings": [{"way": name, "without": read(received), "with": read(sent)} for name, read in ways],
    }


def _read_chunks(recorded: RecordedResponse) -> dict[str, Any]:
    """Read chunk by chunk, as OpenAI's documentation shows it."""
    reading = _Reading()
    with closing(_client(recorded)) as client:
        try:
            with closing(client.chat.completions.create(model="recorded", messages=[], stream=True)) as chunks:
                for chunk in chunks:
                    reading.take(chunk)
        except Exception as error:  # noqa: BLE001 - whatever a program would get is the result
            reading.error = error
    return reading.as_object()


def _read_with_helper(recorded: RecordedResponse) -> dict[str, Any]:
    """Read with the client's own helper, which assembles the completion."""
    reading = _Reading()
    with closing(_client(recorded)) as client:
        completions = client.chat.completions
        # Older releases have it in another place.
        helper = completions.stream if hasattr(completions, "stream") else client.beta.chat.completions.stream
        try:
            with helper(model="recorded", messages=[]) as stream:
                for event in stream:
                    if event.type == "chunk" and event.chunk.choices:
                        reading.take(event.chunk)
                reading.take_final(stream.get_final_completion())
        except Exception as error:  # noqa: BLE001 - the same
            reading.error = error
    return reading.as_object()


@dataclass(slots=True)
class _Reading:
    """What a program has got so far."""

    text: str = ""
    calls: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    finish_reason: str | None = None
    chunks: int = 0
    error: Exception | None = None

    def take(self, chunk: Any) -> None:
        self.chunks += 1
        choice = chunk.choices[0]
        self.text += choice.delta.content or ""
        for call in choice.delta.tool_calls or ():
            name, arguments = self.calls.setdefault(call.index, ["", ""])
            self.calls[call.index] = [name + (call.function.name or ""), arguments + (call.function.arguments or "")]
        self.finish_reason = choice.finish_reason or self.finish_reason

    def take_final(self, completion: Any) -> None:
        choice = completion.choices[0]
        self.text = choice.message.content or ""
        self.finish_reason = choice.finish_reason
        self.calls = {
            number: [call.function.name, call.function.arguments]
            for number, call in enumerate(choice.message.tool_calls or ())
        }

    def as_object(self) -> dict[str, Any]:
        is_cut = self.error is not None and any(isinstance(each, _EndOfRecordingError) for each in causes(self.error))
        return {
            "text": self.text,
            "calls": [{"name": name, "arguments": arguments} for name, arguments in self.calls.values()],
            "finish_reason": self.finish_reason,
            "chunks": self.chunks,
            "error": None if self.error is None or is_cut else _described(self.error),
            "is_cut": is_cut,
        }


def _described(error: Exception) -> str:
    name, message = type(error).__name__, str(error).strip()
    text = f"{name}: {message}" if message else name
    if isinstance(error.__cause__, httpx.HTTPError):
        text += f" ({type(error.__cause__).__name__}: {error.__cause__})"
    return text if len(text) <= _MAX_ERROR_CHARACTERS else f"{text[: _MAX_ERROR_CHARACTERS - 1]}…"


def _client(recorded: RecordedResponse) -> Any:
    from shim.doctor.probes import official_client  # noqa: PLC0415 - imports openai

    return official_client(_Replay(recorded), _ADDRESS)


class _Replay(httpx.BaseTransport):
    """A transport that answers each request with the recorded response."""

    def __init__(self, recorded: RecordedResponse) -> None:
        self._recorded = recorded

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self._recorded.status is None:
            raise self._recorded.failure or _EndOfRecordingError("not recorded")
        return httpx.Response(
            self._recorded.status, headers=self._recorded.headers, stream=_Pieces(self._recorded), request=request
        )


class _Pieces(httpx.SyncByteStream):
    def __init__(self, recorded: RecordedResponse) -> None:
        self._recorded = recorded

    def __iter__(self) -> Iterator[bytes]:
        yield from self._recorded.pieces
        if self._recorded.failure is not None:
            raise self._recorded.failure
        if not self._recorded.is_complete:
            raise _EndOfRecordingError("not recorded")
