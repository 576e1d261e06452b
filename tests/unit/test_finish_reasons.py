"""A finish reason stands once, in the last chunk of its choice, and ends nothing before it is the last."""

import json

import pytest

from shim.core.foundry import Evidence, Owner
from shim.core.request import ChatRequest
from shim.core.responses import ResponsesRepairer
from shim.core.stream import StreamRepairer
from shim.repairs import Policy, Repair
from shim.reports import RepairReport
from support.streams import DONE, asked, betalgo, chunk, conforming, event, repair, stream

GOOD = conforming()
HEAD, *MIDDLE, LAST = GOOD
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
TOOLS = [TOOL]
CALL = '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>'
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def ends(result, index=0):
    """The finish reasons of a choice, one for each of its chunks."""
    return [choice["finish_reason"] for each in result.chunks for choice in each["choices"] if choice["index"] == index]


def stands_once_at_the_end(result, reason, index=0):
    *before, last = ends(result, index)
    return last == reason and not any(before)


@pytest.mark.parametrize("pieces", [("Hello", " world"), ("", "Hello", "", " world", ""), ("Hello world",)])
@pytest.mark.parametrize("form", [conforming, betalgo])
@pytest.mark.parametrize("early", ["stop", "length", "tool_calls", "content_filter", "Stop", "eos"])
def test_reason_in_every_chunk(pieces, form, early):
    """The last one counts."""
    chunks = form(pieces, reason=None)
    for each in chunks:
        each["choices"][0]["finish_reason"] = early
    chunks[-1]["choices"][0]["finish_reason"] = "stop"
    result = repair(stream(chunks))
    assert stands_once_at_the_end(result, "stop")
    assert result.text == "Hello world"


@pytest.mark.parametrize("done", [DONE, b""])
@pytest.mark.parametrize("last", [[], [LAST]])
def test_early_reason_is_emitted_at_the_end(done, last):
    """After the text that follows it, and as the reason of the answer if it was the last one."""
    chunks = [HEAD, chunk({"content": "Hello"}, "length"), chunk({"content": " world"})]
    result = repair(stream([*chunks, *last], done=done))
    assert stands_once_at_the_end(result, "stop" if last else "length")
    assert result.text == "Hello world"
    assert result.error is None


@pytest.mark.parametrize("text", ["<tool_call>", "{"])
def test_no_empty_chunk_is_emitted_for_a_buffered_reason(text):
    """Where the text before it is buffered, and so is the reason, its chunk has nothing left to say."""
    result = repair(stream([HEAD, chunk({"content": "Hello"}), chunk({"content": text}), LAST]), asked(tools=TOOLS))
    assert ends(result) == [None, None, None, "stop"]
    assert result.text == f"Hello{text}"
    assert [each for each in result.chunks if each["choices"][0]["delta"] == {}] == result.chunks[-1:]


def test_early_reason_is_emitted_before_the_usage():
    usage = {**HEAD, "choices": [], "usage": USAGE}
    for chunks in (
        [HEAD, chunk({"content": "Hello"}, "stop"), usage],
        [HEAD, chunk({"content": "Hello"}, "stop", usage=USAGE)],
        [HEAD, usage, chunk({"content": "Hello"}, "stop")],
    ):
        result = repair(stream(chunks), asked(stream_options={"include_usage": True}))
        assert [bool(each["choices"]) for each in result.chunks] == [*[True] * (len(result.chunks) - 1), False]
        assert result.chunks[-1]["usage"] == USAGE
        assert stands_once_at_the_end(result, "stop")


@pytest.mark.parametrize("cut", [b'data: {"choices":[{"del', b'{"choices":[', b"data: x\ndata: y", b"data: [DON"])
def test_early_reason_does_not_complete_a_stream_that_ends_within_an_event(cut):
    """The text in that event is lost, so the answer is not complete."""
    early = stream([HEAD, chunk({"content": "Hello"}, "stop")], done=b"")
    result = repair(early + cut)
    assert result.error["code"] == "stream_truncated"
    assert result.reasons == []
    # After the last chunk nothing of the answer is missing.
    assert repair(stream(GOOD, done=b"") + cut).error is None


def test_early_reason_is_not_emitted_where_the_stream_breaks():
    """Nobody knows whether it was the last one."""
    body = stream([HEAD, chunk({"content": "Hello"}, "stop")], done=b"")
    result = repair(body, finish=False)
    assert result.repairer.flush() == b""
    assert result.reasons == []
    assert repair(body + event({"error": {"message": "no"}})).reasons == []
    # A clean end is one.
    assert repair(body).reasons == ["stop"]


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize("reason", ["stop", "Stop", "EOS", "FinishReason.stop"])
def test_reason_in_every_chunk_does_not_end_the_search_for_calls(size, reason):
    """Also beside the call itself: it is lifted, and the answer ends with it."""
    pieces = [CALL[at : at + size] for at in range(0, len(CALL), size)]
    for chunks in (conforming(pieces, reason=reason), betalgo(pieces, reason=reason)):
        for each in chunks:
            each["choices"][0]["finish_reason"] = reason
        result = repair(stream(chunks), asked(tools=TOOLS))
        calls = [
            call
            for each in result.chunks
            for choice in each["choices"]
            for call in choice["delta"].get("tool_calls", ())
        ]
        assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"city": "Paris"}]
        assert result.text == ""
        assert stands_once_at_the_end(result, "tool_calls")


@pytest.mark.parametrize(
    "reason", ["null", "None", "", "odd", 7, 0, True, {}, {"type": "stop"}, ["stop"], "FinishReason."]
)
def test_unknown_reason_in_every_chunk_does_not_end_the_search_for_calls(reason):
    chunks = conforming([CALL[:20], CALL[20:]], reason=None)
    for each in chunks:
        each["choices"][0]["finish_reason"] = reason
    result = repair(stream(chunks), asked(tools=TOOLS))
    assert result.text == ""
    assert stands_once_at_the_end(result, "tool_calls")
    result = repair(stream(chunks, done=b""), asked(tools=TOOLS))
    assert result.error["code"] == "stream_truncated"


@pytest.mark.parametrize("reason", ["null", "None", "", " ", "undefined", "in_progress", "FinishReason.null", 7, {}])
def test_no_reason_of_another_service_ends_a_choice(reason):
    """It is forwarded as it is, but a stream that is cut after it is not complete, and the calls are found."""
    chunks = [chunk({"content": piece}, reason) for piece in (CALL[:20], CALL[20:])]
    result = repair(stream(chunks, done=b""), evidence=Evidence())
    assert result.error["code"] == "stream_truncated"
    result = repair(stream([*chunks, LAST]), asked(tools=TOOLS), evidence=Evidence())
    assert (result.text, result.error) == ("", None)
    assert ends(result)[-1] == "tool_calls"


def test_reason_of_each_choice_stands_once():
    chunks = [chunk({"content": text}, "stop", index=index) for text in "ab" for index in range(2)]
    result = repair(stream([*chunks, chunk({}, "length", index=1)]), asked(n=2))
    assert stands_once_at_the_end(result, "stop", 0)
    assert stands_once_at_the_end(result, "length", 1)


def test_reason_that_is_repeated_after_the_last_chunk_becomes_null():
    result = repair(stream([*GOOD, LAST, chunk({}, "length")]))
    assert ends(result) == [None, None, None, "stop", None, None]


def test_reason_beside_a_structured_call_is_emitted_after_it():
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    result = repair(stream([chunk({"tool_calls": [call]}, "stop")]), asked(tools=TOOLS))
    assert stands_once_at_the_end(result, "tool_calls")
    assert len(result.chunks) == 2


def test_reason_while_a_call_waits_for_its_name_is_early():
    head = {"index": 0, "id": "c", "type": "function"}
    name = {"index": 0, "function": {"name": "get_weather", "arguments": "{}"}}
    chunks = [chunk({"tool_calls": [head]}), chunk({}, "stop"), chunk({"tool_calls": [name]})]
    result = repair(stream(chunks), asked(tools=[TOOL, {**TOOL, "function": {"name": "other"}}]))
    assert stands_once_at_the_end(result, "tool_calls")
    for owner in Owner:
        only = repair(stream(chunks[:2]), asked(tools=TOOLS), evidence=Evidence(owner))
        [call] = [call for each in only.chunks for call in each["choices"][0]["delta"].get("tool_calls", ())]
        assert call["function"] == {"name": "get_weather", "arguments": "{}"}
        assert ends(only)[-1] in {"stop", "tool_calls"}


@pytest.mark.parametrize(
    ("choice", "named"),
    [
        ("auto", False),
        ("required", False),
        ("none", False),
        ({"type": "function", "function": {"name": "get_weather"}}, True),
        ({"type": "custom", "custom": {"name": "x"}}, True),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TOOL]}}, False),
        ({"type": "allowed_tools", "mode": "required", "tools": []}, False),
        ({}, False),
        ({"type": None}, False),
    ],
)
def test_named_tool_is_one_that_is_demanded_by_its_name(choice, named):
    """OpenAI ends such an answer with `stop`, and every other one with calls with `tool_calls`."""
    assert ChatRequest.read({"tool_choice": choice, "tools": TOOLS}).named_tool is named
    if choice != "none":
        result = repair(stream(conforming([CALL])), asked(tools=TOOLS, tool_choice=choice))
        assert result.reasons == ["stop" if named else "tool_calls"]


# The reason of another service is its own.


@pytest.mark.parametrize("reason", ["odd", "stop", "error", "STOP", 7])
@pytest.mark.parametrize("owner", [Owner.UNKNOWN, Owner.OTHER])
def test_reasons_of_another_service_are_unchanged(reason, owner):
    chunks = conforming(reason=reason)
    for each in chunks:
        each["choices"][0]["finish_reason"] = reason
    for body in (stream(chunks), stream(conforming(reason=reason)), stream(GOOD[:-1])):
        assert repair(body, evidence=Evidence(owner)).output == body


def test_interrupted_stream_of_another_service_is_not_called_complete():
    """llama-cpp-python sends the end marker where another request interrupts a stream."""
    result = repair(stream(GOOD[:-1]), evidence=Evidence())
    assert result.reasons == []
    assert not result.codes


# An answer that is complete before its stream ends.


def fed(*pieces, request=None, evidence=None):
    repairer = StreamRepairer(request or asked(), evidence=evidence)
    for piece in pieces:
        repairer.feed(piece)
    return repairer


def test_complete_answer_awaits_only_its_marker():
    """So nobody has to wait for a service that holds the connection open."""
    body = stream(GOOD, done=b"")
    repairer = fed(body)
    assert repairer.awaits_marker
    assert repairer.finish() == DONE
    assert not repairer.awaits_marker
    assert not fed(body + DONE).awaits_marker
    assert not fed(stream(GOOD[:-1], done=b"")).awaits_marker
    assert not fed(body[:-1]).awaits_marker
    assert not fed(body + event({"error": {"message": "no"}})).awaits_marker


def test_early_reason_completes_an_answer_that_nothing_follows():
    repairer = fed(stream([HEAD, chunk({"content": "Hello"}, "stop")], done=b""))
    assert repairer.awaits_marker
    assert b'"finish_reason":"stop"' in repairer.finish()


def test_answer_that_still_owes_usage_is_not_complete():
    request = asked(stream_options={"include_usage": True})
    body = stream(GOOD, done=b"")
    assert not fed(body, request=request).awaits_marker
    assert fed(body, event({**HEAD, "choices": [], "usage": USAGE}), request=request).awaits_marker
    assert fed(stream([{**each, "usage": USAGE} for each in GOOD], done=b""), request=request).awaits_marker


def test_answer_of_which_a_choice_is_open_is_not_complete():
    both = stream([*GOOD, chunk({"content": "a"}, index=1)], done=b"")
    assert not fed(both, request=asked(n=2)).awaits_marker
    assert fed(both, event(chunk({}, "stop", index=1)), request=asked(n=2)).awaits_marker


def test_answer_of_another_service_is_waited_for():
    """Its marker may take as long as it likes."""
    for owner in (Owner.UNKNOWN, Owner.OTHER):
        assert not fed(stream(GOOD, done=b""), evidence=Evidence(owner)).awaits_marker


def test_stream_of_responses_is_complete_at_its_last_event():
    repairer = ResponsesRepairer(RepairReport(), Evidence(Owner.FOUNDRY))
    repairer.repair({"type": "response.created", "response": {"output": []}})
    assert not repairer.is_complete
    assert repairer.is_partial
    repairer.repair({"type": "response.completed", "response": {"output": []}})
    assert repairer.is_complete
    assert not repairer.is_partial


@pytest.mark.parametrize("last", [None, "response.completed", "response.failed", "error"])
def test_end_marker_without_the_last_event_of_a_response_is_an_error(last):
    opening = {"type": "response.created", "response": {"id": "r", "status": "in_progress", "output": []}}
    events = [opening, *([{"type": last, "response": {"output": []}, "message": "no"}] if last else [])]
    for done in (DONE, b""):
        result = repair(stream(events, done=done), responses=True)
        assert (result.error is None) == bool(last)
        if not last:
            assert result.error["code"] == "stream_truncated"


def test_strict_policy_refuses_an_early_reason():
    result = repair(stream([HEAD, chunk({"content": "a"}, "stop")]), policy=Policy(strict=True))
    assert result.error["code"] == "repair_refused"
    off = Policy(off=frozenset({Repair.FINISH_REASON}))
    body = stream([HEAD, chunk({"content": "a"}, "stop"), chunk({}, "odd")])
    assert repair(body, policy=off).output == body
