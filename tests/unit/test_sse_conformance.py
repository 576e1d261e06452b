"""The framing follows the WHATWG HTML standard, section 9.2.6, and departs from it only where a repair code says so.

With every repair switched off nothing departs. The cases follow the list of the `eventsource` suite of the
web-platform-tests, as far as they are about the parser; what a browser does with a connection is not.
"""

import re
from dataclasses import dataclass, replace
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.core.sse import DONE, Frame, Framer
from shim.errors import StreamError
from shim.repairs import Policy, Repair
from shim.reports import RepairReport

STRICT_PROFILE = Policy(off=frozenset(Repair))
BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """What the standard dispatches."""

    data: str
    type: str = "message"
    id: str = ""


@dataclass(frozen=True)
class Reading:
    """All that a stream makes a standard-following reader do."""

    events: tuple[Event, ...]
    retry: int | None = None
    last_id: str = ""

    @property
    def data(self):
        """The data of the events."""
        return [event.data for event in self.events]


def read(body: bytes) -> Reading:
    """Interpret a whole stream, step by step as the standard has it."""
    text = body.decode("utf-8", "replace").removeprefix("\ufeff")
    events: list[Event] = []
    data, kind, id_buffer, last_id, retry = "", "", "", "", None
    *lines, _unended = re.split("\r\n|\n|\r", text)
    for line in lines:
        if not line:
            last_id = id_buffer
            if data:
                events.append(Event(data.removesuffix("\n"), kind or "message", last_id))
            data = kind = ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "data":
            data += value + "\n"
        elif name == "id" and "\0" not in value:
            id_buffer = value
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            retry = int(value)
    return Reading(tuple(events), retry, last_id)


class Framed(NamedTuple):
    """What the framing makes of a stream."""

    frames: list[Frame]
    report: RepairReport

    @property
    def data(self):
        """The payloads."""
        return [frame.data.decode("utf-8", "replace") for frame in self.frames if frame.data is not None]

    @property
    def raw(self):
        """The bytes that leave."""
        return b"".join(frame.raw for frame in self.frames)

    @property
    def codes(self):
        """The repairs that were counted."""
        return {code for code, count in self.report.repairs.items() if count}


def frame(pieces, policy: Policy) -> Framed:
    """Take a stream in pieces, up to its end marker or its end."""
    report = RepairReport(policy)
    framer = Framer(report)
    frames: list[Frame] = []
    for piece in pieces:
        for each in framer.feed(piece):
            frames.append(each)
            if each.data == DONE:
                return Framed(frames, report)
    return Framed([*frames, *framer.finish()], report)


def in_every_way(body: bytes):
    """Whole, byte by byte, and cut in two at every position."""
    yield [body]
    yield [body[at : at + 1] for at in range(len(body))]
    for at in range(1, len(body)):
        yield [body[:at], body[at:]]


@dataclass(frozen=True)
class Case:
    """A stream and what the standard makes of it."""

    body: bytes
    reading: Reading


def case(name, body, *events, retry=None, last_id=""):
    made = tuple(Event(event) if isinstance(event, str) else event for event in events)
    return pytest.param(Case(body, Reading(made, retry, last_id)), id=name)


LONG = b"-" * 300
# By the names of the suite; its server ends every stream with the newlines that stand here.
CASES = [
    case(
        "event-data",
        b"data:one\ndata: two\n\n:\nwrongfield:x\n\nwrongfield:x\nData:y\n\ndata\n\ndata:last\n\n",
        *("one\ntwo", "", "last"),
    ),
    case("format-field-data", b"data:\n\ndata\ndata\n\ndata:whole\n\n\n", "", "\n", "whole"),
    case("format-field-data, cut", b"data:\n\ndata\ndata\n\ndata:cut", "", "\n"),
    case("format-bom", BOM + b"data:a\n\n" + BOM + b"data:b\n\ndata:c\n\n\n", "a", "c"),
    case("format-bom-2", BOM + BOM + b"data:a\n\ndata:b\n\ndata:c\n\n\n", "b", "c"),
    case(
        "format-comments",
        b"data:a\r:\0\n:\r\ndata:b\n:" + LONG + b"\rdata:c\n:data:no\r:" + LONG + b"\ndata:d\n\n",
        "a\nb\nc\nd",
    ),
    case("format-data-before-final-empty-line", b"retry:1000\ndata:whole\n\nid:lost\ndata:cut\n", "whole", retry=1000),
    case("format-field-event", b"event:other\ndata:x\n\ndata:y\n\n\n", Event("x", "other"), "y"),
    case("format-field-event-empty", b"event: \ndata:x\n\n\n", "x"),
    case("format-field-id", "id: …\ndata:x\n\n\n".encode(), Event("x", id="…"), last_id="…"),
    case(
        "format-field-id-2",
        "id: …\ndata:x\n\ndata:y\n\nevent:other\ndata:z\n\n\n".encode(),
        *(Event("x", id="…"), Event("y", id="…"), Event("z", "other", "…")),
        last_id="…",
    ),
    case(
        "format-field-id-3, persists",
        b"id: 7\ndata:x\n\ndata:y\n\n",
        *(Event("x", id="7"), Event("y", id="7")),
        last_id="7",
    ),
    case(
        "format-field-id-3, changes",
        b"id: 7\ndata:x\n\nid: 8\ndata:y\n\ndata:z\n\n",
        *(Event("x", id="7"), Event("y", id="8"), Event("z", id="8")),
        last_id="8",
    ),
    case("format-field-id-3, resets", b"id: 7\ndata:x\n\nid:\ndata:y\n\ndata:z\n\n", Event("x", id="7"), "y", "z"),
    case("format-field-id-3, resets without colon", b"id: 7\ndata:x\n\nid\ndata:y\n\n", Event("x", id="7"), "y"),
    case("format-field-id-null", b"id: 7\nid: \0\0\ndata:x\n\n\n", Event("x", id="7"), last_id="7"),
    case(
        "format-field-parsing",
        b"data:\0\ndata:  b\rData:-\ndata\0:-\ndata:c\r\0data:-\nda-ta:-\rdata_-\ndata:d\rdata:\r\n data:-\ndata:e\n\n",
        "\0\n b\nc\nd\n\ne",
    ),
    case("format-field-retry", b"retry:03000\ndata:x\n\n\n", "x", retry=3000),
    case("format-field-retry-bogus", b"retry:3000\nretry:1000x\ndata:x\n\n\n", "x", retry=3000),
    case("format-field-retry-empty", b"retry\ndata:x\n\n\n", "x"),
    case("format-field-unknown", b"data:x\n data\ndata\nother:y\nsomewords\n:acomment\ndata:z\n\n\n", "x\n\nz"),
    case("format-leading-space", b"data:\tx\rdata: \ndata:y\n\n\n", "\tx\n\ny"),
    case("format-newlines", b"data:x\r\ndata\ndata:y\r\n\r\n", "x\n\ny"),
    case("format-null-character", b"data:\0\n\n\n\n", "\0"),
    case("format-utf-8", "data:ok…\n\n\n".encode(), "ok…"),
    # eventsource-from-readable-stream
    case("nothing", b""),
    case("multi-line data", b"data: x\ndata: y\n\n", "x\ny"),
    case("several events", b"data: x\n\ndata: y\n\n", "x", "y"),
    case("comment before data", b": words\ndata: x\n\n", "x"),
    case("CR, LF and CRLF", b"data: x\r\rdata: y\n\ndata: z\r\n\r\n", "x", "y", "z"),
    case("one BOM", BOM + b"data: x\n\n", "x"),
    case(
        "two streams, one behind the other",
        b"id: 42\nretry: 3000\ndata: x\n\ndata: y\n\n",
        *(Event("x", id="42"), Event("y", id="42")),
        retry=3000,
        last_id="42",
    ),
    # What else the standard says.
    case("BOM alone", BOM),
    case("BOM, cut", BOM[:2]),
    case("BOM before a comment", BOM + b": words\n\ndata:x\n\n", "x"),
    case("BOM before a blank line", BOM + b"\n\ndata:x\n\n", "x"),
    case("BOM within data", b"data:" + BOM + b"x\n\n", "\ufeffx"),
    case("lines end in CR to the end", b"data:x\r\r", "x"),
    case("CRLF to the end", b"data:x\r\n\r", "x"),
    case("no blank line at the end", b"data:x\n\ndata:y\n", "x"),
    case("no line end at the end", b"data:x\n\ndata:y", "x"),
    case("CR LF CR LF CR", b"data:x\r\n\r\n\rdata:y\r\r\n\n", "x", "y"),
    case("other line separators are text", "data:a\u2028b\u0085c\x0bd\x0ce\n\n".encode(), "a\u2028b\u0085c\x0bd\x0ce"),
    case("only one space is dropped", b"data:  x\nid:  7\nevent:  y\n\n", Event(" x", " y", " 7"), last_id=" 7"),
    case("further colons are text", b"data:a: b\nid:c:d\n\n", Event("a: b", id="c:d"), last_id="c:d"),
    case("data behind the other fields", b"data:x\nevent:y\nid:7\n\n", Event("x", "y", "7"), last_id="7"),
    case("the last event field counts", b"event:x\nevent:y\ndata:z\nevent\n\n", "z"),
    case("an event without data is none", b"event:x\n\ndata:y\n\n", "y"),
    case("an id without data is kept", b"id:7\n\ndata:y\n\n", Event("y", id="7"), last_id="7"),
    case("an id before the cut is not", b"data:x\n\nid:7\n", "x"),
    case("nor is a type", b"data:x\n\nevent:y\n", "x"),
    case("a time to retry is", b"data:x\n\nretry:7\n", "x", retry=7),
    case("unless its line is cut", b"data:x\n\nretry:7", "x"),
    case("in an event that is cut, too", b"data:x\n\ndata:y\nretry:7\n", "x", retry=7),
    case("blank lines after an id", b"id:7\ndata:x\n\n\n\n: words\n\n\n", Event("x", id="7"), last_id="7"),
    case("fields are case-sensitive", b"Data:a\nID:b\nEvent:c\nRETRY:5\ndata:x\n\n", "x"),
    case("what is no digit", "retry:٣\nretry:-1\nretry:1 \nretry: 7\ndata:x\n\n".encode(), "x", retry=7),
    case("bytes that are no UTF-8", b"data:\xff\xfex\xe2\n\n", "\ufffd\ufffdx\ufffd"),
    case("invisible data", b"data: \n\ndata:  \n\n", "", " "),
    # What the lenient default takes for something else.
    case("a text keep-alive", b"data: ping\n\ndata: Heartbeat\n\n", "ping", "Heartbeat"),
    case("another end marker", b"data: [done]\n\ndata:DONE\n\ndata: x\n\n", "[done]", "DONE", "x"),
    case("blanks around the end marker", b"data:  [DONE] \n\ndata: x\n\n", " [DONE] ", "x"),
    case("an end marker behind data", b"data: x\ndata: [DONE]\n\ndata: y\n\n", "x\n[DONE]", "y"),
    case("an end marker without a line end", b"data: x\n\ndata: [DONE]", "x"),
    case("an end marker that is cut", b"data: x\n\ndata: [DONE", "x"),
    case("an end marker in quotes that is cut", b'data: x\n\ndata: "[DONE]', "x"),
    case("an end marker that is none", b"[DONE]\n\ndata: x\n\n", "x"),
    case("a prefix twice", b"data: data: x\n\n", "data: x"),
    case("an indented prefix", b" data: x\n\ndata: y\n\n", "y"),
    case("an object without a field", b'{"a":1}\n\n{"a":\ndata: x\n\n', "x"),
    case("an array without a field", b'[\n{"a":1},\n]\n\ndata: x\n\n', "x"),
    case("two objects in one event", b'data: {"a":1}\ndata: {"a":2}\n\n', '{"a":1}\n{"a":2}'),
    case("an object in lines", b'data: {"a":\ndata: 1}\n\n', '{"a":\n1}'),
    case("an object and one newline", b'data: {"a":1}\n', *()),
    case("objects as services send them", b'data: {"a":1}\n\ndata: {"a":2}\n\n', '{"a":1}', '{"a":2}'),
]
BEHIND_THE_END_MARKER = [
    case("a blank line and more", b"data: x\n\ndata: [DONE]\n\ndata: y\n\n", "x", "[DONE]", "y"),
    case("data", b"data: x\n\ndata: [DONE]\ndata: y\n\n", "x", "[DONE]\ny"),
    case("nothing", b"data: x\n\ndata: [DONE]\n", "x"),
]


@pytest.mark.parametrize("each", [*CASES, *BEHIND_THE_END_MARKER[1:]])
def test_strict_profile_is_the_standard(each):
    """With every repair switched off, the payloads and the bytes that leave say what the standard says."""
    assert read(each.body) == each.reading
    for pieces in in_every_way(each.body):
        framed = frame(pieces, STRICT_PROFILE)
        assert framed.data == each.reading.data
        assert read(framed.raw) == each.reading
        assert read(framed.raw + b"data: an error\n\n") == with_an_error_behind(each.reading)
        assert not framed.codes


def with_an_error_behind(reading: Reading) -> Reading:
    """What a stream says when the shim has written an error event behind its end."""
    return replace(reading, events=(*reading.events, Event("an error", id=reading.last_id)))


@pytest.mark.parametrize("each", CASES)
def test_lenient_default_departs_with_a_code_or_not_at_all(each):
    """By default a case gives what the standard says, or a repair is counted; however it is cut, the same one."""
    whole = frame([each.body], Policy())
    for pieces in in_every_way(each.body):
        framed = frame(pieces, Policy())
        if not framed.codes:
            assert framed.data == each.reading.data
            assert read(framed.raw) == each.reading
            assert read(framed.raw + b"data: an error\n\n") == with_an_error_behind(each.reading)
        assert (framed.data, framed.raw, framed.codes) == (whole.data, whole.raw, whole.codes)


@pytest.mark.parametrize("each", CASES)
def test_bytes_leave_as_they_came(each):
    """Of a stream that ends with a whole event nothing is changed, but by a repair that is counted."""
    if each.body.endswith((b"\n\n", b"\r\r", b"\r\n\r\n")):
        assert frame([each.body], STRICT_PROFILE).raw == each.body
        default = frame([each.body], Policy())
        assert default.codes or default.raw == each.body


@pytest.mark.parametrize("each", BEHIND_THE_END_MARKER)
def test_end_marker_does_not_wait_for_its_blank_line(each):
    """Nothing that follows the end marker counts, so by default it leaves at once, and its blank line with it.

    The one departure that the framing cannot count, since it does not see the rest; the stream drops that and counts.
    """
    for pieces in in_every_way(each.body):
        framed = frame(pieces, Policy(strict=True))
        assert framed.data == ["x", "[DONE]"]
        assert framed.raw == b"data: x\n\ndata: [DONE]\n\n"


@pytest.mark.parametrize("marker", [b"data: [DONE]", b'data: "[DONE]"', b'data: "done"'])
def test_end_marker_that_is_cut_is_none(marker):
    """A body that is cut within the end marker does not say that the answer is complete."""
    for at in range(len(marker)):
        assert frame([b"data: x\n\n" + marker[:at]], Policy()).data == ["x"]
    assert frame([b"data: x\n\n" + marker], Policy()).data == ["x", "[DONE]"]


FRAGMENTS = st.sampled_from(
    [
        *(b"data", b"data:", b"data: ", b"event:", b"id", b"id: 1", b"retry: 5", b"retry", b":", b"Data: ", b" data:"),
        *(b"\n", b"\n", b"\n", b"\r", b"\r\n", b"\n\n", b" ", b"\0", BOM, BOM[:1], b"\xff", b"x", "é".encode()),
        *(b'{"a":1}', b'{"a":', b"1}", b"[", b"]", b",", b"ping", b"[done]"),
    ]
)
bodies = st.lists(FRAGMENTS, max_size=14).map(b"".join)
cuts = st.lists(st.integers(1, 12), max_size=8)


def cut(body, sizes):
    at = 0
    for size in sizes:
        yield body[at : at + size]
        at += size
    yield body[at:]


@given(st.lists(FRAGMENTS | st.just(b"[DONE]"), max_size=14).map(b"".join) | st.binary(max_size=12), cuts)
def test_strict_profile_is_the_standard_for_any_stream(body, sizes):
    """The same for streams that nobody has thought of, up to the end marker, which nothing may follow."""
    framed = frame(cut(body, sizes), STRICT_PROFILE)
    assert not framed.codes
    if framed.data[-1:] == ["[DONE]"]:
        assert framed.data == read(body).data[: len(framed.data)]
        assert read(framed.raw).events == read(body).events[: len(framed.data)]
    else:
        assert framed.data == read(body).data
        assert read(framed.raw) == read(body)


@given(bodies, cuts)
def test_lenient_default_departs_with_a_code_for_any_stream(body, sizes):
    """The same for the default: no departure without a code, and the bytes that leave hold the payloads."""
    framed = frame(cut(body, sizes), Policy())
    # An object that came over several lines without a field leaves as one line.
    lines = {each.data.decode("utf-8", "replace") for each in framed.frames if each.data and each.bare}
    assert read(framed.raw).data == [re.sub("[\r\n]", " ", data) if data in lines else data for data in framed.data]
    if not framed.codes:
        assert framed.data == read(body).data
        assert read(framed.raw) == read(body)


class Departure(NamedTuple):
    """One place where the default departs from the standard.

    Attributes:
        body: A stream.
        code: The repair that is counted.
        data: The payloads by default; `read` says what they are by the standard.
    """

    body: bytes
    code: Repair
    data: list[str]


A, B = '{"a":1}', '{"b":2}'
DEPARTURES = {
    "one newline ends an event": Departure(b'data: {"a":1}\ndata: {"b":2}\n\n', Repair.EVENT_BOUNDARY, [A, B]),
    "so does the end marker": Departure(b"data: x\ndata: [DONE]\n\n", Repair.EVENT_BOUNDARY, ["x", "[DONE]"]),
    "no blank line at the end": Departure(b'data: {"a":1}\n', Repair.EVENT_BOUNDARY, [A]),
    "no line end at the end": Departure(b'data: {"a":1}', Repair.EVENT_BOUNDARY, [A]),
    "nor where one newline ends an event": Departure(b'data: {"a":1}\ndata: {"b":2}', Repair.EVENT_BOUNDARY, [A, B]),
    "a field behind the last data": Departure(b'data: {"a":1}\nevent: x', Repair.EVENT_BOUNDARY, [A]),
    "nor behind the end marker": Departure(b"data: [DONE]", Repair.EVENT_BOUNDARY, ["[DONE]"]),
    "byte order mark": Departure(BOM + b"data: x\n\n", Repair.EVENT_BOUNDARY, ["x"]),
    "several of them": Departure(BOM + BOM + b"data: x\n\n", Repair.EVENT_BOUNDARY, ["x"]),
    "byte order mark within": Departure(b"data: x\n\n" + BOM + b"data: y\n\n", Repair.EVENT_BOUNDARY, ["x", "y"]),
    "empty event": Departure(b"data:\n\n", Repair.EVENT_BOUNDARY, []),
    "text keep-alive": Departure(b"data: ping\n\n", Repair.EVENT_BOUNDARY, []),
    "fields without data": Departure(b"id: 7\nretry: 5\n\n", Repair.EVENT_BOUNDARY, []),
    "blank line after an id": Departure(b"id: 7\ndata: x\n\n\n", Repair.EVENT_BOUNDARY, ["x"]),
    "end marker in small letters": Departure(b"data: [done]\n\n", Repair.DONE_MARKER, ["[DONE]"]),
    "end marker with blanks": Departure(b"data:  [DONE] \n\n", Repair.DONE_MARKER, ["[DONE]"]),
    "object without a field": Departure(b'{"a":1}\n{"b":2}\n', Repair.MISSING_DATA_PREFIX, [A, B]),
    "array without a field": Departure(b'[{"a":1},\n{"b":2}]\n', Repair.MISSING_DATA_PREFIX, [A, B]),
    "array whose bracket has a line": Departure(b'[\n{"a":1}\n]\n', Repair.MISSING_DATA_PREFIX, [A]),
    "end marker without a field": Departure(b"[DONE]\n\n", Repair.MISSING_DATA_PREFIX, ["[DONE]"]),
    "object without a field that is cut": Departure(b'{"a":\n', Repair.MISSING_DATA_PREFIX, []),
    "another case": Departure(b"Data: x\n\n", Repair.MISSING_DATA_PREFIX, ["x"]),
    "an indented field": Departure(b" data: x\n\n", Repair.MISSING_DATA_PREFIX, ["x"]),
    "prefix twice": Departure(b"data: data: x\n\n", Repair.DOUBLE_DATA_PREFIX, ["x"]),
}
# The payloads are the standard's, and yet other bytes leave: the official client knows the standard less well.
ONLY_BYTES = {
    "byte order mark",
    "blank line after an id",
    "fields without data",
    "object without a field that is cut",
}


@pytest.mark.parametrize("ending", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("name", DEPARTURES)
def test_departures_of_the_default(name, ending):
    """Each departure is counted under its code alone; with that code switched off, the standard is kept."""
    body, code, data = DEPARTURES[name]
    body = body.replace(b"\n", ending)
    for pieces in in_every_way(body):
        framed = frame(pieces, Policy())
        assert framed.data == data
        assert read(framed.raw).data == data
        assert framed.codes == {code}
    assert (data == read(body).data) is (name in ONLY_BYTES)
    assert framed.raw != body
    kept = frame([body], Policy(off=frozenset({code})))
    assert kept.data == read(body).data
    assert read(kept.raw) == read(body)


def test_every_code_of_the_framing_has_a_departure():
    """The table is complete as far as the codes go."""
    assert {departure.code for departure in DEPARTURES.values()} == {
        *(Repair.EVENT_BOUNDARY, Repair.DONE_MARKER, Repair.MISSING_DATA_PREFIX, Repair.DOUBLE_DATA_PREFIX),
    }


@pytest.mark.parametrize("step", [1, 5, 500])
def test_fields_before_an_object_without_prefix_count(step):
    """The limit is for all that an event holds, the lines before its object included."""
    lines, document = b"id: " + b"7" * 60 + b"\n: " + b"-" * 60 + b"\n", b'{"a":"' + b"x" * 60 + b'"}'
    body = (lines + document + b"\n") * 2
    size = len(lines) + len(document)
    pieces = [body[at : at + step] for at in range(0, len(body), step)]
    assert frame(pieces, Policy(max_event_bytes=size)).data == [document.decode()] * 2
    with pytest.raises(StreamError, match=f"larger than {size - 1} bytes"):
        frame(pieces, Policy(max_event_bytes=size - 1))


def test_lines_between_objects_without_prefix_do_not_count():
    """Blank lines and commas belong to no event: a long stream of small objects has no limit."""
    body = b'[\n{"a":1}' + b'\n\n,\n\n{"a":1}' * 200 + b"\n]\n"
    assert frame([body], Policy(max_event_bytes=20)).data == ['{"a":1}'] * 201


def test_bare_payload_is_told_from_a_field():
    """A payload that came as JSON alone is told from one of a field, whichever way that was spelled."""
    body = (
        b'data: {"a":1}\n\nevent: x\ndata: {"a":2}\n\nData: {"a":3}\n\n{"a":4}\n: x\n{"a":5}\ndata: {"a":6}\n\n[DONE]'
    )
    framed = frame([body], Policy())
    assert [each.bare for each in framed.frames if each.data] == [False, False, False, True, True, False, False]


def test_head_of_an_event():
    """The head is every line but those of the payload, also one whose name only begins like it."""
    [only] = frame([b"event: x\ndatabase: y\ndata: 1\n: z\ndata\nid: 7\n\n"], Policy()).frames
    assert only.head == b"event: x\ndatabase: y\n: z\nid: 7\n"
