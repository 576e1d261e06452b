"""Contract line 12, JSON schemas: Foundry Local gets OpenAI's form as it can enforce it, and nobody else does."""

import json
from typing import Any

import anyio
import openai
import pytest

import shim
from support.either import awaited, each, entered
from support.raw_server import RawServer, Reset, marked, plain_response, sse_response
from support.streams import betalgo, conforming, event, stream
from support.talk import MESSAGES, Client, default_family

MODES = pytest.mark.parametrize("mode", ["sync", "async"])
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
WRAPPER = {"name": "answer", "strict": True, "schema": SCHEMA}
ASKED: Any = {"type": "json_schema", "json_schema": WRAPPER}
REFUSED = 'Error creating grammar: Unimplemented keys: ["uniqueItems"]'
TEXT = '{"name": "x"}'
ANSWER = {
    "id": "chatcmpl-9",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": TEXT}}],
}
OTHERS = {
    "of an unknown server": plain_response(json.dumps(ANSWER).encode()),
    "of llama.cpp": plain_response(json.dumps(ANSWER).encode(), headers=[("Server", "llama.cpp")]),
    "of Foundry Local 1.x": sse_response([stream(betalgo([TEXT]))]),
}


def as_json(value: Any, status: int = 200) -> Any:
    return plain_response(json.dumps(value).encode(), status)


def asked_of(server) -> list[Any]:
    """What was sent as the value of ``json_schema``, and the paths of look-ups."""
    return [
        request.json()["response_format"]["json_schema"] if request.method == "POST" else request.path
        for request in server.requests
    ]


def ask(mode, script, *, times=1, wrapper: Any = WRAPPER, policy: shim.Policy | None = None, **parameters: Any):
    """Ask several times with one client; return what was sent, the last answer, and the repairs of each."""
    answers, repairs = [], []
    response_format = {"type": "json_schema", "json_schema": wrapper}
    asked = {"model": "m", "messages": MESSAGES, "response_format": response_format, **parameters}

    async def run(base_url):
        async with entered(Client(default_family(), mode).make(base_url, policy=policy)) as official:
            for _ in range(times):
                with shim.capture_repairs() as captured:
                    answers.append(await awaited(official.chat.completions.create(**asked)))
                    if asked.get("stream"):
                        async for _ in each(answers[-1]):
                            pass
                repairs.append(captured.repairs)

    with RawServer(script) as server:
        anyio.run(run, server.base_url)
        return asked_of(server), answers[-1], repairs


@MODES
class TestFoundryLocal:
    """Since 2.1 it takes the object around the schema for the schema."""

    def test_schema_is_where_it_is_looked_for(self, mode):
        """In the first request as well: one look-up shows which release it is."""
        sent, answer, repairs = ask(mode, marked(as_json(ANSWER)), times=2)
        assert sent == ["/models/loaded", {**SCHEMA, **WRAPPER}, {**SCHEMA, **WRAPPER}]
        assert answer.choices[0].message.content == TEXT
        assert [made["request-schema"] for made in repairs] == [1, 1]

    def test_request_without_a_schema_is_not_worth_a_look_up(self, mode):
        """Nothing would be sent differently."""
        for wrapper in ({"name": "a"}, {"name": "a", "schema": {}}):
            sent, _, repairs = ask(mode, marked(as_json(ANSWER)), wrapper=wrapper)
            assert sent == [wrapper]
            assert "request-schema" not in repairs[0]

    @pytest.mark.parametrize("streamed", [True, False])
    def test_schema_that_is_refused_is_sent_as_it_was(self, mode, streamed):
        """The service cannot enforce it: it answers as if the shim had left the request alone."""

        def play(_connection, request):
            if request.method == "GET":
                return marked(as_json([]))
            if "type" not in request.json()["response_format"]["json_schema"]:
                return marked(sse_response([stream(conforming())]) if streamed else as_json(ANSWER))
            error = {"error": {"message": REFUSED, "type": "server_error", "param": None, "code": None}}
            return marked(sse_response([event(error)]) if streamed else as_json(error, 500))

        sent, _, _ = ask(mode, play, stream=streamed)
        assert sent == ["/models/loaded", {**SCHEMA, **WRAPPER}, WRAPPER]

    def test_models_are_looked_up_once(self, mode):
        """For its release, and for the reason of an error."""

        def play(_connection, request):
            if request.method == "GET":
                return marked(as_json([] if "loaded" in request.path else {"data": []}))
            return marked(as_json({"error": {"message": "Model not found: m"}}, 404))

        async def run(base_url):
            async with entered(Client(default_family(), mode).make(base_url)) as official:
                with pytest.raises(openai.NotFoundError):
                    await awaited(official.chat.completions.create(model="m", messages=MESSAGES, response_format=ASKED))

        with RawServer(play) as server:
            anyio.run(run, server.base_url)
            assert [request.path for request in server.requests if request.method == "GET"] == [
                "/models/loaded",
                "/v1/models",
            ]

    def test_switched_off(self, mode):
        """Nothing is looked up, and nothing added."""
        policy = shim.Policy(off=frozenset({shim.Repair.REQUEST_SCHEMA}))
        assert ask(mode, marked(as_json(ANSWER)), policy=policy)[0] == [WRAPPER]

    def test_gateway_without_the_mark(self, mode):
        """The program has said whose service it is."""
        assert ask(mode, as_json(ANSWER), policy=shim.Policy(foundry=True))[0] == [{**SCHEMA, **WRAPPER}]

    def test_strict_policy_refuses(self, mode):
        """As every other repair."""
        with pytest.raises(openai.InternalServerError, match="request-schema"):
            ask(mode, marked(as_json(ANSWER)), policy=shim.Policy(strict=True))

    def test_look_up_that_fails_is_repeated(self, mode):
        """It has shown nothing."""

        def play(_connection, request):
            return [Reset()] if request.method == "GET" else OTHERS["of an unknown server"]

        sent, _, _ = ask(mode, play, times=2)
        assert sent == ["/models/loaded", WRAPPER, "/models/loaded", WRAPPER]


@MODES
@pytest.mark.parametrize("name", OTHERS)
def test_request_to_another_service_is_left_alone(mode, name):
    """Whoever does not enforce the schema in this form, or takes OpenAI's; it is looked at once."""
    sent, _, repairs = ask(mode, OTHERS[name], times=3)
    assert sent == ["/models/loaded", WRAPPER, WRAPPER, WRAPPER]
    assert not any("request-schema" in made for made in repairs)
