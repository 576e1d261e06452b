"""Fast path: rewrite an event that differs from the previous one only in its content.

Nearly all chunks of a stream are such events. To parse each and write it again would cost more than everything else the
shim does; here its bytes are compared with those of the previous one. The output is the same, byte for byte.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shim.core.chat_chunks import ChunkRepairer
from shim.core.jsontext import load
from shim.core.stream import StreamRepairer

if TYPE_CHECKING:
    from collections.abc import Callable

    from shim.repairs import Repair
    from shim.reports import RepairReport

_NAME: Final = b'"content":"'
_FIELD: Final = re.compile(rb'"content":"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_BACKSLASH: Final = ord("\\")
# Escapes that are written in the same way again.
_ESCAPED: Final = re.compile(rb"[^\\]*+(?:\\[\\bfnrt][^\\]*+)*+")
# Pieces of calls are joined, so each of them counts.
_CALLS: Final = re.compile(rb'"tool_calls":(?!\[\]|null)')
# Values that 1.x changes in every chunk. The repair removes them.
_NUMBER: Final = rb'"\w+":(?:0|[1-9]\d*)'
_VALUE: Final = re.compile(rb'\{%b(?:,%b)*\}|"[\w:+-]*"' % (_NUMBER, _NUMBER))
_VARYING: Final = re.compile(rb'(?:(?<="usage":)|(?<="CreatedAt":))(?:%b)' % _VALUE.pattern)
_NAMES: Final = (b'"usage":', b'"CreatedAt":')
_BLANK_LINES: Final = re.compile(rb"[\r\n]+")
_LONGEST_BLANK_LINE: Final = 2
_FIRST_LEARNED: Final = 3
"""The events that a stream begins with are not compared: they are special ones, and a short answer has no others."""
_MOST_LEARNED: Final = 2**16
"""The size in bytes of the largest event that is compared: a larger one is not worth a second copy."""
_MOST_JOINED: Final = 4096
"""The bytes of an event that are compared again with each further chunk of it; beyond that it would not be linear."""


class FastStreamRepairer(StreamRepairer):
    """A `StreamRepairer` for chat chunks that takes the fast path where it can; the output is the same."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Start a stream; see `StreamRepairer` for the arguments."""
        super().__init__(*arguments, **options)
        self._pattern = (
            EventPattern(self.report, needs_usage=self._request.include_usage)
            if isinstance(self._events, ChunkRepairer)
            else None
        )
        # Whether the next event may take the fast path.
        self._is_ready = False
        # The event that is not complete yet, and the repairs that were made before it.
        self._event: list[bytes] = []
        self._event_size = 0
        self._repairs_before: dict[Repair, int] = {}
        # The buffered start of an event that may take the fast path.
        self._start = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes from the service and return what is emitted for them."""
        pattern = self._pattern
        if pattern is None:
            return super().feed(data)
        if self._start:
            data = self._take_start() + data
        # Usually a read brings one event, and one like the last.
        if self._is_ready and (out := pattern.rewrite(data)) is not None:
            return out
        outputs: list[bytes] = []
        position = 0
        while position < len(data):
            # One event, in most streams; the framer does not mind where its input is cut.
            end = data.find(b"\n", position) + 1
            end = end + data.startswith(b"\n", end) if end else len(data)
            if end - position <= _LONGEST_BLANK_LINE and (blank := _BLANK_LINES.match(data, position)):
                end = blank.end()
            piece = data[position:end]
            position = end
            if self._is_ready and (out := pattern.rewrite(piece)) is not None:
                outputs.append(out)
            elif self._is_ready and pattern.may_match(piece):
                self._start = piece
            else:
                outputs.append(self._learn(piece, pattern))
        return b"".join(outputs)

    def flush(self) -> bytes:
        """Return what is buffered: the connection broke."""
        return super().feed(self._take_start()) + super().flush()

    def finish(self) -> bytes:
        """Take the end of the body and return what is owed."""
        return super().feed(self._take_start()) + super().finish()

    def _take_start(self) -> bytes:
        start, self._start = self._start, b""
        return start

    def _learn(self, piece: bytes, pattern: EventPattern) -> bytes:
        """Repair a piece on the full path, and compare the event that it completes with the previous one."""
        report = self.report
        if report.events < _FIRST_LEARNED:
            return super().feed(piece)
        if self._framer.is_between_events:
            self._event = []
            self._event_size = 0
            self._repairs_before = dict(report.repairs)
        self._event_size += len(piece)
        if self._event_size <= _MOST_LEARNED:
            self._event.append(piece)
        events = report.events
        out = super().feed(piece)
        if report.events > events:
            before = self._repairs_before
            made = {repair: count - before.get(repair, 0) for repair, count in report.repairs.items()}
            made = {repair: count for repair, count in made.items() if count}
            is_one = report.events == events + 1 and self._event_size <= _MOST_LEARNED
            pattern.learn(b"".join(self._event) if is_one else b"", out, made, self._passes())
            self._event = []
            self._event_size = 0
        self._is_ready = pattern.is_known and self._framer.is_between_events and not self.has_ended
        return out

    def _passes(self) -> Callable[[str], bool] | None:
        chunks = self._events
        return chunks.passes if isinstance(chunks, ChunkRepairer) and chunks.scans_content else None


class _Event(NamedTuple):
    """An event without its content, as received and as emitted.

    Attributes:
        head: The bytes before the content.
        between: The bytes between the places where the content stands, if there are several.
        tail: The bytes after the last place, cut where a value varies.
        output: The emitted bytes, cut where the content stands; None if they are the received ones.
        repairs: The repairs that were made, one that was made twice being there twice.
    """

    head: bytes
    between: tuple[bytes, ...]
    tail: tuple[bytes, ...]
    output: tuple[bytes, ...] | None
    repairs: tuple[Repair, ...]


class EventPattern:
    """What consecutive events of one stream have in common.

    After two consecutive events with the same pattern and outcome, later ones are rewritten without parsing. Any other
    event ends that, until there are two again.

    Attributes:
        is_known: Whether the last two events had the same pattern.
    """

    def __init__(self, report: RepairReport, *, needs_usage: bool) -> None:
        """Count in the report what the repair would have counted.

        Args:
            report: The report.
            needs_usage: Whether the usage of each event matters, although it is not emitted with it.
        """
        self.is_known = False
        self._needs_usage = needs_usage
        self._report = report
        self._limit = report.policy.max_event_bytes
        self._last: _Event | None = None
        self._passes: Callable[[str], bool] | None = None

    def learn(
        self, event: bytes, output: bytes, repairs: dict[Repair, int], passes: Callable[[str], bool] | None
    ) -> None:
        """Compare an event with the previous one.

        Args:
            event: Its bytes; empty if several were received at once.
            output: What was emitted for it.
            repairs: Those that were made.
            passes: Tells whether a content would be emitted unchanged; None if every content is.
        """
        self._passes = passes
        last, self._last = self._last, self._read(event, output, repairs)
        self.is_known = self._last is not None and self._last == last
        if repairs and self._report.has_listeners:
            # Each repair has to be reported.
            self.is_known = False

    def _read(self, event: bytes, output: bytes, repairs: dict[Repair, int]) -> _Event | None:
        found = _FIELD.search(event)
        if found is None or not event.endswith(b"\n\n") or _CALLS.search(event):
            return None
        content = found.group()[len(_NAME) : -1]
        head, *between, last = _split_at(content, event)
        tail = (last,) if self._needs_usage else tuple(_VARYING.split(last))
        parts: tuple[bytes, ...] | None
        if event == output:
            tail, parts = (last,), None
        elif len(parts := _split_at(content, output)) == 1 or (
            len(tail) > 1 and any(name in output for name in _NAMES)
        ):
            return None
        return _Event(head, tuple(between), tail, parts, tuple(Counter(repairs).elements()))

    def rewrite(self, event: bytes) -> bytes | None:
        """Return what is emitted for an event that matches the previous one, and count it; None for any other."""
        if self._last is None:
            return None
        head, between, tail, output, repairs = self._last
        if not event.startswith(head) or len(event) > self._limit:
            return None
        start = len(head)
        end = event.find(b'"', start)
        content = event[start:end]
        if end < 0 or not _is_written_alike(content, self._passes):
            return None
        for part in between:
            again = part + content
            if not event.startswith(again, end):
                return None
            end += len(again)
        if not (event[end:] == tail[0] if len(tail) == 1 else _ends_with(event, end, tail)):
            return None
        report = self._report
        report.events += 1
        if repairs:
            report.repairs.update(repairs)
        return event if output is None else content.join(output)

    def may_match(self, piece: bytes) -> bool:
        """Whether the bytes are the start of an event that may match; nothing can be emitted for them yet."""
        head = b"" if self._last is None else self._last.head
        return (
            len(piece) <= min(_MOST_JOINED, self._limit)
            and (piece.startswith(head) or head.startswith(piece))
            and b"\n" not in piece
            and b"\r" not in piece
        )


def _split_at(content: bytes, event: bytes) -> tuple[bytes, ...]:
    """The bytes of an event between the places where the content stands."""
    first, *others = event.split(_NAME + content + b'"')
    parts = [first]
    for part in others:
        parts[-1] += _NAME
        parts.append(b'"' + part)
    return tuple(parts)


def _ends_with(event: bytes, start: int, tail: tuple[bytes, ...]) -> bool:
    """Whether an event ends with these bytes, and has a value between each two of them."""
    end = start
    for number, part in enumerate(tail):
        if number:
            value = _VALUE.match(event, end)
            if value is None:
                return False
            end = value.end()
        if not event.startswith(part, end):
            return False
        end += len(part)
    return end == len(event)


def _is_written_alike(content: bytes, passes: Callable[[str], bool] | None) -> bool:
    """Whether a content, as written in JSON, is valid and is emitted in the same spelling."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return False
    if not text.isprintable():
        return False
    if _BACKSLASH in content:
        if not _ESCAPED.fullmatch(content):
            return False
        text = text if passes is None else load(b'"%b"' % content)
    return passes is None or passes(text)
