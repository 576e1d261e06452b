"""`shim.install`: the repair under programs that know nothing of it, and nothing under all others."""

import dataclasses
import gc
import gzip
import http.client
import json
import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import openai
import pytest

import shim
from shim.capture.recording import RecordingTransport
from shim.client import repair
from shim.installation import read_named_host
from shim.service.find import find_service
from support.clients import AIOHTTP
from support.environments import REPOSITORY, Unprovisioned
from support.raw_server import EVENT_STREAM, RawServer, Send, in_turn, plain_response, response_head, sse_response
from support.scripted_model import SCRIPTS
from support.streams import DONE, MODEL, WIRE, betalgo, conforming, event, recorded_body, stream
from support.talk import FAMILIES, MESSAGES, MODES, clients
from support.unchanged import ASK, CHAT, RECORDED, SECONDS, fetch, is_repaired, make, usual_transport

# The same stream from a server that compresses it, and an answer in one piece.
GZIPPED = sse_response([gzip.compress(stream(betalgo()))], headers=[*EVENT_STREAM, ("Content-Encoding", "gzip")])
MESSAGE = {"role": "assistant", "content": "Hello"}
PLAIN = plain_response(json.dumps({"id": "chat.id.1", "choices": [{"message": MESSAGE}], "IsDelta": False}).encode())
BETALGO = recorded_body(WIRE / "live" / "1.0.0" / "haiku.http")
BACKENDS = ("asyncio", "trio")
OFFICIAL = [dataclasses.replace(client, repaired=False) for client in clients()]
ELSEWHERE = "http://api.example.com"
by_family = pytest.mark.parametrize("family", FAMILIES)
by_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch) -> Iterator[None]:
    """A machine without proxies; what a test installs is taken back."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    yield
    shim.uninstall()


def run_program(code: str, *arguments: str, before: str | Path = "", python: str | Path = sys.executable) -> str:
    """Run a program in a fresh interpreter that has this checkout and the tests' support; return what it prints."""
    paths = [*filter(None, [str(before)]), str(REPOSITORY), str(REPOSITORY / "tests")]
    done = subprocess.run(
        [python, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.strip()


def new_own_transport(family, mode):
    """A transport as programs write them around the usual one, to retry or to log."""
    library = FAMILIES[family]

    class Around(library.BaseTransport if mode == "sync" else library.AsyncBaseTransport):
        def __init__(self):
            self.inner = usual_transport(family, mode)()

        def handle_request(self, request):
            return self.inner.handle_request(request)

        async def handle_async_request(self, request):
            return await self.inner.handle_async_request(request)

        def close(self):
            self.inner.close()

        async def aclose(self):
            await self.inner.aclose()

    return Around()


class SocketTransport:
    """A transport that is none of a library's: the standard library asks, and nothing can be attached to it."""

    __slots__ = ("library",)

    def __init__(self, library):
        """Choose whose responses to give."""
        self.library = library

    def handle_request(self, request):
        connection = http.client.HTTPConnection(request.url.host, request.url.port, timeout=SECONDS)
        headers = {name.decode(): value.decode() for name, value in request.headers.raw}
        connection.request(request.method, request.url.path, request.read(), headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return self.library.Response(response.status, headers={"content-type": "text/event-stream"}, content=content)

    def close(self):
        """Nothing is open."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


class TestReach:
    """Every client is reached, whoever made it, whenever, and whatever is in it."""

    @pytest.mark.parametrize("client", OFFICIAL, ids=str)
    def test_official_client_is_repaired(self, client):
        """Sync and async, on either library, with create() and with the helper."""
        shim.install()
        with RawServer(RECORDED) as server:
            answer = client.ask(server.base_url)
        assert (answer.error, answer.text, answer.reason) == (None, SCRIPTS["haiku"], "stop")
        assert len(answer.ids) == 1
        assert answer.report.repairs[shim.Repair.FOREIGN_MEMBERS]

    @by_family
    @by_mode
    def test_client_made_before_is_repaired(self, family, mode):
        """And one that has been used before."""
        with RawServer(RECORDED) as server:
            client = make(family, mode)
            with make(family, "sync") as used:
                assert not is_repaired(used.post(server.url + CHAT, json=ASK).content)
                shim.install()
                assert is_repaired(used.post(server.url + CHAT, json=ASK).content)
            assert is_repaired(fetch(client, server.url + CHAT).content)

    @by_family
    def test_functions_of_a_library_are_repaired(self, family):
        """`httpx.post` and `httpx.stream` make a client for one request."""
        library = FAMILIES[family]
        shim.install()
        with RawServer(RECORDED) as server:
            assert is_repaired(library.post(server.url + CHAT, json=ASK).content)
            with library.stream("POST", server.url + CHAT, json=ASK) as response:
                assert is_repaired(response.read())

    @by_family
    @by_mode
    def test_own_transports_are_repaired(self, family, mode):
        """A subclass of the usual one, one around it, and one that is mounted for some addresses."""
        shim.install()
        subclass = type("Subclass", (usual_transport(family, mode),), {})
        with RawServer(RECORDED) as server:
            for options in (
                {"transport": subclass()},
                {"transport": new_own_transport(family, mode)},
                {"mounts": {"http://127.0.0.1": new_own_transport(family, mode), "all://": None}},
                {"mounts": {"http://127.0.0.1": None}, "transport": new_own_transport(family, mode)},
            ):
                assert is_repaired(fetch(make(family, mode, **options), server.url + CHAT).content)

    @by_family
    def test_transport_of_no_library_is_repaired(self, family):
        """It never reaches the library's own, and cannot be referred to weakly."""
        transport = SocketTransport(FAMILIES[family])
        with pytest.raises(TypeError):
            weakref.ref(transport)
        shim.install()
        with RawServer(RECORDED) as server:
            assert is_repaired(fetch(make(family, "sync", transport=transport), server.url + CHAT).content)

    @by_family
    @by_mode
    @pytest.mark.parametrize("response", [RECORDED, GZIPPED, PLAIN], ids=["stream", "compressed", "plain"])
    def test_transport_that_reads_its_responses(self, family, mode, response):
        """As those do that log or cache them."""
        transport = new_own_transport(family, mode)
        send, asend = transport.handle_request, transport.handle_async_request

        def read(request):
            response = send(request)
            response.read()
            return response

        async def aread(request):
            response = await asend(request)
            await response.aread()
            return response

        transport.handle_request, transport.handle_async_request = read, aread
        shim.install()
        asked = {key: value for key, value in ASK.items() if key != "stream" or response is not PLAIN}
        with RawServer(response) as server:
            body = fetch(make(family, mode, transport=transport), server.url + CHAT, json=asked).content
        assert b"IsDelta" not in body
        assert b"Hello" in body or b"Cherry" in body

    @by_family
    def test_proxy_of_the_environment_stays(self, family, monkeypatch):
        """The request goes to the proxy, and the response that it brings is repaired."""
        shim.install()
        with RawServer(RECORDED) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            response = fetch(make(family, "sync"), "http://127.0.0.1:1" + CHAT)
        assert is_repaired(response.content)
        assert proxy.requests[0].path == "http://127.0.0.1:1" + CHAT

    @by_family
    @pytest.mark.parametrize("backend", BACKENDS)
    def test_event_loops_of_both_kinds(self, family, backend):
        """asyncio and trio."""
        shim.install()
        with RawServer(RECORDED) as server:
            assert is_repaired(fetch(make(family, "async"), server.url + CHAT, backend=backend).content)

    @pytest.mark.extended
    @pytest.mark.parametrize("make_client", ["httpx_aiohttp.HttpxAiohttpClient()", "openai.DefaultAioHttpClient()"])
    def test_transports_on_aiohttp(self, make_client):
        """They never reach the library's own transport; also under the official client."""
        try:
            python = AIOHTTP.ensure()
        except Unprovisioned as error:
            pytest.skip(str(error))
        code = (
            "import asyncio, sys, shim; shim.install()\n"
            "import httpx_aiohttp, openai; from support.raw_server import RawServer; from support.unchanged import *\n"
            "async def ask(server):\n"
            "    client = eval(sys.argv[1])\n"
            "    assert 'aiohttp' in type(client._transport).__name__.lower()\n"
            "    options = {'base_url': server.base_url, 'api_key': 'k', 'http_client': client}\n"
            "    async with openai.AsyncOpenAI(**options) as official:\n"
            "        chunks = [chunk async for chunk in await official.chat.completions.create(**ASK)]\n"
            "    text = ''.join(chunk.choices[0].delta.content or '' for chunk in chunks)\n"
            "    print(len({chunk.id for chunk in chunks}), text)\n"
            "with RawServer(RECORDED) as server: asyncio.run(ask(server))\n"
        )
        assert run_program(code, make_client, python=python) == f"1 {SCRIPTS['haiku']}"

    @by_family
    def test_threads_share_a_client(self, family):
        """The first requests of many threads are sent at the same time."""
        shim.install()
        bodies, count = [], 8
        start = threading.Barrier(count)
        with RawServer(RECORDED) as server, make(family, "sync") as client:

            def ask():
                start.wait(SECONDS)
                bodies.append(client.post(server.url + CHAT, json=ASK).content)

            threads = [threading.Thread(target=ask) for _ in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(SECONDS)
        assert [is_repaired(body) for body in bodies] == [True] * count

    @by_family
    @by_mode
    def test_every_hop_of_a_redirect_is_decided_anew(self, family, mode):
        """From a path that is not the API's, and from one that is."""
        shim.install()

        def script(_, request):
            places = {"/old": CHAT, CHAT: "/other" + CHAT}
            if (place := places.get(request.path)) is None:
                return RECORDED
            return [Send(response_head(307, [("Location", place), ("Content-Length", "0")], chunked=False))]

        with RawServer(script) as server:
            response = fetch(make(family, mode, follow_redirects=True), server.url + "/old")
            assert is_repaired(response.content)
            assert [request.path for request in server.requests] == ["/old", CHAT, "/other" + CHAT]
            assert len({request.body for request in server.requests}) == 1

    @by_family
    def test_request_that_is_sent_twice(self, family):
        """An authentication that answers a challenge sends the same request object again."""

        def script(_, request):
            if (request.header("authorization") or "").startswith("Digest"):
                return RECORDED
            challenge = ("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth"')
            return plain_response(b'{"error": "who?"}', 401, [challenge])

        shim.install()
        with RawServer(script) as server:
            client = make(family, "sync", auth=FAMILIES[family].DigestAuth("user", "password"))
            assert is_repaired(fetch(client, server.url + CHAT).content)

    @by_family
    @by_mode
    def test_request_that_is_not_the_apis(self, family, mode):
        """Of another method, without JSON, or a body that can be sent only once: both directions as they are."""
        content = strange_request if mode == "sync" else strange_async_request
        shim.install()
        with RawServer(RECORDED) as server:
            for method, options in (
                ("PUT", {"json": ASK}),
                ("POST", {"content": b"{"}),
                ("POST", {"content": content()}),
            ):
                response = fetch(make(family, mode), server.url + CHAT, method, **options)
                assert response.content == BETALGO
            assert server.requests[-1].body == b"".join(strange_request())

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
    def test_forked_process_is_repaired(self):
        """With a client made before the fork, and used before it."""
        shim.install()
        with RawServer(RECORDED) as server, httpx.Client(timeout=SECONDS) as client:
            assert is_repaired(client.post(server.url + CHAT, json=ASK).content)
            code = (
                "import os, sys, httpx, shim; from support.unchanged import *; shim.install()\n"
                "url, client = sys.argv[1], httpx.Client(timeout=SECONDS)\n"
                "assert is_repaired(client.post(url, json=ASK).content)\n"
                "if (child := os.fork()) == 0:\n"
                "    os._exit(not is_repaired(client.post(url, json=ASK).content))\n"
                "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
            )
            assert run_program(code, server.url + CHAT) == "0"

    @by_family
    def test_nothing_is_attached_to_a_transport(self, family):
        """One that can be pickled still can, after it was used."""
        shim.install()
        transport = PickledTransport(family)
        before = pickle.dumps(transport)
        with RawServer(RECORDED) as server:
            assert is_repaired(fetch(make(family, "sync", transport=transport), server.url + CHAT).content)
        assert pickle.dumps(transport) == before


class PickledTransport:
    """A transport with nothing but its settings."""

    def __init__(self, family):
        """Choose whose transport to send by."""
        self.family = family

    def handle_request(self, request):
        with usual_transport(self.family, "sync")() as inner:
            response = inner.handle_request(request)
            response.read()
            return response

    def close(self):
        """Nothing is open."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


LOOPBACK = [
    "localhost",
    "LocalHost",
    "localhost.",
    "foundry.localhost",
    "127.0.0.1",
    "127.9.8.7",
    "127.1",
    "0.0.0.0",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::FFFF:7f00:5]",
]
OTHERS = [
    "api.openai.com",
    "localhost.example.com",
    "notlocalhost",
    "127.example.com",
    "127.0.0.1.example.com",
    "10.0.0.7",
    "128.0.0.1",
    "1270.1",
    "[::2]",
    "[::ffff:10.0.0.7]",
    "bücher.example",
]


def through_proxy(family, mode, server, **options):
    """A client whose requests all reach this server, whatever their host."""
    return make(family, mode, proxy=server.url, **options)


class TestScope:
    """Which hosts and paths are meant. A proxy receives the requests to hosts that do not exist."""

    @pytest.mark.parametrize(
        ("host", "expected"), [*((each, True) for each in LOOPBACK), *((e, False) for e in OTHERS)]
    )
    @by_family
    def test_loopback_addresses_in_all_spellings(self, family, host, expected):
        """And no other host that only looks like one."""
        shim.install()
        with RawServer(RECORDED) as server:
            response = fetch(through_proxy(family, "sync", server), f"http://{host}:5273{CHAT}")
        assert is_repaired(response.content) is expected

    @pytest.mark.parametrize(
        ("named", "address", "expected"),
        [
            ("10.0.0.7", "http://10.0.0.7", True),
            ("10.0.0.7", "http://10.0.0.7:5273", True),
            ("10.0.0.7:5273", "http://10.0.0.7:5273", True),
            ("10.0.0.7:5273", "http://10.0.0.7:5274", False),
            ("10.0.0.7:80", "http://10.0.0.7", True),
            ("http://10.0.0.7/v1", "http://10.0.0.7", True),
            ("http://10.0.0.7/v1", "http://10.0.0.7:5273", False),
            ("Gateway.Example.", "http://gateway.example:8", True),
            ("gateway.example", "http://gateway.example.:8", True),
            ("gateway.example", "http://other.gateway.example", False),
            ("bücher.example", "http://bücher.example", True),
            ("fd00::7", "http://[fd00:0::7]:5273", True),
            ("[fd00::7]:5273", "http://[fd00::7]:5273", True),
            ("[fd00::7]:5273", "http://[fd00::7]", False),
        ],
    )
    def test_named_hosts(self, named, address, expected):
        """With a port only that one is meant, without one all are."""
        shim.install(hosts=[named])
        with RawServer(RECORDED) as server:
            response = fetch(through_proxy("httpx", "sync", server), address + CHAT)
        assert is_repaired(response.content) is expected

    @pytest.mark.parametrize(
        "text", ["", " ", "*", "*.example", "10.0.0.7:port", "10.0.0.7:99999", "a,b", "a b", ":80"]
    )
    def test_text_that_is_not_a_host_is_refused(self, text):
        """The message names it, and shows how hosts are written; nothing is installed."""
        with pytest.raises(ValueError, match=r"is not a host\. Name it as") as caught:
            shim.install(hosts=[text])
        assert repr(text) in str(caught.value)
        with RawServer(RECORDED) as server:
            assert not is_repaired(fetch(make("httpx", "sync"), server.url + CHAT).content)

    @by_mode
    def test_named_host_is_known_as_foundry_locals(self, mode):
        """Its models are looked up before any response has shown that; those of an unnamed one on this machine, too."""

        def script(_, request):
            if request.method == "GET":
                return plain_response(b'["phi-4-mini-instruct-generic-cpu:4"]')
            return plain_response(b"", 500) if request.json()["model"] == "phi-4-mini" else RECORDED

        shim.install(hosts=["gateway.example"])
        body = {**ASK, "model": "phi-4-mini"}
        with RawServer(script) as server:
            response = fetch(through_proxy("httpx", mode, server), f"http://gateway.example{CHAT}", json=body)
        assert is_repaired(response.content)

    def test_one_host_may_be_named_by_itself(self):
        """A text is a host, not a list of its letters."""
        assert read_named_host("gateway.example:80") == ("gateway.example", 80)
        shim.install(hosts="gateway.example")
        with RawServer(RECORDED) as server:
            assert is_repaired(fetch(through_proxy("httpx", "sync", server), f"http://gateway.example{CHAT}").content)

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            (CHAT, True),
            ("/catalogs/local/v1/chat/completions", True),
            ("/chat/completions", True),
            ("/v1/chat/completions?x=1", True),
            ("/v1/completions", False),
            ("/v1/chat/completions/7", False),
            ("/surveys/7/responses", False),
            ("/", False),
        ],
    )
    def test_paths_of_the_api(self, path, expected):
        """Under whatever prefix, and no path that only ends alike."""
        shim.install()
        with RawServer(RECORDED) as server:
            assert is_repaired(fetch(make("httpx", "sync"), server.url + path).content) is expected

    @pytest.mark.parametrize(
        ("path", "expected"),
        [("/v1/models", True), ("/v1/models/phi-4-mini", True), ("/models/weights.bin", False), ("/models", False)],
    )
    def test_models_are_read_under_v1_only(self, path, expected):
        """A file of another server may be at `/models/…`, and of any size."""
        listing = {"object": "list", "data": [], "IsDelta": False, "Successful": True, "HttpStatusCode": 0}
        shim.install()
        with RawServer(plain_response(json.dumps(listing).encode())) as server:
            body = fetch(make("httpx", "sync"), server.url + path, "GET").content
        assert (b"IsDelta" not in body) is expected


# What no parser accepts, with marks of Foundry Local in it, in odd pieces and with odd headers.
STRANGE = [
    Send(b"HTTP/1.1 203 Perhaps\r\nServer: oatpp/1.3.0\r\nX-A: 1\r\nX-A: 1\r\nContent-Type: text/plain\r\n"),
    Send(b'Transfer-Encoding: chunked\r\n\r\n3\r\n{"I\r\n'),
    Send(b'15\r\nsDelta": \xff\xfe[[[[ data:\r\n0\r\n\r\n'),
]
STRANGE_BODY = b'{"IsDelta": \xff\xfe[[[[ data:'


def strange_request():
    """A body that is not JSON, sent piece by piece."""
    yield b'{"stream": true, '
    yield b"\xff\xfe"


async def strange_async_request():
    """The same for a client of the other kind."""
    for piece in strange_request():
        yield piece


def exchange(family, mode, place):
    """What the server receives and what the program receives where nothing is to be repaired.

    Args:
        family: The library.
        mode: Of its client.
        place: "host" for another host, "path" for another path on this machine.
    """
    seen = []
    content = strange_request if mode == "sync" else strange_async_request
    with RawServer(STRANGE) as server:
        client = through_proxy(family, mode, server) if place == "host" else make(family, mode)
        url = ELSEWHERE + CHAT if place == "host" else f"http://localhost:{server.port}/collections/7/points"
        response = fetch(client, url, content=content(), headers={"X-B": "2"})
        seen.append((response.status_code, response.reason_phrase, response.headers.raw, response.content))
        seen.extend((request.method, request.path, request.headers, request.body) for request in server.requests)
    return json.dumps(seen, default=repr).replace(str(server.port), "PORT")


class TestOthers:
    """What is not Foundry Local's passes untouched and unread."""

    @by_family
    @by_mode
    @pytest.mark.parametrize("place", ["host", "path"])
    def test_both_directions_are_identical(self, family, mode, place):
        """The request as the server receives it, the response as the program does."""
        without = exchange(family, mode, place)
        shim.install()
        assert exchange(family, mode, place) == without
        assert repr(STRANGE_BODY)[2:-1] in without.replace("\\\\", "\\").replace('\\"', '"')

    @by_family
    @pytest.mark.parametrize("place", ["host", "path"])
    def test_nothing_of_the_repair_is_even_loaded(self, family, place):
        """What is not there cannot parse."""
        code = (
            "import sys, shim; shim.install()\n"
            "from support.raw_server import RawServer, plain_response\n"
            "from support.unchanged import *\n"
            "with RawServer(plain_response(b'[')) as server:\n"
            "    client = make(sys.argv[1], 'sync', **({'proxy': server.url} if sys.argv[2] == 'host' else {}))\n"
            "    url = 'http://api.example.com' + CHAT if sys.argv[2] == 'host' else server.url + '/collections'\n"
            "    assert fetch(client, url).content == b'['\n"
            "    print(sorted({'shim.transport', 'shim.core', 'orjson'} & set(sys.modules)))\n"
            "    with make(sys.argv[1], 'sync') as client: client.post(server.url + CHAT, json=ASK)\n"
            "    print(sorted({'shim.transport', 'shim.core', 'orjson'} & set(sys.modules)))\n"
        )
        assert run_program(code, family, place).splitlines() == ["[]", "['orjson', 'shim.core', 'shim.transport']"]

    @by_family
    @by_mode
    def test_redirect_to_another_host_takes_nothing_along(self, family, mode):
        """The second request is what it is without the shim, its headers included."""
        received = []
        for is_installed in (False, True):
            if is_installed:
                shim.install()
            moved = [Send(response_head(307, [("Location", ELSEWHERE + CHAT), ("Content-Length", "0")], chunked=False))]
            with RawServer(in_turn(moved, RECORDED)) as server:
                client = through_proxy(family, mode, server, follow_redirects=True)
                response = fetch(client, "http://localhost" + CHAT)
                assert not is_repaired(response.content)
                received.append([(r.path, r.headers, r.body) for r in server.requests][1])
        assert received[0] == received[1]

    @by_family
    @by_mode
    def test_application_in_the_same_process_is_not_asked_as_a_service(self, family, mode):
        """The test clients of web frameworks call it by a transport; what it answers is a program's own."""
        library = FAMILIES[family]

        async def asgi(_scope, _receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": BETALGO})

        def wsgi(_environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [BETALGO]

        transport = library.WSGITransport(wsgi) if mode == "sync" else library.ASGITransport(asgi)
        shim.install()
        response = fetch(make(family, mode, transport=transport), "http://localhost" + CHAT)
        assert response.content == BETALGO

    def test_test_client_of_a_web_framework_is_untouched(self):
        """Under whatever host it is asked."""
        pytest.importorskip("starlette")
        from starlette.applications import Starlette  # noqa: PLC0415
        from starlette.responses import Response  # noqa: PLC0415
        from starlette.routing import Route  # noqa: PLC0415
        from starlette.testclient import TestClient  # noqa: PLC0415

        async def answer(_request):
            return Response(BETALGO, media_type="text/event-stream")

        shim.install()
        app = Starlette(routes=[Route(CHAT, answer, methods=["POST"])])
        with TestClient(app, base_url="http://localhost") as client:
            assert client.post(CHAT, json=ASK).content == BETALGO

    @by_family
    def test_conforming_answer_of_another_local_server_is_identical(self, family):
        """Only what Foundry Local sends is repaired, though everything on this machine is looked at."""
        chunks = [*map(event, conforming()), DONE]
        shim.install()
        with RawServer(sse_response(chunks)) as server:
            assert fetch(make(family, "sync"), server.url + CHAT).content == b"".join(chunks)


class TestOnce:
    """There is never a second repair under one client, and the shim's own requests have none."""

    def test_own_clients_keep_their_policy(self):
        """`shim.OpenAI`, `http_client()` and a client that `repair` has completed."""
        shim.install(policy=shim.Policy(off={shim.Repair.ID}))
        plain = httpx.Client(timeout=SECONDS)
        with RawServer(RECORDED) as server:
            for client in (
                shim.OpenAI(base_url=server.base_url),
                openai.OpenAI(base_url=server.base_url, api_key="k", http_client=shim.http_client()),
                openai.OpenAI(base_url=server.base_url, api_key="k", http_client=repair(plain)),
            ):
                with client, shim.capture_repairs() as captured:
                    chunks = list(client.chat.completions.create(**ASK))
                assert chunks[0].id.startswith("chatcmpl-")
                assert [report.policy for report in captured.reports] == [shim.Policy()]

    @by_family
    @by_mode
    def test_repair_further_down_is_the_only_one(self, family, mode):
        """A program has put a transport of its own around the shim's."""
        wrapper = shim.RepairTransport if mode == "sync" else shim.AsyncRepairTransport
        outer = new_own_transport(family, mode)
        outer.inner = wrapper(outer.inner, shim.Policy(off={shim.Repair.CREATED}))
        shim.install(policy=shim.Policy(off={shim.Repair.ID}))
        with RawServer(RECORDED) as server, shim.capture_repairs() as captured:
            assert is_repaired(fetch(make(family, mode, transport=outer), server.url + CHAT).content)
        assert captured.repairs[shim.Repair.FOREIGN_MEMBERS] == captured.events == 19

    def test_second_call_changes_nothing(self):
        """The classes are hooked once, and stand once in the list of finders."""
        shim.install()
        methods = [library.Client._transport_for_url for library in FAMILIES.values()]
        finders = list(sys.meta_path)
        shim.install()
        shim.uninstall()
        shim.install()
        assert [library.Client._transport_for_url for library in FAMILIES.values()] == methods
        assert sys.meta_path == finders
        with RawServer(RECORDED) as server, shim.capture_repairs() as captured:
            fetch(make("httpx", "sync"), server.url + CHAT)
        assert len(captured.reports) == 1

    def test_second_call_adds_hosts_and_replaces_the_policy(self):
        """Two libraries of one program may each name theirs; a call without a policy leaves that which holds."""
        shim.install(hosts=["a.example"], policy=shim.Policy(off={shim.Repair.ID}))
        shim.install(hosts=["b.example:80"])
        policies = []
        with RawServer(RECORDED) as server:
            for policy in (None, shim.Policy(off={shim.Repair.CREATED})):
                shim.install(policy=policy)
                for host in ("a.example", "b.example", "localhost"):
                    with shim.capture_repairs() as captured:
                        fetch(through_proxy("httpx", "sync", server), f"http://{host}{CHAT}")
                    policies.append([report.policy.off for report in captured.reports])
        assert policies == [[{shim.Repair.ID}]] * 3 + [[{shim.Repair.CREATED}]] * 3

    def test_recording_has_the_bytes_as_they_were_sent(self):
        """What `foundry-shim capture` and the doctor look at."""
        shim.install()
        with RawServer(RECORDED) as server, httpx.Client(transport=RecordingTransport(), timeout=SECONDS) as client:
            assert not is_repaired(client.post(server.url + CHAT, json=ASK).content)

    def test_raw_path_keeps_its_policy(self):
        """It repairs by itself what the client that it is given receives."""
        shim.install(policy=shim.Policy(off={shim.Repair.ID}))
        with RawServer(RECORDED) as server, httpx.Client(timeout=SECONDS) as client, shim.capture_repairs() as captured:
            chunks = list(shim.raw.stream_chat(server.base_url, model="m", messages=MESSAGES, http_client=client))
            assert is_repaired(client.post(server.url + CHAT, json=ASK).content.replace(b"chat.id.1", b"chatcmpl-"))
        assert chunks[0].id.startswith("chatcmpl-")
        assert captured.reports[0].policy == shim.Policy()

    def test_search_for_a_service_asks_without_repair(self):
        """It is to see what the service sends."""
        listing = {"data": [{"id": MODEL}], "IsDelta": False, "Successful": True, "HttpStatusCode": 0}
        shim.install()
        with (
            RawServer(plain_response(json.dumps(listing).encode())) as server,
            shim.capture_repairs() as captured,
        ):
            assert find_service(server.base_url) == server.base_url
        assert captured.reports == []


class TestTakingBack:
    """`uninstall` switches off what `install` has switched on."""

    @by_family
    @by_mode
    def test_old_and_new_clients_are_as_before(self, family, mode):
        """From the next request on."""
        shim.install()
        with RawServer(RECORDED) as server:
            old = make(family, mode)
            shim.uninstall()
            assert not is_repaired(fetch(old, server.url + CHAT).content)
            assert not is_repaired(fetch(make(family, mode), server.url + CHAT).content)

    def test_stream_that_has_begun_is_repaired_to_its_end(self):
        """It is one answer."""
        shim.install()
        with RawServer(RECORDED) as server, openai.OpenAI(base_url=server.base_url, api_key="k") as client:
            stream = client.chat.completions.create(**ASK)
            ids = {next(stream).id}
            shim.uninstall()
            ids |= {chunk.id for chunk in stream}
        assert len(ids) == 1

    def test_hosts_and_policy_are_forgotten(self):
        """The next call starts anew."""
        shim.install(hosts=["a.example"], policy=shim.Policy(strict=True))
        shim.uninstall()
        shim.install()
        with RawServer(RECORDED) as server:
            assert not is_repaired(fetch(through_proxy("httpx", "sync", server), f"http://a.example{CHAT}").content)
            assert is_repaired(fetch(make("httpx", "sync"), server.url + CHAT).content)

    def test_without_install(self):
        """Nothing happens."""
        finders = list(sys.meta_path)
        shim.uninstall()
        shim.uninstall()
        assert sys.meta_path == finders

    @by_family
    def test_hook_of_another_library_survives(self, family):
        """It was made over ours, or ours over it: both stay in their order, and its transports work."""
        code = (
            "import sys, importlib, shim; from support.raw_server import RawServer; from support.unchanged import *\n"
            "library, family = importlib.import_module(sys.argv[1]), sys.argv[1]\n"
            "seen = []\n"
            "class Traced(library.BaseTransport):\n"
            "    def __init__(self, inner, name): self.inner, self.name = inner, name\n"
            "    def handle_request(self, request):\n"
            "        seen.append(self.name)\n"
            "        return self.inner.handle_request(request)\n"
            "def hook(name):\n"
            "    choose = library.Client._transport_for_url\n"
            "    library.Client._transport_for_url = lambda client, url: Traced(choose(client, url), name)\n"
            "hook('before'); shim.install(); hook('after')\n"
            "with RawServer(RECORDED) as server:\n"
            "    print(is_repaired(fetch(make(family, 'sync'), server.url + CHAT).content), seen)\n"
            "    shim.uninstall(); seen.clear()\n"
            "    print(is_repaired(fetch(make(family, 'sync'), server.url + CHAT).content), seen)\n"
        )
        assert run_program(code, family).splitlines() == [
            "True ['after', 'before']",
            "False ['after', 'before']",
        ]


@pytest.mark.programs
class TestImports:
    """The libraries are hooked as the program imports them, in whatever order, and not before."""

    def test_neither_library_is_imported(self):
        """Nor anything else that takes long."""
        heavy = "{'httpx', 'httpx2', 'httpcore', 'openai', 'anyio', 'orjson', 'importlib.abc', 'shim.transport'}"
        assert run_program(f"import sys, shim; shim.install(); print(sorted({heavy} & set(sys.modules)))") == "[]"

    @pytest.mark.parametrize("order", ["install, import", "import, install", "install, import, uninstall, install"])
    @by_family
    @by_mode
    def test_order_of_imports(self, family, mode, order):
        """The same whichever is first; the other library is not imported on the way."""
        steps = {"install": "shim.install()", "import": f"import {family}", "uninstall": "shim.uninstall()"}
        code = (
            "import sys, shim\n"
            + "\n".join(steps[step] for step in order.split(", "))
            + "\nfrom support.raw_server import RawServer; from support.unchanged import *\n"
            "with RawServer(RECORDED) as server:\n"
            "    print(is_repaired(fetch(make(*sys.argv[1:]), server.url + CHAT).content))\n"
            "    print(sorted({'httpx', 'httpx2'} & set(sys.modules)))\n"
        )
        assert run_program(code, family, mode).splitlines() == ["True", f"['{family}']"]

    @by_family
    def test_module_is_what_it_is_without_the_hook(self, family):
        """Its loader and its spec are its own, its source can be read, and it can be loaded again."""
        code = (
            "import importlib.util, inspect, sys, shim; shim.install()\n"
            "library = importlib.import_module(sys.argv[1])\n"
            "print(type(library.__loader__).__name__, type(library.__spec__.loader).__name__)\n"
            "assert inspect.getsource(library) and library.__spec__.name == sys.argv[1]\n"
            "assert importlib.util.find_spec(sys.argv[1]).origin == library.__file__\n"
            "method = library.Client._transport_for_url\n"
            "assert importlib.reload(library).Client._transport_for_url is method\n"
            "assert list(inspect.signature(method).parameters)[1:] == ['url']\n"
            "for name in [each for each in sys.modules if each.split('.')[0] == sys.argv[1]]: del sys.modules[name]\n"
            "assert importlib.import_module(sys.argv[1]).Client._transport_for_url.__wrapped__\n"
        )
        assert run_program(code, family) == "SourceFileLoader SourceFileLoader"

    def test_library_that_is_not_there_is_missed_as_ever(self):
        """The error of its import is Python's own."""
        code = (
            "import sys, shim; shim.install()\n"
            "sys.path = []; sys.path_importer_cache.clear()\n"
            "try:\n    import httpx2\n"
            "except ModuleNotFoundError as error:\n    print(error.name, '|', error, '|', error.__context__)\n"
        )
        assert run_program(code) == "httpx2 | No module named 'httpx2' | None"

    def test_module_that_a_program_has_blocked_is_left_alone(self):
        """None in the place of a module is Python's way to forbid it."""
        code = "import sys, shim; sys.modules['httpx'] = sys.modules['httpx2'] = None; shim.install(); print('ok')"
        assert run_program(code) == "ok"

    @by_family
    def test_install_while_another_thread_imports(self, family):
        """It waits for the library to be complete, and hooks it."""
        code = (
            "import importlib, sys, threading, time, shim\n"
            "started, go = threading.Event(), threading.Event()\n"
            "class Slow:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name == sys.argv[1] + '._client':\n"
            "            started.set(); go.wait(30)\n"
            "sys.meta_path.insert(0, Slow())\n"
            "thread = threading.Thread(target=importlib.import_module, args=sys.argv[1:]); thread.start()\n"
            "started.wait(30)\n"
            "threading.Timer(0.2, go.set).start()\n"
            "shim.install(); thread.join()\n"
            "from support.raw_server import RawServer; from support.unchanged import *\n"
            "with RawServer(RECORDED) as server:\n"
            "    print(is_repaired(fetch(make(sys.argv[1], 'sync'), server.url + CHAT).content))\n"
        )
        assert run_program(code, family) == "True"

    def test_alias_of_one_library_for_the_other(self):
        """httpx2 can stand in for httpx; it is one library then, hooked once."""
        pytest.importorskip("httpx2")
        code = (
            "import sys, shim\nfor step in sys.argv[1].split(','):\n"
            "    if step == 'install': shim.install()\n"
            "    else:\n        import httpx2; httpx2.alias_httpx()\n"
            "import httpx; assert httpx is httpx2\n"
            "from support.raw_server import RawServer; from support.unchanged import *\n"
            "with RawServer(RECORDED) as server, shim.capture_repairs() as captured:\n"
            "    print(is_repaired(fetch(make('httpx', 'sync'), server.url + CHAT).content), len(captured.reports))\n"
        )
        assert run_program(code, "install,alias") == run_program(code, "alias,install") == "True 1"

    @by_family
    def test_class_that_another_library_has_replaced(self, family):
        """Clients of the original class are reached as well: whoever imported it before has that."""
        code = (
            "import importlib, sys, shim; library = importlib.import_module(sys.argv[1])\n"
            "original = library.Client\n"
            "library.Client = type('Instrumented', (original,), {})\n"
            "shim.install()\n"
            "from support.unchanged import *\n"
            "body = RECORDED[0].data.partition(b'\\r\\n\\r\\n')[2]\n"
            "transport = library.MockTransport(lambda _: library.Response(200, content=body))\n"
            "for each in (original, library.Client):\n"
            "    print(is_repaired(fetch(each(transport=transport), 'http://localhost' + CHAT).content))\n"
        )
        assert run_program(code, family).split() == ["True", "True"]


class TestMemory:
    """What is learned is kept for as long as the transport it was learned through, which is not kept."""

    @by_family
    @by_mode
    def test_transports_are_freed_with_their_clients(self, family, mode):
        """At once, without the garbage collector."""
        shim.install()
        transport = usual_transport(family, mode)()
        reference = weakref.ref(transport)
        client = make(family, mode, transport=transport)
        gc.collect()
        gc.disable()
        try:
            with RawServer(RECORDED) as server:
                assert is_repaired(fetch(client, server.url + CHAT).content)
            del client, transport
            assert reference() is None
        finally:
            gc.enable()

    def test_many_clients_leave_nothing_behind(self):
        """Neither clients, nor transports, nor what was learned."""
        shim.install()
        with RawServer(RECORDED) as server:
            fetch(make("httpx", "sync"), server.url + CHAT)
            before = count_objects()
            for _ in range(20):
                fetch(make("httpx", "sync"), server.url + CHAT)
            assert count_objects() == before

    @by_mode
    def test_name_of_a_model_is_looked_up_once(self, mode):
        """The second request of a client has the id that the first one has found."""
        refused = {
            "error": {"message": "Model 'phi-4-mini' is not loaded", "type": "x", "code": None},
            "IsDelta": False,
        }

        def script(_, request):
            if request.method == "GET":
                return plain_response(b'["phi-4-mini-instruct-generic-cpu:4"]')
            if request.json()["model"] == "phi-4-mini":
                return plain_response(json.dumps(refused).encode(), 400)
            return RECORDED

        async def ask_twice(url, body):
            async with make("httpx", "async") as client:
                return [(await client.post(url, json=body)).content for _ in range(2)]

        shim.install()
        body = {**ASK, "model": "phi-4-mini"}
        with RawServer(script) as server:
            if mode == "sync":
                with make("httpx", "sync") as client:
                    bodies = [client.post(server.url + CHAT, json=body).content for _ in range(2)]
            else:
                bodies = anyio.run(ask_twice, server.url + CHAT, body)
            assert [is_repaired(each) for each in bodies] == [True, True]
            asked = [request.json()["model"] for request in server.requests if request.method == "POST"]
        assert asked == ["phi-4-mini", *["phi-4-mini-instruct-generic-cpu:4"] * 2]


def count_objects():
    """How many objects there are of what a leak would keep."""
    gc.collect()
    names = ("Client", "HTTPTransport", "RepairTransport", "Memory", "ConnectionPool")
    return {name: sum(type(each).__name__ == name for each in gc.get_objects()) for name in names}


@pytest.fixture(scope="module")
def another_release(tmp_path_factory):
    """The folder of the installed libraries with the method under another name."""
    folder = tmp_path_factory.mktemp("another-release")
    for family, library in FAMILIES.items():
        package = Path(library.__file__).parent
        for path in package.rglob("*.py"):
            copy = folder / family / path.relative_to(package)
            copy.parent.mkdir(parents=True, exist_ok=True)
            text = path.read_text(encoding="utf-8")
            copy.write_text(text.replace("_transport_for_url", "_choose_transport"), encoding="utf-8")
    return folder


@pytest.mark.programs
class TestAnotherRelease:
    """A release of a library that has no such method: the public one underneath is hooked."""

    @by_family
    @by_mode
    def test_clients_are_repaired(self, family, mode, another_release):
        """Those with the library's transports; another host's stream is not."""
        code = (
            "import importlib, sys, shim; family, mode = sys.argv[1:]; shim.install()\n"
            "library = importlib.import_module(family); assert not hasattr(library.Client, '_transport_for_url')\n"
            "from support.raw_server import RawServer; from support.unchanged import *\n"
            "def ask(server, host, **options):\n"
            "    options |= {} if host == '127.0.0.1' else {'proxy': server.url}\n"
            "    url = f'http://{host}:{server.port}{CHAT}'\n"
            "    return is_repaired(fetch(make(family, mode, **options), url).content)\n"
            "subclass = type('Subclass', (usual_transport(family, mode),), {})\n"
            "with RawServer(RECORDED) as server:\n"
            "    print(ask(server, '127.0.0.1'), ask(server, '127.0.0.1', transport=subclass()))\n"
            "    print(ask(server, 'a.example'))\n"
            "    shim.uninstall(); print(ask(server, '127.0.0.1'))\n"
        )
        assert run_program(code, family, mode, before=another_release).split() == ["True", "True", "False", "False"]

    @by_family
    def test_method_that_clients_of_both_kinds_share(self, family):
        """It stands in their common base: each kind still gets the repair of its own."""
        code = (
            "import importlib, sys, shim; library = importlib.import_module(sys.argv[1])\n"
            "base = library.Client.__mro__[1]; assert base in library.AsyncClient.__mro__\n"
            "base._transport_for_url = library.Client._transport_for_url\n"
            "del library.Client._transport_for_url, library.AsyncClient._transport_for_url\n"
            "shim.install()\n"
            "from support.raw_server import RawServer; from support.unchanged import *\n"
            "with RawServer(RECORDED) as server:\n"
            "    for mode in ('sync', 'async'):\n"
            "        print(is_repaired(fetch(make(sys.argv[1], mode), server.url + CHAT).content))\n"
        )
        assert run_program(code, family).split() == ["True", "True"]

    @by_mode
    def test_own_client_keeps_its_policy(self, mode, another_release):
        """The transport underneath it is hooked, but its requests have the repair already."""
        code = (
            "import sys, asyncio, shim; shim.install(policy=shim.Policy(off={'id'}))\n"
            "from support.raw_server import RawServer; from support.unchanged import *\n"
            "async def ask(server):\n"
            "    async with shim.AsyncOpenAI(base_url=server.base_url) as client:\n"
            "        return [each async for each in await client.chat.completions.create(**ASK)]\n"
            "with RawServer(RECORDED) as server, shim.capture_repairs() as captured:\n"
            "    if sys.argv[1] == 'async': chunks = asyncio.run(ask(server))\n"
            "    else:\n"
            "        with shim.OpenAI(base_url=server.base_url) as client:\n"
            "            chunks = list(client.chat.completions.create(**ASK))\n"
            "print(chunks[0].id[:9], len(captured.reports), *captured.reports[0].policy.off)\n"
        )
        assert run_program(code, mode, before=another_release) == "chatcmpl- 1"
