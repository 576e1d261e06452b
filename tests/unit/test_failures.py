"""Contract line 3: failure never looks like success, and comes after everything that preceded it."""

import json
from typing import Any

import pytest

from shim.core.foundry import Evidence, Owner
from shim.core.stream import StreamRepairer
from shim.repairs import Policy, Repair
from support.streams import DONE, END, MODEL, asked, betalgo, chunk, conforming, event, repair, stream, text_of

GOOD = conforming()
HEAD, *MIDDLE, LAST = GOOD
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def named(payload: Any, name: bytes = b"error") -> bytes:
    """An event with a name."""
    return b"event: " + name + b"\n" + (payload if isinstance(payload, bytes) else event(payload))


# What reports a failure, the status that it stands for, and the message.
ERRORS = {
    "a field": (b'error: {"code":400,"message":"too long"}\n\n', 400, "too long"),
    "a field, without a space": (b'error:{"code":400,"message":"too long"}\n\n', 400, "too long"),
    "a field, capital": (b'Error: {"status":503,"message":"too long"}\n\n', 503, "too long"),
    "a field, text": (b"error: too long\n\n", 500, "too long"),
    "a field, a JSON text": (b'error: "too long"\n\n', 500, "too long"),
    "a field, an error object": (b'error: {"error":{"message":"too long","code":429}}\n\n', 429, "too long"),
    "a field, within an event": (b'id: 1\nerror: {"message":"too long"}\n\n', 500, "too long"),
    "an object that is called an error": (event({"object": "error", "message": "x", "code": 400}), 400, "x"),
    "a type that is called an error": (event({"type": "error", "message": "x", "status": 404}), 404, "x"),
    "a status that is called failed": (event({"status": "failed", "message": "x"}), 500, "x"),
    "no success": (event({"success": False, "msg": "x"}), 500, "x"),
    "detail": (event({"detail": "x"}), 500, "x"),
    "detail, FastAPI": (
        event({"detail": [{"loc": ["body", "model"], "msg": "x"}], "status_code": 422}),
        422,
        "body.model: x",
    ),
    "a problem": (event({"title": "x", "status": 400, "type": "about:blank"}), 400, "x"),
    "a message alone": (event({"message": "x", "code": "429"}), 429, "x"),
    "Error": (event({"Error": {"message": "x", "code": 400}}), 400, "x"),
    "Error, text": (event({"Error": "x"}), 500, "x"),
    "errors": (event({"errors": [{"message": "x"}, "y"]}), 500, "x; y"),
    "error, text": (event({"error": "x"}), 500, "x"),
    "error, without a message": (
        event({"error": {"code": 404}}),
        404,
        "The service reports a failure without a reason.",
    ),
    "error, true": (event({"error": True}), 500, "The service reports a failure without a reason."),
    "an error object": (
        event({"error": {"message": "x", "type": "t", "param": None, "code": 403}}),
        403,
        "x",
    ),
    "an error beside no choices": (event({**HEAD, "choices": [], "error": {"message": "x", "code": 400}}), 400, "x"),
    "a Betalgo failure": (
        event({"Successful": False, "HttpStatusCode": 400, "error": {"messages": ["x"]}}),
        400,
        "x",
    ),
    "a named event, text": (named(b"data: out of memory\n\n"), 500, "out of memory"),
    "a named event, text of two lines": (named(b"data: out of\ndata: memory\n\n"), 500, "out of\nmemory"),
    "a named event, a JSON text": (named("x"), 500, "x"),
    "a named event, an object": (named({"message": "x", "code": 503}), 503, "x"),
    "a named event, an error object": (named({"error": {"message": "x", "code": 503}}), 503, "x"),
    "a named event, null": (named(None), 500, "The service reports a failure without a reason."),
    "a named event, no data": (b"event: error\n\n", 500, "The service reports a failure without a reason."),
    "a named event, a keep-alive": (named(b"data: ping\n\n"), 500, "ping"),
    "a named event, capital": (named({"message": "x"}, b"Error"), 500, "x"),
    "a named event, the name last": (b"data: out of memory\nevent: error\n\n", 500, "out of memory"),
    "a list": (event([{"error": {"message": "x", "code": 400}}]), 400, "x"),
    "without a prefix": (b'{"error":{"message":"x","code":400}}\n', 400, "x"),
}
FORMS = pytest.mark.parametrize(("sent", "status", "message"), ERRORS.values(), ids=ERRORS)


@FORMS
def test_error_at_the_start_has_the_status_that_it_names(sent, status, message):
    """The transport makes an HTTP error of it; whatever follows, the stream does not look like an answer."""
    for rest in (b"", DONE, stream(GOOD)):
        for before in (b"", b": hello\n\n", b"data: null\n\n", b"event: ping\n\n"):
            result = repair(before + sent + rest)
            opening, error = result.repairer.opening_error
            assert opening == status
            assert error["error"]["message"] == message
            assert result.error == error["error"]
            assert result.reasons == (["stop"] if b"choices" in rest else [])


@FORMS
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_error_in_the_middle_follows_all_text(sent, status, message, ending):
    """No finish reason and no end marker are added; the official client raises the message."""
    body = (stream(GOOD[:3], done=b"") + sent).replace(b"\n", ending)
    for pieces in ([body], [body[at : at + 1] for at in range(len(body))]):
        result = repair(pieces)
        assert result.repairer.opening_error is None
        assert result.text == "Hello world"
        assert result.error["message"] == message
        assert set(result.error) >= {"message", "type", "param", "code"}
        assert result.payloads[-1] == {"error": result.error} or "choices" in result.payloads[-1]
        assert result.reasons == []
        assert END not in result.payloads


@FORMS
@pytest.mark.parametrize("owner", ["FOUNDRY", "UNKNOWN", "OTHER"])
def test_error_in_the_middle_follows_what_is_buffered(sent, status, message, owner):
    """Text that may become a call, an early finish reason, and usage that was requested."""
    foundry = pytest.importorskip("shim.core.foundry")
    evidence = foundry.Evidence(foundry.Owner[owner])
    chunks = [HEAD, chunk({"content": "Hello <tool_"}, usage=USAGE), chunk({"content": "ca"}, "stop", usage=USAGE)]
    request = asked(tools=TOOLS, stream_options={"include_usage": True})
    result = repair(stream(chunks, done=b"") + sent, request, evidence=evidence)
    assert result.text == "Hello <tool_ca"
    assert result.error["message"] == message
    assert [each["usage"] for each in result.chunks if each.get("usage")][-1] == USAGE
    assert END not in result.payloads
    if owner == "FOUNDRY":
        assert result.reasons == []


@pytest.mark.parametrize(
    "sent",
    [
        *(b"event: error\ndata: out of memory", b"data: out of memory\nevent: error", b"error: out of memory\n"),
        *(b"event: error\rdata: out of memory\r", b'event: error\ndata: "out of memory"', b"error: out of memory"),
    ],
)
@pytest.mark.parametrize("before", [b"", stream(GOOD[:3], done=b""), stream(GOOD, done=b"")])
def test_error_at_the_very_end_needs_no_blank_line(sent, before):
    """What is left of it says why the answer ends."""
    for pieces in ([before + sent], [(before + sent)[at : at + 1] for at in range(len(before + sent))]):
        assert repair(pieces).error["message"] == "out of memory"


@FORMS
def test_error_with_several_choices(sent, status, message):
    """The text of each of them is there before it."""
    chunks = [chunk({"content": text}, index=index) for index, text in ((1, "b"), (0, "a <tool_c"), (1, " <tool_c"))]
    result = repair(stream(chunks, done=b"") + sent, asked(n=2, tools=TOOLS))
    assert [text_of(result.chunks, index) for index in range(2)] == ["a <tool_c", "b <tool_c"]
    assert result.error["message"] == message
    assert result.reasons == []


def test_error_beside_an_answer_loses_no_text():
    """A chunk that says something and reports an error is both, the text first."""
    for error in ("no", {"message": "no", "code": 502}):
        both = {**chunk({"content": "Hello"}, "error"), "error": error}
        result = repair(event(HEAD) + event(both))
        assert result.text == "Hello"
        assert result.payloads[-1]["error"]["message"] == "no"
        assert "choices" not in result.payloads[-1]
        assert result.reasons == []
    failed = {**betalgo(("Hello",), reason=None)[0], "Successful": False, "HttpStatusCode": 500}
    result = repair(event(failed))
    assert result.text == "Hello"
    assert result.error


def test_error_after_an_answer_in_the_same_event_is_not_at_the_start():
    """Otherwise it would become an HTTP error, and the text would be lost."""
    body = b"data: " + event(chunk({"content": "Hello"}))[6:-2] + event({"error": {"message": "no"}})[6:]
    for each in (body, event([chunk({"content": "Hello"}), {"error": {"message": "no"}}])):
        result = repair(each)
        assert result.repairer.opening_error is None
        assert result.text == "Hello"
        assert result.error["message"] == "no"


def test_nothing_is_added_after_an_error():
    """What a service sends after its own error passes through: the official client reads nothing more."""
    body = stream([*GOOD[:2], {"error": {"message": "no", "type": "t", "param": None, "code": None}}, *GOOD[2:]])
    assert repair(body).output == body


# What is not an answer.

NOTHING = {
    "nothing but the end marker": DONE,
    "comments and the end marker": b": hello\n\n: hello\n\n" + DONE,
    "a chunk without choices": stream([{**HEAD, "choices": []}]),
    "a chunk with choices null": stream([{**HEAD, "choices": None}]),
    "a usage chunk": stream([{**HEAD, "choices": [], "usage": USAGE}]),
    "a filtered prompt": stream([{"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}]),
    "keep-alives": b"data: null\n\ndata: {}\n\ndata: ping\n\nevent: ping\n\n" + DONE,
    "signs of life": stream([{"status": "in_progress"}, {"type": "ping"}]),
    "an unknown object": stream([{"hello": "world"}]),
}


@pytest.mark.parametrize("body", NOTHING.values(), ids=NOTHING)
@pytest.mark.parametrize("fields", [{}, {"stream_options": {"include_usage": True}}, {"n": 2}, {"tools": TOOLS}])
def test_stream_without_a_choice_is_an_error(body, fields):
    """The service says that it is done, and has not answered: that is not an empty answer."""
    for policy in (Policy(), Policy(off=frozenset({Repair.DONE_MARKER}))):
        result = repair(body, asked(**fields), policy)
        assert result.error["code"] == "empty_stream"
        assert result.reasons == []
        assert END not in result.payloads
    without_marker = repair(body.removesuffix(DONE), asked(**fields))
    assert without_marker.error["code"] in {"empty_stream", "stream_truncated"}


def test_usage_of_a_stream_without_a_choice_is_not_lost():
    result = repair(NOTHING["a usage chunk"], asked(stream_options={"include_usage": True}))
    assert [each["usage"] for each in result.chunks if each.get("usage")] == [USAGE]
    assert result.error


@pytest.mark.parametrize("ended", [0, 1])
@pytest.mark.parametrize("reason", ["stop", "length"])
def test_choice_that_began_has_to_end(ended, reason):
    """One of two choices is finished, and the service says that it is done, or just ends: an error in any case."""
    chunks = [
        chunk({"content": "a"}),
        chunk({"content": "b"}, index=1),
        chunk({}, reason, index=ended),
    ]
    for done in (DONE, b""):
        result = repair(stream(chunks, done=done), asked(n=2))
        assert [text_of(result.chunks, index) for index in range(2)] == ["a", "b"]
        assert result.error["code"] == "stream_truncated"
        assert result.reasons == [reason]
    early = [*chunks[:2], chunk({"content": "!"}, reason, index=ended)]
    assert repair(stream(early), asked(n=2)).error["code"] == "stream_truncated"


def test_choice_that_never_began_is_no_failure():
    """1.0.0 and 2.2.1 ignore `n`: the answer is whole, and the report names what is missing."""
    result = repair(stream(GOOD), asked(n=2))
    assert result.error is None
    assert result.reasons == ["stop"]
    assert result.output == stream(GOOD)
    assert result.repairer.report.repairs == {Repair.REQUEST_IGNORED: 1}


def test_choices_that_all_lack_their_reason_get_one_each():
    """The service says that it is done."""
    body = stream([chunk({"content": "a"}), chunk({"content": "b"}, index=1)])
    result = repair(body, asked(n=2))
    assert [choice["index"] for each in result.chunks[2:] for choice in each["choices"]] == [0, 1]
    assert result.reasons == ["stop", "stop"]


@pytest.mark.parametrize("reason", ["error", "Failed", "aborted", "cancelled", "FinishReason.Error", "timeout"])
@pytest.mark.parametrize("done", [DONE, b""])
def test_reason_that_names_a_failure_is_an_error(reason, done):
    """It must not become `stop` because the service says that it is done."""
    for last in (chunk({}, reason), chunk({"content": "!"}, reason)):
        result = repair(stream([*GOOD[:-1], last], done=done))
        assert result.text.startswith("Hello world")
        assert result.error["code"] == "stream_truncated"
        assert result.reasons == []


def test_failure_in_a_plain_completion_that_was_received_instead_of_a_stream():
    message = {"role": "assistant", "content": "Hello"}
    for failure in ({"error": "no"}, {"Successful": False}, {"HttpStatusCode": 500}):
        plain = {"object": "chat.completion", "choices": [{"index": 0, "message": message}], **failure}
        result = repair(json.dumps(plain).encode())
        assert result.error
        assert result.reasons == []
    damaged = {"object": "chat.completion", "choices": [{"index": 0, "message": message}, "odd"]}
    assert repair(json.dumps(damaged).encode()).error["code"] == "damaged_chunk"


@pytest.mark.parametrize("code", [Repair.TRUNCATED, Repair.EMPTY_STREAM])
def test_switched_off_failures_lose_no_text(code):
    """Without the repair the stream ends silently, with everything that was buffered."""
    chunks = [HEAD, chunk({"content": "Hello <tool_c"}, usage=USAGE)]
    request = asked(tools=TOOLS, stream_options={"include_usage": True})
    result = repair(stream(chunks, done=b""), request, Policy(off=frozenset({code})))
    assert result.text == "Hello <tool_c"
    assert [each["usage"] for each in result.chunks if each.get("usage")] == [USAGE]


# Keep-alives.

KEEP_ALIVES = [
    *(b"data: null\n\n", b"data: {}\n\n", b"data: []\n\n", b'data: ""\n\n', b"data:\n\n", b"data: ping\n\n"),
    *(b"event: ping\n\n", b"event: ping\ndata: {}\n\n", b'data: {"type":"ping"}\n\n', b'data: {"choices":null}\n\n'),
    *(b'data: {"choices":[]}\n\n', b'data: {"status":"processing"}\n\n', b'data: {"object":"keep-alive"}\n\n'),
    *(b"data: pong\n\n", b"data: [PING]\n\n", b"data: [keep-alive]\n\n"),
    *(b"data: KEEP-ALIVE\n\n", b"retry: 5\n\n", b"id: 7\nevent: heartbeat\n\n", event({**HEAD, "choices": None})),
]


@pytest.mark.parametrize("sent", KEEP_ALIVES)
@pytest.mark.parametrize("place", range(4))
def test_keep_alive_that_a_client_cannot_read_becomes_a_comment(sent, place):
    """It still shows that the connection lives, and no program gets None for a chunk or for its choices."""
    body = stream(GOOD[:place], done=b"") + sent + stream(GOOD[place:])
    for pieces in ([body], [body[at : at + 1] for at in range(len(body))]):
        result = repair(pieces)
        assert result.payloads == [*GOOD, END]
        assert b": keep-alive\n" in result.output
        assert result.repairer.report.events == len(GOOD)


@pytest.mark.parametrize("comment", [b": hello\n\n", b":\n\n", b": a\n: b\n"])
def test_comment_passes_through(comment):
    body = b"".join(comment + event(each) for each in GOOD) + DONE
    assert repair(body).output == body


def test_event_of_another_form_carries_no_choice():
    """What says something, and has no choices, is a chunk without choices."""
    own = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": MODEL, "created": HEAD["created"]}
    for fields in ({"citations": ["a"]}, {"choices": None, "citations": ["a"]}):
        result = repair(stream([HEAD, {**own, **fields}, *MIDDLE, LAST]))
        assert result.chunks[1] == {**own, "citations": ["a"], "choices": []}
        assert result.text == "Hello world"


def test_what_is_buffered_in_a_strict_stream_is_emitted_before_its_error():
    repairer = StreamRepairer(asked(tools=TOOLS), Policy(strict=True))
    output = repairer.feed(stream([HEAD, chunk({"content": "Hello <tool_c"})])) + repairer.finish()
    assert output.index(b"<tool_c") < output.index(b"repair_refused")


@pytest.mark.parametrize("owner", list(Owner))
@pytest.mark.parametrize(("sent", "text"), [(b"\x01", "\x01"), (b"\t", "\t"), (b"\xfa", "\ufffd"), (b"\xc3", "\ufffd")])
def test_error_that_is_not_valid_json_can_be_read(owner, sent, text):
    """The official client would fail on its bytes, and not with an exception of its own."""
    error = {"message": "no ~", "type": "server_error", "param": None, "code": None}
    repairer = StreamRepairer(evidence=Evidence(owner, is_settled=True))
    output = repairer.feed(event(HEAD) + event({"error": error}).replace(b"~", sent)) + repairer.finish()
    assert json.loads(output.rstrip().rpartition(b"data: ")[2].decode()) == {
        "error": {**error, "message": f"no {text}"}
    }
    assert repairer.report.repairs == {Repair.ENCODING: 1}
