"""Recordings of an exchange with a service: the bytes of its connection, piece by piece, with their times.

A `RecordingTransport` notes what the network gives, below everything that an HTTP library makes of it: status line,
headers, chunked framing. A `ReplayTransport` gives the same to any client of httpx, without a network. A `Recording`
can be kept in a file that a person can read.
"""

from __future__ import annotations

import json
import platform
import ssl
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import httpcore
import httpx

from shim.core.jsontext import is_object
from shim.errors import ServiceError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from httpcore import SOCKET_OPTION

    Ended = Literal["closed", "reset", "deadline"] | None

FORMAT: Final = "foundry-shim capture"
"""What a file of ours calls itself."""
VERSION: Final = 1

# Those of httpx itself.
_LIMITS: Final = httpx.Limits(max_connections=100, max_keepalive_connections=20)
_PACKAGES: Final = {"shim": "foundry-local-shim", "openai": "openai", "httpx": "httpx"}
_ENDS: Final = (None, "closed", "reset", "deadline")
# How the bodies that httpx and the shim write are spelled; any other is kept as text.
_SPELLINGS: Final[dict[str, dict[str, Any]]] = {
    "compact": {"separators": (",", ":"), "ensure_ascii": False},
    "spaced": {},
}
_WRITE_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Piece:
    """What one read of the connection gave.

    Attributes:
        at: Seconds since the request was sent.
        data: The bytes.
    """

    at: float
    data: bytes


def _details() -> dict[str, str]:
    details: dict[str, str] = {}
    for name, package in _PACKAGES.items():
        try:
            details[name] = version(package)
        except PackageNotFoundError:
            details[name] = "unknown"
    details["python"] = platform.python_version()
    details["platform"] = platform.platform(terse=True)
    details["date"] = datetime.now(UTC).isoformat(timespec="seconds")
    return details


@dataclass(slots=True)
class Recording:
    """One request and the bytes that came as its answer.

    Attributes:
        method: The request's method.
        target: Its path and query, as sent.
        headers: Its headers, as sent.
        body: Its body.
        pieces: What each read of the connection gave.
        ended: How the connection ended while the answer was read: "closed" by the service, "reset" by any error of a
            read, "deadline" where a read timed out; None where it stayed open, as far as it was read.
        is_redacted: Whether private text was replaced.
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
        """All bytes of the answer: status line, headers and body, framing included."""
        return b"".join(piece.data for piece in self.pieces)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recording to a file.

        Raises:
            OSError: The file cannot be written.
        """
        told = {
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
        Path(path).write_text(json.dumps(told, indent=1) + "\n", encoding="ascii")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recording:
        """Read the recording that a file holds.

        Raises:
            ServiceError: The file cannot be read, is no capture, is damaged, or was written by a later version.
        """
        try:
            told: Any = json.loads(Path(path).read_bytes())
        except OSError as error:
            raise ServiceError(
                f"The capture {path} cannot be read: {error.strerror}.", remedy="Check the path and its permissions."
            ) from error
        except (ValueError, RecursionError):
            told = None
        if not is_object(told) or told.get("format") != FORMAT:
            raise ServiceError(
                f"The file {path} is no capture of an exchange.",
                remedy="Write one with: foundry-shim capture FILE",
            )
        if told.get("version") != VERSION:
            raise ServiceError(
                f"The capture {path} has version {told.get('version')!r}; this release of the shim reads {VERSION}.",
                remedy="Update foundry-local-shim.",
            )
        try:
            return _read(told)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ServiceError(
                f"The capture {path} is damaged: {type(error).__name__}: {error}.",
                remedy="Record the exchange again with: foundry-shim capture FILE",
            ) from error


def _written_body(body: bytes) -> dict[str, Any]:
    """A body for a person to read: as JSON where the same bytes can be made of that again."""
    try:
        value = json.loads(body)
        for spelling, options in _SPELLINGS.items():
            if json.dumps(value, allow_nan=False, **options).encode() == body:
                return {"json": value, "spelling": spelling}
    except (ValueError, RecursionError):
        pass
    return {"bytes": body.decode("latin-1")}


def _read_body(told: dict[str, Any]) -> bytes:
    if "json" in told:
        return json.dumps(told["json"], **_SPELLINGS[told["spelling"]]).encode()
    return _text(told["bytes"]).encode("latin-1")


def _read(told: dict[str, Any]) -> Recording:
    """The recording in what a file tells.

    Raises:
        KeyError: A member is missing.
        TypeError: A member is of another kind.
        ValueError: A member has another value than any that is written.
    """
    request, response = told["request"], told["response"]
    ended = response["ended"]
    if ended not in _ENDS:
        raise ValueError(f"no such end: {ended!r}")
    return Recording(
        method=_text(request["method"]),
        target=_text(request["target"]),
        headers=[_header(line) for line in request["headers"]],
        body=_read_body(request["body"]),
        pieces=[Piece(_seconds(piece["at"]), _text(piece["bytes"]).encode("latin-1")) for piece in response["pieces"]],
        ended=ended,
        is_redacted=told["is_redacted"] is True,
        details={_text(name): _text(value) for name, value in told["details"].items()},
    )


def _header(line: Any) -> tuple[str, str]:
    name, colon, value = _text(line).partition(": ")
    if not colon:
        raise ValueError(f"{line!r:.40} is no header")
    return name, value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _seconds(value: Any) -> float:
    if not isinstance(value, int | float) or not isfinite(value) or value < 0:
        raise ValueError(f"{value!r:.40} is no time")
    return value


def _pool(backend: httpcore.NetworkBackend, context: ssl.SSLContext) -> httpcore.ConnectionPool:
    """The pool that httpx makes for itself, on another network."""
    return httpcore.ConnectionPool(
        ssl_context=context,
        max_connections=_LIMITS.max_connections,
        max_keepalive_connections=_LIMITS.max_keepalive_connections,
        keepalive_expiry=_LIMITS.keepalive_expiry,
        network_backend=backend,
    )


class RecordingTransport(httpx.HTTPTransport):
    """A transport of httpx that notes every exchange; for requests that follow one another, over HTTP/1.1.

    Attributes:
        recordings: One for each request, in order.
        connections: How many connections were opened.
        deadline: A moment of `time.monotonic`, beyond which no connect, read or write lasts, however slowly the service
            drips; then they time out. May be set anew at any time.
    """

    def __init__(self, *, verify: ssl.SSLContext | str | bool = True, deadline: float | None = None) -> None:
        """Begin without recordings; what `verify` means is said in httpx."""
        context = httpx.create_ssl_context(verify=verify)
        super().__init__(verify=context)
        self._pool = _pool(_RecordingBackend(self), context)
        self.recordings: list[Recording] = []
        self.connections = 0
        self.deadline = deadline

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request; note it, and the answer while it is read."""
        self.recordings.append(
            Recording(
                method=request.method,
                target=request.url.raw_path.decode("ascii"),
                headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw],
                body=request.read(),
            )
        )
        return super().handle_request(request)

    def time_left(self, timeout: float | None, error: type[Exception]) -> float | None:
        """What is left of a timeout before the deadline.

        Raises:
            Exception: Nothing is left; the given one.
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
        self._is_left = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            data = self._inner.read(max_bytes, self._transport.time_left(timeout, httpcore.ReadTimeout))
        except httpcore.ReadTimeout:
            self._note_end("deadline")
            raise
        except httpcore.ReadError:
            self._note_end("reset")
            raise
        if not data:
            self._note_end("closed")
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
        self._is_left = True
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
            self._is_left = True
            value.shutdown(how)

        return _Socket(shut_down)

    def _note_end(self, ended: Ended) -> None:
        """Note how the service ended the connection; what this side did says nothing of it."""
        if not self._is_left:
            self._recording.ended = ended


class _Socket:
    """What a client needs of a socket that leaves another thread's read."""

    def __init__(self, shutdown: Callable[[int], None]) -> None:
        self.shutdown = shutdown


class ReplayTransport(httpx.HTTPTransport):
    """A transport of httpx that answers each request with a recording: its pieces, one for each read, and its end.

    Where the recorded connection stayed open, a read behind the last piece times out at once: nothing more is known.
    """

    def __init__(self, recording: Recording, *, timed: bool = False) -> None:
        """Answer with the recording; if `timed`, each piece comes when it came then."""
        # Nothing is encrypted, so no certificates have to be read.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        super().__init__(verify=context)
        self._pool = _pool(_ReplayBackend(recording, timed=timed), context)


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
        self._left = threading.Event()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._left.is_set():
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
        """Wait until the piece came then; False where the client left first."""
        seconds = self._sent_at + piece.at - time.monotonic() if self._timed else 0.0
        if timeout is not None and seconds > timeout:
            self._left.wait(timeout)
            raise httpcore.ReadTimeout("the recorded answer comes later")
        return not (seconds > 0 and self._left.wait(seconds))

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
        self._left.set()

    def start_tls(self, *_: Any, **__: Any) -> httpcore.NetworkStream:
        return self

    def get_extra_info(self, info: str) -> Any:
        return _Socket(lambda _how: self._left.set()) if info == "socket" else None
