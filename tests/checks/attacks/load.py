"""Clients that are slow, many, or large: nobody else may have to wait, and memory and connections stay bounded."""

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from checks.attacks.attacks import attack
from checks.attacks.target import Target, answer_from, wait_for
from support.streams import MODEL

MIB = 2**20
MANY = 400
"""More than the connections that our target allows."""


@contextmanager
def connections(target: Target, number: int, first: bytes) -> Iterator[list[socket.socket]]:
    """So many connections on which the same was sent."""
    with ExitStack() as stack:
        opened = []
        for _ in range(number):
            connection = stack.enter_context(target.connect())
            with suppress(OSError):
                connection.sendall(first)
            opened.append(connection)
        yield opened


def is_closed(connection: socket.socket, seconds: float) -> bool:
    """Whether the proxy closes a connection in time, whatever it sends before."""
    connection.settimeout(seconds)
    deadline = time.monotonic() + seconds
    try:
        while connection.recv(65536):
            if time.monotonic() > deadline:
                return False
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def _lockout(target: Target, first: bytes) -> str:
    with connections(target, MANY, first):
        return "" if target.is_prompt() else f"{MANY} connections lock others out"


@attack("load")
def silent_connections(target: Target) -> str:
    """Silent connections lock others out."""
    return _lockout(target, b"")


@attack("load")
def half_headers(target: Target) -> str:
    """Half headers lock others out."""
    return _lockout(target, b"GET /v1/models HTTP/1.1\r\nHost: loc")


@attack("load")
def half_bodies(target: Target) -> str:
    """Half bodies lock others out."""
    return _lockout(target, target.head("POST /v1/none HTTP/1.1", "Content-Length: 1000") + b"{")


@attack("load")
def idle_connections(target: Target) -> str:
    """Connections that were used once lock others out."""
    return _lockout(target, target.head("GET /healthz HTTP/1.1"))


@attack("load", own=True)
def slow_headers(target: Target) -> str:
    """A client that sends its headers byte by byte is never disconnected."""
    with target.connect() as connection:
        with suppress(OSError):
            for byte in target.head("GET /v1/models HTTP/1.1", "X-Long: " + "x" * 200):
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
            return "" if connection.recv(12) in (b"", b"HTTP/1.1 408") else "it is answered after ten times the limit"
        return ""


@attack("load", own=True)
def timeouts(target: Target) -> str:
    """A silent, half or idle client stays connected."""
    heads = {
        "silent": b"",
        "half headers": b"GET /v1/models HTTP/1.1\r\nHost: loc",
        "half body": target.head("POST /v1/none HTTP/1.1", "Content-Length: 1000") + b"{",
        "half chunk": target.head("POST /v1/none HTTP/1.1", "Transfer-Encoding: chunked") + b"5\r\na",
        "half trailer": target.head("POST /v1/none HTTP/1.1", "Transfer-Encoding: chunked") + b"0\r\nX: y\r\n",
        "idle": target.head("GET /healthz HTTP/1.1"),
        "idle, then half headers": target.head("GET /healthz HTTP/1.1") + b"GET /v1/",
        "waits for 100": target.head("POST /v1/none HTTP/1.1", "Content-Length: 9", "Expect: 100-continue"),
    }
    with ExitStack() as stack:
        opened = {}
        for name, head in heads.items():
            opened[name] = stack.enter_context(target.connect())
            opened[name].sendall(head)
        return ", ".join(name for name, connection in opened.items() if not is_closed(connection, 60.0))


@attack("load", own=True)
def slow_bodies(target: Target) -> str:
    """A client that sends its body byte by byte is never disconnected."""
    with target.connect() as connection:
        connection.sendall(target.head("POST /v1/none HTTP/1.1", "Content-Length: 1000"))
        started = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - started < 60:
                connection.sendall(b"x")
                time.sleep(0.4)
            return "it is still connected after 60 times the limit"
    return ""


@attack("load")
def large_headers(target: Target) -> str:
    """Headers beyond 64 KiB are read."""
    wrong = []
    for lines in (
        ["X-A: " + "a" * 66_000],
        ["X-A: b"] * 12_000,
        ["X-A:" + " " * 66_000],
        [f"X{n}: b" for n in range(9000)],
    ):
        received = target.exchange(target.head("GET /v1/models HTTP/1.1", *lines), seconds=1.0)
        if not received.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400")) and received:
            wrong.append(received[:60].decode("latin-1"))
    line = b"GET /v1/models?" + b"q" * 66_000
    received = target.exchange(target.head(line + b" HTTP/1.1"), seconds=1.0)
    wrong += [received[:60].decode("latin-1")] * (received.startswith(b"HTTP/1.1 2"))
    return "; ".join(wrong)


def accepted(target: Target, head: bytes, piece: bytes, most: int) -> int:
    """How many bytes of an endless body the proxy takes, while nobody reads its response."""
    with target.connect() as connection:
        connection.settimeout(3.0)
        connection.sendall(head)
        sent = 0
        with suppress(OSError):
            while sent < most:
                sent += connection.send(piece)
        return sent


@attack("load")
def bytes_after_refusal(target: Target) -> str:
    """A refused request's body is read on and on."""
    wrong = []
    for name, head in {
        "no key": target.head("POST /v1/none HTTP/1.1", "Content-Length: 999999999", key=False),
        "chunked, no key": target.head("POST /v1/none HTTP/1.1", "Transfer-Encoding: chunked", key=False),
        "host": target.head("POST /v1/none HTTP/1.1", "Content-Length: 99999999", host="evil.example"),
        "path": target.head("POST /none HTTP/1.1", "Content-Length: 99999999"),
        "method": target.head("PUT /v1/models HTTP/1.1", "Content-Length: 99999999"),
        "too large": target.head("POST /v1/none HTTP/1.1", "Content-Length: 9999999999"),
        "page": target.head("POST /healthz HTTP/1.1", "Content-Length: 99999999"),
        "get": target.head("GET /healthz HTTP/1.1", "Content-Length: 99999999"),
    }.items():
        piece = b"1000\r\n" + b"x" * 4096 + b"\r\n" if "chunked" in name else b"x" * 65536
        if "no key" in name and target.key is None:
            continue
        taken = accepted(target, head, piece, 64 * MIB)
        if taken >= 64 * MIB:
            wrong.append(f"{name}: {taken} bytes")
    return "; ".join(wrong)


@attack("load", own=True)
def endless_bodies(target: Target) -> str:
    """An endless body fills the memory."""
    target.memory()
    before = target.memory() or 0
    heads = [
        target.head("POST /v1/none HTTP/1.1", "Transfer-Encoding: chunked"),
        target.head("POST /v1/chat/completions HTTP/1.1", "Transfer-Encoding: chunked"),
        target.head("POST / HTTP/1.1", "Transfer-Encoding: chunked"),
    ]
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    taken = [accepted(target, head, piece, 200 * MIB) for head in heads]
    grown = (target.memory() or 0) - before
    if max(taken) >= 200 * MIB:
        return f"{max(taken)} bytes were read"
    return f"the memory grew by {grown // MIB} MB" if grown > 120 * MIB else ""


@attack("load", own=True)
def held_bodies(target: Target) -> str:
    """Many large bodies at the same time fill the memory."""
    target.memory()
    before = target.memory() or 0
    head = target.head("POST /v1/none HTTP/1.1", "Content-Length: 8000000")

    def send() -> None:
        with suppress(OSError), target.connect() as connection:
            connection.sendall(head + b"x" * 7_900_000)
            answer_from(connection)

    threads = [threading.Thread(target=send) for _ in range(30)]
    for thread in threads:
        thread.start()
    prompt = target.is_prompt()
    for thread in threads:
        thread.join()
    grown = (target.memory() or 0) - before
    # 32 MiB of bodies may be held, and the connections' own buffers.
    return "others have to wait" if not prompt else "" if grown < 150 * MIB else f"the memory grew by {grown // MIB} MB"


@attack("load")
def tiny_chunks(target: Target) -> str:
    """A body of one-byte chunks makes others wait."""
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            with suppress(OSError), target.connect() as connection:
                connection.sendall(target.head("POST /v1/none HTTP/1.1", "Transfer-Encoding: chunked"))
                while not stop.is_set():
                    connection.sendall(b"1\r\nx\r\n" * 40_000)

    threads = [threading.Thread(target=flood, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.5)
        slow = [number for number in range(5) if not target.is_prompt()]
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    return f"{len(slow)} of 5 requests have to wait" if slow else ""


@attack("load")
def framing(target: Target) -> str:
    """A body that is nearly all chunk sizes, extensions or trailers is read on and on."""
    head = target.head("POST /v1/none HTTP/1.1", "Transfer-Encoding: chunked")
    pieces = {
        "tiny": b"1\r\nx\r\n" * 10_000,
        "padded": b"0000000000000001\r\nx\r\n" * 3000,
        "extended": (b"1;a=" + b"x" * 9000 + b"\r\nx\r\n") * 7,
        "extension": b"1;a=" + b"x" * 70_000 + b"\r\nx\r\n",
    }
    wrong = [name for name, piece in pieces.items() if accepted(target, head, piece, 32 * MIB) >= 32 * MIB]
    trailer = target.exchange(head + b"0\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n", seconds=2.0)
    wrong += ["trailers"] * (b" 200 OK" in trailer or b" 404 " in trailer)
    body = b"".join(b"64\r\n" + b"x" * 100 + b"\r\n" for _ in range(20_000)) + b"0\r\n\r\n"
    usual = target.exchange(head.replace(b"Host", b"Connection: close\r\nHost") + body)
    return ", ".join(
        wrong + ["a body of usual chunks is refused"] * (b" 400 " in usual[:20] and b"chunks are" in usual)
    )


@attack("load", own=True)
def long_names(target: Target) -> str:
    """Names of models that are remembered fill the memory."""
    target.memory()
    before = target.memory() or 0
    for number in range(20):
        # The first is answered by the model whose name it begins with, and could be remembered as its alias.
        name = f"{MODEL}:{number}" + "x" * 5 * MIB
        for model in (name, name.replace(":", "/")):
            body = json.dumps({"model": model, "messages": [], "stream": False}).encode()
            target.ask("POST /v1/chat/completions HTTP/1.1", body=body)
    target.memory()
    grown = (target.memory() or 0) - before
    return f"the memory grew by {grown // MIB} MB" if grown > 100 * MIB else ""


@attack("load", own=True)
def json_bodies(target: Target) -> str:
    """A body of deep, wide or odd JSON makes the proxy fail."""
    bodies = {
        "deep": b"[" * 500_000,
        "deep object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "deep messages": b'{"model":"m","messages":' + b"[" * 5000 + b"]" * 5000 + b"}",
        "digits": b'{"model":"m","messages":[],"seed":' + b"9" * 100_000 + b"}",
        "surrogates": b'{"model":"\\ud800","messages":[]}',
        "null": b'{"model":null,"messages":null,"stream":null,"tools":null}',
        "types": b'{"model":[],"messages":{},"stream":"yes","tools":{"a":1}}',
        "repeated": b'{"model":"a","model":"b","stream":false,"stream":true}',
        "not UTF-8": b'{"model":"\xff\xfe"}',
        "marked": b"\xef\xbb\xbf{}",
        "empty": b" ",
    }
    wrong = []
    for name, body in bodies.items():
        for path in ("/v1/chat/completions", "/v1/responses", "/"):
            answer = target.ask(f"POST {path} HTTP/1.1", body=body)
            if answer.status >= 500:
                wrong.append(f"{name} at {path}: {answer.status} {answer.code}")
    return "; ".join(wrong + [line.strip() for line in target.log if "Traceback" in line])


def _left(target: Target, leave: "object") -> str:
    """Whether the service's connection is closed soon after a client has left."""
    assert target.service
    asked = json.dumps({"model": "evil:held", "messages": [], "stream": True}).encode()
    head = target.head("POST /v1/chat/completions HTTP/1.1", f"Content-Length: {len(asked)}")
    before, left = len(target.service.closed_at), target.clients_left()
    connection = target.connect()
    connection.sendall(head + asked)
    connection.recv(100)
    leave(connection)  # type: ignore[operator]
    ended = wait_for(lambda: len(target.service.closed_at) > before, 30.0)  # type: ignore[union-attr]
    # Otherwise the silence of the service has ended the request.
    seen = ended and wait_for(lambda: target.clients_left() > left, 2.0)
    with suppress(OSError):
        connection.close()
    return "" if seen else "the service is asked until it has been silent for too long"


@attack("load", own=True)
def leavers(target: Target) -> str:
    """A client that disconnects is not noticed."""

    def reset(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    def half_close(connection: socket.socket) -> None:
        connection.shutdown(socket.SHUT_WR)

    ways = {"close": socket.socket.close, "reset": reset, "half close": half_close}
    return "; ".join(f"{name}: {found}" for name, way in ways.items() if (found := _left(target, way)))


@attack("load", own=True)
def leavers_with_unread_bytes(target: Target) -> str:
    """A client that disconnects is not noticed where it has sent more behind its request."""

    def after(size: int) -> object:
        def leave(connection: socket.socket) -> None:
            connection.settimeout(3.0)
            with suppress(OSError):
                for start in range(0, size, 30_000):
                    connection.sendall(b"GET /x HTTP/1.1\r\n"[: size - start] + b"x" * min(30_000, size - start))
                    time.sleep(0.01)
            connection.close()

        return leave

    sizes = (1, 1000, 60_000, 100_000, MIB)
    return "; ".join(f"{size} bytes: {found}" for size in sizes if (found := _left(target, after(size))))


@attack("load")
def endless_pipelines(target: Target) -> str:
    """What follows a request that is being answered is read on and on."""
    if target.service is None:
        head = target.head("GET /healthz HTTP/1.1", "Connection: close")
    else:
        asked = b'{"model": "evil:held", "messages": [], "stream": true}'
        head = target.head("POST /v1/chat/completions HTTP/1.1", f"Content-Length: {len(asked)}") + asked
    taken = [
        accepted(target, each, b"x" * 65536, 64 * MIB)
        for each in (head, head.replace(b"Host", b"Connection: close\r\nHost"))
    ]
    return f"{max(taken)} bytes" if max(taken) >= 64 * MIB else ""


@attack("load", own=True)
def clients_that_do_not_read(target: Target) -> str:
    """A client that does not read its response keeps the service busy."""
    assert target.service
    asked = b'{"model": "evil:endless-stream", "messages": [], "stream": true}'
    head = target.head("POST /v1/chat/completions HTTP/1.1", f"Content-Length: {len(asked)}") + asked
    before = len(target.service.requests)
    target.memory()
    started = target.memory() or 0
    with connections(target, 20, head):
        wait_for(lambda: len(target.service.requests) >= before + 20, 10.0)  # type: ignore[union-attr]
        closed = wait_for(lambda: target.service.open_connections == 0, 60.0)  # type: ignore[union-attr]
        grown = (target.memory() or 0) - started
    if not closed:
        return "the service still sends 60 seconds later"
    return f"the memory grew by {grown // MIB} MB" if grown > 60 * MIB else ""


@attack("load", own=True)
def descriptors(target: Target) -> str:
    """Connections that come and go leave files open."""
    before = target.descriptors() or 0
    for _ in range(10):
        with connections(target, 100, target.head("GET /v1/models HTTP/1.1")):
            pass
        with connections(target, 100, b"\xff"):
            pass
    wait_for(lambda: (target.descriptors() or 0) <= before + 5, 30.0)
    after = target.descriptors() or 0
    if not target.is_prompt():
        return "nobody else is served"
    return f"{before} before, {after} after" if after > before + 5 else ""


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@attack("load", own=True)
def resets(target: Target) -> str:
    """Connections that are reset after a response stay in the memory."""
    request = target.head("GET /healthz HTTP/1.1")
    grown = []
    for _ in range(2):
        target.memory()
        before = target.memory() or 0
        for _ in range(1500):
            connection = target.connect()
            connection.sendall(request)
            connection.recv(4096)
            _reset(connection)
        grown.append((target.memory() or 0) - before)
    # Each would keep its buffers and its last request, for five minutes by default.
    return f"the memory grew by {grown[1] // 1024} KB for 1500 connections" if grown[1] > 8 * MIB else ""


@attack("load")
def resets_at_any_moment(target: Target) -> str:
    """A connection that is reset in the middle of a request makes the proxy fail."""
    body = b'{"model": "m", "messages": [], "stream": true}'
    request = target.head("POST /v1/chat/completions HTTP/1.1", f"Content-Length: {len(body)}") + body
    for end in range(0, len(request) + 1, 7):
        connection = target.connect()
        connection.sendall(request[:end])
        time.sleep(0.002)
        _reset(connection)
    wrong = [line.strip() for line in target.log if "Traceback" in line]
    return "; ".join(wrong + ["nobody else is served"] * (not target.is_prompt()))


@attack("load")
def small_headers(target: Target) -> str:
    """Thousands of small headers, segments or parameters make others wait."""
    requests = {
        "headers": target.head("GET /v1/models HTTP/1.1", *[f"a{n}: b" for n in range(6000)]),
        "empty headers": target.head("GET /v1/models HTTP/1.1", *[f"a{n}:" for n in range(8000)]),
        "segments": target.head(f"GET /v1{'/a' * 30_000} HTTP/1.1"),
        "dots": target.head(f"GET /v1{'/..' * 20_000} HTTP/1.1"),
        "encoded": target.head(f"GET /v1/{'%61' * 20_000} HTTP/1.1"),
        "encoded twice": target.head(f"GET /v1/{'%2561' * 12_000} HTTP/1.1"),
        "broken encoding": target.head(f"GET /v1/{'%' * 60_000} HTTP/1.1"),
        "parameters": target.head(f"GET /v1/models?{'a=b&' * 15_000} HTTP/1.1"),
        "host": target.head("GET /v1/models HTTP/1.1", host="a." * 30_000),
        "origin": target.head("GET /v1/models HTTP/1.1", "Origin: https://" + "a." * 30_000),
        "key": target.head("GET /v1/models HTTP/1.1", "Authorization: " + "Bearer " * 9000, key=False),
        "connection": target.head("GET /v1/models HTTP/1.1", "Connection: " + "a," * 30_000),
        "accept": target.head("GET /v1/models HTTP/1.1", "Accept: " + "a/b;q=0.1," * 6000),
        "preflight": target.head(
            "OPTIONS /v1/models HTTP/1.1",
            "Origin: https://allowed.example",
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: " + "x-a," * 14_000,
        ),
    }
    slow = []
    for name, request in requests.items():
        started = target.clock()
        for _ in range(5):
            target.exchange(request.replace(b"Host:", b"connection: close\r\nHost:", 1), seconds=30.0)
        if (seconds := target.clock() - started) > 5:
            slow.append(f"{name}: {seconds:.1f} s for five")
    return "; ".join(slow + [line.strip() for line in target.log if "Traceback" in line])


@attack("load")
def lingering_crowd(target: Target) -> str:
    """Refused clients that go on sending lock others out."""
    head = target.head("POST /v1/none HTTP/1.1", "Content-Length: 99999999", host="evil.example")
    with connections(target, 200, head + b"x"):
        return "" if target.is_prompt() else "others have to wait"


@attack("load", own=True)
def many_requests(target: Target) -> str:
    """Requests that wait for the service lock others out."""
    asked = b'{"model": "evil:kept", "messages": [], "stream": true}'
    head = target.head("POST /v1/chat/completions HTTP/1.1", f"Content-Length: {len(asked)}") + asked
    with connections(target, 290, head) as opened:
        found = wait_for(lambda: target.chat("surplus").status == 503, 60.0)
        refused = target.chat("surplus")
        health = target.is_prompt()
        codes = {connection.recv(12) for connection in opened}
    if codes != {b"HTTP/1.1 200", b"HTTP/1.1 503"}:
        return str(codes)
    if not wait_for(lambda: target.chat("surplus").status == 200, 60.0):
        return "their places are not given back"
    right = found and health and refused.code == "too_many_requests" and refused.header("retry-after")
    return "" if right else f"{refused}, health {health}"
