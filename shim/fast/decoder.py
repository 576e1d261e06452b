"""The event decoder of `shim.OpenAI`: each event is framed once and parsed once.

It reads what a service nearly always sends: an event with one line of JSON, with or without a name, and comments, all
with line feeds. At the first event of another form the official decoder takes over the stream. Nothing is repaired
here; the transport has done that.
"""

from __future__ import annotations

import json
import re
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import openai

from shim.fast.models import parameters
from shim.reports import logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

try:
    # It returns what `json.loads` returns, or fails. orjson returns a float for a whole number of more than 64 bits.
    from pydantic_core import from_json
except ImportError:  # an older pydantic

    def from_json(data: bytes) -> Any:
        """Parse as the official client does."""
        return json.loads(data.decode())


_END: Final = b"\n\n"
_USUAL: Final = re.compile(rb"(?:event: ([\w.]+)\n)?data: (\{.*)\n\n")


class Event:
    """An event as `openai._streaming.ServerSentEvent` shows it, whose data has been parsed.

    Attributes:
        data: The JSON text.
        event: The name of the event, if it has one.
    """

    __slots__ = ("_parsed", "data", "event")

    id: None = None
    retry: None = None

    def __init__(self, data: str, parsed: Any, event: str | None = None) -> None:
        """Hold the data and what was parsed from it."""
        self.data = data
        self.event = event
        self._parsed = parsed

    def json(self) -> Any:
        """The parsed data."""
        return self._parsed

    def __repr__(self) -> str:
        """The same as that of the official event."""
        return f"ServerSentEvent(event={self.event}, data={self.data}, id={self.id}, retry={self.retry})"


class EventDecoder:
    """Decodes one stream, in place of an `openai._streaming.SSEDecoder`."""

    def __init__(self, official: Any) -> None:
        """Decode events of the usual form; the official decoder takes over at the first other one."""
        self._official = official
        self._buffer = bytearray()
        self._is_usual = True

    def iter_bytes(self, iterator: Iterator[bytes]) -> Iterator[Any]:
        """Decode a stream that is received in pieces, cut anywhere."""
        pieces = iter(iterator)
        for piece in pieces:
            if not self._buffer and (event := parse(piece)):
                yield event
                continue
            yield from self._cut(piece)
            if not self._is_usual:
                break
        yield from self._official.iter_bytes(chain((bytes(self._buffer),), pieces))

    async def aiter_bytes(self, iterator: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        """The same for an asynchronous stream."""
        pieces = aiter(iterator)
        async for piece in pieces:
            if not self._buffer and (event := parse(piece)):
                yield event
                continue
            for event in self._cut(piece):
                yield event
            if not self._is_usual:
                break
        async for event in self._official.aiter_bytes(_chained(bytes(self._buffer), pieces)):
            yield event

    def _cut(self, piece: bytes) -> Iterator[Event]:
        """The usual events that end in a piece. What follows them is left in the buffer."""
        buffer = self._buffer
        start, end = 0, max(len(buffer) - 1, 0)
        # Usually nothing is left of the piece before, and this one need not be copied.
        received: bytes | bytearray = piece
        if buffer:
            buffer += piece
            received = buffer
        # A carriage return ends a line, too, so an event may end earlier than a search for line feeds shows.
        self._is_usual = b"\r" not in piece
        while self._is_usual and (end := received.find(_END, end)) >= 0:
            end += len(_END)
            block = bytes(received[start:end])
            if event := parse(block):
                yield event
            elif not _is_comment(block):
                self._is_usual = False
                break
            start = end
        if received is buffer:
            del buffer[:start]
        else:
            buffer += received[start:]


def parse(block: bytes) -> Event | None:
    """Parse an event, with the empty line at its end; None if it is not of the usual form."""
    form = _USUAL.fullmatch(block)
    if form is None or b"\r" in block:
        return None
    name, data = form.groups()
    try:
        return Event(data.decode(), from_json(data), name.decode() if name else None)
    except ValueError:
        return None


def attach(client_class: type[Any]) -> None:
    """Let the clients of a class decode their streams here, unless the installed openai is not known to do the same."""
    official = getattr(client_class, "_make_sse_decoder", None)
    if official is None or not _is_known(official):
        logger.debug("openai %s: no fast path to decode streams", openai.__version__)
        return

    def make_sse_decoder(self: Any) -> Any:
        decoder = official(self)
        return EventDecoder(decoder) if self.takes_fast_path else decoder

    client_class._make_sse_decoder = make_sse_decoder  # noqa: SLF001 - there is no public place for it


def _is_known(make_sse_decoder: Callable[..., Any]) -> bool:
    """Whether openai's decoder and its events are as this module expects."""
    try:
        streaming = import_module("openai._streaming")
        decoder, event = streaming.SSEDecoder, streaming.ServerSentEvent
        readers = {parameters(decoder.iter_bytes), parameters(decoder.aiter_bytes)}
    except (ImportError, AttributeError):
        return False
    return (
        parameters(make_sse_decoder) == "self"
        and readers == {"self, iterator"}
        and _public_names(event) == _public_names(Event)
    )


def _public_names(kind: type[Any]) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def _is_comment(block: bytes) -> bool:
    """Whether a block is one line that every client ignores, such as a keep-alive."""
    return block.startswith(b":") and block.find(b"\n") == len(block) - len(_END) and block.isascii()


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
