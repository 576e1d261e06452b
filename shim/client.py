"""The official clients with the repair underneath, and HTTP clients for programs that build their own."""

from __future__ import annotations

import os
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import openai
from anyio import to_thread

from shim import raw
from shim.errors import ServiceError
from shim.fast import decoder as fast_decoder
from shim.fast import models as fast_models
from shim.reports import logger
from shim.service.locator import Locator, Route
from shim.transport import AsyncRepairTransport, RepairTransport
from shim.transport.hosts import is_loopback
from shim.transport.routes import ROUTE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping

    import httpx
    import httpx2
    from openai import Stream
    from openai.types.chat import ChatCompletionChunk

    from shim.repairs import Policy

ClientClass = TypeVar("ClientClass", bound=type[Any])

_NO_KEY = "none"
"""Foundry Local does not look at the key; the official client insists on one."""

_NOT_LOCATED = "http://foundry-local.invalid/v1"
"""The address of a client that has not looked for its service yet; no name that ends so is ever resolved."""

_ADDRESS_VARIABLE = "OPENAI_BASE_URL"
_OF_THE_ENVIRONMENT = ("organization", "project", "admin_api_key")
"""What openai reads from the environment beside the key, and sends."""


class ServiceNotFoundError(ServiceError, openai.OpenAIError):
    """No service runs that a client without an address could use."""


def http_client(*, policy: Policy | None = None, **options: Any) -> openai.DefaultHttpxClient:
    """An HTTP client with the repair, for ``openai.OpenAI(http_client=…)``.

    It is the one that the installed openai makes for itself (`openai.DefaultHttpxClient`: httpx under 1.x and 2.x,
    httpx2 under 3.x), so its timeouts, limits, redirects and the proxies of the environment are openai's own. These
    proxies are for other machines: a loopback address is asked directly, unless you give a ``proxy`` or a mount for it.

    Args:
        policy: Which repairs are made.
        options: What `openai.DefaultHttpxClient` takes: ``timeout``, ``limits``, ``verify``, ``proxy``, ``http2`` …
    """
    client = _without_proxy_to_this_machine(openai.DefaultHttpxClient(**options), options)
    # openai closes a client that it made itself when that is collected; it did not make this one.
    weakref.finalize(client, _close, _transports(client))
    return repair(client, policy)


def async_http_client(*, policy: Policy | None = None, **options: Any) -> openai.DefaultAsyncHttpxClient:
    """The same for ``openai.AsyncOpenAI(http_client=…)``."""
    return repair(_without_proxy_to_this_machine(openai.DefaultAsyncHttpxClient(**options), options), policy)


def repair(client: Any, policy: Policy | None = None, *, service: str | None = None) -> Any:
    """Put the repair under an HTTP client that exists, in place.

    Args:
        client: A client of httpx or httpx2, sync or async. Its proxies, mounts and other settings are kept.
        policy: Which repairs are made.
        service: The origin of a service that is Foundry Local's, if the program names one.

    Returns:
        The same client. One that has the repair already is left as it is.

    Raises:
        TypeError: It is not a client of httpx or httpx2.
    """
    # The transports of an existing client are not public, and nothing else keeps its proxies: these two
    # attributes are what instrumentation libraries use, in both families.
    try:
        transport, mounts = client._transport, client._mounts  # noqa: SLF001
    except AttributeError:
        message = f"http_client has to be a client of httpx or httpx2, not {type(client).__name__}."
        raise TypeError(message) from None
    # The client decides, not the transport: some, such as the libraries' own MockTransport, are of both kinds.
    wrapper = AsyncRepairTransport if hasattr(client, "aclose") else RepairTransport

    def wrapped(inner: Any) -> Any:
        return inner if inner is None or isinstance(inner, wrapper) else wrapper(inner, policy, service=service)

    client._transport = wrapped(transport)  # noqa: SLF001
    client._mounts = {pattern: wrapped(mount) for pattern, mount in mounts.items()}  # noqa: SLF001
    return client


def _with_fast_path(client_class: ClientClass) -> ClientClass:
    """Let the clients of a class take the fast path, as far as the installed openai and pydantic allow it."""
    fast_models.attach(client_class)
    fast_decoder.attach(client_class)
    return client_class


@_with_fast_path
class OpenAI(openai.OpenAI):
    """`openai.OpenAI` with correct streams from any release of Foundry Local.

    Takes the arguments of `openai.OpenAI` and those below. An ``api_key`` is not needed. An ``http_client`` of your own
    gets the repair under it. ``with_options()`` and ``copy()`` keep the policy and the path.

    Without a ``base_url``, and without ``OPENAI_BASE_URL`` in the environment, it uses the service in
    ``FOUNDRY_LOCAL_ENDPOINT``, or else looks for one that runs on this machine, as `FoundryLocal.attach` does. It never
    goes to a cloud service that you have not named, and sends no key of the environment to a service that it has
    discovered. If that service moves to another port, the client finds it again. `AsyncOpenAI` looks for it at the
    first request.

    Args:
        policy: Which repairs are made. An ``http_client`` that has the repair already keeps its own policy.
        fast: Whether valid chunks are built by a compiled validator, which gives equal objects in a fraction of the
            time. If False, the official client builds every chunk.

    Raises:
        openai.OpenAIError: No address is given, and no service is found; it is a `ServiceError` as well.
    """

    if TYPE_CHECKING:
        # The arguments of every supported major, since a type checker knows one of them.
        def __init__(  # noqa: D107, PLR0913
            self,
            *,
            policy: Policy | None = None,
            fast: bool = True,
            api_key: str | Callable[[], str] | None = None,
            admin_api_key: str | None = None,
            workload_identity: Any = None,
            organization: str | None = None,
            project: str | None = None,
            webhook_secret: str | None = None,
            provider: Any = None,
            base_url: str | httpx.URL | httpx2.URL | openai.NotGiven | None = None,
            data_residency: Any = None,
            websocket_base_url: str | httpx.URL | httpx2.URL | None = None,
            timeout: float | openai.Timeout | openai.NotGiven | None = ...,
            max_retries: int = ...,
            default_headers: Mapping[str, str] | None = None,
            default_query: Mapping[str, object] | None = None,
            http_client: httpx.Client | httpx2.Client | None = None,
            _strict_response_validation: bool = False,
        ) -> None: ...

    else:

        def __init__(self, *, policy: Policy | None = None, fast: bool = True, **options: Any) -> None:
            """Make the client; see the class for the arguments."""
            self.policy = policy
            self.takes_fast_path = fast
            self._locator = _take_locator(options)
            super().__init__(**_completed(options, http_client, policy, self._locator))
            if self._locator is not None:
                _keep_out_environment(self, options, options.get("default_headers"))
                with _as_openai_error():
                    self._locator.locate()
                _follow(self)

        def _prepare_options(self, options: Any) -> Any:
            _follow(self)
            return super()._prepare_options(options)

        def _prepare_request(self, request: Any) -> None:
            _add_route(self, request)
            super()._prepare_request(request)

        def copy(self, **options: Any) -> Any:
            """Make another client with the settings of this one; see the official `copy` for the arguments."""
            return _settings_kept(self, super().copy, options)

        with_options = copy


@_with_fast_path
class AsyncOpenAI(openai.AsyncOpenAI):
    """`openai.AsyncOpenAI` with correct streams from any release of Foundry Local; see `OpenAI` for the arguments."""

    if TYPE_CHECKING:
        # The arguments of every supported major, since a type checker knows one of them.
        def __init__(  # noqa: D107, PLR0913
            self,
            *,
            policy: Policy | None = None,
            fast: bool = True,
            api_key: str | Callable[[], Awaitable[str]] | None = None,
            admin_api_key: str | None = None,
            workload_identity: Any = None,
            organization: str | None = None,
            project: str | None = None,
            webhook_secret: str | None = None,
            provider: Any = None,
            base_url: str | httpx.URL | httpx2.URL | openai.NotGiven | None = None,
            data_residency: Any = None,
            websocket_base_url: str | httpx.URL | httpx2.URL | None = None,
            timeout: float | openai.Timeout | openai.NotGiven | None = ...,
            max_retries: int = ...,
            default_headers: Mapping[str, str] | None = None,
            default_query: Mapping[str, object] | None = None,
            http_client: httpx.AsyncClient | httpx2.AsyncClient | None = None,
            _strict_response_validation: bool = False,
        ) -> None: ...

    else:

        def __init__(self, *, policy: Policy | None = None, fast: bool = True, **options: Any) -> None:
            """Make the client; see the class for the arguments."""
            self.policy = policy
            self.takes_fast_path = fast
            self._locator = _take_locator(options)
            super().__init__(**_completed(options, async_http_client, policy, self._locator))
            if self._locator is not None:
                _keep_out_environment(self, options, options.get("default_headers"))

        async def _prepare_options(self, options: Any) -> Any:
            if self._locator is not None and self._locator.base_url is None:
                # Looking for the service reads from sockets and files, and may start a command.
                with _as_openai_error():
                    await to_thread.run_sync(self._locator.locate, abandon_on_cancel=True)
            _follow(self)
            return await super()._prepare_options(options)

        async def _prepare_request(self, request: Any) -> None:
            _add_route(self, request)
            await super()._prepare_request(request)

        def copy(self, **options: Any) -> Any:
            """Make another client with the settings of this one; see the official `copy` for the arguments."""
            return _settings_kept(self, super().copy, options)

        with_options = copy


def stream_chat(client: openai.OpenAI, **parameters: Any) -> Iterator[ChatCompletionChunk]:
    """Stream a chat completion through the client, or through `shim.raw` where the client cannot read the stream.

    The raw path asks the service again. It is taken only before the program has received anything, and only where it
    helps: for a stream that the client's decoder fails on or in which it finds nothing. An error of the service or of
    the connection is raised.

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


@contextmanager
def _as_openai_error() -> Generator[None]:
    """Raise what keeps a service from being found as an exception of openai's as well."""
    try:
        yield
    except ServiceError as error:
        raise ServiceNotFoundError(error.message, remedy=error.remedy) from error.__cause__


def _take_locator(options: dict[str, Any]) -> Locator | None:
    """What looks for the service, taken out of a client's arguments; None if somebody has named an address."""
    locator: Locator | None = options.pop("_locator", None)
    if _is_address(options.get("base_url")):
        return None
    # The official client takes an empty address for one, and then finds no host in it.
    options.pop("base_url", None)
    if any(options.get(name) is not None for name in ("provider", "data_residency")):
        return None
    return locator or (None if _is_address(os.environ.get(_ADDRESS_VARIABLE)) else Locator())


def _is_address(base_url: Any) -> bool:
    return base_url is not None and not isinstance(base_url, openai.NotGiven) and bool(str(base_url).strip())


def _completed(
    options: dict[str, Any], new_client: Callable[..., Any], policy: Policy | None, locator: Locator | None
) -> dict[str, Any]:
    """The arguments of an official client, with a repaired HTTP client and with a key where there is none."""
    given = options.get("http_client")
    if locator is not None:
        options["base_url"] = locator.base_url or _NOT_LOCATED
    service = _origin(options.get("base_url") or os.environ.get(_ADDRESS_VARIABLE))
    client = new_client(policy=policy) if given is None else repair(given, policy)
    options["http_client"] = client
    for transport in _transports(client):
        transport.service = service
    credentials = ["api_key", "workload_identity"]
    if locator is None:
        credentials.append("admin_api_key")
    if all(options.get(name) is None for name in credentials) and (locator or not os.environ.get("OPENAI_API_KEY")):
        options["api_key"] = _NO_KEY
    return options


def _keep_out_environment(client: Any, given: Mapping[str, Any], headers: Iterable[str] | None) -> None:
    """Take out of a client what openai has read from the environment for its own service.

    Args:
        client: The client.
        given: The arguments that the program has given.
        headers: The names of the default headers that it has given.
    """
    for name in _OF_THE_ENVIRONMENT:
        if hasattr(client, name):
            setattr(client, name, given.get(name))
    names = set(headers or ())
    # They are not public. They are those of the program, and those in OPENAI_CUSTOM_HEADERS.
    client._custom_headers = {name: value for name, value in client._custom_headers.items() if name in names}  # noqa: SLF001


def _follow(client: Any) -> None:
    """Let a client ask where its locator has found the service by now."""
    if (locator := client._locator) is None or (found := locator.base_url) is None:  # noqa: SLF001
        return
    now = str(client.base_url).rstrip("/")
    if now == found:
        return
    if not locator.has_been_at(now) and now != _NOT_LOCATED:
        client._locator = None  # noqa: SLF001 - the program has named another address since
        return
    client.base_url = found
    for transport in _transports(client._client):  # noqa: SLF001
        transport.service = _origin(found)


def _add_route(client: Any, request: Any) -> None:
    """Let the transport find the service again, if nobody has named its address."""
    if client._locator is not None:  # noqa: SLF001
        request.extensions[ROUTE] = Route(client._locator, str(client.base_url).rstrip("/"))  # noqa: SLF001


def _origin(base_url: Any) -> str | None:
    """Scheme, host and port of an address."""
    if not _is_address(base_url):
        return None
    parts = urlsplit(str(base_url))
    return f"{parts.scheme}://{parts.netloc}"


def _settings_kept(client: Any, copy: Callable[..., Any], options: dict[str, Any]) -> Any:
    """A copy of a client, with its policy and its path. A class derived from the client's may not take them."""
    if (given := options.get("http_client")) is not None:
        repair(given, client.policy)
    copied = copy(**options)
    copied.policy, copied.takes_fast_path = client.policy, client.takes_fast_path
    is_readdressed = _is_address(options.get("base_url")) or copied.base_url != client.base_url
    if client._locator is not None and not is_readdressed:  # noqa: SLF001
        copied._locator = client._locator  # noqa: SLF001
        kept = {name: options.get(name) or getattr(client, name, None) for name in _OF_THE_ENVIRONMENT}
        names = set(client._custom_headers) | set(options.get("default_headers") or {})  # noqa: SLF001
        _keep_out_environment(copied, kept, names | set(options.get("set_default_headers") or {}))
    return copied


class _ThisMachine:
    """Matches the addresses of this machine, where a client of httpx or httpx2 has the pattern of a proxy."""

    def matches(self, other: Any) -> bool:
        """Whether a request goes to this machine."""
        return is_loopback(other.host)


def _without_proxy_to_this_machine(client: Any, options: Mapping[str, Any]) -> Any:
    """Let a client ask this machine directly, not by a proxy of the environment; a proxy of the program's is kept."""
    if options.get("proxy") is None and options.get("proxies") is None:
        mounts = client._mounts  # noqa: SLF001
        given = {
            pattern: mount for pattern, mount in mounts.items() if pattern.pattern in (options.get("mounts") or {})
        }
        client._mounts = {**given, _ThisMachine(): None, **mounts}  # noqa: SLF001
    return client


def _transports(client: Any) -> list[Any]:
    return [client._transport, *filter(None, client._mounts.values())]  # noqa: SLF001


def _close(transports: list[Any]) -> None:
    for transport in transports:
        transport.close()
