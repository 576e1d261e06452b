"""Contract line 10, responses in one piece: the answer, or an exception of openai's; never one of the client's code."""

import gzip
import json
from contextlib import suppress
from typing import Any

import anyio
import openai
import pytest

from support.either import awaited
from support.raw_server import RawServer, Send, marked, plain_response, sse_response
from support.streams import DONE, betalgo, chunk, conforming, event, stream
from support.talk import FAMILIES, MESSAGES, Client

TEXT = "Hello world"
PLAIN = {
    "id": "chatcmpl-9",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": TEXT}}],
}
CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x":'}}
CLIENTS = pytest.mark.parametrize(
    "client", [Client(family, mode) for family in FAMILIES for mode in ("sync", "async")], ids=str
)
OWNERS = pytest.mark.parametrize("is_foundry", [True, False], ids=["foundry", "other"])


def ask(client, script: Any, method: str = "chat.completions.create", *, is_foundry: bool = True, **parameters: Any):
    """What a method of the official client returns or raises."""
    if method.startswith("chat"):
        parameters = {"model": "m", "messages": MESSAGES, **parameters}

    async def run(base_url):
        official = client.make(base_url)
        try:
            found = official
            for name in method.split("."):
                found = getattr(found, name)
            return await awaited(found(**parameters))
        except Exception as error:  # noqa: BLE001 - the test looks at it
            return error
        finally:
            await awaited(official.close())

    with RawServer(marked(script) if is_foundry else script) as server:
        return anyio.run(run, server.base_url)


def as_json(value: Any, status: int = 200) -> Any:
    return plain_response(json.dumps(value).encode(), status)


LABELS = [("Content-Type", "text/event-stream")], [("Content-Type", "application/json")], []


@CLIENTS
@OWNERS
class TestStreamThatNobodyAskedFor:
    """The completion that the chunks add up to, or the error in them."""

    @pytest.mark.parametrize("headers", LABELS, ids=["labelled", "as JSON", "unlabelled"])
    @pytest.mark.parametrize("chunks", [conforming(), betalgo()], ids=["2.x", "1.x"])
    def test_answer_is_the_completion(self, client, headers, chunks, is_foundry):
        """However it is labelled, and in whichever dialect."""
        got = ask(client, sse_response([stream(chunks)], headers=headers), is_foundry=is_foundry)
        assert got.choices[0].message.content == TEXT
        assert got.choices[0].message.role == "assistant"
        assert (got.choices[0].finish_reason, got.object) == ("stop", "chat.completion")

    def test_call_is_put_together(self, client, is_foundry):
        """A tool call in pieces."""
        rest = {"index": 0, "function": {"arguments": " 1}"}}
        chunks = [
            chunk({"role": "assistant", "tool_calls": [CALL]}),
            chunk({"tool_calls": [rest]}),
            chunk({}, "tool_calls"),
        ]
        got = ask(client, sse_response([stream(chunks)]), is_foundry=is_foundry)
        [call] = got.choices[0].message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("f", {"x": 1})

    def test_usage_and_other_choices_are_there(self, client, is_foundry):
        """What stands in a chunk of its own, and a second choice."""
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        chunks = [
            *(chunk({"role": "assistant", "content": text}, index=index) for index, text in enumerate(("a", "b"))),
            *(chunk({}, "stop", index=index) for index in (0, 1)),
            {**chunk({}), "choices": [], "usage": usage},
        ]
        got = ask(client, sse_response([stream(chunks)]), is_foundry=is_foundry, n=2)
        assert [choice.message.content for choice in got.choices] == ["a", "b"]
        assert got.usage.total_tokens == 3

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (event({"error": {"message": "too long", "code": 400}}), 400),
            (stream(conforming()[:2], done=event({"error": {"message": "too long"}})), 500),
            (b"event: error\ndata: too long\n\n", 500),
            (stream(conforming()[:2], done=b""), 500),
            (DONE, 500),
            (b": keep-alive\n\n", 500),
            (b"data: null\n\n" + DONE, 500),
            (stream([chunk({"role": "assistant"}), ["x"]]), 500),
            (stream([chunk({"role": "assistant", "tool_calls": ["x"]}), chunk({}, "tool_calls")]), 500),
            (b"data: {broken\n\n", 500),
            (stream([{**chunk({}), "choices": []}]), 500),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_failure_is_an_error(self, client, body, status, is_foundry):
        """An error in the stream, and a stream that is not whole."""
        got = ask(client, sse_response([body]), is_foundry=is_foundry)
        assert isinstance(got, openai.APIStatusError)
        assert got.status_code == status
        if b"too long" in body:
            assert "too long" in str(got)


WRONG_CHOICES = {
    "null": None,
    "missing": ...,
    "text": "x",
    "number": 7,
    "list of text": ["x"],
    "list of numbers": [1],
    "list of null": [None],
    "no message": [{"index": 0, "finish_reason": "stop"}],
    "message a number": [{"index": 0, "message": 7}],
    "message a list": [{"index": 0, "message": ["x"]}],
    "calls that are texts": [{"index": 0, "message": {"content": None, "tool_calls": ["x"]}}],
}
ODD_CHOICES = {
    "an object": PLAIN["choices"][0],
    "delta": [{"index": 0, "delta": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
    "null beside": [None, *PLAIN["choices"]],
    "message a text": [{"index": 0, "message": TEXT, "finish_reason": "stop"}],
}


@CLIENTS
@OWNERS
class TestCompletions:
    """`chat.completions.create()` without streaming."""

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b" \r\n\t",
            b"[]",
            b'["x"]',
            b"null",
            b"true",
            b"42",
            b'"Hello"',
            b"Hello",
            b"<html><title>Bad gateway</title></html>",
            b'{"id": "chatcmpl-1", "choices": [{"ind',
            b"{}",
            b"\xff\xfe{\x00}\x00",
            b"\x00\x01\x02",
            b"[" * 2000,
        ],
        ids=lambda body: str(body)[:24],
    )
    @pytest.mark.parametrize("kind", ["application/json", "text/html", None])
    def test_body_that_is_no_completion_is_an_error(self, client, body, kind, is_foundry):
        """Whatever it is labelled as."""
        headers = [] if kind is None else [("Content-Type", kind)]
        got = ask(client, plain_response(body, headers=headers), is_foundry=is_foundry)
        assert isinstance(got, openai.APIStatusError)
        assert got.status_code == 500
        assert "127.0.0.1" in str(got) or "not a JSON object" in str(got) or "not a chat completion" in str(got)

    @pytest.mark.parametrize("parameters", [{}, {"stream": True}], ids=["plain", "stream"])
    @pytest.mark.parametrize("body", [b"too many tokens", b"<html><title>too many tokens</title></html>"], ids=str)
    def test_what_the_service_states_in_text_is_in_the_error(self, client, body, parameters, is_foundry):
        """It is the reason, and nothing else has it."""
        got = ask(
            client, plain_response(body, headers=[("Content-Type", "text/html")]), is_foundry=is_foundry, **parameters
        )
        assert isinstance(got, openai.APIStatusError)
        assert "(too many tokens)" in str(got)

    def test_a_part_of_an_answer_is_not_in_the_error(self, client, is_foundry):
        """Answers are private."""
        got = ask(client, plain_response(b'{"choices": [{"message": {"content": "secret'), is_foundry=is_foundry)
        assert isinstance(got, openai.APIStatusError)
        assert "secret" not in str(got)

    @pytest.mark.parametrize("name", WRONG_CHOICES)
    def test_choices_of_a_wrong_type_are_an_error(self, client, name, is_foundry):
        """The program would fail where it reads the message."""
        body = {**PLAIN, "choices": WRONG_CHOICES[name]}
        if body["choices"] is ...:
            del body["choices"]
        got = ask(client, as_json(body), is_foundry=is_foundry)
        assert isinstance(got, openai.APIStatusError)

    @pytest.mark.parametrize("name", ODD_CHOICES)
    def test_choices_in_an_odd_form_are_the_answer(self, client, name, is_foundry):
        """What carries the answer is repaired, whoever sent it."""
        got = ask(client, as_json({**PLAIN, "choices": ODD_CHOICES[name]}), is_foundry=is_foundry)
        assert got.choices[0].message.content == TEXT
        assert got.choices[0].message.role in ("assistant", None)

    @pytest.mark.parametrize(
        ("sent", "text"),
        [
            (b"Hello\xffworld", "Hello\ufffdworld"),
            (b"caf\xe9", "caf\ufffd"),
            (b"\xf0\x9f\x8c", "\ufffd"),
            (b"Hello\\ud83c", "Hello\ud83c"),
            (b"a\tb\x01c", "a\tb\x01c"),
            ("日本".encode(), "日本"),
        ],
        ids=str,
    )
    def test_text_that_is_not_utf8_arrives(self, client, sent, text, is_foundry):
        """What is no character is shown as one that is missing; everything else is there."""
        body = json.dumps(PLAIN).encode().replace(TEXT.encode(), sent)
        got = ask(client, plain_response(body), is_foundry=is_foundry)
        assert got.choices[0].message.content == text

    @pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\r\n \n", b"\xef\xbb\xbf\n"], ids=["mark", "blank", "both"])
    def test_bytes_before_the_body_do_not_matter(self, client, before, is_foundry):
        """A byte order mark, blank lines."""
        got = ask(client, plain_response(before + json.dumps(PLAIN).encode()), is_foundry=is_foundry)
        assert got.choices[0].message.content == TEXT

    def test_numbers_that_are_none_are_read(self, client, is_foundry):
        """NaN and infinities are no JSON, and Python writes them."""
        body = json.dumps({**PLAIN, "score": float("nan"), "limit": float("inf")}).encode()
        got = ask(client, plain_response(body), is_foundry=is_foundry)
        assert got.choices[0].message.content == TEXT

    def test_compressed_body_is_read(self, client, is_foundry):
        """In spite of a length that was the compressed one's."""
        packed = gzip.compress(json.dumps({**PLAIN, "IsDelta": False}).encode())
        headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")]
        got = ask(client, plain_response(packed, headers=headers), is_foundry=is_foundry)
        assert got.choices[0].message.content == TEXT
        assert "IsDelta" not in got.to_dict()

    @pytest.mark.parametrize("status", [200, 400])
    def test_body_that_is_compressed_twice_is_an_error(self, client, is_foundry, status):
        """A few kilobytes of it may be gigabytes, in one step."""
        packed = gzip.compress(gzip.compress(json.dumps(PLAIN).encode()))
        headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip, gzip")]
        got = ask(client, plain_response(packed, status, headers=headers), is_foundry=is_foundry)
        assert isinstance(got, openai.APIStatusError)
        assert "compressed more than once" in str(got)

    def test_broken_compression_is_an_error(self, client, is_foundry):
        """What cannot be unpacked."""
        headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")]
        got = ask(client, plain_response(b"not gzip", headers=headers), is_foundry=is_foundry)
        assert isinstance(got, openai.APIError)


@CLIENTS
class TestOtherKinds:
    """Responses and models of Foundry Local's."""

    METHODS = (
        ("responses.create", {"model": "m", "input": "Hi"}),
        ("models.list", {}),
        ("models.retrieve", {"model": "m"}),
    )

    @pytest.mark.parametrize(("method", "parameters"), METHODS)
    @pytest.mark.parametrize("body", [b"", b"[]", b"null", b"<html>", b'{"data": [', b"7"], ids=str)
    def test_body_that_is_no_object_is_an_error(self, client, method, parameters, body):
        """Where the official client would fail in its own code."""
        got = ask(client, plain_response(body), method, **parameters)
        assert isinstance(got, openai.APIStatusError)
        assert got.status_code == 500

    @pytest.mark.parametrize(("method", "parameters"), METHODS)
    def test_failure_with_status_200_is_an_error(self, client, method, parameters):
        """It is raised with the status that it names."""
        body = {"Successful": False, "HttpStatusCode": 400, "error": {"message": "no room"}}
        got = ask(client, as_json(body), method, **parameters)
        assert isinstance(got, openai.BadRequestError)
        assert "no room" in str(got)


EMBEDDING = {"object": "embedding", "index": 0, "embedding": [0.5]}


@CLIENTS
@pytest.mark.parametrize(
    ("method", "parameters", "status"),
    [
        ("embeddings.create", {"model": "m", "input": "Hi"}, 200),
        ("embeddings.create", {"model": "m", "input": "Hi"}, 400),
        ("chat.completions.create", {"model": "m", "messages": MESSAGES}, 200),
        ("models.retrieve", {"model": "m"}, 200),
    ],
)
def test_bytes_beyond_a_body_are_not_the_next_response(client, method, parameters, status):
    """Whatever the request was for: the connection is not used again."""
    stolen = plain_response(b'{"object": "list", "data": [{"id": "stolen", "object": "model"}]}')[0].data
    own = {"object": "list", "data": [EMBEDDING], "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}}

    def script(_, request):
        if request.path.endswith("/models"):
            return as_json({"object": "list", "data": [{"id": "right", "object": "model"}]})
        body = PLAIN if "chat" in request.path else own if "embeddings" in request.path else {"id": "m"}
        return [Send(as_json(body, status)[0].data + stolen)]

    async def run(base_url):
        official = client.make(base_url)
        found = official
        for name in method.split("."):
            found = getattr(found, name)
        with suppress(openai.APIError):
            await awaited(found(**parameters))
        listed = await awaited(official.models.list())
        await awaited(official.close())
        return [model.id for model in listed.data]

    with RawServer(script) as server:
        assert anyio.run(run, server.base_url) == ["right"]


NUMBERS = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "model": "m"}
# Bodies that the official client fails on, each as it is sent and labelled.
NO_EMBEDDINGS = {
    "HTML": plain_response(b"<html></html>", headers=[("Content-Type", "text/html")]),
    "HTML as JSON": plain_response(b"<html></html>"),
    "nothing": plain_response(b""),
    "half": plain_response(b'{"data": ['),
    "a list": as_json([]),
    "no data": as_json({}),
    "data null": as_json({**NUMBERS, "data": None}),
    "data a number": as_json({**NUMBERS, "data": 5}),
    "empty data": as_json({**NUMBERS, "data": []}),
    "data of numbers": as_json({**NUMBERS, "data": [0.5]}),
    "half a number": as_json({**NUMBERS, "data": [{"index": 0, "embedding": "AAA="}]}),
    "text": as_json({**NUMBERS, "data": [{"index": 0, "embedding": "none!"}]}),
    "error": as_json({"error": {"message": "too long", "code": 400}}),
}


@CLIENTS
@OWNERS
class TestOtherAnswers:
    """Embeddings and lists of models: what the official client would fail on is an error, whoever sends it."""

    @pytest.mark.parametrize("name", NO_EMBEDDINGS)
    def test_body_without_embeddings_is_an_error(self, client, name, is_foundry):
        """A page, an error with status 200, or something else."""
        got = ask(client, NO_EMBEDDINGS[name], "embeddings.create", is_foundry=is_foundry, model="m", input="x")
        # What another service does not call JSON may be meant for another program.
        assert isinstance(got, openai.APIStatusError) or (name == "HTML" and not is_foundry)

    def test_embeddings_arrive(self, client, is_foundry):
        """As they were sent."""
        got = ask(client, as_json(NUMBERS), "embeddings.create", is_foundry=is_foundry, model="m", input="x")
        assert [each.embedding for each in got.data] == [[0.5]]

    @pytest.mark.parametrize("data", [5, True, "x", {"id": "m"}, ["m"], [None]], ids=str)
    def test_models_that_are_no_list_are_an_error(self, client, data, is_foundry):
        """The client would go through them."""
        got = ask(client, as_json({"object": "list", "data": data}), "models.list", is_foundry=is_foundry)
        assert isinstance(got, openai.InternalServerError)
        assert got.code == "damaged_body"
