import http.client
import socket
import threading
import time
from contextlib import closing

import pytest

from support.raw_server import (
    ClientLeftError,
    Close,
    Hold,
    RawServer,
    Reset,
    Send,
    Sleep,
    chunk,
    in_turn,
    last_chunk,
    plain_response,
    response_head,
    sse_response,
)

EVENTS = [b"data: 1\n\n", b"data: two\n\n"]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
CHUNKED_HEAD = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"9\r\ndata: 1\n\n\r\nb\r\ndata: two\n\n\r\n"
REQUEST = b"GET /v1/models HTTP/1.1\r\nHost: here\r\n\r\n"


def connect(server):
    return closing(socket.create_connection(("127.0.0.1", server.port), timeout=10))


def read_to_end(sock):
    return b"".join(iter(lambda: sock.recv(65536), b""))


def read_exactly(sock, size):
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, f"the connection ended after {data!r}"
        data += piece
    return data


def ask_until_the_end(script):
    with RawServer(script) as server, connect(server) as sock:
        sock.sendall(REQUEST)
        server.wait_for_requests()
        server.wait_until_no_connection_is_open()


def talk_nonsense(sock):
    sock.sendall(b"nonsense\r\n\r\n")
    assert read_to_end(sock) == b""


def http_client(server):
    return closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10))


@pytest.mark.parametrize(
    ("end", "expected"),
    [("cut", CHUNKED_HEAD + CHUNKS), ("close", HEAD + b"Connection: close\r\n\r\n" + b"".join(EVENTS))],
)
def test_a_closed_response_is_sent_byte_for_byte(end, expected):
    with RawServer(sse_response(EVENTS, end=end)) as server, connect(server) as sock:
        sock.sendall(REQUEST)
        assert read_to_end(sock) == expected
        assert len(server.sent) == 3
        server.wait_until_no_connection_is_open()
    assert server.closed_at == []


@pytest.mark.parametrize("end", ["terminated", "held"])
def test_an_open_response_is_sent_byte_for_byte(end):
    expected = CHUNKED_HEAD + CHUNKS + (b"0\r\n\r\n" if end == "terminated" else b"")
    with RawServer(sse_response(EVENTS, end=end)) as server, connect(server) as sock:
        sock.sendall(REQUEST)
        assert read_exactly(sock, len(expected)) == expected
        assert server.open_connections == 1


def test_a_response_in_one_write_is_one_chunk():
    with RawServer(sse_response(EVENTS, end="cut", per_event=False)) as server, connect(server) as sock:
        sock.sendall(REQUEST)
        assert read_to_end(sock) == CHUNKED_HEAD + chunk(b"".join(EVENTS))
        assert len(server.sent) == 1


def test_an_empty_body_in_one_write_has_no_chunk():
    with RawServer(sse_response([], per_event=False)) as server, http_client(server) as client:
        client.request("GET", "/")
        assert client.getresponse().read() == b""


def test_a_reset_is_seen_as_a_reset():
    with RawServer(sse_response(EVENTS, end="reset")) as server, connect(server) as sock:
        sock.sendall(REQUEST)
        with pytest.raises(ConnectionResetError):
            read_to_end(sock)
        server.wait_until_no_connection_is_open()


@pytest.mark.parametrize("status", [404, 799])
def test_a_status_needs_no_name(status):
    with RawServer(plain_response(b"{}", status)) as server, http_client(server) as client:
        client.request("GET", "/")
        response = client.getresponse()
        assert (response.status, response.read()) == (status, b"{}")


def test_several_requests_share_a_connection():
    with RawServer(sse_response(EVENTS)) as server, http_client(server) as client:
        for number in range(3):
            client.request("POST", f"/{number}", body=b"{}", headers={"X-Number": str(number)})
            assert client.getresponse().read() == b"".join(EVENTS)
        assert (server.connections, server.open_connections) == (1, 1)
    assert [request.path for request in server.requests] == ["/0", "/1", "/2"]
    assert [request.header("x-number") for request in server.requests] == ["0", "1", "2"]


def test_connections_are_counted():
    with RawServer(plain_response(b"{}")) as server:
        for number in range(3):
            with http_client(server) as client:
                client.request("GET", "/")
                assert client.getresponse().read() == b"{}"
                assert server.open_connections == 1
            server.wait_for_close(count=number + 1)
        assert (server.connections, server.open_connections) == (3, 0)
    assert server.closed_at == sorted(server.closed_at)


def test_a_client_that_wants_the_connection_closed_gets_it_closed():
    with RawServer(plain_response(b"{}")) as server, connect(server) as sock:
        sock.sendall(REQUEST.replace(b"Host: here", b"Connection: close"))
        assert read_to_end(sock).endswith(b"\r\n\r\n{}")


@pytest.mark.parametrize("waiting", [Hold(), Sleep(3600)], ids=["holding", "sleeping"])
@pytest.mark.parametrize("aborting", [False, True], ids=["closed", "aborted"])
def test_a_client_that_leaves_is_noticed_while_the_script_waits(waiting, aborting):
    # The median of a few, so that a single stall of the machine does not decide what "at once" was.
    delays = []
    for _ in range(5):
        with RawServer([Send(response_head()), waiting, Send(b"never")]) as server:
            with connect(server) as sock:
                sock.sendall(REQUEST)
                read_exactly(sock, len(response_head()) - (1 if aborting else 0))  # leaving data unread aborts
                left_at = time.perf_counter_ns()
            delays.append(server.wait_for_close() - left_at)
            assert server.open_connections == 0
        assert len(server.sent) == 1
    assert sorted(delays)[len(delays) // 2] < 50e6


def test_the_server_stops_while_scripts_wait():
    with RawServer(in_turn([Hold()], [Sleep(3600)], [Send(b"x" * (1 << 26))])) as server:
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        for number, sock in enumerate(clients):
            sock.sendall(REQUEST)
            server.wait_for_requests(count=number + 1)
    for sock in clients:
        sock.close()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("raw-")] == []


def test_requests_are_recorded_whole():
    body = b"x" * 100_000
    with RawServer(plain_response(b"{}")) as server, http_client(server) as client:
        client.request("POST", "/a?b=c", body=body, headers={"X-One": "1"})
        client.getresponse().read()
        client.request("POST", "/chunked", body=iter([b'{"a":', b"1}"]), encode_chunked=True)
        client.getresponse().read()
    first, second = server.requests
    assert (first.method, first.path, first.body, first.header("x-one")) == ("POST", "/a?b=c", body, "1")
    assert second.json() == {"a": 1}


def test_a_script_may_be_a_function_that_acts_and_yields():
    def script(connection, request):
        connection.send(response_head())
        yield Send(chunk(request.path.encode()))
        connection.send(last_chunk())
        yield Close()

    with RawServer(script) as server, connect(server) as sock:
        sock.sendall(REQUEST)
        assert read_to_end(sock).endswith(b"\r\n\r\na\r\n/v1/models\r\n0\r\n\r\n")


def test_scripts_in_turn_repeat_the_last_one():
    with RawServer(in_turn(plain_response(b"1"), plain_response(b"2"))) as server, http_client(server) as client:
        bodies = []
        for _ in range(3):
            client.request("GET", "/")
            bodies.append(client.getresponse().read())
    assert bodies == [b"1", b"2", b"2"]


def test_a_script_can_tell_that_the_client_left():
    left = threading.Event()

    def script(connection, _request):
        try:
            connection.hold()
        except ClientLeftError:
            left.set()
            raise

    with RawServer(script) as server:
        with connect(server) as sock:
            sock.sendall(REQUEST)
            server.wait_for_requests()
        assert left.wait(10)


@pytest.mark.parametrize("script", [lambda *_: 1 // 0, [Close(), Send(b"x")], [Reset(), Sleep(0)]])
def test_an_error_in_a_script_is_raised_in_the_test(script):
    with pytest.raises((ZeroDivisionError, RuntimeError)):
        ask_until_the_end(script)


def test_a_client_that_speaks_no_http_is_an_error_in_the_test():
    server = RawServer([])
    with pytest.raises(ValueError, match="unpack"), server, connect(server) as sock:
        talk_nonsense(sock)


def test_waiting_in_vain_ends():
    with RawServer([]) as server, pytest.raises(TimeoutError, match="1 requests"):
        server.wait_for_requests(timeout=0.01)


def test_an_empty_chunk_would_be_the_last():
    with pytest.raises(ValueError, match="last_chunk"):
        chunk(b"")
