"""What applies to every request and response, whatever it is for: the access rules, and how a response ends."""

from __future__ import annotations

import asyncio
import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import anyio
from starlette.datastructures import Headers
from starlette.requests import Request

from shim.proxy.answers import (
    HEADERS_TOO_LARGE,
    MAX_HEADER_BYTES,
    METRICS,
    NotAllowedError,
    RefusedError,
    common_headers,
    refusal,
)

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from shim.proxy.guard import Guard
    from shim.proxy.metrics import Metrics

logger = logging.getLogger("shim.proxy")

_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_HEADER_OVERHEAD: Final = 4
"""The bytes around the name and the value of a header."""
_LINGER_SECONDS: Final = 1.0
_LINGER_BYTES: Final = 256 * 2**10
_MOST_WARNINGS: Final = 100
"""How many different refusals are logged: others decide what a refused request names."""


class Edge:
    """The outermost part of the application."""

    def __init__(self, inner: ASGIApp, guard: Guard, metrics: Metrics) -> None:
        """Wrap the application."""
        self._inner = inner
        self._guard = guard
        self._metrics = metrics
        self._headers = common_headers()
        self._warnings: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        exchange = _ClientExchange(scope, receive, send, self._headers)
        scope[METRICS] = self._metrics
        self._metrics.open += 1
        try:
            _check_form(scope)
            self._guard.check(Headers(scope=scope))
            await self._inner(scope, exchange.receive, exchange.send)
        except RefusedError as error:
            if isinstance(error, NotAllowedError):
                self._warn(error.message)
            await refusal(Request(scope), error)(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            # The server stops, and cancels what has not finished. It would log a traceback.
            return
        finally:
            self._metrics.open -= 1

    def _warn(self, message: str) -> None:
        """Log a refusal, once: a browser does not show the page why, so the proxy's log is the place to look."""
        if message not in self._warnings and len(self._warnings) < _MOST_WARNINGS:
            self._warnings.add(message)
            logger.warning("%s", message)


def _check_form(scope: Scope) -> None:
    """Check what HTTP itself requires of a request, where the server's HTTP library is lenient.

    Raises:
        RefusedError: The request is malformed, or its headers are too large.
    """
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    size = len(scope["raw_path"]) + len(scope["query_string"])
    if size + sum(len(name) + len(value) + _HEADER_OVERHEAD for name, value in headers) > MAX_HEADER_BYTES:
        raise RefusedError(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            HEADERS_TOO_LARGE,
            "headers_too_large",
            {"connection": "close"},
        )
    if scope["http_version"] not in {"1.0", "1.1"}:
        raise RefusedError(
            HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
            "This proxy speaks HTTP/1.1.",
            "bad_request",
            {"connection": "close"},
        )
    names = {name for name, _ in headers}
    # Another program in between may see another end of such a body, and so another next request.
    if b"transfer-encoding" in names and (b"content-length" in names or scope["http_version"] != "1.1"):
        raise RefusedError(
            HTTPStatus.BAD_REQUEST,
            "The request has Transfer-Encoding with Content-Length, or in HTTP/1.0.",
            "bad_request",
            {"connection": "close"},
        )
    if (absolute := _ABSOLUTE.fullmatch(scope["raw_path"])) is not None:
        authority, path = absolute.groups()
        if [value.lower() for name, value in headers if name == b"host"] != [authority.lower()]:
            raise RefusedError(
                HTTPStatus.MISDIRECTED_REQUEST, "The request's target and Host name different hosts.", "host_refused"
            )
        scope["raw_path"] = path or b"/"
        scope["path"] = unquote(scope["raw_path"].decode("latin-1"))


class _ClientExchange:
    """The messages of one request and its response.

    A response to a request whose body was not received completely ends its connection; otherwise the server would read
    the rest, however large, only to discard it. A part is read, so that the client gets to see the response first.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        self._receive = receive
        self._send = send
        self._headers = headers
        declared = dict(scope["headers"])
        self._owes_body = b"transfer-encoding" in declared or declared.get(b"content-length", b"0").strip(b"0") != b""

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._owes_body = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._send({**message, "headers": self._completed(message.get("headers", ()))})
        elif self._owes_body and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._linger()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await self._send(message)

    def _completed(self, headers: Any) -> list[tuple[bytes, bytes]]:
        given = [(name.lower(), value) for name, value in headers]
        names = {name for name, _ in given}
        given += [(name, value) for name, value in self._headers if name not in names]
        if self._owes_body and b"connection" not in names:
            given.append((b"connection", b"close"))
        return given

    async def _linger(self) -> None:
        size = 0
        with anyio.move_on_after(_LINGER_SECONDS):
            while self._owes_body and size <= _LINGER_BYTES:
                size += len((await self.receive()).get("body", b""))
