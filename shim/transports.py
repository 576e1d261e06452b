"""The transports that put the repair under a client of httpx or httpx2, sync or async.

Neither library is imported: a response's own stream says which family it belongs to, and what the shim hands back is of
that family. Only streamed chat completions are touched; every other exchange passes as it is.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import cache
from socket import SHUT_RDWR
from typing import TYPE_CHECKING, Any, Final

from shim.core.request import ChatRequest
from shim.core.stream import StreamRepairer
from shim.repairs import Policy, Repair, RepairReport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType
    from typing import Self

    from httpx import AsyncBaseTransport, BaseTransport, Request, Response
else:
    # The clients of both families only call the methods; they never look at a transport's class.
    AsyncBaseTransport = BaseTransport = object

EXTENSION: Final = "foundry_local_shim"
"""The key of the `RepairReport` in a response's ``extensions``."""

_EVENT_STREAM: Final = b"text/event-stream"
_OF_THE_OLD_BODY: Final = (b"content-length", b"content-encoding")
_SETTLE_SECONDS: Final = 0.1
"""How long the end of the body is waited for behind ``[DONE]``; openai 3.x gives its own drain the same time."""


class RepairTransport(BaseTransport):
    """Repairs the streamed chat completions that an inner transport brings.

    Works under `httpx.Client` and `httpx2.Client`, around any transport of the same library.
    """

    def __init__(self, inner: Any, policy: Policy | None = None) -> None:
        """Wrap the inner transport; the policy says which repairs are made."""
        self.inner = inner
        self.policy = policy or Policy()

    def handle_request(self, request: Request) -> Response:
        """Send the request and repair what comes back."""
        asked = _streamed_chat(request)
        try:
            response = self.inner.handle_request(request)
        except Exception as error:
            _explain(error, request)
            raise
        return response if asked is None else _repaired(response, asked, self.policy, _SyncBody, "SyncByteStream")

    def close(self) -> None:
        """Close the inner transport."""
        self.inner.close()

    def __enter__(self) -> Self:
        """Enter the inner transport."""
        self.inner.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Leave the inner transport."""
        self.inner.__exit__(exc_type, exc_value, traceback)


class AsyncRepairTransport(AsyncBaseTransport):
    """The same for `httpx.AsyncClient` and `httpx2.AsyncClient`."""

    def __init__(self, inner: Any, policy: Policy | None = None) -> None:
        """Wrap the inner transport; the policy says which repairs are made."""
        self.inner = inner
        self.policy = policy or Policy()

    async def handle_async_request(self, request: Request) -> Response:
        """Send the request and repair what comes back."""
        asked = _streamed_chat(request)
        try:
            response = await self.inner.handle_async_request(request)
        except Exception as error:
            _explain(error, request)
            raise
        return response if asked is None else _repaired(response, asked, self.policy, _AsyncBody, "AsyncByteStream")

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self.inner.aclose()

    async def __aenter__(self) -> Self:
        """Enter the inner transport."""
        await self.inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Leave the inner transport."""
        await self.inner.__aexit__(exc_type, exc_value, traceback)


def report(source: Any) -> RepairReport | None:
    """What was repaired in a response.

    Args:
        source: A stream of the official client, its ``.stream()`` helper, a raw or streaming response of it, or a
            response of httpx or httpx2.

    Returns:
        The report, which grows while the stream is read; None where the shim had nothing to do with the response.
    """
    for name in ("response", "_response", "http_response"):
        source = getattr(source, name, source)
    return getattr(source, "extensions", {}).get(EXTENSION)


def _streamed_chat(request: Any) -> ChatRequest | None:
    """The request for a streamed chat completion, None for any other.

    Asks for an uncompressed answer: a compressed one can only leave in blocks.
    """
    if request.method != "POST" or not request.url.path.endswith("/chat/completions"):
        return None
    try:
        body = request.content
    except RuntimeError:
        # RequestNotRead. A request that followed a redirect holds its bytes unread; one whose body is a stream of its
        # own is left alone, and the official client sends none.
        if type(request.stream).__name__ != "ByteStream":
            return None
        body = request.read()
    asked = ChatRequest.from_body(body)
    if asked is None or not asked.stream:
        return None
    request.headers["accept-encoding"] = "identity"
    return asked


def _explain(error: Exception, request: Any) -> None:
    """Say in a connection error what it means here; the official client shows it as the cause of its own."""
    if type(error).__name__ == "ConnectError":
        origin = f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"
        message = (
            f"Nothing answers at {origin} ({error}). Either Foundry Local is not running, or it has moved to another "
            "port, as it does at each start: shim.FoundryLocal.attach() finds the present one."
        )
        error.args = (message,)


def _repaired(response: Any, asked: ChatRequest, policy: Policy, body: type[_Body], base_name: str) -> Any:
    """The same response around a repaired body; an error status keeps its own."""
    if not response.is_success:
        return response
    repairer = StreamRepairer(asked, policy)
    headers = response.headers.raw
    if _mislabelled(headers) and Repair.CONTENT_TYPE not in policy.off:
        repairer.note(Repair.CONTENT_TYPE)
        headers = _labelled(headers)
    return type(response)(
        response.status_code,
        # What described the bytes on the wire does not describe the repaired ones.
        headers=[(name, value) for name, value in headers if name.lower() not in _OF_THE_OLD_BODY],
        stream=_in_family(body, response.stream.__class__, base_name)(response, repairer),
        extensions={**response.extensions, EXTENSION: repairer.report},
    )


def _mislabelled(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the label of an event stream is missing, another one, or there twice, or another header is."""
    types = [value for name, value in headers if name.lower() == b"content-type"]
    labelled = len(types) == 1 and types[0].split(b";")[0].strip().lower() == _EVENT_STREAM
    return not labelled or len(set(headers)) < len(headers)


def _labelled(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers, each once, with the label of an event stream."""
    others = [(name, value) for name, value in dict.fromkeys(headers) if name.lower() != b"content-type"]
    return [*others, (b"Content-Type", _EVENT_STREAM)]


@cache
def _in_family(body: type[_Body], stream: type[Any], base_name: str) -> type[Any]:
    """The body as a subclass of the stream class that the client's own library asserts."""
    for base in stream.__mro__:
        if base.__name__ == base_name:
            return type(body.__name__, (body, base), {})
    message = f"The inner transport answered with a {stream.__name__}, which is not a {base_name}."
    raise TypeError(message)


class _Body:
    """What the sync and the async body have in common: everything but the waiting."""

    def __init__(self, response: Any, repairer: StreamRepairer) -> None:
        self._response = response
        self._repairer = repairer
        self._over = False
        self._settled = False
        self._failure: Exception | None = None

    @property
    def _encoded(self) -> bool:
        """Whether the bytes are compressed, as some servers do whatever they are asked for."""
        return self._response.headers.get("content-encoding", "identity") != "identity"

    def _take(self, chunk: bytes | Exception | None) -> bytes:
        """The bytes that leave after a read that gave a chunk, an error, or None for the end."""
        if isinstance(chunk, bytes):
            return self._repairer.feed(chunk)
        self._over = True
        if chunk is None:
            return self._repairer.finish()
        self._failure = chunk
        return self._repairer.flush()

    def _wants_more(self) -> bool:
        """Whether to read on. An error of the connection is raised here, behind what came before it."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return not (self._over or self._repairer.ended)

    def _settles(self) -> bool:
        """Whether the rest of a complete answer's body has to be read, so that its connection can be used again."""
        if self._settled:
            return False
        self._settled = True
        self._repairer.report.log()
        return self._has_own_connection and self._repairer.complete and not self._over

    @property
    def _has_own_connection(self) -> bool:
        """Whether no other stream shares the connection, as under HTTP/2, where a stream is closed without it."""
        return self._response.extensions.get("http_version", b"HTTP/1.1") == b"HTTP/1.1"


class _SyncBody(_Body):
    def __init__(self, response: Any, repairer: StreamRepairer) -> None:
        super().__init__(response, repairer)
        self._reader: int | None = None
        self._chunks: Iterator[bytes] = iter(response.iter_bytes() if self._encoded else response.stream)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        while self._wants_more():
            self._reader = threading.get_ident()
            try:
                chunk = next(self._chunks, None)
            except Exception as error:  # noqa: BLE001 - it is raised again, behind what came before it
                chunk = error
            finally:
                self._reader = None
            if out := self._take(chunk):
                return out
        self._settle()
        raise StopIteration

    def close(self) -> None:
        """Close the upstream stream, whichever thread reads it."""
        self._settle()
        if self._reader not in (None, threading.get_ident()):
            # Closing a socket does not end another thread's read of it, and the connection would stay open until then.
            self._shut_down()
        self._response.stream.close()

    def _settle(self) -> None:
        if not self._settles():
            return
        # A blocking read cannot be bounded from outside, and the end may already be in the HTTP library's buffer, where
        # no look at the socket shows it. So the read gets a thread, and a socket that is held open is shut down.
        reader = threading.Thread(target=self._read_rest, name="foundry-shim-settle", daemon=True)
        try:
            reader.start()
        except RuntimeError:  # the interpreter is shutting down
            return
        reader.join(_SETTLE_SECONDS)
        if reader.is_alive():
            self._shut_down()
            reader.join(_SETTLE_SECONDS)

    def _shut_down(self) -> None:
        """End a read of the connection in another thread."""
        network = self._response.extensions.get("network_stream")
        if network is not None and self._has_own_connection:
            with suppress(OSError):  # closed from the other side in the meantime
                network.get_extra_info("socket").shutdown(SHUT_RDWR)

    def _read_rest(self) -> None:
        try:
            for chunk in self._chunks:
                self._repairer.feed(chunk)
        except Exception:  # noqa: BLE001, S110 - the answer is complete; only the connection cannot be used again
            pass


class _AsyncBody(_Body):
    def __init__(self, response: Any, repairer: StreamRepairer) -> None:
        super().__init__(response, repairer)
        self._chunks: AsyncIterator[bytes] = aiter(response.aiter_bytes() if self._encoded else response.stream)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while self._wants_more():
            try:
                chunk = await anext(self._chunks, None)
            except Exception as error:  # noqa: BLE001 - it is raised again, behind what came before it
                chunk = error
            if out := self._take(chunk):
                return out
        await self._settle()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Close the upstream stream."""
        try:
            await self._settle()
        finally:
            await self._response.stream.aclose()

    async def _settle(self) -> None:
        if not self._settles():
            return
        from anyio import move_on_after  # noqa: PLC0415 - sync users do not pay for it

        with move_on_after(_SETTLE_SECONDS):
            try:
                async for chunk in self._chunks:
                    self._repairer.feed(chunk)
            except Exception:  # noqa: BLE001, S110 - the answer is complete; only the connection cannot be used again
                pass
