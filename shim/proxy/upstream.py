"""The service's side of a request: its address, and a transport that takes no malformed or endless response head."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
import httpcore
import httpx

from shim.service.find import split_credentials
from shim.transport.requests import origin_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ssl import SSLContext

    from httpcore import SOCKET_OPTION

_CONNECT_SECONDS: Final = 5.0
_MAX_CONNECTIONS: Final = 1000
_MAX_HEAD_BYTES: Final = 128 * 2**10
_MAX_HEADERS: Final = 100
"""What several clients take at most."""
_HEAD_READ_BYTES: Final = 8 * 2**10
_FINAL_STATUSES: Final = range(HTTPStatus.OK, 600)


@dataclass(frozen=True, slots=True)
class Upstream:
    """The address of the service.

    Attributes:
        base_url: The address of its API, without a name and password.
        authorization: The value of ``Authorization`` for it, if the address has a name and password.
    """

    base_url: str
    authorization: str | None = None

    @classmethod
    def of(cls, address: str) -> Self:
        """The name and password in an address are taken out of it, so that no text about the service shows them."""
        return cls(*split_credentials(address))

    @property
    def origin(self) -> str:
        """Scheme, host and port of the service."""
        return origin_of(httpx.URL(self.base_url))


class InvalidResponseError(httpx.RemoteProtocolError):
    """The service answered with something that is not a response of HTTP/1.1 to a request."""


class UpstreamTransport(httpx.AsyncHTTPTransport):
    """A transport to the service, for requests of different clients.

    Each request has a connection of its own: whatever the service sends beyond a response cannot become a part of the
    response to the next request, which may be another client's.
    """

    def __init__(self, context: SSLContext | None = None) -> None:
        """Start without a connection; the context is for an address that begins with https."""
        context = context or httpx.create_ssl_context(trust_env=False)
        super().__init__(verify=context, trust_env=False)
        # httpx has no public way to another network; the pool is the one that it makes for itself.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=0,
            network_backend=_Network(),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request.

        Raises:
            httpx.HTTPError: There is no response, or a malformed one.
        """
        try:
            with anyio.fail_after(request.extensions["timeout"]["read"]):
                response = await super().handle_async_request(request)
        except TimeoutError as error:
            raise httpx.ReadTimeout("the response head is not complete", request=request) from error
        stream = response.extensions["network_stream"]
        if isinstance(stream, _Stream):
            stream.is_reading_head = False
        if (problem := _problem(response)) is not None:
            await response.aclose()
            raise InvalidResponseError(problem, request=request)
        return response


def timeouts(silence: float) -> dict[str, Any]:
    """The extension of a request that limits how long the service may be silent, in seconds."""
    return {"timeout": httpx.Timeout(silence, connect=min(silence, _CONNECT_SECONDS)).as_dict()}


def _problem(response: httpx.Response) -> str | None:
    """What is wrong with a response head, if anything is."""
    if response.status_code not in _FINAL_STATUSES:
        return f"its status is {response.status_code}"
    if "content-length" in response.headers and "transfer-encoding" in response.headers:
        return "it has both Content-Length and Transfer-Encoding"
    if len(response.headers.raw) > _MAX_HEADERS:
        return f"it has more than {_MAX_HEADERS} headers"
    return None


class _Network(httpcore.AsyncNetworkBackend):
    """The network of httpcore, with a limit for response heads."""

    def __init__(self) -> None:
        backend: Any = httpcore.AnyIOBackend()  # its type depends on whether anyio is installed
        self._inner: httpcore.AsyncNetworkBackend = backend

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._inner.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection of one request.

    Attributes:
        is_reading_head: Whether the final response head is still to be received.
    """

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        self._head_bytes = 0
        self.is_reading_head = True

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - the same
        if not self.is_reading_head:
            return await self._inner.read(max_bytes, timeout)
        # Interim responses (1xx) are each complete, so the HTTP library's own limit does not end a run of them. Small
        # reads keep the time short in which nobody else is served.
        data = await self._inner.read(min(max_bytes, _HEAD_READ_BYTES), timeout)
        self._head_bytes += len(data)
        if self._head_bytes > _MAX_HEAD_BYTES:
            raise httpcore.RemoteProtocolError(f"its head is larger than {_MAX_HEAD_BYTES} bytes")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the same
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the same
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
