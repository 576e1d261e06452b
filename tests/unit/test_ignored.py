"""What a request demands and its answer ignores is reported, and an error under a strict policy only."""

import copy
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.core.chat_bodies import repair_completion
from shim.core.fast_path import FastStreamRepairer
from shim.core.foundry import Evidence, Owner
from shim.core.ignored import AnswerCheck
from shim.core.request import ChatRequest, Demands
from shim.core.schema import matches
from shim.errors import StreamError
from shim.repairs import Policy, Repair
from shim.reports import RepairReport
from support.streams import DONE, asked, betalgo, chunk, conforming, event, repair, stream

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
STRICT = {"type": "function", "function": {"name": "f", "strict": True, "parameters": CITY}}
LOOSE = {"type": "function", "function": {"name": "f", "parameters": CITY}}
LOGPROBS = {"content": [{"token": "a", "logprob": -0.5}], "refusal": None}


def schema_format(*, strict=True):
    return {"type": "json_schema", "json_schema": {"name": "x", "strict": strict, "schema": CITY}}


def calls(*arguments, name="f"):
    """Structured calls, each in two pieces."""
    chunks = []
    for index, text in enumerate(arguments):
        function = {"name": name, "arguments": text[:5]}
        chunks.append(
            chunk({"tool_calls": [{"index": index, "id": f"c{index}", "type": "function", "function": function}]})
        )
        chunks.append(chunk({"tool_calls": [{"index": index, "function": {"arguments": text[5:]}}]}))
    return [*chunks, chunk({}, "tool_calls")]


def with_logprobs(chunks, logprobs):
    chunks = copy.deepcopy(chunks)
    chunks[1]["choices"][0]["logprobs"] = logprobs
    return chunks


def said(text, reason="stop"):
    return conforming([text[:3], text[3:]], reason=reason)


TWO = [chunk({"content": "a"}, index=index) for index in range(2)]
TWO_ENDED = [*TWO, *(chunk({}, "stop", index=index) for index in range(2))]

# What a request has, the chunks of an answer, and what that shows to have been ignored.
CASES = {
    "n": ({"n": 2}, said("Hello"), {"n"}),
    "n, one of three": ({"n": 3}, TWO_ENDED, {"n"}),
    "n, kept": ({"n": 2}, TWO_ENDED, set()),
    "n, one": ({"n": 1}, said("Hello"), set()),
    "n, null": ({"n": None}, said("Hello"), set()),
    "n, not a number": ({"n": "2"}, said("Hello"), set()),
    "logprobs": ({"logprobs": True}, said("Hello"), {"logprobs"}),
    "logprobs, empty": ({"logprobs": True}, with_logprobs(said("Hello"), {"content": None}), {"logprobs"}),
    "logprobs, kept": ({"logprobs": True}, with_logprobs(said("Hello"), LOGPROBS), set()),
    "logprobs, no text": ({"logprobs": True}, said(""), set()),
    "logprobs, not requested": ({"logprobs": False, "top_logprobs": 2}, said("Hello"), set()),
    "stop": ({"stop": "lo"}, said("Hello"), {"stop"}),
    "stop, over two chunks": ({"stop": "ello"}, said("Hello"), {"stop"}),
    "stop, one of several": ({"stop": ["x", "", "l"]}, said("Hello"), {"stop"}),
    "stop, kept": ({"stop": ["x", "world"]}, said("Hello"), set()),
    "stop, null": ({"stop": None}, said("Hello"), set()),
    "stop, of another form": ({"stop": [1, {}]}, said("1"), set()),
    "json_object": ({"response_format": {"type": "json_object"}}, said("Hello"), {"response_format"}),
    "json_object, a list": ({"response_format": {"type": "json_object"}}, said("[1]"), {"response_format"}),
    "json_object, kept": ({"response_format": {"type": "json_object"}}, said(' {"a": 1}\n'), set()),
    "json_object, a fence": (
        {"response_format": {"type": "json_object"}},
        said('```json\n{"a": 1}\n```'),
        {"response_format"},
    ),
    "json_object, cut": ({"response_format": {"type": "json_object"}}, said('{"a', "length"), set()),
    "json_object, filtered": ({"response_format": {"type": "json_object"}}, said("No", "content_filter"), set()),
    "json_object, a call": ({"response_format": {"type": "json_object"}, "tools": [LOOSE]}, calls("{}"), set()),
    "json_object, nothing": ({"response_format": {"type": "json_object"}}, said(""), set()),
    "json_schema": ({"response_format": schema_format()}, said("Hello"), {"response_format"}),
    "json_schema, another object": ({"response_format": schema_format()}, said('{"a": 1}'), {"response_format"}),
    "json_schema, kept": ({"response_format": schema_format()}, said('{"city": "Paris"}'), set()),
    "json_schema, not strict": ({"response_format": schema_format(strict=False)}, said('{"a": 1}'), set()),
    "json_schema, not strict, text": ({"response_format": schema_format(strict=False)}, said("a"), {"response_format"}),
    "text": ({"response_format": {"type": "text"}}, said("Hello"), set()),
    "strict": ({"tools": [STRICT]}, calls('{"place": "Paris"}'), {"strict"}),
    "strict, the second call": ({"tools": [STRICT]}, calls('{"city": "Paris"}', '{"city": []}'), {"strict"}),
    "strict, not JSON": ({"tools": [STRICT]}, calls('{"city"'), {"strict"}),
    "strict, kept": ({"tools": [STRICT]}, calls('{"city": "Paris"}'), set()),
    "strict, not demanded": ({"tools": [LOOSE]}, calls('{"place": "Paris"}'), set()),
    "strict, another function": ({"tools": [STRICT]}, calls("{}", name="g"), set()),
    "strict, cut": ({"tools": [STRICT]}, [*calls('{"ci')[:-1], chunk({}, "length")], set()),
    "strict, a call as text": (
        {"tools": [STRICT]},
        said('<tool_call>{"name": "f", "arguments": {"place": "Paris"}}</tool_call>'),
        {"strict"},
    ),
    "parallel_tool_calls": (
        {"tools": [LOOSE], "parallel_tool_calls": False},
        calls("{}", "{}"),
        {"parallel_tool_calls"},
    ),
    "parallel_tool_calls, kept": ({"tools": [LOOSE], "parallel_tool_calls": False}, calls("{}"), set()),
    "parallel_tool_calls, allowed": ({"tools": [LOOSE], "parallel_tool_calls": True}, calls("{}", "{}"), set()),
    "tool_choice": ({"tools": [LOOSE], "tool_choice": "required"}, said("Hello"), {"tool_choice"}),
    "tool_choice, a name": (
        {"tools": [LOOSE], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        said("Hello"),
        {"tool_choice"},
    ),
    "tool_choice, kept": ({"tools": [LOOSE], "tool_choice": "required"}, calls("{}"), set()),
    "tool_choice, as text": (
        {"tools": [LOOSE], "tool_choice": "required"},
        said('<tool_call>{"name": "f", "arguments": {}}</tool_call>'),
        set(),
    ),
    "tool_choice, cut": ({"tools": [LOOSE], "tool_choice": "required"}, said("Hello", "length"), set()),
    "tool_choice, auto": ({"tools": [LOOSE], "tool_choice": "auto"}, said("Hello"), set()),
    "several": (
        {"n": 2, "logprobs": True, "stop": "l", "response_format": {"type": "json_object"}},
        said("Hello"),
        {"n", "logprobs", "stop", "response_format"},
    ),
    "nothing": ({}, said("Hello"), set()),
}
ALL = pytest.mark.parametrize(("fields", "chunks", "ignored"), CASES.values(), ids=CASES)


def heard(told):
    return {name for each in told if each.repair is Repair.REQUEST_IGNORED for name in each.found.split(", ")}


def in_stream(fields, body, repairer_class=FastStreamRepairer, owner=Owner.FOUNDRY, **policy):
    told = []
    repairer = repairer_class(asked(**fields), Policy(on_repair=told.append, **policy), evidence=Evidence(owner))
    output = b"".join(map(repairer.feed, body)) + repairer.finish()
    return output, repairer, told


@ALL
def test_in_a_stream(fields, chunks, ignored):
    """Reported once, at the end, and nothing of the answer is changed for it."""
    body = [*map(event, chunks), DONE]
    output, repairer, told = in_stream(fields, body)
    assert heard(told) == ignored
    assert repairer.report.repairs[Repair.REQUEST_IGNORED] == bool(ignored)
    assert repairer.is_complete
    quiet = Policy(off=frozenset({Repair.REQUEST_IGNORED}))
    assert len(repair(body, asked(**fields), quiet).output) == len(output)


@ALL
def test_in_a_stream_of_any_form(fields, chunks, ignored):
    """In one piece, without the end marker, and as 1.x writes it."""
    for body in ([stream(chunks)], [stream(chunks, done=b"")], [b"".join(map(event, chunks)).replace(b"\n\n", b"\n")]):
        assert heard(in_stream(fields, body)[2]) == ignored


def as_completion(chunks):
    """The same answer in one piece."""
    choices = {}
    for each in chunks:
        for part in each["choices"]:
            choice = choices.setdefault(
                part["index"],
                {"index": part["index"], "message": {"role": "assistant", "content": ""}, "logprobs": None},
            )
            choice["message"]["content"] += part["delta"].get("content") or ""
            for item in copy.deepcopy(part["delta"].get("tool_calls", [])):
                known = choice["message"].setdefault("tool_calls", [])
                if item.pop("index") == len(known):
                    known.append(item)
                else:
                    known[-1]["function"]["arguments"] += item["function"]["arguments"]
            choice["finish_reason"] = part["finish_reason"]
            choice["logprobs"] = choice["logprobs"] or part["logprobs"]
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [*choices.values()]}


@ALL
def test_in_a_plain_completion(fields, chunks, ignored):
    told = []
    report = RepairReport(Policy(on_repair=told.append))
    request = ChatRequest.read(fields)
    repair_completion(as_completion(chunks), request, report, Evidence(Owner.FOUNDRY))
    assert heard(told) == ignored
    assert report.repairs[Repair.REQUEST_IGNORED] == bool(ignored)


@ALL
def test_strict_policy_makes_it_an_error(fields, chunks, ignored):
    """After the answer; the message names the fields, and nothing of their values."""
    output, repairer, _ = in_stream(fields, [*map(event, chunks), DONE], strict=True)
    if b"repair_refused" in output:
        assert "as text" in str(fields) or b"tool_call" in event(chunks)
    elif ignored:
        error = json.loads(output.rpartition(b"data: ")[2])["error"]
        assert error["code"] == "request_ignored"
        assert ", ".join(sorted(ignored)) in error["message"]
        assert not repairer.is_complete
    else:
        assert repairer.is_complete
        assert output == stream(chunks)
    if ignored:
        with pytest.raises(StreamError):
            repair_completion(
                as_completion(chunks),
                ChatRequest.read(fields),
                RepairReport(Policy(strict=True)),
                Evidence(Owner.FOUNDRY),
            )


@ALL
def test_answer_of_another_service_is_not_judged(fields, chunks, ignored):
    for owner in (Owner.UNKNOWN, Owner.OTHER):
        _, repairer, _ = in_stream(fields, [stream(chunks)], owner=owner, strict="<tool_call>" not in str(chunks))
        assert not repairer.report.repairs[Repair.REQUEST_IGNORED]
        report = RepairReport()
        repair_completion(as_completion(chunks), ChatRequest.read(fields), report, Evidence(owner))
        assert not report.repairs[Repair.REQUEST_IGNORED]


@pytest.mark.parametrize("name", ["n", "logprobs", "stop", "json_object"])
def test_incomplete_answer_is_not_judged(name):
    """What would have followed may have had what was demanded; the error is enough."""
    fields, chunks, _ = CASES[name]
    for body in ([stream(chunks[:-1], done=b"")], [stream(chunks[:-1], done=b""), event({"error": {"message": "no"}})]):
        _, repairer, _ = in_stream(fields, body)
        assert not repairer.report.repairs[Repair.REQUEST_IGNORED]


@pytest.mark.parametrize("form", [conforming, betalgo])
@pytest.mark.parametrize("at", [0, 3, 40, 97])
def test_text_that_would_take_the_fast_path_is_read(form, at):
    """Many similar events, and one of them has the text that should have ended the answer."""
    texts = ["tick "] * 100
    texts[at] = "tock "
    body = [*map(event, form(texts)), DONE]
    assert heard(in_stream({"stop": "tock"}, body)[2]) == {"stop"}
    assert heard(in_stream({"stop": "k tock t"}, body)[2]) == ({"stop"} if 0 < at < 99 else set())
    assert heard(in_stream({"stop": "tack"}, body)[2]) == set()
    any_json = {"response_format": schema_format(strict=False)}
    assert heard(in_stream(any_json, [stream(form(['"', *texts, '"']))])[2]) == set()
    assert heard(in_stream(any_json, [stream(form(['"', *texts]))])[2]) == {"response_format"}


def test_text_that_is_buffered_is_read():
    """It is emitted at the end."""
    body = stream([chunk({"content": "a <tool_"}), chunk({}, "stop")])
    assert heard(in_stream({"tools": [LOOSE], "stop": "<tool_"}, [body])[2]) == {"stop"}
    assert heard(in_stream({"tools": [LOOSE], "stop": "<tool_"}, [stream([chunk({"content": "a <tool_"}, "stop")])])[2])


def test_nothing_is_checked_where_nothing_is_demanded():
    """It costs nothing then."""
    assert AnswerCheck.of(ChatRequest.read({"model": "m", "temperature": 1, "n": 1, "stop": None})) is None
    assert AnswerCheck.of(ChatRequest.read({"tools": [LOOSE], "tool_choice": "auto"})) is None
    assert AnswerCheck.of(ChatRequest.read({"tools": [STRICT], "tool_choice": "none"})) is None
    assert AnswerCheck.of(ChatRequest.read({"n": 2})) is not None


def test_one_line_of_the_log_says_so(caplog):
    """With the code and the names of the fields, and without any text."""
    with caplog.at_level(logging.INFO, "shim"):
        _, repairer, _ = in_stream({"stop": "secret", "n": 2}, [stream(said("a secret"))])
        repairer.report.log()
    assert repairer.report.ignored == ("n", "stop")
    [line] = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert line.endswith("request-ignored 1 (n, stop)")
    assert "secret" not in caplog.text


@given(
    st.builds(
        Demands,
        logprobs=st.booleans(),
        stop=st.lists(st.text("ab", min_size=1, max_size=3), max_size=2).map(tuple),
        schema=st.none() | st.just({}) | st.just(CITY),
    ),
    st.lists(st.text("ab", max_size=4), max_size=6),
)
def test_how_the_text_is_cut_does_not_matter(demands, pieces):
    request = ChatRequest(demands=demands)
    found = []
    for texts in (pieces, ["".join(pieces)], list("".join(pieces))):
        check, report = AnswerCheck(request), RepairReport()
        for each in conforming(texts):
            check.see(each)
        check.report_to(report)
        found.append(check._find())
        assert bool(report.repairs) == bool(found[-1])
    assert found[0] == found[1] == found[2]
    text = "".join(pieces)
    assert ("stop" in found[0]) == any(stop in text for stop in demands.stop)


# Schemas.

SCHEMAS = [
    (CITY, {"city": "Paris"}, True),
    (CITY, {"city": "Paris", "x": 1}, False),
    (CITY, {"city": 1}, False),
    (CITY, {}, False),
    (CITY, [], False),
    ({}, {"a": 1}, True),
    (True, 1, True),
    (False, 1, False),
    ({"type": "integer"}, 1, True),
    ({"type": "integer"}, 1.0, True),
    ({"type": "integer"}, 1.5, False),
    ({"type": "integer"}, True, False),
    ({"type": "number"}, 1, True),
    ({"type": "number"}, "1", False),
    ({"type": ["string", "null"]}, None, True),
    ({"type": ["string", "null"]}, 1, False),
    ({"type": "unheard of"}, 1, True),
    ({"type": [[]]}, 1, True),
    ({"enum": ["a", 1]}, "a", True),
    ({"enum": ["a", 1]}, True, False),
    ({"enum": "a"}, 1, True),
    ({"const": None}, None, True),
    ({"const": 1}, 1.0, True),
    ({"const": 1}, 2, False),
    ({"anyOf": [{"type": "string"}, {"type": "null"}]}, None, True),
    ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1, False),
    ({"oneOf": [{"type": "string"}]}, 1, False),
    ({"type": "array", "items": {"type": "string"}}, ["a"], True),
    ({"type": "array", "items": {"type": "string"}}, ["a", 1], False),
    ({"properties": {"a": {"properties": {"b": {"type": "string"}}}}}, {"a": {"b": 1}}, False),
    ({"required": [["a"], 1]}, {}, True),
    ({"$ref": "#/x"}, 1, True),
]


@pytest.mark.parametrize(("schema", "value", "expected"), SCHEMAS)
def test_value_matches_a_schema(schema, value, expected):
    """As far as its usual keywords say; what is not known, matches."""
    assert matches(value, schema) is expected


def test_deep_values_and_schemas_raise_nothing():
    value, schema = 1, {}
    for _ in range(500):
        value, schema = {"a": value}, {"properties": {"a": schema}, "required": ["a"]}
    assert matches(value, schema)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(allow_nan=False) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)
keywords = ["type", "enum", "const", "anyOf", "properties", "required", "additionalProperties", "items"]


@given(json_values, st.dictionaries(st.sampled_from(keywords), json_values, max_size=4))
def test_any_schema_raises_nothing(value, schema):
    assert matches(value, schema) in {True, False}
    assert matches(value, {"enum": [value]})
    assert matches(value, {"const": value})
