"""Contract lines 1, 3, 4 and 7, for any answer in any dialect.

What conforms passes through, what deviates loses and gains nothing, nothing is invented, and no input raises.
"""

import json
import pickle
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shim.core.foundry import FOREIGN, FOREIGN_IF_NULL
from shim.core.jsontext import is_object
from shim.core.request import ChatRequest, Demands
from shim.core.sse import KEEP_ALIVE
from shim.core.stream import StreamRepairer
from shim.repairs import Policy, Repair
from support import hypothesis_profiles
from support.deviations import (
    BOM,
    DEVIATIONS,
    THOUGHT,
    TOOLS,
    USAGE,
    Answer,
    Call,
    Choice,
    Chosen,
    answers,
    at,
    chunks_of,
    cut,
    deviated,
    events_of,
    heard,
    policy_for,
    written,
)
from support.streams import (
    DONE,
    END,
    MINTED,
    MODEL,
    NOW,
    WIRE,
    Repaired,
    betalgo,
    conforming,
    event,
    recorded_body,
    repair,
    stream,
    text_of,
)

often = hypothesis_profiles.often()
places = st.integers(1, 2**16 - 1)
pretty_places = st.just(0) | places
sizes = st.lists(st.integers(15, 400), max_size=5)
endings = st.sampled_from((b"\n", b"\n", b"\r\n", b"\r"))


# What a hook may be told of what was found: a type, a size, and names out of the shim's own lists.
LISTS_MISSING = ("annotations missing", "logprobs missing", "output missing")
IGNORED = ("n", "logprobs", "stop", "response_format", "strict", "tool_choice", "parallel_tool_calls")
FIELDS = ("choices", "delta", "error", "finish_details", "id", "name", "type", "usage")
NAMES = "|".join((*FOREIGN, *FOREIGN_IF_NULL, *LISTS_MISSING, *IGNORED, *FIELDS))
SHAPE = re.compile(
    r"nothing, or null|true|false|a number|a string of \d+ characters|\d+ bytes|a list of \d+"
    rf"|an object of \d+ fields|(?:{NAMES})(?:, (?:{NAMES}))*"
)

# What conforms.

# What the standard allows before the data line of an event; a comment may have a blank line behind it, too.
HEADS = (b"", b"event: message\n", b": a comment\n", b"retry: 5\n", b"id: 7\n", b"unknown: field\n", b"\n", b": hi\n\n")


@often
@given(answers(quiet=True), st.lists(st.sampled_from(HEADS)), places, pretty_places, st.booleans(), endings, sizes)
def test_any_conforming_stream_leaves_byte_identical(answer, heads, bare_colon, pretty, ascii_only, ending, pieces):
    """Any text, any calls, any form that the standard allows, in any pieces: the same bytes, and no repair."""
    if b"id: 7\n" in heads:
        # The official client takes every blank line after an id for an event, so those are removed.
        heads = [head.removesuffix(b"\n") if head.endswith(b"\n\n") else head for head in heads if head != b"\n"]
    body = b""
    for number, each in enumerate(events_of(chunks_of(answer), ascii_only=ascii_only, pretty=pretty)):
        head = heads[number] if number < len(heads) else b""
        body += bytes(replace(each, head=head, prefix=b"data:" if at(bare_colon, number) else b"data: "))
    body = body.replace(b"\n", ending)
    result = repair(cut(body, pieces), answer.request)
    assert result.output == body
    assert not result.codes
    assert said(heard(result.payloads)) == said(answer.choices)


# What deviates.

SUNNY = Answer(
    (
        Choice(
            ("It is ", "sunny", "."),
            (Call("get_weather", {"city": "Paris"}), Call("add", {"a": 1, "b": 2})),
            "tool_calls",
        ),
    ),
    tools=True,
)
SPOKEN = Answer((Choice(("It is ", "sunny", ".")),))
SILENT = Answer((Choice((), SUNNY.choices[0].calls, "tool_calls"),), tools=True)


@pytest.mark.parametrize("name", DEVIATIONS)
def test_every_deviation_is_one(name):
    """Alone and in all places, each of them needs its repair, in an answer that gives it something to change."""
    everywhere = {name: 2**16 - 1}
    fits = [answer for answer in (SUNNY, SPOKEN, SILENT) if unambiguous(answer, everywhere)]
    assert any(DEVIATIONS[name].code in assert_repaired(answer, everywhere).codes for answer in fits)


@often
@given(
    answers(),
    st.dictionaries(st.sampled_from(list(DEVIATIONS)), places, min_size=2, max_size=6),
    pretty_places,
    endings,
    sizes,
)
def test_deviations_change_nothing(answer, chosen, pretty, ending, pieces):
    """Any deviations at any places, together, in any pieces: the same text, calls and reason, as OpenAI writes them."""
    # A tag that stands alone before a call is what is left of its spelling, and is dropped.
    assume(not any(choice.calls and LEFT_OVER.search(choice.text) for choice in answer.choices))
    assert_repaired(answer, unambiguous(answer, chosen), pretty=pretty, ending=ending, pieces=pieces)


def assert_repaired(answer, chosen, *, ending=b"\n", pieces=(), **form):
    """Repair a deviated stream, and look whether it is what the model meant."""
    body = deviated(answer, chosen, **form).replace(b"\n", ending)
    told = []
    result = repair(cut(body, pieces), answer.request, replace(policy_for(chosen), on_repair=told.append))
    assert result.error is None
    assert all(SHAPE.fullmatch(each.found) for each in told)
    assert len(told) == result.repairer.report.repairs.total()
    choices = heard(result.payloads)
    assert said(choices) == said(answer.choices)
    thoughts = {choice.reasoning.strip() for choice in choices}
    assert thoughts == ({THOUGHT} if "reasoning_in_the_text" in chosen else {""})
    usages = [(chunk["choices"], chunk["usage"]) for chunk in result.chunks if chunk.get("usage")]
    assert usages == ([([], USAGE)] if answer.usage_asked else [])
    return result


def said(choices):
    """What of choices does not depend on the pieces in which they are sent; a character may be cut in two."""
    whole = [choice.text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") for choice in choices]
    return [(text, choice.calls, choice.reason) for text, choice in zip(whole, choices, strict=True)]


WHITESPACE = " \t\r\n"
# Quotation marks, code, block quotes, indented code and marks of a thought.
QUOTING = re.compile(
    r"""["'`~>\t\u201c\u201e\u00ab\u00bb\u300c\u2018\u201a\u2039\u203a\u300e\uff02]|\s{4}|<t"""
    r"|[|\[({*_=$]\Z"  # a mark that touches a call
    r"|(?m:^\s*(?:[-*#:;/%$|+\u2022]|\d))"  # a line of a list, a comment, a log
)
LEFT_OVER = re.compile(r"(?:</?tool_call>|\[TOOL_CALLS\]|functools\[)\s*\Z")
CALLS_AS_TEXT = frozenset(name for name, each in DEVIATIONS.items() if each.code is Repair.TOOL_CALL_TEXT)
MESSAGES = frozenset({"message_beside_delta", "message_instead_of_delta", "calls_in_the_message_alone"})
WITHOUT_LINES = frozenset({"as_an_array", "concatenated"})
OF_LINES = frozenset(
    {
        *("without_prefix", "several_in_one_event", "prefix_spelled_otherwise", "prefix_twice", "one_newline"),
        *("byte_order_marks", "empty_events", "text_keep_alives", "blank_lines_behind_an_id"),
    }
)


def unambiguous(answer: Answer, chosen: Chosen) -> Chosen:
    """Leave out what nobody could tell from something that the model did not mean."""
    hopeless = set[str]().union(*(names for is_so, names in _ambiguities(answer, set(chosen)) if is_so))
    return {name: where for name, where in chosen.items() if name not in hopeless}


def _ambiguities(answer: Answer, chosen: set[str]) -> list[tuple[Any, Iterable[str]]]:
    """Each with whether it is so of this answer and these deviations, and with the deviations that it forbids."""
    texts = [choice.text for choice in answer.choices if choice.calls]
    values = [str(value) for choice in answer.choices for call in choice.calls for value in call.arguments.values()]
    return [
        # Without a proper index nothing says which of two choices is meant.
        (len(answer.choices) > 1, {"choice_index_counts", "choice_without_index"}),
        # With neither an index nor an id nothing says where one call ends and the next begins.
        (chosen & {"calls_all_zero", "call_without_index"}, {"call_without_id"}),
        # An end that nobody told of is none.
        ("no_done" in chosen, {"no_reason"}),
        # That the model had no room left, or was stopped, cannot be known.
        (any(choice.reason != answer.implied_reason(choice) for choice in answer.choices), {"no_reason"}),
        (answer.usage_asked, {"usage_not_asked_for"}),
        # Said twice, a call was made twice.
        (CALLS_AS_TEXT, sorted(chosen & CALLS_AS_TEXT)[1:]),
        # Nothing says whether whitespace beside a call is part of its markup, or behind a thought.
        (any(text and not text.strip(WHITESPACE) for text in texts), CALLS_AS_TEXT),
        (any(choice.text.startswith(tuple(WHITESPACE)) for choice in answer.choices), {"reasoning_in_the_text"}),
        # Half of a surrogate pair waits for the other one, so that a delta does not repeat all of the text so far.
        (any(re.search("[\ud800-\udfff]", choice.text) for choice in answer.choices), {"text_so_far_in_each_delta"}),
        # A text may quote a call.
        (any(QUOTING.search(text) for text in texts), CALLS_AS_TEXT),
        # JSON in the middle of a text is what the text is about.
        (any(texts), {"calls_as_text: bare", "calls_as_text: bare list"}),
        # The line breaks around a value are part of this markup.
        (
            any(value != value.strip("\r\n") for value in values),
            {"calls_as_text: XML", "calls_as_text: XML in tool_call"},
        ),
        # Behind an opening tag this is the beginning of a call that does not end.
        (any(text.rstrip(WHITESPACE).endswith("<tool_call>") for text in texts), {"calls_as_text: XML"}),
        # Models close one bracket too many.
        (any(text.startswith(("]", "}")) for text in texts), {"calls_as_text: functools before the text"}),
        # One body is not both, and in neither are there lines between the objects for anything to stand on.
        ("as_an_array" in chosen, {"concatenated"}),
        (chosen & WITHOUT_LINES, OF_LINES),
        # An object with a message that does not say that it is a chunk is a whole completion, where it stands alone.
        (chosen & {"without_prefix", *WITHOUT_LINES} and chosen & MESSAGES, {"object otherwise"}),
        # Without a blank line behind it only a single object tells that its payload is complete.
        (chosen >= {"several_in_one_event", "one_newline"}, {"text_keep_alives"}),
        ("no_done" in chosen and chosen & {"one_newline", "no_last_blank_line"}, {"several_in_one_event"}),
        # Behind what is not there there is nothing.
        ("no_done" in chosen, {"bytes_behind_done", "done_spelled_otherwise"}),
    ]


# Random bytes.

BODIES = (
    b"",
    written(SPOKEN, pretty=5),
    deviated(SUNNY, {"calls_as_text: tool_call": 2, "role_everywhere": 7}),
    deviated(SILENT, {"calls_as_text: bare": 3}),
    deviated(SUNNY, {"calls_as_text: XML": 6, "without_prefix": 0x5555}),
    deviated(SPOKEN, {"reasoning_in_the_text": 1, "one_newline": 0xFFFF}),
    deviated(SPOKEN, {"text_so_far_in_each_delta": 1, "as_an_array": 1}),
    stream(betalgo()).replace(b"\n", b"\r"),
    BOM + stream(conforming()) + event({"error": {"message": "no"}}),
    b"data: " + b"[" * 3000 + b"\n\n",
    b'data: {"choices": ' + b"[" * 3000 + b"]" * 3000 + b"}\n\n",
)
JUNK = (
    *(b"\n", b"\r", b"\r\n", b"\n\n", b"data: ", b"data: {", b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b": x\n"),
    *(b"id: 1\n", b"event: x\n", b"\xef\xbb\xbf", b"\x00", b"\xff", b"[DONE]", b"data: [DONE]\n\n", b"data: ping\n\n"),
    *(b"null", b"NaN", b"1e999", b'"error": {}', b"<tool_call>", b"</tool_call>", b"<think>", b"</think>", b"\\ud83c"),
)
junk = st.sampled_from(JUNK) | st.binary(max_size=8)
changes = st.just([]) | st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 60), junk), max_size=4)
requests = st.builds(
    ChatRequest,
    model=st.sampled_from((None, MODEL)),
    n=st.sampled_from((1, 2)),
    include_usage=st.booleans(),
    named_tool=st.booleans(),
    tools=st.sampled_from(({}, TOOLS)),
    demands=st.sampled_from(
        (
            None,
            None,
            Demands(logprobs=True, stop=("sun", "x"), one_call=True),
            Demands(schema={"type": "object", "required": ["a"]}, strict_tools=TOOLS, some_call=True),
        )
    ),
)
policies = st.builds(
    Policy,
    strict=st.booleans(),
    off=st.frozensets(st.sampled_from(list(Repair)), max_size=2),
    tool_calls=st.booleans(),
    reasoning=st.sampled_from(("keep", "split")),
    cumulative_text=st.booleans(),
    max_event_bytes=st.sampled_from((90, 2**20)),
)


@often
@given(st.sampled_from(BODIES), changes, requests, policies, st.booleans(), st.booleans(), sizes)
def test_random_bytes_raise_nothing(body, spliced, request_, policy, responses, cut_off, pieces):
    """Any bytes within a stream or alone, under any policy: proper events come out, the same for any pieces."""
    for place, removed, put in spliced:
        position = place % (len(body) + 1)
        body = body[:position] + put + body[position + removed :]

    def put_through(pieces):
        told = []
        listened = replace(policy, on_repair=told.append)
        repairer = StreamRepairer(request_, listened, responses=responses, new_id=lambda: MINTED, now=lambda: NOW)
        out = b"".join(map(repairer.feed, pieces)) + (repairer.flush() if cut_off else repairer.finish())
        assert all(SHAPE.fullmatch(each.found) for each in told)
        return re.sub(rb"call_[0-9a-f]{24}", b"call_minted", out)

    output = put_through([body])
    assert put_through(cut(body, pieces)) == output
    assert put_through([body[at : at + 1] for at in range(min(len(body), 40))] + [body[40:]]) == output
    assert_proper(output, body)


def assert_proper(output, body):
    """Each line is one of an event or a comment, or was received as it is, but for bytes that are not UTF-8."""
    readable = body.decode(errors="replace").encode()
    for line in re.split(rb"[\r\n]+", output.removeprefix(BOM)):
        name, _, payload = line.partition(b": ")
        if line not in body and line not in readable and line + b"\n" != KEEP_ALIVE:
            assert name in {b"data", b"event"}
            assert name == b"event" or payload == b"[DONE]" or is_object(json.loads(payload))


RESPONSE = {"output": [{"id": "a", "content": [{"type": "output_text"}]}]}
STREAMS = (
    chunks_of(SUNNY),
    DEVIATIONS["calls_in_the_message_alone"].apply(chunks_of(SUNNY), SUNNY, -1),
    [{"error": {"message": "no", "type": "server_error", "code": None}, **each} for each in betalgo()],
    [
        {"type": "response.output_item.added", "item": RESPONSE["output"][0], "sequence_number": 1},
        {"type": "response.reasoning.delta", "output_index": 0},
        {"type": "response.content_part.done", "part": {"type": "output_text"}},
        {"type": "response.output_text.delta", "logprobs": None},
        {"type": "response.completed", "response": RESPONSE},
    ],
)
NAMES = {
    *("id", "object", "created", "model", "choices", "usage", "index", "delta", "message", "content", "role", "type"),
    *("tool_calls", "function", "name", "arguments", "finish_reason", "error", "code", "Successful", "HttpStatusCode"),
    *("response", "output", "item", "part", "logprobs", "output_index", "sequence_number"),
}
ODD = (None, True, 0, -1, 1.5, 2**70, "", "x", "\ud83c", [], {}, [None], [[]], ["x"], [{}], {"a": 1}, [[[{}]] * 3])


@pytest.mark.parametrize("name", sorted(NAMES))
def test_odd_members_raise_nothing(name):
    """Whatever stands in whatever member, in any chunk, bytes come out; all that may be looked for is looked for."""
    policy = Policy(reasoning="split", cumulative_text=True)
    for chunks, value in product(STREAMS, ODD):
        for number, each in enumerate(chunks):
            odd = {name: value, **json.loads(json.dumps(each), object_hook=partial(with_value, name, value))}
            body = b"".join(
                b"data: %b\n\n" % json.dumps(one).encode() for one in (*chunks[:number], odd, *chunks[number + 1 :])
            )
            repairer = StreamRepairer(SUNNY.request, policy, responses="type" in chunks[0])
            assert_proper(repairer.feed(body) + repairer.finish(), body)


def with_value(name, value, members):
    """Members with another value, if that one is among them."""
    return {**members, name: value} if name in members else members


# Nothing is invented.


def objects(body):
    """The JSON objects of a stream in whatever framing, each with where it ends."""
    text, end = body.decode("ascii"), 0
    while (start := text.find("{", end)) >= 0:
        value, end = json.JSONDecoder().raw_decode(text, start)
        yield end, value


def recorded(release, name):
    """A recorded stream and its request; of a long run of the same token only the beginning."""
    events = re.split(rb"(?<=\n\n)", recorded_body(WIRE / "live" / release / f"{name}.http"))
    run = [each for each in events if b'"content":"!"' in each]
    body = b"".join(each for each in events if each not in run[4:-1])
    tools = TOOLS if name.startswith("tool") else {}
    request = ChatRequest(model=MODEL, include_usage=name.endswith("usage"), tools=tools)
    return pytest.param(body, request, id=f"{release}-{name}")


def composed():
    """The streams of other releases, in every framing."""
    for reason in ("stop", None):
        chunks = betalgo(reason=reason)
        framings = {
            "events": stream(chunks, done=b""),
            "carriage returns": stream(chunks, done=b"").replace(b"\n", b"\r"),
            "one newline": stream(chunks, done=b"").replace(b"\n\n", b"\n"),
            "lines": b"".join(event(each)[6:-1] for each in chunks),
            "array": json.dumps(chunks).encode() + b"\n",
            "concatenated": b"".join(event(each)[6:-2] for each in chunks) + b"\n",
        }
        for name, body in framings.items():
            for marker in (b"", DONE, *([b"data: done"] if name == "lines" else [])):
                request = ChatRequest(model=MODEL, include_usage=name == "events")
                yield pytest.param(body + marker, request, id=f"{name}-{reason}-{marker.decode().strip()}")


RECORDED = [
    recorded(release, name)
    for release in ("1.0.0", "2.2.1")
    for name in ("haiku", "haiku-usage", "length", "tool-auto", "tool-required")
]
MARKUP = re.compile(r"\s*<tool_call>\s*(\{[^{}]*\{[^{}]*\}\})\s*(?:</[tool_call]*>?)?\s*")


@pytest.mark.extended
@pytest.mark.parametrize(("body", "request_"), [*RECORDED, *composed()])
def test_nothing_is_invented_at_any_cut(body, request_):
    """Cut at every position, with a clean end or a broken connection: what came whole is there, and nothing else."""
    whole = list(objects(body))
    marker = re.search(rb"\[DONE\]|done", body)
    marked = marker.end() if marker else len(body) + 1
    behind_events = (re.compile(rb"[\r\n]*").match(body, end).end() for end, _ in whole)
    repairer = StreamRepairer(request_, new_id=minted, now=always_now)
    before = b""
    for begin, end in pairwise((0, *behind_events, len(body) + 1)):
        # A copy is cheaper than the same stream up to here once more, for each of many positions.
        state = pickle.dumps(repairer)
        seen = set()
        for position, clean in product(range(begin, end), (True, False)):
            cut_off = pickle.loads(state)  # noqa: S301 - written a line above
            output = cut_off.feed(body[begin:position]) + (cut_off.finish() if clean else cut_off.flush())
            came = [value for end, value in whole if end <= position]
            within = body[begin:position].startswith(b"data") and not any(begin < at <= position for at, _ in whole)
            case = (output, clean, within, len(came), position >= marked)
            if case not in seen:
                seen.add(case)
                result = Repaired(before + output, cut_off)
                assert_nothing_invented(result, request_, came, clean=clean, within=within, done=position >= marked)
        before += repairer.feed(body[begin:end])


def minted():
    return MINTED


def always_now():
    return NOW


def assert_nothing_invented(result, request_, came, *, clean, within, done):
    """All of what came is said, the reason is the service's, and an end that is none is an error."""
    chunks = [value for value in came if "choices" in value]
    text = text_of(chunks)
    calls = MARKUP.findall(text) if request_.tools else []
    assert result.text == (MARKUP.sub("", text) if calls else text)
    assert [(call.name, call.arguments) for call in calls_of(result)] == [
        tuple(json.loads(call).values()) for call in calls
    ]
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice.get("finish_reason")]
    # A reason beside content may not be the last: where the connection breaks, or an event is cut, that never shows.
    ended = done or (clean and not within)
    sent = [choice["finish_reason"] for choice in choices if ended or not choice["delta"].get("content")]
    said = sent or (["stop"] if done else [])
    assert result.reasons == (["tool_calls" if reason == "stop" else reason for reason in said] if calls else said)
    told = next((value["error"] for value in came if "error" in value), None)
    if told:
        assert result.error["type"] == told["type"]
    elif clean and not said:
        assert result.error["code"] == ("stream_truncated" if came else "empty_stream")
    else:
        assert result.error is None
    # The end marker stands for an end that was told, and for nothing else.
    assert result.payloads.count(END) == (1 if done or (clean and said) else 0)


def calls_of(result):
    items = [
        item for chunk in result.chunks for choice in chunk["choices"] for item in choice["delta"].get("tool_calls", ())
    ]
    return [Call(item["function"]["name"], json.loads(item["function"]["arguments"])) for item in items]
