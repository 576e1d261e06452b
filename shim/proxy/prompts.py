"""What the page asks the proxy: a chat request, answered with everything that happens to it, as JSON lines.

Each line is an object with the time ``at`` which it was written, in seconds since the request, and one of these:

| field | what |
| --- | --- |
| ``request`` | a request to the service: its method and path |
| ``response`` | the status of the service's response, with its ``headers`` |
| ``received`` | a piece of its body |
| ``repair`` | the code of a repair, with the number of the ``event``, and the form of what was ``found`` |
| ``status`` | the status of the repaired response, with its ``headers`` |
| ``sent`` | a piece of the repaired body |
| ``error`` | an error object |
| ``comparison`` | what the official client reads in both responses |
| ``done`` | the end, with the counts of all ``repairs`` and the ``generation`` of the service |
"""

from __future__ import annotations

import codecs
import time
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import anyio
import httpx
from starlette.requests import ClientDisconnect, Request

from shim.core.error_bodies import rebuild_body
from shim.core.jsontext import dump, is_object, load_object
from shim.proxy.answers import METRICS, RefusedError
from shim.proxy.client_side import read_body, until_client_leaves
from shim.proxy.comparison import RecordedResponse, compare
from shim.proxy.forwarding import upstream_failure
from shim.proxy.metrics import CLIENT_LEFT
from shim.proxy.threads import run_in_thread
from shim.proxy.upstream import Upstream, UpstreamTransport, timeouts
from shim.reports import RepairReport, report
from shim.transport import AsyncRepairTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from ssl import SSLContext

    from starlette.types import Receive, Scope, Send

    from shim.proxy.forwarding import Forwarder
    from shim.proxy.metrics import Metrics
    from shim.proxy.settings import Settings
    from shim.repairs import RepairEvent


class Prompts:
    """Answers the requests of the page."""

    def __init__(self, settings: Settings, forwarder: Forwarder) -> None:
        """Prepare what all requests need.

        Args:
            settings: Those of the proxy.
            forwarder: Knows where the service is, and how much is under way.
        """
        self._settings = settings
        self._forwarder = forwarder
        # Reading the certificates takes longer than a request.
        self._ssl = httpx.create_ssl_context(trust_env=False)
        # A comparison needs the processor: one at a time.
        self._comparing = anyio.CapacityLimiter(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        self._settings.guard.check_key(request.headers)
        metrics: Metrics = scope[METRICS]
        capacity = self._forwarder.capacity
        with capacity.body() as held:
            try:
                body = _streaming(await read_body(request, self._settings, held))
            except ClientDisconnect:
                metrics.note("POST /", CLIENT_LEFT, failure="client_left")
                return
            prompt = _Prompt(body, _Lines(send, self._settings), metrics, self._settings, self._forwarder.upstream)
            with capacity.request():
                await until_client_leaves(request, lambda: prompt.answer(self._ssl, self._comparing))


class _Lines:
    """The lines of one answer."""

    def __init__(self, send: Send, settings: Settings) -> None:
        self._send = send
        self._on_repair = settings.policy.on_repair
        self._started = time.monotonic()
        self._repairs: list[RepairEvent] = []

    @property
    def seconds(self) -> float:
        """Since the request, in seconds."""
        return round(time.monotonic() - self._started, 6)

    async def start(self) -> None:
        headers = [(b"content-type", b"application/x-ndjson")]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def write(self, **line: Any) -> None:
        """Write one line, after those of the repairs that were made before it."""
        repairs = [{"repair": event.repair, "event": event.event, "found": event.found} for event in self._repairs]
        self._repairs.clear()
        body = b"".join(dump({**each, "at": self.seconds}) + b"\n" for each in (*repairs, line))
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def note(self, event: RepairEvent) -> None:
        """Keep a repair for the next line; the hook of the proxy receives it as well."""
        self._repairs.append(event)
        if self._on_repair is not None:
            self._on_repair(event)


@dataclass(slots=True)
class _Prompt:
    """One request of the page.

    Attributes:
        body: What is sent to the service.
        lines: What the page gets.
        metrics: The request is counted there, like any other.
        settings: Those of the proxy.
        upstream: Where the service is.
        status: That of the response, or of the failure to get one.
        failure: Why it failed, in a word, if it did.
        first: After how many seconds the first piece of the stream was sent.
    """

    body: bytes
    lines: _Lines
    metrics: Metrics
    settings: Settings
    upstream: Upstream
    status: int = CLIENT_LEFT
    failure: str = "client_left"
    first: float | None = None
    _sent: RecordedResponse = field(init=False, default_factory=RecordedResponse)

    async def answer(self, ssl: SSLContext, comparing: anyio.CapacityLimiter) -> None:
        """Send the request, and report what happens when it happens."""
        await self.lines.start()
        wire = _WireTransport(UpstreamTransport(ssl), self.lines)
        transport: Any = AsyncRepairTransport(
            wire, replace(self.settings.policy, on_repair=self.lines.note), service=self.upstream.origin
        )
        client = httpx.AsyncClient(transport=transport, follow_redirects=False, trust_env=False)
        request = self._request(client)
        try:
            await self._exchange(client, request)
        except httpx.HTTPError as error:
            self._sent.failure = error
            self.failure = "broke_off"
            if self.status == CLIENT_LEFT:
                self.status, self.failure = HTTPStatus.BAD_GATEWAY, "upstream_unreachable"
            message = upstream_failure(error, self.upstream).message
            await self.lines.write(error={"message": message, "code": self.failure})
        finally:
            with anyio.CancelScope(shield=True):
                await client.aclose()
            found = report(request) or RepairReport()
            self.metrics.note(
                "POST /",
                self.status,
                seconds=self.lines.seconds,
                repairs=found.repairs,
                failure=self.failure,
                events=found.events,
                first=self.first,
            )
        await self.lines.write(comparison=await self._compare(wire, comparing))
        await self.lines.write(done=True, repairs=dict(sorted(found.repairs.items())), generation=found.generation)
        await self.lines.end()

    def _request(self, client: httpx.AsyncClient) -> httpx.Request:
        headers = {"content-type": "application/json"}
        if self.upstream.authorization is not None:
            headers["authorization"] = self.upstream.authorization
        return client.build_request(
            "POST",
            f"{self.upstream.base_url}/chat/completions",
            content=self.body,
            headers=headers,
            extensions=timeouts(self.settings.service_timeout),
        )

    async def _exchange(self, client: httpx.AsyncClient, request: httpx.Request) -> None:
        response = await client.send(request, stream=True)
        self.status = response.status_code
        self._sent.start(response)
        await self.lines.write(status=response.status_code, headers=_shown(response))
        decode = _decoder()
        if response.is_success:
            async for piece in response.aiter_raw():
                self.first = self.first or self.lines.seconds
                self._sent.add(piece)
                await self.lines.write(sent=decode(piece))
        elif not response.is_error:  # a redirect, which is not followed; its body may be of any size
            await response.aclose()
            await self.lines.write(error=_error(response))
        else:
            content = await response.aread()
            self._sent.headers = [(name, value) for name, value in self._sent.headers if name != b"content-encoding"]
            self._sent.add(content)
            await self.lines.write(sent=decode(content))
            await self.lines.write(error=_error(response))
        self._sent.is_complete = True
        self.failure = ""

    async def _compare(self, wire: _WireTransport, comparing: anyio.CapacityLimiter) -> dict[str, Any]:
        if wire.first_body != self.body:
            return {"unavailable": "The shim has changed the request, so nobody knows the answer to the original one."}
        async with comparing:
            return await run_in_thread(lambda: compare(wire.first, self._sent))


class _WireTransport(httpx.AsyncBaseTransport):
    """The transport below the repair: reports what is asked of the service, and the bytes of its response.

    Attributes:
        first: The response to the first request: what a program without the shim would have received.
        first_body: The body of the first request; None before it.
    """

    def __init__(self, inner: UpstreamTransport, lines: _Lines) -> None:
        self._inner = inner
        self._lines = lines
        self.first = RecordedResponse()
        self.first_body: bytes | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        recorded = RecordedResponse()
        if self.first_body is None:
            self.first, self.first_body = recorded, request.content
        await self._lines.write(request=f"{request.method} {request.url.path}")
        try:
            response = await self._inner.handle_async_request(request)
        except httpx.HTTPError as error:
            recorded.failure = error
            raise
        recorded.start(response)
        await self._lines.write(response=response.status_code, headers=_shown(response))
        response.stream = _WireBody(response.stream, self._lines, recorded)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _WireBody(httpx.AsyncByteStream):
    def __init__(self, inner: Any, lines: _Lines, recorded: RecordedResponse) -> None:
        self._inner = inner
        self._lines = lines
        self._recorded = recorded

    async def __aiter__(self) -> AsyncIterator[bytes]:
        decode = _decoder()
        try:
            async for piece in self._inner:
                self._recorded.add(piece)
                await self._lines.write(received=decode(piece))
                yield piece
        except httpx.HTTPError as error:
            self._recorded.failure = error
            raise
        self._recorded.is_complete = True

    async def aclose(self) -> None:
        await self._inner.aclose()


def _decoder() -> Callable[[bytes], str]:
    """Decodes pieces that may end within a character."""
    return codecs.getincrementaldecoder("utf-8")(errors="replace").decode


def _shown(response: httpx.Response) -> list[tuple[str, str]]:
    return [(name, value) for name, value in response.headers.multi_items() if name != "set-cookie"]


def _error(response: httpx.Response) -> dict[str, Any]:
    """The error of a response, whatever its form. A redirect, which is not followed, is an error as well."""
    status = response.status_code
    error: Any = None
    if response.is_error:
        rebuilt = rebuild_body(status, response.content, request=f"POST {response.request.url.path}")
        error = (load_object(rebuilt or response.content) or {}).get("error")
    return error if is_object(error) else {"message": f"The service answers with status {status}."}


def _streaming(body: bytes) -> bytes:
    """The request with streaming asked for.

    Raises:
        RefusedError: It is not a JSON object.
    """
    fields = load_object(body)
    if fields is None:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "The request body is not a JSON object.", "invalid_json")
    return dump({**fields, "stream": True})
