"""The repaired body of a response: what a client of httpx or httpx2 reads instead of the service's own.

How long a read may take is the client's affair (its read timeout, ten minutes under openai), with two exceptions on
connections that a service holds open. After ``[DONE]`` the end of the body is waited for during a tenth of a second, so
that the connection can be used again. And where an answer of Foundry Local's is complete but for ``[DONE]``, the
program has all of it, and the marker is waited for during two seconds.

An asynchronous read is cancelled then. A synchronous one cannot be: the HTTP library takes its timeout from the request
when the body begins, and a blocked read of a socket ends for no other reason. So these reads go past the library, to
its parser and its network stream, each with a timeout of its own (`Connection.read`). Where they cannot be reached, as
in a transport of the program's own, the client's timeout holds, and a body is not read beyond ``[DONE]``. A shorter
read timeout of the client ends a complete answer in the same way.
"""

from __future__ import annotations

import math
import sys
import time
from contextlib import suppress
from functools import cache, cached_property
from socket import SHUT_RDWR
from types import coroutine
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar

from shim.errors import StreamError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Generator, Iterator
    from socket import socket
    from typing import Self

    from shim.core.stream import StreamRepairer
    from shim.transport.messages import ByteStream, Extensions, Headers, Response

_SETTLE_SECONDS: Final = 0.1
"""How long the end of the body is waited for after ``[DONE]``; openai 3.x gives its own drain the same time."""
_ENCODED_PIECE: Final = 4096
_COMPLETE_SECONDS: Final = 2.0
"""How long ``[DONE]`` is waited for after an answer that is complete without it."""
_LONGEST_OPENING: Final = 2000
"""How many bytes are kept of a body without any event, for the message that quotes them."""
_READ_BYTES: Final = 2**16


class Connection:
    """The connection that a response is read from, as far as it can be reached below the HTTP library."""

    def __init__(self, response: Response | _Received) -> None:
        """Take the response while its body is read."""
        self._response = response
        # Whether the end of the body was read. The library may not know, and would wait for it; and from then on the
        # connection may be another response's.
        self.is_at_end = False

    @property
    def is_own(self) -> bool:
        """Whether no other stream shares it, as under HTTP/2, where a stream is closed without it."""
        return self._response.extensions.get("http_version", b"HTTP/1.1") in (b"HTTP/1.1", b"HTTP/1.0")

    @property
    def can_be_read(self) -> bool:
        """Whether `read` works."""
        return self.is_own and self._parser is not None and self._network is not None

    def read(self, seconds: float) -> bytes | None:
        """Read from the body for so many seconds at most, and no longer than the client would; None at its end.

        Raises:
            Exception: Nothing was received in time, or the connection broke.
        """
        deadline = time.monotonic() + min(seconds, self._read_timeout)
        while not self.is_at_end:
            for piece in self.take_received():
                return piece
            if not self.is_at_end:
                left = max(deadline - time.monotonic(), 0.001)
                self._parser.receive_data(self._network.read(_READ_BYTES, timeout=left))
        return None

    def take_received(self) -> Iterator[bytes]:
        """The pieces of the body that the HTTP library holds already, read without waiting.

        Raises:
            Exception: They are malformed.
        """
        next_event = self._parser.next_event
        while not self.is_at_end:
            event = next_event()
            if (data := getattr(event, "data", None)) is not None:
                yield bytes(data)
            elif type(event).__name__ == "NEED_DATA":
                return
            else:
                self.finish()

    @property
    def holds_more(self) -> bool:
        """Whether the HTTP library holds more of the body than the end of the line after a chunk."""
        return self._parser is not None and len(self._parser.trailing_data[0]) > len(b"\r\n")

    def shut_down(self) -> None:
        """End the connection; a read of it in another thread ends as well."""
        found: socket | None = None if self._network is None else self._network.get_extra_info("socket")
        if found is not None and self.is_own:
            with suppress(OSError):  # closed by the other side in the meantime
                found.shutdown(SHUT_RDWR)

    def finish(self) -> None:
        """Note the end of the body. The connection is ended if bytes follow: they would answer the next request.

        The HTTP libraries look for that at the socket only, not at what they have received already.
        """
        if self.is_at_end:
            return
        self.is_at_end = True
        if self._parser is not None and self._parser.trailing_data[0]:
            self.shut_down()

    @property
    def _network(self) -> Any:
        return self._response.extensions.get("network_stream")

    @cached_property
    def _parser(self) -> Any:
        """The parser of the HTTP library (h11's connection)."""
        return self._find("_connection", "_h11_state")

    @property
    def _read_timeout(self) -> float:
        """The client's, in seconds."""
        timeouts = getattr(self._find("_request"), "extensions", {}).get("timeout", {})
        return math.inf if timeouts.get("read") is None else timeouts["read"]

    def _find(self, *names: str) -> Any:
        """What belongs to the HTTP library's own body; it has no public name."""
        part: object = self._response.stream
        # One that a program has put around it, or derived from it, gets every byte.
        if type(part).__module__.partition(".")[0] not in ("httpx", "httpx2"):
            return None
        for name in ("_httpcore_stream", "_stream", *names):
            part = getattr(part, name, None)
        return part


class Body:
    """The I/O-free part shared by sync and async."""

    opening: bytes
    """What was received before the client reads, without white space at its start, up to a limit."""
    family_base: str
    """The name of the class, in either library, that the client asserts of a response's stream."""

    def __init__(self, response: Response, repairer: StreamRepairer) -> None:
        """Repair what the response brings."""
        self._response = response
        self._repairer = repairer
        # Whether the bytes are the library's to give: they are compressed, or a transport underneath has read them.
        self._needs_library = _is_encoded(response) or response.is_stream_consumed
        # The library closes the stream itself then, at the end of the body.
        self._connection = (
            PassingBody.put_into(response, self.family_base) if self._needs_library else Connection(response)
        )
        self._head = b""
        self.opening = b""
        self._is_over = False
        self._is_settled = False
        # The event after which the end marker is waited for, and until when.
        self._last_event = 0
        self._marker_deadline = 0.0
        self._failure: Exception | None = None

    @classmethod
    def around(cls, response: Response, repairer: StreamRepairer) -> Self:
        """Create the body for a response, of the family of the response's own stream.

        Raises:
            StreamError: The response is compressed more than once.
        """
        _check_coding(response)
        return _in_family(cls, response.stream.__class__, cls.family_base)(response, repairer)

    @classmethod
    def of_bytes(cls, stream: object, content: bytes) -> Bytes:
        """Create a body of known content, of the family of another stream."""
        return _in_family(Bytes, stream.__class__, cls.family_base)(content)

    def read_chunk(self) -> Any:
        """Read once: a chunk, the error of the connection, or None at the end; awaitable if the client is async."""
        raise NotImplementedError

    def abandon(self) -> Any:
        """Close a body that the client will not get; awaitable if the client is async."""
        raise NotImplementedError

    @property
    def failure(self) -> Exception | None:
        """The error that the connection ended with, until it is raised."""
        return self._failure

    def peek(self, chunk: bytes | Exception | None) -> bool:
        """Take a chunk before the client reads; return True once the first event has arrived or can no longer."""
        if isinstance(chunk, bytes):
            self.opening = (self.opening + chunk).lstrip()[:_LONGEST_OPENING]
        self._head += self._take(chunk)
        return self._is_over or self._repairer.has_ended or self._repairer.report.events > 0

    @property
    def _awaits_marker(self) -> bool:
        """Whether only the end marker is missing: a service that holds the connection open must not be waited for."""
        return self._repairer.awaits_marker and self._connection.is_own

    def _marker_seconds(self) -> float:
        """How much longer the end marker is waited for: a finish reason may stand in every chunk of an answer.

        Signs that the service is alive are no events, and do not prolong it.
        """
        events = self._repairer.report.events
        if events != self._last_event:
            self._last_event = events
            self._marker_deadline = time.monotonic() + _COMPLETE_SECONDS
        return max(self._marker_deadline - time.monotonic(), 0.0)

    def _take_head(self) -> bytes:
        head, self._head = self._head, b""
        return head

    def _take(self, chunk: bytes | Exception | None) -> bytes:
        """Return the bytes to emit after a read that gave a chunk, an error, or None for the end."""
        if isinstance(chunk, bytes):
            return self._repairer.feed(chunk)
        if self._awaits_marker and _is_timeout(chunk):
            self._connection.shut_down()
            chunk = None
        self._is_over = True
        if chunk is None:
            return self._repairer.finish()
        self._failure = chunk
        return self._repairer.flush()

    def _take_received(self) -> bytes:
        """Return what is emitted for the bytes that the HTTP library holds already.

        A fast service sends several events until the next read. Taken together, they pass the layers of the libraries
        once.
        """
        repairer = self._repairer
        feed = repairer.feed
        outputs: list[bytes] = []
        try:
            for chunk in self._connection.take_received():
                outputs.append(feed(chunk))
                if not repairer.is_open:
                    break
        except Exception as error:  # noqa: BLE001 - it is raised again, after what preceded it
            outputs.append(self._take(self._translate(error)))
        return b"".join(outputs)

    @property
    def _can_take_received(self) -> bool:
        return not (self._needs_library or self._is_over or self._repairer.has_ended) and self._connection.holds_more

    def _translate(self, error: Exception) -> Exception:
        """The error of the HTTP library that stands for one of the layer below, which has the same name."""
        library = sys.modules[type(self._response).__module__.partition(".")[0]]
        known = getattr(library, type(error).__name__, None)
        if known is None:
            return error
        translated = known(str(error))
        translated.__cause__ = error
        return translated

    def _raise_failure(self) -> None:
        """Raise the connection's error after what preceded it; an error after the end of the answer is ignored."""
        if self._failure is not None and not self._repairer.has_ended:
            failure, self._failure = self._failure, None
            raise failure

    def _needs_settling(self) -> bool:
        """Whether the rest of a complete answer's body has to be read, so that its connection can be used again."""
        if self._is_settled:
            return False
        self._is_settled = True
        self._repairer.report.log()
        return self._connection.is_own and self._repairer.is_complete and not self._is_over


class PassingBody:
    """A body that passes through, for both kinds of client; its connection is not used again if bytes follow it."""

    def __init__(self, stream: ByteStream, connection: Connection) -> None:
        """Take the body of a response, and the connection that it is read from."""
        self._stream = stream
        self._connection = connection

    @classmethod
    def put_into(cls, response: Response, family_base: str) -> Connection:
        """Put the body into a response, as one of the family of the response's own stream.

        Returns:
            The connection, which the response no longer shows.
        """
        connection = Connection(_Received(response.stream, response.extensions))
        response.stream = _in_family(cls, response.stream.__class__, family_base)(response.stream, connection)
        return connection

    def __iter__(self) -> Iterator[bytes]:
        """The bytes as they are received."""
        yield from self._stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes as they are received."""
        async for chunk in self._stream:
            yield chunk

    def close(self) -> None:
        """Close the upstream stream."""
        self._connection.finish()
        self._stream.close()

    async def aclose(self) -> None:
        """Close the upstream stream."""
        self._connection.finish()
        await self._stream.aclose()


class _Received(NamedTuple):
    """What a connection is found by."""

    stream: ByteStream
    extensions: Extensions


class Bytes:
    """A body that is known already, for both kinds of client, in pieces of limited size."""

    def __init__(self, content: bytes, size: int | None = None) -> None:
        """Keep the content, and the size of its pieces; None for one piece."""
        self._content = content
        self._size = size or max(len(content), 1)

    def __iter__(self) -> Iterator[bytes]:
        """The pieces."""
        for start in range(0, len(self._content), self._size):
            yield self._content[start : start + self._size]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces."""
        for piece in iter(self):
            yield piece

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""


@cache
def _in_family(body: type[Any], stream: Any, family_base: str) -> type[Any]:
    """The body as a subclass of the stream class that the client's own library asserts."""
    for base in stream.__mro__:
        if base.__name__ == family_base:
            return type(body.__name__, (body, base), {})
    message = f"The inner transport answered with a {stream.__name__}, which is not a {family_base}."
    raise TypeError(message)


class SyncBody(Body):
    """The body for a synchronous client."""

    family_base = "SyncByteStream"

    def __init__(self, response: Response, repairer: StreamRepairer) -> None:
        """Repair what the response brings."""
        super().__init__(response, repairer)
        self._chunks: Iterator[bytes] = iter(response.iter_bytes() if self._needs_library else response.stream)

    def __iter__(self) -> Self:
        """The same iterator every time: openai 3.x asks for a second one."""
        return self

    def __next__(self) -> bytes:
        """The next bytes to emit."""
        out = self._take_head() if self._head else b""
        while not (out or self._is_over or self._repairer.has_ended):
            chunk = self.read_chunk()
            # Nearly always: bytes that need no more than this.
            out = self._repairer.feed(chunk) if isinstance(chunk, bytes) else self._take(chunk)
            if self._can_take_received:
                out += self._take_received()
                if self._is_over:
                    self._response.close()
        if out:
            if self._repairer.has_failed and not self._is_over:
                out += self._close_after_error()
            return out
        self._raise_failure()
        self._settle()
        raise StopIteration

    def read_chunk(self) -> bytes | Exception | None:
        """Read once: a chunk, the error of the connection, or None at the end."""
        try:
            chunk = self._read_marker() if self._awaits_marker else self._next_chunk()
            if chunk is None:
                self._finish_reading()
        except Exception as error:  # noqa: BLE001 - it is raised again, after what preceded it
            return error
        return chunk

    def _next_chunk(self) -> bytes | None:
        return None if self._connection.is_at_end else next(self._chunks, None)

    def _close_after_error(self) -> bytes:
        """Close a stream in which an error was emitted; return what else another service has sent until then.

        openai 1.x raises the error and leaves the stream open. If the garbage collector closed it, it might do so while
        the pool of connections holds its lock, and wait for that lock forever.
        """
        rest = b"" if self._repairer.is_given_up else self._read_rest()
        if self._repairer.is_given_up or self._is_over:
            self._is_over = True
            self.close()
        return rest

    def _read_rest(self) -> bytes:
        """Read the end of the body if it is there."""
        rest: list[bytes] = []
        if self._needs_library or not self._connection.can_be_read:
            return b""
        deadline = time.monotonic() + _SETTLE_SECONDS
        with suppress(Exception):  # the body is not at its end yet
            while (left := deadline - time.monotonic()) > 0 and not self._is_over:
                rest.append(self._take(self._connection.read(left)))
        return b"".join(rest)

    def _read_marker(self) -> bytes | None:
        """Read once, with the answer complete but for its end marker; None also if nothing is received in time."""
        if self._needs_library or not self._connection.can_be_read:
            return self._next_chunk()
        try:
            return self._connection.read(self._marker_seconds())
        except Exception as error:
            # The library's own generator has not seen the error, so it is not at its end; see `__next__`.
            self._response.close()
            raise self._translate(error) from error

    def close(self) -> None:
        """Close the upstream stream, whichever thread reads it."""
        if getattr(self._chunks, "gi_running", False):
            # Another thread reads. Closing the socket alone does not end that, and the connection would stay open.
            self._connection.shut_down()
        else:
            self._settle()
        self._response.close()

    def abandon(self) -> None:
        """Close a body that the client will not get."""
        self._response.close()

    def _settle(self) -> None:
        """Read the end of the body if it is there; otherwise the connection is closed with the response."""
        if not self._needs_settling() or self._needs_library or not self._connection.can_be_read:
            return
        deadline = time.monotonic() + _SETTLE_SECONDS
        with suppress(Exception):  # the answer is complete; only the connection cannot be used again
            while (left := deadline - time.monotonic()) > 0 and (chunk := self._connection.read(left)) is not None:
                self._repairer.feed(chunk)

    def _finish_reading(self) -> None:
        """Close a body that is at its end: openai 1.x leaves a stream open in which an error was reported."""
        self._connection.finish()
        self._response.close()


def _is_timeout(error: object) -> bool:
    """Whether a read ended because nothing was received in time."""
    return type(error).__name__ == "ReadTimeout"


_open_chunks: Final[set[AsyncIterator[bytes]]] = set()
"""What open bodies read from.

The HTTP library reads with asynchronous generators, each within another. A stream that a program leaves without closing
it is a cycle, and the garbage collector would hand all generators in it to the event loop, which closes each in a task
of its own: an inner one that an outer one is closing already fails, and its error is logged. As long as something else
refers to the outermost, they are no part of the cycle; when it is dropped, each closes the next.
"""

Value = TypeVar("Value")


@coroutine
def _unlisted(awaitable: Awaitable[Value]) -> Generator[object, object, Value]:
    """Await without letting the event loop list the asynchronous generators that begin in the meantime.

    When asyncio shuts down, it closes all that it has listed at the same time, and logs the error of each inner one
    that an outer one is closing already. These are the HTTP library's, and closing the response closes them.
    """
    steps = awaitable.__await__()
    result: object = None
    failure: BaseException | None = None
    while True:
        first_iteration = sys.get_asyncgen_hooks().firstiter
        sys.set_asyncgen_hooks(firstiter=None)
        try:
            step = steps.send(result) if failure is None else steps.throw(failure)
        except StopIteration as done:
            return done.value
        finally:
            sys.set_asyncgen_hooks(firstiter=first_iteration)
        result = failure = None
        try:
            result = yield step
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is for what is awaited
            failure = error


def _is_in_asyncio() -> bool:
    """Whether an event loop of asyncio is running, in which case asyncio is imported."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001 - it is documented


class AsyncBody(Body):
    """The body for an asynchronous client."""

    family_base = "AsyncByteStream"

    def __init__(self, response: Response, repairer: StreamRepairer) -> None:
        """Repair what the response brings."""
        super().__init__(response, repairer)
        self._chunks: AsyncIterator[bytes] = aiter(response.aiter_bytes() if self._needs_library else response.stream)
        _open_chunks.add(self._chunks)
        # The generators of httpx leave each other to the event loop; it has to know them.
        self._is_unlisted = type(response).__module__.partition(".")[0] == "httpx2" and _is_in_asyncio()

    def __del__(self) -> None:
        """Let go of the generators, if the body was never closed."""
        _open_chunks.discard(self._chunks)

    def __aiter__(self) -> Self:
        """The same iterator every time: openai 3.x asks for a second one."""
        return self

    async def __anext__(self) -> bytes:
        """The next bytes to emit."""
        out = self._take_head() if self._head else b""
        while not (out or self._is_over or self._repairer.has_ended):
            out = self._take(await self.read_chunk())
            if self._can_take_received:
                out += self._take_received()
                if self._is_over:
                    await self.abandon()
        if out:
            if self._repairer.is_given_up:
                # openai 1.x raises the error and leaves the stream open, and with it the connection.
                self._is_over = True
                await self.aclose()
            return out
        self._raise_failure()
        await self._settle()
        raise StopAsyncIteration

    async def read_chunk(self) -> bytes | Exception | None:
        """Read once: a chunk, the error of the connection, or None at the end."""
        if self._awaits_marker:
            from anyio import move_on_after  # noqa: PLC0415 - sync users do not pay for it

            with move_on_after(self._marker_seconds()) as scope:
                return await self._read()
            if scope.cancelled_caught:
                self._connection.shut_down()
                return None
        return await self._read()

    async def _read(self) -> bytes | Exception | None:
        try:
            chunk = await self._next_chunk()
            if chunk is None:
                await self._finish_reading()
        except Exception as error:  # noqa: BLE001 - it is raised again, after what preceded it
            return error
        else:
            return chunk

    async def _next_chunk(self) -> bytes | None:
        if self._connection.is_at_end:
            return None
        upcoming = anext(self._chunks, None)
        if self._is_unlisted:
            self._is_unlisted = False  # they all begin with the first chunk
            return await _unlisted(upcoming)
        return await upcoming

    async def aclose(self) -> None:
        """Close the upstream stream."""
        try:
            await self._settle()
        finally:
            await self.abandon()

    async def abandon(self) -> None:
        """Close a body that the client will not get."""
        _open_chunks.discard(self._chunks)
        await self._response.aclose()
        # Nothing is left for the event loop to close. If another task is reading, the closed connection wakes it.
        if (close := getattr(self._chunks, "aclose", None)) is not None:
            with suppress(RuntimeError):
                await close()

    async def _settle(self) -> None:
        """Read the end of the body if it is received in time; otherwise the connection is closed with the response."""
        if not self._needs_settling():
            return
        from anyio import move_on_after  # noqa: PLC0415 - sync users do not pay for it

        with move_on_after(_SETTLE_SECONDS), suppress(Exception):
            while (chunk := await self._next_chunk()) is not None:
                self._repairer.feed(chunk)
            self._connection.finish()

    async def _finish_reading(self) -> None:
        self._connection.finish()
        await self.abandon()


def read_all(response: Response, limit: int) -> bytes:
    """Read the whole body of a response, and close it; its connection is not used again if bytes follow the body.

    Raises:
        StreamError: The body has more bytes than the limit, or is compressed more than once.
    """
    _check_coding(response)
    if response.is_stream_consumed:  # a transport underneath has looked at it
        return response.read()
    raw = bytearray()
    for chunk in response.stream:
        _extend(raw, chunk, limit)
    Connection(response).finish()
    response.close()
    if not _is_encoded(response):
        return bytes(raw)
    content = bytearray()
    for chunk in _decode(response, bytes(raw), "SyncByteStream").iter_bytes():
        _extend(content, chunk, limit)
    return bytes(content)


async def aread_all(response: Response, limit: int) -> bytes:
    """The same for an asynchronous client."""
    _check_coding(response)
    if response.is_stream_consumed:
        return await response.aread()
    raw = bytearray()
    async for chunk in response.stream:
        _extend(raw, chunk, limit)
    Connection(response).finish()
    await response.aclose()
    if not _is_encoded(response):
        return bytes(raw)
    content = bytearray()
    async for chunk in _decode(response, bytes(raw), "AsyncByteStream").aiter_bytes():
        _extend(content, chunk, limit)
    return bytes(content)


def _extend(content: bytearray, chunk: bytes, limit: int) -> None:
    content += chunk
    if len(content) > limit:
        raise StreamError(
            f"The service's response is larger than {limit} bytes. If that is expected, raise the limit with "
            "Policy(max_event_bytes=…).",
            code="body_too_large",
        )


def _is_encoded(response: Response) -> bool:
    """Whether the bytes are compressed, as some servers do whatever is requested."""
    return response.headers.get("content-encoding", "identity") != "identity"


def has_several_codings(headers: Headers) -> bool:
    """Whether a body is compressed more than once: a few bytes of it may become gigabytes in one step."""
    return len([name for name in headers.get("content-encoding", "").split(",") if name.strip()]) > 1


def _check_coding(response: Response) -> None:
    """Check that the size of a body can be limited.

    Raises:
        StreamError: It is compressed more than once.
    """
    if has_several_codings(response.headers):
        raise StreamError(
            "The service's response is compressed more than once, so its size cannot be limited. Switch the "
            "compression off in the service or in the program in front of it.",
            code="body_too_large",
        )


def _decode(response: Response, raw: bytes, family_base: Literal["SyncByteStream", "AsyncByteStream"]) -> Response:
    """A response that undoes the compression of a body that was read."""
    # In small pieces: a few bytes may become thousands, and the size is checked after each piece.
    stream = _in_family(Bytes, response.stream.__class__, family_base)(raw, _ENCODED_PIECE)
    return type(response)(response.status_code, headers=response.headers.raw, stream=stream, extensions={})
