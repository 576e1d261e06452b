"""The way of a request through the proxy: to the service with the repair, and its answer back as it comes."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
import httpx
from starlette.requests import ClientDisconnect

from shim.core.jsontext import dump
from shim.errors import ServiceError, StreamError
from shim.proxy.answers import RefusedError, asked
from shim.proxy.client_side import read_body, until_client_leaves
from shim.proxy.metrics import CLIENT_LEFT
from shim.reports import report
from shim.transport import AsyncRepairTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request
    from starlette.types import Send

    from shim.proxy.metrics import Metrics
    from shim.repairs import Policy

logger = logging.getLogger("shim.proxy")

# What belongs to one connection (RFC 9110, section 7.6.1), and what nobody else is to see.
_NOT_SENT_ON: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade", "host", "content-length", "expect"),
        *("authorization", "cookie", "origin", "referer", "x-api-key", "api-key", "forwarded", "via"),
    }
)
_NOT_SENT_BACK: Final = _NOT_SENT_ON - {"content-length"} | {"set-cookie", "server", "date"}
_KEPT_FETCH: Final = (b"sec-", b"x-forwarded-")
REPAIRS_HEADER: Final = "x-foundry-shim-repairs"
TIMEOUT: Final = httpx.Timeout(600.0, connect=5.0)
"""How long the service may be silent, in seconds."""
_MOST_CONNECTIONS: Final = 1000


class Forwarder:
    """Sends requests to the service, wherever it is."""

    def __init__(
        self, base_url: str, policy: Policy, *, find: Callable[[], str] | None, max_body_bytes: int, metrics: Metrics
    ) -> None:
        """Begin without a connection.

        Args:
            base_url: Where the service's API is.
            policy: Which repairs are made.
            find: Finds the service again when nothing answers there any more; it may take seconds.
            max_body_bytes: The largest body of a request.
            metrics: What happens is counted there.
        """
        self.base_url = base_url
        self._find = find
        self._max_body_bytes = max_body_bytes
        self._metrics = metrics
        # The service is asked and nobody else: proxies of the environment and redirects are for the internet.
        transport: Any = AsyncRepairTransport(
            httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=_MOST_CONNECTIONS), trust_env=False), policy
        )
        self._http = httpx.AsyncClient(transport=transport, follow_redirects=False, trust_env=False)

    async def close(self) -> None:
        """Close what is open to the service."""
        await self._http.aclose()

    async def forward(self, request: Request, path: str, send: Send) -> None:
        """Ask the service what the client asks, and hand its answer on.

        Raises:
            RefusedError: There is no answer that can be handed on; nothing has left yet.
        """
        try:
            body = await read_body(request, self._max_body_bytes)
        except ClientDisconnect:
            self._note_left(request)
            return
        await until_client_leaves(request, lambda: self._exchange(request, path, body, send))

    def _note_left(self, request: Request) -> None:
        self._metrics.note(asked(request), CLIENT_LEFT, failure="client_left")

    async def _exchange(self, request: Request, path: str, body: bytes, send: Send) -> None:
        began = time.monotonic()
        try:
            response = await self._asked(request, path, body)
        except anyio.get_cancelled_exc_class():
            self._note_left(request)
            raise
        if response.is_redirect:
            await response.aclose()
            raise RefusedError(502, "The service answers with a redirect, which is not followed.", "redirect")
        answer = _Answer(response)
        try:
            await answer.hand_on(send, began)
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()
            found = report(response)
            self._metrics.note(
                asked(request),
                response.status_code,
                seconds=time.monotonic() - began,
                repairs=found.repairs if found else {},
                failure=answer.failure,
                chunks=answer.chunks,
                first=answer.first,
            )

    async def _asked(self, request: Request, path: str, body: bytes) -> httpx.Response:
        tried = self.base_url
        try:
            return await self._sent(request, path, body)
        except httpx.ConnectError as error:
            if await self._moved(tried):
                return await self._asked_again(request, path, body)
            raise upstream_failure(error, self.base_url) from error
        except httpx.HTTPError as error:
            raise upstream_failure(error, self.base_url) from error
        except httpx.InvalidURL as error:
            raise RefusedError(414, f"The service cannot be asked for this address: {error}.", "invalid_url") from error

    async def _asked_again(self, request: Request, path: str, body: bytes) -> httpx.Response:
        try:
            return await self._sent(request, path, body)
        except httpx.HTTPError as error:
            raise _unreachable(error) from error

    async def _sent(self, request: Request, path: str, body: bytes) -> httpx.Response:
        query = request.scope["query_string"].decode("latin-1")
        named = {name.strip().lower() for each in request.headers.getlist("connection") for name in each.split(",")}
        headers = [
            (name, value)
            for name, value in request.headers.raw
            if name.decode("latin-1") not in _NOT_SENT_ON | named and not name.startswith(_KEPT_FETCH)
        ]
        url = httpx.URL(self.base_url + path + (f"?{query}" if query else ""))
        # Not built by the client, which would add what it accepts itself, and cookies that were another client's.
        asking = httpx.Request(
            request.method, url, headers=headers, content=body, extensions={"timeout": TIMEOUT.as_dict()}
        )
        return await self._http.send(asking, stream=True)

    async def _moved(self, tried: str) -> bool:
        """Whether the service is somewhere else now, as after each of its starts."""
        if self._find is None:
            return False
        try:
            found = await anyio.to_thread.run_sync(self._find)
        except ServiceError:
            return False
        if found != self.base_url:
            logger.info("the service has moved to %s", found)
            self.base_url = found
        return found != tried


@dataclass(slots=True)
class _Answer:
    """An answer on its way to the client.

    Attributes:
        chunks: How many pieces of a stream have left.
        first: After how many seconds the first of them did.
        failure: How it ended, in a word, if not well.
        is_stream: Whether it is a stream of events.
    """

    response: httpx.Response
    chunks: int = 0
    first: float | None = None
    failure: str = "client_left"
    is_stream: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_stream = self.response.headers.get("content-type", "").startswith("text/event-stream")

    async def hand_on(self, send: Send, began: float) -> None:
        """Send what the service says, each piece when it has come."""
        headers = [
            (n.lower(), v) for n, v in self.response.headers.raw if n.lower().decode("latin-1") not in _NOT_SENT_BACK
        ]
        found = report(self.response)
        if not self.is_stream and found is not None:
            codes = ", ".join(f"{code}={count}" for code, count in sorted(found.repairs.items()))
            headers.append((REPAIRS_HEADER.encode(), codes.encode()))
        await send({"type": "http.response.start", "status": self.response.status_code, "headers": headers})
        try:
            async for chunk in self._pieces():
                if self.is_stream:
                    self.chunks += 1
                    self.first = self.first or time.monotonic() - began
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except httpx.HTTPError as error:
            self.failure = "broke_off"
            if not self.is_stream:
                return  # the server cuts what is not complete
            # Every client of every language reads this as an error; an end without words may be taken for success.
            told = StreamError(f"The service broke off in the middle of its answer ({error}).", code="connection_cut")
            event = b"data: " + dump(told.as_object()) + b"\n\n"
            await send({"type": "http.response.body", "body": event, "more_body": True})
        else:
            self.failure = ""
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pieces(self) -> AsyncIterator[bytes]:
        if self.response.is_stream_consumed:  # a plain answer, which the repair has read
            yield self.response.content
            return
        async for piece in self.response.aiter_raw():
            yield piece


def upstream_failure(error: httpx.HTTPError, base_url: str) -> RefusedError:
    """What it means for the client that the service gave no answer."""
    if isinstance(error, httpx.ConnectError):
        return _unreachable(error)
    if isinstance(error, httpx.TimeoutException):
        return RefusedError(504, f"The service at {base_url} does not answer in time.", "timeout")
    return RefusedError(502, f"The service at {base_url} broke off: {error}.", "broke_off")


def _unreachable(error: httpx.HTTPError) -> RefusedError:
    return RefusedError(502, str(error), "upstream_unreachable")
