"""Unstreamed completions and lists of models."""

import copy

import pytest

from shim.core.chat_bodies import repair_completion, repair_models
from shim.core.foundry import Evidence, Owner
from shim.core.request import ChatRequest
from shim.errors import StreamError
from shim.repairs import Policy, Repair
from shim.reports import RepairReport
from support.streams import MINTED, MODEL, NOW

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


def repaired(body, request=REQUEST, policy=None, owner=Owner.FOUNDRY):
    """What becomes of a completion, whether it was changed, and the repairs."""
    report = RepairReport(policy or Policy())
    left = copy.deepcopy(body)
    changed = repair_completion(left, request, report, Evidence(owner), new_id=lambda: MINTED, now=lambda: NOW)
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
    ],
)
def test_conforming_completion_is_unchanged(body):
    """Nothing is changed or counted, under a strict policy even."""
    assert repaired(body, WITH_TOOLS, Policy(strict=True)) == (body, False, {})


NOT_COMPLETIONS = {
    "another object": {"object": "text"},
    "choices null": {"choices": None, "IsDelta": False},
    "choices an empty list": completion(choices=[]),
    "choices of null": completion(choices=[None]),
    "choices a text": completion(choices="Hi"),
    "a text among the choices": completion(choices=[*completion()["choices"], "Hi"]),
    "neither message nor delta": completion(choice={"message": ...}),
    "message null": completion(choice={"message": None}),
    "message a number": completion(choice={"message": 1}),
    "message a list": completion(choice={"message": [{"content": "Hi"}]}),
    "tool calls a text": completion(message={"tool_calls": "calls"}),
    "content a number": completion(5),
    "content an object": completion({"a": 1}),
    "reason error": completion(reason="error"),
    "reason cancelled": completion(reason="FinishReason.Cancelled"),
}


@pytest.mark.parametrize("body", NOT_COMPLETIONS.values(), ids=NOT_COMPLETIONS)
def test_body_without_an_answer_is_an_error(body):
    """The official client would give it to the program, which would fail on it."""
    with pytest.raises(StreamError) as caught:
        repaired(body, WITH_TOOLS)
    assert caught.value.code == "damaged_body"


# What another service sends is nobody's business but its own, as long as the official client can read it.
OTHERS = {
    "no choices": completion(choices=[]),
    "an id and a time of its own": completion(id="", created=0, model=None, object="text"),
    "empty calls": completion(message={"tool_calls": []}),
    "null fields": completion(message={"function_call": None, "name": None}, error=None),
    "a delta beside the message": completion(choice={"delta": {"content": "Hi"}}),
    "fields that look like Foundry Local's": completion(choice={"finish_details": {}}),
    "another finish reason": completion(reason="cosmic_ray"),
    "an error as the finish reason": completion(reason="error"),
    "stop after calls": completion(None, message={"tool_calls": [call()]}),
    "no finish reason": completion(reason=None),
    "content in parts": completion([{"type": "thinking", "thinking": []}, {"type": "text", "text": "Hi"}]),
}


@pytest.mark.parametrize("body", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("owner", [Owner.UNKNOWN, Owner.OTHER])
def test_completion_of_another_service_is_unchanged(body, owner):
    assert repaired(body, owner=owner) == (body, False, {})


IN_PARTS = [completion([{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]), completion(["H", None, "i"])]


@pytest.mark.parametrize("body", IN_PARTS)
def test_content_in_parts_of_a_known_other_service_is_unchanged(body):
    assert repaired(body, owner=Owner.OTHER) == (body, False, {})


@pytest.mark.parametrize("body", IN_PARTS)
@pytest.mark.parametrize("owner", [Owner.FOUNDRY, Owner.UNKNOWN])
def test_content_in_parts_is_text(body, owner):
    left, changed, codes = repaired(body, owner=owner)
    assert left["choices"][0]["message"]["content"] == "Hi"
    assert (changed, set(codes)) == (True, {Repair.BODY_MESSAGE})


@pytest.mark.parametrize("owner", Owner)
@pytest.mark.parametrize(
    "body",
    [
        completion(choice={"message": {"role": "assistant"}, "delta": {"content": "Hi"}}),
        completion("", choice={"delta": {"role": "assistant", "content": "Hi"}}),
    ],
)
def test_text_in_an_odd_place_is_the_content_whoever_sends_it(body, owner):
    left, changed, codes = repaired(body, owner=owner)
    [choice] = left["choices"]
    assert (choice["message"]["content"], choice.get("delta")) == ("Hi", None)
    assert (changed, set(codes)) == (True, {Repair.BODY_MESSAGE})


def test_recorded_completion_of_2_2_1_is_unchanged():
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


def test_recorded_completion_of_1_0_0_is_repaired():
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
    "text in the delta alone": (MESSAGE, completion("", choice={"delta": SAID}), completion()),
    "reasoning in the delta alone": (
        MESSAGE,
        completion(choice={"delta": {"reasoning_content": "Hm"}}),
        completion(message={"reasoning_content": "Hm"}),
    ),
    "empty message beside a delta": (
        MESSAGE,
        completion(choice={"message": {"refusal": None}, "delta": SAID}),
        completion(),
    ),
    "message a text": (
        MESSAGE,
        completion(choice={"message": "Hi"}),
        completion(choice={"message": {"role": "assistant", "content": "Hi"}}),
    ),
    "text instead of a message": (
        MESSAGE,
        completion(choice={"message": ..., "text": "Hi"}),
        completion(choice={"message": {"role": "assistant", "content": "Hi"}}),
    ),
    "content in parts": (MESSAGE, completion([{"type": "text", "text": "H"}, "i"]), completion()),
    "content a part": (MESSAGE, completion({"type": "text", "text": "Hi"}), completion()),
    "choices an object": (MESSAGE, completion(choices=completion()["choices"][0]), completion()),
    "null among the choices": (MESSAGE, completion(choices=[None, *completion()["choices"]]), completion()),
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
    "calls an object": (CALLS, completion(None, "tool_calls", message={"tool_calls": call()}), CALLED),
    "no proper call": (CALLS, completion(message={"tool_calls": [{"arguments": "null"}]}), completion()),
    "reason missing": (REASON, completion(choice={"finish_reason": ...}), completion()),
    "reason null": (REASON, completion(reason=None), completion()),
    "reason empty": (REASON, completion(reason=""), completion()),
    "reason nobody knows": (REASON, completion(reason="cosmic_ray"), completion()),
    "reason a number": (REASON, completion(reason=7), completion()),
    "reason spelled otherwise": (REASON, completion(reason="EOS"), completion()),
    "reason length spelled otherwise": (REASON, completion(reason="max_tokens"), completion(reason="length")),
    "reason stop with calls": (REASON, completion(None, message={"tool_calls": [call()]}), CALLED),
    "no reason with calls": (REASON, completion(None, None, message={"tool_calls": [call()]}), CALLED),
}


@pytest.mark.parametrize(("code", "sent", "expected"), DEFECTS.values(), ids=DEFECTS)
class TestDefects:
    """Each defect is repaired under its code, asked for once, and only where it is allowed."""

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


def test_model_stays_unknown_where_the_request_names_none():
    body = completion(model=None)
    assert repaired(body, ChatRequest()) == (body, False, {})


def test_choices_are_numbered_and_repaired_each():
    """A code is asked for once for the body, however many choices need it."""
    sent = completion(choices=[{"delta": {"content": text, "tool_calls": []}} for text in "ab"])
    left, _, codes = repaired(sent)
    assert left["choices"] == [
        {"index": 0, "message": {"content": "a"}, "finish_reason": "stop"},
        {"index": 1, "message": {"content": "b"}, "finish_reason": "stop"},
    ]
    assert codes == {ENVELOPE: 1, MESSAGE: 1, CALLS: 1, REASON: 1}


def test_code_of_calls_is_counted_once_for_all_choices():
    called = {"role": "assistant", "content": None, "tool_calls": [call(index=0)]}
    choices = [{"index": index, "message": called, "finish_reason": "tool_calls"} for index in range(3)]
    assert repaired(completion(choices=choices))[2] == {CALLS: 1}


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


@pytest.mark.parametrize("content", [None, "no call at all"])
def test_content_without_calls_is_unchanged(content):
    body = completion(content)
    assert repaired(body, WITH_TOOLS) == (body, False, {})


def test_calls_in_a_content_in_parts_are_lifted():
    left, _, codes = repaired(completion([{"type": "text", "text": MARKUP}]), WITH_TOOLS)
    assert without_minted_ids(left) == completion(None, "tool_calls", message={"tool_calls": [call()]})
    assert codes == {MESSAGE: 1, Repair.TOOL_CALL_TEXT: 1, REASON: 1}


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


def test_recorded_models_of_1_0_0_are_repaired():
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
