"""Requests and responses as both HTTP libraries have them: the part of httpx and httpx2 that the transport uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    RawHeaders = Sequence[tuple[bytes, bytes]]
    Extensions = dict[str, Any]


class URL(Protocol):
    """An address."""

    @property
    def scheme(self) -> str: ...  # noqa: D102
    @property
    def host(self) -> str: ...  # noqa: D102
    @property
    def netloc(self) -> bytes: ...  # noqa: D102
    @property
    def path(self) -> str: ...  # noqa: D102
    def copy_with(self, *, path: str, query: bytes | None) -> Self: ...  # noqa: D102


class Headers(Protocol):
    """The headers of a message."""

    def __init__(self, headers: RawHeaders) -> None: ...  # noqa: D107
    @property
    def raw(self) -> list[tuple[bytes, bytes]]: ...  # noqa: D102
    def get(self, key: str, default: str) -> str: ...  # noqa: D102
    def __setitem__(self, key: str, value: str) -> None: ...  # noqa: D105


class ByteStream(Protocol):
    """The bytes of a body; each kind of client uses its own half."""

    def __iter__(self) -> Iterator[bytes]: ...  # noqa: D105
    def __aiter__(self) -> AsyncIterator[bytes]: ...  # noqa: D105
    def close(self) -> None: ...  # noqa: D102
    async def aclose(self) -> None: ...  # noqa: D102


class Request(Protocol):
    """A request."""

    method: str
    headers: Headers
    extensions: Extensions

    def __init__(  # noqa: D107
        self, method: str, url: URL, *, headers: RawHeaders, content: bytes, extensions: Extensions
    ) -> None: ...
    @property
    def url(self) -> URL: ...  # noqa: D102
    @property
    def stream(self) -> ByteStream: ...  # noqa: D102
    @property
    def content(self) -> bytes: ...  # noqa: D102
    def read(self) -> bytes: ...  # noqa: D102


class Response(Protocol):
    """A response."""

    status_code: int
    extensions: Extensions
    stream: ByteStream

    def __init__(  # noqa: D107
        self, status_code: int, *, headers: RawHeaders, stream: object, extensions: Extensions
    ) -> None: ...
    @property
    def headers(self) -> Headers: ...  # noqa: D102
    @property
    def reason_phrase(self) -> str: ...  # noqa: D102
    @property
    def is_success(self) -> bool: ...  # noqa: D102
    @property
    def is_stream_consumed(self) -> bool: ...  # noqa: D102
    def read(self) -> bytes: ...  # noqa: D102
    async def aread(self) -> bytes: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102
    async def aclose(self) -> None: ...  # noqa: D102
    def iter_bytes(self) -> Iterator[bytes]: ...  # noqa: D102
    def aiter_bytes(self) -> AsyncIterator[bytes]: ...  # noqa: D102
