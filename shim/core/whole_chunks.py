"""Chunks of other services whose text may become a call or a marker: if it is only text, they are emitted as received.

To buffer a part of the text would bring it to the program in other pieces, and logprobs beside other words than theirs.
So a chunk of another service waits as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

from shim.core.buffered import Buffered
from shim.core.chunk_form import is_hollow
from shim.core.jsontext import is_object, objects
from shim.errors import StreamError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shim.core.chat_chunks import ChunkRepairer
    from shim.core.foundry import Evidence
    from shim.reports import RepairReport

_TEXT_FIELDS: Final = ("role", "content")

Event: TypeAlias = "dict[str, Any] | bytes"
"""What is emitted: a chunk, or an event as received."""


class _Chunk(NamedTuple):
    """A chunk that may wait.

    Attributes:
        raw: Its event as received.
        text: The text of its content.
        has_more: Whether a call or reasoning is beside that.
        emitted: What the repair emitted for it.
    """

    raw: bytes
    text: str
    has_more: bool
    emitted: list[dict[str, Any]]


class _Queue:
    """The waiting chunks of one choice, whose repair emits their text later than they were received."""

    def __init__(self, index: int) -> None:
        self.index = index
        self._waiting = Buffered[_Chunk]()
        # Whether a call or reasoning waits beside a text.
        self.has_more = False
        # How many characters of the released chunks the repair has emitted for those that wait, or will emit.
        self._ahead = 0

    @property
    def is_waiting(self) -> bool:
        """Whether something waits that may be only text."""
        return bool(self._waiting) and self._waiting.is_only_text

    def add(self, chunk: _Chunk) -> None:
        self._waiting.add(chunk.text, chunk)
        self.has_more |= chunk.has_more

    def release(self, emitted: list[dict[str, Any]]) -> Iterator[bytes]:
        """Yield the events whose text is now emitted in full."""
        for text, chunk in self._waiting.release(self._text_in(emitted)):
            self._ahead += len(text) - len(self._text_in(chunk.emitted))
            yield chunk.raw

    def give_up(self, emitted: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield what the repair emitted for the waiting chunks and after them, without the text that was released."""
        _, waiting = self._waiting.give_up()
        for chunk in [*(chunk for each in waiting for chunk in each.emitted), *emitted]:
            if not (self._ahead and self._cut(chunk)):
                yield chunk

    def _cut(self, chunk: dict[str, Any]) -> bool:
        """Take released text out of a chunk; whether nothing is left of it."""
        for delta in self._deltas_of(chunk):
            text = delta.pop("content")
            cut = min(len(text), self._ahead)
            self._ahead -= cut
            if cut < len(text):
                delta["content"] = text[cut:]
        return is_hollow(chunk)

    def _text_in(self, emitted: list[dict[str, Any]]) -> str:
        return "".join(delta["content"] for chunk in emitted for delta in self._deltas_of(chunk))

    def _deltas_of(self, chunk: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The deltas of the choice that have text."""
        for choice in objects(chunk.get("choices")):
            delta: Any = choice.get("delta")
            if choice.get("index") == self.index and is_object(delta) and isinstance(delta.get("content"), str):
                yield delta


class WholeChunks:
    """Repairs the chunks of a stream with a `ChunkRepairer`; those of other services stay whole."""

    def __init__(self, chunks: ChunkRepairer, report: RepairReport, evidence: Evidence) -> None:
        """Start a stream.

        Args:
            chunks: The repair of its chunks.
            report: Where that counts.
            evidence: Whose stream it is.
        """
        self._chunks = chunks
        self._report = report
        self._evidence = evidence
        self._queues: dict[int, _Queue] = {}

    def repair(self, chunk: dict[str, Any], raw: bytes | None) -> list[Event] | None:
        """Repair one chunk in place.

        Args:
            chunk: The chunk.
            raw: The event as received; None if it cannot be emitted like that.

        Returns:
            What is emitted instead, or None if nothing had to be changed.

        Raises:
            StreamError: The policy is strict and a repair is needed, or the chunk is damaged.
        """
        if self._evidence.is_foundry and not self._queues:
            return _as_events(self._chunks.repair(chunk))
        sent_index, delta = _read(chunk)
        text = _text_of(delta)
        has_more = any(value for name, value in delta.items() if name not in _TEXT_FIELDS)
        if sent_index is None and not chunk.get("choices"):
            return _as_events(self._chunks.repair(chunk))
        repairs = self._report.repairs.total()
        # If what waits before it was emitted in part, then its own text is not emitted as a whole.
        is_whole = sent_index in self._queues or not self._chunks.is_buffering(sent_index)
        emitted = self._chunks.repair(chunk)
        index = self._chunks.last_index
        is_repaired = self._report.repairs.total() > repairs or self._chunks.has_found or self._evidence.is_foundry
        if raw is None or index is None or index != sent_index or is_repaired:
            return self._follow(index, chunk, emitted)
        queue = self._queues.get(index)
        if queue is None and (emitted is None or not is_whole):
            return _as_events(emitted)
        # A call or reasoning of the service's own does not wait for a text, only for another before it.
        if queue is not None and emitted is None and has_more and not text and not queue.has_more:
            return None
        return self._wait(queue or _Queue(index), _Chunk(raw, text, has_more, [chunk] if emitted is None else emitted))

    def _wait(self, queue: _Queue, chunk: _Chunk) -> list[Event]:
        """Let a chunk wait; return what is emitted now."""
        queue.add(chunk)
        out: list[Event] = [*queue.release(chunk.emitted)]
        if queue.is_waiting and self._chunks.is_buffering(queue.index):
            self._queues[queue.index] = queue
        else:
            out += queue.give_up([])
            self._queues.pop(queue.index, None)
        return out

    def _follow(
        self, index: int | None, chunk: dict[str, Any], emitted: list[dict[str, Any]] | None
    ) -> list[Event] | None:
        """Emit a chunk as it was repaired, after those that wait."""
        return self._give_up(index, [chunk] if emitted is None else emitted) if self._queues else _as_events(emitted)

    def drain(self, *, complete: bool) -> Iterator[Event]:
        """Yield what is owed at the end of the stream; see `ChunkRepairer.drain`."""
        try:
            for chunk in self._chunks.drain(complete=complete):
                index, _ = _read(chunk)
                yield from [chunk] if index is None else self._give_up(index, [chunk])
        except StreamError:
            yield from self._give_up(None, [])
            raise
        yield from self._give_up(None, [])

    def _give_up(self, index: int | None, emitted: list[dict[str, Any]]) -> list[Event]:
        """Emit chunks as they were repaired, after those of their choice that wait; after all if none is named."""
        events: list[Event] = []
        for each in [*self._queues] if index is None else [index]:
            if (queue := self._queues.pop(each, None)) is not None:
                events += queue.release(emitted)
                emitted = [*queue.give_up(emitted)]
        return events + emitted


def _as_events(emitted: list[dict[str, Any]] | None) -> list[Event] | None:
    return None if emitted is None else [*emitted]


def _read(chunk: dict[str, Any]) -> tuple[int | None, dict[str, Any]]:
    """The index and the delta of the only choice of a chunk; None as the index if there is not one."""
    choices: Any = chunk.get("choices")
    items = cast("list[Any]", choices) if isinstance(choices, list) else []
    choice: Any = items[0] if len(items) == 1 else None
    if not is_object(choice) or type(index := choice.get("index")) is not int:
        return None, {}
    delta: Any = choice.get("delta")
    return index, delta if is_object(delta) else {}


def _text_of(delta: dict[str, Any]) -> str:
    text: Any = delta.get("content")
    return text if isinstance(text, str) else ""
