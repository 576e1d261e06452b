"""The responses of the proxy itself: OpenAI's error object for every failure, and the headers of every response."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from shim.core.jsontext import dump
from shim.errors import error_object
from shim.origin import version_of
from shim.transport.exchange import MARK_HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from shim.proxy.metrics import Metrics

METRICS: Final = "shim.metrics"
"""The key of the metrics in the scope of a request."""
MAX_HEADER_BYTES: Final = 64 * 2**10
"""The largest request line and headers together, in bytes."""
HEADERS_TOO_LARGE: Final = f"The request's headers are larger than {MAX_HEADER_BYTES} bytes."

_MAX_NAME_CHARACTERS: Final = 300


class RefusedError(Exception):
    """A request that is not forwarded, or whose response is not forwarded.

    Attributes:
        status: The HTTP status.
        message: What happened, to what, and what to do next.
        code: A stable word.
        headers: Headers that belong to the status.
    """

    def __init__(self, status: HTTPStatus, message: str, code: str, headers: Mapping[str, str] | None = None) -> None:
        """Keep all of them."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = headers


class NotAllowedError(RefusedError):
    """A request that the access rules refuse, and that an option of the proxy may allow: it is logged.

    The message names the option with its value, as it has to be written.
    """


def error_body(status: int, message: str, code: str) -> bytes:
    """The body of an error response."""
    is_ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return dump(error_object(message, type="server_error" if is_ours else "invalid_request_error", code=code))


def request_name(request: Request) -> str:
    """The method and path of a request for the log: as sent, so that it is one line without control characters."""
    name = f"{request.method} {request.scope['raw_path'].decode('latin-1')}"
    return name if len(name) <= _MAX_NAME_CHARACTERS else f"{name[:_MAX_NAME_CHARACTERS]}…"


def refusal(request: Request, error: RefusedError) -> Response:
    """The response to a request that is refused, which is counted."""
    metrics: Metrics = request.scope[METRICS]
    metrics.note(request_name(request), error.status, failure=error.code)
    body = error_body(error.status, error.message, error.code)
    return Response(body, error.status, error.headers, media_type="application/json")


@cache
def common_headers() -> tuple[tuple[bytes, bytes], ...]:
    """The headers of every response: what a browser must not do with it, and the mark of the proxy."""
    return (
        (MARK_HEADER.encode(), (version_of() or "unknown").encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", b"default-src 'none'; base-uri 'none'; frame-ancestors 'none'; sandbox"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-store"),
    )
