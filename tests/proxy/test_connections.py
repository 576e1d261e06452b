"""The limits of the proxy's connections, on both sides: what a client may owe, and what a response head may be."""

import json
import re
import socket
from contextlib import suppress

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from shim.proxy import ConnectionLimits, allow_descriptors
from support.openai_server import openai_server
from support.proxies import CHAT, proxying
from support.raw_server import Close, RawServer, Send, sse_response
from support.streams import conforming, event

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
HELD = sse_response([*map(event, conforming())], end="held")


def ask(*, last: bool = False) -> bytes:
    """A request for a stream, which may be the last one of its connection."""
    body = json.dumps(CHAT).encode()
    more = b"Connection: close\r\n" if last else b""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: %d\r\n\r\n"
    return head % (more, len(body)) + body


def read_to_end(connection: socket.socket) -> bytes:
    """Everything that is received until the proxy closes the connection."""
    received = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            received += piece
    return received


def error_in(response: bytes) -> tuple[int, str]:
    """The status of a response, and the code of the error object that is its body."""
    [(status, body)] = re.findall(rb"HTTP/1.1 ([0-9]+).*\r\n\r\n.*?(\{.*\})", response, re.DOTALL)
    return int(status), json.loads(body)["error"]["code"]


class TestClients:
    """A client that owes something, or sends too much."""

    @pytest.mark.parametrize("last", [False, True], ids=["kept connection", "last request"])
    def test_sending_too_much_beyond_a_request_ends_the_connection(self, last):
        """While a stream is under way the proxy reads, to see the client disconnect, but keeps little of it."""
        limits = ConnectionLimits(max_pipelined_bytes=10_000)
        with RawServer(HELD) as server, proxying(server.base_url, limits=limits) as proxy, proxy.connect() as client:
            client.sendall(ask(last=last))
            assert client.recv(1)
            client.sendall(HEALTH)
            client.sendall(b"x" * 20_000)
            read_to_end(client)
            server.wait_for_close()

    def test_further_requests_are_answered_in_their_order(self):
        """They may be sent before the first one is answered."""
        with openai_server() as server, proxying(server.base_url) as proxy, proxy.connect() as client:
            client.sendall(HEALTH + HEALTH.replace(b"healthz", b"no/such/path") + HEALTH[:-2])
            client.sendall(b"Connection: close\r\n\r\n")
            statuses = re.findall(rb"HTTP/1.1 ([0-9]+)", read_to_end(client))
            assert statuses == [b"200", b"404", b"200"]

    @pytest.mark.parametrize(
        "sent", [b"", HEALTH[:20], HEALTH + HEALTH[:20]], ids=["nothing", "a half", "a second half"]
    )
    def test_headers_that_are_not_complete_in_time_end_the_connection(self, sent):
        """With an error, if a part of them was received."""
        limits = ConnectionLimits(header_timeout=0.2)
        with openai_server() as server, proxying(server.base_url, limits=limits) as proxy, proxy.connect() as client:
            client.sendall(sent)
            received = read_to_end(client)
        answers = [b"HTTP/1.1" + each for each in received.split(b"HTTP/1.1")[1:]]
        assert len(answers) == (2 if sent.startswith(HEALTH) else 1 if sent else 0)
        if sent:
            assert error_in(answers[-1]) == (408, "header_timeout")

    def test_connection_without_a_request_ends_after_its_time(self):
        """A client may keep its connection, but not for ever."""
        limits = ConnectionLimits(idle_timeout=0.2)
        with openai_server() as server, proxying(server.base_url, limits=limits) as proxy, proxy.connect() as client:
            client.sendall(HEALTH)
            assert read_to_end(client).startswith(b"HTTP/1.1 200")

    @pytest.mark.parametrize("extension", [b"", b";" + b"x" * 3_000], ids=["tiny chunks", "large extensions"])
    def test_body_with_more_framing_than_content_is_refused(self, extension):
        """Each chunk costs the proxy as much as a thousand bytes."""
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunks = b"1%b\r\n \r\n" % extension * (100_000 // (len(extension) + 5))
        with openai_server() as server, proxying(server.base_url) as proxy, proxy.connect() as client:
            with suppress(ConnectionError):  # the proxy has read enough
                client.sendall(head + chunks)
            assert error_in(read_to_end(client)) == (400, "bad_request")
            assert server.requests == []

    @pytest.mark.parametrize(
        ("version", "headers", "status"),
        [
            (b"1.2", b"", 505),
            (b"1.0", b"Transfer-Encoding: chunked\r\n", 400),
            (b"1.1", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        ],
        ids=["version", "chunks in HTTP/1.0", "two lengths"],
    )
    def test_ambiguous_request_is_refused(self, version, headers, status):
        """A program in between may see another end of it, and so another next request."""
        with openai_server() as server, proxying(server.base_url) as proxy, proxy.connect() as client:
            client.sendall(b"POST /v1/models HTTP/%b\r\nHost: localhost\r\n%b\r\n0\r\n\r\n" % (version, headers))
            assert error_in(read_to_end(client)) == (status, "bad_request")
            assert server.requests == []

    def test_bodies_of_all_requests_together_are_limited(self):
        """A request whose body finds no room is refused, and may be sent again."""
        with openai_server() as server, proxying(server.base_url, max_held_bytes=1_000) as proxy:
            answer = proxy.post({**CHAT, "user": "x" * 1_000})
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "too_many_bytes")
            assert proxy.post(CHAT).status_code == 200


class TestResponseHeads:
    """A service whose response has a malformed head, or one without an end."""

    @pytest.mark.parametrize(
        ("head", "reason"),
        [
            (b"HTTP/1.1 600 X\r\n\r\n", "its status is 600"),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
                "has both Content-Length and",
            ),
            (b"HTTP/1.1 200 OK\r\n%b\r\n" % (b"X: y\r\n" * 101), "more than 100 headers"),
            (b"HTTP/1.1 103 X\r\n\r\n" * 10_000, "its head is larger than 131072 bytes"),
        ],
        ids=["status", "two lengths", "headers", "interim responses"],
    )
    def test_malformed_head_is_an_error(self, head, reason):
        """What it means is not guessed."""
        with RawServer([Send(head), Close()]) as server, proxying(server.base_url) as proxy:
            answer = proxy.post(CHAT)
            assert answer.status_code == 502
            assert reason in answer.json()["error"]["message"]

    def test_head_that_never_ends_is_a_timeout(self):
        """However much of it is received, and whenever."""

        def drip(connection, request):
            while True:
                yield Send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                connection.sleep(0.05)

        with RawServer(drip) as server, proxying(server.base_url, service_timeout=0.4) as proxy:
            answer = proxy.post(CHAT)
            assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
            server.wait_for_close()


class TestDescriptors:
    """How many clients can be connected depends on how many files the system lets the process open."""

    @pytest.fixture
    def resource(self):
        """The module that knows; Windows has no such limit."""
        return pytest.importorskip("resource")

    @pytest.mark.parametrize(
        ("soft", "hard", "allowed", "raised_to"),
        [
            (1024, 4096, 1000, 2128),
            (1024, 1024, 448, 1024),
            (4096, 4096, 1000, None),
            (100, 100, 1, 100),
            (1024, "unlimited", 1000, 2128),
            ("unlimited", "unlimited", 1000, None),
        ],
    )
    def test_limit_is_raised_as_far_as_allowed(self, monkeypatch, resource, soft, hard, allowed, raised_to):
        """Each client may need a second file, for its connection to the service."""
        raised = []
        limits = tuple(resource.RLIM_INFINITY if each == "unlimited" else each for each in (soft, hard))
        monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
        monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: raised.append(wanted))
        assert allow_descriptors(1000) == allowed
        assert raised == ([] if raised_to is None else [(raised_to, limits[1])])
