"""The clients are the official ones: same arguments, same behaviour, with the repair kept wherever they go."""

import gc
import json
import os
import threading

import anyio
import openai
import pytest
from pydantic import BaseModel

import shim
from shim.client import repair
from shim.transport import AsyncRepairTransport, RepairTransport
from support.raw_server import RawServer, Send, in_turn, plain_response, response_head, sse_response
from support.streams import DONE, betalgo, chunk, conforming, stream
from support.talk import FAMILIES, MESSAGES, default_family

ASK = {"model": "m", "messages": MESSAGES, "stream": True}
BROKEN = sse_response([stream(betalgo(("a", "b")))])


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    """A machine without an API key and without proxies."""
    for name in ("OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def is_repaired(official, **options):
    """Whether a stream of Foundry Local 1.x comes out right."""
    chunks = list(official.chat.completions.create(**ASK, **options))
    return len({each.id for each in chunks}) == 1 and not chunks[0].id.startswith("chat.id")


class TestSubclass:
    """`shim.OpenAI` is an `openai.OpenAI`."""

    def test_is_an_instance_of_the_official_client(self):
        """isinstance holds, for both."""
        with shim.OpenAI(base_url="http://localhost") as client:
            assert isinstance(client, openai.OpenAI)
        assert issubclass(shim.AsyncOpenAI, openai.AsyncOpenAI)

    def test_key_is_not_needed(self, monkeypatch):
        """Without a key a placeholder is used; a key given or in the environment is kept."""
        with shim.OpenAI(base_url="http://localhost") as client:
            assert client.api_key == "none"
        with shim.OpenAI(base_url="http://localhost", api_key="given") as client:
            assert client.api_key == "given"
        monkeypatch.setenv("OPENAI_API_KEY", "environment")
        with shim.OpenAI(base_url="http://localhost") as client:
            assert client.api_key == "environment"

    @pytest.mark.parametrize(
        "derived",
        [
            lambda client: client.with_options(max_retries=0),
            lambda client: client.copy(timeout=5),
            lambda client: client.with_options(default_headers={"X": "1"}).copy(),
        ],
    )
    def test_copies_keep_the_repair(self, derived):
        """with_options() and copy() give the same class with the same repaired transport."""
        with RawServer(BROKEN) as server, shim.OpenAI(base_url=server.base_url) as client:
            other = derived(client)
            assert type(other) is shim.OpenAI
            assert is_repaired(other)
            assert isinstance(other._client._transport, RepairTransport)
            assert not isinstance(other._client._transport.inner, RepairTransport)

    def test_parse_and_raw_response_pass_through(self):
        """.parse(), with_raw_response and a request without a stream pass through."""

        class Answer(BaseModel):
            value: int

        message = {"role": "assistant", "content": '{"value": 7}'}
        choices = [{"index": 0, "finish_reason": "stop", "message": message}]
        body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
        with (
            RawServer(plain_response(json.dumps(body).encode())) as server,
            shim.OpenAI(base_url=server.base_url) as client,
        ):
            completions = client.chat.completions
            parse = completions.parse if hasattr(completions, "parse") else client.beta.chat.completions.parse
            parsed = parse(model="m", messages=MESSAGES, response_format=Answer)
            assert parsed.choices[0].message.parsed == Answer(value=7)
            raw = completions.with_raw_response.create(model="m", messages=MESSAGES)
            assert raw.parse().choices[0].message.content == message["content"]
            assert not shim.report(raw).repairs
            assert server.requests[0].header("accept-encoding") != "identity"

    def test_report_reads_streams_helpers_and_responses(self):
        """report() reads from a stream, its helper, and a streaming response."""
        with RawServer(BROKEN) as server, shim.OpenAI(base_url=server.base_url) as client:
            with client.chat.completions.create(**ASK) as plain_stream:
                list(plain_stream)
            with client.chat.completions.with_streaming_response.create(**ASK) as response:
                list(response.iter_bytes())
        for source in (plain_stream, plain_stream.response, response):
            report = shim.report(source)
            assert report.events == 3
            assert report.repairs[shim.Repair.MESSAGE_BESIDE_DELTA] == 3
        assert shim.report(object()) is None


class TestHttpClient:
    """`http_client()` for whoever builds the official client."""

    def test_has_the_family_and_defaults_of_openai(self):
        """It is the installed openai's own default client."""
        with shim.http_client() as client, openai.DefaultHttpxClient() as official:
            assert isinstance(client, type(official))
            assert client.timeout == official.timeout
            assert client.follow_redirects is official.follow_redirects is True
            pool, official_pool = client._transport.inner._pool, official._transport._pool
            assert pool._max_connections == official_pool._max_connections == 1000
            assert pool._max_keepalive_connections == official_pool._max_keepalive_connections

    @pytest.mark.parametrize("family", FAMILIES)
    def test_repairs_under_the_official_client(self, family):
        """openai.OpenAI takes it, and takes a client of either library that has the transport."""
        library = FAMILIES[family]
        made = (
            shim.http_client()
            if family == default_family()
            else library.Client(transport=shim.RepairTransport(library.HTTPTransport()))
        )
        with (
            RawServer(BROKEN) as server,
            openai.OpenAI(base_url=server.base_url, api_key="k", http_client=made) as client,
        ):
            assert is_repaired(client)

    def test_repairs_under_the_asynchronous_client(self):
        """The same for the asynchronous client."""

        async def run(server):
            made = shim.async_http_client()
            async with openai.AsyncOpenAI(base_url=server.base_url, api_key="k", http_client=made) as client:
                return [each.id async for each in await client.chat.completions.create(**ASK)]

        with RawServer(BROKEN) as server:
            ids = anyio.run(run, server)
        assert len(set(ids)) == 1
        assert ids[0].startswith("chatcmpl-")

    def test_options_reach_the_client(self):
        """What openai's default client takes is honoured: limits, timeout, headers."""
        library = FAMILIES[default_family()]
        limits = library.Limits(max_connections=3)
        with shim.http_client(limits=limits, timeout=7, headers={"X-Own": "1"}) as client:
            assert client._transport.inner._pool._max_connections == 3
            assert client.timeout == library.Timeout(7)
            assert client.headers["x-own"] == "1"

    def test_redirects_are_followed(self):
        """A redirect on the same service is followed, as the official client does."""
        moved = [
            Send(
                response_head(
                    307, [("Location", "/v1/elsewhere/chat/completions"), ("Content-Length", "0")], chunked=False
                )
            )
        ]
        with RawServer(in_turn(moved, BROKEN)) as server, shim.OpenAI(base_url=server.base_url) as client:
            assert is_repaired(client)
            assert server.requests[1].path == "/v1/elsewhere/chat/completions"

    def test_uses_the_proxy_of_the_environment(self, monkeypatch):
        """HTTP_PROXY is honoured and the stream through it repaired; NO_PROXY is honoured, too."""
        with RawServer(BROKEN) as proxy, RawServer(BROKEN) as server:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            with shim.OpenAI(base_url="http://foundry.test:5273/v1") as client:
                assert is_repaired(client)
            assert proxy.requests[0].path == "http://foundry.test:5273/v1/chat/completions"
            monkeypatch.setenv("NO_PROXY", "127.0.0.1")
            with shim.OpenAI(base_url=server.base_url) as client:
                assert is_repaired(client)
            assert len(server.requests) == 1
            assert len(proxy.requests) == 1

    def test_uses_a_proxy_given_as_argument(self):
        """A proxy given as an argument is used, with the repair."""
        with RawServer(BROKEN) as proxy, shim.http_client(proxy=proxy.url) as made:
            with openai.OpenAI(base_url="http://foundry.test/v1", api_key="k", http_client=made) as client:
                assert is_repaired(client)
            assert proxy.requests[0].path.startswith("http://foundry.test/")

    @pytest.mark.parametrize("family", FAMILIES)
    def test_wraps_an_own_http_client(self, family):
        """A client that a program passes in keeps its settings and gets the repair, once."""
        with RawServer(BROKEN) as server, FAMILIES[family].Client(headers={"X-Own": "1"}) as own:
            for _ in range(2):
                client = shim.OpenAI(base_url=server.base_url, http_client=own)
                assert is_repaired(client)
            assert server.requests[0].header("x-own") == "1"
            assert not isinstance(own._transport.inner, RepairTransport)

    def test_wraps_an_own_asynchronous_http_client(self):
        """The async transport goes under an async client."""
        own = FAMILIES[default_family()].AsyncClient()
        assert isinstance(repair(own)._transport, AsyncRepairTransport)
        anyio.run(own.aclose)

    @pytest.mark.parametrize("family", FAMILIES)
    def test_accepts_a_transport_of_both_kinds(self, family):
        """It is the client that says whether it is asynchronous; some transports, as the libraries' mocks, are both."""
        library = FAMILIES[family]
        answers = library.MockTransport(lambda _request: library.Response(200, content=stream(betalgo())))

        async def ask():
            async with repair(library.AsyncClient(transport=answers)) as client:
                return (await client.post("http://x/chat/completions", json=ASK)).content

        with repair(library.Client(transport=answers)) as client:
            assert b"chat.id" not in client.post("http://x/chat/completions", json=ASK).content
        assert b"chat.id" not in anyio.run(ask)

    def test_refuses_anything_else_in_one_sentence(self):
        """Anything that is no such client is refused in one sentence."""
        with pytest.raises(TypeError, match=r"client of httpx or httpx2, not dict"):
            shim.OpenAI(http_client={})

    def test_collected_client_closes_its_connections(self):
        """A client that nobody holds any more leaves no connection open."""
        with RawServer(BROKEN) as server:
            assert is_repaired(shim.OpenAI(base_url=server.base_url))
            gc.collect()  # the official client refers to itself
            server.wait_for_close(timeout=5)

    def test_many_threads_share_a_client(self):
        """One client, many threads: each gets its own answer, repaired."""

        def echo(connection, request):
            word = request.json()["messages"][0]["content"]
            connection.play(sse_response([stream(betalgo((word,)))]))

        texts = {}

        def ask(client, word):
            messages = [{"role": "user", "content": word}]
            chunks = client.chat.completions.create(model="m", messages=messages, stream=True)
            texts[word] = "".join(each.choices[0].delta.content for each in chunks)

        with RawServer(echo) as server, shim.OpenAI(base_url=server.base_url) as client:
            threads = [threading.Thread(target=ask, args=(client, f"word {number}")) for number in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert all(word == text for word, text in texts.items())
        assert len(texts) == 20


class TestTransport:
    """The transport as a part of other clients."""

    @pytest.mark.parametrize("family", FAMILIES)
    def test_enters_and_closes_the_inner_transport(self, family):
        """`with Client(transport=…)` enters and closes the inner transport."""
        library = FAMILIES[family]
        transport = shim.RepairTransport(library.HTTPTransport())
        with RawServer(BROKEN) as server, library.Client(transport=transport) as client:
            answer = client.post(f"{server.base_url}/chat/completions", json=ASK)
            assert answer.content.endswith(DONE)
            assert b"IsDelta" not in answer.content
            server_answers = answer.extensions["foundry_local_shim"].events
        assert server_answers == 3
        server.wait_until_no_connection_is_open()

    @pytest.mark.parametrize("family", FAMILIES)
    def test_any_transport_may_be_inside(self, family):
        """Any transport of the same library may be inside, the libraries' own mocks included."""
        library = FAMILIES[family]
        answers = library.MockTransport(lambda _request: library.Response(200, content=stream(betalgo())))
        with library.Client(transport=shim.RepairTransport(answers)) as client:
            assert b"chat.id" not in client.post("http://x/chat/completions", json=ASK).content

        async def run():
            async with library.AsyncClient(transport=shim.AsyncRepairTransport(answers)) as client:
                return (await client.post("http://x/chat/completions", json=ASK)).content

        assert b"chat.id" not in anyio.run(run)

    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("POST", "/completions", ASK),
            ("POST", "/embeddings", ASK),
            ("GET", "/chat/completions", ASK),
            ("POST", "/chat/completions", []),
        ],
    )
    def test_other_exchanges_are_not_touched(self, family, method, path, body):
        """What is no completion, response or list of models leaves as the bytes that came."""
        library = FAMILIES[family]
        sent = stream(betalgo())
        with RawServer(sse_response([sent])) as server:
            with library.Client(transport=shim.RepairTransport(library.HTTPTransport())) as client:
                answer = client.request(method, server.base_url + path, json=body)
        assert answer.content == sent
        report = shim.report(answer)
        # Of embeddings only errors are repaired.
        assert not report.repairs if path == "/embeddings" else report is None

    @pytest.mark.parametrize("family", FAMILIES)
    def test_streamed_request_body_passes(self, family):
        """A request whose body cannot be read beforehand passes as it is."""
        library = FAMILIES[family]
        with RawServer(sse_response([stream(betalgo())])) as server:
            with library.Client(transport=shim.RepairTransport(library.HTTPTransport())) as client:
                answer = client.post(f"{server.base_url}/chat/completions", content=iter([b"{", b"}"]))
        assert shim.report(answer) is None

    @pytest.mark.parametrize("mode", ["sync", "async"])
    @pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/2"])
    @pytest.mark.parametrize("family", FAMILIES)
    def test_rest_of_the_body_decides_the_connection(self, family, version, mode):
        """What follows the end marker is read where that frees the connection, not where others share it (HTTP/2).

        And only where the read has a bound, which a synchronous one of a transport of the program's own has not.
        """
        library = FAMILIES[family]
        pieces = [stream(conforming()), b"\n"]
        read = []

        class Body(library.SyncByteStream, library.AsyncByteStream):
            def __iter__(self):
                for piece in pieces:
                    read.append(piece)
                    yield piece

            async def __aiter__(self):
                for piece in self:
                    yield piece

        def answer(_request):
            return library.Response(200, stream=Body(), extensions={"http_version": version})

        async def ask():
            async with library.AsyncClient(
                transport=shim.AsyncRepairTransport(library.MockTransport(answer))
            ) as client:
                return (await client.post("http://x/chat/completions", json=ASK)).content

        if mode == "async":
            content = anyio.run(ask)
        else:
            with library.Client(transport=shim.RepairTransport(library.MockTransport(answer))) as client:
                content = client.post("http://x/chat/completions", json=ASK).content
        assert content == pieces[0]
        assert len(read) == (2 if (version, mode) == (b"HTTP/1.1", "async") else 1)

    def test_refuses_an_inner_transport_of_the_wrong_kind(self):
        """A sync transport around something that streams asynchronously says so."""
        library = FAMILIES[default_family()]

        class Odd:
            def handle_request(self, request):
                class Stream(library.AsyncByteStream):
                    pass

                return library.Response(200, stream=Stream())

            def close(self):
                pass

        request = library.Request("POST", "http://x/chat/completions", json=ASK)
        with pytest.raises(TypeError, match="not a SyncByteStream"):
            RepairTransport(Odd()).handle_request(request)


def test_first_answer_is_conforming_when_the_service_is():
    """The shim adds nothing to what a conforming service says."""
    with RawServer(sse_response([stream([*conforming(), chunk({})])])) as server:
        with shim.OpenAI(base_url=server.base_url) as client:
            chunks = list(client.chat.completions.create(**ASK))
    assert [each.model_extra for each in chunks] == [{}] * 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_forked_child_leaves_the_connections_to_its_parent():
    """Two processes on one connection would take each other's responses."""
    http = FAMILIES[default_family()]
    with RawServer(plain_response(b"{}")) as server, shim.RepairTransport(http.HTTPTransport()) as transport:
        request = http.Request("GET", f"{server.base_url}/models")
        for _ in range(2):
            transport.handle_request(request).read()
        assert server.connections == 1
        transport._process = 0  # as in a child, which has another id
        for _ in range(2):
            transport.handle_request(request).read()
        assert server.connections == 2
