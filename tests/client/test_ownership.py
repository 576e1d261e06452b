"""Contract line 1, whose response it is: what Foundry Local did not send is not treated as Foundry Local's."""

import json
import threading
from contextlib import suppress
from typing import Any

import anyio
import openai
import pytest

import shim
from support.either import awaited, each
from support.raw_server import RawServer, in_turn, marked, plain_response, sse_response
from support.streams import betalgo, chunk, conforming, stream
from support.talk import FAMILIES, MESSAGES, Client, default_family

HTTP = FAMILIES[default_family()]
KEY = "secret-key"
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
PLAIN = {
    "id": "chatcmpl-9",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
}
# A function as frameworks send it: strict, and without a list of required parameters.
TOOL = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "object"}}}
CHAT = {"model": "m", "messages": MESSAGES, "tools": [TOOL]}
MODES = ("sync", "async")


def as_json(value: Any, status: int = 200, **headers: str):
    named = [("Content-Type", "application/json"), *((name.replace("_", "-"), text) for name, text in headers.items())]
    return plain_response(json.dumps(value, separators=(",", ": ")).encode(), status, named)


def exchange(mode: str, url: str, body: Any = None, *, method: str = "POST", policy: Any = None, times: int = 1, **how):
    """Send a request over a client with the repair, or without; return status, headers and content of each response."""
    is_repaired = how.pop("repaired", True)
    headers = {"Authorization": f"Bearer {KEY}"}
    content = None if body is None else json.dumps(body, indent=1).encode()
    if mode == "async":

        async def run():
            inner = HTTP.AsyncHTTPTransport(proxy=how.pop("proxy", None))
            transport = shim.AsyncRepairTransport(inner, policy, **how) if is_repaired else inner
            async with HTTP.AsyncClient(transport=transport) as client:
                got = [await client.request(method, url, content=content, headers=headers) for _ in range(times)]
                return [(each.status_code, each.headers, each.content) for each in got]

        return anyio.run(run)
    inner = HTTP.HTTPTransport(proxy=how.pop("proxy", None))
    transport = shim.RepairTransport(inner, policy, **how) if is_repaired else inner
    with HTTP.Client(transport=transport) as client:
        got = [client.request(method, url, content=content, headers=headers) for _ in range(times)]
        return [(each.status_code, each.headers, each.content) for each in got]


def fields_of(headers):
    """The headers of a response but for those that describe the transfer."""
    return sorted((name, value) for name, value in headers.multi_items() if name not in ("content-length", "date"))


def listing(connection, request, refusal, loaded=("other:1",)):
    """A service that lists its loaded models as Foundry Local does, and refuses everything else."""
    if request.path == "/models/loaded":
        return as_json(list(loaded))
    if request.path.endswith("/models"):
        return as_json({"object": "list", "data": [{"id": name} for name in loaded]})
    if request.method == "GET":
        return as_json({}, 404)
    return refusal(connection, request) if callable(refusal) else refusal


# Streams of other services, each with something that is repaired where Foundry Local sends it.
HEAD, *MIDDLE, LAST = conforming()
OTHERS = {
    "usage without request": [HEAD, *MIDDLE, {**LAST, "usage": USAGE}],
    "usage in a chunk without choices": [HEAD, *MIDDLE, LAST, {**chunk({}), "choices": [], "usage": USAGE}],
    "usage in every chunk": [{**each, "usage": USAGE} for each in conforming()],
    "id that is empty at first": [{**HEAD, "id": "", "model": "", "created": 0, "choices": []}, *conforming()],
    "ids that differ": [{**each, "id": f"cmpl-{number}"} for number, each in enumerate(conforming())],
    "no ids at all": [{name: value for name, value in each.items() if name != "id"} for each in conforming()],
    "created that counts up": [{**each, "created": number} for number, each in enumerate(conforming())],
    "another object": [{**each, "object": "chat.completion"} for each in conforming()],
    "model null": [{**each, "model": None} for each in conforming()],
    "role in each delta": [chunk({"role": "assistant", "content": text}) for text in ("Hello", " world")] + [LAST],
    "message beside delta": [
        {**each, "choices": [{**each["choices"][0], "message": {"role": "assistant", "content": "Hello world"}}]}
        for each in conforming()
    ],
    "null members": [chunk({"role": "assistant", "content": "Hi", "tool_calls": None, "function_call": None}), LAST],
    "empty calls": [chunk({"role": "assistant", "content": "Hi", "tool_calls": []}), LAST],
    "reason beside the text": [HEAD, chunk({"content": "Hello world"}, "stop")],
    "two reasons": [*conforming(), LAST],
    "reason of its own": [HEAD, *MIDDLE, chunk({}, "eos")],
    "finish details": [{**LAST, "choices": [{**LAST["choices"][0], "finish_details": {"type": "stop"}}]}],
}


@pytest.mark.parametrize("mode", MODES)
class TestStreamsOfOtherServices:
    """Without a mark of Foundry Local's nothing is changed in what every client can read."""

    @pytest.mark.parametrize("name", OTHERS)
    def test_stream_passes_through_byte_for_byte(self, mode, name):
        """The stream and the request arrive as they were sent."""
        sent = stream(OTHERS[name])
        with RawServer(sse_response([sent])) as server:
            [(_, _, got)] = exchange(mode, f"{server.base_url}/chat/completions", {**CHAT, "stream": True})
            [request] = server.requests
        assert got == sent
        assert request.body == json.dumps({**CHAT, "stream": True}, indent=1).encode()

    @pytest.mark.parametrize("name", OTHERS)
    def test_stream_is_repaired_where_foundry_local_sends_it(self, mode, name):
        """The same bytes with a mark are not what a program should get: so it is the mark that decides."""
        sent = stream(OTHERS[name])
        with RawServer(marked(sse_response([sent]))) as server:
            [(_, _, got)] = exchange(mode, f"{server.base_url}/chat/completions", {**CHAT, "stream": True})
        assert got != sent

    @pytest.mark.parametrize("named", [True, False])
    @pytest.mark.parametrize("name", OTHERS)
    def test_program_sees_what_it_sees_without_the_shim(self, mode, name, named):
        """Whether or not the program has given its address to the shim."""
        answers = []
        with RawServer(sse_response([stream(OTHERS[name])])) as server:
            for repaired in (True, False):
                client = Client(default_family(), mode, repaired=repaired and named)
                made = {} if named or not repaired else {"http_client": http_client(mode)}
                answers.append(anyio.run(chunks_of, client.make(server.base_url, **made)))
        assert answers[0] == answers[1]

    @pytest.mark.parametrize("name", ["usage without request", "ids that differ", "message beside delta"])
    @pytest.mark.parametrize(
        "counter_mark",
        [
            {"prompt_filter_results": []},
            {"x_groq": {"id": "req_1"}},
            {"timings": {"predicted_n": 1}},
            {"citations": ["https://example.com"]},
            {"provider": "Azure"},
            {"system_fingerprint": "fp_44709d6fcb"},
        ],
        ids=str,
    )
    def test_counter_mark_decides_against_a_remembered_mark(self, mode, name, counter_mark):
        """Another service at the address that Foundry Local had: from its first response on nothing is changed."""
        sent = stream([{**each, **counter_mark} for each in OTHERS[name]])
        scripts = in_turn(sse_response([stream(betalgo())]), sse_response([sent]))
        with RawServer(scripts) as server:
            url = f"{server.base_url}/chat/completions"
            [(_, _, first), (_, _, second), (_, _, third)] = exchange(mode, url, {**CHAT, "stream": True}, times=3)
        assert b"IsDelta" not in first
        assert second == third == sent

    def test_mark_is_remembered_for_the_model_at_the_address(self, mode):
        """Where one response has shown that it is Foundry Local, later ones need no mark."""
        sent = stream(OTHERS["role in each delta"])
        scripts = in_turn(sse_response([stream(betalgo())]), sse_response([sent]))
        with RawServer(scripts) as server:
            url = f"{server.base_url}/chat/completions"
            [_, (_, _, second)] = exchange(mode, url, {**CHAT, "stream": True}, times=2)
        assert second.count(b'"role"') == 1


def http_client(mode):
    return shim.http_client() if mode == "sync" else shim.async_http_client()


async def chunks_of(client):
    """What a program sees of a stream: each chunk, with all its fields."""
    answer = await awaited(client.chat.completions.create(stream=True, **CHAT))
    seen = [chunk.to_dict(exclude_unset=False) async for chunk in each(answer)]
    await awaited(client.close())
    return seen


@pytest.mark.parametrize("mode", MODES)
class TestPolicy:
    """`Policy(foundry=…)` says it by hand."""

    def test_true_needs_no_mark(self, mode):
        """For gateways that remove what shows whose it is."""
        sent = stream(OTHERS["role in each delta"])
        with RawServer(sse_response([sent])) as server:
            url = f"{server.base_url}/chat/completions"
            [(_, _, got)] = exchange(mode, url, {**CHAT, "stream": True}, policy=shim.Policy(foundry=True))
            [request] = server.requests
        assert got.count(b'"role"') == 1
        assert request.json()["tools"][0]["function"]["parameters"]["required"] == []

    def test_false_overrides_every_mark(self, mode):
        """Even the fields that only Foundry Local has pass through."""
        sent = stream(betalgo())
        with RawServer(marked(sse_response([sent]))) as server:
            url = f"{server.base_url}/chat/completions"
            [(_, _, got)] = exchange(mode, url, {**CHAT, "stream": True}, policy=shim.Policy(foundry=False))
        assert got == sent

    def test_false_makes_no_look_up(self, mode):
        """And an unknown model stays the error that it is."""
        body = {"error": {"message": "Model not found: No model matching 'm'"}}
        with RawServer(marked(as_json(body, 400))) as server:
            url = f"{server.base_url}/chat/completions"
            [(status, _, got)] = exchange(mode, url, CHAT, policy=shim.Policy(foundry=False), service=server.url)
            assert len(server.requests) == 1
        assert (status, json.loads(got)) == (400, body)


BODIES = {
    "null function call": {"message": {"role": "assistant", "content": "Hi", "function_call": None}},
    "empty calls": {"message": {"role": "assistant", "content": "Hi", "tool_calls": []}},
    "no reason": {"finish_reason": None},
    "reason of its own": {"finish_reason": "eos"},
    "delta beside the message": {"delta": {"role": "assistant", "content": "Hello"}},
    "no index": {"index": None},
}


@pytest.mark.parametrize("mode", MODES)
class TestBodiesOfOtherServices:
    """Plain answers and lists of models pass through as they are."""

    @pytest.mark.parametrize("name", BODIES)
    def test_completion_passes_through_byte_for_byte(self, mode, name):
        """Whatever Foundry Local's would be repaired for."""
        script = as_json({**PLAIN, "choices": [{**PLAIN["choices"][0], **BODIES[name]}]})
        with RawServer(script) as server:
            [(_, _, got)] = exchange(mode, f"{server.base_url}/chat/completions", CHAT)
            [(_, _, plain)] = exchange(mode, f"{server.base_url}/chat/completions", CHAT, repaired=False)
            first, second = (request.body for request in server.requests)
        assert (got, first) == (plain, second)

    @pytest.mark.parametrize(
        "fields", [{"id": None}, {"id": ""}, {"created": 0}, {"object": "x"}, {"model": None}], ids=str
    )
    def test_envelope_passes_through(self, mode, fields):
        """Its id, its time and its model are its own."""
        script = as_json({**PLAIN, **fields})
        with RawServer(script) as server:
            [(_, _, got)] = exchange(mode, f"{server.base_url}/chat/completions", CHAT)
        assert json.loads(got) == {**PLAIN, **fields}

    @pytest.mark.parametrize(
        "models",
        [
            {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "me", "permissions": []}]},
            {"data": [{"id": "m"}]},
            {"models": [{"name": "m"}], "object": "list", "data": []},
            {"id": "m"},
            ["m"],
        ],
        ids=str,
    )
    def test_models_pass_through(self, mode, models):
        """What is not Foundry Local's is not completed."""
        with RawServer(as_json(models)) as server:
            [(_, _, got)] = exchange(mode, f"{server.base_url}/models", method="GET")
            assert len(server.requests) == 1
        assert json.loads(got) == models

    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", "/v1/models"), ("GET", "/admin/models/7"), ("POST", "/v1/responses"), ("POST", "/v1/embeddings")],
    )
    @pytest.mark.parametrize("body", [b"a,b\n1,2\n", b"", b"<html>", b'"text"', b"7"], ids=str)
    def test_page_that_does_not_call_itself_json_passes_through(self, mode, method, path, body):
        """A path that ends alike may be another API's."""
        with RawServer(plain_response(body, headers=[("Content-Type", "text/plain")])) as server:
            [(status, _, got)] = exchange(mode, server.url + path, CHAT, method=method)
            assert len(server.requests) == 1
        assert (status, got) == (200, body)

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/v1/completions"),
            ("POST", "/api/chat"),
            ("POST", "/v1/audio/transcriptions"),
            ("GET", "/v1/chat/completions"),
            ("PUT", "/v1/responses"),
            ("DELETE", "/v1/models/m"),
            ("GET", "/models/loaded/now"),
        ],
    )
    @pytest.mark.parametrize("status", [200, 404, 500])
    def test_other_paths_are_not_even_read(self, mode, method, path, status):
        """Errors and answers of every other path, with all marks that there are."""
        script = marked(
            as_json({"Successful": False, "IsDelta": True, "error": {"message": "Model not found: x"}}, status)
        )
        with RawServer(script) as server:
            [(got_status, headers, got)] = exchange(mode, server.url + path, CHAT, method=method, service=server.url)
            [(_, plain_headers, plain)] = exchange(mode, server.url + path, CHAT, method=method, repaired=False)
            assert len(server.requests) == 2
        assert (got_status, got, fields_of(headers)) == (status, plain, fields_of(plain_headers))


MISSING = "The model `m` does not exist"
ERRORS = {
    "key": {"error": {"message": "Incorrect API key provided: API key not found for model 'm'", "type": "x"}},
    "model": {"error": {"message": MISSING, "type": "invalid_request_error", "code": "model_not_found"}},
    "vllm": {"object": "error", "message": MISSING, "type": "NotFoundError", "param": "model", "code": 404},
    "ollama": {"error": {"message": 'model "m" not found, try pulling it first', "type": "api_error"}},
    "cuda": {"error": {"message": "failed to load model 'm': CUDA library not found", "type": "server_error"}},
    "detail": {"detail": [{"loc": ["body", "model"], "msg": "Model not found", "type": "value_error"}]},
    "text": "Model not found",
}
NEVER_CHANGED = (401, 403, 408, 409, 422, 429)


@pytest.mark.parametrize("mode", MODES)
class TestErrorsOfOtherServices:
    """Status and words stay as they came, and nothing else is asked."""

    @pytest.mark.parametrize("name", ERRORS)
    @pytest.mark.parametrize("status", [400, *NEVER_CHANGED, 404, 500, 503])
    def test_error_passes_through_byte_for_byte(self, mode, status, name):
        """Of a service at this machine that the program has not called Foundry Local."""
        with RawServer(as_json(ERRORS[name], status, Retry_After="7")) as server:
            url = f"{server.base_url}/chat/completions"
            [(got_status, headers, got)] = exchange(mode, url, CHAT)
            [(_, plain_headers, plain)] = exchange(mode, url, CHAT, repaired=False)
            assert [request.method for request in server.requests] == ["POST", "POST"]
        assert (got_status, got, fields_of(headers)) == (status, plain, fields_of(plain_headers))

    @pytest.mark.parametrize("name", ERRORS)
    @pytest.mark.parametrize("status", NEVER_CHANGED)
    @pytest.mark.parametrize("is_foundry", [True, False])
    def test_status_that_says_something_else_is_never_changed(self, mode, status, name, is_foundry):
        """Of Foundry Local itself as well: only 400, 404 and 500 are given to an unknown model."""
        refusal = as_json(ERRORS[name], status)
        script = marked(refusal) if is_foundry else refusal

        def play(connection, request):
            return listing(connection, request, script)

        with RawServer(play) as server:
            url = f"{server.base_url}/chat/completions"
            [(got_status, headers, got)] = exchange(mode, url, CHAT, service=server.url)
            assert [request.method for request in server.requests] == ["POST"]
        assert got_status == status
        assert "x-should-retry" not in headers
        if not is_foundry:
            assert json.loads(got) == ERRORS[name]

    @pytest.mark.parametrize("name", ["key", "cuda"])
    @pytest.mark.parametrize("status", [400, 404, 500])
    def test_error_about_something_else_is_not_about_the_model(self, mode, status, name):
        """A message that names the model and says that something is not found does not say that it is the model."""

        def play(connection, request):
            return listing(connection, request, marked(as_json(ERRORS[name], status)))

        with RawServer(play) as server:
            url = f"{server.base_url}/chat/completions"
            [(got_status, _, got)] = exchange(mode, url, CHAT, service=server.url)
            assert [request.method for request in server.requests] == ["POST"]
        assert got_status == status
        assert json.loads(got)["error"]["message"] == ERRORS[name]["error"]["message"]

    @pytest.mark.parametrize("name", ["model", "vllm", "ollama"])
    def test_named_service_that_is_another_keeps_its_words(self, mode, name):
        """One look-up shows that it does not list loaded models as Foundry Local does; its error is its own."""

        def play(_connection, request):
            if request.method == "POST":
                return as_json(ERRORS[name], 404)
            is_list = request.path == "/v1/models"
            return as_json({"data": [{"id": "m-instruct"}]}) if is_list else as_json({"detail": "Not Found"}, 404)

        with RawServer(play) as server:
            url = f"{server.base_url}/chat/completions"
            [(status, _, got)] = exchange(mode, url, CHAT, service=server.url)
            assert sum(request.method == "POST" for request in server.requests) == 1
        assert (status, json.loads(got)) == (404, ERRORS[name])


@pytest.mark.parametrize("mode", MODES)
class TestLookUps:
    """The service is asked for its models only where the answer changes the outcome, and nobody else is."""

    REFUSAL = as_json(
        {"error": {"message": "Model not found: No model matching 'm'", "type": "invalid_request_error"}}, 404
    )

    def script(self, connection, request):
        return listing(connection, request, self.REFUSAL)

    def test_key_goes_to_the_same_origin_only(self, mode):
        """The look-ups carry the bearer token to the service that has it already, and nothing else of the request."""
        with RawServer(self.script) as server:
            [(status, _, _)] = exchange(mode, f"{server.base_url}/chat/completions", CHAT, service=server.url)
            lookups = [request for request in server.requests if request.method == "GET"]
        assert status == 404
        assert [request.path for request in lookups] == ["/models/loaded", "/v1/models"]
        for request in lookups:
            assert request.header("host") == server.url.removeprefix("http://")
            assert request.header("authorization") == f"Bearer {KEY}"
            assert request.body == b""

    def test_key_does_not_follow_a_redirect(self, mode):
        """A look-up that is redirected elsewhere is not followed."""
        with RawServer(as_json([])) as elsewhere:

            def play(connection, request):
                if request.method == "GET":
                    return plain_response(b"", 307, [("Location", f"{elsewhere.url}{request.path}")])
                return self.script(connection, request)

            with RawServer(play) as server:
                exchange(mode, f"{server.base_url}/chat/completions", CHAT, service=server.url)
            assert elsewhere.requests == []

    @pytest.mark.parametrize(
        "host",
        [
            "api.openai.com",
            "x.openai.azure.com",
            "models.inference.ai.azure.com",
            "api.mistral.ai",
            "openrouter.ai",
            "API.GROQ.COM",
            "api.perplexity.ai.",
        ],
    )
    @pytest.mark.parametrize("answer", ["refused", "empty", "empty stream"])
    def test_cloud_host_is_never_asked(self, mode, host, answer):
        """Whatever it answers, whatever the program calls it, and though it has Foundry Local's own words."""
        scripts = {"refused": marked(self.REFUSAL), "empty": plain_response(b"", 500), "empty stream": sse_response([])}

        def play(connection, request):
            return listing(connection, request, scripts[answer])

        with RawServer(play) as server:
            url = f"http://{host}/v1/chat/completions"
            body = {**CHAT, "stream": answer == "empty stream"}
            [(status, _, _)] = exchange(mode, url, body, service=f"http://{host}", proxy=server.url)
            assert [request.method for request in server.requests] == ["POST"]
        assert status == (404 if answer == "refused" else 500)

    @pytest.mark.parametrize("answer", [plain_response(b"", 500), sse_response([])], ids=["empty", "empty stream"])
    def test_distant_host_is_not_asked_unless_it_is_named(self, mode, answer):
        """A host that is neither here nor known."""

        def play(connection, request):
            return listing(connection, request, answer)

        gets = []
        with RawServer(play) as server:
            for service in (None, "http://llm.example.org"):
                url = "http://llm.example.org/v1/chat/completions"
                exchange(mode, url, {**CHAT, "stream": True}, service=service, proxy=server.url)
                gets.append(sum(request.method == "GET" for request in server.requests))
        assert gets[0] == 0
        assert gets[1] > 0

    def test_near_host_is_asked_after_an_empty_response(self, mode):
        """An empty response carries no mark: at this machine one look-up shows whose it is."""

        def play(connection, request):
            return listing(connection, request, plain_response(b"", 500))

        with RawServer(play) as server:
            [(status, _, got)] = exchange(mode, f"{server.base_url}/chat/completions", CHAT)
            paths = [request.path for request in server.requests]
        assert paths == ["/v1/chat/completions", "/models/loaded", "/v1/models"]
        assert status == 404
        assert b"does not serve the model 'm'" in got

    def test_empty_answer_of_another_service_is_not_repeated(self, mode):
        """A look-up that shows another service ends it: no name is replaced, and no request repeated."""

        def play(_connection, request):
            if request.method == "POST":
                return sse_response([])
            is_list = request.path == "/v1/models"
            return as_json({"data": [{"id": "m-instruct"}]}) if is_list else as_json({}, 404)

        with RawServer(play) as server:
            body = {**CHAT, "stream": True}
            [(status, _, got)] = exchange(mode, f"{server.base_url}/chat/completions", body, service=server.url)
            assert sum(request.method == "POST" for request in server.requests) == 1
        assert status == 500
        assert json.loads(got)["error"]["code"] == "empty_stream"


@pytest.mark.parametrize("mode", MODES)
class TestOurOwnProxy:
    """What the shim's proxy has marked is repaired already, and passes through."""

    MARK = ("x-foundry-shim", "0.1")

    @pytest.mark.parametrize("streamed", [True, False])
    @pytest.mark.parametrize("status", [200, 404, 500])
    def test_marked_response_passes_through(self, mode, streamed, status):
        """An answer, an error that names the model, an empty one: byte for byte, and nothing is asked."""
        body = stream(betalgo()) if streamed else json.dumps({"error": {"message": "Model not found: m"}}).encode()
        kind = "text/event-stream" if streamed else "application/json"
        script = marked(plain_response(body, status, [("Content-Type", kind), self.MARK]))
        with RawServer(script) as server:
            url = f"{server.base_url}/chat/completions"
            [(got_status, headers, got)] = exchange(mode, url, {**CHAT, "stream": streamed}, service=server.url)
            assert len(server.requests) == 1
        assert (got_status, got) == (status, body)
        assert headers["content-length"] == str(len(body))

    def test_empty_response_passes_through(self, mode):
        """The proxy has explained what there is to explain."""
        script = plain_response(b"", 500, [self.MARK])
        with RawServer(script) as server:
            [(status, _, got)] = exchange(mode, f"{server.base_url}/chat/completions", CHAT, service=server.url)
            assert len(server.requests) == 1
        assert (status, got) == (500, b"")


# Ids of Foundry's catalog, by the alias that `foundry model list` shows (microsoft/foundry-local, issues 187 and 241;
# the qwen2.5 and phi-4-mini models by Azure/azureml-assets).
CATALOG = {
    "phi-4": "Phi-4-generic-cpu:1",
    "phi-4-mini": "Phi-4-mini-instruct-generic-cpu:5",
    "phi-4-mini-reasoning": "Phi-4-mini-reasoning-generic-cpu:3",
    "phi-3.5-mini": "Phi-3.5-mini-instruct-generic-cpu:1",
    "phi-3-mini-4k": "Phi-3-mini-4k-instruct-generic-cpu:2",
    "phi-3-mini-128k": "Phi-3-mini-128k-instruct-generic-cpu:2",
    "qwen2.5-0.5b": "qwen2.5-0.5b-instruct-generic-cpu:4",
    "qwen2.5-1.5b": "qwen2.5-1.5b-instruct-generic-cpu:4",
    "qwen2.5-7b": "qwen2.5-7b-instruct-vitis-npu:2",
    "qwen2.5-coder-0.5b": "qwen2.5-coder-0.5b-instruct-generic-cpu:4",
    "deepseek-r1-distill-qwen-7b": "deepseek-r1-distill-qwen-7b-qnn-npu:1",
    "gpt-oss-20b": "gpt-oss-20b-generic-cpu:1",
}


def resolve(name: str, ids: list[str]):
    """The id that a request for a name is repeated with, or None; and the error of the program."""

    def play(connection, request):
        if request.method == "POST" and request.json()["model"] in ids:
            return as_json({**PLAIN, "model": request.json()["model"]})
        refusal = as_json({"error": {"message": f"Model not found: No model matching '{name}'"}}, 404)
        return listing(connection, request, refusal, ids)

    with RawServer(play) as server, shim.OpenAI(base_url=server.base_url, max_retries=0) as client:
        try:
            return client.chat.completions.create(model=name, messages=MESSAGES).model, None
        except openai.NotFoundError as error:
            return None, error


class TestNames:
    """A name stands for a model where the id continues it with its format, device, provider and version only."""

    @pytest.mark.parametrize("alias", CATALOG)
    def test_alias_is_the_model_of_that_name(self, alias):
        """With the whole catalog there, and in any case."""
        for name in (alias, alias.upper()):
            assert resolve(name, list(CATALOG.values())) == (CATALOG[alias], None)

    @pytest.mark.parametrize("alias", CATALOG)
    def test_alias_is_never_another_model(self, alias):
        """With everything there but the model itself, it is an error that names what is there."""
        others = [model for model in CATALOG.values() if model != CATALOG[alias]]
        found, error = resolve(alias, others)
        assert found is None
        assert others[0] in str(error)

    @pytest.mark.parametrize(
        ("name", "model"),
        [
            ("phi-4", "Phi-4-mini-instruct-generic-gpu:5"),
            ("phi-4", "phi-4-multimodal-instruct-generic-gpu:1"),
            ("gpt-4o", "gpt-4o-mini"),
            ("gpt-4o", "gpt-4o-2024-08-06"),
            ("gpt-oss", "gpt-oss-20b-generic-cpu:1"),
            ("qwen2.5", "qwen2.5-0.5b-instruct-generic-cpu:4"),
            ("qwen2.5-1", "qwen2.5-1.5b-instruct-generic-cpu:4"),
            ("qwen2.5-0.5b", "qwen2.5-coder-0.5b-instruct-generic-cpu:4"),
            ("llama-3.1-8b", "llama-3.1-8b-lora-instruct-generic-cpu:1"),
            ("phi-4-mini-instruct-generic-cpu:6", "Phi-4-mini-instruct-generic-cpu:5"),
            ("phi-4-mini-instruct-generic-gpu", "Phi-4-mini-instruct-generic-cpu:5"),
            ("instruct", "Phi-4-mini-instruct-generic-cpu:5"),
            ("", "Phi-4-mini-instruct-generic-cpu:5"),
        ],
    )
    def test_similar_name_is_another_model(self, name, model):
        """More than the words of a format, a device or a provider make another model of it."""
        assert resolve(name, [model])[0] is None

    @pytest.mark.parametrize(
        ("name", "ids"),
        [
            ("phi-4-mini", ["Phi-4-mini-instruct-generic-cpu:5", "Phi-4-mini-instruct-cuda-gpu:5"]),
            ("phi-4", ["Phi-4-generic-cpu:1", "Phi-4-generic-gpu:1"]),
            ("qwen2.5-7b", ["qwen2.5-7b-instruct-vitis-npu:2", "qwen2.5-7b-instruct-openvino-npu:1"]),
        ],
    )
    def test_name_of_several_is_an_error_that_lists_them(self, name, ids):
        """Which of them is meant, only the program knows."""
        found, error = resolve(name, ids)
        assert found is None
        assert "stands for several" in str(error)
        for model in ids:
            assert model in str(error)

    def test_id_without_its_version_is_that_model(self):
        """2.x takes an id with its version only."""
        assert resolve("Phi-4-generic-cpu", list(CATALOG.values())) == ("Phi-4-generic-cpu:1", None)


@pytest.mark.parametrize("mode", MODES)
class TestMemory:
    """What is remembered has a limit, an age and evidence."""

    IDS = ("qwen2.5-0.5b-instruct-generic-cpu:4",)

    def service(self, ids):
        def play(connection, request):
            if request.method == "POST" and request.json()["model"] in ids:
                return as_json({**PLAIN, "model": request.json()["model"]})
            refusal = as_json({"error": {"message": "Model not found: No model matching it"}}, 404)
            return listing(connection, request, refusal, ids)

        return play

    def models_asked(self, mode, ids, names, *, between=None):
        """The models of the requests that reach the service for these names, asked for one after another."""

        async def run(base_url):
            client = Client(default_family(), mode).make(base_url)
            for name in names:
                with suppress(openai.NotFoundError):
                    await awaited(client.chat.completions.create(model=name, messages=MESSAGES))
                if between is not None:
                    between()
            await awaited(client.close())

        with RawServer(self.service(ids)) as server:
            anyio.run(run, server.base_url)
            return [request.json()["model"] for request in server.requests if request.method == "POST"]

    def test_id_is_remembered_for_its_name(self, mode):
        """The second request goes to the id at once."""
        assert self.models_asked(mode, self.IDS, ["qwen2.5-0.5b"] * 2) == ["qwen2.5-0.5b", *self.IDS * 2]

    def test_id_is_forgotten_when_the_list_changes(self, mode):
        """A service that has another variant now is asked for that."""
        ids = list(self.IDS)

        def change():
            ids[:] = ["qwen2.5-0.5b-instruct-cuda-gpu:4"]

        asked = self.models_asked(mode, ids, ["qwen2.5-0.5b"] * 3, between=change)
        new = "qwen2.5-0.5b-instruct-cuda-gpu:4"
        assert asked == ["qwen2.5-0.5b", *self.IDS, *self.IDS, new, new]

    def test_id_is_not_remembered_for_a_failure(self, mode):
        """What did not help is not tried first the next time."""

        def play(connection, request):
            if request.method == "POST" and request.json()["model"] in self.IDS:
                return as_json({"error": {"message": "out of memory"}}, 400)
            return self.service(self.IDS)(connection, request)

        async def run(base_url):
            client = Client(default_family(), mode).make(base_url)
            for _ in range(2):
                with pytest.raises(openai.BadRequestError):
                    await awaited(client.chat.completions.create(model="qwen2.5-0.5b", messages=MESSAGES))
            await awaited(client.close())

        with RawServer(play) as server:
            anyio.run(run, server.base_url)
            asked = [request.json()["model"] for request in server.requests if request.method == "POST"]
        assert asked == ["qwen2.5-0.5b", *self.IDS] * 2

    def test_facts_grow_old(self, mode, monkeypatch):
        """After a while the request is tried as the program has written it."""
        monkeypatch.setattr("shim.transport.memory._SECONDS", 0.0)
        assert self.models_asked(mode, self.IDS, ["qwen2.5-0.5b"] * 2) == ["qwen2.5-0.5b", *self.IDS] * 2

    def test_facts_are_few(self, mode, monkeypatch):
        """The oldest goes where a new one would be too many."""
        monkeypatch.setattr("shim.transport.memory._MOST_FACTS", 1)
        ids = [*self.IDS, "Phi-4-generic-cpu:1"]
        asked = self.models_asked(mode, ids, ["qwen2.5-0.5b", "phi-4", "phi-4", "qwen2.5-0.5b"])
        assert asked == ["qwen2.5-0.5b", ids[0], "phi-4", ids[1], ids[1], "qwen2.5-0.5b", ids[0]]

    def test_facts_of_one_model_are_not_those_of_another(self, mode):
        """That one model refuses `strict` says nothing of the next."""
        message = "function tool 'strict' true is not supported until constrained decoding is implemented"

        def play(_connection, request):
            body = request.json()
            is_strict = body["tools"][0]["function"].get("strict")
            return (
                as_json({"error": {"message": message}}, 400) if is_strict and body["model"] == "a" else as_json(PLAIN)
            )

        async def run(base_url):
            client = Client(default_family(), mode).make(base_url)
            for model in ("a", "a", "b", "b"):
                await awaited(client.chat.completions.create(model=model, messages=MESSAGES, tools=[TOOL]))
            await awaited(client.close())

        with RawServer(play) as server:
            anyio.run(run, server.base_url)
            sent = [(r.json()["model"], r.json()["tools"][0]["function"].get("strict")) for r in server.requests]
        assert sent == [("a", True), ("a", None), ("a", None), ("b", True), ("b", True)]


def test_memory_is_safe_under_threads():
    """Many threads that learn and forget at once leave a memory within its limit."""
    from shim.transport.memory import _MOST_FACTS, Facts, Subject  # noqa: PLC0415 - the one private name here

    facts = Facts[int]()

    def work(number):
        for count in range(500):
            facts.learn(Subject("http://x", f"{number}-{count}"), count)
            facts.recall(Subject("http://x", f"{number}-{count - 1}"))
            facts.forget(Subject("http://x", f"{number}-{count - 2}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(facts._known) <= _MOST_FACTS
