"""Contract line 3: failure never looks like success, and whatever fails is an exception of openai's."""

import json
from typing import Any

import openai
import pytest

from support.raw_server import RawServer, marked, sse_response
from support.streams import DONE, chunk, conforming, event, stream
from support.talk import clients

HEAD, *MIDDLE, LAST = conforming()
TEXT = "Hello world"
REASON = "the prompt is too long"
CLIENTS = pytest.mark.parametrize("client", clients(), ids=str)


# A program that expects chunks without choices, as there are with usage.
WITH_USAGE = {"stream_options": {"include_usage": True}}


def ask(client, body: bytes, *, is_foundry: bool = True, **parameters: Any):
    """Ask a service whose stream has this body."""
    script = sse_response([body] if body else [])
    with RawServer(marked(script) if is_foundry else script) as server:
        return client.ask(server.base_url, **parameters)


def is_crash(error: BaseException | None) -> bool:
    """Whether an error is one that tells of the client's own code instead of the service."""
    return error is not None and not isinstance(error, openai.OpenAIError)


# Errors in forms that are not OpenAI's, and the status that each of them names.
ERRORS = {
    "SSE field with an object": (f'error: {{"code":400,"message":"{REASON}"}}\n\n'.encode(), 400),
    "SSE field with text": (f"error: {REASON}\n\n".encode(), 500),
    "data and a field": (f'data: {{}}\nerror: {{"code":400,"message":"{REASON}"}}\n\n'.encode(), 400),
    "object that is an error": (event({"object": "error", "message": REASON, "code": 400}), 400),
    "type that is an error": (event({"type": "error", "message": REASON, "status": 429}), 429),
    "status that is an error": (event({"status": "error", "message": REASON}), 500),
    "detail": (event({"detail": REASON}), 500),
    "details of a validation": (event({"detail": [{"loc": ["body", "messages"], "msg": REASON}]}), 500),
    "capital": (event({"Error": {"Message": REASON, "code": 404}}), 404),
    "errors": (event({"errors": [{"message": REASON}]}), 500),
    "text": (event({"error": REASON}), 500),
    "message alone": (event({"message": REASON}), 500),
    "success that is false": (event({"success": False, "message": REASON, "code": 503}), 503),
    "failed chunk": (event({**HEAD, "Successful": False, "HttpStatusCode": 400, "error": {"message": REASON}}), 400),
    "named event with text": (f"event: error\ndata: {REASON}\n\n".encode(), 500),
    "named event with a string": (f'event: error\ndata: "{REASON}"\n\n'.encode(), 500),
    "named event with an object": (f'event: error\ndata: {{"message":"{REASON}","code":401}}\n\n'.encode(), 401),
    "named event, data first": (f'data: {{"message":"{REASON}"}}\nevent: error\n\n'.encode(), 500),
    "named event over lines": (f"event: error\ndata: the prompt is\ndata: {REASON}\n\n".encode(), 500),
    "OpenAI's own": (event({"error": {"message": REASON, "type": "rate_limit_error"}}), 429),
}


class TestErrorsInOtherForms:
    """An error is raised with its reason, whatever it is written as, and whoever sends it."""

    @CLIENTS
    @pytest.mark.parametrize("name", ERRORS)
    @pytest.mark.parametrize("is_foundry", [True, False])
    def test_first_event_is_the_exception_of_its_status(self, client, name, is_foundry):
        """At the start of a stream."""
        body, status = ERRORS[name]
        answer = ask(client, body, is_foundry=is_foundry)
        assert isinstance(answer.error, openai.APIStatusError)
        assert answer.error.status_code == status
        assert REASON in str(answer.error)
        assert (answer.text, answer.reason) == ("", None)

    @CLIENTS
    @pytest.mark.parametrize("name", ERRORS)
    @pytest.mark.parametrize("is_foundry", [True, False])
    def test_later_event_is_raised_after_all_text(self, client, name, is_foundry):
        """In the middle of a stream, with [DONE] after it or without."""
        body, _ = ERRORS[name]
        answer = ask(client, stream([HEAD, *MIDDLE], done=body + DONE), is_foundry=is_foundry)
        assert answer.text == TEXT
        assert type(answer.error) is openai.APIError
        assert REASON in answer.error.message
        assert answer.reason is None

    @CLIENTS
    @pytest.mark.parametrize("name", ["SSE field with an object", "detail", "named event with text"])
    def test_text_that_was_buffered_comes_first(self, client, name):
        """What may have become a tool call is not lost."""
        body, _ = ERRORS[name]
        pieces = [HEAD, chunk({"content": "See "}), chunk({"content": "<tool_ca"})]
        answer = ask(client, stream(pieces, done=body), tools=[TOOL])
        assert answer.text == "See <tool_ca"
        assert REASON in str(answer.error)

    @CLIENTS
    def test_error_beside_a_whole_answer_is_raised(self, client):
        """Also after the finish reason: the service says that it failed."""
        answer = ask(client, stream(conforming(), done=ERRORS["detail"][0] + DONE))
        assert answer.text == TEXT
        assert isinstance(answer.error, openai.APIError)


TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "strict": True,
        "parameters": {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
    },
}

# Streams that have no answer in them.
NOTHING = {
    "nothing": b"",
    "end marker": DONE,
    "comments": b": keep-alive\n\n" * 3,
    "comments and the end marker": b": keep-alive\n\n" + DONE,
    "chunks without choices": stream([{**HEAD, "choices": []}] * 2),
    "usage alone": stream([{**HEAD, "choices": [], "usage": {"total_tokens": 1}}]),
    "keep-alives": stream([None, {}, {"type": "ping"}]),
    "keep-alives without an end": stream([None, {}, {"type": "ping"}], done=b""),
    "chunks without choices or an end": stream([{**HEAD, "choices": []}] * 2, done=b""),
    "empty events": b"data:\n\n" * 3 + DONE,
}


class TestNothing:
    """A stream without an answer is an error; nothing is made up for it."""

    @CLIENTS
    @pytest.mark.parametrize("name", NOTHING)
    @pytest.mark.parametrize("is_foundry", [True, False])
    def test_stream_without_an_answer_is_an_error(self, client, name, is_foundry):
        """Whoever sends it: without the shim it is an empty answer."""
        answer = ask(client, NOTHING[name], is_foundry=is_foundry, **WITH_USAGE)
        assert isinstance(answer.error, openai.APIError)
        assert answer.text == ""
        assert answer.reason is None

    @CLIENTS
    def test_answer_without_text_is_an_answer(self, client):
        """A choice that says nothing and ends is what the model said."""
        answer = ask(client, stream([HEAD, LAST]))
        assert (answer.error, answer.text, answer.reason) == (None, "", "stop")


def choices(*parts: tuple[int, dict[str, Any], str | None]) -> list[dict[str, Any]]:
    return [chunk(delta, reason, index=index) for index, delta, reason in parts]


ROLE = {"role": "assistant", "content": ""}
BOTH = choices((0, ROLE, None), (1, ROLE, None), (0, {"content": "a"}, None), (1, {"content": "b"}, None))


class TestChoices:
    """A choice that began must end."""

    @CLIENTS
    @pytest.mark.parametrize("is_foundry", [True, False])
    @pytest.mark.parametrize("done", [DONE, b""], ids=["[DONE]", "no [DONE]"])
    @pytest.mark.parametrize("ended", [0, 1])
    def test_choice_that_does_not_end_is_an_error(self, client, is_foundry, done, ended):
        """One of two has its reason; nobody knows what became of the other."""
        answer = ask(client, stream([*BOTH, *choices((ended, {}, "stop"))], done=done), is_foundry=is_foundry, n=2)
        assert isinstance(answer.error, openai.APIError)
        assert answer.error.code == "stream_truncated"

    @CLIENTS
    @pytest.mark.parametrize("is_foundry", [True, False])
    def test_choice_that_never_began_is_not_missed(self, client, is_foundry):
        """1.0.0 and 2.2.1 ignore `n`, and send one choice."""
        answer = ask(client, stream(conforming()), is_foundry=is_foundry, n=2)
        assert (answer.error, answer.text, answer.reason) == (None, TEXT, "stop")

    @CLIENTS
    def test_all_choices_without_a_reason_end_at_the_marker(self, client):
        """The service says that it is done."""
        answer = ask(client, stream(BOTH), n=2)
        assert answer.error is None
        assert {each.index for chunk in answer.chunks for each in chunk.choices if each.finish_reason} == {0, 1}

    @CLIENTS
    @pytest.mark.parametrize("is_foundry", [True, False])
    @pytest.mark.parametrize("events", [1, 2, 3])
    def test_stream_that_stops_is_an_error(self, client, is_foundry, events):
        """Without a reason and without [DONE], wherever it stops."""
        answer = ask(client, stream(conforming()[:events], done=b""), is_foundry=is_foundry)
        assert answer.error.code == "stream_truncated"
        assert answer.text == "".join(["", "Hello", " world"][:events])


# Events that the official client cannot read as chunks, and that say nothing.
KEEP_ALIVES = {
    "null": b"data: null\n\n",
    "empty object": b"data: {}\n\n",
    "empty list": b"data: []\n\n",
    "empty string": b'data: ""\n\n',
    "named ping": b"event: ping\ndata: {}\n\n",
    "named ping with a time": b'event: ping\ndata: {"type": "ping"}\n\n',
    "ping": b"data: ping\n\n",
    "type ping": event({"type": "ping"}),
    "heartbeat": event({"object": "heartbeat", "status": "processing"}),
    "choices null": event({**HEAD, "choices": None}),
    "no choices": event({name: value for name, value in HEAD.items() if name != "choices"}),
    "no data": b"event: ping\n\n",
    "empty data": b"data:\n\n",
    "id alone": b"id: 7\n\n",
    "retry": b"retry: 3000\n\n",
    "retry and data": b"retry: 3000\ndata: null\n\n",
}

# Chunks with text in a form that the official client, or a program that keeps to its types, fails on.
ODD_CHUNKS = {
    "choices an object": {**MIDDLE[0], "choices": MIDDLE[0]["choices"][0]},
    "choices with null": {**MIDDLE[0], "choices": [None, *MIDDLE[0]["choices"]]},
    "delta text": {**MIDDLE[0], "choices": [{"index": 0, "delta": "Hello"}]},
    "message": {**MIDDLE[0], "choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": None}]},
    "list of chunks": [MIDDLE[0]],
}

# Chunks that nobody can read: what they were to say is not known.
DAMAGED = {
    "number": b"data: 5\n\n",
    "text": b'data: "Hello"\n\n',
    "true": b"data: true\n\n",
    "false": b"data: false\n\n",
    "zero": b"data: 0\n\n",
    "list of numbers": b"data: [1, 2]\n\n",
    "choices text": event({**MIDDLE[0], "choices": "Hello"}),
    "choices a list of text": event({**MIDDLE[0], "choices": ["Hello"]}),
    "choices a number": event({**MIDDLE[0], "choices": 7}),
    "delta a list": event({**MIDDLE[0], "choices": [{"index": 0, "delta": ["Hello"]}]}),
    "delta a number": event({**MIDDLE[0], "choices": [{"index": 0, "delta": 7}]}),
    "broken JSON": b'data: {"choices": [{"delta": {"content": "Hel\n\n',
    "half an event": b'data: {"choices"\n\n',
    "HTML": b"data: <html>\n\n",
    "binary": b"data: \xff\xfe\x00\n\n",
}


@pytest.mark.parametrize("is_foundry", [True, False], ids=["foundry", "other"])
class TestEventsThatNobodyCanRead:
    """The program never sees `None` for a chunk, for its choices or its delta, and no error but openai's."""

    @CLIENTS
    @pytest.mark.parametrize("name", KEEP_ALIVES)
    @pytest.mark.parametrize("place", ["first", "middle", "last", "after the reason"])
    def test_keep_alive_says_nothing(self, client, name, place, is_foundry):
        """It keeps the connection alive, and is no chunk."""
        events = [event(each) for each in conforming()]
        at = {"first": 0, "middle": 2, "last": 3, "after the reason": 4}[place]
        body = b"".join([*events[:at], KEEP_ALIVES[name], *events[at:], DONE])
        answer = ask(client, body, is_foundry=is_foundry)
        assert (answer.error, answer.text, answer.reason) == (None, TEXT, "stop")
        assert_readable(answer)

    @CLIENTS
    @pytest.mark.parametrize("name", ODD_CHUNKS)
    def test_text_in_an_odd_form_arrives(self, client, name, is_foundry):
        """What carries an answer is repaired, whoever sends it."""
        answer = ask(client, stream([HEAD, ODD_CHUNKS[name], MIDDLE[1], LAST]), is_foundry=is_foundry)
        assert (answer.error, answer.text, answer.reason) == (None, TEXT, "stop")
        assert_readable(answer)

    @CLIENTS
    @pytest.mark.parametrize("name", DAMAGED)
    @pytest.mark.parametrize("place", ["first", "middle", "after the reason"])
    def test_damage_is_an_error_after_the_text(self, client, name, place, is_foundry):
        """What is lost is not passed over."""
        events = [event(each) for each in conforming()]
        at = {"first": 0, "middle": 2, "after the reason": 4}[place]
        answer = ask(client, b"".join([*events[:at], DAMAGED[name], *events[at:], DONE]), is_foundry=is_foundry)
        assert isinstance(answer.error, openai.APIError)
        assert answer.text == {"first": "", "middle": "Hello", "after the reason": TEXT}[place]
        assert_readable(answer)


def assert_readable(answer):
    """Each chunk is one that a program can read that keeps to OpenAI's types."""
    for each in answer.chunks:
        assert isinstance(each.choices, list)
        assert all(choice.delta is not None for choice in each.choices)
    assert not is_crash(answer.error)


# Bodies in the place of a stream, as a wrong address or a gateway sends them.
PAGES = {
    "HTML": b"<!doctype html><html><head><title>Bad gateway</title></head></html>",
    "text": b"Service unavailable",
    "JSON of something else": b'{"version": "1.0"}',
    "list": b"[]",
    "number": b"42",
    "null": b"null",
    "string": b'"hello"',
    "half a completion": b'{"id": "chatcmpl-1", "choices": [{"ind',
    "completion without choices": b'{"id": "chatcmpl-1", "object": "chat.completion", "choices": []}',
    "choices null": b'{"id": "chatcmpl-1", "object": "chat.completion", "choices": null}',
    "error": json.dumps({"error": {"message": REASON}}).encode(),
    "blank": b" \n\n\t",
}


@CLIENTS
@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("kind", ["text/event-stream", "application/json", "text/html"])
def test_page_in_the_place_of_a_stream_is_an_error(client, name, kind):
    """Where the official client would find nothing, or fail in its own code."""
    script = sse_response([PAGES[name]], headers=[("Content-Type", kind)])
    with RawServer(script) as server:
        answer = client.ask(server.base_url, **WITH_USAGE)
    assert isinstance(answer.error, openai.APIError)
    assert answer.text == ""
