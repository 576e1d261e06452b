"""Text in which no declared function is called reaches the program to the character: whole streams, cut anywhere."""

import json

from hypothesis import given
from hypothesis import strategies as st

from shim.core.dialects import DIALECTS, FIRST_TOKENS, LAST_TOKENS
from shim.core.request import ChatRequest
from shim.repairs import Policy, Repair
from support import streams
from support.response_events import body_of, message_events, output_of, whole
from support.spellings import PARIS, SPELLINGS
from support.streams import MODEL

REQUEST = ChatRequest(model=MODEL, tools={"nobody_calls_this": {"type": "object", "properties": {}}})
# Harmony's channels are separated whether anything is called or not.
POLICY = Policy(off=frozenset({Repair.HARMONY}))
MARKS = sorted(
    {*FIRST_TOKENS, *LAST_TOKENS, "<think>", "</think>", "```json\n", "`", '"', "{", "[", '{"name": "', "\n", " "}
    | {mark for each in DIALECTS for mark in (each.opening.replace("{name}", "get_weather"), *each.closing) if mark}
    | {spelling.write([PARIS]) for spelling in SPELLINGS.values()}
    | {"nobody_calls_this", "functools", "one word", "é🌸", "\\", "}", "]", "[f(a=1)]", "function", "arguments"}
)
CONTENTS = st.lists(st.sampled_from(MARKS) | st.text(max_size=6), max_size=10).map("".join)
CUTS = st.lists(st.integers(1, 30), max_size=12)


def pieces_of(whole_, sizes):
    """Something in pieces of these sizes, and the rest."""
    at = 0
    for size in sizes:
        yield whole_[at : at + size]
        at += size
    yield whole_[at:]


@given(text=CONTENTS, deltas=CUTS, reads=CUTS, foundry=st.booleans())
def test_in_a_chat(text, deltas, reads, foundry):
    """Whatever the service, its deltas, and the reads of its bytes."""
    make = streams.betalgo if foundry else streams.conforming
    body = streams.stream(make(list(pieces_of(text, deltas))))
    result = streams.repair(pieces_of(body, [size * 9 for size in reads]), REQUEST, POLICY)
    assert result.error is None
    assert result.text == text
    assert all("tool_calls" not in each["choices"][0]["delta"] for each in result.chunks)
    assert result.reasons == ["stop"]


@given(text=CONTENTS, deltas=CUTS, reads=CUTS)
def test_in_a_response(text, deltas, reads):
    """In each of its events that has the text."""
    body = body_of(whole(message_events(list(pieces_of(text, deltas)))))
    result = streams.repair(pieces_of(body, [size * 9 for size in reads]), REQUEST, POLICY, responses=True)
    [message] = output_of([each for each in result.payloads if each != streams.END])
    assert message["content"][0]["text"] == text
    assert not result.codes


@given(text=CONTENTS, sizes=CUTS)
def test_the_cuts_of_the_deltas_do_not_matter(text, sizes):
    """Calls and all: a program gets the same of one delta and of many."""
    tools = {name: {} for name in ("get_weather", "nobody_calls_this")}
    outcomes = []
    for pieces in ([text], list(pieces_of(text, sizes)), list(text)):
        result = streams.repair(streams.stream(streams.conforming(pieces)), ChatRequest(model=MODEL, tools=tools))
        items = [item for each in result.chunks for item in each["choices"][0]["delta"].get("tool_calls") or ()]
        calls = [(item["function"]["name"], json.loads(item["function"]["arguments"])) for item in items]
        thoughts = [each["choices"][0]["delta"].get("reasoning_content") or "" for each in result.chunks]
        outcomes.append((result.text, "".join(thoughts), calls, result.reasons))
    assert outcomes[0] == outcomes[1] == outcomes[2]
