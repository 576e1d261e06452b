"""Contract line 6, for the fast path: the same bytes and the same counts as the full path."""

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shim.core.fast_path import FastStreamRepairer
from shim.core.request import ChatRequest, Demands
from shim.core.stream import StreamRepairer
from shim.repairs import Policy, Repair
from support import hypothesis_profiles
from support.dialects import DIALECTS
from support.streams import DONE, MINTED, NOW, betalgo, chunk, conforming, event, recorded_body, recordings
from unit.test_split import FRAGMENTS, cut

TOOLS = {"get_weather": {"type": "object", "properties": {"city": {"type": "string"}}}}
PIECES = (
    *("a", "b", " tick", "", "é", "🌸", "\n", "\t", '"', "\\", "\\n", "/", "\x7f", "\u2028", "\x00", "'", "<", "["),
    *("<think>", "</think>", "<tool_call>", '{"name": "get_weather", "arguments": {}}', "</tool_call>", "functools"),
)
texts = st.lists(st.sampled_from(PIECES), min_size=3, max_size=9)


def outcome(pieces, request, policy, repairer_class=FastStreamRepairer):
    """Everything visible of a repair: what is emitted and when, and the report."""
    repairer = repairer_class(request, policy, new_id=lambda: MINTED, now=lambda: NOW)
    left = [repairer.feed(piece) for piece in pieces]
    left.append(repairer.finish())
    left = [re.sub(rb"call_[0-9a-f]{24}", b"call_", piece) for piece in left]
    report = repairer.report
    return left, dict(+report.repairs), report.events, report.generation, repairer.state, repairer.opening_error


def assert_same(pieces, request=None, policy=None):
    assert outcome(pieces, request, policy) == outcome(pieces, request, policy, StreamRepairer)


def ascii_event(payload):
    """As System.Text.Json writes it, with its escapes."""
    text = re.sub(r"[<'+&]", lambda found: f"\\u{ord(found[0]):04X}", json.dumps(payload))
    return b"data: " + text.encode() + b"\n\n"


CALL = {"index": 0, "function": {"arguments": "x"}}
# Ways to say the same pieces, event by event.
FORMS = {
    "2.x": lambda pieces: [event(each) for each in conforming(pieces)],
    "crlf": lambda pieces: [event(each).replace(b"\n", b"\r\n") for each in conforming(pieces)],
    "1.x": lambda pieces: [event(each) for each in betalgo(pieces)],
    "escaped": lambda pieces: [ascii_event(each) for each in betalgo(pieces, reason=None)],
    "clock": lambda pieces: [event({**each, "CreatedAt": f"18:{at:02}"}) for at, each in enumerate(betalgo(pieces))],
    "odd usage": lambda pieces: [event({**each, "usage": {"n": at / 2}}) for at, each in enumerate(betalgo(pieces))],
    "calls": lambda pieces: [event(chunk({"content": piece, "tool_calls": [CALL]})) for piece in pieces],
    "two choices": lambda pieces: [event(chunk({"content": piece}, index=at % 2)) for at, piece in enumerate(pieces)],
    "twice": lambda pieces: [event(chunk({"content": piece, "also": {"content": piece}})) for piece in pieces],
    "once": lambda pieces: [event(chunk({"content": piece, "also": {"content": "a"}})) for piece in pieces],
    "cumulative": lambda pieces: [event(chunk({"content": "".join(pieces[:at])})) for at in range(len(pieces))],
}
runs = st.builds(lambda form, pieces: form(pieces), st.sampled_from(list(FORMS.values())), texts)
streams = st.lists(runs | st.sampled_from(FRAGMENTS).map(lambda each: [each]), min_size=1, max_size=5).map(
    lambda parts: b"".join(piece for part in parts for piece in part)
)
requests = st.builds(
    ChatRequest,
    model=st.just("m"),
    include_usage=st.booleans(),
    usage_in_chunks=st.booleans(),
    n=st.sampled_from([1, 2]),
    tools=st.sampled_from([{}, TOOLS]),
    demands=st.sampled_from([None, None, Demands(stop=("ab", "\n")), Demands(schema={}), Demands(logprobs=True)]),
)
policies = st.builds(
    Policy,
    strict=st.booleans(),
    off=st.frozensets(st.sampled_from(list(Repair)), max_size=3),
    max_event_bytes=st.sampled_from([300, 700, 2**20]),
    reasoning=st.sampled_from(["keep", "split"]),
    cumulative_text=st.booleans(),
    on_repair=st.sampled_from([None, lambda _: None]),
)


@hypothesis_profiles.often()
@given(streams, st.lists(st.integers(0, 600), max_size=12), requests, policies)
@example(b"".join(FORMS["2.x"](["a", "b", "c"])) + DONE + event(chunk({"content": "d"})), [], None, None)
def test_both_paths_emit_the_same(body, sizes, request_, policy):
    """Runs of events that repeat one another, between whatever else, cut anywhere, under any policy."""
    assert_same([body], request_, policy)
    assert_same(cut(body, sizes), request_, policy)
    assert_same([piece + b"\n\n" for piece in body.split(b"\n\n")], request_, policy)


def said(*contents, **members):
    """Conforming chunks."""
    return [event(chunk({"content": content}, **members)) for content in contents]


def betalgo_events(*contents, **members):
    """Chunks of 1.x, with other members than it has."""
    return [event({**each, **members}) for each in betalgo(contents, reason=None)]


KNOWN = said("a", "b", "c")
ODD = {
    "usage is owed at the end": ([*betalgo_events("a", "b", "c", "d", "e"), DONE], ChatRequest(include_usage=True)),
    "usage that stays, the same at first": (
        [*betalgo_events("a", "b", "c", usage={"n": 1}), *betalgo_events("d", usage={"n": 2})],
        ChatRequest(usage_in_chunks=True),
    ),
    "a time that stays, the same at first": (
        [*betalgo_events("a", "b", "c", usage=None), *betalgo_events("d", usage=None, CreatedAt="later")],
        None,
        Policy(off=frozenset({Repair.FOREIGN_MEMBERS})),
    ),
    "control characters": [*KNOWN, event(chunk({"content": "d"})).replace(b'"d"', b'"\x01"')],
    "no UTF-8": [*KNOWN, event(chunk({"content": "d"})).replace(b'"d"', b'"\xff"')],
    "an escape that is none": [*KNOWN, event(chunk({"content": "d"})).replace(b'"d"', b'"\\x"')],
    "an escape that is written otherwise": [*betalgo_events("a", "b", "c"), ascii_event(betalgo("'")[0])],
    "too large": ([*KNOWN, *said("d" * 200)], None, Policy(max_event_bytes=300)),
    "very large": [*said("a" * 70_000, "b" * 70_000, "c" * 70_000), *said("d")],
    "another text at the second place": [
        *betalgo_events("a", "b", "c"),
        event(betalgo("d")[0]).replace(b'"content":"d"', b'"content":"e"', 1),
    ],
    "another text at the second place, which leaves": [
        *(event({**chunk({"role": "x", "content": each}), "also": {"content": each}}) for each in "abc"),
        event({**chunk({"role": "x", "content": "d"}), "also": {"content": "e"}}),
    ],
    "within an event": [*KNOWN, b"id: 7\n", *said("d"), *said("e")],
    "behind a document": [*KNOWN, KNOWN[0][6:-2], b"\n", *said("d"), *said("e")],
    "lines that end their events": [*(each[:-1] for each in KNOWN), *KNOWN, *KNOWN],
    "two in a line": [*KNOWN, *([KNOWN[0][:-2] + KNOWN[1][6:]] * 4), *KNOWN],
    "texts that repeat the text so far": (said("", "", "", "a", "ab", "abc"), None, Policy(cumulative_text=True)),
    "a thought": (said("", "", "", "<think>", "a", "</think>", "b", "c"), None, Policy(reasoning="split")),
    "a call in pieces": (
        said("x", "y", "z", "<tool_", 'call>{"name": "get_weather", ', '"arguments": {}}</tool', "_call>", "a", "b"),
        ChatRequest(tools=TOOLS),
    ),
    "an escape before a call": (
        said("x", "y", "z", "\n", "<tool_call>\n", '{"name": "get_weather", "arguments": {}}', "</tool_call>"),
        ChatRequest(tools=TOOLS),
    ),
    "behind the end": [*KNOWN, DONE, *said("d")],
    "behind the finish reason": [*betalgo_events("a", "b", "c"), *map(event, betalgo(["d"])), *betalgo_events("e")],
    "behind an error": [*KNOWN, event({"error": {"message": "no"}}), *said("d", "e", "f")],
    "comments between": [*KNOWN, b": keep-alive\n\n", *said("d"), b": keep-alive\n\n", *said("e", "f", "g")],
}


@pytest.mark.parametrize("case", ODD)
def test_events_that_only_seem_similar_are_the_same(case):
    """Events that are nearly what is known: together, one by one, and byte by byte."""
    pieces, *how = ODD[case] if isinstance(ODD[case], tuple) else (ODD[case],)
    body = b"".join(pieces)
    assert_same(pieces, *how)
    assert_same([body], *how)
    assert_same([body[at : at + 1] for at in range(len(body))], *how)


@pytest.fixture
def full_path(monkeypatch):
    """The pieces that took the full path, as a list that grows."""
    pieces = []
    feed = StreamRepairer.feed

    def note(repairer, data):
        pieces.append(data)
        return feed(repairer, data)

    monkeypatch.setattr(StreamRepairer, "feed", note)
    return pieces


def test_pieces_of_calls_take_the_full_path(full_path):
    """The pieces of a call are joined, so each of them counts."""
    repairer = FastStreamRepairer()
    pieces = FORMS["calls"](["a", "b", "c", "d"])
    for piece in pieces:
        repairer.feed(piece)
    assert full_path == pieces


@pytest.mark.parametrize("path", [*recordings("1.0.0"), *recordings("2.2.1")], ids=lambda path: path.stem)
@pytest.mark.parametrize("request_", [None, ChatRequest(include_usage=True, tools=TOOLS)], ids=["plain", "tools"])
def test_recorded_streams_are_the_same_by_either_path(path, request_):
    """Everything that was recorded, whole and in reads of 100 bytes."""
    body = recorded_body(path)
    assert_same([body], request_)
    assert_same(cut(body, [100] * (len(body) // 100)), request_)


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))
def test_dialects_are_the_same_by_either_path(dialect):
    """All that the older releases answer."""
    for answer in dialect.answers.values():
        assert_same([answer.body])


@pytest.mark.parametrize("release", ["1.0.0", "2.2.1"])
@pytest.mark.parametrize("request_", [None, ChatRequest(tools=TOOLS)], ids=["plain", "tools"])
def test_most_events_take_the_fast_path(release, request_, full_path):
    """Recorded streams of both generations: after the first few events hardly one is parsed."""
    body = recorded_body(next(path for path in recordings(release) if path.stem == "haiku"))
    repairer = FastStreamRepairer(request_)
    repairer.feed(body)
    assert repairer.is_complete
    assert len(full_path) < repairer.report.events * 0.7


def test_a_hook_receives_every_repair():
    """With a listener no repair is only counted."""
    told = []
    pieces = [event(each) for each in betalgo([f"{number}" for number in range(9)])]
    repairer = FastStreamRepairer(None, Policy(on_repair=told.append))
    for piece in pieces:
        repairer.feed(piece)
    assert len(told) == repairer.report.repairs.total()
    assert {each.event for each in told} == set(range(1, len(pieces) + 1))


def test_an_event_that_is_received_in_two_reads_is_learned_whole(full_path):
    """After such events the next one takes the fast path."""
    repairer = FastStreamRepairer()
    *events, last = map(event, conforming(list("abcdef"))[:-1])
    for each in events:
        repairer.feed(each[:50])
        repairer.feed(each[50:])
    full_path.clear()
    assert repairer.feed(last) == last
    assert not full_path
