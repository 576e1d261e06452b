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
    "list of texts": (event({"errors": [REASON]}), 500),
    "problem": (event({"type": "about:blank", "title": "Bad Request", "status": 400, "detail": REASON}), 400),
    "Anthropic's": (event({"type": "error", "error": {"type": "overloaded_error", "message": REASON}}), 503),
    "message and code": (event({"message": REASON, "code": "context_length_exceeded"}), 400),
    "err": (event({"err": REASON}), 500),
    "fault": (event({"fault": {"faultstring": REASON, "detail": {"errorcode": "x"}}}), 500),
    "ok that is false": (event({"ok": False, "message": REASON}), 500),
    "envelope in an envelope": (event({"error": {"error": {"message": REASON, "code": 403}}}), 403),
    "status in text": (event({**HEAD, "choices": [], "HttpStatusCode": "400", "error": {"message": REASON}}), 400),
    "choice": (event({**HEAD, "choices": [{"index": 0, "error": {"message": REASON, "code": 502}}]}), 502),
    "choice and its reason": (
        event({**HEAD, "choices": [{"index": 0, "delta": {}, "error": {"message": REASON}, "finish_reason": "error"}]}),
        500,
    ),
    "delta": (event(chunk({"error": {"message": REASON, "code": 502}})), 502),
    "delta with a text": (event(chunk({"content": "", "error": {"message": REASON}})), 500),
    "fields of its own": (event({"error": {"cause": {"what": REASON}, "code": 400}}), 400),
    "named event with fields of its own": (b"event: error\n" + event({"what": REASON}), 500),
    "event that is an exception": (f"event: exception\ndata: {REASON}\n\n".encode(), 500),
    "event that has failed": (f"event: failed\ndata: {REASON}\n\n".encode(), 500),
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
    @pytest.mark.parametrize("is_foundry", [True, False])
    def test_text_in_an_event_called_an_error_comes_first(self, client, is_foundry):
        """The event that says that the answer has failed may have its last text."""
        body = b"event: error\n" + event(chunk({"content": " world"}))
        answer = ask(client, stream([HEAD, MIDDLE[0]], done=body), is_foundry=is_foundry)
        assert answer.text == TEXT
        assert type(answer.error) is openai.APIError

    @CLIENTS
    def test_error_that_is_a_status_has_that_status(self, client):
        """Without any message."""
        answer = ask(client, event({"error": 429}))
        assert isinstance(answer.error, openai.RateLimitError)

    @CLIENTS
    def test_event_in_the_body_of_an_error_is_read(self, client):
        """A service that was asked for a stream may send its error as an event, with the status of an error."""
        body = event({"error": {"message": REASON, "code": "x"}}) + DONE
        with RawServer(marked(sse_response([body], status=400))) as server:
            answer = client.ask(server.base_url)
        assert isinstance(answer.error, openai.BadRequestError)
        assert (answer.error.body["message"], answer.error.code) == (REASON, "x")

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
    @pytest.mark.parametrize("is_foundry", [True, False])
    @pytest.mark.parametrize(
        "parts",
        [
            [(1, {"content": "b"}), (0, {"content": "a"})],
            [(2, {"content": "c"}), (0, {"content": "a"}), (1, {"content": "b"})],
            [(0, {"content": "a"}), (2, {"content": "c"}), (1, {"content": "b"})],
        ],
    )
    def test_choices_may_begin_in_any_order(self, client, is_foundry, parts):
        """The accumulator of the official client takes the order for the indexes: it fails, or mixes the choices."""
        chunks = [*(chunk(delta, index=index) for index, delta in parts)]
        ends = [chunk({}, "stop", index=index) for index, _ in parts]
        answer = ask(client, stream([*chunks, *ends]), is_foundry=is_foundry, n=len(parts))
        assert answer.error is None
        if answer.completion is not None:
            texts = [choice.message.content for choice in answer.completion.choices]
            assert texts == list("abc")[: len(parts)]

    @CLIENTS
    @pytest.mark.parametrize("is_foundry", [True, False])
    def test_choice_alone_that_is_not_the_first(self, client, is_foundry):
        """The first one says nothing."""
        answer = ask(client, stream(choices((1, {"content": "b"}, None), (1, {}, "stop"))), is_foundry=is_foundry, n=2)
        assert answer.error is None
        assert answer.completion is None or answer.completion.choices[1].message.content == "b"

    @CLIENTS
    @pytest.mark.parametrize("is_foundry", [True, False])
    @pytest.mark.parametrize("index", [-1, -5, "0", None])
    def test_index_that_is_none_is_the_place_of_the_choice(self, client, is_foundry, index):
        """The accumulator would fail on it, or count from the end."""
        answer = ask(client, stream(choices((index, {"content": "b"}, "stop"))), is_foundry=is_foundry, n=2)
        assert (answer.error, answer.text) == (None, "b")
        assert {choice.index for chunk in answer.chunks for choice in chunk.choices} == {0}

    @CLIENTS
    @pytest.mark.parametrize("is_foundry", [True, False])
    def test_function_that_is_said_to_be_custom_is_a_function(self, client, is_foundry):
        """The accumulator would look for a custom tool in it."""
        call = {"index": 0, "id": "c", "type": "custom", "function": {"name": "f", "arguments": "{}"}}
        chunks = [HEAD, chunk({"tool_calls": [call]}), chunk({}, "tool_calls")]
        answer = ask(client, stream(chunks), is_foundry=is_foundry, tools=[TOOL])
        assert answer.error is None
        [sent] = [call for each in answer.chunks for call in each.choices[0].delta.tool_calls or ()]
        assert (sent.type, sent.function.name) == ("function", "f")

    @CLIENTS
    def test_index_out_of_all_bounds_is_an_error(self, client):
        """Nobody asked for so many; the accumulator would fail."""
        answer = ask(client, stream(choices((10**9, {"content": "b"}, "stop"))), n=2)
        if client.helper == "create":
            assert answer.error is None
        else:
            assert isinstance(answer.error, openai.APIError)
            assert answer.error.code == "damaged_chunk"

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
    "message text": {**MIDDLE[0], "choices": [{"index": 0, "message": "Hello"}]},
    "text of the choice": {**MIDDLE[0], "choices": [{"index": 0, "text": "Hello"}]},
    "content of the choice": {**MIDDLE[0], "choices": [{"index": 0, "content": "Hello"}]},
    "chunk without its name": {name: value for name, value in MIDDLE[0].items() if name != "object"},
    "chunk of another name": {**MIDDLE[0], "object": "chat.completion"},
    "usage a list": {**MIDDLE[0], "usage": []},
    "usage text": {**MIDDLE[0], "usage": "none"},
    "usage a number": {**MIDDLE[0], "usage": 5},
    "tool calls an empty object": chunk({"content": "Hello", "tool_calls": {}}),
    "tool calls an empty text": chunk({"content": "Hello", "tool_calls": ""}),
    **{
        f"log probabilities {logprobs!r}": {
            **MIDDLE[0],
            "choices": [{**MIDDLE[0]["choices"][0], "logprobs": logprobs}],
        }
        for logprobs in (
            *([], "x", 5, True, {"content": "x"}, {"content": {}}, {"content": 5}, {"refusal": 5}),
            *({"content": [None]}, {"content": [5]}, {"content": ["a"]}, {"content": [[]]}, {"refusal": ["a"]}),
        )
    },
    "choice in two parts": {
        **MIDDLE[0],
        "choices": [{**MIDDLE[0]["choices"][0], "delta": {"content": text}} for text in ("Hel", "lo")],
    },
    "choice after an empty one": {**MIDDLE[0], "choices": [{}, *MIDDLE[0]["choices"]]},
    **{
        f"{name} {value!r}": chunk({"content": "Hello", name: value})
        for name in ("function_call", "audio", "refusal")
        for value in ([], 0, False)
    },
    "function call empty text": chunk({"content": "Hello", "function_call": ""}),
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
    "choices by index": event({**MIDDLE[0], "choices": {"0": MIDDLE[0]["choices"][0]}}),
    "choice in capitals": event({**MIDDLE[0], "choices": [{"Index": 0, "Delta": {"Content": "Hello"}}]}),
    **{
        f"{name} {value!r}": event(chunk({name: value}))
        for name, values in {
            "function_call": ("f", 5, ["f"]),
            "audio": ("x", True),
            "refusal": (5, ["no"], {"text": "no"}),
            "content": ([5], [[]]),
        }.items()
        for value in values
    },
    "delta a list": event({**MIDDLE[0], "choices": [{"index": 0, "delta": ["Hello"]}]}),
    "text a number": event({**MIDDLE[0], "choices": [{"index": 0, "text": 7}]}),
    "delta outside of choices": event({"delta": {"content": "Hello"}}),
    "message outside of choices": event(
        {"model": "m", "message": {"role": "assistant", "content": "x"}, "done": False}
    ),
    "text of another API": event({"response": "Hello", "done": False}),
    "nested lists": event({**MIDDLE[0], "x": "@"}).replace(b'"@"', b"[" * 800 + b"]" * 800),
    "nested objects": event({**MIDDLE[0], "x": "@"}).replace(b'"@"', b'{"a":' * 800 + b"1" + b"}" * 800),
    "endless number": event({**MIDDLE[0], "x": "@"}).replace(b'"@"', b"9" * 5000),
    "delta a number": event({**MIDDLE[0], "choices": [{"index": 0, "delta": 7}]}),
    "broken JSON": b'data: {"choices": [{"delta": {"content": "Hel\n\n',
    "half an event": b'data: {"choices"\n\n',
    "HTML": b"data: <html>\n\n",
    "binary": b"data: \xff\xfe\x00\n\n",
}


# Lists in two deltas, with which the official client's accumulator fails.
LISTS = {
    "objects": ([{"type": "a"}], [{"type": "b"}]),
    "objects, the first with an index": ([{"index": 0, "type": "a"}, {"type": "b"}], [{"type": "c"}]),
    "objects with an index that is text": ([{"index": "0"}], [{"index": "1"}]),
    "objects with the same index": ([{"index": 0, "text": "a"}], [{"index": 0, "text": "b"}]),
    "texts": (["a"], ["b"]),
}
MIXED_LISTS = {
    "objects and texts": ([{"a": 1}], ["x"]),
    "nothing": ([None], [None]),
    "lists": ([["a"]], [["b"]]),
    "lists and texts": ([["a"]], ["b"]),
}


class TestListsInDeltas:
    """What services add to a delta is not in OpenAI's reference, and its own client may fail on it."""

    @CLIENTS
    @pytest.mark.parametrize("name", LISTS)
    @pytest.mark.parametrize("is_foundry", [True, False])
    def test_items_arrive(self, client, name, is_foundry):
        """With `.stream()` each has an index of its own; with `create` they are as the service sent them."""
        lists = [chunk({"content": text, "notes": notes}) for text, notes in zip("ab", LISTS[name], strict=True)]
        answer = ask(client, stream([HEAD, *lists, LAST]), is_foundry=is_foundry)
        assert (answer.error, answer.text) == (None, "ab")
        if client.helper == "create":
            assert tuple(chunk.choices[0].delta.notes for chunk in answer.chunks[1:3]) == LISTS[name]

    @CLIENTS
    @pytest.mark.parametrize("name", MIXED_LISTS)
    def test_items_that_cannot_be_added_are_an_error(self, client, name):
        """An exception of openai's, where the accumulator would raise one of its own code."""
        lists = [chunk({"content": text, "notes": notes}) for text, notes in zip("ab", MIXED_LISTS[name], strict=True)]
        answer = ask(client, stream([HEAD, *lists, LAST]))
        if client.helper == "create":
            assert (answer.error, answer.text) == (None, "ab")
        else:
            assert isinstance(answer.error, openai.APIError)
            assert answer.text == "a"


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
        assert each.usage is None or each.usage.total_tokens is not None
        assert all(isinstance(choice.delta.tool_calls or [], list) for choice in each.choices)
        assert all(choice.delta is not None for choice in each.choices)
        for choice in each.choices:
            call = choice.delta.function_call
            assert call is None or call.name is not None
            tokens = choice.logprobs.content or [] if choice.logprobs else []
            assert all(token.token is not None for token in tokens)
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
def test_answer_in_one_chunk_without_a_name_or_a_word_is_an_answer(client):
    """Another service's: the accumulator of the official client fails if it passes over all chunks."""
    answer = ask(client, stream([{**chunk({"content": ""}), "object": None}]), is_foundry=False)
    assert answer.error is None
    assert answer.text == ""


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
    assert ("empty body" in str(answer.error)) is (name == "blank")
