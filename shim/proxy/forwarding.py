"""A request's path through the proxy: to the service, through the repair, and its response back as it is received."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import anyio
import httpx
from starlette.requests import ClientDisconnect

from shim.core.jsontext import dump
from shim.errors import ServiceError, StreamError
from shim.proxy.answers import RefusedError, request_name
from shim.proxy.capacity import Capacity
from shim.proxy.client_side import read_body, until_client_leaves
from shim.proxy.headers import REPAIRS_HEADER, media_type, request_headers, response_headers
from shim.proxy.metrics import CLIENT_LEFT
from shim.proxy.threads import run_in_thread
from shim.proxy.upstream import InvalidResponseError, Upstream, UpstreamTransport, timeouts
from shim.reports import report
from shim.transport import AsyncRepairTransport

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Send

    from shim.proxy.metrics import Metrics
    from shim.proxy.settings import Settings

logger = logging.getLogger("shim.proxy")

_EVENT_STREAM: Final = "text/event-stream"
_FIND_PAUSE_SECONDS: Final = 2.0


class Forwarder:
    """Sends requests to the service, wherever it is.

    Attributes:
        upstream: Where the service is now.
        capacity: How much is under way.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Start without a connection."""
        self.upstream = Upstream.of(settings.base_url)
        self.capacity = Capacity(settings.max_requests, settings.max_held_bytes)
        self._settings = settings
        self._metrics = metrics
        self._finding = anyio.Lock()
        self._find_not_before = 0.0
        # Only the service is asked: proxies of the environment and redirects lead elsewhere.
        self._transport: Any = AsyncRepairTransport(UpstreamTransport(), settings.policy, service=self.upstream.origin)
        self._http = httpx.AsyncClient(transport=self._transport, follow_redirects=False, trust_env=False)

    async def close(self) -> None:
        """Close the connections to the service."""
        await self._http.aclose()

    async def forward(self, request: Request, path: str, send: Send) -> None:
        """Send a client's request to the service, and its response back.

        Raises:
            RefusedError: There is no response that can be forwarded; nothing was sent yet.
        """
        with self.capacity.body() as held:
            try:
                body = await read_body(request, self._settings, held)
            except ClientDisconnect:
                self._note_left(request)
                return
            with self.capacity.request():
                await until_client_leaves(request, lambda: self._exchange(request, path, body, send))

    def _note_left(self, request: Request) -> None:
        self._metrics.note(request_name(request), CLIENT_LEFT, failure="client_left")

    async def _exchange(self, request: Request, path: str, body: bytes, send: Send) -> None:
        started = time.monotonic()
        try:
            response = await self._ask(request, path, body)
        except anyio.get_cancelled_exc_class():
            self._note_left(request)
            raise
        if response.is_redirect:
            await response.aclose()
            raise RefusedError(
                HTTPStatus.BAD_GATEWAY, "The service answers with a redirect, which is not followed.", "redirect"
            )
        answer = _Answer(response)
        try:
            await answer.forward(send, started)
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()
            found = report(response)
            self._metrics.note(
                request_name(request),
                response.status_code,
                seconds=time.monotonic() - started,
                repairs=found.repairs if found else {},
                failure=answer.failure,
                events=found.events if found else 0,
                first=answer.first,
            )

    async def _ask(self, request: Request, path: str, body: bytes) -> httpx.Response:
        tried = self.upstream
        try:
            return await self._send(request, path, body)
        except httpx.ConnectError as error:
            if await self._find_again(tried):
                return await self._ask_again(request, path, body)
            raise upstream_failure(error, self.upstream) from error
        except httpx.HTTPError as error:
            raise upstream_failure(error, self.upstream) from error
        except httpx.InvalidURL as error:
            raise RefusedError(
                HTTPStatus.REQUEST_URI_TOO_LONG, f"This address cannot be forwarded: {error}.", "invalid_url"
            ) from error

    async def _ask_again(self, request: Request, path: str, body: bytes) -> httpx.Response:
        try:
            return await self._send(request, path, body)
        except httpx.HTTPError as error:
            raise upstream_failure(error, self.upstream) from error

    async def _send(self, request: Request, path: str, body: bytes) -> httpx.Response:
        query = request.scope["query_string"].decode("latin-1")
        headers = request_headers(request.headers.raw)
        if self.upstream.authorization is not None:
            headers.append((b"authorization", self.upstream.authorization.encode()))
        # Not every release answers HEAD; the server sends no body of the response to it.
        method = "GET" if request.method == "HEAD" else request.method
        url = httpx.URL(self.upstream.base_url + path + (f"?{query}" if query else ""))
        # Not built by the client, which would add what it accepts itself, and another client's cookies.
        forwarded = httpx.Request(
            method, url, headers=headers, content=body, extensions=timeouts(self._settings.service_timeout)
        )
        return await self._http.send(forwarded, stream=True)

    async def _find_again(self, tried: Upstream) -> bool:
        """Look for the service, which moves at each start; return whether it is at another address now."""
        if self._settings.find is None:
            return False
        # A search takes seconds, and may start a program: one at a time, and after a failed one a pause.
        async with self._finding:
            if self.upstream != tried:
                return True
            if time.monotonic() < self._find_not_before:
                return False
            with suppress(ServiceError):
                self.upstream = Upstream.of(await run_in_thread(self._settings.find))
                self._transport.service = self.upstream.origin
            if self.upstream == tried:
                self._find_not_before = time.monotonic() + _FIND_PAUSE_SECONDS
                return False
        logger.info("the service has moved to %s", self.upstream.base_url)
        return True


@dataclass(slots=True)
class _Answer:
    """A response while it is sent to the client.

    Attributes:
        response: The service's, repaired.
        first: After how many seconds the first piece of a stream was sent.
        failure: How it ended, in a word, if not well.
        is_stream: Whether it is a stream of events.
    """

    response: httpx.Response
    first: float | None = None
    failure: str = "client_left"
    is_stream: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_stream = media_type(self.response.headers.get("content-type", "")) == _EVENT_STREAM

    async def forward(self, send: Send, started: float) -> None:
        """Send the service's response, each piece when it was received."""
        headers = response_headers(self.response.headers.raw)
        found = report(self.response)
        if not self.is_stream and found is not None:
            codes = ", ".join(f"{code}={count}" for code, count in sorted(found.repairs.items()))
            headers.append((REPAIRS_HEADER.encode(), codes.encode()))
        await send({"type": "http.response.start", "status": self.response.status_code, "headers": headers})
        try:
            async for piece in self.response.aiter_raw():
                if self.is_stream:
                    self.first = self.first or time.monotonic() - started
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except httpx.HTTPError as error:
            self.failure = "broke_off"
            if not self.is_stream:
                return  # the server closes the connection of an incomplete response
            # Every client in every language reads this as an error; a silent end may be taken for success.
            cut = StreamError(f"The service broke off in the middle of its answer ({error}).", code="connection_cut")
            event = b"data: " + dump(cut.as_object()) + b"\n\n"
            await send({"type": "http.response.body", "body": event, "more_body": True})
        else:
            self.failure = ""
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def upstream_failure(error: httpx.HTTPError, upstream: Upstream) -> RefusedError:
    """What it means for the client that the service gave no response."""
    if isinstance(error, httpx.ConnectError):
        return RefusedError(HTTPStatus.BAD_GATEWAY, str(error), "upstream_unreachable")
    if isinstance(error, httpx.TimeoutException):
        return RefusedError(
            HTTPStatus.GATEWAY_TIMEOUT,
            f"The service at {upstream.base_url} does not answer in time. Wait longer with --service-timeout.",
            "timeout",
        )
    if isinstance(error, InvalidResponseError):
        return RefusedError(
            HTTPStatus.BAD_GATEWAY,
            f"The response of the service at {upstream.base_url} is malformed: {error}.",
            "invalid_response",
        )
    reason = str(error).rstrip(".") or type(error).__name__
    return RefusedError(
        HTTPStatus.BAD_GATEWAY, f"The service at {upstream.base_url} broke off: {reason}. See its log.", "broke_off"
    )
