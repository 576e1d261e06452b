"""The official clients with the repair underneath, and HTTP clients for whoever builds the official ones themselves."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import openai

from shim import raw
from shim.reports import logger
from shim.transport import AsyncRepairTransport, RepairTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from openai import Stream
    from openai.types.chat import ChatCompletionChunk

    from shim.repairs import Policy

_NO_KEY = "none"
"""Foundry Local does not look at the key; the official client insists on one."""


def http_client(*, policy: Policy | None = None, **options: Any) -> openai.DefaultHttpxClient:
    """An HTTP client with the repair, for ``openai.OpenAI(http_client=…)``.

    It is the one that the installed openai makes for itself (`openai.DefaultHttpxClient`: httpx under 1.x and 2.x,
    httpx2 under 3.x), so its timeouts, limits, redirects and the proxies of the environment are openai's own.

    Args:
        policy: Which repairs are made.
        options: What `openai.DefaultHttpxClient` takes: ``timeout``, ``limits``, ``verify``, ``proxy``, ``http2`` …
    """
    client = openai.DefaultHttpxClient(**options)
    # openai closes a client that it made itself when that is collected; it did not make this one.
    weakref.finalize(client, _close, _transports(client))
    return repair(client, policy)


def async_http_client(*, policy: Policy | None = None, **options: Any) -> openai.DefaultAsyncHttpxClient:
    """The same for ``openai.AsyncOpenAI(http_client=…)``."""
    return repair(openai.DefaultAsyncHttpxClient(**options), policy)


def repair(client: Any, policy: Policy | None = None, *, service: str | None = None) -> Any:
    """Put the repair under an HTTP client that exists, in place.

    Args:
        client: A client of httpx or httpx2, sync or async. Its proxies, mounts and other settings stay.
        policy: Which repairs are made.
        service: The origin of a service that is Foundry Local's, if the program names one.

    Returns:
        The same client. One that has the repair already is left as it is.

    Raises:
        TypeError: It is no such client.
    """
    # There is no public way to the transports of a client that exists, and no other that keeps its proxies: these two
    # attributes are what instrumentation libraries use, in both families.
    try:
        transport, mounts = client._transport, client._mounts  # noqa: SLF001
    except AttributeError:
        message = f"http_client has to be a client of httpx or httpx2, not {type(client).__name__}."
        raise TypeError(message) from None
    # The client says it, not the transport: some, as the libraries' own MockTransport, are of both kinds.
    wrapper = AsyncRepairTransport if hasattr(client, "aclose") else RepairTransport

    def wrapped(inner: Any) -> Any:
        return inner if inner is None or isinstance(inner, wrapper) else wrapper(inner, policy, service=service)

    client._transport = wrapped(transport)  # noqa: SLF001
    client._mounts = {pattern: wrapped(mount) for pattern, mount in mounts.items()}  # noqa: SLF001
    return client


class OpenAI(openai.OpenAI):
    """`openai.OpenAI`, with streams that are right from any release of Foundry Local.

    Takes the same arguments. An ``api_key`` is not needed; an ``http_client`` of your own gets the repair put under it.
    For a `Policy` of your own pass ``http_client=shim.http_client(policy=…)``.
    """

    # Type checkers see the official signature.
    if not TYPE_CHECKING:  # pragma: no branch

        def __init__(self, **options: Any) -> None:
            """Make the client; see `openai.OpenAI` for the arguments."""
            super().__init__(**_completed(options, http_client))


class AsyncOpenAI(openai.AsyncOpenAI):
    """`openai.AsyncOpenAI`, with streams that are right from any release of Foundry Local; see `OpenAI`."""

    if not TYPE_CHECKING:  # pragma: no branch

        def __init__(self, **options: Any) -> None:
            """Make the client; see `openai.AsyncOpenAI` for the arguments."""
            super().__init__(**_completed(options, async_http_client))


def stream_chat(client: openai.OpenAI, **parameters: Any) -> Iterator[ChatCompletionChunk]:
    """Stream a chat completion through the client, or through `shim.raw` where the client cannot read the stream.

    The raw path asks the service again. It is taken only while nothing has been handed out, and only for what it can
    cure: a stream that the client's decoder fails on or in which it finds nothing. What the service answers, and every
    error of the connection, is raised.

    Args:
        client: `shim.OpenAI`, or any `openai.OpenAI`; not an asynchronous one.
        parameters: What ``client.chat.completions.create`` takes: ``model``, ``messages`` …

    Raises:
        openai.OpenAIError: What the client raises.
        TypeError: The client is asynchronous.
    """
    if isinstance(client, openai.AsyncOpenAI):
        raise TypeError("stream_chat takes a synchronous client; the asynchronous one streams by itself.")
    official: Any = client
    stream: Stream[ChatCompletionChunk] = official.chat.completions.create(**{**parameters, "stream": True})
    try:
        first = next(iter(stream), None)
    except (ValueError, AttributeError) as error:
        failure = type(error).__name__
    else:
        if first is not None:
            yield first
            yield from stream
            return
        failure = "no event"
    finally:
        stream.close()
    logger.warning("the official client could not read the stream (%s); asking again on the raw path", failure)
    headers = {name: value for name, value in client.default_headers.items() if isinstance(value, str)}
    headers.update(parameters.pop("extra_headers", None) or {})
    options: dict[str, Any] = {
        "api_key": client.api_key,
        "timeout": client.timeout,
        **parameters,
        "extra_headers": headers,
    }
    yield from raw.stream_chat(str(client.base_url), http_client=official._client, **options)  # noqa: SLF001


def _completed(options: dict[str, Any], new_client: Callable[[], Any]) -> dict[str, Any]:
    """The arguments of an official client, with a repaired HTTP client and with a key where there is none."""
    given = options.get("http_client")
    service = _origin(options.get("base_url") or os.environ.get("OPENAI_BASE_URL"))
    client = options["http_client"] = new_client() if given is None else repair(given)
    for transport in _transports(client):
        transport.service = service
    credentials = ("api_key", "admin_api_key", "workload_identity")
    if not os.environ.get("OPENAI_API_KEY") and all(options.get(name) is None for name in credentials):
        options["api_key"] = _NO_KEY
    return options


def _origin(base_url: Any) -> str | None:
    """Scheme, host and port of an address."""
    if base_url is None:
        return None
    parts = urlsplit(str(base_url))
    return f"{parts.scheme}://{parts.netloc}"


def _transports(client: Any) -> list[Any]:
    return [client._transport, *filter(None, client._mounts.values())]  # noqa: SLF001


def _close(transports: list[Any]) -> None:
    for transport in transports:
        transport.close()
