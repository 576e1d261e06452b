"""Other services through the shim: bytes and objects are those of the official client alone."""

import inspect
import json
from typing import Any

import anyio
import openai
import pytest

import shim
from support.either import awaited, each, entered
from support.raw_server import RawServer, in_turn, sse_response
from support.services import SERVICES
from support.streams import betalgo, stream
from support.talk import FAMILIES, MESSAGES, Client, default_family, stream_helper

HTTP = FAMILIES[default_family()]
MODES = pytest.mark.parametrize("mode", ["sync", "async"])
NAMES = pytest.mark.parametrize("name", SERVICES)


def script(name: str) -> Any:
    """A server that sends the stream of a service, with the headers that it is known by."""
    service = SERVICES[name]
    return sse_response([service.body], headers=[("Content-Type", "text/event-stream"), *service.headers])


async def read(client: Any, helper: str, asked: dict[str, Any]) -> tuple[list[Any], Any, Any]:
    """The chunks that a program gets, with all their fields; what the helper accumulates; and the error."""
    chunks: list[Any] = []
    whole = failure = None
    known = inspect.signature(client.chat.completions.create).parameters
    more = {name: value for name, value in asked.items() if name not in known}
    asked = {name: value for name, value in asked.items() if name in known}
    asked |= {"model": "a-model", "messages": MESSAGES, **({"extra_body": more} if more else {})}
    try:
        if helper == "create":
            async for chunk in each(await awaited(client.chat.completions.create(stream=True, **asked))):
                chunks.append(fields_of(chunk))  # noqa: PERF401 - what came before an error counts
        else:
            async with entered(stream_helper(client)(**asked)) as events:
                async for event in each(events):
                    if event.type == "chunk":
                        chunks.append(fields_of(event.chunk))  # noqa: PERF401 - the same
                whole = fields_of(await awaited(events.get_final_completion()))
    except Exception as error:  # noqa: BLE001 - compared
        failure = type(error), getattr(error, "message", None), getattr(error, "body", None)
    await awaited(client.close())
    return chunks, whole, failure


def fields_of(model: Any) -> dict[str, Any]:
    """All fields of an object of the official client, and which of them were set."""
    return {"set": sorted(model.model_fields_set), **model.to_dict(exclude_unset=False, warnings=False)}


def seen(name: str, client: Client, *, make: Any = None, before: Any = None) -> tuple[Any, list[bytes]]:
    """What a program sees of a service, and the bodies that reach it."""

    async def run(base_url):
        official = client.make(base_url, **(make or {}))
        if before is not None:
            async for _ in each(
                await awaited(official.chat.completions.create(model="b", messages=MESSAGES, stream=True))
            ):
                pass
        return await read(official, client.helper, SERVICES[name].asked)

    with RawServer(script(name) if before is None else in_turn(before, script(name))) as server:
        result = anyio.run(run, server.base_url)
        return result, [request.body for request in server.requests]


@NAMES
@MODES
class TestOtherServices:
    """Whatever a service sends that the official client understands, the program gets it unchanged."""

    @pytest.mark.parametrize("helper", ["create", "stream"])
    def test_objects_are_those_of_the_official_client(self, name, mode, helper):
        """Of a service that the program has named, and of one that it has not; requests as well."""
        if helper == "stream" and any(
            "strict" not in tool["function"] for tool in SERVICES[name].asked.get("tools", ())
        ):
            pytest.skip("the helper takes strict functions only")
        alone = seen(name, Client(default_family(), mode, helper, repaired=False))
        named = seen(name, Client(default_family(), mode, helper))
        made = {"http_client": shim.http_client() if mode == "sync" else shim.async_http_client()}
        unnamed = seen(name, Client(default_family(), mode, helper, repaired=False), make=made)
        assert named == unnamed == alone
        assert helper == "stream" or (alone[0][2] is not None) == SERVICES[name].raises

    def test_bytes_are_those_of_the_service(self, name, mode):
        """Under any client of the HTTP library."""
        body = json.dumps({"model": "a-model", "messages": MESSAGES, "stream": True, **SERVICES[name].asked}).encode()

        async def run(url):
            headers = {"content-type": "application/json"}
            if mode == "sync":
                with HTTP.Client(transport=shim.RepairTransport(HTTP.HTTPTransport())) as client:
                    return client.post(url, content=body, headers=headers)
            async with HTTP.AsyncClient(transport=shim.AsyncRepairTransport(HTTP.AsyncHTTPTransport())) as client:
                return await client.post(url, content=body, headers=headers)

        with RawServer(script(name)) as server:
            response = anyio.run(run, f"{server.base_url}/chat/completions")
            [request] = server.requests
        assert request.body == body
        assert not shim.report(response).repairs or SERVICES[name].raises
        if not SERVICES[name].raises:
            assert (response.status_code, response.content) == (200, SERVICES[name].body)

    def test_foundry_local_at_the_same_address_changes_nothing(self, name, mode):
        """What was remembered of another model there says nothing of this one."""
        alone, _ = seen(name, Client(default_family(), mode, repaired=False))
        after, _ = seen(name, Client(default_family(), mode), before=sse_response([stream(betalgo())]))
        assert after == alone


def test_every_kind_of_service_is_among_them():
    """The services that people put beside Foundry Local."""
    kinds = ("OpenAI", "Azure", "vLLM", "Ollama", "llama.cpp", "LM Studio", "OpenRouter", "Groq", "Mistral", "DeepSeek")
    for kind in (*kinds, "Perplexity"):
        assert any(name.startswith(kind) for name in SERVICES)
    assert openai.OpenAI is not shim.OpenAI
