r"""An HTTP/1.1 server that sends exactly the bytes a test asks for, in the pieces and at the moments it asks for.

No HTTP library has a say in what goes over the wire, so a response may be cut, reset, held open, misframed or late::

    with RawServer(sse_response([b"data: 1\n\n", b"data: [DONE]\n\n"], end="held")) as server:
        ...  # a client talks to server.base_url
        server.wait_for_close()

A script is a list of steps, played for every request, or a function of the connection and the request that acts on the
connection, or returns (or yields) steps, or both.
"""

import json
import queue
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

_JOIN_SECONDS = 10.0
_LINGER_ZERO = struct.pack("ii", 1, 0)
EVENT_STREAM = (("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache"))


@dataclass(frozen=True, slots=True)
class Send:
    """Write these bytes, in one call and without delay."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Sleep:
    """Do nothing for a while. Ends early, with the script, when the client leaves or the server stops."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Say nothing more and keep the connection open until the client leaves or the server stops."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection the orderly way (FIN)."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Abort the connection (RST): the client's next read fails instead of ending."""


Step: TypeAlias = Send | Sleep | Hold | Close | Reset
End: TypeAlias = Literal["terminated", "cut", "reset", "held", "close"]


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A request as it came in. ``received_at`` is the ``time.perf_counter_ns`` of its last byte."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    received_at: int = field(default_factory=time.perf_counter_ns, compare=False)

    def header(self, name: str, default: str | None = None) -> str | None:
        """Return the first header of that name, in whatever case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), default)

    def json(self) -> Any:
        """Return the body, decoded."""
        return json.loads(self.body)


class ClientLeftError(ConnectionError):
    """The client closed its end, or the server is stopping: nothing is left to be said on this connection.

    A script may let it pass; it ends the script and is no failure.
    """


class Connection:
    """One client's connection: what a script acts on."""

    def __init__(self, server: "RawServer", sock: socket.socket, number: int) -> None:
        """Take over an accepted socket."""
        self.number = number
        self.closed_at: int | None = None
        """When the server noticed that the client closed, in ``time.perf_counter_ns``."""
        self.is_open = True
        self._server = server
        self._socket = sock
        self._received = bytearray()
        self._requests: queue.SimpleQueue[RawRequest | None] = queue.SimpleQueue()
        self._over = threading.Event()
        self._unwatched = threading.Event()
        self._thread = threading.Thread(
            target=server._serve, args=(self,), name=f"raw-connection-{number}", daemon=True
        )

    def send(self, data: bytes) -> None:
        """Write bytes in one call."""
        self._require_client()
        self._server.sent.append(time.perf_counter_ns())
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise ClientLeftError from error

    def sleep(self, seconds: float) -> None:
        """Wait, unless the client leaves first."""
        self._require_client()
        if self._over.wait(seconds):
            raise ClientLeftError

    def hold(self) -> None:
        """Wait for the client to leave or the server to stop."""
        self._require_client()
        self._over.wait()
        raise ClientLeftError

    def close(self) -> None:
        """Close with a FIN."""
        if not self.is_open:
            return
        self._server._unwatch(self)
        with suppress(OSError):  # the client may be gone already
            self._socket.shutdown(socket.SHUT_WR)
        self._socket.close()
        self._server._closed(self)

    def reset(self) -> None:
        """Close with an RST."""
        if not self.is_open:
            return
        self._server._unwatch(self)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._socket.close()
        self._server._closed(self)

    def play(self, steps: Iterable[Step]) -> None:
        """Do one step after another."""
        for step in steps:
            match step:
                case Send(data):
                    self.send(data)
                case Sleep(seconds):
                    self.sleep(seconds)
                case Hold():
                    self.hold()
                case Close():
                    self.close()
                case Reset():
                    self.reset()

    def _require_client(self) -> None:
        if not self.is_open:
            message = "the script goes on after it closed the connection"
            raise RuntimeError(message)
        if self._over.is_set():
            raise ClientLeftError


Script: TypeAlias = Callable[[Connection, RawRequest], Iterable[Step] | None] | Sequence[Step]


class RawServer:
    """Serves a script on a free port of 127.0.0.1, as a context manager.

    One thread accepts and reads for all connections, so that it notices at once when a client leaves, whatever the
    script is doing then; each connection has a thread of its own for its script. Leaving the ``with`` block ends them
    all and raises the first error that a script ran into.
    """

    def __init__(self, script: Script) -> None:
        """Prepare; nothing listens before the ``with`` block."""
        self.requests: list[RawRequest] = []
        self.sent: list[int] = []
        """``time.perf_counter_ns`` just before each Send."""
        self.closed_at: list[int] = []
        """``time.perf_counter_ns`` of each close by a client, in the order noticed."""
        self.all_connections: list[Connection] = []
        self._script = script
        self._failures: list[Exception] = []
        self._changed = threading.Condition()
        self._unwatch_queue: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self._stopping = False
        self._watcher = threading.Thread(target=self._watch, name="raw-server", daemon=True)

    def __enter__(self) -> Self:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_receiver, selectors.EVENT_READ)
        self.port: int = self._listener.getsockname()[1]
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and report what went wrong in the scripts unless the test failed anyway."""
        self._stopping = True
        self._wake()
        self._watcher.join(_JOIN_SECONDS)  # it is the one that accepts: from here on the list is complete
        threads = [self._watcher, *(connection._thread for connection in self.all_connections)]
        for thread in threads[1:]:
            thread.join(_JOIN_SECONDS)
        for resource in (self._listener, self._wake_receiver, self._wake_sender, self._selector):
            resource.close()
        assert not [thread.name for thread in threads if thread.is_alive()], "the raw server left threads behind"
        if self._failures and error is None:
            raise self._failures[0]

    @property
    def url(self) -> str:
        """Return the server's address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """Return what an OpenAI client wants as its base URL."""
        return f"{self.url}/v1"

    @property
    def connections(self) -> int:
        """Return how many connections were ever opened."""
        return len(self.all_connections)

    @property
    def open_connections(self) -> int:
        """Return how many connections neither side has closed yet."""
        with self._changed:
            return sum(connection.is_open and connection.closed_at is None for connection in self.all_connections)

    def wait_for_close(self, timeout: float = 10.0, count: int = 1) -> int:
        """Wait until clients closed that many connections; return when the last of them was noticed."""
        self._wait(lambda: len(self.closed_at) >= count, timeout, f"{count} closed by the client")
        return self.closed_at[count - 1]

    def wait_for_requests(self, timeout: float = 10.0, count: int = 1) -> RawRequest:
        """Wait until that many requests are complete; return the last of them."""
        self._wait(lambda: len(self.requests) >= count, timeout, f"{count} requests")
        return self.requests[count - 1]

    def wait_until_no_connection_is_open(self, timeout: float = 10.0) -> None:
        """Wait until every connection has been closed, by whichever side."""
        self._wait(lambda: self.open_connections == 0, timeout, "no open connection")

    def _wait(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                message = f"waited {timeout} s in vain for: {what}"
                raise TimeoutError(message)

    def _wake(self) -> None:
        self._wake_sender.send(b"\0")

    # In the watcher's thread

    def _watch(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._wake_receiver:
                    self._wake_receiver.recv(4096)
                else:
                    self._read(key.data)
            while not self._unwatch_queue.empty():
                self._forget(self._unwatch_queue.get())
        for connection in self.all_connections:
            self._dismiss(connection)

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self, sock, len(self.all_connections))
        with self._changed:
            self.all_connections.append(connection)
            self._changed.notify_all()
        self._selector.register(sock, selectors.EVENT_READ, connection)
        connection._thread.start()

    def _read(self, connection: Connection) -> None:
        try:
            data = connection._socket.recv(1 << 16)
        except OSError:
            data = b""  # an RST is a client that left, too
        if not data:
            self._note_departure(connection)
            return
        connection._received += data
        try:
            while request := take_request(connection._received):
                with self._changed:
                    self.requests.append(request)
                    self._changed.notify_all()
                connection._requests.put(request)
        except ValueError as error:  # the client does not speak HTTP
            self._failures.append(error)
            self._dismiss(connection)

    def _note_departure(self, connection: Connection) -> None:
        with self._changed:
            connection.closed_at = time.perf_counter_ns()
            self.closed_at.append(connection.closed_at)
            self._changed.notify_all()
        self._forget(connection)
        connection._over.set()
        connection._requests.put(None)

    def _forget(self, connection: Connection) -> None:
        """Take the connection's socket out of the selector, after which its own thread may close it."""
        if not connection._unwatched.is_set():
            self._selector.unregister(connection._socket)
            connection._unwatched.set()

    def _dismiss(self, connection: Connection) -> None:
        if connection._unwatched.is_set():
            return
        connection._over.set()
        with suppress(OSError):  # wakes a script that is stuck in a write to a client that does not read
            connection._socket.shutdown(socket.SHUT_RDWR)
        self._forget(connection)
        connection._requests.put(None)

    # In a connection's thread

    def _serve(self, connection: Connection) -> None:
        try:
            while connection.is_open and (request := connection._requests.get()):
                script = self._script
                connection.play((script(connection, request) or ()) if callable(script) else script)
                if (request.header("connection") or "").lower() == "close":
                    break
        except ClientLeftError:
            pass
        except Exception as error:  # noqa: BLE001 - raised again where the test can see it
            self._failures.append(error)
        finally:
            connection.close()

    def _unwatch(self, connection: Connection) -> None:
        if not connection._unwatched.is_set():
            self._unwatch_queue.put(connection)
            self._wake()
            connection._unwatched.wait()

    def _closed(self, connection: Connection) -> None:
        with self._changed:
            connection.is_open = False
            self._changed.notify_all()


def take_request(received: bytearray) -> RawRequest | None:
    """Take a complete request off the front of what was received, if there is one."""
    head_end = received.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    request_line, *header_lines = received[:head_end].decode("latin-1").split("\r\n")
    method, path, _ = request_line.split(" ", 2)
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in header_lines)]
    by_name = {name.lower(): value for name, value in headers}
    body_start = head_end + 4
    if by_name.get("transfer-encoding", "").lower() == "chunked":
        chunked = _chunked_body(received, body_start)
        if chunked is None:
            return None
        body, end = chunked
    else:
        end = body_start + int(by_name.get("content-length", "0"))
        if len(received) < end:
            return None
        body = bytes(received[body_start:end])
    del received[:end]
    return RawRequest(method, path, headers, body)


def _chunked_body(received: bytearray, start: int) -> tuple[bytes, int] | None:
    """Return the decoded body and where it ends, or None while it is incomplete. Trailers are not understood."""
    body = bytearray()
    while (line_end := received.find(b"\r\n", start)) >= 0:
        size = int(received[start:line_end].split(b";")[0], 16)
        data_start = line_end + 2
        start = data_start + size + 2
        if len(received) < start:
            return None
        if size == 0:
            return bytes(body), start
        body += received[data_start : data_start + size]
    return None


def response_head(
    status: int = 200, headers: Iterable[tuple[str, str]] = EVENT_STREAM, *, chunked: bool = True
) -> bytes:
    """Return the status line and headers, with the empty line after them."""
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Frame bytes as one chunk of the chunked encoding."""
    if not data:
        message = "an empty chunk is the last chunk: say last_chunk()"
        raise ValueError(message)
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk() -> bytes:
    """Return what terminates a chunked body."""
    return b"0\r\n\r\n"


def plain_response(
    body: bytes, status: int = 200, headers: Iterable[tuple[str, str]] = (("Content-Type", "application/json"),)
) -> list[Step]:
    """Return the steps of a response with a Content-Length, after which the connection stays open."""
    head = response_head(status, [*headers, ("Content-Length", str(len(body)))], chunked=False)
    return [Send(head + body)]


def sse_response(
    events: Iterable[bytes],
    *,
    end: End = "terminated",
    status: int = 200,
    headers: Iterable[tuple[str, str]] = EVENT_STREAM,
    per_event: bool = True,
    gap: float = 0.0,
) -> list[Step]:
    r"""Return the steps of a stream. The events go out as they are, so they bring their own ``data:`` and blank line.

    Args:
        events: The pieces of the body; not necessarily whole events.
        end: ``terminated`` ends the body properly and keeps the connection, ``cut`` closes (FIN) and ``reset`` aborts
            (RST) in the middle of the chunked body, ``held`` says nothing more but keeps the connection open, and
            ``close`` sends an unchunked body whose proper end is the end of the connection.
        status: The status of the response.
        headers: Its headers; Transfer-Encoding or Connection is added to them.
        per_event: Whether each event is a chunk and a write of its own, after one of the head. Otherwise the whole
            response is a single write, and the body in it a single chunk.
        gap: Seconds to wait before each event but the first.
    """
    chunked = end != "close"
    frame = chunk if chunked else bytes
    head = response_head(status, headers if chunked else [*headers, ("Connection", "close")], chunked=chunked)
    tail = last_chunk() if end == "terminated" else b""
    if not per_event:
        body = b"".join(events)
        return [Send(head + (frame(body) if body else b"") + tail), *_ending(end)]
    steps: list[Step] = [Send(head)]
    for index, event in enumerate(events):
        if gap and index:
            steps.append(Sleep(gap))
        steps.append(Send(frame(event)))
    if tail:
        steps.append(Send(tail))
    return [*steps, *_ending(end)]


def _ending(end: End) -> list[Step]:
    match end:
        case "terminated":
            return []
        case "held":
            return [Hold()]
        case "reset":
            return [Reset()]
        case "cut" | "close":
            return [Close()]


def marked(script: Script) -> Script:
    """Return a script whose responses have a mark of Foundry Local's: the header of its server."""
    if not callable(script):
        return _with_mark(script)

    def play(connection: Connection, request: RawRequest) -> Iterable[Step] | None:
        return _with_mark(script(connection, request) or ())

    return play


def _with_mark(steps: Iterable[Step]) -> list[Step]:
    head, *rest = steps
    if not isinstance(head, Send):
        return [head, *rest]
    status, line_end, more = head.data.partition(b"\r\n")
    return [Send(status + line_end + b"Server: oatpp/1.3.0\r\n" + more), *rest]


def in_turn(*scripts: Script) -> Script:
    """Return a script that plays the first script for the first request, and so on; the last one for all the rest."""
    lock = threading.Lock()
    remaining = list(scripts)

    def play_next(connection: Connection, request: RawRequest) -> Iterable[Step] | None:
        with lock:
            script = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        return script(connection, request) if callable(script) else script

    return play_next
