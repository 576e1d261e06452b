"""The repaired body of a response: what a client of httpx or httpx2 reads in the place of the service's own."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import cache
from socket import SHUT_RDWR
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from typing import Self

    from shim.core.stream import StreamRepairer

_SETTLE_SECONDS: Final = 0.1
"""How long the end of the body is waited for behind ``[DONE]``; openai 3.x gives its own drain the same time."""
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
"""What is left of a body behind its last event, as a rule: the end of that chunk, and an empty one (RFC 9112, 7.1)."""


class Body:
    """What the sync and the async body have in common: everything but the waiting."""

    family_base: str
    """The name of the class, in either library, that the client asserts of a response's stream."""

    def __init__(self, response: Any, repairer: StreamRepairer) -> None:
        """Repair what the response brings."""
        self._response = response
        self._repairer = repairer
        self._head = b""
        self._over = False
        self._settled = False
        self._failure: Exception | None = None

    @classmethod
    def around(cls, response: Any, repairer: StreamRepairer) -> Any:
        """The body for a response, of the family of the response's own stream."""
        return _in_family(cls, response.stream.__class__)(response, repairer)

    @property
    def failure(self) -> Exception | None:
        """The error that the connection ended with, until it is raised."""
        return self._failure

    def peek(self, chunk: bytes | Exception | None) -> bool:
        """Take a chunk before the client reads; say whether the first event is there, or cannot come any more."""
        self._head += self._take(chunk)
        return self._over or self._repairer.ended or self._repairer.report.events > 0

    @property
    def _encoded(self) -> bool:
        """Whether the bytes are compressed, as some servers do whatever they are asked for."""
        return self._response.headers.get("content-encoding", "identity") != "identity"

    def _take_head(self) -> bytes:
        head, self._head = self._head, b""
        return head

    def _take(self, chunk: bytes | Exception | None) -> bytes:
        """The bytes that leave after a read that gave a chunk, an error, or None for the end."""
        if isinstance(chunk, bytes):
            return self._repairer.feed(chunk)
        self._over = True
        if chunk is None:
            return self._repairer.finish()
        self._failure = chunk
        return self._repairer.flush()

    def _fail(self) -> None:
        """Raise the error of the connection, behind what came before it; behind the end of the answer it is none."""
        if self._failure is not None and not self._repairer.ended:
            failure, self._failure = self._failure, None
            raise failure

    def _settles(self) -> bool:
        """Whether the rest of a complete answer's body has to be read, so that its connection can be used again."""
        if self._settled:
            return False
        self._settled = True
        self._repairer.report.log()
        return self._has_own_connection and self._repairer.complete and not self._over

    def _shut_down(self) -> None:
        """End a read of the connection in another thread."""
        network = self._response.extensions.get("network_stream")
        if network is not None and self._has_own_connection:
            with suppress(OSError):  # closed from the other side in the meantime
                network.get_extra_info("socket").shutdown(SHUT_RDWR)

    def _unread(self) -> bytes:
        """What the HTTP library has read of the connection and not looked at yet, which it shows in no public place."""
        part = self._response.stream
        for name in ("_httpcore_stream", "_stream", "_connection", "_h11_state"):
            part = getattr(part, name, None)
        return b"" if part is None else part.trailing_data[0]

    def _drop_leftover(self) -> None:
        """End the connection where bytes came behind the body: they would be the answer to the next request.

        The client alone closes the connection at ``[DONE]``; the shim keeps it, so it has to look. The HTTP libraries
        do so at the socket only, not at what they have read already.
        """
        if self._unread():
            self._shut_down()

    @property
    def _has_own_connection(self) -> bool:
        """Whether no other stream shares the connection, as under HTTP/2, where a stream is closed without it."""
        return self._response.extensions.get("http_version", b"HTTP/1.1") == b"HTTP/1.1"


@cache
def _in_family(body: type[Body], stream: type[Any]) -> type[Body]:
    """The body as a subclass of the stream class that the client's own library asserts."""
    for base in stream.__mro__:
        if base.__name__ == body.family_base:
            return type(body.__name__, (body, base), {})
    message = f"The inner transport answered with a {stream.__name__}, which is not a {body.family_base}."
    raise TypeError(message)


class SyncBody(Body):
    """The body for a synchronous client."""

    family_base = "SyncByteStream"

    def __init__(self, response: Any, repairer: StreamRepairer) -> None:
        """Repair what the response brings."""
        super().__init__(response, repairer)
        self._chunks: Iterator[bytes] = iter(response.iter_bytes() if self._encoded else response.stream)

    def __iter__(self) -> Self:
        """The same iterator every time: openai 3.x asks for a second one."""
        return self

    def __next__(self) -> bytes:
        """The next bytes that leave."""
        if self._head:
            return self._take_head()
        while not (self._over or self._repairer.ended):
            chunk = self.read_chunk()
            # Nearly always: bytes that need no more than this.
            if out := self._repairer.feed(chunk) if isinstance(chunk, bytes) else self._take(chunk):
                return out
        self._fail()
        self._settle()
        raise StopIteration

    def read_chunk(self) -> bytes | Exception | None:
        """Read once: a chunk, the error of the connection, or None at the end."""
        try:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._give_back()
        except Exception as error:  # noqa: BLE001 - it is raised again, behind what came before it
            return error
        return chunk

    def close(self) -> None:
        """Close the upstream stream, whichever thread reads it."""
        self._settle()
        if getattr(self._chunks, "gi_running", False):
            # Another thread reads. Closing the socket alone does not end that, and the connection would stay open.
            self._shut_down()
        self._response.close()

    def _settle(self) -> None:
        if not self._settles():
            return
        if self._unread() == _LAST_CHUNK:
            self._read_rest()
        else:
            self._wait_for_rest()
        self._drop_leftover()

    def _wait_for_rest(self) -> None:
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

    def _give_back(self) -> None:
        """Close a body that is at its end: openai 1.x leaves a stream open in which an error was told."""
        self._drop_leftover()
        self._response.close()

    def _read_rest(self) -> None:
        try:
            for chunk in self._chunks:
                self._repairer.feed(chunk)
        except Exception:  # noqa: BLE001, S110 - the answer is complete; only the connection cannot be used again
            pass


class AsyncBody(Body):
    """The body for an asynchronous client."""

    family_base = "AsyncByteStream"

    def __init__(self, response: Any, repairer: StreamRepairer) -> None:
        """Repair what the response brings."""
        super().__init__(response, repairer)
        self._chunks: AsyncIterator[bytes] = aiter(response.aiter_bytes() if self._encoded else response.stream)

    def __aiter__(self) -> Self:
        """The same iterator every time: openai 3.x asks for a second one."""
        return self

    async def __anext__(self) -> bytes:
        """The next bytes that leave."""
        if self._head:
            return self._take_head()
        while not (self._over or self._repairer.ended):
            if out := self._take(await self.read_chunk()):
                return out
        self._fail()
        await self._settle()
        raise StopAsyncIteration

    async def read_chunk(self) -> bytes | Exception | None:
        """Read once: a chunk, the error of the connection, or None at the end."""
        try:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                await self._give_back()
        except Exception as error:  # noqa: BLE001 - it is raised again, behind what came before it
            return error
        else:
            return chunk

    async def aclose(self) -> None:
        """Close the upstream stream."""
        try:
            await self._settle()
        finally:
            await self._response.aclose()

    async def _give_back(self) -> None:
        self._drop_leftover()
        await self._response.aclose()

    async def _settle(self) -> None:
        if not self._settles():
            return
        from anyio import move_on_after  # noqa: PLC0415 - sync users do not pay for it

        with move_on_after(_SETTLE_SECONDS):
            try:
                async for chunk in self._chunks:
                    self._repairer.feed(chunk)
                self._drop_leftover()
            except Exception:  # noqa: BLE001, S110 - the answer is complete; only the connection cannot be used again
                pass
