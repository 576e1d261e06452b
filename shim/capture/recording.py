"""Recordings of an exchange with a service: the bytes of its connection, read by read, with their times.

A `RecordingTransport` records what the network delivers, before an HTTP library interprets it: status line, headers,
chunked framing. A `ReplayTransport` delivers the same to any client of httpx, without a network. A `Recording` is saved
in a readable file.
"""

from __future__ import annotations

import json
import platform
import ssl
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import httpcore
import httpx

from shim.core.jsontext import is_object
from shim.errors import ServiceError
from shim.files import write_private
from shim.origin import version_of
from shim.transport.body import has_several_codings

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from httpcore import SOCKET_OPTION

    Ended = Literal["closed", "reset", "deadline"] | None

FORMAT: Final = "foundry-shim capture"
"""How a file names its format."""
VERSION: Final = 1

# The defaults of httpx.
_LIMITS: Final = httpx.Limits(max_connections=100, max_keepalive_connections=20)
_PACKAGES: Final = {"shim": "foundry-local-shim", "openai": "openai", "httpx": "httpx"}
_ENDS: Final = (None, "closed", "reset", "deadline")
# How httpx and the shim write a JSON body; any other body is saved as text.
_SPELLINGS: Final[dict[str, dict[str, Any]]] = {
    "compact": {"separators": (",", ":"), "ensure_ascii": False},
    "spaced": {},
}
_WRITE_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Piece:
    """What one read of the connection returned.

    Attributes:
        at: Seconds since the request was sent.
        data: The bytes.
    """

    at: float
    data: bytes


def _details() -> dict[str, str]:
    details = {name: version_of(package) or "unknown" for name, package in _PACKAGES.items()}
    details["python"] = platform.python_version()
    details["platform"] = platform.platform(terse=True)
    details["date"] = datetime.now(UTC).isoformat(timespec="seconds")
    return details


@dataclass(slots=True)
class Recording:
    """One request and the bytes of its response.

    Attributes:
        method: The request's method.
        target: Its path and query, as sent.
        headers: Its headers, as sent.
        body: Its body.
        pieces: What each read of the connection returned.
        ended: How the connection ended while the response was read: "closed" by the service, "reset" by any error of a
            read, "deadline" if a read timed out; None if it stayed open, as far as it was read.
        is_redacted: Whether private text was masked.
        details: Versions, platform and date.
    """

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    pieces: list[Piece] = field(default_factory=list[Piece])
    ended: Ended = None
    is_redacted: bool = False
    details: dict[str, str] = field(default_factory=_details)

    @property
    def answer(self) -> bytes:
        """All bytes of the response: status line, headers and body, framing included."""
        return b"".join(piece.data for piece in self.pieces)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the recording to a new file, which only its owner may read.

        Args:
            path: The file.
            overwrite: Whether an existing file is replaced.

        Raises:
            OSError: The file exists, or cannot be written.
        """
        fields = {
            "format": FORMAT,
            "version": VERSION,
            "is_redacted": self.is_redacted,
            "details": self.details,
            "request": {
                "method": self.method,
                "target": self.target,
                "headers": [f"{name}: {value}" for name, value in self.headers],
                "body": _written_body(self.body),
            },
            "response": {
                "ended": self.ended,
                "pieces": [{"at": piece.at, "bytes": piece.data.decode("latin-1")} for piece in self.pieces],
            },
        }
        write_private(Path(path), (json.dumps(fields, indent=1) + "\n").encode("ascii"), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recording:
        """Read a recording from a file.

        Raises:
            ServiceError: The file cannot be read, is not a capture, is damaged, or was written by a later version.
        """
        try:
            fields: Any = json.loads(Path(path).read_bytes())
        except OSError as error:
            raise ServiceError(
                f"The capture {path} cannot be read: {error.strerror}.", remedy="Check the path and its permissions."
            ) from error
        except (ValueError, RecursionError):
            fields = None
        if not is_object(fields) or fields.get("format") != FORMAT:
            raise ServiceError(
                f"The file {path} is not a capture.",
                remedy="Record one with: foundry-shim capture FILE",
            )
        if fields.get("version") != VERSION:
            raise ServiceError(
                f"The capture {path} has version {fields.get('version')!r}; this release of the shim reads {VERSION}.",
                remedy="Update foundry-local-shim.",
            )
        try:
            return _read(fields)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ServiceError(
                f"The capture {path} is damaged: {type(error).__name__}: {error}.",
                remedy="Record the exchange again with: foundry-shim capture FILE",
            ) from error


def _written_body(body: bytes) -> dict[str, Any]:
    """A body in a readable form: as JSON if the same bytes can be restored from it."""
    try:
        value = json.loads(body)
        for spelling, options in _SPELLINGS.items():
            if json.dumps(value, allow_nan=False, **options).encode() == body:
                return {"json": value, "spelling": spelling}
    except (ValueError, RecursionError):
        pass
    return {"bytes": body.decode("latin-1")}


def _read_body(fields: dict[str, Any]) -> bytes:
    if "json" in fields:
        return json.dumps(fields["json"], **_SPELLINGS[fields["spelling"]]).encode()
    return _read_text(fields["bytes"]).encode("latin-1")


def _read(fields: dict[str, Any]) -> Recording:
    """Read a recording from the fields of a file.

    Raises:
        KeyError: A field is missing.
        TypeError: A field has another type.
        ValueError: A field has a value that is never written.
    """
    request, response = fields["request"], fields["response"]
    ended = response["ended"]
    if ended not in _ENDS:
        raise ValueError(f"unknown end {ended!r:.40}")
    return Recording(
        method=_read_text(request["method"]),
        target=_read_text(request["target"]),
        headers=[_read_header(line) for line in request["headers"]],
        body=_read_body(request["body"]),
        pieces=[_read_piece(piece) for piece in response["pieces"]],
        ended=ended,
        # Older files have another name for it.
        is_redacted=(fields["is_filled"] if "is_filled" in fields else fields["is_redacted"]) is True,
        details={_read_text(name): _read_text(value) for name, value in fields["details"].items()},
    )


def _read_piece(piece: dict[str, Any]) -> Piece:
    return Piece(_read_seconds(piece["at"]), _read_text(piece["bytes"]).encode("latin-1"))


def _read_header(line: Any) -> tuple[str, str]:
    name, colon, value = _read_text(line).partition(": ")
    if not colon:
        raise ValueError(f"{line!r:.40} is not a header")
    return name, value


def _read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is not a string")
    return value


def _read_seconds(value: Any) -> float:
    if not isinstance(value, int | float) or not isfinite(value) or value < 0:
        raise ValueError(f"{value!r:.40} is not a time")
    return value


def _pool(backend: httpcore.NetworkBackend, context: ssl.SSLContext) -> httpcore.ConnectionPool:
    """The connection pool that httpx creates by default, with another network backend."""
    return httpcore.ConnectionPool(
        ssl_context=context,
        max_connections=_LIMITS.max_connections,
        max_keepalive_connections=_LIMITS.max_keepalive_connections,
        keepalive_expiry=_LIMITS.keepalive_expiry,
        network_backend=backend,
    )


def _bounded(response: httpx.Response) -> httpx.Response:
    """The response, if a few bytes of it cannot become gigabytes in one step.

    Raises:
        httpx.RemoteProtocolError: They may.
    """
    if has_several_codings(response.headers):
        response.close()
        raise httpx.RemoteProtocolError("the response is compressed more than once")
    return response


class RecordingTransport(httpx.HTTPTransport):
    """A transport of httpx that records every exchange; for sequential requests over HTTP/1.1.

    Attributes:
        recordings: One for each request, in order.
        connections: How many connections were opened.
        deadline: The time of `time.monotonic` at which every connect, read and write times out, however slowly the
            service sends. May be changed at any time.
    """

    def __init__(self, *, verify: ssl.SSLContext | str | bool = True, deadline: float | None = None) -> None:
        """Start without recordings; `verify` is that of httpx."""
        context = httpx.create_ssl_context(verify=verify)
        super().__init__(verify=context)
        self._pool = _pool(_RecordingBackend(self), context)
        self.recordings: list[Recording] = []
        self.connections = 0
        self.deadline = deadline

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request; record it, and the response while it is read."""
        self.recordings.append(
            Recording(
                method=request.method,
                target=request.url.raw_path.decode("ascii"),
                headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw],
                body=request.read(),
            )
        )
        return _bounded(super().handle_request(request))

    def time_left(self, timeout: float | None, error: type[Exception]) -> float | None:
        """Shorten a timeout to the time before the deadline.

        Raises:
            Exception: The given one: the deadline has passed.
        """
        if self.deadline is None:
            return timeout
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise error("the deadline has passed")
        return left if timeout is None else min(left, timeout)


class _RecordingBackend(httpcore.SyncBackend):
    def __init__(self, transport: RecordingTransport) -> None:
        self._transport = transport

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        timeout = self._transport.time_left(timeout, httpcore.ConnectTimeout)
        stream = super().connect_tcp(host, port, timeout, local_address, socket_options)
        self._transport.connections += 1
        return _RecordingStream(stream, self._transport)


class _RecordingStream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, transport: RecordingTransport) -> None:
        self._inner = inner
        self._transport = transport
        self._recording = transport.recordings[-1]
        self._sent_at = 0.0
        self._is_closed = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            data = self._inner.read(max_bytes, self._transport.time_left(timeout, httpcore.ReadTimeout))
        except httpcore.ReadTimeout:
            self._record_end("deadline")
            raise
        except httpcore.ReadError:
            self._record_end("reset")
            raise
        if not data:
            self._record_end("closed")
        else:
            self._recording.pieces.append(Piece(round(time.monotonic() - self._sent_at, 6), data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._recording = self._transport.recordings[-1]
        for start in range(0, len(buffer), _WRITE_BYTES):
            left = self._transport.time_left(timeout, httpcore.WriteTimeout)
            self._inner.write(buffer[start : start + _WRITE_BYTES], left)
        self._sent_at = time.monotonic()

    def close(self) -> None:
        self._is_closed = True
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        timeout = self._transport.time_left(timeout, httpcore.ConnectTimeout)
        return _RecordingStream(self._inner.start_tls(ssl_context, server_hostname, timeout), self._transport)

    def get_extra_info(self, info: str) -> Any:
        value = self._inner.get_extra_info(info)
        if info != "socket":
            return value

        def shut_down(how: int) -> None:
            self._is_closed = True
            value.shutdown(how)

        return _Socket(shut_down)

    def _record_end(self, ended: Ended) -> None:
        """Record how the service ended the connection, unless this side closed it first."""
        if not self._is_closed:
            self._recording.ended = ended


class _Socket:
    """The part of a socket that a client needs to interrupt another thread's read."""

    def __init__(self, shutdown: Callable[[int], None]) -> None:
        self.shutdown = shutdown


class ReplayTransport(httpx.HTTPTransport):
    """A transport of httpx that answers each request with a recording: one piece for each read, then its end.

    If the recorded connection stayed open, a read after the last piece times out at once: nothing more is known.
    """

    def __init__(self, recording: Recording, *, timed: bool = False) -> None:
        """Answer with the recording; if `timed`, each piece is delivered at its recorded time."""
        # Nothing is encrypted, so no certificates are loaded.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        super().__init__(verify=context)
        self._pool = _pool(_ReplayBackend(recording, timed=timed), context)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer the request."""
        return _bounded(super().handle_request(request))


class _ReplayBackend(httpcore.NetworkBackend):
    def __init__(self, recording: Recording, *, timed: bool) -> None:
        self._recording = recording
        self._timed = timed

    def connect_tcp(self, *_: Any, **__: Any) -> httpcore.NetworkStream:
        return _ReplayStream(self._recording, timed=self._timed)


class _ReplayStream(httpcore.NetworkStream):
    def __init__(self, recording: Recording, *, timed: bool) -> None:
        self._recording = recording
        self._timed = timed
        self._position = 0
        self._rest = b""
        self._sent_at = 0.0
        self._closed = threading.Event()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._closed.is_set():
            return b""
        if not self._rest:
            if self._position == len(self._recording.pieces):
                return self._end()
            piece = self._recording.pieces[self._position]
            if not self._wait_for(piece, timeout):
                return b""
            self._position += 1
            self._rest = piece.data
        data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return data

    def _wait_for(self, piece: Piece, timeout: float | None) -> bool:
        """Wait until the recorded time of the piece; False if the client closed the connection first."""
        seconds = self._sent_at + piece.at - time.monotonic() if self._timed else 0.0
        if timeout is not None and seconds > timeout:
            self._closed.wait(timeout)
            raise httpcore.ReadTimeout("the recorded response continues later")
        return not (seconds > 0 and self._closed.wait(seconds))

    def _end(self) -> bytes:
        match self._recording.ended:
            case "closed":
                return b""
            case "reset":
                raise httpcore.ReadError("the recorded connection was reset here")
            case _:
                raise httpcore.ReadTimeout("nothing more was recorded")

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - httpcore's signature
        self._position = 0
        self._rest = b""
        self._sent_at = time.monotonic()

    def close(self) -> None:
        self._closed.set()

    def start_tls(self, *_: Any, **__: Any) -> httpcore.NetworkStream:
        return self

    def get_extra_info(self, info: str) -> Any:
        return _Socket(lambda _how: self._closed.set()) if info == "socket" else None
