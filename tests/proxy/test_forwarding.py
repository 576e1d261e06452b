"""What goes to the service and what comes back, when it comes, and what is counted and logged of it."""

import gzip
import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

import httpx
import openai

from shim.errors import ServiceError
from shim.proxy import ConnectionLimits
from support.openai_server import TEXT, openai_server, whole
from support.proxies import CHAT, OPTIONS, SECONDS, parsed_metrics, proxying, wait_until
from support.raw_server import (
    Close,
    Hold,
    RawServer,
    Reset,
    Send,
    plain_response,
    response_head,
    sse_response,
)
from support.raw_server import chunk as http_chunk
from support.streams import DONE, END, betalgo, conforming, event, payloads, stream, text_of

PLAIN = {**CHAT, "stream": False}
FAILED = event({"error": {"message": "temperature is too high", "type": "invalid_request_error", "code": None}})


@pytest.fixture
def proxy(upstream):
    """A proxy in front of a conforming service."""
    with proxying(upstream.base_url) as started:
        yield started


def closed_port():
    """Where nothing listens."""
    with RawServer([]) as server:
        return server.port


def error_of(answer):
    """The error object that is all of an answer, of which the client need not understand more."""
    assert answer.headers["content-type"] == "application/json"
    (error,) = answer.json().values()
    return error


class TestHeaders:
    """Credentials and traces of the client stay here, and those of the service stay there."""

    def test_not_sent_on(self, proxy, upstream):
        """What is the proxy's, or the browser's, is nobody else's."""
        private = {
            "Authorization": "Bearer secret",
            "Cookie": "session=secret",
            "Origin": proxy.url,
            "Referer": "http://secret.example/",
            "X-Api-Key": "secret",
            "Api-Key": "secret",
            "Proxy-Authorization": "Basic secret",
            "Forwarded": "for=secret",
            "X-Forwarded-For": "secret",
            "X-Forwarded-Host": "secret",
            "Via": "1.1 secret",
            "Sec-Fetch-Mode": "secret",
            "Upgrade": "secret",
            "TE": "secret",
        }
        assert proxy.post(CHAT, headers=private).status_code == 200
        sent = upstream.requests[-1].headers
        assert not {name.lower() for name, _ in sent} & {name.lower() for name in private}
        assert "secret" not in str(sent)
        assert [value for name, value in sent if name.lower() == "host"] == [f"127.0.0.1:{upstream.port}"]

    def test_sent_on(self, proxy, upstream):
        """Only headers on the list are forwarded, as they came; the query is; nothing is added."""
        answer = proxy.raw(
            "GET /v1/models?limit=2&after=a%2Fb&after= HTTP/1.1",
            "Host: localhost",
            "X-Unknown: secret",
            "X-Amz-Security-Token: secret",
            "Accept: application/json",
            "Accept: text/plain",
            "User-Agent: Café".encode(),
            "OpenAI-Beta: assistants=v2",
        )
        assert answer.status_code == 200
        request = upstream.requests[-1]
        assert request.path == "/v1/models?limit=2&after=a%2Fb&after="
        assert [(name.lower(), value) for name, value in request.headers if name.lower() != "host"] == [
            ("accept", "application/json"),
            ("accept", "text/plain"),
            ("user-agent", "CafÃ©"),
            ("openai-beta", "assistants=v2"),
        ]

    def test_of_one_connection(self, proxy, upstream):
        """What a client says of its own connection stays there (RFC 9110, section 7.6.1)."""
        lines = ["Connection: Accept, keep-alive", "Accept: secret", "User-Agent: kept"]
        assert proxy.raw("GET /v1/models HTTP/1.1", "Host: localhost", *lines).status_code == 200
        sent = upstream.requests[-1]
        assert (sent.header("accept"), sent.header("connection"), sent.header("user-agent")) == (None, None, "kept")

    def test_body(self, proxy, upstream):
        """The body goes on as it is, chunked or not."""
        for body in (b"\x00\xff{", b""):
            httpx.post(
                f"{proxy.base_url}/audio/transcriptions", content=body, headers={"Content-Type": "x/y"}, **OPTIONS
            )
            assert upstream.requests[-1].body == body
            assert upstream.requests[-1].header("content-type") == "x/y"
        httpx.post(f"{proxy.base_url}/audio/transcriptions", content=iter([b"ab", b"cd"]), **OPTIONS)
        assert upstream.requests[-1].body == b"abcd"

    @pytest.mark.parametrize("body", [CHAT, PLAIN], ids=["stream", "plain"])
    def test_not_sent_back(self, body):
        """Of the service's headers only those on the list are forwarded; its cookies are not kept either."""
        private = {
            "Set-Cookie": "secret=1; Path=/",
            "Server": "secret",
            "Clear-Site-Data": '"*"',
            "Alt-Svc": 'h2="evil.example:443"',
            "Strict-Transport-Security": "max-age=1",
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Allow-Credentials": "true",
            "Refresh": "0; url=http://evil.example",
            "Link": "<http://evil.example>; rel=preload",
            "Service-Worker-Allowed": "/",
            "Content-Security-Policy": "default-src *",
            "X-Foundry-Shim-Repairs": "forged",
            "X-Foundry-Shim-Other": "forged",
            "X-Own": "secret",
            "Connection": "X-RateLimit-Secret",
            "X-RateLimit-Secret": "secret",
        }
        kept = [("X-RateLimit-Limit", "1"), ("OpenAI-Processing-Ms", "2"), ("Retry-After", "3"), ("X-Request-Id", "4")]
        headers = [*private.items(), ("X-Foundry-Shim", "forged"), *kept]
        answers = {
            True: sse_response([stream(conforming())], headers=[("Content-Type", "text/event-stream"), *headers]),
            False: plain_response(json.dumps(whole(PLAIN)).encode(), headers=headers),
        }
        with RawServer(answers[body["stream"]]) as server, proxying(server.base_url) as proxy:
            for _ in range(2):
                answer = proxy.post(body)
                assert answer.status_code == 200
                ours = {"content-security-policy", "x-foundry-shim-repairs"}
                assert not {name.lower() for name in private} - ours & set(answer.headers)
                assert not any(word in str(answer.headers) for word in ("secret", "forged", "evil", "default-src *"))
                assert [(name, answer.headers.get_list(name)) for name, _ in kept] == [
                    (name, [value]) for name, value in kept
                ]
                assert server.requests[-1].header("cookie") is None

    @pytest.mark.parametrize("status", [301, 302, 304, 307, 308])
    def test_redirects(self, status):
        """A service does not send its clients elsewhere, and the proxy goes nowhere else for them."""
        with openai_server() as target:
            headers = [("Location", f"{target.base_url}/models"), ("Content-Length", "0")]
            with RawServer([Send(response_head(status, headers, chunked=False))]) as server:
                with proxying(server.base_url) as proxy:
                    answer = proxy.get("/models")
                    assert (answer.status_code, error_of(answer)["code"]) == (502, "redirect")
                    assert "location" not in answer.headers
                    counted = proxy.settled_metrics()
                    assert counted['requests_total{status="502"}'] == counted['failures_total{reason="redirect"}'] == 1
                    assert [name for name in counted if "failures_total" in name or "requests_total" in name] == [
                        'requests_total{status="502"}',
                        'failures_total{reason="redirect"}',
                    ]
            assert target.requests == []


class TestLimits:
    """Whoever sends too much is stopped."""

    @pytest.fixture
    def small(self, upstream):
        """A proxy that takes a thousand bytes."""
        with proxying(upstream.base_url, max_body_bytes=1000) as proxy:
            yield proxy

    def test_largest(self, small, upstream):
        """What is as large as it may be goes on."""
        httpx.post(f"{small.base_url}/embeddings", content=b"x" * 1000, **OPTIONS)
        assert len(upstream.requests[-1].body) == 1000

    def test_declared(self, small, upstream):
        """A length that is too large is refused before anything of it is sent."""
        answer = small.raw("POST /v1/embeddings HTTP/1.1", "Host: localhost", "Content-Length: 1001")
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
        assert "1000 bytes (--max-body)" in answer.json()["error"]["message"]
        lines = ["Host: localhost", "Content-Length: 99999999", "Expect: 100-continue"]
        assert small.raw("POST /v1/embeddings HTTP/1.1", *lines).status_code == 413  # and not 100
        assert upstream.requests == []

    def test_endless(self, small, upstream):
        """A body without a length is refused where it becomes too large, and nothing is read beyond that."""
        many = http_chunk(b"x" * 2**16) * 2**11  # more than the buffers of the connection hold
        with small.connect() as connection:
            connection.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.sendall(http_chunk(b"x" * 2000))
            with pytest.raises(OSError):  # noqa: PT011 - a pipe that is broken, or a connection that is reset
                connection.sendall(many)
        assert upstream.requests == []
        wait_until(lambda: small.metrics().get('failures_total{reason="body_too_large"}') == 1)

    @pytest.mark.parametrize("size", [2**16 - 100, 2**16])
    @pytest.mark.parametrize("in_one", [True, False])
    def test_headers_of_64_kib_are_the_limit_however_they_are_sent(self, proxy, upstream, size, in_one):
        """One read of the connection may hold more; the limit holds nevertheless."""
        request = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * size + b"\r\n\r\n"
        with proxy.connect() as connection:
            for start in range(0, len(request), len(request) if in_one else 2**13):
                connection.sendall(request[start : start + (len(request) if in_one else 2**13)])
            head = connection.recv(4096)
        assert head.startswith(b"HTTP/1.1 200" if size < 2**16 else b"HTTP/1.1 431")
        assert len(upstream.requests) == (size < 2**16)

    @pytest.mark.parametrize("line", [b"X-Long: " + b"x" * 2**18, b"X-Many: x\r\n" * 2**14], ids=["long", "many"])
    def test_headers(self, proxy, upstream, line):
        """Headers have a limit as well."""
        with proxy.connect() as connection:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n")
            answer = b""
            try:
                for start in range(0, len(line), 2**14):
                    connection.sendall(line[start : start + 2**14])
                    time.sleep(0.001)
                answer = connection.recv(4096)
            except OSError:
                answer = answer or b"HTTP/1.1 400"
        assert answer.startswith(b"HTTP/1.1 4")
        assert upstream.requests == []

    def test_address_that_becomes_too_long_is_refused(self, upstream):
        """The service's address is longer than the proxy's: what just fits into the headers may not fit there."""
        with proxying(f"{upstream.url}/catalogs/local/v1") as proxy, proxy.connect() as connection:
            connection.sendall(b"GET /v1/models?%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"x" * 65_490))
            assert connection.recv(4096).startswith(b"HTTP/1.1 414")
        assert upstream.requests == []

    def test_new_client_replaces_the_one_that_is_silent_longest(self):
        """Clients that are connected without a request lock nobody out."""
        with openai_server() as server, proxying(server.base_url, limits=ConnectionLimits(max_connections=3)) as proxy:
            # Connections are accepted in the order in which they are made.
            with proxy.connect() as silent, proxy.connect() as idle, proxy.connect() as half:
                idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert idle.recv(4096).startswith(b"HTTP/1.1 200")
                half.sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
                assert _answers(proxy)
                assert _is_closed(silent)
                half.sendall(b"alhost\r\n\r\n")
                assert half.recv(4096).startswith(b"HTTP/1.1 200")

    def test_new_client_replaces_one_that_does_not_read(self):
        """Its response is under way, but it is the client that keeps the proxy waiting."""
        # More responses than the buffers of both sides hold, without a byte of them being read.
        requests = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1500
        with RawServer(sse_response([*map(event, conforming())], end="held")) as server:
            with proxying(server.base_url, limits=ConnectionLimits(max_connections=2)) as proxy:
                with _slow_reader(proxy) as slow, proxy.asked() as held:
                    slow.sendall(requests)
                    assert held.recv(1)
                    wait_until(lambda: _answers(proxy))
                    # The other one has a request under way, and reads.
                    assert held.recv(1)

    def test_client_with_a_request_under_way_is_not_replaced(self):
        """Where each connection has one, the new client is disconnected, until another has finished."""
        with RawServer(sse_response([*map(event, conforming())], end="held")) as server:
            with proxying(server.base_url, limits=ConnectionLimits(max_connections=2)) as proxy:
                held = [proxy.asked() for _ in range(2)]
                for connection in held:
                    assert connection.recv(1)
                with proxy.connect() as third:
                    assert _is_closed(third)
                held[0].close()
                wait_until(lambda: _answers(proxy))
                held[1].close()

    def test_requests(self):
        """Requests beyond the limit are told to come again, and may, as soon as another has ended."""
        with RawServer(sse_response([*map(event, conforming())], end="held")) as server:
            with proxying(server.base_url, max_requests=2) as proxy:
                held = [proxy.asked() for _ in range(2)]
                for connection in held:
                    assert connection.recv(1)
                answer = proxy.post(CHAT)
                assert (answer.status_code, error_of(answer)["code"]) == (503, "too_many_requests")
                assert error_of(answer)["type"] == "server_error"
                assert len(server.requests) == 2
                held[0].close()
                server.wait_for_close()
                wait_until(lambda: _status(proxy) == 200)
                held[1].close()


class TestFailures:
    """A service that does not do what it should: always an answer that says so."""

    def test_unknown_route(self, proxy):
        """What the service does not have is its own answer."""
        answer = proxy.get("/no/such/thing")
        assert answer.status_code == 404
        assert "Invalid URL" in error_of(answer)["message"]

    def test_nobody_there(self):
        """The address is named, and what to do."""
        port = closed_port()
        with proxying(f"http://127.0.0.1:{port}/v1") as proxy:
            answer = proxy.post(CHAT)
            assert answer.status_code == 502
            error = error_of(answer)
            assert (error["code"], error["type"]) == ("upstream_unreachable", "server_error")
            assert f"127.0.0.1:{port}" in error["message"]
            assert "not running" in error["message"]
            assert proxy.settled_metrics()['failures_total{reason="upstream_unreachable"}'] == 1

    @pytest.mark.parametrize("end", [Close(), Reset()], ids=["close", "reset"])
    def test_hangs_up(self, end):
        """A service that closes the connection without an answer."""
        with RawServer([end]) as server, proxying(server.base_url) as proxy:
            for answer in (proxy.post(PLAIN), proxy.post(CHAT)):
                assert (answer.status_code, error_of(answer)["code"]) == (502, "broke_off")
                assert server.url in error_of(answer)["message"]

    def test_talks_nonsense(self):
        """A service that does not speak HTTP."""
        with RawServer([Send(b"SSH-2.0-OpenSSH\r\n\r\n"), Close()]) as server, proxying(server.base_url) as proxy:
            assert proxy.post(PLAIN).status_code == 502

    def test_times_out(self):
        """A service that does not answer in time."""
        with RawServer([Hold()]) as server, proxying(server.base_url, service_timeout=0.3) as proxy:
            answer = proxy.post(CHAT)
            assert (answer.status_code, error_of(answer)["code"]) == (504, "timeout")
            server.wait_for_close()

    def test_proxy_itself(self):
        """A defect of the proxy's own is an error as well, and its log says which."""

        def find():
            raise RuntimeError("a defect")

        with proxying(f"http://127.0.0.1:{closed_port()}/v1", find=find, complains=True) as proxy:
            answer = proxy.post(CHAT)
            assert (answer.status_code, error_of(answer)["code"]) == (500, "proxy_failed")
            assert "a defect" not in answer.text
            # The server logs it when the answer has left already.
            wait_until(lambda: proxy.complaints)
        assert len(proxy.complaints) == 1

    def test_first_event_is_an_error(self):
        """An error in the first event has the status that it would have without streaming."""
        with RawServer(sse_response([FAILED])) as server, proxying(server.base_url) as proxy:
            answer = proxy.post(CHAT)
            assert answer.status_code == 400
            assert error_of(answer)["message"] == "temperature is too high"
            with openai.OpenAI(base_url=proxy.base_url, api_key="none", max_retries=0) as client:
                with pytest.raises(openai.BadRequestError, match="too high"):
                    client.chat.completions.create(**CHAT)

    @pytest.mark.parametrize("end", ["cut", "reset"])
    @pytest.mark.parametrize("chunks", [betalgo, conforming])
    def test_cut_stream(self, end, chunks):
        """A stream that stops in the middle ends in an error that every client understands, never in success."""
        events = [*map(event, chunks(["Hello", " world", "!"]))][:2]
        with RawServer(sse_response(events, end=end)) as server, proxying(server.base_url) as proxy:
            answer = proxy.post(CHAT)
            *rest, last = payloads(answer.content)
            assert "Hello" in text_of(rest)
            assert END not in rest
            assert last["error"]["code"] in {"connection_cut", "stream_truncated"}
            assert last["error"]["message"]
            with openai.OpenAI(base_url=proxy.base_url, api_key="none", max_retries=0) as client:
                with pytest.raises(openai.APIError):
                    list(client.chat.completions.create(**CHAT))
            assert proxy.settled_metrics()['failures_total{reason="broke_off"}'] == 2

    def test_cut_answer(self):
        """An answer that is cut on its way is cut for the client as well, and one that is repaired is an error."""
        begun = [Send(response_head(headers=[("Content-Length", "100")], chunked=False) + b"{" * 10), Close()]
        with RawServer(begun) as server, proxying(server.base_url, complains=True) as proxy:
            with pytest.raises(httpx.RemoteProtocolError):
                proxy.get("/files/file-1/content")
            wait_until(lambda: proxy.complaints)
            answer = proxy.post(PLAIN)
            assert (answer.status_code, error_of(answer)["code"]) == (502, "broke_off")
            assert proxy.settled_metrics()['failures_total{reason="broke_off"}'] == 2
        assert len(proxy.complaints) == 1  # one line of the server's, and no traceback

    def test_cut_chunked_answer(self):
        """The same where only the missing end says that it was cut."""
        begun = [Send(response_head(headers=[]) + http_chunk(b"{" * 10)), Close()]
        with RawServer(begun) as server, proxying(server.base_url, complains=True) as proxy:
            with pytest.raises(httpx.RemoteProtocolError):
                proxy.get("/files/file-1/content")


class TestAnswers:
    """What is right passes, and what is not is repaired."""

    def test_conforming_stream(self):
        """It passes to the byte."""
        body = stream(conforming(["a", "b"]))
        with RawServer(sse_response([body])) as server, proxying(server.base_url) as proxy:
            answer = proxy.post(CHAT)
            assert answer.content == body
            assert answer.headers["content-type"] == "text/event-stream"

    def test_stream_of_1x(self):
        """It is as OpenAI's."""
        with (
            RawServer(sse_response([stream(betalgo(["Hello", " 日本"]))])) as server,
            proxying(server.base_url) as proxy,
        ):
            *chunks, end = payloads(proxy.post(CHAT).content)
            assert (text_of(chunks), end) == ("Hello 日本", END)
            assert len({chunk["id"] for chunk in chunks}) == 1
            assert chunks[0]["id"].startswith("chatcmpl-")
            assert not [chunk for chunk in chunks if "IsDelta" in chunk or "message" in chunk["choices"][0]]

    @pytest.mark.parametrize("chunks", [betalgo, conforming])
    def test_prompt(self, chunks):
        """Each event leaves before the next has come."""
        go_on = threading.Semaphore(0)
        words = ["one", "two", "three"]

        def script(connection, request):
            yield Send(response_head())
            for payload in chunks(words):
                yield Send(http_chunk(event(payload)))
                if any(choice["delta"].get("content") for choice in payload["choices"]):
                    assert go_on.acquire(timeout=10)
            yield Send(http_chunk(DONE) + b"0\r\n\r\n")

        with RawServer(script) as server, proxying(server.base_url) as proxy, proxy.stream(CHAT) as answer:
            received = ""
            for piece in answer.iter_text():
                received += piece
                if words and f'"{words[0]}"' in received:
                    assert not [word for word in words[1:] if word in received]
                    words.pop(0)
                    go_on.release()
            assert not words

    @pytest.mark.parametrize("accepts", [None, "gzip"])
    @pytest.mark.parametrize("path", ["/models", "/embeddings/x"], ids=["repaired", "untouched"])
    def test_compressed(self, path, accepts):
        """A compressed answer is one that the client has asked for."""
        content = b'{"object":"list","data":[]}'
        plain = [("Content-Type", "application/json")]

        def script(connection, request):
            if request.header("accept-encoding") is None:
                return plain_response(content, headers=plain)
            return plain_response(gzip.compress(content), headers=[*plain, ("Content-Encoding", "gzip")])

        with RawServer(script) as server, proxying(server.base_url) as proxy:
            lines = [f"Accept-Encoding: {accepts}"] if accepts else []
            answer = proxy.raw(f"GET /v1{path} HTTP/1.1", "Host: localhost", *lines)
            headers = {name.lower(): value for name, value in answer.headers}
            received = answer.content
            if "content-encoding" in headers:
                assert accepts
                received = gzip.decompress(received)
            assert json.loads(received) == json.loads(content)

    def test_old_clients(self, proxy):
        """A client of HTTP/1.0 gets a stream that ends with the connection."""
        body = json.dumps(CHAT).encode()
        answer = proxy.raw(
            "POST /v1/chat/completions HTTP/1.0", "Host: localhost", f"Content-Length: {len(body)}", body=body
        )
        assert "transfer-encoding" not in {name.lower() for name, _ in answer.headers}
        assert text_of(list(payloads(answer.content))[:-1]) == "".join(TEXT)

    def test_kept_connection(self, proxy):
        """One connection serves one request after the other, refused ones and streams too."""
        with httpx.Client(base_url=proxy.url, **OPTIONS) as client:
            used = set()
            for path, status in (("/v1/models", 200), ("/shutdown", 404), ("/healthz", 200), ("/v1/models", 200)):
                answer = client.get(path)
                assert answer.status_code == status
                used.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
            assert client.post("/v1/chat/completions", json=CHAT).content.endswith(DONE)
            assert client.get("/v1/models").status_code == 200
            assert len(used) == 1


class TestClientsThatLeave:
    """Nobody computes for a client that is not there any more."""

    def test_before_the_first_byte(self):
        """The connection to the service is closed at once, although nothing has come on it."""
        with RawServer([Hold()]) as server, proxying(server.base_url) as proxy:
            connection = proxy.asked()
            server.wait_for_requests()
            connection.close()
            server.wait_for_close()
            wait_until(lambda: proxy.metrics().get('failures_total{reason="client_left"}') == 1)
            assert proxy.settled_metrics()['requests_total{status="499"}'] == 1

    @pytest.mark.parametrize("chunks", [betalgo, conforming])
    def test_in_the_middle(self, chunks):
        """The same between two events."""
        with RawServer(sse_response([*map(event, chunks())][:2], end="held")) as server:
            with proxying(server.base_url) as proxy:
                with proxy.stream(CHAT) as answer:
                    next(answer.iter_raw())
                server.wait_for_close()
                wait_until(lambda: proxy.metrics().get('failures_total{reason="client_left"}') == 1)

    def test_in_a_plain_answer(self):
        """The same in a response that is not a stream, and too large to be read as a whole."""
        headers = [("Content-Type", "application/json"), ("Content-Length", str(2**21))]
        begun = [Send(response_head(headers=headers, chunked=False) + b"{" * 10), Hold()]
        with RawServer(begun) as server, proxying(server.base_url) as proxy:
            connection = proxy.asked("/embeddings")
            assert connection.recv(1)
            connection.close()
            server.wait_for_close()

    def test_in_the_question(self, proxy, upstream):
        """Half a question is not asked."""
        with proxy.connect() as connection:
            connection.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{}")
            wait_until(lambda: proxy.metrics()["open_requests"] == 2)
        wait_until(lambda: proxy.metrics().get('failures_total{reason="client_left"}') == 1)
        assert upstream.requests == []

    def test_slow_client(self):
        """A service that sends endlessly to a client that does not read has to wait."""
        big = http_chunk(event(conforming(["x" * 2**16])[1]))

        def script(connection, request):
            connection.send(response_head())
            while True:
                connection.send(big)

        with RawServer(script) as server, proxying(server.base_url) as proxy:
            connection = proxy.asked()
            counts = [-1]
            while len(server.sent) != counts[-1] or len(server.sent) < 2:
                counts.append(len(server.sent))
                assert counts[-1] < 2**10  # 64 MiB: more than all buffers of the two connections hold
                time.sleep(1)
            connection.close()
            server.wait_for_close()


class TestMoves:
    """Foundry Local has another port after each start."""

    def test_followed(self, upstream):
        """Where nobody answers any more the service is looked for, once."""
        looked = []

        def find():
            looked.append(1)
            return upstream.base_url

        with proxying(f"http://127.0.0.1:{closed_port()}/v1", find=find) as proxy:
            for _ in range(2):
                assert proxy.post(CHAT).content.endswith(DONE)
            assert len(looked) == 1
            assert httpx.get(f"{proxy.url}/healthz", **OPTIONS).json()["upstream"] == upstream.base_url

    def test_one_search_serves_all_that_wait_for_it(self, upstream):
        """A search takes seconds and may start a program: those that ask at the same time share one."""
        searches = []

        def find():
            searches.append(1)
            wait_until(lambda: proxy.metrics()["open_requests"] == 5)  # the four, and the one for the metrics
            return upstream.base_url

        with proxying(f"http://127.0.0.1:{closed_port()}/v1", find=find) as proxy, ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: proxy.post(CHAT), range(4)))
            assert [answer.status_code for answer in answers] == [200] * 4
        assert len(searches) == 1

    def test_failed_search_is_not_repeated_at_once(self):
        """Requests to a service that is gone start no search each."""
        searches = []

        def find():
            searches.append(1)
            raise ServiceError("No service.", remedy="Start one.")

        with proxying(f"http://127.0.0.1:{closed_port()}/v1", find=find) as proxy, ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: proxy.post(CHAT), range(12)))
        assert [answer.status_code for answer in answers] == [502] * 12
        assert len(searches) == 1

    def test_not_found(self):
        """Where it is nowhere else either, that is said."""
        address = f"http://127.0.0.1:{closed_port()}/v1"
        elsewhere = f"http://127.0.0.1:{closed_port()}/v1"

        def none():
            raise ServiceError("No service.", remedy="Start one.")

        for find in (None, none, lambda: address, lambda: elsewhere):
            with proxying(address, find=find) as proxy:
                answer = proxy.post(CHAT)
                assert (answer.status_code, error_of(answer)["code"]) == (502, "upstream_unreachable")

    def test_others_do_not_move_it(self):
        """Only a connection that is refused is a reason to look elsewhere."""
        with RawServer([Close()]) as server:
            with proxying(server.base_url, find=lambda: pytest.fail("looked for")) as proxy:
                assert proxy.post(CHAT).status_code == 502


class TestMetrics:
    """What an operator gets to know, which is nothing of what was asked or answered."""

    def test_counts(self):
        """Requests by status, repairs by code, failures by reason, and the time to the first piece of a stream."""
        answers = {
            "1x": sse_response([stream(betalgo(["Hello", " world"]))]),
            "conforming": sse_response([*map(event, conforming()), DONE]),
            "cut": sse_response([*map(event, conforming())][:2], end="cut"),
        }
        with RawServer(lambda _, request: answers[request.json()["user"]]) as server:
            with proxying(server.base_url) as proxy:
                for kind in answers:
                    proxy.post({**CHAT, "user": kind})
                proxy.get("/models/")
                counted = proxy.settled_metrics()
        assert counted['requests_total{status="200"}'] == 3
        assert counted['requests_total{status="404"}'] == 1
        assert counted['repairs_total{code="message-beside-delta"}'] == 3
        assert counted['repairs_total{code="id"}'] >= 1
        assert {name for name in counted if name.startswith("failures_total")} == {
            'failures_total{reason="broke_off"}',
            'failures_total{reason="unknown_path"}',
        }
        assert counted["streams_total"] == 3
        assert counted["events_total"] == 9
        assert counted["open_requests"] == 1
        buckets = [value for name, value in counted.items() if "_bucket" in name]
        assert buckets == sorted(buckets)
        assert counted['first_chunk_seconds_bucket{le="+Inf"}'] == counted["first_chunk_seconds_count"] == 3
        assert 0 < counted["first_chunk_seconds_sum"] < 60

    @pytest.mark.parametrize("line", ["nonsense", 'a{b="c"} x', "foundry_shim_a 1", 'foundry_shim_a{b="c\n"} 1'])
    def test_parser(self, line):
        """The parser of these tests takes nothing else than the format."""
        with pytest.raises(AssertionError):
            parsed_metrics(f"{line}\n")

    def test_media_type(self, proxy):
        """Prometheus is told which format it is."""
        answer = httpx.get(f"{proxy.url}/metrics", **OPTIONS)
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"

    def test_repairs_of_plain_answers(self, proxy):
        """A plain answer says what was repaired in it; one in which nothing was says that."""
        assert proxy.post(PLAIN).headers["x-foundry-shim-repairs"] == ""
        odd = {**whole(PLAIN), "Successful": True, "IsDelta": False}
        with RawServer(plain_response(json.dumps(odd).encode())) as server, proxying(server.base_url) as other:
            answer = other.post(PLAIN)
            assert "body-members=" in answer.headers["x-foundry-shim-repairs"]
            assert "Successful" not in answer.json()
            assert int(answer.headers["content-length"]) == len(answer.content)
            codes = [part.partition("=")[0] for part in answer.headers["x-foundry-shim-repairs"].split(", ")]
            counted = other.settled_metrics()
            assert [name for name in counted if name.startswith("repairs_total")] == [
                f'repairs_total{{code="{code}"}}' for code in codes
            ]

    def test_log(self, caplog):
        """One line for each request, in which nothing of its text stands, whatever happens."""
        caplog.set_level(logging.DEBUG)
        asked = {**CHAT, "messages": [{"role": "user", "content": "a-secret-question"}]}
        answers = iter(
            [
                sse_response([stream(betalgo(["a-secret-answer"]))]),
                sse_response([event(each) for each in betalgo(["a-secret-answer", "b"])][:1], end="cut"),
                sse_response([FAILED.replace(b"temperature", b"a-secret-answer")]),
            ]
        )
        with RawServer(lambda _, __: next(answers)) as server, proxying(server.base_url) as proxy:
            for _ in range(3):
                proxy.post(asked, headers={"Authorization": "Bearer a-secret-key"})
            proxy.raw("GET /v1/%1b[31m%0aevil HTTP/1.1", "Host: [")
        lines = [record.getMessage() for record in caplog.records if record.name == "shim.proxy.access"]
        assert len(lines) == 4
        assert lines[0].startswith("POST /v1/chat/completions 200 ")
        assert " ok " in lines[0]
        assert "message-beside-delta=" in lines[0]
        assert " broke_off" in lines[1]
        assert "POST /v1/chat/completions 400 " in lines[2]
        assert lines[3].startswith("GET /v1/%1b[31m%0aevil 421 ")
        ours = "\n".join(
            record.getMessage() for record in caplog.records if record.name.startswith(("shim", "uvicorn"))
        )
        assert "a-secret" not in ours

    def test_unknown_model_of_another_service_is_its_own_error(self, proxy):
        """A service without a list of loaded models is not Foundry Local: its status and words stay."""
        answer = proxy.post({**CHAT, "model": "none"})
        assert answer.status_code == 404
        assert error_of(answer)["message"] == "The model 'none' does not exist"


def _status(proxy):
    with proxy.stream(CHAT) as answer:
        return answer.status_code


def _slow_reader(proxy):
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(SECONDS)
    connection.connect(("127.0.0.1", proxy.port))
    return connection


def _is_closed(connection):
    """Whether the other side closes the connection, within the time a test waits."""
    try:
        return connection.recv(100) == b""
    except ConnectionResetError:
        return True


def _answers(proxy):
    try:
        return httpx.get(f"{proxy.url}/healthz", **OPTIONS).is_success
    except httpx.HTTPError:
        return False
