"""A server on this machine that answers requests with their recorded responses, byte by byte.

The pauses between the bytes are those of the recording, cut in half; the wait for the first byte is left out.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from shim.capture.recording import Recording

_NOT_RECORDED: Final = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nServer: Kestrel\r\n\r\n"
_POLL_SECONDS: Final = 0.02
_SPEED: Final = 2.0


class ReplayServer:
    """Serves recordings for the length of a ``with`` block, which gets the base URL."""

    def __init__(self, recordings: Iterable[Recording]) -> None:
        """Listen on a free port of this machine."""
        known = {_key(recording.method, recording.target, recording.body): recording for recording in recordings}

        class Handler(_Handler):
            recorded = known

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_SECONDS,), daemon=True)

    def __enter__(self) -> str:
        """Start to serve; give the base URL."""
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    recorded: dict[tuple[str, str, str], Recording]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # which would delay each piece until the one before it is acknowledged

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        recording = self.recorded.get(_key(self.command, self.path, body))
        if recording is None:
            self.wfile.write(_NOT_RECORDED)
            return
        with suppress(ConnectionError):  # a client need not read to the end
            started, first = time.monotonic(), recording.pieces[0].at
            for piece in recording.pieces:
                time.sleep(max(0.0, started + (piece.at - first) / _SPEED - time.monotonic()))
                self.wfile.write(piece.data)
        # A connection that the service kept open is kept open: the client may send its next request on it.
        self.close_connection |= recording.ended is not None

    do_GET = do_POST  # noqa: N815 - http.server looks for that name

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server names it so
        """Print nothing: the terminal is the demo's."""


def _key(method: str, target: str, body: bytes) -> tuple[str, str, str]:
    """What makes two requests the same; how a body spells its JSON differs by the client's release."""
    return method, target, json.dumps(json.loads(body), sort_keys=True) if body else ""
