"""The page of the proxy: a prompt and its answer, and the bytes before and after the repair."""

from __future__ import annotations

import base64
import codecs
import hashlib
import re
import time
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import anyio
import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from shim.core.error_bodies import rebuild_body
from shim.core.jsontext import dump, is_object, load_object
from shim.proxy.answers import METRICS, RefusedError
from shim.proxy.client_side import read_body, until_client_leaves
from shim.proxy.forwarding import upstream_failure
from shim.proxy.metrics import CLIENT_LEFT
from shim.proxy.upstream import Upstream, UpstreamTransport, timeouts
from shim.repairs import RULES
from shim.reports import RepairEvent, report
from shim.transport import AsyncRepairTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from ssl import SSLContext

    from starlette.types import Receive, Scope, Send

    from shim.proxy.forwarding import Forwarder
    from shim.proxy.metrics import Metrics
    from shim.proxy.settings import Settings

_RULES_PLACE: Final = '<script type="application/json" id="rules">{}</script>'


def page_routes(settings: Settings, forwarder: Forwarder) -> list[Route]:
    """The routes of the page: the page itself, and what only the page asks for.

    Args:
        settings: Those of the proxy.
        forwarder: Knows where the service is, and how much is under way.
    """
    content = _page()
    headers = _headers(content)

    async def page(_: Request) -> Response:
        return Response(content, headers=headers, media_type="text/html")

    return [Route("/", page), Route("/", _Prompts(settings, forwarder), methods=["POST"])]


def _page() -> str:
    # A "<" could end the element that the rules stand in.
    rules = dump({code.value: {"when": rule.when, "action": rule.action} for code, rule in RULES.items()})
    written = rules.decode().replace("<", "\\u003c")
    page = files("shim.proxy").joinpath("page.html").read_text(encoding="utf-8")
    return page.replace(_RULES_PLACE, _RULES_PLACE.replace("{}", written))


def _headers(page: str) -> dict[str, str]:
    """The rules for the browser: the page's own style and script, this proxy, and nothing else."""
    policy = (
        "default-src 'none'",
        f"style-src {_hashes(page, 'style')}",
        f"script-src {_hashes(page, 'script')}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # The text of a model cannot become HTML, whatever the script does with it.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return {
        "content-security-policy": "; ".join(policy),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-cache",
    }


def _hashes(page: str, element: str) -> str:
    inline: list[str] = re.findall(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inline)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


class _Prompts:
    """Answers a chat request with everything that happens to it, as JSON lines."""

    def __init__(self, settings: Settings, forwarder: Forwarder) -> None:
        self._settings = settings
        self._forwarder = forwarder
        # Reading the certificates takes longer than a request.
        self._ssl = httpx.create_ssl_context(trust_env=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
            report_ = _Report(send, metrics, self._settings, self._forwarder.upstream, self._ssl)
            with capacity.request():
                await until_client_leaves(request, lambda: report_.stream(body))


@dataclass(slots=True)
class _Report:
    """One prompt and everything that happens to it, as lines for the page.

    Attributes:
        send: Sends to the page.
        metrics: The prompt is counted there, like any other request.
        settings: Those of the proxy.
        upstream: Where the service is.
        ssl: For an address that begins with https.
        status: That of the response, or of the failure to get one.
        failure: Why it failed, in a word, if it did.
        chunks: How many pieces of the stream were sent.
        first: After how many seconds the first one was.
    """

    send: Send
    metrics: Metrics
    settings: Settings
    upstream: Upstream
    ssl: SSLContext
    status: int = CLIENT_LEFT
    failure: str = "client_left"
    chunks: int = 0
    first: float | None = None
    _started: float = field(init=False, default_factory=time.monotonic)
    _repairs: list[RepairEvent] = field(init=False, default_factory=list[RepairEvent])

    async def stream(self, body: bytes) -> None:
        """Send the prompt, and report what happens when it happens."""
        await self.send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/x-ndjson")]}
        )
        wire = _WireTransport(UpstreamTransport(self.ssl), self.say)
        policy = replace(self.settings.policy, on_repair=self._note)
        transport: Any = AsyncRepairTransport(wire, policy, service=self.upstream.origin)
        client = httpx.AsyncClient(transport=transport, follow_redirects=False, trust_env=False)
        headers = {"content-type": "application/json"}
        if self.upstream.authorization is not None:
            headers["authorization"] = self.upstream.authorization
        request = client.build_request(
            "POST",
            f"{self.upstream.base_url}/chat/completions",
            content=body,
            headers=headers,
            extensions=timeouts(self.settings.service_timeout),
        )
        try:
            await self._exchange(client, request)
        except httpx.HTTPError as error:
            self.failure = "broke_off"
            if self.status == CLIENT_LEFT:
                self.status, self.failure = HTTPStatus.BAD_GATEWAY, "upstream_unreachable"
            await self.say(error={"message": upstream_failure(error, self.upstream).message, "code": self.failure})
        finally:
            with anyio.CancelScope(shield=True):
                await client.aclose()
            found = report(request)
            self.metrics.note(
                "POST /",
                self.status,
                seconds=self._seconds(),
                repairs=found.repairs if found else {},
                failure=self.failure,
                chunks=self.chunks,
                first=self.first,
            )
        await self.say(
            done=True,
            repairs=dict(sorted(found.repairs.items())) if found else {},
            generation=found.generation if found else None,
        )
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _exchange(self, client: httpx.AsyncClient, request: httpx.Request) -> None:
        response = await client.send(request, stream=True)
        self.status = response.status_code
        await self.say(status=response.status_code, headers=_shown(response))
        decode = _decoder()
        if response.is_success:
            async for piece in response.aiter_raw():
                self.chunks += 1
                self.first = self.first or self._seconds()
                await self.say(left=decode(piece))
        else:
            await self.say(left=decode(await response.aread()))
            await self.say(error=_error(response))
        self.failure = ""

    async def say(self, **line: Any) -> None:
        """Send one line, after those of the repairs that were made before it."""
        lines: list[dict[str, Any]] = [
            {"repair": event.repair, "event": event.event, "found": event.found} for event in self._repairs
        ]
        self._repairs.clear()
        body = b"".join(dump(each) + b"\n" for each in (*lines, {**line, "at": self._seconds()}))
        await self.send({"type": "http.response.body", "body": body, "more_body": True})

    def _note(self, event: RepairEvent) -> None:
        self._repairs.append(event)
        if self.settings.policy.on_repair is not None:
            self.settings.policy.on_repair(event)

    def _seconds(self) -> float:
        return round(time.monotonic() - self._started, 6)


class _WireTransport(httpx.AsyncBaseTransport):
    """The transport below the repair: reports what is asked of the service, and the bytes of its response."""

    def __init__(self, inner: UpstreamTransport, say: Callable[..., Awaitable[None]]) -> None:
        self._inner = inner
        self._say = say

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self._say(asked=f"{request.method} {request.url.path}")
        response = await self._inner.handle_async_request(request)
        await self._say(answered=response.status_code, headers=_shown(response))
        response.stream = _WireBody(response.stream, self._say)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _WireBody(httpx.AsyncByteStream):
    def __init__(self, inner: Any, say: Callable[..., Awaitable[None]]) -> None:
        self._inner = inner
        self._say = say

    async def __aiter__(self) -> AsyncIterator[bytes]:
        decode = _decoder()
        async for piece in self._inner:
            await self._say(came=decode(piece))
            yield piece

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
    if not response.is_error:
        return {"message": f"The service answers with status {status}."}
    content = rebuild_body(status, response.content, request=f"POST {response.request.url.path}") or response.content
    error: Any = (load_object(content) or {}).get("error")
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
