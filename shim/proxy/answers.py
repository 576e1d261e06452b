"""What the proxy itself says: errors as OpenAI's error object, whatever went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from shim.core.jsontext import dump

if TYPE_CHECKING:
    from starlette.requests import Request

    from shim.proxy.metrics import Metrics

METRICS: Final = "shim.metrics"
"""The key of the metrics in the scope of a request."""

_FIRST_SERVER_ERROR: Final = 500
_TOO_LARGE: Final = 413


class RefusedError(Exception):
    """A request that is not forwarded, or whose answer is not handed on.

    Attributes:
        status: The HTTP status.
        message: What happened, to what, and what to do next.
        code: A stable word.
    """

    def __init__(self, status: int, message: str, code: str) -> None:
        """Keep all three."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


def error_object(status: int, message: str, code: str) -> bytes:
    """OpenAI's error object (API reference, "Error codes")."""
    kind = "server_error" if status >= _FIRST_SERVER_ERROR else "invalid_request_error"
    return dump({"error": {"message": message, "type": kind, "param": None, "code": code}})


def asked(request: Request) -> str:
    """What a request is for, as it stands in the log: as it was sent, so that it is one line without control codes."""
    return f"{request.method} {request.scope['raw_path'].decode('latin-1')}"


def refusal(request: Request, error: RefusedError) -> Response:
    """The answer to a request that is refused, which is counted."""
    metrics: Metrics = request.scope[METRICS]
    metrics.note(asked(request), error.status, failure=error.code)
    body = error_object(error.status, error.message, error.code)
    # Otherwise the server would read what is left of the body, however much that is, to throw it away.
    headers = {"Connection": "close"} if error.status == _TOO_LARGE else None
    return Response(body, error.status, headers, media_type="application/json")
