"""Contract lines 10 and 12: errors are openai's, with the right status and a message that helps."""

import asyncio
import inspect
import json
from dataclasses import dataclass

import anyio
import openai
import pytest

import shim
from support.raw_server import Close, RawServer, Reset, marked, plain_response, response_head, sse_response
from support.raw_server import Send as SendBytes
from support.streams import DONE, betalgo, conforming, event, stream
from support.talk import FAMILIES, MESSAGES, Client, clients, default_family

TEXT = "Hello world"
SYNC = Client(default_family(), "sync")
BAD_PARAMETER = {
    "code": None,
    "message": "search_options.cc:22 void fl::{anonymous}::ValidateTemperature(float) temperature must be in the range "
    "[0.0, 2.0]",
    "param": None,
    "type": "invalid_request_error",
}
PLAIN = {
    "id": "chatcmpl-9",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": TEXT}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}


@dataclass
class Foundry:
    """A script that answers as a service with models does; chat is what the test makes it."""

    chat: object
    loaded: tuple | list | None = ("a:1", "b:2")
    listed: tuple | list | None = ("a:1",)
    without_streaming: object = None
    lookups: bool = True

    def __call__(self, connection, request):
        if request.method == "GET" and not self.lookups:
            return [Reset()]
        if request.path == "/models/loaded":
            return refusal(404) if self.loaded is None else as_json(self.loaded)
        if request.path == "/openai/loadedmodels":
            return refusal(404)
        if request.path == "/v1/models":
            return refusal(404) if self.listed is None else as_json({"data": [{"id": name} for name in self.listed]})
        if self.without_streaming is not None and not request.json().get("stream"):
            return self.without_streaming
        return self.chat


def as_json(value, status=200):
    return plain_response(json.dumps(value).encode(), status=status)


def refusal(status, body=b"", content_type="text/plain"):
    return plain_response(body, status=status, headers=[("Content-Type", content_type)])


def asked(server):
    """How often each path was asked for."""
    return [f"{request.method} {request.path}" for request in server.requests]


class TestFirstEvent:
    """A stream that begins with an error is the HTTP error that the service gives without streaming."""

    @pytest.mark.parametrize("client", clients(), ids=str)
    def test_bad_parameter_is_a_bad_request(self, client):
        """200 and an error event becomes BadRequestError, its message without the place in the service's source."""
        with RawServer(sse_response([event({"error": BAD_PARAMETER})])) as server:
            answer = client.ask(server.base_url)
            assert len(server.requests) == 1
        assert isinstance(answer.error, openai.BadRequestError)
        assert answer.error.status_code == 400
        assert answer.error.type == "invalid_request_error"
        assert "temperature must be in the range [0.0, 2.0]" in str(answer.error)
        assert "search_options.cc" not in str(answer.error)

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            ({"message": "broken", "type": "server_error"}, openai.InternalServerError),
            ({"message": "slow down", "type": "rate_limit_error"}, openai.RateLimitError),
            ({"message": "who", "type": "authentication_error"}, openai.AuthenticationError),
            ({"message": "odd", "type": "server_error", "code": 422}, openai.UnprocessableEntityError),
            ("only words", openai.InternalServerError),
        ],
    )
    def test_status_follows_from_the_error(self, error, kind):
        """The status follows from what the error says."""
        with RawServer(sse_response([event({"error": error})])) as server:
            answer = SYNC.ask(server.base_url)
        assert type(answer.error) is kind
        assert (error if isinstance(error, str) else error["message"]) in str(answer.error)

    def test_failed_chunk_is_an_error_with_its_status(self):
        """A chunk that says it failed is the error with the status that it names."""
        failed = {**betalgo([""])[0], "Successful": False, "HttpStatusCode": 400, "error": {"message": "no such thing"}}
        with RawServer(sse_response([event(failed), DONE])) as server:
            answer = SYNC.ask(server.base_url)
        assert isinstance(answer.error, openai.BadRequestError)
        assert "no such thing" in str(answer.error)

    @pytest.mark.parametrize("client", clients(), ids=str)
    def test_comments_before_the_error_change_nothing(self, client):
        """Keep-alive comments before the error change nothing."""
        with RawServer(sse_response([b": keep-alive\n\n"] * 3 + [event({"error": BAD_PARAMETER})])) as server:
            answer = client.ask(server.base_url)
        assert isinstance(answer.error, openai.BadRequestError)

    @pytest.mark.parametrize("client", clients(), ids=str)
    def test_later_error_is_raised_after_the_text(self, client):
        """An error behind text is an APIError behind that text, without the place in the service's source."""
        good = conforming()
        with RawServer(sse_response([*map(event, good[:2]), event({"error": BAD_PARAMETER})])) as server:
            answer = client.ask(server.base_url)
        assert type(answer.error) is openai.APIError
        assert answer.text == "Hello"
        assert answer.error.message == "temperature must be in the range [0.0, 2.0]"

    @pytest.mark.parametrize("kind", ["server_error", "rate_limit_error"])
    def test_request_is_never_repeated(self, kind):
        """openai does not repeat a request whose stream has started, whatever status its error stands for."""
        with RawServer(sse_response([event({"error": {"message": "busy", "type": kind}})])) as server:
            SYNC.ask_often(server.base_url, 1, make={"max_retries": 2})
            assert len(server.requests) == 1

    @pytest.mark.parametrize("code", [shim.Repair.ERROR_STATUS, shim.Repair.ERROR_BODY])
    def test_error_is_worse_without_the_repair(self, code):
        """Without the status it is an APIError without one, without the body the message keeps the place."""
        made = {"http_client": shim.http_client(policy=shim.Policy(off=frozenset({code})))}
        with RawServer(sse_response([event({"error": BAD_PARAMETER})])) as server:
            [answer] = SYNC.ask_often(server.base_url, 1, make=made)
        if code is shim.Repair.ERROR_STATUS:
            assert type(answer.error) is openai.APIError
        else:
            assert isinstance(answer.error, openai.BadRequestError)
            assert "search_options.cc" in str(answer.error)

    @pytest.mark.parametrize("mode", ["sync", "async"])
    def test_plain_client_has_no_status(self, mode):
        """The official client alone has no status for it."""
        with RawServer(sse_response([event({"error": BAD_PARAMETER})])) as server:
            answer = Client(default_family(), mode, repaired=False).ask(server.base_url)
        assert type(answer.error) is openai.APIError

    def test_raw_path_raises_the_same(self):
        """The raw path raises the same."""
        with RawServer(sse_response([event({"error": BAD_PARAMETER})])) as server:
            with pytest.raises(openai.BadRequestError, match="temperature must be"):
                list(shim.raw.stream_chat(server.base_url, model="m", messages=MESSAGES))


class TestEmptyStream:
    """Status 200 and no event at all (1.x): the service is asked for the reason, and openai does not ask again."""

    @pytest.mark.parametrize("client", clients(), ids=str)
    @pytest.mark.parametrize("end", ["terminated", "cut", "reset"])
    def test_unknown_model_is_not_found_and_named(self, client, end):
        """A model that is not loaded is NotFoundError: names the model, lists what is loaded, says how to load."""
        with RawServer(Foundry(sse_response([], end=end))) as server:
            [answer] = client.ask_often(server.base_url, 1, make={"max_retries": 2}, model="nope")
            assert asked(server) == ["POST /v1/chat/completions", "GET /models/loaded", "GET /v1/models"]
            assert server.url in str(answer.error)
        assert isinstance(answer.error, openai.NotFoundError)
        assert answer.error.code == "model_not_found"
        for told in ("'nope'", "a:1, b:2", "load the model"):
            assert told in str(answer.error)

    @pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
    def test_reason_is_taken_from_the_request_without_streaming(self, client):
        """Where the model is there, the service tells without streaming what is wrong, and that is the error."""
        words = "This request requires 400012 total tokens"
        told = as_json({"error": {"message": words, "type": "invalid_request_error", "code": None}}, 400)
        with RawServer(Foundry(sse_response([], end="cut"), without_streaming=told)) as server:
            [answer] = client.ask_often(server.base_url, 1, make={"max_retries": 2}, model="a:1")
            assert asked(server).count("POST /v1/chat/completions") == 2
            second = server.requests[-1].json()
        assert isinstance(answer.error, openai.BadRequestError)
        assert words in str(answer.error)
        assert second == {"model": "a:1", "messages": MESSAGES}

    @pytest.mark.parametrize("client", clients(), ids=str)
    def test_answer_without_streaming_is_streamed(self, client):
        """Where the same request works without streaming, its answer is streamed to the client."""
        with RawServer(Foundry(sse_response([]), without_streaming=as_json(PLAIN))) as server:
            answer = client.ask(server.base_url, model="a")  # 1.x takes an id without its version
        assert (answer.error, answer.text, answer.reason) == (None, TEXT, "stop")
        assert {"empty-stream", "not-a-stream"} <= set(answer.report.repairs)

    @pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
    @pytest.mark.parametrize(
        ("loaded", "listed", "posts"), [(("a:1",), None, 2), ((), ("a:1",), 2), (None, ("a:1",), 1), (None, None, 1)]
    )
    def test_unknown_reason_lists_the_known_ones(self, client, loaded, listed, posts):
        """Where nobody knows, the error lists the known reasons; only Foundry Local is asked again, and only once."""
        with RawServer(Foundry(sse_response([]), loaded=loaded, listed=listed)) as server:
            [answer] = client.ask_often(server.base_url, 1, make={"max_retries": 2}, model="a:1")
            assert asked(server).count("POST /v1/chat/completions") == posts
        assert isinstance(answer.error, openai.InternalServerError)
        assert answer.error.code == "empty_stream"
        assert "more tokens" in str(answer.error)
        assert "no messages" in str(answer.error)

    def test_silent_refusal_lists_the_known_reasons(self):
        """1.0.0 says nothing without streaming either: then the known reasons are told."""
        with RawServer(Foundry(sse_response([]), without_streaming=refusal(500))) as server:
            [answer] = SYNC.ask_often(server.base_url, 1, make={"max_retries": 2}, model="a:1")
            assert asked(server).count("POST /v1/chat/completions") == 2
        assert "Known reasons" in str(answer.error)

    @pytest.mark.parametrize("status", [400, 500])
    def test_refusal_is_not_repeated(self, status):
        """Whatever the service says then, openai does not ask for it three times."""
        told = as_json({"error": {"message": "no room", "type": "x"}}, status)
        with RawServer(Foundry(sse_response([]), without_streaming=told)) as server:
            [answer] = SYNC.ask_often(server.base_url, 1, make={"max_retries": 2}, model="a:1")
            assert asked(server).count("POST /v1/chat/completions") == 2
        assert answer.error.status_code == status
        assert "no room" in str(answer.error)

    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize("mode", ["sync", "async"])
    def test_broken_error_body_is_a_connection_error(self, family, mode):
        """An error response whose body is cut is a broken connection, and no connection stays open."""
        cut = [SendBytes(response_head(500, [("Content-Length", "50")], chunked=False) + b"half"), Close()]
        with RawServer(cut) as server:
            answer = Client(family, mode).ask(server.base_url)
            server.wait_until_no_connection_is_open()
        assert isinstance(answer.error, openai.APIConnectionError)

    @pytest.mark.parametrize("client", clients(), ids=str)
    def test_stopped_service_is_reported(self, client):
        """A service that does not answer any more has stopped, and the error says so."""
        with RawServer(Foundry([SendBytes(response_head()), Close()], lookups=False)) as server:
            [answer] = client.ask_often(server.base_url, 1, make={"max_retries": 2}, model="a:1")
            assert asked(server).count("POST /v1/chat/completions") == 1
        assert isinstance(answer.error, openai.InternalServerError)
        assert "has crashed, hung or is overloaded" in str(answer.error)

    def test_missing_model_is_reported_where_none_is_loaded(self):
        """Nothing loaded is said in a sentence."""
        with RawServer(Foundry(sse_response([]), loaded=(), listed=())) as server:
            answer = SYNC.ask(server.base_url, model="nope")
        assert "no model loaded). Load the model first with" in str(answer.error)

    @pytest.mark.parametrize("client", clients(), ids=str)
    def test_another_status_has_its_own_reason_phrase(self, client):
        """A log of the HTTP library shows "404 Not Found", and not "404 OK"."""
        with RawServer(Foundry(sse_response([]), loaded=["m"])) as server:
            [answer] = client.ask_often(server.base_url, 1, model="nope")
        assert (answer.error.response.status_code, answer.error.response.reason_phrase) == (404, "Not Found")

    def test_long_list_of_models_is_cut(self):
        """A long list is cut, and says how much."""
        with RawServer(Foundry(sse_response([]), loaded=[f"m{number}" for number in range(20)])) as server:
            answer = SYNC.ask(server.base_url, model="nope")
        assert "m7 and 12 more" in str(answer.error)

    def test_key_goes_to_the_service_only(self):
        """The look-ups carry the client's key, as they go to the same origin, and nothing else of the request."""
        with RawServer(Foundry(sse_response([]))) as server:
            with shim.OpenAI(base_url=server.base_url, api_key="secret") as client:
                SYNC.ask_with(client, model="nope", messages=MESSAGES)
            lookup = server.requests[1]
        assert lookup.header("authorization") == "Bearer secret"
        assert lookup.body == b""
        assert lookup.header("content-type") is None

    @pytest.mark.parametrize("end", ["terminated", "cut"])
    def test_stream_is_truncated_without_the_repair(self, end):
        """With the repair off, it is a truncated stream or a broken connection, and the service is not asked."""
        made = {"http_client": shim.http_client(policy=shim.Policy(off=frozenset({shim.Repair.EMPTY_STREAM})))}
        with RawServer(Foundry(sse_response([], end=end))) as server:
            [answer] = SYNC.ask_often(server.base_url, 1, make=made, model="nope")
            assert len(server.requests) == 1
        if end == "terminated":
            assert answer.error.code == "stream_truncated"
        else:
            assert not isinstance(answer.error, openai.APIStatusError)

    @pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
    def test_silence_stays_a_timeout(self, client):
        """A service that says nothing is a timeout where the stream is read, asked once."""
        with RawServer(sse_response([], end="held")) as server:
            [answer] = client.ask_often(server.base_url, 1, make={"timeout": 0.2, "max_retries": 2})
            assert len(server.requests) == 1
        assert "Timeout" in type(answer.error).__name__  # openai's own in 3.x, the HTTP library's before

    @pytest.mark.parametrize("family", FAMILIES)
    def test_cancellation_before_the_first_event_closes_the_connection(self, family):
        """A program that gives up while it waits for the first event leaves no connection behind."""

        async def run(server):
            async with Client(family, "async").make(server.base_url) as official:
                asking = asyncio.ensure_future(
                    official.chat.completions.create(model="m", messages=MESSAGES, stream=True)
                )
                await anyio.to_thread.run_sync(server.wait_for_requests, 5)
                await asyncio.sleep(0.05)
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
                await anyio.to_thread.run_sync(server.wait_for_close, 5)

        with RawServer(sse_response([b": wait\n\n"], end="held")) as server:
            asyncio.run(run(server))
            assert server.open_connections == 0

    def test_raw_path_raises_the_same(self):
        """The raw path raises the same."""
        with RawServer(Foundry(sse_response([], end="cut"))) as server:
            with pytest.raises(openai.NotFoundError, match="'nope'"):
                list(shim.raw.stream_chat(server.base_url, model="nope", messages=MESSAGES))


class TestErrorStatus:
    """Responses with an error status, streamed or not: OpenAI's error object, whatever came."""

    @pytest.mark.parametrize("streamed", [True, False])
    @pytest.mark.parametrize("mode", ["sync", "async"])
    @pytest.mark.parametrize(
        ("script", "kind", "words"),
        [
            (refusal(400, b"Something is wrong"), openai.BadRequestError, "Something is wrong"),
            (refusal(500), openai.InternalServerError, "POST /v1/chat/completions"),
            (refusal(404, b'"Nothing here"', "application/json"), openai.NotFoundError, "Nothing here"),
            (as_json({"detail": "Not allowed"}, 403), openai.PermissionDeniedError, "Not allowed"),
            (as_json({"error": {**BAD_PARAMETER}}, 400), openai.BadRequestError, "400 - temperature must"),
        ],
    )
    def test_message_reads_the_same_in_every_major(self, mode, streamed, script, kind, words):
        """str(error) tells the story in every major, in 3.x too."""
        error = ask_for_error(mode, marked(script), stream=streamed)
        assert type(error) is kind
        if openai.__version__.startswith("3"):
            assert words in str(error)
        assert words.removeprefix("400 - ") in error.body["message"]

    @pytest.mark.parametrize("mode", ["sync", "async"])
    @pytest.mark.parametrize("streamed", [True, False])
    @pytest.mark.parametrize(
        "script",
        [
            refusal(400, b"No OpenAIService provider found for modelName:nope"),
            as_json({"error": {"message": "Model 'nope' is not loaded. Please load it.", "code": None}}, 400),
            as_json({"error": {"message": "Model not found: No model matching 'nope'", "type": "x"}}, 404),
            refusal(500),  # 1.0.0
        ],
    )
    def test_unknown_model_is_not_found_however_it_is_said(self, mode, streamed, script):
        """Every way to say that a model is unknown is NotFoundError, with what is loaded."""
        error = ask_for_error(mode, Foundry(script), stream=streamed, model="nope")
        assert isinstance(error, openai.NotFoundError)
        assert error.code == "model_not_found"
        assert "a:1, b:2" in str(error)

    def test_words_of_the_service_stay(self):
        """What the service says of the model is kept beside what the shim adds."""
        script = as_json({"error": {"message": "Model not loaded: 'a:1' must be loaded before inference"}}, 400)
        error = ask_for_error("sync", Foundry(script), model="a:1")
        assert isinstance(error, openai.NotFoundError)
        assert "must be loaded before inference" in str(error)

    def test_silent_failure_of_a_known_model_keeps_its_status(self):
        """A service that says nothing about a model that it has failed in some other way."""
        error = ask_for_error("sync", Foundry(refusal(500)), model="a:1")
        assert isinstance(error, openai.InternalServerError)

    def test_failed_look_up_keeps_the_status(self):
        """Where the service does not tell its models, its own error is raised."""
        script = as_json({"error": {"message": "Model 'nope' is not loaded"}}, 400)
        error = ask_for_error("sync", Foundry(script, lookups=False), model="nope")
        assert isinstance(error, openai.BadRequestError)
        assert "is not loaded" in str(error)

    def test_proper_error_leaves_as_it_came(self):
        """OpenAI's own error object is not touched, to the byte."""
        body = b'{"error": {"message": "no", "type": "invalid_request_error", "param": "x", "code": "y"}}'
        with RawServer(plain_response(body, status=400)) as server:
            with FAMILIES[default_family()].Client(
                transport=shim.RepairTransport(FAMILIES[default_family()].HTTPTransport())
            ) as client:
                answer = client.post(f"{server.base_url}/chat/completions", json={"messages": []})
        assert answer.content == body
        assert not shim.report(answer).repairs

    def test_errors_of_other_paths_pass_through(self):
        """Only the paths that the shim repairs are touched at all, errors included."""
        with RawServer(marked(refusal(404, b"nothing"))) as server, shim.OpenAI(base_url=server.base_url) as client:
            with pytest.raises(openai.NotFoundError) as caught:
                client.completions.create(model="m", prompt="x")
        assert caught.value.body == "nothing"
        assert shim.report(caught.value) is None

    def test_status_stays_with_the_repair_off(self):
        """With the repair off the status of an unknown model stays the service's."""
        off = shim.http_client(policy=shim.Policy(off=frozenset({shim.Repair.ERROR_STATUS})))
        script = as_json({"error": {"message": "Model 'nope' is not loaded"}}, 400)
        error = ask_for_error("sync", Foundry(script), model="nope", make={"http_client": off})
        assert isinstance(error, openai.BadRequestError)

    def test_failure_in_a_plain_200_is_raised(self):
        """A Betalgo body that says it failed is an error, not a completion without choices."""
        body = {"Successful": False, "HttpStatusCode": 400, "error": {"message": "no room"}, "choices": None}
        error = ask_for_error("sync", as_json(body))
        assert isinstance(error, openai.BadRequestError)
        assert "no room" in str(error)


def ask_for_error(mode, script, *, model="m", make=None, **parameters):
    """The exception that a request without any retries ends in."""
    options = {"model": model, "messages": MESSAGES, **parameters}
    with RawServer(script) as server:
        official = Client(default_family(), mode).make(server.base_url, **(make or {}))
        with pytest.raises(openai.APIError) as caught:
            anyio.run(create, official, options)
    return caught.value


async def create(official, options):
    """Ask a client of either kind."""
    answer = official.chat.completions.create(**options)
    if inspect.isawaitable(answer):
        async with official:
            await answer


class TestNotAStream:
    """`stream: true` answered with one plain completion."""

    @pytest.mark.parametrize("client", clients(), ids=str)
    @pytest.mark.parametrize("indent", [None, 2])
    def test_plain_answer_arrives_as_chunks(self, client, indent):
        """The answer arrives as chunks with a proper end."""
        body = json.dumps(PLAIN, indent=indent).encode()
        with RawServer(plain_response(body)) as server:
            answer = client.ask(server.base_url, stream_options={"include_usage": True})
        assert (answer.error, answer.text, answer.reason) == (None, TEXT, "stop")
        assert answer.ids == {"chatcmpl-9"}
        assert answer.chunks[-1].usage.total_tokens == 3
        assert "not-a-stream" in answer.report.repairs

    def test_plain_client_sees_nothing(self):
        """The official client alone finds nothing, and says nothing."""
        with RawServer(as_json(PLAIN)) as server:
            answer = Client(default_family(), "sync", repaired=False).ask(server.base_url)
        assert (answer.error, answer.chunks) == (None, [])


class TestStalled:
    """`Policy(stream_deadline=…)`: a stream that does not start is asked for again without streaming."""

    def policy(self, **options):
        return shim.Policy(stream_deadline=0.3, **options)

    def make(self, mode, **options):
        make = shim.http_client if mode == "sync" else shim.async_http_client
        return {"http_client": make(policy=self.policy(**options))}

    @pytest.mark.parametrize("client", [c for c in clients() if c.family == default_family()], ids=str)
    def test_stalled_stream_is_answered_and_remembered(self, client):
        """The answer comes all the same, and the model is remembered: the second time nothing is waited for."""
        with RawServer(hangs_when_streamed) as server:
            answers = client.ask_often(server.base_url, 2, make=self.make(client.mode))
            assert [request.json().get("stream") for request in server.requests] == [True, None, None]
        assert [(answer.error, answer.text) for answer in answers] == [(None, TEXT)] * 2
        assert all(answer.report.repairs["stalled"] == 1 for answer in answers)

    def test_other_models_are_still_streamed(self):
        """What is remembered is the model at that address."""
        with RawServer(hangs_when_streamed) as server:
            with shim.OpenAI(base_url=server.base_url, max_retries=0, **self.make("sync")) as official:
                for model in ("a", "b", "a"):
                    SYNC.ask_with(official, model=model, messages=MESSAGES)
            streamed = [r.json()["model"] for r in server.requests if r.json().get("stream")]
        assert streamed == ["a", "b"]

    @pytest.mark.parametrize("client", [c for c in clients(helpers=("create",)) if c.family == default_family()])
    def test_slow_stream_that_has_started_is_waited_for(self, client):
        """The deadline is for the first byte: what comes later may take its time."""

        def slow(connection, _request):
            connection.send(response_head())
            connection.sleep(0.6)
            connection.play(sse_response([stream(conforming())])[1:])

        with RawServer(slow) as server:
            [answer] = client.ask_often(server.base_url, 1, make=self.make(client.mode))
            assert len(server.requests) == 1
        assert (answer.error, answer.text) == (None, TEXT)
        assert not answer.report.repairs["stalled"]

    @pytest.mark.parametrize("off", [{"off": frozenset({shim.Repair.STALLED})}, {"stream_deadline": None}])
    def test_timeout_of_the_client_decides_without_a_deadline(self, off):
        """Without a deadline, or with the repair off, the client's own timeout decides."""
        made = shim.http_client(policy=shim.Policy(**{"stream_deadline": 0.1, **off}))
        with RawServer(hangs_when_streamed) as server:
            [answer] = SYNC.ask_often(server.base_url, 1, make={"http_client": made, "timeout": 0.4})
            assert len(server.requests) == 1
        assert isinstance(answer.error, openai.APITimeoutError)

    def test_other_errors_are_not_stalls(self):
        """A refused connection is a refused connection."""
        with RawServer([Close()]) as server:
            base_url = server.base_url
        [answer] = SYNC.ask_often(base_url, 1, make=self.make("sync"))
        assert isinstance(answer.error, openai.APIConnectionError)

    def test_strict_policy_reports_the_stall(self):
        """A strict policy tells instead."""
        with RawServer(hangs_when_streamed) as server:
            [answer] = SYNC.ask_often(server.base_url, 1, make=self.make("sync", strict=True))
        assert answer.error.code == "repair_refused"
        assert "stalled" in str(answer.error)


def hangs_when_streamed(connection, request):
    if request.json().get("stream"):
        connection.hold()
    return as_json(PLAIN)


TOOLS = [
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
    {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "required": ["x"]}}},
    {"type": "function", "function": {"name": "g"}},
    {"type": "custom", "custom": {"name": "h"}},
]


class TestRequestTools:
    """0.8.113 refuses a function without `parameters.required`."""

    def sent(self, policy=None, **parameters):
        policy = policy or shim.Policy(foundry=True)
        with RawServer(sse_response([stream(conforming())])) as server:
            made = {"http_client": shim.http_client(policy=policy)}
            [answer] = SYNC.ask_often(server.base_url, 1, make=made, tools=TOOLS, **parameters)
            return server.requests[0], answer

    def test_required_is_added(self):
        """It is added where it is missing, and nothing else is changed."""
        request, answer = self.sent(temperature=0.5)
        sent = request.json()
        assert sent["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}, "required": []}
        assert sent["tools"][1:] == TOOLS[1:]
        assert sent["temperature"] == 0.5
        assert int(request.header("content-length")) == len(request.body)
        assert answer.report.repairs["request-tools"] == 1

    def test_request_is_unchanged_with_the_repair_off(self):
        """With the repair off the request is the program's."""
        request, answer = self.sent(shim.Policy(foundry=True, off=frozenset({shim.Repair.REQUEST_TOOLS})))
        assert request.json()["tools"] == TOOLS
        assert answer.text == TEXT

    def test_strict_policy_reports_the_missing_field(self):
        """A strict policy sends the program's request and tells."""
        request, answer = self.sent(shim.Policy(foundry=True, strict=True))
        assert request.json()["tools"] == TOOLS
        assert answer.error.code == "repair_refused"

    def test_strict_policy_reports_it_without_streaming(self):
        """The same for a plain request, which openai does not repeat."""
        made = shim.http_client(policy=shim.Policy(foundry=True, strict=True))
        with RawServer(as_json(PLAIN)) as server:
            with shim.OpenAI(base_url=server.base_url, http_client=made) as client:
                with pytest.raises(openai.InternalServerError, match="request-tools"):
                    client.chat.completions.create(model="m", messages=MESSAGES, tools=TOOLS[:1])
            assert len(server.requests) == 1


class TestStrict:
    """2.2 refuses `strict: true` in a function, which openai's own helpers send."""

    message = (
        "Invalid request: tool_definitions.cc:170 std::optional<bool> fl::tools::ParseFunctionStrict(const "
        "nlohmann::json&) function tool 'strict' true is not supported until constrained decoding is implemented"
    )

    def service(self, connection, request):
        """A service that refuses it wherever it may stand."""
        if any({**tool, **tool.get("function", {})}.get("strict") for tool in request.json()["tools"]):
            return as_json({"error": {"message": self.message, "type": "invalid_request_error"}}, 400)
        if request.path.endswith("/responses"):
            return as_json({"id": "r", "object": "response", "output": []})
        return sse_response([stream(conforming())]) if request.json().get("stream") else as_json(PLAIN)

    def tools(self):
        function = {"name": "f", "strict": True, "parameters": {"type": "object", "properties": {}, "required": []}}
        return [{"type": "function", "function": function}, {"type": "function", "function": {"name": "g"}}]

    @pytest.mark.parametrize("client", clients(helpers=("create",)), ids=str)
    def test_asked_again_without_once(self, client):
        """The answer comes, and from then on the service is not asked for it any more."""
        with RawServer(self.service) as server:
            answers = client.ask_often(server.base_url, 2, tools=self.tools())
            sent = [request.json()["tools"] for request in server.requests]
        assert [(answer.error, answer.text) for answer in answers] == [(None, TEXT)] * 2
        lenient = self.tools()
        del lenient[0]["function"]["strict"]
        assert sent == [self.tools(), lenient, lenient]
        assert [answer.report.repairs["request-strict"] for answer in answers] == [1, 1]

    def test_plain_answers_and_responses_are_asked_again(self):
        """The same without streaming, and where a tool is the function itself."""
        with RawServer(self.service) as server, shim.OpenAI(base_url=server.base_url) as client:
            assert client.chat.completions.create(model="m", messages=MESSAGES, tools=self.tools()).choices
            tool = {"type": "function", **self.tools()[0]["function"]}
            assert client.responses.create(model="m", input="Hi", tools=[tool]).id == "r"

    @pytest.mark.parametrize("policy", [{"off": frozenset({shim.Repair.REQUEST_STRICT})}, {"strict": True}])
    def test_refusal_stays_where_the_repair_is_not_wanted(self, policy):
        """With the repair off, and under a strict policy, the refusal is what the program gets."""
        with RawServer(self.service) as server:
            made = {"http_client": shim.http_client(policy=shim.Policy(**policy)), "max_retries": 0}
            [answer] = SYNC.ask_often(server.base_url, 1, make=made, tools=self.tools())
            assert len(server.requests) == 1
        assert isinstance(answer.error, openai.BadRequestError)
        assert "'strict' true is not supported" in str(answer.error)

    def test_second_refusal_is_the_answer(self):
        """A service that says so of a request without it is not asked for ever."""
        with RawServer(as_json({"error": {"message": self.message}}, 400)) as server:
            answer = SYNC.ask(server.base_url, tools=self.tools())
            assert len(server.requests) == 2
        assert isinstance(answer.error, openai.BadRequestError)


class TestModelAlias:
    """A name that the service refuses, and that stands for one of its models."""

    loaded = ("Phi-4-mini-instruct-generic-cpu:5", "qwen2.5-0.5b-instruct-generic-cpu:4")

    def service(self, refused):
        """A service that knows ids only, and refuses other names in the given way."""
        foundry = Foundry(refused, loaded=self.loaded, listed=self.loaded)

        def script(connection, request):
            if request.method == "POST" and request.json()["model"] in self.loaded:
                plain = as_json({**PLAIN, "model": request.json()["model"]})
                return sse_response([*map(event, conforming()), DONE]) if request.json().get("stream") else plain
            return foundry(connection, request)

        return script

    @pytest.mark.parametrize("client", clients(), ids=str)
    @pytest.mark.parametrize(
        "refused",
        [
            sse_response([], end="cut"),
            sse_response([event({"error": {"message": "Model not found: No model matching 'phi-4-mini'"}})]),
            as_json({"error": {"message": "Model not found: No model matching 'phi-4-mini'"}}, 404),
        ],
    )
    def test_asked_again_with_the_id_once(self, client, refused):
        """The alias of one model is as good as its id, and is looked up only once."""
        with RawServer(self.service(refused)) as server:
            answers = client.ask_often(server.base_url, 2, model="phi-4-mini")
            models = [request.json()["model"] for request in server.requests if request.method == "POST"]
        assert [(answer.error, answer.text) for answer in answers] == [(None, TEXT)] * 2
        assert models == ["phi-4-mini", self.loaded[0], self.loaded[0]]
        assert answers[1].report.repairs["model-alias"] == 1

    def test_plain_request_is_asked_again_with_the_id(self):
        """The same for a plain request."""
        refused = as_json({"error": {"message": "Model 'phi-4-mini' is not loaded"}}, 400)
        with RawServer(self.service(refused)) as server, shim.OpenAI(base_url=server.base_url) as client:
            answer = client.chat.completions.create(model="phi-4-mini", messages=MESSAGES)
        assert answer.model == self.loaded[0]

    @pytest.mark.parametrize("model", ["q", "qwen2", "phi-4-mini-instruct-generic-cpu:6", "nope"])
    def test_other_names_are_not_resolved(self, model):
        """Half a word, or another version of a model, is not taken for one."""
        script = self.service(sse_response([], end="cut"))
        with RawServer(script) as server:
            answer = SYNC.ask(server.base_url, model=model)
        assert isinstance(answer.error, openai.NotFoundError)

    def test_ambiguous_alias_lists_the_candidates(self):
        """Where it stands for several, the error lists them."""
        several = ("phi-4-mini-instruct-generic-cpu:5", "phi-4-mini-instruct-generic-gpu:5")
        with RawServer(Foundry(sse_response([]), loaded=several, listed=several)) as server:
            answer = SYNC.ask(server.base_url, model="phi-4-mini")
        assert isinstance(answer.error, openai.NotFoundError)
        assert f"stands for several: {', '.join(several)}" in str(answer.error)

    def test_remembered_id_that_is_refused_is_forgotten(self):
        """What was remembered is forgotten when the service refuses it."""
        present = list(self.loaded)

        def script(connection, request):
            self.loaded = tuple(present)
            return self.service(sse_response([], end="cut"))(connection, request)

        with RawServer(script) as server, shim.OpenAI(base_url=server.base_url, max_retries=0) as client:
            first = SYNC.ask_with(client, model="phi-4-mini", messages=MESSAGES)
            present.pop(0)
            gone = SYNC.ask_with(client, model="phi-4-mini", messages=MESSAGES)
            present.append("phi-4-mini-instruct-generic-gpu:1")
            back = SYNC.ask_with(client, model="phi-4-mini", messages=MESSAGES)
        assert first.text == back.text == TEXT
        assert isinstance(gone.error, openai.NotFoundError)

    def test_alias_is_refused_with_the_repair_off(self):
        """With the repair off the name is refused."""
        made = {"http_client": shim.http_client(policy=shim.Policy(off=frozenset({shim.Repair.MODEL_ALIAS})))}
        with RawServer(self.service(sse_response([], end="cut"))) as server:
            [answer] = SYNC.ask_often(server.base_url, 1, make=made, model="phi-4-mini")
        assert isinstance(answer.error, openai.NotFoundError)
