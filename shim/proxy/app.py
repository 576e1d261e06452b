"""The proxy as an ASGI application: its paths."""

from __future__ import annotations

from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from shim.proxy.answers import RefusedError, refusal, request_name
from shim.proxy.edge import Edge
from shim.proxy.forwarding import Forwarder
from shim.proxy.guard import forwarded_path
from shim.proxy.headers import REPAIRS_HEADER
from shim.proxy.metrics import MEDIA_TYPE, Metrics
from shim.proxy.page import page_routes
from shim.transport.exchange import MARK_HEADER

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from shim.proxy.settings import Settings

_METHODS: Final = ("GET", "HEAD", "POST", "DELETE")
_API: Final = {
    "service": "foundry-shim proxy: the repaired API of Foundry Local",
    "repaired": ["POST /v1/chat/completions", "POST /v1/responses", "POST /v1/embeddings", "GET /v1/models"],
    "forwarded": "every other path under /v1, unchanged",
    "page": "/",
    "repairs": "/repairs",
    "health": "/healthz",
    "metrics": "/metrics",
}
"""What `GET /v1` answers: the address of an API is often opened in a browser first."""


def proxy_app(settings: Settings) -> ASGIApp:
    """The application, for uvicorn or any other ASGI server."""
    metrics = Metrics()
    forwarder = Forwarder(settings, metrics)
    guard = settings.guard

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await forwarder.close()

    async def show_health(request: Request) -> Response:
        # The service's address is shown to those who may use the service.
        upstream = {"upstream": forwarder.upstream.base_url} if guard.has_key(request.headers) else {}
        return JSONResponse({"status": "ok", **upstream})

    async def show_metrics(request: Request) -> Response:
        guard.check_key(request.headers)
        return PlainTextResponse(metrics.text(), media_type=MEDIA_TYPE)

    async def serve_api(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        guard.check_key(request.headers)
        if request.method not in _METHODS:
            raise RefusedError(
                HTTPStatus.METHOD_NOT_ALLOWED,
                f"The API does not have the method {request.method}.",
                "method_not_allowed",
                {"allow": ", ".join(_METHODS)},
            )
        await forwarder.forward(request, forwarded_path(scope["raw_path"]), send)

    async def show_api(request: Request) -> Response:
        guard.check_key(request.headers)
        return JSONResponse({**_API, "upstream": forwarder.upstream.base_url})

    routes = [
        *page_routes(settings, forwarder),
        Route("/healthz", show_health),
        Route("/metrics", show_metrics),
        Route("/v1", show_api),
        Route("/v1/", show_api),
        Mount("/v1", serve_api),
    ]
    pages = Starlette(routes=routes, lifespan=lifespan, exception_handlers=_HANDLERS)
    pages.router.redirect_slashes = False
    inner: ASGIApp = pages
    if guard.origins:
        inner = CORSMiddleware(
            inner,
            allow_origins=list(guard.origins),
            allow_methods=_METHODS,
            allow_headers="*",
            expose_headers=(MARK_HEADER, REPAIRS_HEADER),
        )
    return Edge(inner, guard, metrics)


async def _refuse_path(request: Request, error: Any) -> Response:
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        message = f"{request_name(request)} is not possible; see the header Allow."
        return refusal(request, RefusedError(error.status_code, message, "method_not_allowed", error.headers))
    message = f"{request_name(request)} does not exist here; the API is under /v1."
    return refusal(request, RefusedError(error.status_code, message, "unknown_path"))


async def _refuse(request: Request, error: Any) -> Response:
    return refusal(request, error)


async def _report_failure(request: Request, _: Any) -> Response:
    message = "Internal proxy error; see the proxy's log."
    return refusal(request, RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, message, "proxy_failed"))


_HANDLERS: Final = {HTTPException: _refuse_path, RefusedError: _refuse, Exception: _report_failure}
