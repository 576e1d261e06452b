"""Bytes to events, whatever the framing.

A `Framer` follows the WHATWG HTML standard, section 9.2.6 ("Interpreting an event stream"), and departs from it only
where a repair code says so. It keeps the very bytes of every event, so that an event that needs no repair leaves as it
came.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from shim.core.jsontext import DocumentScanner
from shim.errors import StreamError
from shim.repairs import Repair

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from shim.reports import RepairReport

DONE: Final = b"[DONE]"

_BOM: Final = b"\xef\xbb\xbf"
_BOMS: Final = re.compile(b"(?:%b)+" % _BOM)
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
# What may stand before, between and behind the objects of a JSON array or of concatenated objects.
_SEPARATORS: Final = re.compile(rb"[ \t,\[\]]*")
# A byte order mark, too, where one stream was put behind another.
_BEFORE_DOCUMENT: Final = re.compile(rb"[ \t,\[\]%b]*" % _BOM)
_REPEATED_PREFIX: Final = re.compile(rb"(?:[ \t]*data:)+ ?")
# Only whole ones: `[DONE` is where a body was cut.
_DONE_SPELLINGS: Final = re.compile(rb'(?P<quote>"?)(?:done|\[done\])(?P=quote)', re.IGNORECASE)
_KEEP_ALIVES: Final = frozenset({b"", b"ping", b"keep-alive", b"keepalive", b"heartbeat"})
_DATA_LINE: Final = (b"data:", b"data\n", b"data\r")
# What means nothing without the blank line that ends its event; a `retry` line and a comment stand for themselves.
_LINE_OF_AN_EVENT: Final = tuple(name + end for name in (b"data", b"event", b"id") for end in (b":", b"\n", b"\r"))
_LONGEST_KEYWORD: Final = 16


class Frame(NamedTuple):
    """One event, or the bytes between two.

    Attributes:
        raw: The bytes that leave if nothing is changed in the payload.
        data: The payload, its lines joined with a line feed; None for comments and blank lines.
        head: The event's other lines, to stand before a rewritten payload.
        bare: Whether the payload came as JSON alone, without a field name before it.
    """

    raw: bytes
    data: bytes | None = None
    head: bytes = b""
    bare: bool = False


class Framer:
    """Cuts a byte stream into events, independently of how it arrives.

    Attributes:
        rest: The bytes behind the end marker that came in the same piece.
    """

    def __init__(self, report: RepairReport) -> None:
        """Count repairs in the report and take the size limit from its policy."""
        self.rest = b""
        self._report = report
        self._limit = report.policy.max_event_bytes
        # Otherwise a blank line ends an event and nothing else does, as the standard says.
        self._may_end_early = Repair.EVENT_BOUNDARY not in report.policy.off
        self._started = False
        # The line that is not complete yet, in the pieces that came: joined once, so a long line costs linear time.
        self._pieces: list[bytes] = []
        self._pieces_size = 0
        self._may_hold_cr = False
        self._only_separators = False
        # An object without a `data:` prefix that is not complete yet is collected in the pieces, too.
        self._in_document = False
        self._after_document = False
        # What the stream has shown so far.
        self._newline_ends_event = False
        self._id_seen = False
        self._begin_event()

    def _begin_event(self) -> None:
        self._lines: list[bytes] = []
        self._size = 0
        self._values: list[bytes] = []
        self._has_fields = False
        self._scanner = DocumentScanner()
        self._scanned = 0

    @property
    def between_events(self) -> bool:
        """Whether an event of the usual shape may begin with the next byte."""
        return (
            self._started
            and not self._pieces
            and not self._lines
            and not self._in_document
            and not self._after_document
            and not self._newline_ends_event
        )

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Take the next bytes and give every event that they complete.

        Raises:
            StreamError: An event is larger than the limit, or the policy is strict and a repair is due.
        """
        if not self._started:
            chunk = yield from self._begin_stream(chunk)
        # Looked for once: a look for each line would take quadratic time where there is none.
        self._may_hold_cr = b"\r" in chunk
        position = 0
        while position < len(chunk):
            if self._in_document:
                position = yield from self._continue_document(chunk, position)
                continue
            # The shape of nearly every event; the lines below give the same frame.
            if self.between_events and (end := self._plain_event_end(chunk, position)):
                yield Frame(chunk[position:end], chunk[position + 6 : end - 2])
                position = end
                continue
            if (brace := self._document_start(chunk, position)) >= 0:
                yield from self._begin_document()
                position = brace
                continue
            end = self._line_end(chunk, position)
            if end < 0:
                self._keep(chunk[position:])
                return
            line = self._take_pieces() + chunk[position:end]
            position = end
            for frame in self._line(line):
                if frame.data == DONE:
                    self.rest = chunk[position:]
                yield frame

    def finish(self) -> Iterator[Frame]:
        """Take the end of the stream and give the last event, if all of it came.

        Raises:
            StreamError: The policy is strict and a repair is due.
        """
        self._started = True
        line = self._take_pieces()
        # The standard discards a line without its end and an event without its blank line; the text of the last event
        # would be lost in silence.
        if line and not self._in_document:
            yield from self._line(line)
        if self._values and self._holds_document() and self._report.allow(Repair.EVENT_BOUNDARY):
            self._lines[-1] = _content(self._lines[-1]) + b"\n"
            yield from self._event()
        # What the shim writes behind this has to begin a line, and an event.
        left = (line for line in self._lines if _content(line) != line and not line.startswith(_LINE_OF_AN_EVENT))
        if raw := b"".join(left):
            yield Frame(raw)

    def _begin_stream(self, chunk: bytes) -> Generator[Frame, None, bytes]:
        """Take off the byte order mark, which the official client would take for a part of the first line."""
        chunk = self._take_pieces() + chunk
        while chunk.startswith(_BOM):
            chunk = chunk[len(_BOM) :]
            if not self._report.allow(Repair.EVENT_BOUNDARY, _BOM):
                # It leaves; by the standard it is no part of the first line, and another one behind it is.
                self._started = True
                yield Frame(_BOM)
                return chunk
        if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
            self._keep(chunk)
            return b""
        self._started = True
        return chunk

    def _plain_event_end(self, chunk: bytes, start: int) -> int:
        """The offset behind an event ``data: {…}`` of one line, if it and its blank line are here; otherwise 0."""
        if not chunk.startswith(b"data: {", start):
            return 0
        end = chunk.find(b"\n", start)
        if (
            end < 0
            or chunk[end + 1 : end + 2] != b"\n"
            or end + 2 - start > self._limit
            or (self._may_hold_cr and chunk.find(b"\r", start, end) >= 0)
        ):
            return 0
        return end + 2

    def _document_start(self, chunk: bytes, start: int) -> int:
        """The offset of an opening brace where a line's field name should be, or -1."""
        if not self._pieces:
            self._only_separators = True
        if not self._only_separators:
            return -1
        separators = _BEFORE_DOCUMENT.match(chunk, start)
        brace = separators.end() if separators else start
        if brace == len(chunk):
            return -1
        self._only_separators = False
        if chunk[brace] != ord("{"):
            return -1
        self._check_size(brace - start)
        return brace if self._report.allow(Repair.MISSING_DATA_PREFIX, chunk[start:brace]) else -1

    def _keep(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._pieces_size += len(piece)
        self._check_size()

    def _take_pieces(self) -> bytes:
        pieces = b"".join(self._pieces)
        self._pieces.clear()
        self._pieces_size = 0
        return pieces

    def _grow(self, size: int) -> None:
        """Count bytes to the present event, those of its blank line included."""
        self._size += size
        self._check_size()

    def _check_size(self, more: int = 0) -> None:
        if self._size + self._pieces_size + more > self._limit:
            message = (
                f"Event {self._report.events + 1} of the stream is larger than {self._limit} bytes. "
                "If that is expected, raise the limit with Policy(max_event_bytes=…)."
            )
            raise StreamError(message, code="event_too_large")

    def _line_end(self, chunk: bytes, start: int) -> int:
        """The offset behind the present line's end, -1 where the line goes on behind the chunk."""
        if self._pieces and self._pieces[-1].endswith(b"\r"):
            # A carriage return was held back: it ends the line, together with a line feed if that is next.
            return start + 1 if chunk[start] == ord("\n") else start
        if not self._may_hold_cr:
            return chunk.find(b"\n", start) + 1 or -1
        match = _LINE_END.search(chunk, start)
        if match is None:
            return -1
        if match.group() == b"\n":
            return match.end()
        blank = match.start() == start and not self._pieces
        if blank and self._lines and self._lines[-1].endswith(b"\r"):
            # This stream's lines end in a bare carriage return: the event is complete, nothing more is waited for.
            return match.start() + 1
        return -1 if match.group() == b"\r" and match.end() == len(chunk) else match.end()

    def _begin_document(self) -> Iterator[Frame]:
        self._pieces.clear()
        self._pieces_size = 0
        if self._values and self._report.allow(Repair.EVENT_BOUNDARY):
            yield from self._event()
        self._in_document = True
        self._size = sum(map(len, self._lines))
        self._scanner = DocumentScanner()

    def _continue_document(self, chunk: bytes, start: int) -> Generator[Frame, None, int]:
        end = self._scanner.scan(chunk, start)
        if end < 0:
            self._keep(chunk[start:])
            return len(chunk)
        document = self._take_pieces() + chunk[start:end]
        self._grow(len(document))
        self._in_document = False
        self._after_document = True
        # A line break in proper JSON stands between its tokens, where a space means the same.
        self._lines.append(b"data: " + document.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n")
        self._values.append(document)
        yield from self._event(bare=True)
        return end

    def _line(self, raw: bytes) -> Iterator[Frame]:
        self._grow(len(raw))
        line = _content(raw)
        if not line:
            if not self._after_document or self._lines:
                yield from self._event(raw)
            return
        if line.startswith(_BOM) and self._report.allow(Repair.EVENT_BOUNDARY, line):
            # One stream was put behind another.
            raw = _BOMS.sub(b"", raw, count=1)
            line = _content(raw)
            if not line:
                return
        after_document, self._after_document = self._after_document, False
        name, _, value = line.partition(b":")
        if name == b"data":
            yield from self._data_line(raw, value.removeprefix(b" "))
        elif name in (b"event", b"id", b"retry"):
            self._has_fields = True
            self._id_seen = self._id_seen or name == b"id"
            self._lines.append(raw)
        elif self._is_punctuation(line, after_document=after_document):
            self._after_document = True
        elif (unprefixed := self._unprefixed(line)) is not None:
            yield from self._data_line(b"data: " + unprefixed + raw[len(line) :], unprefixed)
        else:
            self._lines.append(raw)

    def _is_punctuation(self, line: bytes, *, after_document: bool) -> bool:
        """Whether the line is only the brackets and commas of a JSON array whose objects are events."""
        if not line.strip() or not _SEPARATORS.fullmatch(line):
            return False
        return after_document or self._report.allow(Repair.MISSING_DATA_PREFIX, line)

    def _unprefixed(self, line: bytes) -> bytes | None:
        """The payload of a line that only nearly is a data line."""
        name, colon, value = line.partition(b":")
        if colon and len(name) < _LONGEST_KEYWORD and name.strip().lower() == b"data":
            payload = value.removeprefix(b" ")
        elif len(line) < _LONGEST_KEYWORD and _DONE_SPELLINGS.fullmatch(line.strip()):
            payload = line.strip()
        else:
            return None
        return payload if self._report.allow(Repair.MISSING_DATA_PREFIX, line) else None

    def _data_line(self, raw: bytes, value: bytes) -> Iterator[Frame]:
        ending = _ending(raw)
        # Only the last line of a body may come without its end.
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
        if self._values and (done or self._holds_document()) and self._report.allow(Repair.EVENT_BOUNDARY):
            # Nothing can belong to a payload that is complete: this service ends its events with one newline.
            self._newline_ends_event = True
            yield from self._event()
            self._size = len(raw)
        self._lines.append(raw)
        self._values.append(value)
        if done and self._may_end_early:
            # Nothing that follows counts, so the blank line is not waited for.
            if is_cut:
                self._report.allow(Repair.EVENT_BOUNDARY)
            yield from self._event()
        elif self._newline_ends_event and self._holds_document():
            self._report.allow(Repair.EVENT_BOUNDARY)
            yield from self._event()

    def _holds_document(self) -> bool:
        """Whether the payload so far is one complete JSON object; each byte of it is looked at once."""
        if not self._values[0].startswith(b"{"):
            return False
        while self._scanned < len(self._values):
            value = self._values[self._scanned]
            if self._scanner.ended or (0 <= self._scanner.scan(value) < len(value.rstrip())):
                return False
            self._scanned += 1
        return self._scanner.ended

    def _event(self, blank: bytes = b"", *, bare: bool = False) -> Iterator[Frame]:
        """The event is complete. Where no blank line came it gets one, of the same kind as the line before it."""
        lines, values, has_fields = self._lines, self._values, self._has_fields
        self._begin_event()
        raw = b"".join(lines) + (blank or _ending(lines[-1]))
        payload = b"\n".join(values)
        # The official client parses what is no payload as JSON, too, and fails.
        if (_is_keep_alive(payload) if values else has_fields) and self._report.allow(Repair.EVENT_BOUNDARY, raw):
            return
        if values:
            head = b"".join([line for line in lines if not line.startswith(_DATA_LINE)])
            yield Frame(raw, payload, head, bare)
        elif self._id_seen and self._report.allow(Repair.EVENT_BOUNDARY):
            # Once an id was seen the official client takes every blank line for an event.
            yield Frame(b"".join(lines))
        else:
            yield Frame(raw)


def _is_keep_alive(payload: bytes) -> bool:
    """Whether a payload says nothing but that the connection lives; no JSON is among them."""
    return len(payload) <= _LONGEST_KEYWORD and payload.strip().lower() in _KEEP_ALIVES


def _content(line: bytes) -> bytes:
    return line.rstrip(b"\r\n")


def _ending(line: bytes) -> bytes:
    return line[len(_content(line)) :]
