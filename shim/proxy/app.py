"""The proxy as an ASGI application: which addresses there are, who may ask, and what is counted."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from shim.proxy.answers import METRICS, RefusedError, asked, refusal
from shim.proxy.forwarding import Forwarder
from shim.proxy.guard import Guard, forwarded_path
from shim.proxy.metrics import MEDIA_TYPE, Metrics
from shim.proxy.page import page_routes
from shim.repairs import Policy

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

_METHODS: Final = ("GET", "POST", "DELETE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the proxy is to be.

    Attributes:
        base_url: Where the service's API is.
        find: Finds the service again when nothing answers there any more; None where it is given once and for all.
        guard: Who may ask.
        policy: Which repairs are made.
        max_body_bytes: The largest body of a request.
        max_requests: How many requests may be answered at the same time.
    """

    base_url: str
    find: Callable[[], str] | None = None
    guard: Guard = field(default_factory=Guard)
    policy: Policy = field(default_factory=Policy)
    max_body_bytes: int = 64 * 2**20
    max_requests: int = 512


def proxy_app(settings: Settings) -> ASGIApp:
    """The application, for uvicorn or any other ASGI server."""
    metrics = Metrics()
    forwarder = Forwarder(
        settings.base_url,
        settings.policy,
        find=settings.find,
        max_body_bytes=settings.max_body_bytes,
        metrics=metrics,
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await forwarder.close()

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "upstream": forwarder.base_url})

    async def told_metrics(request: Request) -> Response:
        settings.guard.check_key(request.headers)
        return PlainTextResponse(metrics.text(), media_type=MEDIA_TYPE)

    async def api(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        settings.guard.check_key(request.headers)
        if request.method not in _METHODS:
            raise RefusedError(405, f"The API has no {request.method}.", "method_not_allowed")
        await forwarder.forward(request, forwarded_path(scope["raw_path"]), send)

    routes = [
        *page_routes(settings, forwarder),
        Route("/healthz", health),
        Route("/metrics", told_metrics),
        Mount("/v1", api),
    ]
    pages = Starlette(routes=routes, lifespan=lifespan, exception_handlers=_HANDLERS)
    pages.router.redirect_slashes = False
    inner: ASGIApp = pages
    if settings.guard.origins:
        inner = CORSMiddleware(
            inner, allow_origins=list(settings.guard.origins), allow_methods=_METHODS, allow_headers="*"
        )
    return _Door(inner, settings, metrics)


async def _not_here(request: Request, error: Any) -> Response:
    message = f"There is no {asked(request)} here; the API is under /v1."
    return refusal(request, RefusedError(error.status_code, message, "unknown_path"))


async def _refused(request: Request, error: Any) -> Response:
    return refusal(request, error)


async def _failed(request: Request, _: Any) -> Response:
    return refusal(request, RefusedError(500, "The proxy itself has failed; its log says how.", "proxy_failed"))


_HANDLERS: Final = {HTTPException: _not_here, RefusedError: _refused, Exception: _failed}


class _Door:
    """What every request has to pass, whatever it is for."""

    def __init__(self, inner: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._inner = inner
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        scope[METRICS] = self._metrics
        self._metrics.open += 1
        try:
            self._check(Headers(scope=scope))
            await self._inner(scope, receive, send)
        except RefusedError as error:
            await refusal(Request(scope), error)(scope, receive, send)
        except asyncio.CancelledError:
            # The server ends, and its patience with what is not finished; it cuts that, and would log a traceback.
            return
        finally:
            self._metrics.open -= 1

    def _check(self, headers: Headers) -> None:
        if self._metrics.open > self._settings.max_requests:
            raise RefusedError(503, "The proxy answers as many requests as it may; ask again.", "too_many_requests")
        self._settings.guard.check(headers)
