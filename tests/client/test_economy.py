"""Contract line 12: one request is one request. What the service is asked is counted where it arrives."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import openai
import pytest

import shim
from support.either import awaited, each
from support.raw_server import Close, Hold, RawServer, Reset, Script, in_turn, marked, plain_response, sse_response
from support.response_events import message, response
from support.streams import conforming, event, stream
from support.talk import MESSAGES, Client, default_family

TEXT = "Hello world"
MODEL = "qwen2.5-0.5b-instruct-generic-cpu:4"
ALIAS = "qwen2.5-0.5b"
RETRIES = 2
MODES = ("sync", "async")
PLAIN = {
    "id": "chatcmpl-9",
    "object": "chat.completion",
    "created": 1,
    "model": MODEL,
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": TEXT}}],
}
LOOK_UP = ["/models/loaded", "/v1/models"]
STRICT = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "object"}}}


def as_json(value: Any, status: int = 200) -> Script:
    return marked(plain_response(json.dumps(value).encode(), status))


def error(message: str, status: int, **fields: Any) -> Script:
    return as_json({"error": {"message": message, "type": "x", **fields}}, status)


CUT = sse_response([], end="cut")
EMPTY = sse_response([])
RESET = [Reset()]
CLOSED = [Close()]
SILENT = plain_response(b"")
SILENT_500 = plain_response(b"", 500)
BUSY = error("out of memory", 500)
LIMITED = error("slow down", 429)
ASKS_FOR_A_REPEAT = marked(
    plain_response(b'{"error": {"message": "busy"}}', 500, [("X-Should-Retry", "true"), ("Retry-After-Ms", "1")])
)
NO_ROOM = error("no room", 400)
UNKNOWN = error(f"Model not found: No model matching '{ALIAS}'", 404)
UNKNOWN_1X = error(f"Model '{ALIAS}' is not loaded. Please load the model before getting a ChatClient.", 400)
UNKNOWN_IN_A_STREAM = sse_response([event({"error": {"message": f"Model not found: No model matching '{ALIAS}'"}})])
STRICT_REFUSED = error("function tool 'strict' true is not supported until constrained decoding is implemented", 400)
FAILED_200 = as_json({"Successful": False, "HttpStatusCode": 500, "error": {"message": "broken"}, "choices": None})
LIMITED_200 = as_json({"error": {"message": "slow down", "code": 429}})
FAILED_STREAM = sse_response([event({"error": {"message": "out of memory", "type": "server_error"}})])
ANSWER = sse_response([stream(conforming())])
PLAIN_ANSWER = as_json(PLAIN)


@dataclass
class Foundry:
    """A service that answers each POST with the next script, the last one again and again, and lists its models."""

    posts: tuple[Script, ...]
    loaded: tuple[str, ...] = (MODEL,)
    lookups: bool = True

    def __post_init__(self) -> None:
        self.play = in_turn(*self.posts)

    def __call__(self, connection, request):
        if request.method == "POST":
            return self.play(connection, request) if callable(self.play) else self.play
        if not self.lookups:
            return RESET
        if request.path == "/models/loaded":
            return plain_response(json.dumps(self.loaded).encode())
        if request.path == "/v1/models":
            return plain_response(json.dumps({"data": [{"id": name} for name in self.loaded]}).encode())
        return plain_response(b"", 404)


@dataclass
class Asked:
    """What a program got, and what the service was asked for it."""

    text: str
    error: BaseException | None
    posts: list[dict[str, Any]]
    gets: list[str]


def ask(mode: str, service: Callable[..., Any], *, make: dict[str, Any] | None = None, **parameters: Any) -> Asked:
    """Ask once, with a client that may repeat the request twice."""
    parameters = {"model": MODEL, "stream": True, **parameters}

    async def run(base_url):
        client = Client(default_family(), mode).make(base_url, max_retries=RETRIES, **(make or {}))
        text, failure = "", None
        try:
            answer = await awaited(client.chat.completions.create(messages=MESSAGES, **parameters))
            if parameters["stream"]:
                async for chunk in each(answer):
                    text += chunk.choices[0].delta.content or ""
            else:
                text = answer.choices[0].message.content
        except Exception as raised:  # noqa: BLE001 - the test looks at it
            failure = raised
        await awaited(client.close())
        return text, failure

    with RawServer(service) as server:
        text, failure = anyio.run(run, server.base_url)
        posts = [request.json() for request in server.requests if request.method == "POST"]
        gets = [request.path for request in server.requests if request.method == "GET"]
    return Asked(text, failure, posts, gets)


# What the first request and further ones are answered with, how often the service is asked in all, and what the program
# gets: a status, or the connection's error where there is none.
AFTER_AN_EMPTY_STREAM = [
    pytest.param(first, second, status, id=f"{name} then {then}")
    for name, first in (("cut", CUT), ("reset", sse_response([], end="reset")), ("empty", EMPTY))
    for then, second, status in (
        ("cut", CUT, 500),
        ("reset", RESET, 500),
        ("closed", CLOSED, 500),
        ("empty", SILENT, 500),
        ("empty 500", SILENT_500, 500),
        ("500", BUSY, 500),
        ("429", LIMITED, 429),
        ("500 that asks for a repeat", ASKS_FOR_A_REPEAT, 500),
        ("400", NO_ROOM, 400),
        ("an error with status 200", FAILED_200, 500),
        ("no JSON", plain_response(b"<html>"), 500),
    )
]


@pytest.mark.parametrize("mode", MODES)
class TestEmptyStream:
    """The same request without streaming tells why, once."""

    @pytest.mark.parametrize(("first", "second", "status"), AFTER_AN_EMPTY_STREAM)
    def test_failing_repeat_is_the_last_request(self, mode, first, second, status):
        """However the second request fails, openai does not repeat the first."""
        asked = ask(mode, Foundry((first, second)))
        assert [post.get("stream") for post in asked.posts] == [True, None]
        assert asked.gets == LOOK_UP
        assert isinstance(asked.error, openai.APIStatusError)
        assert asked.error.status_code == status

    def test_answer_is_streamed(self, mode):
        """Where the second request is answered, the program gets that."""
        asked = ask(mode, Foundry((CUT, PLAIN_ANSWER)))
        assert (asked.text, asked.error, len(asked.posts)) == (TEXT, None, 2)

    @pytest.mark.parametrize("first", [CUT, EMPTY], ids=["cut", "empty"])
    def test_response_is_streamed(self, mode, first):
        """The same at `/v1/responses`: what the second request is answered with arrives as events."""

        async def run(base_url):
            client = Client(default_family(), mode).make(base_url, max_retries=RETRIES)
            answer = await awaited(client.responses.create(model=MODEL, input="Hi", stream=True))
            events = [one async for one in each(answer)]
            await awaited(client.close())
            return events

        answer = as_json(response("completed", message(TEXT)))
        with RawServer(Foundry((first, answer))) as server:
            events = anyio.run(run, server.base_url)
            posts = [request.json() for request in server.requests if request.method == "POST"]
        assert [post.get("stream") for post in posts] == [True, None]
        assert (events[-1].type, events[-1].response.output_text) == ("response.completed", TEXT)

    def test_service_that_is_gone_is_not_asked_again(self, mode):
        """A service that does not answer the look-up either is not sent the request again."""
        asked = ask(mode, Foundry((CUT,), lookups=False))
        assert (len(asked.posts), asked.gets) == (1, ["/models/loaded"])
        assert asked.error.code == "empty_stream"

    def test_request_for_a_plain_answer_is_not_repeated(self, mode):
        """An empty body with status 200 leaves nothing to try."""
        asked = ask(mode, Foundry((SILENT,)), stream=False)
        assert (len(asked.posts), asked.gets) == (1, LOOK_UP)
        assert asked.error.code == "empty_stream"

    def test_responses_are_asked_for_as_often(self, mode):
        """The same at `/v1/responses`."""

        async def run(base_url):
            client = Client(default_family(), mode).make(base_url, max_retries=RETRIES)
            with pytest.raises(openai.InternalServerError):
                await awaited(client.responses.create(model=MODEL, input="Hi", stream=True))
            await awaited(client.close())

        with RawServer(Foundry((CUT, BUSY))) as server:
            anyio.run(run, server.base_url)
            posts = [request.json() for request in server.requests if request.method == "POST"]
        assert [post.get("stream") for post in posts] == [True, None]


@pytest.mark.parametrize("mode", MODES)
class TestErrorWithStatus200:
    """The official client would not repeat a success, so it does not repeat the error that it was."""

    @pytest.mark.parametrize(
        ("script", "status"),
        [
            (FAILED_200, 500),
            (LIMITED_200, 429),
            (as_json({"error": "overloaded"}), 500),
            (as_json({"detail": "down"}), 500),
            (as_json({"object": "error", "message": "busy", "code": 503}), 503),
            (plain_response(b"<html>bad gateway</html>"), 500),
            (plain_response(b'{"choices": null}'), 500),
        ],
    )
    def test_plain_body_is_asked_for_once(self, mode, script, status):
        """Whatever status it stands for."""
        asked = ask(mode, Foundry((script,)), stream=False)
        assert (len(asked.posts), asked.gets) == (1, [])
        assert asked.error.status_code == status
        assert type(asked.error.status_code) is int

    @pytest.mark.parametrize(
        ("script", "status"),
        [
            (FAILED_STREAM, 500),
            (sse_response([event({"error": {"message": "slow down", "type": "rate_limit_error"}})]), 429),
            (sse_response([b"event: error\ndata: overloaded\n\n"]), 500),
            (LIMITED_200, 429),
        ],
    )
    def test_stream_is_asked_for_once(self, mode, script, status):
        """The same for the first event of a stream, and for a plain error in its place."""
        asked = ask(mode, Foundry((script,)))
        assert (len(asked.posts), asked.gets) == (1, [])
        assert asked.error.status_code == status

    def test_broken_stream_is_asked_for_once(self, mode):
        """A stream that has started is never repeated."""
        asked = ask(mode, Foundry((sse_response(list(map(event, conforming()[:2])), end="cut"),)))
        assert (asked.text, len(asked.posts), asked.gets) == ("Hello", 1, [])
        assert asked.error is not None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("streamed", [True, False])
class TestUnknownModel:
    """A name that the service does not know is replaced with an id once, and an error otherwise."""

    refusals = pytest.mark.parametrize("refusal", [UNKNOWN, UNKNOWN_1X, SILENT_500], ids=["2.x", "1.x", "1.0.0"])

    @refusals
    def test_model_that_is_not_there_is_asked_for_once(self, mode, streamed, refusal):
        """Nothing can stand for it: one request, one look-up."""
        asked = ask(mode, Foundry((refusal,), loaded=("other:1",)), stream=streamed, model=ALIAS)
        assert (len(asked.posts), asked.gets) == (1, LOOK_UP)
        assert isinstance(asked.error, openai.NotFoundError)

    @refusals
    @pytest.mark.parametrize(
        ("second", "status"),
        [
            (BUSY, 500),
            (LIMITED, 429),
            (ASKS_FOR_A_REPEAT, 500),
            (NO_ROOM, 400),
            (FAILED_200, 500),
            (RESET, 404),
            (UNKNOWN, 404),
        ],
        ids=["500", "429", "500 that asks for a repeat", "400", "an error with status 200", "reset", "refused again"],
    )
    def test_failing_repeat_is_the_last_request(self, mode, streamed, refusal, second, status):
        """The request with the id is sent once, whatever it is answered with."""
        asked = ask(mode, Foundry((refusal, second)), stream=streamed, model=ALIAS)
        assert [post["model"] for post in asked.posts] == [ALIAS, MODEL]
        assert asked.gets == LOOK_UP
        assert asked.error.status_code == status

    def test_first_event_of_a_stream_is_a_refusal_as_well(self, mode, streamed):
        """The same where the refusal has status 200."""
        refusal = UNKNOWN_IN_A_STREAM if streamed else as_json({"error": {"message": "Model not found: x"}})
        asked = ask(mode, Foundry((marked(refusal) if streamed else refusal, BUSY)), stream=streamed, model=ALIAS)
        assert [post["model"] for post in asked.posts] == [ALIAS, MODEL]
        assert isinstance(asked.error, openai.InternalServerError)

    def test_id_whose_stream_is_empty_is_asked_without_streaming(self, mode, streamed):
        """Two causes: three requests, none of them twice."""
        asked = ask(mode, Foundry((CUT if streamed else SILENT_500, CUT, CUT)), stream=streamed, model=ALIAS)
        sent = [(ALIAS, True), (MODEL, True), (MODEL, None)] if streamed else [(ALIAS, False), (MODEL, False)]
        assert [(post["model"], post.get("stream")) for post in asked.posts] == sent
        assert asked.gets == LOOK_UP
        assert asked.error is not None


@pytest.mark.parametrize("mode", MODES)
class TestStrict:
    """`strict` is taken off once."""

    @pytest.mark.parametrize(
        ("second", "status"),
        [(BUSY, 500), (LIMITED, 429), (STRICT_REFUSED, 400), (RESET, 400), (FAILED_STREAM, 500)],
        ids=["500", "429", "refused again", "reset", "an error in the stream"],
    )
    def test_failing_repeat_is_the_last_request(self, mode, second, status):
        """However it fails, nothing is sent a third time."""
        asked = ask(mode, Foundry((STRICT_REFUSED, second)), tools=[STRICT])
        assert len(asked.posts) == 2
        assert asked.error.status_code == status

    def test_unknown_model_as_well(self, mode):
        """Two causes, one look-up."""
        asked = ask(mode, Foundry((STRICT_REFUSED, UNKNOWN, BUSY)), tools=[STRICT], model=ALIAS)
        assert [post["model"] for post in asked.posts] == [ALIAS, ALIAS, MODEL]
        assert asked.gets == LOOK_UP
        assert isinstance(asked.error, openai.InternalServerError)

    def test_unknown_model_and_an_empty_stream_as_well(self, mode):
        """Three causes: four requests at most, each of them another one."""
        asked = ask(mode, Foundry((STRICT_REFUSED, UNKNOWN, CUT, CUT)), tools=[STRICT], model=ALIAS)
        assert len(asked.posts) == len({json.dumps(post) for post in asked.posts}) == 4
        assert asked.gets == LOOK_UP
        assert asked.error.code == "empty_stream"

    def test_answer_after_three_causes(self, mode):
        """What helps in the end is the answer."""
        asked = ask(mode, Foundry((STRICT_REFUSED, UNKNOWN, CUT, PLAIN_ANSWER)), tools=[STRICT], model=ALIAS)
        assert (asked.text, asked.error, len(asked.posts)) == (TEXT, None, 4)


@pytest.mark.parametrize("mode", MODES)
class TestStalled:
    """A stream that does not start is asked for without streaming once."""

    HANGS = (Hold(),)

    def ask(self, mode, *posts, **parameters):
        make = shim.http_client if mode == "sync" else shim.async_http_client
        made = {"http_client": make(policy=shim.Policy(stream_deadline=0.2))}
        return ask(mode, Foundry((self.HANGS, *posts)), make=made, **parameters)

    @pytest.mark.parametrize(
        ("second", "status"),
        [
            (BUSY, 500),
            (LIMITED, 429),
            (NO_ROOM, 400),
            (RESET, 504),
            (FAILED_200, 500),
            (SILENT, 500),
            (SILENT_500, 500),
        ],
        ids=["500", "429", "400", "reset", "an error with status 200", "empty", "empty 500"],
    )
    def test_failing_repeat_is_the_last_request(self, mode, second, status):
        """Otherwise openai would wait three times, and ask six."""
        asked = self.ask(mode, second)
        assert [post.get("stream") for post in asked.posts] == [True, None]
        assert asked.error.status_code == status

    def test_other_causes_are_tried_without_streaming(self, mode):
        """What is repeated after that does not stall again."""
        asked = self.ask(mode, STRICT_REFUSED, UNKNOWN, PLAIN_ANSWER, tools=[STRICT], model=ALIAS)
        assert [post.get("stream") for post in asked.posts] == [True, None, None, None]
        assert (asked.text, asked.error) == (TEXT, None)


@pytest.mark.parametrize("mode", MODES)
class TestRetriesOfTheOfficialClient:
    """Where the shim repeats nothing, `max_retries` holds as without it."""

    @pytest.mark.parametrize("streamed", [True, False])
    @pytest.mark.parametrize("script", [BUSY, LIMITED, RESET, CLOSED], ids=["500", "429", "reset", "closed"])
    def test_first_request_is_repeated(self, mode, streamed, script):
        """The error of a service or of the connection is worth another try."""
        asked = ask(mode, Foundry((script, script, script)), stream=streamed)
        assert len(asked.posts) == 1 + RETRIES
        assert isinstance(asked.error, openai.APIError)

    def test_answer_to_the_second_try_arrives(self, mode):
        """A service that was busy once."""
        asked = ask(mode, Foundry((BUSY, ANSWER)))
        assert (asked.text, asked.error, len(asked.posts)) == (TEXT, None, 2)

    @pytest.mark.parametrize("script", [NO_ROOM, error("who", 401), error("no", 422)], ids=["400", "401", "422"])
    def test_refused_request_is_not_repeated(self, mode, script):
        """What openai does not repeat without the shim is asked once."""
        assert len(ask(mode, Foundry((script,))).posts) == 1

    def test_each_try_has_its_own_repeat(self, mode):
        """The first try fails, the second is refused and repeated: no body is sent twice within one try."""
        asked = ask(mode, Foundry((BUSY, UNKNOWN, ANSWER)), model=ALIAS)
        assert [post["model"] for post in asked.posts] == [ALIAS, ALIAS, MODEL]
        assert (asked.text, asked.error) == (TEXT, None)
