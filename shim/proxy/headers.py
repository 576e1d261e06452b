"""Which headers are forwarded: only those on a list, in both directions, so that no other can be forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    RawHeaders = Iterable[tuple[bytes, bytes]]

REPAIRS_HEADER: Final = "x-foundry-shim-repairs"
"""Names the repairs that were made in a plain response."""

# Nothing in them identifies or authorizes the client. The service needs the first four at most.
_REQUEST_HEADERS: Final = frozenset(
    {
        *(b"accept", b"accept-encoding", b"content-type", b"content-encoding", b"user-agent"),
        *(b"openai-beta", b"idempotency-key", b"x-request-id", b"x-client-request-id", b"traceparent"),
    }
)
_RESPONSE_HEADERS: Final = frozenset(
    {
        *(b"content-encoding", b"content-length", b"content-disposition", b"cache-control"),
        *(b"retry-after", b"retry-after-ms", b"x-should-retry", b"x-request-id"),
    }
)
_RESPONSE_PREFIXES: Final = (b"openai-", b"x-ratelimit-")
# A browser renders none of them as a page. Audio and images are those of /v1/audio and /v1/images.
_MEDIA_TYPES: Final = frozenset(
    {
        *("application/json", "application/x-ndjson", "application/jsonl", "application/problem+json"),
        *("application/octet-stream", "text/event-stream", "text/plain"),
        *("image/png", "image/jpeg", "image/webp", "image/gif"),
    }
)


def request_headers(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """The headers of a client's request that the service gets; the names are lower-case.

    What a client names in ``Connection`` belongs to that connection alone (RFC 9110, section 7.6.1).
    """
    received = list(headers)
    named = {name.strip().lower() for key, value in received if key == b"connection" for name in value.split(b",")}
    return [(name, value) for name, value in received if name in _REQUEST_HEADERS and name not in named]


def response_headers(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """The headers of the service's response that the client gets, with a media type that no browser renders."""
    received = [(name.lower(), value) for name, value in headers]
    named = {name.strip().lower() for key, value in received if key == b"connection" for name in value.split(b",")}
    kept = [
        (name, value)
        for name, value in received
        if (name in _RESPONSE_HEADERS or name.startswith(_RESPONSE_PREFIXES)) and name not in named
    ]
    types = [value for name, value in received if name == b"content-type"]
    return [*kept, (b"content-type", _safe_type(types[0] if len(types) == 1 else b""))]


def media_type(content_type: str) -> str:
    """The media type in a ``Content-Type``, without its parameters, lower-case."""
    return content_type.partition(";")[0].strip().lower()


def _safe_type(content_type: bytes) -> bytes:
    named = media_type(content_type.decode("latin-1"))
    if named in _MEDIA_TYPES or named.startswith("audio/"):
        return content_type
    return b"text/plain; charset=utf-8" if named.startswith("text/") else b"application/octet-stream"
