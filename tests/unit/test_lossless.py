"""Contract line 4: text, calls, usage, unknown fields and digits reach the program, whatever way the stream ends."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.core.chat_bodies import assemble_completion, repair_completion
from shim.core.foundry import Evidence, Owner
from shim.core.jsontext import dump, load
from shim.core.request import ChatRequest
from shim.repairs import Policy, Repair
from shim.reports import RepairReport
from support.streams import (
    DONE,
    END,
    MODEL,
    NOW,
    asked,
    betalgo,
    chunk,
    conforming,
    event,
    payloads,
    recorded_body,
    recordings,
    repair,
    stream,
    text_of,
)

GOOD = conforming()
HEAD, *MIDDLE, LAST = GOOD
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
WITH_TOOLS = asked(tools=TOOLS)
WITH_USAGE = asked(stream_options={"include_usage": True})
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
CALL = '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>'


def deltas(result, index=0):
    return [choice["delta"] for each in result.chunks for choice in each["choices"] if choice["index"] == index]


# A chunk whose text is buffered.

FIELDS = {
    "of the chunk": ({"citations": ["https://example.com"]}, {}, {}),
    "several of the chunk": ({"prompt_filter_results": [{"prompt_index": 0}], "x": 0, "y": False}, {}, {}),
    "of the choice": ({}, {"logprobs": {"content": [{"token": "<", "logprob": -0.5}]}, "token_ids": [7]}, {}),
    "of the delta": ({}, {}, {"annotations": [{"type": "url_citation"}], "audio": {"id": "a"}}),
    "reasoning": ({}, {}, {"reasoning_content": "Hm."}),
    "a refusal": ({}, {}, {"refusal": "No."}),
    "of all": ({"citations": [1]}, {"token_ids": [7]}, {"x": {"a": [1]}}),
}


def with_fields(content, of_chunk, of_choice, of_delta):
    each = {**chunk({"content": content, **of_delta}), **of_chunk}
    each["choices"] = [{**each["choices"][0], **of_choice}]
    return each


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
@pytest.mark.parametrize(
    ("request_", "policy", "text"),
    [
        (WITH_TOOLS, Policy(), "<tool_c"),
        (asked(tools=TOOLS, n=2), Policy(), "<tool_c"),
        (asked(), Policy(reasoning="split"), "<thi"),
        (asked(), Policy(cumulative_text=True), "ab"),
    ],
)
def test_fields_beside_buffered_text_are_emitted(fields, request_, policy, text):
    """Only the text is taken out of the chunk, and is emitted later."""
    before = "a" if policy.cumulative_text else ""
    result = repair(stream([chunk({"content": before}), with_fields(text, *fields), LAST]), request_, policy)
    of_chunk, of_choice, of_delta = fields
    choices = [choice for each in result.chunks for choice in each["choices"]]
    assert any(of_chunk.items() <= each.items() for each in result.chunks)
    assert any(of_choice.items() <= choice.items() for choice in choices)
    assert any(of_delta.items() <= delta.items() for delta in deltas(result))
    assert result.text == before + text


@pytest.mark.parametrize("fields", list(FIELDS.values())[:3], ids=list(FIELDS)[:3])
def test_buffered_text_leaves_its_chunk(fields):
    """The chunk goes without its text, and nothing is emitted twice."""
    [first, *_] = repair(stream([with_fields("<tool_c", *fields), LAST]), WITH_TOOLS).chunks
    assert "content" not in first["choices"][0]["delta"]


def test_chunk_with_nothing_but_buffered_text_is_not_emitted():
    result = repair([stream([HEAD], done=b""), event(chunk({"content": "<tool_c"})), stream([LAST])], WITH_TOOLS)
    assert result.pieces[1] == b""
    assert result.text == "<tool_c"


def test_choice_whose_text_is_buffered_begins_before_the_next_one():
    """The official accumulator takes the order in which choices begin for their indexes."""
    chunks = [
        *(chunk({"content": text}, index=index) for index, text in [(0, "<tool_c"), (1, "b"), (0, "a")]),
        *(chunk({}, "stop", index=index) for index in range(2)),
    ]
    request = ChatRequest.read({"n": 2, "tools": TOOLS}, is_accumulated=True)
    result = repair(stream(chunks), request)
    assert [choice["index"] for each in result.chunks for choice in each["choices"]][:2] == [0, 1]
    assert [text_of(result.chunks, index) for index in range(2)] == ["<tool_ca", "b"]


def test_each_of_several_choices_keeps_what_is_beside_its_text():
    both = chunk({"content": "<tool_c"})
    both["choices"].append({**both["choices"][0], "index": 1, "delta": {"content": "Hello", "x": 1}, "token_ids": [7]})
    result = repair(stream([both, chunk({}, "stop"), chunk({}, "stop", index=1)]), asked(n=2, tools=TOOLS))
    assert text_of(result.chunks) == "<tool_c"
    assert deltas(result, 1)[0] == {"content": "Hello", "x": 1}


# A message beside the delta.

MESSAGES = {
    "an empty delta": ({}, {"role": "assistant", "content": "Hello"}),
    "a delta with a role": ({"role": "assistant"}, {"role": "assistant", "content": "Hello"}),
    "a delta with an empty content": ({"role": "assistant", "content": ""}, {"content": "Hello"}),
    "a delta with a null content": ({"content": None}, {"content": "Hello"}),
    "a text": ({}, "Hello"),
    "a content in parts": ({}, {"content": [{"type": "text", "text": "Hello"}]}),
}


@pytest.mark.parametrize(("delta", "message"), MESSAGES.values(), ids=MESSAGES)
@pytest.mark.parametrize("reason", [None, "stop"])
def test_text_of_a_message_beside_a_delta_without_it_is_kept(delta, message, reason):
    each = chunk(dict(delta), reason)
    each["choices"][0]["message"] = message
    result = repair(stream([each]))
    assert result.text == "Hello"
    assert result.reasons == ["stop"]
    assert not any("message" in choice for each in result.chunks for choice in each["choices"])


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_content": "Hm."},
        {"refusal": "No."},
        {"x": [1]},
        {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
    ],
)
def test_other_fields_of_a_message_beside_a_delta_are_kept(fields):
    each = chunk({"role": "assistant", "content": "Hello", "tool_calls": []})
    each["choices"][0]["message"] = {"role": "assistant", "content": "Hello", "tool_calls": [], **fields}
    [delta, *_] = deltas(repair(stream([each, LAST])))
    assert delta == {"role": "assistant", "content": "Hello", **fields}


def test_message_that_repeats_the_delta_is_not_said_twice():
    """As every chunk of 1.x has it; the delta counts where both have a text."""
    assert repair(stream(betalgo())).text == "Hello world"
    each = chunk({"content": "Hello"})
    each["choices"][0]["message"] = {"content": "Hello world"}
    assert repair(stream([each, LAST])).text == "Hello"


@pytest.mark.parametrize(
    "message",
    [
        {"content": "Hello"},
        {"role": "assistant", "content": "Hello", "x": 1},
    ],
)
def test_message_beside_a_delta_of_another_service_is_its_own(message):
    """Perplexity sends all of the text so far in it."""
    each = chunk({"content": "lo"})
    each["choices"][0]["message"] = message
    body = stream([each, LAST])
    assert repair(body, evidence=Evidence()).output == body


@pytest.mark.parametrize(
    ("delta", "message"), [each for each in MESSAGES.values() if each[1] != "Hello" and "content" not in each[0]]
)
def test_message_of_another_service_is_kept_where_its_deltas_have_no_answer(delta, message):
    """Beside and after a delta with a content, a message repeats it: Perplexity sends all of the text each time."""
    each, last = chunk(dict(delta)), chunk(dict(delta), "stop")
    each["choices"][0]["message"] = last["choices"][0]["message"] = message
    result = repair(stream([each, LAST]), evidence=Evidence())
    assert result.text == "Hello"
    assert not any("message" in choice for each in result.chunks for choice in each["choices"])
    body = stream([chunk({"content": "Hello"}), last])
    assert repair(body, evidence=Evidence()).output == body


@pytest.mark.parametrize("owner", Owner)
@pytest.mark.parametrize("arguments", ["", None])
def test_call_without_arguments_beside_its_reason_is_one_item(owner, arguments):
    """Before openai 3, the client takes a second item of one delta for another call."""
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    result = repair(stream([chunk({"tool_calls": [call]}, "tool_calls")]), WITH_TOOLS, evidence=Evidence(owner))
    items = [each.get("tool_calls", []) for each in deltas(result)]
    assert max(map(len, items)) == 1
    assert "".join(item["function"].get("arguments", "") for each in items for item in each) == "{}"


@pytest.mark.parametrize("content", [["Hel", "lo"], [{"type": "text", "text": "Hello"}], {"text": "Hello"}])
@pytest.mark.parametrize("request_", [asked(), WITH_TOOLS, asked(n=2)])
def test_content_in_parts_in_the_last_chunk_is_kept(content, request_):
    for last in (chunk({"content": content}, "stop"), chunk({"role": "assistant", "content": content}, "length")):
        result = repair(stream([last]), request_)
        assert result.text == "Hello"
        assert Repair.CHUNK_FORM in result.codes
        assert len(result.reasons) == 1


IN_PARTS = ["a", [{"type": "text", "text": "b"}], [{"type": "text", "text": None}], "c", [], ["d"]]


@pytest.mark.parametrize(
    ("owner", "is_accumulated"), [(Owner.FOUNDRY, False), (Owner.UNKNOWN, False), (Owner.OTHER, True)]
)
def test_content_in_parts_is_text_anywhere_in_a_stream(owner, is_accumulated):
    """A program would add a list to a text, and the official client's `.stream()` does."""
    body = stream([*(chunk({"content": each}) for each in IN_PARTS), LAST])
    result = repair(body, ChatRequest(is_accumulated=is_accumulated), evidence=Evidence(owner))
    assert result.text == "abcd"


def test_content_in_parts_of_a_known_other_service_is_unchanged():
    """A program that reads its chunks knows them."""
    body = stream([*(chunk({"content": each}) for each in IN_PARTS), LAST])
    assert repair(body, evidence=Evidence(Owner.OTHER)).output == body


def test_content_in_parts_of_another_service_is_its_own():
    """Mistral sends what its models think in such parts."""
    body = stream([chunk({"content": [{"type": "thinking", "thinking": []}]}), LAST])
    for request in (asked(), WITH_TOOLS):
        assert repair(body, request, evidence=Evidence()).output == body


# Usage.

IN_CHUNKS = [{**each, "usage": {**USAGE, "completion_tokens": number}} for number, each in enumerate(GOOD[:3])]
LAST_USAGE = IN_CHUNKS[-1]["usage"]


def usages(result):
    return [each["usage"] for each in result.chunks if each.get("usage")]


@pytest.mark.parametrize(
    "chunks", [IN_CHUNKS, betalgo(reason=None), [*IN_CHUNKS, {**HEAD, "choices": [], "usage": LAST_USAGE}]]
)
@pytest.mark.parametrize(
    "end",
    [
        b"",
        event({"error": {"message": "no"}}),
        b"error: no\n\n",
        b"data: {\n\n",
        event([1]),
        b"data: " + b"x" * 3000,
        DONE,
    ],
)
def test_usage_is_emitted_at_every_end(chunks, end):
    """A cut, an error of the service's, damage, an event that is too large, and the end marker."""
    result = repair(stream(chunks, done=b"") + end, WITH_USAGE, Policy(max_event_bytes=2000))
    assert usages(result) == [chunks[-1]["usage"]]
    assert result.payloads.index(next(each for each in result.chunks if each.get("usage"))) >= len(result.payloads) - 2
    assert bool(result.error) == (end != DONE)


def test_usage_is_emitted_where_the_connection_breaks():
    result = repair(stream(IN_CHUNKS, done=b""), WITH_USAGE, finish=False)
    assert usages(result) == []
    assert [each["usage"] for each in payloads(result.repairer.flush())] == [LAST_USAGE]
    assert result.repairer.flush() == b""


@pytest.mark.parametrize("code", [Repair.DONE_MARKER, Repair.TRUNCATED, Repair.FINISH_REASON])
@pytest.mark.parametrize("reason", [None, "stop"])
def test_usage_is_emitted_with_the_end_switched_off(code, reason):
    chunks = [*IN_CHUNKS, *([chunk({}, reason)] if reason else [])]
    result = repair(stream(chunks, done=b""), WITH_USAGE, Policy(off=frozenset({code})))
    assert usages(result) == [LAST_USAGE]


def test_fields_beside_usage_that_waits_are_emitted_at_once():
    """Several usage chunks before the finish reason: the last usage counts, and nothing else of them is lost."""
    early = [{**HEAD, "choices": [], "usage": USAGE, "x": number} for number in range(3)]
    result = repair(stream([*GOOD[:3], *early, LAST]), WITH_USAGE)
    assert [each["x"] for each in result.chunks if "x" in each] == [0, 1, 2]
    assert usages(result) == [USAGE]
    assert result.chunks[-1]["usage"] == USAGE


def test_usage_that_cannot_be_written_loses_nothing_else():
    """What is nested too deeply for JSON is an error after all text."""
    deep = b"[" * 995 + b"]" * 995
    for nested in (deep, b"[" * 400 + b"]" * 400):
        head = event(chunk({"content": "Hello"}))
        usage = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"a":%b}}\n\n' % nested
        result = repair(head + usage + DONE, WITH_USAGE)
        assert result.text == "Hello"
        assert result.error is None or result.error["code"] == "undecodable_event"


# Numbers.

NUMBERS = [
    *("18446744073709551616", "-9223372036854775809", "123456789012345678901234567890", "18446744073709551615"),
    *(
        "1e400",
        "-1E+400",
        "1e-400",
        "0.1000000000000000055511151231257827",
        "3.14159265358979323846",
        "1.5e3",
        "5e-324",
    ),
    *("1.7976931348623157e308", "100000000000000000000.5", "0", "-1", "1.5", "9007199254740993"),
]


@pytest.mark.parametrize("number", [*NUMBERS, "NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("around", ["%s", '{"a":[%s,1]}', '[{"b":%s}]'])
def test_number_in_a_rewritten_chunk_keeps_its_digits(number, around):
    value = around % number
    body = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}],"IsDelta":false,"x":%b}\n\n' % value.encode()
    output = repair(body + DONE).output
    assert f'"x":{value}'.encode() in output
    assert b"IsDelta" not in output


@pytest.mark.parametrize("number", NUMBERS)
def test_number_in_a_body_keeps_its_digits(number):
    sent = b'{"choices":[{"message":{"content":"a"}}],"IsDelta":false,"x":%b,"usage":{"n":[%b]}}'
    body = load(sent % (number.encode(), number.encode()))
    assert repair_completion(body, ChatRequest(model=MODEL), RepairReport(), Evidence(Owner.FOUNDRY))
    written = dump(body).decode()
    assert f'"x":{number},' in written
    assert f'{{"n":[{number}]}}' in written


@pytest.mark.parametrize("number", NUMBERS)
def test_number_in_an_argument_object_keeps_its_digits(number):
    """The arguments become text, and the program parses them as it likes."""
    body = (
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","type":"function",'
        b'"function":{"name":"f","arguments":{"n":%b}}}]}}]}\n\n' % number.encode()
    )
    [call] = deltas(repair(body + DONE))[0]["tool_calls"]
    assert call["function"]["arguments"] == f'{{"n":{number}}}'


@given(st.decimals(allow_nan=False, allow_infinity=False) | st.integers(), st.booleans())
def test_any_number_keeps_its_value(number, spaced):
    """However it is written: the text is the same, or is the same number to a double."""
    text = str(number)
    data = f'{{"a": {text}}}' if spaced else f'{{"a":{text}}}'
    written = dump(load(data.encode())).decode()[5:-1]
    assert written == text or Decimal(written) == Decimal(text)


def test_digits_before_an_e_in_a_text_are_no_exponent():
    """An id in hexadecimal digits is parsed fast, and is not changed."""
    for text in ("chatcmpl-5e9c", "1e5", "12345678901234567890", ": 1e400", ",-1e400"):
        body = stream([chunk({"content": text}, IsDelta=False), LAST])
        assert repair(body).text == text


# Characters.

FLOWER = "🌸".encode()


def cut_text(*pieces, field="content", **fields):
    """Chunks whose texts are the given bytes, as they are."""
    mark = "\x01"
    written = []
    for piece in pieces:
        delta = {field: mark}
        if field == "arguments":
            delta = {"tool_calls": [{"index": 0, "function": {"arguments": mark}}]}
        written.append(event({**chunk(delta), **fields}).replace(b'"\\u0001"', b'"' + piece + b'"'))
    return written


def text_in(result, field):
    if field == "arguments":
        return "".join(
            item["function"].get("arguments", "") for delta in deltas(result) for item in delta.get("tool_calls", ())
        )
    return "".join(delta.get(field) or "" for delta in deltas(result))


CUTS = {
    "two and two bytes": [FLOWER[:2], FLOWER[2:]],
    "one and three bytes": [FLOWER[:1], FLOWER[1:]],
    "three and one byte": [FLOWER[:3], FLOWER[3:]],
    "each byte": [FLOWER[at : at + 1] for at in range(4)],
    "halves of a pair": [rb"\ud83c", rb"\udf38"],
    "text around it": [b"a" + FLOWER[:2], FLOWER[2:] + b"b"],
    "twice": [FLOWER[:2], FLOWER[2:] + FLOWER[:3], FLOWER[3:]],
    "two characters": [FLOWER + b"\xc3", b"\xa9" + FLOWER[:1], FLOWER[1:]],
    "an empty text between": [FLOWER[:2], b"", FLOWER[2:]],
}


@pytest.mark.parametrize("pieces", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("field", ["content", "reasoning_content", "refusal", "arguments"])
@pytest.mark.parametrize("foreign", [{}, {"IsDelta": False}])
def test_cut_character_is_joined(pieces, field, foreign):
    """Its bytes, or its halves, are in several events; the end of the stream, or a finish reason, does not matter."""
    whole = b"".join(pieces)
    expected = whole.decode() if not whole.startswith(b"\\") else "🌸"
    head = {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]}
    start = [event(chunk(head))] if field == "arguments" else []
    for end in ([event(LAST), DONE], [DONE], []):
        body = [*start, *cut_text(*pieces, field=field, **foreign), *end]
        result = repair(body, WITH_TOOLS)
        assert text_in(result, field) == expected
        assert Repair.ENCODING in result.codes
        assert (result.error is None) == bool(end)
        assert repair([b"".join(body)], WITH_TOOLS).output == result.output


@pytest.mark.parametrize("owner", Owner)
def test_cut_character_is_joined_whoever_sends_it(owner):
    """Before its finish reason at the latest."""
    pieces = [*cut_text(FLOWER[:2], FLOWER[2:]), *cut_text(FLOWER[:2]), event(LAST), DONE]
    result = repair(pieces, evidence=Evidence(owner))
    assert result.text == "🌸\ufffd"
    assert result.reasons == ["stop"]
    ends = [each["choices"][0]["finish_reason"] for each in result.chunks]
    assert ends.index("stop") == len(ends) - 1


def test_cut_characters_of_two_choices_are_not_mixed():
    first, second = cut_text(FLOWER[:2], FLOWER[2:])
    of_second = [each.replace(b'"index":0', b'"index":1') for each in (first, second)]
    ends = [event(chunk({}, "stop", index=index)) for index in range(2)]
    result = repair([first, of_second[0], second, of_second[1], *ends, DONE], asked(n=2))
    assert [text_of(result.chunks, index) for index in range(2)] == ["🌸", "🌸"]


def test_cut_character_in_a_call_written_as_text_is_joined():
    start, end = CALL.replace("Paris", "🌸").encode().replace(b'"', b'\\"').split(FLOWER)
    result = repair([*cut_text(start + FLOWER[:1], FLOWER[1:] + end), event(LAST), DONE], WITH_TOOLS)
    [call] = [item for delta in deltas(result) for item in delta.get("tool_calls", ())]
    assert json.loads(call["function"]["arguments"]) == {"city": "🌸"}


@pytest.mark.parametrize("pieces", [[b"\xff"], [FLOWER[:2], b"a"], [b"\xed\xa0\x80"], [FLOWER[2:]], [b"\xc3\xa9\xc3"]])
def test_bytes_that_are_no_character_are_replaced(pieces):
    """The stream goes on; every other character is kept."""
    result = repair([*cut_text(b"a", *pieces, b"b"), event(LAST), DONE])
    assert result.text == b"".join([b"a", *pieces, b"b"]).decode(errors="replace")
    assert result.error is None
    assert result.reasons == ["stop"]


@pytest.mark.parametrize("half", [rb"\ud83c", rb"\udf38", rb"\ud83c\ud83c", rb"\ud83ca"])
def test_half_of_a_character_that_stays_alone_is_kept(half):
    """As the official client has it; only a half with its other half is a character."""
    result = repair([*cut_text(b"a", half, b"b"), event(LAST), DONE])
    assert result.text == json.loads(b'"a%bb"' % half)


@pytest.mark.parametrize("control", [b"\t", b"\x00", b"\x1f", b"\x0b", b"a\tb\x01"])
@pytest.mark.parametrize("foreign", [{}, {"IsDelta": False}])
@pytest.mark.parametrize("owner", Owner)
def test_control_character_in_a_string_is_accepted(control, foreign, owner):
    """A client reads it escaped: a strict parser, as the official client has, fails on it."""
    result = repair([*cut_text(control, **foreign), event(LAST), DONE], evidence=Evidence(owner))
    assert result.text == control.decode()
    assert result.error is None


def test_control_character_between_tokens_is_no_defect():
    """A tab there is a space, as the standard says."""
    body = event(HEAD).replace(b",", b",\t") + stream([*MIDDLE, LAST])
    assert repair(body).output == body


def test_bytes_that_are_not_text_in_other_fields_are_replaced():
    """The official client would raise on the whole event."""
    body = b"".join([*cut_text(b"a"), event(LAST)]).replace(b'"chatcmpl-1"', b'"chat\xffcmpl"')
    result = repair(body + DONE)
    assert {each["id"] for each in result.chunks} == {"chat\ufffdcmpl"}
    assert result.text == "a"


# A stream for a program that asked for none.


@pytest.mark.parametrize(
    "path", [*recordings("1.0.0"), *recordings("2.2.1")], ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_completion_assembled_from_a_stream_has_all_of_it(path):
    """The text, the calls, the usage and the reason; None for a stream without an answer."""
    result = repair(recorded_body(path), asked(tools=TOOLS, stream_options={"include_usage": True}))
    completion = assemble_completion(result.chunks)
    if not result.chunks:
        assert completion is None
        return
    choice = completion["choices"][0]
    assert completion["object"] == "chat.completion"
    assert (choice["message"]["content"] or "") == result.text
    assert [choice["finish_reason"]] == (result.reasons or [None])
    calls = [item for delta in deltas(result) for item in delta.get("tool_calls", ())]
    assert choice["message"].get("tool_calls", []) == [
        {k: v for k, v in call.items() if k != "index"} for call in calls
    ]
    assert [completion["usage"]] == (usages(result) or [None])


def test_completion_assembled_from_pieces():
    """Texts, lists and calls are joined, several choices stay apart."""
    calls = [
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}]},
        {"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]},
    ]
    logprobs = {"content": [{"token": "a"}], "refusal": None}
    spoken = chunk({"content": "a", "audio": {"id": "x", "transcript": "a"}})
    spoken["choices"][0]["logprobs"] = logprobs
    chunks = [
        chunk({"role": "assistant", "content": ""}),
        *(json.loads(json.dumps(each)) for each in (spoken, spoken)),
        *map(chunk, calls),
        chunk({"content": "b"}, index=1),
        chunk({}, "tool_calls"),
        chunk({}, "stop", index=1),
        {**chunk({}), "choices": [], "usage": USAGE, "system_fingerprint": "fp"},
    ]
    first, second = assemble_completion(chunks)["choices"]
    assert first == {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": "aa",
            "audio": {"id": "x", "transcript": "aa"},
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        },
        "logprobs": {"content": [{"token": "a"}] * 2, "refusal": None},
        "finish_reason": "tool_calls",
    }
    spoken = {"role": "assistant", "content": "b"}
    assert second == {"index": 1, "message": spoken, "logprobs": None, "finish_reason": "stop"}
    completion = assemble_completion(chunks)
    assert completion["usage"] == USAGE
    assert completion["created"] == NOW
    assert END not in completion


def test_half_of_a_pair_before_a_private_character_is_written_as_it_was():
    """Two halves that belong together are not the placeholder of a byte."""
    text = "\ud83c\U000f0000"
    assert load(dump({"content": text}))["content"] == text
