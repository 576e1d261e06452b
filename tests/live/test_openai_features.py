"""What the official client offers beyond a plain stream, on the real services: it works as OpenAI's documentation says.

What a real service cannot be made to do, and what is about the request, is shown on a server of raw sockets.
"""

import json
import subprocess
import sys

import anyio
import openai
import pytest
from pydantic import BaseModel, RootModel

import shim
from support.clients import client_environment
from support.either import awaited, each, entered
from support.openai_server import json_response, whole
from support.raw_server import Hold, RawServer, Reset, Send, in_turn, response_head, sse_response
from support.releases import RELEASES
from support.scripted_model import SCRIPTS, WEATHER, marker
from support.streams import betalgo, chunk, conforming, stream
from support.talk import FAMILIES, MAJOR, MODES, Client, default_family, stream_helper

LIBRARY = FAMILIES[default_family()]
TEXT = "Hello world"
ASK = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
COMPLETION = json_response(whole(ASK))
STREAM = sse_response([stream(betalgo(("Hello", " world")))])
# A pixel; that it is no picture that a decoder would take does not matter to models that look at none.
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}}
# openai waits between two tries; a header of the answer says how long.
AT_ONCE = ("retry-after-ms", "1")
ERROR = b'{"error": {"message": "out of order", "type": "server_error", "param": null, "code": null}}'
MODULE_LEVEL = """
import sys
import openai, shim

openai.base_url, openai.api_key = sys.argv[1] + "/", "none"
openai.http_client = shim.http_client()
question = {"model": sys.argv[2], "messages": [{"role": "user", "content": sys.argv[3]}], "max_tokens": 100}
chunks = list(openai.chat.completions.create(**question, stream=True))
whole = openai.chat.completions.create(**question)
assert len({chunk.id for chunk in chunks}) == 1 and not chunks[0].model_extra, chunks[0]
assert [chunk.choices[0].delta.role for chunk in chunks].count("assistant") == 1
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
openai.http_client.close()
sys.stdout.write(whole.choices[0].message.content)
"""


class Weather(BaseModel):
    """The arguments of the function that the scripts call."""

    city: str


class Call(BaseModel):
    """What the script "array" says is a list of these."""

    name: str
    parameters: Weather


class Calls(RootModel[list[Call]]):
    """What the script "array" says."""


STRICT = openai.pydantic_function_tool(Weather, name="get_weather")


@pytest.fixture(params=MODES)
def use(request):
    """A function that does something with a client of either kind and gives its result.

    What is done is written once, for both kinds: see `settled`, `entered` and `items`.
    """

    def run(base_url, scenario, **options):
        async def with_client():
            async with entered(Client(default_family(), request.param).make(base_url, **options)) as client:
                return await scenario(client)

        return anyio.run(with_client)

    return run


async def collect(source, collected):
    """Put all that comes out of an iterator of either kind into a list, as far as it comes."""
    async for item in each(source):
        collected.append(item)


async def items(source):
    """All that comes out of an iterator of either kind."""
    collected = []
    await collect(source, collected)
    return collected


def asking(service, script, **parameters):
    """What makes the scripted model say a script."""
    messages = [{"role": "user", "content": marker(script)}]
    return {"model": service.model_id, "messages": messages, "max_tokens": 300, **parameters}


def responding(service, script, **parameters):
    """The same for the API of responses."""
    return {"model": service.model_id, "input": marker(script), "max_output_tokens": 300, **parameters}


def parse(client, **parameters):
    """The .parse() helper; 1.x had it under beta at first."""
    completions = client.chat.completions
    return (completions if hasattr(completions, "parse") else client.beta.chat.completions).parse(**parameters)


def streamed(**parameters):
    """A scenario: the events of the helper, what it accumulated, and the report."""

    async def scenario(client):
        async with entered(stream_helper(client)(**parameters)) as helper:
            events = await items(helper)
            return events, await awaited(helper.get_final_completion()), shim.report(helper)

    return scenario


def created(**parameters):
    """A scenario: the answer without streaming."""

    async def scenario(client):
        return await awaited(client.chat.completions.create(**parameters))

    return scenario


def failing(error, **parameters):
    """A scenario: the error that a request ends with."""

    async def scenario(client):
        with pytest.raises(error) as raised:
            await awaited(client.chat.completions.create(**parameters))
        return raised.value

    return scenario


def bodies(server):
    """The bodies of the questions that came."""
    return [request.body for request in server.requests if request.method == "POST"]


class TestStreamHelper:
    """`.stream()`: the events, in their order."""

    def test_text_accumulates(self, service, use):
        """Each delta follows its chunk and carries the text so far; the end says all of it, once."""
        events, completion, _ = use(service.base_url, streamed(**asking(service, "haiku")))
        types = [event.type for event in events]
        assert set(types) == {"chunk", "content.delta", "content.done"}
        assert types[0] == "chunk"
        assert [index for index, each in enumerate(types) if each == "content.done"] == [len(types) - 1]
        assert all(types[index - 1] == "chunk" for index, each in enumerate(types) if each == "content.delta")
        text = ""
        for event in events:
            if event.type == "content.delta":
                text += event.delta
                assert event.snapshot == text
        assert text == events[-1].content == completion.choices[0].message.content == SCRIPTS["haiku"]
        assert completion.choices[0].finish_reason == "stop"

    def test_usage_accumulates(self, service, use):
        """The accumulated answer knows the tokens if they were asked for."""
        asked = asking(service, "haiku", stream_options={"include_usage": True})
        _, completion, _ = use(service.base_url, streamed(**asked))
        assert completion.usage.total_tokens > completion.usage.completion_tokens > 0

    @pytest.mark.parametrize("tool", [STRICT, WEATHER], ids=["strict", "plain"])
    def test_tool_calls_accumulate(self, service, use, tool, request):
        """Arguments grow, are parsed while they do, and are done once for each call, in order."""
        if MAJOR < 3 and tool is WEATHER and request.node.callspec.params["use"] == "async":
            pytest.skip("before 3.x the asynchronous helper takes strict functions only")
        events, completion, report = use(service.base_url, streamed(**asking(service, "tools", tools=[tool])))
        calls = [event for event in events if event.type.startswith("tool_calls.function.arguments.")]
        order = [(event.type.rpartition(".")[2], event.index) for event in calls]
        assert list(dict.fromkeys(order)) == [("delta", 0), ("delta", 1), ("done", 0), ("done", 1)]
        growing = {0: "", 1: ""}
        for event in calls:
            if event.type.endswith("delta"):
                growing[event.index] += event.arguments_delta
                assert event.arguments == growing[event.index]
        done = [event for event in calls if event.type.endswith("done")]
        assert [event.arguments for event in done] == list(growing.values())
        assert [event.name for event in done] == ["get_weather"] * 2
        cities = [Weather(city="Paris"), Weather(city="Rome")]
        assert [Weather.model_validate_json(event.arguments) for event in done] == cities
        made = completion.choices[0].message.tool_calls
        assert [event.parsed_arguments for event in done] == [call.function.parsed_arguments for call in made]
        # Only what is strict is parsed: the program asked for it, whether the service can hold itself to it or not.
        assert [event.parsed_arguments for event in done] == (cities if tool is STRICT else [None, None])
        refuses = RELEASES[service.version].boundary_ids
        assert (report.repairs["request-strict"] == 1) is (tool is STRICT and refuses)
        assert completion.choices[0].finish_reason == "tool_calls"

    def test_content_is_parsed(self, service, use):
        """A Pydantic model as response_format: the end carries an instance of it."""
        events, completion, _ = use(service.base_url, streamed(**asking(service, "array", response_format=Calls)))
        assert events[-1].type == "content.done"
        assert events[-1].parsed == completion.choices[0].message.parsed
        assert events[-1].parsed.root == [Call(name="get_weather", parameters=Weather(city="Paris"))]

    def test_logprobs_arrive(self, use):
        """Those of a server that sends them arrive, with the events that the helper makes of them."""
        logprobs = {
            "content": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}],
            "refusal": None,
        }
        said = chunk({"content": "Hi"})
        said["choices"][0]["logprobs"] = logprobs
        sent = [chunk({"role": "assistant", "content": ""}), said, chunk({}, "stop")]
        with RawServer(sse_response([stream(sent)])) as server:
            events, completion, _ = use(server.base_url, streamed(**ASK, logprobs=True))
        assert [event.type for event in events if event.type.startswith("logprobs")] == [
            "logprobs.content.delta",
            "logprobs.content.done",
        ]
        [token] = completion.choices[0].logprobs.content
        assert (token.token, token.logprob, token.bytes) == ("Hi", -0.5, [72, 105])


class TestParse:
    """`.parse()`, without streaming."""

    def test_content_becomes_an_instance(self, service, use):
        """The content becomes an instance of the model."""

        async def scenario(client):
            return await awaited(parse(client, **asking(service, "array", response_format=Calls)))

        message = use(service.base_url, scenario).choices[0].message
        assert message.parsed == Calls([Call(name="get_weather", parameters=Weather(city="Paris"))])

    def test_content_that_does_not_fit_is_an_error(self, service, use):
        """What does not fit is Pydantic's error, as with OpenAI. Releases that enforce a schema never send that."""
        policy = shim.Policy(off={shim.Repair.REQUEST_SCHEMA})

        async def scenario(client):
            with pytest.raises(ValueError, match="validation error for Weather"):
                await awaited(parse(client, **asking(service, "array", response_format=Weather)))

        use(service.base_url, scenario, policy=policy)

    def test_arguments_become_instances(self, service, use):
        """The arguments of a strict function become instances."""

        async def scenario(client):
            return await awaited(parse(client, **asking(service, "tools", tools=[STRICT])))

        choice = use(service.base_url, scenario).choices[0]
        arguments = [call.function.parsed_arguments for call in choice.message.tool_calls]
        assert arguments == [Weather(city="Paris"), Weather(city="Rome")]
        assert choice.finish_reason == "tool_calls"


RESPONSE_TEXT = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


class TestResponses:
    """The API of responses, streamed."""

    def test_events_are_in_openais_order(self, service, use):
        """The events in OpenAI's order, numbered without a gap."""

        async def scenario(client):
            return await items(await awaited(client.responses.create(**responding(service, "haiku"), stream=True)))

        events = use(service.base_url, scenario)
        assert list(dict.fromkeys(event.type for event in events)) == RESPONSE_TEXT
        assert [event.sequence_number for event in events] == list(
            range(events[0].sequence_number, events[0].sequence_number + len(events))
        )
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert text == events[-1].response.output_text == SCRIPTS["haiku"]

    def test_helper_gives_text_and_final_response(self, service, use):
        """The helper carries the text so far and gives the final response."""

        async def scenario(client):
            async with entered(client.responses.stream(**responding(service, "haiku"))) as helper:
                return await items(helper), await awaited(helper.get_final_response())

        events, response = use(service.base_url, scenario)
        assert list(dict.fromkeys(event.type for event in events)) == RESPONSE_TEXT
        text = ""
        for event in events:
            if event.type == "response.output_text.delta":
                text += event.delta
                assert event.snapshot == text
        assert text == response.output_text == SCRIPTS["haiku"]
        assert response.status == "completed"

    def test_tool_calls_accumulate(self, service, use):
        """Calls accumulate, with parsed arguments."""
        if RELEASES[service.version].major == 1:
            pytest.skip("1.x knows no functions in this API: it says the call as text, and the shim leaves it as it is")

        async def scenario(client):
            asked = responding(service, "tools", tools=[STRICT])
            async with entered(client.responses.stream(**asked)) as helper:
                return await items(helper), await awaited(helper.get_final_response())

        events, response = use(service.base_url, scenario)
        assert [call.parsed_arguments for call in response.output] == [Weather(city="Paris"), Weather(city="Rome")]
        assert {call.name for call in response.output} == {"get_weather"}
        deltas = [event for event in events if event.type == "response.function_call_arguments.delta"]
        for call in response.output:
            mine = [event.delta for event in deltas if event.item_id == call.id]
            assert "".join(mine) == call.arguments


class TestRawAndStreamingResponse:
    """`with_raw_response` and `with_streaming_response`: whoever reads the answer alone reads the repaired one."""

    @pytest.mark.parametrize("way", ["iter_lines", "iter_bytes", "iter_text"])
    def test_iterators_give_openais_stream(self, service, use, way):
        """Lines, bytes and text are those of a stream as OpenAI sends it."""
        # 2.x sends U+2028 as it is, at which the HTTP library cuts a line, without the shim, too.
        script = "crlf" if way == "iter_lines" and RELEASES[service.version].major > 1 else "emoji"

        async def scenario(client):
            asked = asking(service, script, stream=True)
            async with entered(client.chat.completions.with_streaming_response.create(**asked)) as response:
                assert response.headers["content-type"] == "text/event-stream"
                return await items(getattr(response, way)())

        pieces = use(service.base_url, scenario)
        joined = (
            b"".join(pieces).decode() if way == "iter_bytes" else ("\n" if way == "iter_lines" else "").join(pieces)
        )
        lines = [line.removeprefix("data: ") for line in joined.split("\n") if line]
        assert lines.pop() == "[DONE]"
        payloads = [json.loads(line) for line in lines]
        assert len({payload["id"] for payload in payloads}) == 1
        assert not any("IsDelta" in payload or "message" in payload["choices"][0] for payload in payloads)
        text = "".join(payload["choices"][0]["delta"].get("content") or "" for payload in payloads)
        assert text == SCRIPTS[script]

    def test_streaming_response_is_parsed(self, service, use):
        """parse() gives the stream of chunks; without streaming, the completion."""

        async def scenario(client):
            create = client.chat.completions.with_streaming_response.create
            async with entered(create(**asking(service, "haiku", stream=True))) as response:
                chunks = await items(await awaited(response.parse()))
            async with entered(create(**asking(service, "haiku"))) as response:
                return chunks, await awaited(response.parse())

        chunks, completion = use(service.base_url, scenario)
        text = "".join(each.choices[0].delta.content or "" for each in chunks)
        assert text == completion.choices[0].message.content == SCRIPTS["haiku"]

    def test_raw_response_is_parsed(self, service, use):
        """The same for with_raw_response, which has read the plain answer already."""

        async def scenario(client):
            create = client.chat.completions.with_raw_response.create
            response = await awaited(create(**asking(service, "haiku", stream=True)))
            chunks = await items(await awaited(response.parse()))
            plain = await awaited(create(**asking(service, "haiku")))
            return response, chunks, plain, await awaited(plain.parse())

        response, chunks, plain, completion = use(service.base_url, scenario)
        assert response.status_code == plain.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        text = "".join(each.choices[0].delta.content or "" for each in chunks)
        assert text == completion.choices[0].message.content == SCRIPTS["haiku"]
        assert "IsDelta" not in plain.http_response.json()

    def test_responses_are_read_by_lines(self, service, use):
        """The API of responses by its lines."""

        async def scenario(client):
            create = client.responses.with_streaming_response.create
            async with entered(create(**responding(service, "haiku"), stream=True)) as response:
                return await items(response.iter_lines())

        lines = use(service.base_url, scenario)
        payloads = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        assert list(dict.fromkeys(payload["type"] for payload in payloads)) == RESPONSE_TEXT


class TestVision:
    """Parts of a message that are no text."""

    MESSAGES = ({"role": "user", "content": [{"type": "text", "text": marker("haiku")}, IMAGE]},)

    def test_question_with_a_picture_is_answered(self, service, use):
        """The scripted model is blind: the services take the picture and answer the text, streamed or not."""
        asked = asking(service, "haiku", messages=list(self.MESSAGES))
        plain = use(service.base_url, created(**asked))
        _, completion, _ = use(service.base_url, streamed(**asked))
        assert plain.choices[0].message.content == completion.choices[0].message.content == SCRIPTS["haiku"]

    @pytest.mark.parametrize("streaming", [True, False])
    def test_request_is_sent_unchanged(self, streaming):
        """The service gets the very bytes that it would get without the shim."""
        asked = {
            **ASK, "messages": list(self.MESSAGES), "stream": streaming, "tools": [WEATHER], "logprobs": True,
            "response_format": {"type": "json_object"}, "extra_body": {"top_k": 1, "ünïcode": "\u2028"},
        }  # fmt: skip
        with RawServer(STREAM if streaming else COMPLETION) as server:
            for repaired in (True, False):
                with Client(default_family(), "sync", repaired=repaired).make(server.base_url) as client:
                    answer = client.chat.completions.create(**asked)
                    if streaming:
                        answer.close()
            with_shim, without = bodies(server)
        assert with_shim == without
        assert json.loads(with_shim)["messages"] == list(self.MESSAGES)


def test_missing_logprobs_are_not_invented(service, use):
    """The services take the wish and do not fulfil it; nothing is made up for it."""
    asked = asking(service, "haiku", logprobs=True, top_logprobs=2)
    _, completion, _ = use(service.base_url, streamed(**asked))
    plain = use(service.base_url, created(**asked))
    assert plain.choices[0].logprobs is completion.choices[0].logprobs is None
    assert plain.choices[0].message.content == completion.choices[0].message.content == SCRIPTS["haiku"]


def refusal(status, *headers):
    """An answer with an error status."""
    return json_response(json.loads(ERROR), status=status, headers=[("Content-Type", "application/json"), *headers])


class TestRetries:
    """`max_retries`: as many requests as without the shim."""

    @pytest.mark.parametrize("streaming", [True, False])
    @pytest.mark.parametrize("status", [500, 429, 408])
    def test_retries_until_it_works(self, use, status, streaming):
        """Two errors, then an answer: three requests."""
        script = in_turn(refusal(status, AT_ONCE), refusal(status, AT_ONCE), STREAM if streaming else COMPLETION)

        async def scenario(client):
            answer = await awaited(client.chat.completions.create(**ASK, stream=streaming))
            return await items(answer) if streaming else answer

        with RawServer(script) as server:
            assert use(server.base_url, scenario, max_retries=2)
            assert len(bodies(server)) == 3

    @pytest.mark.parametrize("streaming", [True, False])
    @pytest.mark.parametrize(
        ("status", "headers", "requests"),
        [(500, [AT_ONCE], 3), (400, [AT_ONCE], 1), (500, [("x-should-retry", "false")], 1)],
    )
    def test_retries_until_it_gives_up(self, use, status, headers, requests, streaming):
        """The last error is raised; what cannot get better is asked once."""
        with RawServer(refusal(status, *headers)) as server:
            error = use(server.base_url, failing(openai.APIStatusError, **ASK, stream=streaming), max_retries=2)
            assert len(bodies(server)) == requests
        assert error.status_code == status
        assert "out of order" in str(error)

    def test_number_of_retries_holds_for_one_request(self, use):
        """with_options(max_retries=…) wins over the client's."""

        async def scenario(client):
            return await failing(openai.InternalServerError, **ASK)(client.with_options(max_retries=1))

        with RawServer(refusal(500, AT_ONCE)) as server:
            use(server.base_url, scenario, max_retries=5)
            assert len(bodies(server)) == 2

    def test_retries_after_a_reset(self, use):
        """A connection that is reset before the answer is tried again, and then an APIConnectionError."""
        with RawServer([Reset()]) as server:
            use(server.base_url, failing(openai.APIConnectionError, **ASK), max_retries=1)
            assert len(bodies(server)) == 2

    def test_started_stream_is_not_retried(self, use):
        """What fails in the middle of a stream is never asked again."""

        async def scenario(client):
            with pytest.raises((openai.APIConnectionError, LIBRARY.TransportError)):
                await items(await awaited(client.chat.completions.create(**ASK, stream=True)))

        events = [stream([each], done=b"") for each in conforming()[:2]]
        with RawServer(sse_response(events, end="cut")) as server:
            use(server.base_url, scenario, max_retries=2)
            assert len(bodies(server)) == 1


TIMEOUTS = {"number": lambda: 0.3, "object": lambda: LIBRARY.Timeout(60, read=0.3)}


class TestTimeouts:
    """`timeout`: a number or an object of the client's own library, for a client and for a request."""

    @pytest.mark.parametrize("streaming", [True, False])
    @pytest.mark.parametrize("kind", TIMEOUTS)
    def test_timeout_of_the_client_holds(self, use, kind, streaming):
        """A service that says nothing."""
        with RawServer([Hold()]) as server:
            scenario = failing(openai.APITimeoutError, **ASK, stream=streaming)
            use(server.base_url, scenario, timeout=TIMEOUTS[kind]())

    @pytest.mark.parametrize("kind", TIMEOUTS)
    def test_timeout_of_a_request_wins(self, use, kind):
        """It wins over the client's."""
        with RawServer([Hold()]) as server:
            scenario = failing(openai.APITimeoutError, **ASK, stream=True, timeout=TIMEOUTS[kind]())
            use(server.base_url, scenario, timeout=600)

    def test_timeout_of_a_copy_holds(self, use):
        """with_options(timeout=…) and copy(timeout=…)."""

        async def scenario(client):
            for other in (client.with_options(timeout=0.3), client.copy(timeout=0.3)):
                await failing(openai.APITimeoutError, **ASK)(other)

        with RawServer([Hold()]) as server:
            use(server.base_url, scenario, timeout=600)

    def test_timeout_holds_in_the_middle_of_a_stream(self, use):
        """Silence between two events ends a stream; what had come has been delivered."""

        async def scenario(client):
            chunks = []
            answer = await awaited(client.chat.completions.create(**ASK, stream=True))
            with pytest.raises((openai.APITimeoutError, LIBRARY.ReadTimeout)):
                await collect(answer, chunks)
            await awaited(answer.close())
            return "".join(each.choices[0].delta.content or "" for each in chunks)

        events = [stream([each], done=b"") for each in conforming()[:3]]
        with RawServer(sse_response(events, end="held")) as server:
            assert use(server.base_url, scenario, timeout=1) == TEXT


class TestRequests:
    """What a program adds to its requests."""

    def test_headers_query_and_body_arrive(self, use):
        """default_headers, extra_headers, default_query, extra_query, extra_body, with_options(): all arrive."""

        async def scenario(client):
            other = client.with_options(default_headers={"X-Third": "3"}, default_query={"third": "c"})
            added = {"extra_headers": {"X-Second": "2"}, "extra_query": {"second": "b d"}, "extra_body": {"top_k": 7}}
            answer = await awaited(other.chat.completions.create(**ASK, **added, stream=True))
            return await items(answer)

        with RawServer(STREAM) as server:
            chunks = use(server.base_url, scenario, default_headers={"X-First": "1"}, default_query={"first": "a"})
            [request] = server.requests
        assert [request.header(name) for name in ("x-first", "x-second", "x-third")] == ["1", "2", "3"]
        path, _, query = request.path.partition("?")
        assert path == "/v1/chat/completions"
        assert set(query.replace("%20", "+").split("&")) == {"first=a", "second=b+d", "third=c"}
        assert request.json()["top_k"] == 7
        assert "".join(each.choices[0].delta.content or "" for each in chunks) == TEXT
        assert len({each.id for each in chunks}) == 1  # repaired all the same

    def test_services_accept_them(self, service, use):
        """A real service takes them, too."""

        async def scenario(client):
            other = client.with_options(default_query={"b": "2"}).copy(default_headers={"X-B": "2"})
            asked = asking(service, "haiku", extra_headers={"X-C": "3"}, extra_query={"c": "3"}, stream=True)
            return await items(await awaited(other.chat.completions.create(**asked)))

        chunks = use(service.base_url, scenario, default_headers={"X-A": "1"}, default_query={"a": "1"})
        assert "".join(each.choices[0].delta.content or "" for each in chunks) == SCRIPTS["haiku"]
        assert not any(each.model_extra for each in chunks)


def test_broken_raw_response_is_an_error(use):
    """with_raw_response raises what create() raises."""

    async def scenario(client):
        with pytest.raises(openai.NotFoundError, match="no such thing"):
            await awaited(client.chat.completions.with_raw_response.create(**ASK))

    body = b'{"error": {"message": "no such thing", "type": "invalid_request_error"}}'
    head = response_head(404, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))], chunked=False)
    with RawServer([Send(head + body)]) as server:
        use(server.base_url, scenario)


def test_module_level_client_is_repaired(service):
    """`openai.http_client = shim.http_client()`, and the calls on the module are repaired."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", MODULE_LEVEL, service.base_url, service.model_id, marker("haiku")],
        env=client_environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == SCRIPTS["haiku"]
