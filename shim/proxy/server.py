"""The server under the proxy, with the limits that only a server can keep: connections, and the time clients take."""

from __future__ import annotations

import asyncio
import re
import sys
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from shim.proxy.answers import HEADERS_TOO_LARGE, MAX_HEADER_BYTES, common_headers, error_body
from shim.proxy.settings import ConnectionLimits

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from starlette.types import ASGIApp

_GRACE_SECONDS: Final = 5
_READ_BYTES: Final = 16 * 2**10
_FRAMING_BYTES: Final = 64 * 2**10
_FRAMING_SHARE: Final = 4
_HEADER_ENDS: Final = (b"\n\r\n", b"\n\n")
_LENIENT: Final = re.compile(rb"(?<!\r)\n|\n[ \t]")
_OTHER_DESCRIPTORS: Final = 128
_MAX_DESCRIPTORS: Final = 8192


def server(app: ASGIApp, limits: ConnectionLimits | None = None) -> uvicorn.Server:
    """A server for the application.

    Args:
        app: The proxy.
        limits: The limits of its connections.
    """
    limits = limits or ConnectionLimits()
    # h11, and no websockets: everything received is bounded, and passes the proxy's access rules.
    options: dict[str, Any] = {
        "http": partial(_Connection, limits, {}),
        "ws": "none",
        "h11_max_incomplete_event_size": MAX_HEADER_BYTES,
        "timeout_keep_alive": limits.idle_timeout,
    }
    return _Server(
        uvicorn.Config(
            app,
            **options,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            # After Ctrl-C, responses that are under way have this many seconds to finish.
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )


def allow_descriptors(connections: int) -> int:
    """Let this process open as many files as the connections need, as far as the system allows it.

    Returns:
        How many connections with clients are possible; each may need a second one with the service.
    """
    try:
        import resource  # noqa: PLC0415 - Windows has no such limit
    except ImportError:
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return connections
    wanted = min(2 * connections + _OTHER_DESCRIPTORS, _MAX_DESCRIPTORS)
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(connections, (soft - _OTHER_DESCRIPTORS) // 2))


class _Server(uvicorn.Server):
    """Ends once after Ctrl-C, by one exception, however often it is pressed; at the second time, at once."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        super().handle_exit(sig, frame)
        del self._captured_signals[1:]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:
            # uvicorn leaves these to the end of the event loop, and logs an error for each.
            for connection in list(self.server_state.connections):
                connection.transport.abort()  # type: ignore[union-attr]
            await asyncio.sleep(0)  # until they know
            tasks = list(self.server_state.tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.lifespan.shutdown()


def _is_ambiguous(received: bytes) -> bool:
    """Whether another program in between may read other headers in what was received than h11, which is lenient."""
    ends = [end for end in (received.find(mark) for mark in _HEADER_ENDS) if end >= 0]
    return bool(ends) and _LENIENT.search(received, 0, min(ends) + 1) is not None


class _Connection(H11Protocol):
    """A connection with a client that may not keep the server waiting for ever.

    Attributes:
        waiting: The connections whose clients owe a request or a part of one, or do not read their response; first the
            one that was silent longest. All connections of a server share it.
    """

    def __init__(self, limits: ConnectionLimits, waiting: dict[_Connection, None], **options: Any) -> None:
        super().__init__(**options)
        self.waiting = waiting
        self._limits = limits
        self._header_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._is_refused = False
        self._discarded_bytes = 0
        self._body_bytes = 0
        self._framing_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if hasattr(transport, "max_size"):
            # asyncio reads 256 KiB at once, which are thousands of events if they are small: others would have to wait.
            transport.max_size = _READ_BYTES  # type: ignore[attr-defined]
        if len(self.connections) > self._limits.max_connections:
            longest = next(iter(self.waiting), self)
            longest.transport.abort()
            longest.stop_waiting()
            if longest is self:
                return
        self.waiting[self] = None
        self._header_timer = self._call_later(self._limits.header_timeout, self._refuse_slow_headers)

    def connection_lost(self, exc: Exception | None) -> None:
        self.stop_waiting()
        self._cancel_stall_timer()
        super().connection_lost(exc)
        # uvicorn leaves it where the client reset the connection, which would be kept until then.
        self._unset_keepalive_if_required()

    def stop_waiting(self) -> None:
        """The client owes nothing any more."""
        self.waiting.pop(self, None)
        self._cancel_header_timer()

    def data_received(self, data: bytes) -> None:
        if self._is_refused or self.transport.is_closing():
            return
        if self._is_answering() and self.conn.their_state is h11.MUST_CLOSE:
            # The client announced that this request is its last one; h11 would refuse what it sends nevertheless.
            self._discard(data)
            return
        if self.conn.their_state is h11.IDLE:
            # h11 checks the size of headers only where they are not complete.
            room = max(1, MAX_HEADER_BYTES + 1 - len(self.conn.trailing_data[0]))
            super().data_received(data[:room])
            data = data[room:]
        if data and not self._is_refused and not self.transport.is_closing():
            self._receive(data)
        self._adjust()

    def handle_events(self) -> None:
        if self.conn.their_state is h11.IDLE and _is_ambiguous(self.conn.trailing_data[0]):
            message = "The request's headers have a folded line, or a line that does not end with CRLF."
            self._refuse(HTTPStatus.BAD_REQUEST, message, "bad_request")
        else:
            super().handle_events()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._adjust()

    def eof_received(self) -> None:
        # Closing would wait until the response so far is sent, which a client that is gone never reads.
        if self._is_answering():
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cancel_stall_timer()
        self._stall_timer = self._call_later(self._limits.idle_timeout, self.transport.abort)
        self._move_to_end()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel_stall_timer()
        self._adjust()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not a request of HTTP, with OpenAI's error object as for every other error."""
        hint = getattr(sys.exception(), "error_status_hint", HTTPStatus.BAD_REQUEST)
        if hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            self._refuse(HTTPStatus(hint), HEADERS_TOO_LARGE, "headers_too_large")
        else:
            self._refuse(HTTPStatus(hint), msg, "bad_request")

    def _should_upgrade(self) -> bool:
        return False  # and no warning for each request that asks for it

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr]

    def _adjust(self) -> None:
        """Adjust what is waited for to what the client has sent so far."""
        if self.transport.is_closing():
            self.stop_waiting()
            return
        match self.conn.their_state:
            case h11.IDLE:
                self._body_bytes = self._framing_bytes = 0
                self._wait_for_headers()
            case h11.SEND_BODY:
                self._cancel_header_timer()
                self._move_to_end()
            case _:
                self._cancel_header_timer()
                if not self.flow.write_paused:
                    self.stop_waiting()
                self._limit_pipelining()

    def _wait_for_headers(self) -> None:
        self._move_to_end()
        if self._header_timer is None and self.conn.trailing_data[0]:
            self._unset_keepalive_if_required()
            self._header_timer = self._call_later(self._limits.header_timeout, self._refuse_slow_headers)

    def _limit_pipelining(self) -> None:
        """Keep reading while a request is answered, up to a limit: only so is it seen that the client disconnects."""
        if not self._is_answering():
            return
        if len(self.conn.trailing_data[0]) > self._limits.max_pipelined_bytes:
            self.transport.abort()
        else:
            self.flow.resume_reading()

    def _receive(self, data: bytes) -> None:
        """Receive data, and limit the framing of a body: chunks of a byte each cost a thousand times their size."""
        is_body = self.conn.their_state is h11.SEND_BODY
        before = len(self.cycle.body) if is_body else 0
        super().data_received(data)
        if not is_body or self._is_refused:
            return
        size = len(self.cycle.body) - before
        self._body_bytes += size
        self._framing_bytes += len(data) - size
        if self._framing_bytes > _FRAMING_BYTES + self._body_bytes // _FRAMING_SHARE:
            message = "The request body's chunks are too small, or have too large extensions."
            self._refuse(HTTPStatus.BAD_REQUEST, message, "bad_request")

    def _discard(self, data: bytes) -> None:
        self._discarded_bytes += len(data)
        if self._discarded_bytes > self._limits.max_pipelined_bytes:
            self.transport.abort()

    def _refuse_slow_headers(self) -> None:
        if self.conn.trailing_data[0]:
            message = "The request's headers were not received in time (--header-timeout)."
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, message, "header_timeout")
        else:
            self.transport.close()

    def _refuse(self, status: HTTPStatus, message: str, code: str) -> None:
        """Send an error, and close the connection."""
        self._is_refused = True
        self.stop_waiting()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        headers = [(b"content-type", b"application/json"), (b"connection", b"close"), *common_headers()]
        response = h11.Response(status_code=status, headers=headers, reason=status.phrase.encode())
        for event in (response, h11.Data(data=error_body(status, message, code)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        if self._is_answering():
            # The application must not send a second response before the connection is closed.
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _move_to_end(self) -> None:
        self.waiting.pop(self, None)
        self.waiting[self] = None

    def _call_later(self, seconds: float, action: Callable[[], None]) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, action)

    def _cancel_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _cancel_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
