"""Bytes to server-sent events, whatever the framing.

A `Framer` follows the WHATWG HTML standard, section 9.2.6 ("Interpreting an event stream"), and departs from it only
where a repair code allows it. It keeps the original bytes of every event, so an event that needs no repair is forwarded
as it was received.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple

from shim.core.jsontext import DocumentScanner, dump, load
from shim.errors import StreamError
from shim.repairs import Repair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shim.reports import RepairReport

DONE: Final = b"[DONE]"

_BOM: Final = b"\xef\xbb\xbf"
_BOMS: Final = re.compile(b"(?:%b)+" % _BOM)
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BLANK_LINES: Final = re.compile(rb"\n+|(?:\r\n)+|\r+")
# What may stand before, between and after the objects of a JSON array or of concatenated objects.
_SEPARATORS: Final = re.compile(rb"[ \t,\[\]]*")
# A byte order mark as well, where one stream was appended to another.
_BEFORE_DOCUMENT: Final = re.compile(rb"[ \t,\[\]%b]*" % _BOM)
_REPEATED_PREFIX: Final = re.compile(rb"(?:[ \t]*data:)+ ?")
# Only whole ones: `[DONE` is where a body was cut.
_DONE_SPELLINGS: Final = re.compile(rb'(?P<quote>"?)(?:done|\[done\])(?P=quote)', re.IGNORECASE)
_ERROR_EVENT: Final = re.compile(
    rb"(?<![^\r\n])event:[ \t]*(?:error|exception|failed|failure)[ \t]*(?![^\r\n])", re.IGNORECASE
)
_ALIVE_WORDS: Final = (b"ping", b"pong", b"keep-alive", b"keepalive", b"keep_alive", b"heartbeat")
# Some servers put the word into brackets, as in `[DONE]`.
_KEEP_ALIVES: Final = frozenset({b"", *_ALIVE_WORDS, *(b"[%b]" % word for word in _ALIVE_WORDS)})
_DATA_LINE: Final = (b"data:", b"data\n", b"data\r")
# Without the blank line that ends its event such a line is incomplete; a `retry` line or a comment is not.
_LINE_OF_AN_EVENT: Final = tuple(name + end for name in (b"data", b"event", b"id") for end in (b":", b"\n", b"\r"))
_LONGEST_KEYWORD: Final = 16
# It ends no event: once the official client has seen an id, it would take the blank line for one.
KEEP_ALIVE: Final = b": keep-alive\n"
"""A comment, which keeps timeouts alive, instead of an event that the official client cannot read."""


class Frame(NamedTuple):
    """One SSE event, or passthrough bytes between events.

    Attributes:
        raw: The original bytes, emitted when no repair is needed.
        data: The payload, its lines joined with a line feed; None for comments and blank lines.
        head: The event's other lines, emitted before a rewritten payload.
        bare: Whether the payload was received as JSON without a field name before it.
    """

    raw: bytes
    data: bytes | None = None
    head: bytes = b""
    bare: bool = False

    @property
    def is_error(self) -> bool:
        """Whether the event is called an error."""
        return bool(self.head) and _ERROR_EVENT.search(self.head) is not None


class LineBuffer:
    """Splits the input into lines, and buffers the one that is not complete yet.

    The chunks of an incomplete line are joined once, when it is complete, so a long line costs linear time.

    Attributes:
        chunk: The last chunk of the input.
        position: Where in it the next line, or the rest of the buffered one, starts.
        size: The number of buffered bytes from earlier chunks.
    """

    __slots__ = ("_has_cr", "_line_feed", "_pieces", "chunk", "position", "size")

    def __init__(self) -> None:
        """Start empty."""
        self.chunk = b""
        self.position = 0
        self.size = 0
        self._pieces: list[bytes] = []
        self._has_cr = False
        self._line_feed = -1

    def append(self, chunk: bytes) -> None:
        """Take the next chunk; the last one must be exhausted."""
        self.chunk = chunk
        self.position = 0
        # Search once per chunk; per line it is quadratic without any CR.
        self._has_cr = b"\r" in chunk
        self._line_feed = -1

    def next_line(self, *, after_cr: bool) -> bytes | None:
        """Return the next line with its end, or None if it is incomplete; then what there is of it is buffered.

        Args:
            after_cr: Whether the line before it belongs to the same event and ends in a bare carriage return.
        """
        end = self._line_end(after_cr=after_cr)
        if end < 0:
            self.buffer_rest()
            return None
        return self.take(end)

    def take_plain_event(self, limit: int) -> bytes:
        """Return an event of one line, ``data: {…}``, that is here with its blank line; empty if there is another."""
        chunk, start = self.chunk, self.position
        if not chunk.startswith(b"data: {", start):
            return b""
        end = self._line_feed
        if end < start:
            # One that is far away is found once: where lines end in CR, none of them ends there.
            end = chunk.find(b"\n", start)
            self._line_feed = end if end >= 0 else len(chunk)
        if (
            end < 0
            or not chunk.startswith(b"\n", end + 1)
            or end + 2 - start > limit
            or (self._has_cr and chunk.find(b"\r", start, end) >= 0)
        ):
            return b""
        self.position = end + 2
        return chunk[start : end + 2]

    def blank_lines_end(self) -> int:
        """The offset after a run of blank lines; 0 if there is none, or the one that is there may be incomplete."""
        match = _BLANK_LINES.match(self.chunk, self.position)
        if match is None:
            return 0
        end = match.end()
        if self.chunk[end - 1] == ord("\r") and self.chunk[end : end + 1] in (b"", b"\n"):
            # A line feed belongs to the carriage return before it.
            end -= 1
        return end if end > match.start() else 0

    def take(self, end: int) -> bytes:
        """Return what is buffered and the chunk up to an offset."""
        taken = self.chunk[self.position : end]
        self.position = end
        return self.flush() + taken if self._pieces else taken

    def take_unread(self) -> bytes:
        """Return the rest of the chunk."""
        return self.chunk[self.position :]

    def buffer_rest(self) -> None:
        """Buffer the rest of the chunk."""
        piece = self.chunk[self.position :]
        self._pieces.append(piece)
        self.size += len(piece)
        self.position = len(self.chunk)

    def flush(self) -> bytes:
        """Return what is buffered from earlier chunks."""
        buffered = b"".join(self._pieces)
        self._pieces.clear()
        self.size = 0
        return buffered

    def _line_end(self, *, after_cr: bool) -> int:
        """The offset after the present line's end, -1 if the line continues after the chunk."""
        chunk, start = self.chunk, self.position
        if self._pieces and self._pieces[-1].endswith(b"\r"):
            # A carriage return was buffered: it ends the line, together with a line feed if that is next.
            return start + 1 if chunk[start] == ord("\n") else start
        if not self._has_cr:
            return chunk.find(b"\n", start) + 1 or -1
        match = _LINE_END.search(chunk, start)
        if match is None:
            return -1
        if match.group() == b"\n":
            return match.end()
        if after_cr and match.start() == start and not self._pieces:
            # This stream's lines end in a bare carriage return: the event is complete, no line feed is waited for.
            return match.start() + 1
        return -1 if match.group() == b"\r" and match.end() == len(chunk) else match.end()


class _Event:
    """The lines of the event that is not complete yet."""

    __slots__ = ("_scanned", "_scanner", "has_fields", "lines", "size", "values")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.values: list[bytes] = []
        self.size = 0
        self.has_fields = False
        self._scanner = DocumentScanner()
        self._scanned = 0

    def holds_document(self) -> bool:
        """Whether the payload so far is one complete JSON object; each byte of it is read once."""
        if not self.values[0].startswith(b"{"):
            return False
        while self._scanned < len(self.values):
            value = self.values[self._scanned]
            if self._scanner.ended or (0 <= self._scanner.scan(value) < len(value.rstrip())):
                return False
            self._scanned += 1
        return self._scanner.ended


class _Mode(Enum):
    """Where in the stream the framer is."""

    START = auto()  # before the first line
    LINE_START = auto()  # at the start of a line, of which at most separators of JSON objects were received
    LINE = auto()
    DOCUMENT = auto()  # within a JSON object that has no `data:` before it


class Framer:
    """Cuts a byte stream into events, independently of how it is received.

    Attributes:
        is_cut: Whether the stream has ended within an event.
    """

    def __init__(self, report: RepairReport) -> None:
        """Count repairs in the report and take the size limit from its policy."""
        self.is_cut = False
        self._report = report
        self._limit = report.policy.max_event_bytes
        self._mode = _Mode.START
        self._buffer = LineBuffer()
        self._event = _Event()
        self._document = DocumentScanner()
        # Properties of this stream, known once an event has shown them.
        self._is_after_document = False
        self._newline_ends_event = False
        self._has_ids = False

    @property
    def is_between_events(self) -> bool:
        """Whether an event of the usual form may start with the next byte."""
        return (
            self._mode is _Mode.LINE_START
            and not self._buffer.size
            and not self._event.lines
            and not self._is_after_document
            and not self._newline_ends_event
        )

    @property
    def rest(self) -> bytes:
        """The bytes of the last chunk that are not read; those after the end marker, once that is."""
        return self._buffer.take_unread()

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Take the next bytes and yield every event that they complete.

        Raises:
            StreamError: An event exceeds the limit, or the policy is strict and a repair is needed.
        """
        buffer = self._buffer
        buffer.append(chunk)
        if self._mode is _Mode.START:
            yield from self._start_stream()
        while buffer.position < len(buffer.chunk):
            is_between_events = self.is_between_events
            # The form of nearly every event; the full path gives the same frame.
            if is_between_events and (raw := buffer.take_plain_event(self._limit)):
                yield Frame(raw, raw[6:-2])
            elif is_between_events and not self._has_ids and (end := buffer.blank_lines_end()):
                yield Frame(buffer.take(end))
            elif self._mode is _Mode.DOCUMENT:
                yield from self._continue_document()
            elif self._mode is _Mode.LINE_START and self._finds_document():
                yield from self._start_document()
            else:
                yield from self._read_line()

    def finish(self) -> Iterator[Frame]:
        """Take the end of the stream and yield the last event, if all of it was received.

        Raises:
            StreamError: The policy is strict and a repair is needed.
        """
        line = self._buffer.flush()
        # The standard discards a line without its end and an event without its blank line; that would silently lose
        # the text of the last event.
        if line and self._mode is not _Mode.DOCUMENT:
            yield from self._process_line(line)
        event = self._event
        is_error = event.has_fields and _ERROR_EVENT.search(b"".join(event.lines)) is not None
        is_whole = is_error or (bool(event.values) and event.holds_document())
        if is_whole and self._report.allow(Repair.EVENT_BOUNDARY):
            event.lines[-1] = _content(event.lines[-1]) + b"\n"
            yield from self._end_event()
        self.is_cut = bool(self._event.values) or self._mode is _Mode.DOCUMENT
        # Whatever is emitted next must start on a fresh line and start a new event.
        lines = self._event.lines
        if raw := b"".join(line for line in lines if _content(line) != line and not line.startswith(_LINE_OF_AN_EVENT)):
            yield Frame(raw)

    # Lines and documents.

    def _start_stream(self) -> Iterator[Frame]:
        """Remove the byte order mark, which the official client would take for part of the first line."""
        buffer = self._buffer
        buffer.append(buffer.flush() + buffer.chunk)
        while buffer.chunk.startswith(_BOM, buffer.position):
            buffer.position += len(_BOM)
            if not self._report.allow(Repair.EVENT_BOUNDARY, _BOM):
                # By the standard this one is not part of the first line, and another one after it is.
                self._mode = _Mode.LINE_START
                yield Frame(_BOM)
                return
        rest = buffer.take_unread()
        if len(rest) < len(_BOM) and _BOM.startswith(rest):
            buffer.buffer_rest()
            self._check_size()
        else:
            self._mode = _Mode.LINE_START

    def _finds_document(self) -> bool:
        """Whether there is an opening brace where a line's field name should be; moves on to it."""
        buffer = self._buffer
        separators = _BEFORE_DOCUMENT.match(buffer.chunk, buffer.position)
        brace = separators.end() if separators else buffer.position
        if brace == len(buffer.chunk):
            return False
        self._mode = _Mode.LINE
        if buffer.chunk[brace] != ord("{"):
            return False
        self._check_size(brace - buffer.position)
        if not self._report.allow(Repair.MISSING_DATA_PREFIX, buffer.chunk[buffer.position : brace]):
            return False
        buffer.position = brace
        return True

    def _start_document(self) -> Iterator[Frame]:
        self._buffer.flush()
        if self._event.values and self._report.allow(Repair.EVENT_BOUNDARY):
            yield from self._end_event()
        self._mode = _Mode.DOCUMENT
        self._event.size = sum(map(len, self._event.lines))
        self._document = DocumentScanner()

    def _continue_document(self) -> Iterator[Frame]:
        buffer = self._buffer
        end = self._document.scan(buffer.chunk, buffer.position)
        if end < 0:
            buffer.buffer_rest()
            self._check_size()
            return
        document = buffer.take(end)
        self._count(document)
        self._mode = _Mode.LINE_START
        self._is_after_document = True
        # A line break in valid JSON stands between tokens, where a space means the same.
        self._event.lines.append(b"data: " + document.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n")
        self._event.values.append(document)
        yield from self._end_event(bare=True)

    def _read_line(self) -> Iterator[Frame]:
        lines = self._event.lines
        line = self._buffer.next_line(after_cr=bool(lines) and lines[-1].endswith(b"\r"))
        if line is None:
            self._check_size()
            return
        self._mode = _Mode.LINE_START
        yield from self._process_line(line)

    def _process_line(self, raw: bytes) -> Iterator[Frame]:
        self._count(raw)
        line = _content(raw)
        if not line:
            if not self._is_after_document or self._event.lines:
                yield from self._end_event(raw)
            return
        if line.startswith(_BOM) and self._report.allow(Repair.EVENT_BOUNDARY, line):
            # One stream was appended to another.
            raw = _BOMS.sub(b"", raw, count=1)
            line = _content(raw)
            if not line:
                return
        is_after_document, self._is_after_document = self._is_after_document, False
        name, _, value = line.partition(b":")
        if name == b"data":
            yield from self._add_data(raw, value.removeprefix(b" "))
        elif name in (b"event", b"id", b"retry"):
            self._event.has_fields = True
            self._has_ids = self._has_ids or name == b"id"
            self._event.lines.append(self._decodable(raw))
        elif self._is_punctuation(line, after_document=is_after_document):
            self._is_after_document = True
        elif name.lower() == b"error" and value.strip() and self._report.policy.wants(Repair.ERROR_BODY):
            # Some servers report an error in a field of that name, which every parser ignores.
            payload = b'{"Error":' + _as_json(value.strip()) + b"}"
            yield from self._add_data(b"data: " + payload + raw[len(line) :], payload)
        elif (unprefixed := self._find_unprefixed(line)) is not None:
            yield from self._add_data(b"data: " + unprefixed + raw[len(line) :], unprefixed)
        else:
            self._event.lines.append(self._decodable(raw))

    def _decodable(self, line: bytes) -> bytes:
        """A line beside the payload, which the official client decodes as well, and fails."""
        if line.isascii():
            return line
        readable = line.decode(errors="replace").encode()
        return readable if readable != line and self._report.allow(Repair.ENCODING, line) else line

    def _is_punctuation(self, line: bytes, *, after_document: bool) -> bool:
        """Whether the line is only the brackets and commas of a JSON array whose objects are events."""
        if not line.strip() or not _SEPARATORS.fullmatch(line):
            return False
        return after_document or self._report.allow(Repair.MISSING_DATA_PREFIX, line)

    def _find_unprefixed(self, line: bytes) -> bytes | None:
        """The payload of a line that is nearly a data line."""
        name, colon, value = line.partition(b":")
        if colon and len(name) < _LONGEST_KEYWORD and name.strip().lower() == b"data":
            payload = value.removeprefix(b" ")
        elif len(line) < _LONGEST_KEYWORD and _DONE_SPELLINGS.fullmatch(line.strip()):
            payload = line.strip()
        else:
            return None
        return payload if self._report.allow(Repair.MISSING_DATA_PREFIX, line) else None

    def _add_data(self, raw: bytes, value: bytes) -> Iterator[Frame]:
        ending = _ending(raw)
        # Only the last line of a body may lack its end.
        is_cut = not ending
        if is_cut:
            ending = b"\n"
            raw += ending
        repeated = _REPEATED_PREFIX.match(value)
        if repeated and self._report.allow(Repair.DOUBLE_DATA_PREFIX, value):
            value = value[repeated.end() :]
            raw = b"data: " + value + ending
        done = len(value) < _LONGEST_KEYWORD and _DONE_SPELLINGS.fullmatch(value.strip()) is not None
        if done and value != DONE:
            done = self._report.allow(Repair.DONE_MARKER, value)
            if done:
                value = DONE
                raw = b"data: " + DONE + ending
        if self._event.values and (done or self._event.holds_document()) and self._report.allow(Repair.EVENT_BOUNDARY):
            # Nothing can belong to a payload that is complete: this service ends its events with one newline.
            self._newline_ends_event = True
            yield from self._end_event()
            self._event.size = len(raw)
        self._event.lines.append(raw)
        self._event.values.append(value)
        # By the standard a blank line ends an event and nothing else does.
        if done and self._report.policy.wants(Repair.EVENT_BOUNDARY):
            # Nothing after it counts, so its blank line is not waited for.
            if is_cut:
                self._report.allow(Repair.EVENT_BOUNDARY)
            yield from self._end_event()
        elif self._newline_ends_event and self._event.holds_document():
            self._report.allow(Repair.EVENT_BOUNDARY)
            yield from self._end_event()

    def _end_event(self, blank: bytes = b"", *, bare: bool = False) -> Iterator[Frame]:
        """The event is complete. Without a blank line it gets one, of the same kind as the line before it."""
        event, self._event = self._event, _Event()
        raw = b"".join(event.lines) + (blank or _ending(event.lines[-1]))
        if not event.values and not event.has_fields:
            if self._has_ids and self._report.allow(Repair.EVENT_BOUNDARY):
                # Once it has seen an id, the official client takes every blank line for an event.
                raw = b"".join(event.lines)
            yield Frame(raw)
            return
        payload = b"\n".join(event.values)
        frame = Frame(raw, payload, b"".join([line for line in event.lines if not line.startswith(_DATA_LINE)]), bare)
        # The client json-decodes keep-alives too, and fails.
        is_keep_alive = not frame.is_error and (not event.values or _is_keep_alive(payload))
        if is_keep_alive and self._report.allow(Repair.EVENT_BOUNDARY, raw):
            yield Frame(KEEP_ALIVE)
        elif event.values or frame.is_error:
            yield frame
        else:
            yield Frame(raw)

    # Sizes.

    def _count(self, part: bytes) -> None:
        """Count bytes of the present event, those of its blank line included."""
        self._event.size += len(part)
        self._check_size()

    def _check_size(self, more: int = 0) -> None:
        if self._event.size + self._buffer.size + more > self._limit:
            message = (
                f"Event {self._report.events + 1} of the stream is larger than {self._limit} bytes. "
                "If that is expected, raise the limit with Policy(max_event_bytes=…)."
            )
            raise StreamError(message, code="event_too_large")


def _is_keep_alive(payload: bytes) -> bool:
    """Whether a payload is only a keep-alive (none of them is valid JSON)."""
    return len(payload) <= _LONGEST_KEYWORD and payload.strip().lower() in _KEEP_ALIVES


def _as_json(value: bytes) -> bytes:
    """A field's value as JSON: itself, or as a string."""
    try:
        load(value)
    except ValueError:
        return dump(value.decode(errors="replace"))
    return value


def _content(line: bytes) -> bytes:
    return line.rstrip(b"\r\n")


def _ending(line: bytes) -> bytes:
    return line[len(_content(line)) :]
