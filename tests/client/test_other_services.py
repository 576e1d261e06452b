"""Contract line 1, other services through the shim: bytes and objects are those of the official client alone."""

import json

import anyio
import openai
import pytest

import shim
from support.comparison import script, seen, takes
from support.raw_server import RawServer, sse_response
from support.services import SERVICES
from support.streams import betalgo, stream
from support.talk import FAMILIES, MESSAGES, Client, default_family

HTTP = FAMILIES[default_family()]
MODES = pytest.mark.parametrize("mode", ["sync", "async"])
NAMES = pytest.mark.parametrize("name", SERVICES)


@NAMES
@MODES
class TestOtherServices:
    """Whatever a service sends that the official client understands, the program gets it unchanged."""

    @pytest.mark.parametrize("helper", ["create", "stream"])
    def test_objects_are_those_of_the_official_client(self, name, mode, helper):
        """Of a service that the program has named, and of one that it has not; requests as well."""
        if not takes(name, helper):
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
