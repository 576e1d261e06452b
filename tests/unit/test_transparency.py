"""Contract line 1: what needs no repair is forwarded as the bytes that were received."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.core.request import ChatRequest
from shim.repairs import Policy, Repair
from support.streams import DONE, END, chunk, conforming, event, payloads, recorded_body, recordings, repair, stream

SOURCE = b".cc:"


@pytest.mark.parametrize("path", recordings("2.2.1"), ids=lambda path: path.stem)
def test_recorded_stream_of_2_2_1_leaves_byte_identical(path):
    """Every chat stream recorded from the real 2.2.1 service passes unchanged, and no repair is counted.

    But for the places in the service's own source, which are cut out of its error messages.
    """
    body = recorded_body(path)
    result = repair(body, ChatRequest(model="m", include_usage="usage" in path.stem))
    if SOURCE in body:
        assert result.codes == {Repair.ERROR_BODY}
        assert SOURCE not in result.output
        result = repair(body, policy=Policy(off=frozenset({Repair.ERROR_BODY})))
    assert result.output == body
    assert not result.codes


def test_recordings_are_there():
    """The corpus is not empty, and it holds text, usage and error streams."""
    stems = {path.stem for path in recordings("2.2.1")}
    assert {"haiku", "haiku-usage", "emoji", "err-temp", "tool-required", "empty"} <= stems


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("comment", [b"", b": keep-alive\n\n", b":\n", b"retry: 100\n"])
def test_conforming_stream_leaves_byte_identical(ending, comment):
    """Comments, fields and line endings of a conforming stream stay as they are."""
    body = b"".join(comment + event(each) for each in conforming()) + DONE
    body = body.replace(b"\n", ending)
    assert repair(body).output == body


@pytest.mark.parametrize(
    "first",
    [
        b"event: message\ndata: %b\n\n",
        b"id: 7\ndata: %b\n\n",
        b"data:%b\n\n",
        b"data: %b\nevent: message\n\n",
        b"unknown: field\ndata: %b\n\n",
        b"\n\ndata: %b\n\n",
    ],
)
def test_other_shapes_of_a_proper_event_stay(first):
    """Whatever the standard allows around a payload is left alone."""
    head, *rest = conforming()
    body = first % json.dumps(head).encode() + stream(rest)
    result = repair(body)
    assert result.output == body
    assert not result.codes


def test_payload_over_several_data_lines_stays():
    """Pretty-printed JSON in several data lines is one event, as the standard says."""
    lines = json.dumps(chunk({"content": "x"}), indent=1).splitlines()
    body = "".join(f"data: {line}\n" for line in lines).encode() + b"\n" + stream([chunk({}, "stop")])
    assert repair(body).output == body


def test_members_that_nobody_knows_stay_where_a_chunk_is_repaired():
    """Only members on the known list are removed; the others stay, in their order and with their values."""
    foreign = {"timings": {"ms": 1.5}, "x": [1, None, "é"], "big": 2**63}
    sent = chunk({"content": "a", "reasoning_content": "b"}, IsDelta=False, **foreign)
    emitted, _ = repair(stream([sent, chunk({}, "stop")])).chunks
    del sent["IsDelta"]
    assert emitted == sent


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.lists(st.text(max_size=12), max_size=8),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["stop", "length", "content_filter"]),
    st.dictionaries(st.text("abcdefgh", min_size=2, max_size=5), json_values, max_size=3),
    st.booleans(),
)
def test_unknown_fields_are_forwarded_byte_by_byte(texts, ending, reason, members, ascii_only):
    """For any text, any unknown fields, either way of escaping and any line ending."""
    chunks = [{**members, **each} for each in conforming(texts, reason=reason)]
    body = "".join(f"data: {json.dumps(each, ensure_ascii=ascii_only)}\n\n" for each in chunks) + "data: [DONE]\n\n"
    wire = body.replace("\n", ending).encode("utf-8", "surrogatepass")
    result = repair(wire)
    assert result.output == wire
    assert not result.codes


@given(st.text(), st.text("abc:\r\n\x00", max_size=5))
def test_no_text_can_start_a_line(text, name):
    """Contract line 4: an event that the shim writes is one line, whatever characters its values hold."""
    body = event(chunk({"content": text, "role": "assistant", name: text}, IsDelta=False))
    output = repair(body + event(chunk({}, "stop")) + DONE).output
    assert output.count(b"\n") == 6
    assert b"\r" not in output
    assert b"\x00" not in output


def test_reader_of_the_tests_reads_what_a_service_sends():
    """The tests' own reader is not the repair's, and reads a stream."""
    assert list(payloads(stream([{"a": 1}]))) == [{"a": 1}, END]
