"""The server that the proxy runs under, with the bounds that only a server can keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from shim.proxy.answers import error_object

if TYPE_CHECKING:
    import asyncio

    from starlette.types import ASGIApp

_GRACE_SECONDS: Final = 5
_LARGEST_HEADERS: Final = 64 * 1024


def server(app: ASGIApp, *, max_connections: int = 1000) -> uvicorn.Server:
    """A server for the application.

    Args:
        app: The proxy.
        max_connections: How many clients may be connected, whether they ask or not; whoever comes then is let go.
    """

    class Bounded(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > max_connections:
                transport.close()

        def send_400_response(self, msg: str) -> None:
            """What is no request of HTTP gets an error in the form that all others have."""
            headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
            said = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
            for event in (said, h11.Data(data=error_object(400, msg, "bad_request")), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

    # h11, and no websockets: what comes in is bounded, and all of it passes the proxy's guard.
    options: dict[str, Any] = {"http": Bounded, "ws": "none", "h11_max_incomplete_event_size": _LARGEST_HEADERS}
    return uvicorn.Server(
        uvicorn.Config(
            app,
            **options,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            # Ctrl-C: what is answered now is finished if it ends by then.
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )
