"""Contract lines 6, 7 and 8: any cut, any bytes, any size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.core.request import ChatRequest
from shim.repairs import Policy, Repair
from support.streams import DONE, betalgo, chunk, conforming, event, recorded_body, recordings, repair, stream

# Pieces from which both proper and broken streams are composed; every rule of the framing has its trigger here.
FRAGMENTS = [
    *(event(each) for each in conforming()),
    *(event(each) for each in betalgo(("é", "🌸"))),
    event(chunk({"content": 'a "quoted" {brace} [DONE]\r\n\\'})),
    event({"error": {"message": "no"}}),
    b"data: [DONE]\n\n",
    b"data: [done]\n",
    b"[DONE]\n",
    b"DONE",
    b'data: "[DONE]"\n\n',
    b"\n",
    b"\r",
    b"\r\n",
    b"\xef\xbb\xbf",
    b": comment\n",
    b": comment\n\n",
    b"id: 1\n",
    b"event: message\n",
    b"retry: 5\n\n",
    b"data:\n\n",
    b"data\n",
    b"data: ping\n\n",
    b"data: data: ",
    b" data: ",
    b"Data:",
    b"data: {",
    b'{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}',
    b'{"choices":\n [{"index":1, "delta":null, "message":{"content":"y"}}]}\n',
    b"[",
    b"]",
    b",",
    b" ",
    b"ping\n",
    b'data: {"Successful":false,"error":"broken"}\n\n',
    b"data: null\n\n",
    b"\xff\xfe",
    b'data: {"choices":[],"usage":{"total_tokens":3}}\n\n',
]
bodies = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=6), max_size=12).map(b"".join)
requests = st.builds(ChatRequest, model=st.just("m"), n=st.sampled_from([1, 2]), include_usage=st.booleans())
policies = st.builds(
    Policy,
    strict=st.booleans(),
    off=st.frozensets(st.sampled_from(list(Repair)), max_size=3),
    max_event_bytes=st.sampled_from([40, 700, 2**20]),
)


def cut(body: bytes, sizes: list[int]) -> list[bytes]:
    pieces, position = [], 0
    for size in sizes:
        pieces.append(body[position : position + size])
        position += size
    return [*pieces, body[position:]]


@given(bodies, st.lists(st.integers(0, 40), max_size=30), requests, policies)
def test_output_does_not_depend_on_the_cuts(body, sizes, request_, policy):
    """Whole, in any pieces and byte by byte: the same output, for any input under any policy."""
    whole = repair(body, request_, policy)
    assert repair(cut(body, sizes), request_, policy).output == whole.output
    single = repair((body[at : at + 1] for at in range(len(body))), request_, policy)
    assert single.output == whole.output
    assert single.repairer.report.repairs == whole.repairer.report.repairs


@pytest.mark.parametrize("path", [*recordings("1.0.0"), *recordings("2.2.1")], ids=lambda path: path.stem)
def test_recorded_streams_at_every_cut(path):
    """Every recorded stream, cut in two at every position of its first 600 bytes and byte by byte."""
    body = recorded_body(path)
    whole = repair(body).output
    for at in range(min(len(body), 600)):
        assert repair([body[:at], body[at:]]).output == whole
    assert repair(body[at : at + 1] for at in range(len(body))).output == whole


@given(st.binary() | bodies, policies)
def test_nothing_but_bytes_comes_out(body, policy):
    """Whatever comes, nothing is raised, and nothing leaves behind the end."""
    result = repair(body, policy=policy)
    assert isinstance(result.output, bytes)
    if result.repairer.has_ended:
        assert result.repairer.feed(b"data: {}\n\n") == b""


WORDS = ["w1", "w2", "w3", "w4"]
WORD_EVENTS = [event(chunk({"content": word})) for word in WORDS]


@pytest.mark.parametrize(
    ("pieces", "late"),
    [
        pytest.param(WORD_EVENTS, 0, id="conforming"),
        pytest.param([each.replace(b"\n", b"\r\n") for each in WORD_EVENTS], 0, id="CRLF"),
        pytest.param([each.replace(b"\n", b"\r") for each in WORD_EVENTS], 0, id="CR"),
        pytest.param([each[6:-1] for each in WORD_EVENTS], 0, id="JSON lines"),
        pytest.param([each[6:-2] for each in WORD_EVENTS], 0, id="concatenated"),
        pytest.param([b"data: " + each for each in WORD_EVENTS], 0, id="prefix twice"),
        pytest.param([event(each) for each in betalgo(WORDS, reason=None)], 0, id="1.x"),
        # That one newline ends an event shows when the next line begins an event; only the first one waits for that.
        pytest.param([each[:-1] for each in WORD_EVENTS], 1, id="one newline"),
    ],
)
def test_no_event_waits_for_a_later_one(pieces, late):
    """Contract line 2: what a piece completes leaves before the next piece comes."""
    repaired = repair(pieces, finish=False)
    left = [[word for word in WORDS if word.encode() in out] for out in repaired.pieces]
    assert left[0] == WORDS[: 1 - late]
    assert left[1] == WORDS[1 - late : 2]
    assert left[2:] == [[word] for word in WORDS[2:]]


@given(bodies, requests)
def test_repairing_twice_is_repairing_once(body, request_):
    """What the repair writes needs no repair: a proxy and a client may both have it."""
    once = repair(body, request_)
    if b'"error"' not in once.output:
        twice = repair(once.output, request_)
        assert twice.output == once.output


@given(bodies | st.binary(), requests)
def test_an_end_that_is_none_is_always_told(body, request_):
    """Every stream ends in the end marker or in an error event, on a line of its own whatever came before it."""
    *_, last = (line for line in repair(body, request_).output.splitlines() if line)
    told_by_service = b'"error"' in body
    assert last.startswith((b"data: [DONE]", b'data: {"error":', b"data:[DONE]")) or told_by_service


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(lambda size: b'data: {"a":"' + b"x" * size, id="one data line"),
        pytest.param(lambda size: b'{"a":"' + b"x" * size, id="an object without a prefix"),
        pytest.param(lambda size: b"data: x\n" * (size // 8 + 1), id="many data lines"),
        pytest.param(lambda size: b": comment\n" * (size // 10 + 1), id="many comments"),
        pytest.param(lambda size: b" " * size, id="blanks"),
        pytest.param(lambda size: event(chunk({"content": "x" * size})), id="a whole event"),
    ],
)
def test_an_event_is_bounded(shape, at_once):
    """An event past the limit ends the stream with an error that names the limit and the setting."""
    good = event(conforming()[0])
    body = good + shape(5000) + b"\n\n" + DONE
    pieces = [body] if at_once else (body[at : at + 7] for at in range(0, len(body), 7))
    result = repair(pieces, policy=Policy(max_event_bytes=4000))
    assert result.output.startswith(good)
    assert result.error is not None
    assert result.error["code"] == "event_too_large"
    assert "4000 bytes" in result.error["message"]
    assert "max_event_bytes" in result.error["message"]
    assert result.repairer.has_ended


def test_an_event_within_the_limit_passes():
    """An event of exactly the limit passes, and a long stream of small events has no limit."""
    one = event(chunk({"content": "x" * 100}))
    limit = len(one)
    body = one * 50 + stream([chunk({}, "stop")])
    assert repair(body, policy=Policy(max_event_bytes=limit)).output == body
    assert repair(body, policy=Policy(max_event_bytes=limit - 1)).error["code"] == "event_too_large"
