"""Answers that are no stream: completions, lists of models, and errors in whatever form."""

import copy
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.core.chat_bodies import repair_completion, repair_models
from shim.core.request import ChatRequest
from shim.errors import StreamError
from shim.repairs import Policy, Repair
from shim.reports import RepairReport
from support.streams import MINTED, MODEL, NOW, WIRE, recorded_body

ASKED = "POST /v1/chat/completions"
TEXT = "Cherry blossoms fall,\nGentle spring breeze carries dreams,\nPeace in nature's song."
USAGE = {"prompt_tokens": 10, "completion_tokens": 18, "total_tokens": 28}
ARGUMENTS = '{"city":"Paris"}'
MARKUP = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
TOOLS = {"get_weather": {"type": "object", "properties": {"city": {"type": "string"}}}, "other": {}}
REQUEST = ChatRequest(model=MODEL, stream=False)
WITH_TOOLS = ChatRequest(model=MODEL, stream=False, tools=TOOLS)
NAMED_TOOL = ChatRequest(model=MODEL, stream=False, tools=TOOLS, named_tool=True)


# The plain answers of the real services, recorded like the streams in tests/wire/live.
FROM_1_0_0 = {"CreatedAt": "2026-11-22T18:39:42+00:00", "IsDelta": False, "Successful": True, "HttpStatusCode": 0}
INVALID = {"code": None, "param": None, "type": "invalid_request_error"}
RECORDED_COMPLETION = {
    "choices": [
        {
            "finish_reason": "stop",
            "index": 0,
            "logprobs": None,
            "message": {"content": TEXT, "refusal": None, "role": "assistant"},
        }
    ],
    "created": 1795372803,
    "id": "chatcmpl-8d5b6ef0dfd7ca42",
    "model": MODEL,
    "object": "chat.completion",
    "system_fingerprint": None,
    "usage": {
        **USAGE,
        "completion_tokens_details": {"reasoning_tokens": 0},
        "prompt_tokens_details": {"cached_tokens": 0},
    },
}
RECORDED_ERRORS = {
    "err-json": "Invalid JSON: [json.exception.parse_error.101] parse error at line 1, column 10: syntax error while "
    "parsing value - unexpected end of input; expected '[', '{', or a literal",
    "err-model": "Model not found: No model matching 'nope'",
    "err-nomessages": "Invalid request: [json.exception.out_of_range.403] key 'messages' not found",
    "embeddings": "Inference failed: Generator output 'hidden_states' was not found.",
}
RECORDED_NO_PATH = (
    b"server=oatpp/1.3.0\ncode=404\ndescription=Not Found\n"
    b"message=No mapping for HTTP-method: 'POST', URL: '/catalogs/local/v1/completions'\n"
)


def completion_of_1_0_0(content):
    said = {"role": "assistant", "content": content, "tool_calls": []}
    return {
        "model": MODEL,
        "choices": [{"delta": dict(said), "message": said, "index": 0, "finish_reason": "stop"}],
        "usage": USAGE,
        "created": 1795372782,
        "id": "chat.id.1",
        **FROM_1_0_0,
        "object": "chat.completion",
    }


def call(id="call_1", name="get_weather", arguments=ARGUMENTS, **members):  # noqa: A002 - OpenAI's word
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}, **members}


def completion(content="Hi", reason="stop", *, message=None, choice=None, **members):
    """A completion as OpenAI sends it, with other members where they are given; `...` leaves one out."""
    said = with_members({"role": "assistant", "content": content, "refusal": None}, message or {})
    only = {"index": 0, "message": said, "logprobs": None, "finish_reason": reason}
    envelope = {"id": "chatcmpl-1", "object": "chat.completion", "created": NOW, "model": MODEL}
    return with_members({**envelope, "choices": [with_members(only, choice or {})], "usage": USAGE}, members)


def with_members(base, members):
    return {name: value for name, value in {**base, **members}.items() if value is not ...}


def repaired(body, request=REQUEST, policy=None):
    """What becomes of a completion, whether it was changed, and the repairs."""
    report = RepairReport(policy or Policy())
    left = copy.deepcopy(body)
    changed = repair_completion(left, request, report, new_id=lambda: MINTED, now=lambda: NOW)
    return left, changed, {code: number for code, number in report.repairs.items() if number}


def without_minted_ids(body):
    """The completion with the minted ids of its calls taken for `call_1` and so on."""
    for choice in body["choices"]:
        for number, each in enumerate(choice["message"].get("tool_calls") or (), 1):
            if each["id"].startswith("call_") and len(each["id"]) > len("call_1"):
                each["id"] = f"call_{number}"
    return body


# Completions that conform.


@pytest.mark.parametrize(
    "body",
    [
        completion(),
        completion(reason="length", system_fingerprint=None, service_tier="default"),
        completion(None, "tool_calls", message={"tool_calls": [call(), call("call_2")]}),
        completion(message={"annotations": [], "reasoning_content": "hm", "unknown": {"a": [1]}}),
        completion(choices=[]),
        completion(choice={"message": ..., "text": "Hi"}),
        {"object": "text"},
        {"choices": None, "IsDelta": False},
        {"error": {"message": "no"}},
    ],
)
def test_conforming_completion_stays(body):
    """Nothing is changed or counted, under a strict policy even; so it is with a body that has no choices."""
    assert repaired(body, WITH_TOOLS, Policy(strict=True)) == (body, False, {})


def test_recorded_completion_of_2_2_1_stays():
    assert repaired(RECORDED_COMPLETION, WITH_TOOLS, Policy(strict=True)) == (RECORDED_COMPLETION, False, {})


def test_named_tool_ends_with_stop():
    """OpenAI ends so where one function was demanded by name."""
    body = completion(None, "stop", message={"tool_calls": [call()]})
    assert repaired(body, NAMED_TOOL) == (body, False, {})


# Completions of 1.0.0, as recorded.


def recorded_completion(**message):
    return {
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls" if "tool_calls" in message else "stop",
                "message": {"role": "assistant", **message},
            }
        ],
        "created": 1795372782,
        "id": MINTED,
        "object": "chat.completion",
    }


def test_recorded_completion_of_1_0_0_is_mended():
    left, changed, codes = repaired(completion_of_1_0_0(TEXT))
    assert left == {**recorded_completion(content=TEXT), "usage": USAGE}
    assert changed
    envelope, members, message = Repair.BODY_ENVELOPE, Repair.BODY_MEMBERS, Repair.BODY_MESSAGE
    assert codes == {envelope: 1, members: 1, message: 1, Repair.BODY_TOOL_CALLS: 1}


def test_recorded_tool_call_of_1_0_0_is_lifted():
    left, _, codes = repaired(completion_of_1_0_0(MARKUP), WITH_TOOLS)
    del left["usage"]
    assert without_minted_ids(left) == recorded_completion(content=None, tool_calls=[call()])
    assert codes[Repair.TOOL_CALL_TEXT] == 1
    assert codes[Repair.BODY_FINISH_REASON] == 1


# One defect, one code.

ENVELOPE, MEMBERS, MESSAGE = Repair.BODY_ENVELOPE, Repair.BODY_MEMBERS, Repair.BODY_MESSAGE
CALLS, REASON = Repair.BODY_TOOL_CALLS, Repair.BODY_FINISH_REASON
CALLED = completion(None, "tool_calls", message={"tool_calls": [call()]})
SAID = completion()["choices"][0]["message"]

DEFECTS = {
    "object of a chunk": (ENVELOPE, completion(object="chat.completion.chunk"), completion()),
    "object missing": (ENVELOPE, completion(object=...), completion()),
    "id missing": (ENVELOPE, completion(id=...), completion(id=MINTED)),
    "id empty": (ENVELOPE, completion(id=""), completion(id=MINTED)),
    "id a number": (ENVELOPE, completion(id=1), completion(id=MINTED)),
    "id constant": (ENVELOPE, completion(id="chat.id.17"), completion(id=MINTED)),
    "created missing": (ENVELOPE, completion(created=...), completion()),
    "created zero": (ENVELOPE, completion(created=0), completion()),
    "created a fraction": (ENVELOPE, completion(created=1.5), completion()),
    "model missing": (ENVELOPE, completion(model=...), completion()),
    "model null": (ENVELOPE, completion(model=None), completion()),
    "index missing": (ENVELOPE, completion(choice={"index": ...}), completion()),
    "index null": (ENVELOPE, completion(choice={"index": None}), completion()),
    "foreign at the top": (MEMBERS, completion(IsDelta=False, CreatedAt="", Successful=True), completion()),
    "foreign in a choice": (MEMBERS, completion(choice={"IsDelta": False}), completion()),
    "foreign in a message": (MEMBERS, completion(message={"HttpStatusCode": 0}), completion()),
    "finish_details": (MEMBERS, completion(choice={"finish_details": {"type": "x"}}), completion()),
    "error null": (MEMBERS, completion(error=None), completion()),
    "null members": (
        MEMBERS,
        completion(message={"name": None, "tool_call_id": None, "function_call": None}),
        completion(),
    ),
    "delta beside message": (MESSAGE, completion(choice={"delta": SAID}), completion()),
    "null delta": (MESSAGE, completion(choice={"delta": None}), completion()),
    "delta alone": (MESSAGE, completion(choice={"delta": SAID, "message": ...}), completion()),
    "delta beside null": (MESSAGE, completion(choice={"delta": SAID, "message": None}), completion()),
    "calls in the delta alone": (
        MESSAGE,
        completion(None, "tool_calls", choice={"delta": {"tool_calls": [call()]}}),
        CALLED,
    ),
    "calls in both": (
        MESSAGE,
        completion(
            None, "tool_calls", message={"tool_calls": [call()]}, choice={"delta": {"tool_calls": [call("other")]}}
        ),
        CALLED,
    ),
    "no calls": (CALLS, completion(message={"tool_calls": []}), completion()),
    "null calls": (CALLS, completion(message={"tool_calls": None}), completion()),
    "numbered calls": (CALLS, completion(None, "tool_calls", message={"tool_calls": [call(index=3)]}), CALLED),
    "arguments an object": (
        CALLS,
        completion(None, "tool_calls", message={"tool_calls": [call(arguments={"a": 1})]}),
        completion(None, "tool_calls", message={"tool_calls": [call(arguments='{"a":1}')]}),
    ),
    "no proper call": (CALLS, completion(message={"tool_calls": [{"arguments": "null"}]}), completion()),
    "reason missing": (REASON, completion(choice={"finish_reason": ...}), completion()),
    "reason null": (REASON, completion(reason=None), completion()),
    "reason empty": (REASON, completion(reason=""), completion()),
    "reason spelled otherwise": (REASON, completion(reason="EOS"), completion()),
    "reason length spelled otherwise": (REASON, completion(reason="max_tokens"), completion(reason="length")),
    "reason stop with calls": (REASON, completion(None, message={"tool_calls": [call()]}), CALLED),
    "no reason with calls": (REASON, completion(None, None, message={"tool_calls": [call()]}), CALLED),
}


@pytest.mark.parametrize(("code", "sent", "expected"), DEFECTS.values(), ids=DEFECTS)
class TestDefects:
    """Each defect is mended under its code, asked for once, and only where it is allowed."""

    def test_is_repaired(self, code, sent, expected):
        assert repaired(sent) == (expected, True, {code: 1})

    def test_stays_where_its_code_is_off(self, code, sent, expected):
        left, changed, codes = repaired(sent, policy=Policy(off=frozenset({code})))
        assert left != expected
        assert changed == (left != sent)
        assert code not in codes

    def test_is_refused_by_a_strict_policy(self, code, sent, expected):
        with pytest.raises(StreamError) as caught:
            repaired(sent, policy=Policy(strict=True))
        assert caught.value.code == "repair_refused"


def test_reason_nobody_knows_stays():
    body = completion(reason="cosmic_ray")
    assert repaired(body) == (body, False, {})


def test_model_stays_unknown_where_the_request_names_none():
    body = completion(model=None)
    assert repaired(body, ChatRequest()) == (body, False, {})


def test_choices_are_numbered_and_repaired_each():
    """A code is asked for once for the body, however many choices need it; what is no choice stays."""
    sent = completion(choices=[{"delta": {"content": text, "tool_calls": []}} for text in "ab"] + [None, {"text": "c"}])
    left, _, codes = repaired(sent)
    assert left["choices"] == [
        {"index": 0, "message": {"content": "a"}, "finish_reason": "stop"},
        {"index": 1, "message": {"content": "b"}, "finish_reason": "stop"},
        None,
        {"text": "c", "index": 3},
    ]
    assert codes == {ENVELOPE: 1, MESSAGE: 1, CALLS: 1, REASON: 1}


@pytest.mark.parametrize("calls", [{"id": "a"}, "calls"])
def test_calls_in_another_form_stay(calls):
    body = completion(reason="tool_calls", message={"tool_calls": calls})
    assert repaired(body) == (body, False, {})


# Tool calls and reasoning in the text.

OTHER = '<tool_call>{"name": "other", "arguments": {}}</tool_call>'


@pytest.mark.parametrize(
    ("content", "calls", "rest"),
    [
        (MARKUP, [call()], None),
        (f"\n{MARKUP}\n{OTHER}\n", [call(), call("call_2", "other", "{}")], None),
        (f"Wait.\n{MARKUP}", [call()], "Wait."),
        (f"<think>I call {OTHER}.</think>{MARKUP}", [call()], f"<think>I call {OTHER}.</think>"),
    ],
)
def test_calls_in_the_text_are_lifted(content, calls, rest):
    """Calls become `tool_calls`; what is left of the text stays, and what stands in reasoning is none."""
    left, changed, codes = repaired(completion(content), WITH_TOOLS)
    left["choices"][0]["message"]["content"] = rest and (left["choices"][0]["message"]["content"] or "").rstrip()
    assert without_minted_ids(left) == completion(rest, "tool_calls", message={"tool_calls": calls})
    assert changed
    assert codes == {Repair.TOOL_CALL_TEXT: len(calls), REASON: 1}


@pytest.mark.parametrize(
    ("request_", "policy"),
    [
        (REQUEST, Policy()),
        (WITH_TOOLS, Policy(tool_calls=False)),
        (WITH_TOOLS, Policy(off=frozenset({Repair.TOOL_CALL_TEXT}))),
    ],
)
def test_calls_in_the_text_stay_where_they_are_not_wanted(request_, policy):
    """Without declared functions, or by policy, they are text."""
    body = completion(MARKUP)
    assert repaired(body, request_, policy) == (body, False, {})


@pytest.mark.parametrize("content", [None, [{"type": "text", "text": MARKUP}], "no call at all"])
def test_content_without_calls_stays(content):
    body = completion(content)
    assert repaired(body, WITH_TOOLS) == (body, False, {})


def test_call_that_is_structured_too_is_given_once():
    """2.x leaves the markup in the content of a plain body."""
    sent = completion(MARKUP, "tool_calls", message={"tool_calls": [call()]})
    assert repaired(sent, WITH_TOOLS) == (CALLED, True, {Repair.TOOL_CALL_TEXT: 1})


def test_further_call_in_the_text_joins_the_structured_ones():
    sent = completion(MARKUP + OTHER, "tool_calls", message={"tool_calls": [call()]})
    left, _, _ = repaired(sent, WITH_TOOLS)
    message = without_minted_ids(left)["choices"][0]["message"]
    assert message["tool_calls"] == [call(), call("call_2", "other", "{}")]
    assert message["content"] is None


def test_lifted_calls_of_a_named_tool_end_with_stop():
    left, _, codes = repaired(completion(MARKUP), NAMED_TOOL)
    assert left["choices"][0]["finish_reason"] == "stop"
    assert codes == {Repair.TOOL_CALL_TEXT: 1}


def test_reasoning_is_moved_on_request():
    sent = completion("<think>hm</think>Hi")
    assert repaired(sent) == (sent, False, {})
    split = Policy(reasoning="split")
    expected = completion(message={"reasoning_content": "hm"})
    assert repaired(sent, policy=split) == (expected, True, {Repair.REASONING: 1})
    off = Policy(reasoning="split", off=frozenset({Repair.REASONING}))
    assert repaired(sent, policy=off) == (sent, False, {})


def test_moved_reasoning_follows_what_was_there():
    sent = completion("<think>hm</think>Hi", message={"reasoning_content": "First "})
    left, _, _ = repaired(sent, policy=Policy(reasoning="split"))
    assert left == completion(message={"reasoning_content": "First hm"})


# Models.

ONE_MODEL = {"id": "m", "object": "model", "created": 1, "owned_by": "local"}
ALL_MODELS = {"object": "list", "data": [ONE_MODEL]}


def repaired_models(body, policy=None):
    report = RepairReport(policy or Policy())
    left = copy.deepcopy(body)
    changed = repair_models(left, report)
    return left, changed, {code: number for code, number in report.repairs.items() if number}


@pytest.mark.parametrize(
    "body",
    [
        ALL_MODELS,
        ONE_MODEL,
        {"object": "list", "data": [{**ONE_MODEL, "maxInputTokens": 4096, "permission": [], "parent": "m"}, 7]},
        {"object": "list", "data": []},
        {"error": {"message": "Model not found"}},
        {"data": None},
    ],
)
def test_conforming_models_stay(body):
    """So does anything that is neither a list nor a model."""
    assert repaired_models(body, Policy(strict=True)) == (body, False, {})


def test_recorded_models_of_2_2_1_stay():
    model = {"created": 1795372802, "id": MODEL, "object": "model", "owned_by": "local"}
    for body in (model, {"data": [model], "object": "list"}):
        assert repaired_models(body, Policy(strict=True)) == (body, False, {})


def test_recorded_models_of_1_0_0_are_mended():
    foreign = {"IsDelta": False, "Successful": True, "HttpStatusCode": 0}
    name = "scripted-generic-cpu"
    only = {"id": name, "owned_by": "", "permission": [], "created": 0, "parent": name, "object": "model"}
    sent = {**only, "CreatedTime": "1970-01-01T00:00:00+00:00", **foreign}
    left, changed, codes = repaired_models({"data": [sent], **foreign, "object": "list"})
    assert left == {"data": [only], "object": "list"}
    assert changed
    assert codes == {Repair.BODY_MODELS: 1}


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"data": [ONE_MODEL]}, ALL_MODELS),
        ({**ALL_MODELS, "Successful": True}, ALL_MODELS),
        ({**ONE_MODEL, "CreatedTime": "1970"}, ONE_MODEL),
        ({"id": "m", "owned_by": None}, {"id": "m", "object": "model", "created": 0, "owned_by": ""}),
        (
            {"object": "list", "data": [{"id": "m"}]},
            {**ALL_MODELS, "data": [{**ONE_MODEL, "created": 0, "owned_by": ""}]},
        ),
    ],
)
def test_models_are_completed(sent, expected):
    """One model or a list of them; the policy decides."""
    assert repaired_models(sent) == (expected, True, {Repair.BODY_MODELS: 1})
    assert repaired_models(sent, Policy(off=frozenset({Repair.BODY_MODELS}))) == (sent, False, {})


# Which status.


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (completion(), None),
        (completion(Successful=True, HttpStatusCode=0), None),
        (completion(HttpStatusCode=200), None),
        ({"Successful": False}, 500),
        ({"Successful": False, "HttpStatusCode": 404, "error": {"message": "x"}}, 404),
        ({"HttpStatusCode": 400}, 400),
        ({"HttpStatusCode": 503}, 503),
        ({"HttpStatusCode": 999}, 500),
        ({"HttpStatusCode": True}, None),
        ({"Successful": False, "HttpStatusCode": "404"}, 500),
        ({"error": {"message": "x", "type": "invalid_request_error"}}, 400),
        ({"error": "Model not found: x"}, 404),
        ({"error": "x"}, 500),
        ({"error": {}}, None),
        ({"error": None}, None),
        ({"error": {"message": "x"}, "object": "response", "status": "failed"}, None),
        ([], None),
        ("text", None),
        (None, None),
    ],
)
def test_failure_within_a_success_is_an_error(body, status):
    """The status of an error in a body that came with 200; a failed object of /v1/responses is an answer."""
    assert failure(body) == status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"status": 422}, 422),
        ({"code": 404}, 404),
        ({"HttpStatusCode": 503}, 503),
        ({"status": 200, "code": 429}, 429),
        ({"status": 600}, 500),
        ({"code": "model_not_found", "type": "invalid_request_error"}, 404),
        ({"message": "Model not found: No model matching 'x'", "type": "invalid_request_error"}, 404),
        ({"type": "invalid_request_error", "message": None}, 400),
        ({"type": "authentication_error"}, 401),
        ({"type": "permission_error"}, 403),
        ({"type": "not_found_error"}, 404),
        ({"type": "rate_limit_error"}, 429),
        ({"type": "server_error"}, 500),
        ({"type": []}, 500),
        ({"code": True}, 500),
        ({}, 500),
    ],
)
def test_error_is_given_a_status(error, status):
    """A number that is given counts first, then what is said, then the type."""
    assert status_of(error) == status


# Errors.


def error(message, kind="invalid_request_error", param=None, code=None, **members):
    return {"error": {"message": message, "type": kind, "param": param, "code": code, **members}}


def told(status, body, reason="", asked=ASKED):
    left = error_body(
        status, body if isinstance(body, bytes) else json.dumps(body).encode(), asked=asked, reason=reason
    )
    return None if left is None else json.loads(left)


@pytest.mark.parametrize(
    "body",
    [
        error("no"),
        error("no", "BadRequestError", "model", 400, extra=[1]),
        {**error("no"), "request_id": "r"},
        error("x" * 5000),
    ],
)
def test_proper_error_stays(body):
    """Other members, other types and long messages are the service's own business."""
    assert told(400, body) is None


@pytest.mark.parametrize("message", RECORDED_ERRORS.values(), ids=RECORDED_ERRORS)
def test_recorded_errors_of_2_2_1_stay(message):
    assert told(400, {"error": {**INVALID, "message": message}}) is None


@pytest.mark.parametrize(
    ("before", "place", "message"),
    [
        (
            "Invalid request: ",
            "search_options.cc:22 void fl::{anonymous}::ValidateTemperature(float) ",
            "temperature must be in the range [0.0, 2.0]",
        ),
        (
            "Inference failed: ",
            "grammar.cc:48 std::string fl::BuildLarkGrammar(const ToolCallContext&, bool) ",
            "automatic tool calls require distinct model-published tool boundary tokens",
        ),
    ],
)
def test_source_location_is_cut_from_recorded_errors(before, place, message):
    """Nothing else of the object changes."""
    left = told(400, {"error": {**INVALID, "message": before + place + message}})
    assert left == {"error": {**INVALID, "message": before + message}}


GIVES_NO_REASON = "The service answered 418 I'm a teapot to POST /v1/chat/completions, and gave no reason."
WITH_A_PAGE = "The service answered 418 I'm a teapot to POST /v1/chat/completions with an HTML page"
HTML = "<html><head><title>\n 502 Bad&nbsp;Gateway\n</title></head><body>secrets</body></html>"
BETALGO = {"Successful": False, "HttpStatusCode": 400, "IsDelta": False, "object": "chat.completion"}
PROBLEM = {
    "type": "https://tools.ietf.org/html/rfc9110#section-15.5.1",
    "title": "One or more validation errors occurred.",
    "status": 400,
    "errors": {"messages": ["The messages field is required.", "Really."]},
    "traceId": "00-1",
}

FORMS = {
    "empty": (b"", error(GIVES_NO_REASON)),
    "blank": (b" \r\n", error(GIVES_NO_REASON)),
    "null": (b"null", error(GIVES_NO_REASON)),
    "empty object": (b"{}", error(GIVES_NO_REASON)),
    "a number": (b"404", error(GIVES_NO_REASON)),
    "text": (
        b"No OpenAIService provider found for modelName:x\n",
        error("No OpenAIService provider found for modelName:x"),
    ),
    "text with a place": (b"a_b.cc:1 void fl::F(int) it broke", error("it broke")),
    "long text": (b"x" * 5000, error("x" * 1999 + "\u2026")),
    "not UTF-8": (b"\xff\xfe\x00", error("\ufffd\ufffd\x00")),
    "recorded JSON text": (b'"Model scripted-generic-cpu not found"', error("Model scripted-generic-cpu not found")),
    "recorded oatpp text": (
        RECORDED_NO_PATH,
        error("No mapping for HTTP-method: 'POST', URL: '/catalogs/local/v1/completions'"),
    ),
    "oatpp text of several lines": (b"server=oatpp/1.3.0\ncode=1\nmessage=a\nb\n", error("a\nb")),
    "text that begins like oatpp's": (b"server=oatpp/1.3.0\ncode=1", error("server=oatpp/1.3.0\ncode=1")),
    "page": (b"\r\n" + HTML.encode(), error(f"{WITH_A_PAGE}: 502 Bad Gateway")),
    "page without a title": (b"<!DOCTYPE html><p>secrets", error(f"{WITH_A_PAGE}.")),
    "page with an open title": (b"<html><title><p>secrets", error(f"{WITH_A_PAGE}.")),
    "text with a tag": (b"<b>no</b>", error("<b>no</b>")),
    "error text": ({"error": "no"}, error("no")),
    "Error text": ({"Error": "no"}, error("no")),
    "error texts": ({"error": ["no", "never"]}, error("no; never")),
    "message": ({"message": "no"}, error("no")),
    "blank message": ({"message": " ", "detail": "no"}, error("no")),
    "error object with a blank message": ({"error": {"message": " ", "msg": "no"}}, error("no", msg="no")),
    "error object without its cover": (
        {"object": "error", "message": "no", "type": "NotFoundError", "param": None, "code": 404},
        error("no", "NotFoundError", None, 404),
    ),
    "download": ({"Success": False, "ErrorMessage": "no"}, error("no")),
    "detail": ({"detail": "no", "type": "about:blank"}, error("no")),
    "detail object": ({"detail": {"error": {"message": "no"}}}, error("no")),
    "FastAPI": (
        {"detail": [{"loc": ["body", 0, "model"], "msg": "Field required", "type": "missing"}, {"msg": "no"}]},
        error("body.0.model: Field required; no"),
    ),
    "problem": (
        PROBLEM,
        error("One or more validation errors occurred: messages: The messages field is required.; Really"),
    ),
    "problem with detail": ({"title": "Not Found", "detail": "No such path."}, error("Not Found: No such path")),
    "error object without members": ({"error": {"message": "no"}}, error("no")),
    "error object without code": (
        {"error": {"message": "no", "type": "t", "param": "p"}},
        error("no", "t", "p"),
    ),
    "error object without message": ({"error": {"code": "c"}}, error('{"error": {"code": "c"}}', code="c")),
    "error object with a message deeper": (
        {"error": {"message": {"error": "no"}, "type": ""}},
        error("no"),
    ),
    "members beside the error stay": (
        {"error": {"message": "no"}, "request_id": "r"},
        {**error("no"), "request_id": "r"},
    ),
    "Betalgo": (
        {**BETALGO, "error": {"code": "c", "message": None, "messages": ["no", "never"], "type": "t", "param": None}},
        error("no; never", "t", None, "c", messages=["no", "never"]),
    ),
    "Betalgo with a proper error": ({**BETALGO, **error("no")}, error("no")),
    "Betalgo without error": ({**BETALGO, "error": None}, error(GIVES_NO_REASON)),
    "failed response": (
        {"object": "response", "status": "failed", "output": [], "error": {"code": "server_error", "message": "no"}},
        error("no", code="server_error"),
    ),
    "failed response without error": ({"object": "response", "error": None, "x": "secrets"}, error(GIVES_NO_REASON)),
    "unknown object": ({"foo": "bar"}, error('{"foo": "bar"}')),
    "half of an emoji": (b'{"message":"\\ud83d"}', error("\ud83d")),
}  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), FORMS.values(), ids=FORMS)
def test_error_in_any_form_is_openais(body, expected):
    assert told(418, body, "I'm a teapot") == expected


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "invalid_request_error"), (499, "invalid_request_error"), (500, "server_error")]
)
def test_type_is_by_status(status, kind):
    assert told(status, b"no")["error"]["type"] == kind
    assert told(status, {"error": {"message": "no"}})["error"]["type"] == kind


def test_error_without_a_word_says_what_is_known():
    """1.0.0 answers so to a model that it does not know, to broken JSON, and at addresses that it does not have."""
    known = error(
        f"The service answered 500 Internal Server Error to {ASKED}, and gave no reason. Foundry Local 1.x does so "
        "where the model is unknown or not loaded, and where the request is not valid JSON.",
        "server_error",
    )
    assert told(500, b"", "Internal Server Error") == known
    assert told(404, b"", asked="POST /v1/embeddings") == error(
        "The service answered 404 to POST /v1/embeddings, and gave no reason. Foundry Local 1.x does so where it has "
        "no such endpoint."
    )


def test_only_so_many_messages_are_told():
    many = {"detail": ["no"] * 1000, "errors": {f"e{number}": "no" for number in range(1000)}}
    message = told(400, many)["error"]["message"]
    assert message.count("no") == 40


@pytest.mark.parametrize(
    ("open_", "shut"), [('{"error":', "}"), ('{"error":[', "]}"), ("[", "]"), ('{"error":{"param":', "}}")]
)
@pytest.mark.parametrize("depth", [100, 400, 900, 100_000])
def test_deep_nesting_raises_nothing(open_, shut, depth):
    """Whatever can be read of it, the answer is an error object with a message."""
    body = (open_ * depth + '"no"' + shut * depth).encode()
    left = error_body(500, body, asked=ASKED)
    assert left is None or b'"message":"' in left or b'"message": "' in left


def test_deep_field_is_kept_if_it_can_be_written():
    """CPython 3.11 reads some depths that it cannot write; the error then has a message of the shim's own."""
    param = b"[" * 1010 + b"]" * 1010
    repaired = told(418, b'{"error":{"message":"no","param":' + param + b"}}")
    try:
        json.dumps(json.loads(param))
    except RecursionError:
        assert repaired == error("The service answered 418 to POST /v1/chat/completions, and gave no reason.")
    else:
        assert repaired["error"]["message"] == "no"
        assert json.dumps(repaired["error"]["param"]).encode() == param


MEMBERS_OF_ANSWERS = [
    *("error", "message", "detail", "errors", "title", "loc", "msg", "type", "code", "param", "status", "object"),
    *("Successful", "HttpStatusCode", "choices", "delta", "tool_calls", "content", "data", "id"),
]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(MEMBERS_OF_ANSWERS) | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)
pieces = st.sampled_from(
    [b"<html>", b"<title>", b"</title>", b"server=oatpp ", b"\nmessage=", b'{"error":', b"\xef\xbb\xbf"]
)
any_bytes = st.binary(max_size=50) | values.map(lambda value: json.dumps(value).encode())


def is_error_object(body):
    found = json.loads(body)["error"]
    return (
        found.keys() >= {"message", "type", "param", "code"}
        and isinstance(found["message"], str)
        and bool(found["type"])
    )


@given(any_bytes | st.lists(st.binary(max_size=9) | pieces, max_size=9).map(b"".join), st.integers(400, 599))
def test_any_body_becomes_an_error_object(body, status):
    """Nothing is raised for any bytes; what leaves is OpenAI's object, and needs no repair itself."""
    left = error_body(status, body, asked=ASKED)
    assert is_error_object(body if left is None else left)
    if left is not None and not json.loads(left).keys() - {"error"}:
        assert error_body(status, left, asked=ASKED) is None


@given(values)
def test_no_answer_raises(value):
    """Whatever JSON a service sends, repairing it raises nothing, and what was mended needs no second repair."""
    assert failure(value) in {None, *range(400, 600)}
    if not isinstance(value, dict):
        return
    event = error_event(value)
    assert event is None or is_error_object(json.dumps(event))
    report = RepairReport()
    repair_completion(value, WITH_TOOLS, report)
    repair_models(value, report)
    assert not repair_completion(copy.deepcopy(value), WITH_TOOLS, RepairReport())
    assert not repair_models(copy.deepcopy(value), RepairReport())


# Error events.


@pytest.mark.parametrize(
    "payload",
    [error("no"), error("no", "server_error", extra=1), completion(), {}, {"error": None}, completion(error={})],
)
def test_event_that_is_proper_or_no_error_stays(payload):
    assert error_event(payload) is None


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"error": "no"}, error("no", "server_error")),
        ({"error": "Model not found: x"}, error("Model not found: x")),
        ({"error": {"message": "no", "type": "server_error"}}, error("no", "server_error")),
        ({"error": {"message": "no", "code": 404}}, error("no", code=404)),
        ({"error": {"message": "a.cc:1 void fl::F() no"}}, error("no", "server_error")),
        (
            {"error": {"code": "c"}},
            error("The service reports a failure, and gives no reason.", "server_error", code="c"),
        ),
        ({"Successful": False}, error("The service reports a failure, and gives no reason.", "server_error")),
        ({"Successful": False, "HttpStatusCode": 400, "choices": None, "error": {"message": "no"}}, error("no")),
        ({"error": {"message": "no"}, "choices": []}, {**error("no", "server_error"), "choices": []}),
        ({"error": "no", "choices": []}, error("no", "server_error")),
    ],
)
def test_error_event_in_any_form_is_openais(payload, expected):
    assert error_event(payload) == expected


@pytest.mark.parametrize("name", ["err-ctx", "err-temp", "tool-auto", "tool-required"])
def test_recorded_error_events_lose_their_source_location(name):
    """The message remains, from its first word on."""
    payload = json.loads(recorded_body(WIRE / "live" / "2.2.1" / f"{name}.http").rpartition(b"data: ")[2])
    left = error_event(payload)
    message = left["error"].pop("message")
    sent = payload["error"].pop("message")
    assert left == payload
    assert sent.endswith(message)
    assert message.split()[0].strip(string.punctuation) in {"request", "temperature", "automatic", "Model"}
