"""The repair under programs that know nothing of it: under every client of httpx and httpx2 in this process.

A client of either library asks one method of its class for the transport of each request, and again after each
redirect: `_transport_for_url`. `install` wraps that method, at once in a library that is loaded, and in another one
when the program imports it. Nothing else is replaced, and neither library is imported here.
"""

from __future__ import annotations

import sys
import threading
import weakref
from functools import cached_property, lru_cache, partial, wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from shim.repairs import Policy
    from shim.transport.hooked import HookedTransports

LIBRARIES: Final = ("httpx", "httpx2")

_CHOOSER: Final = "_transport_for_url"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_CHAT_PATH: Final = "/chat/completions"
_VERSIONED_PATHS: Final = ("/v1/responses", "/v1/embeddings", "/v1/models")
# A client, its transport, and the public method by which that sends a request.
_CLASSES: Final = (
    ("Client", "HTTPTransport", "handle_request"),
    ("AsyncClient", "AsyncHTTPTransport", "handle_async_request"),
)


def install(*, hosts: Iterable[str] = (), policy: Policy | None = None) -> None:
    """Repair what every HTTP client in this process asks of a local service.

    It reaches all clients of httpx and httpx2, sync and async, made before or after, with whatever transport. Repaired
    are the responses of loopback addresses and of the hosts named, at the paths of the OpenAI API:
    ``…/chat/completions``, and ``responses``, ``models`` and ``embeddings`` under ``/v1``. All other requests pass
    untouched and unread. The shim's own clients keep their policy.

    A further call adds its hosts, and replaces the policy if it has one.

    Args:
        hosts: Hosts that are Foundry Local's beside this machine, each as ``host`` or ``host:port``.
        policy: Which repairs are made.

    Raises:
        ValueError: One of the hosts is not valid.
    """
    named = [hosts] if isinstance(hosts, str) else hosts
    _installation.install({read_named_host(name) for name in named}, policy)


def uninstall() -> None:
    """Take `install` back: from the next request on, every client does what it did before."""
    _installation.uninstall()


class _Scope:
    """Which requests are repaired, and under which policy."""

    def __init__(self, named: frozenset[tuple[str, int | None]], policy: Policy | None) -> None:
        self.named = named
        self.policy = policy

    def covers(self, url: Any) -> bool:
        """Whether a request to this address is repaired. Every request of the process pays for this."""
        return (_read_host(url.raw_host).is_loopback or self.names(url)) and _is_api_path(url.path)

    def names(self, url: Any) -> bool:
        """Whether the program has named the host of this address."""
        if not self.named:
            return False
        host = _read_host(url.raw_host).name
        port = url.port or _DEFAULT_PORTS.get(url.scheme)
        return (host, None) in self.named or (host, port) in self.named


class _Installation:
    """What this process has installed: the scope while it is on, and the hooks, which stay once they are made.

    The hooks are never taken back: another library may have wrapped them since.
    """

    def __init__(self) -> None:
        self.scope: _Scope | None = None
        self._lock = threading.Lock()
        self._finder = _Finder(self.hook)
        self._hooked: weakref.WeakSet[type] = weakref.WeakSet()

    def install(self, named: Iterable[tuple[str, int | None]], policy: Policy | None) -> None:
        """Switch the hooks on, and make those that are missing."""
        with self._lock:
            before = self.scope or _Scope(frozenset(), None)
            self.scope = _Scope(before.named.union(named), policy or before.policy)
            if self._finder not in sys.meta_path:
                sys.meta_path.insert(0, self._finder)
        for name in LIBRARIES:
            # Importing it again waits for a thread that is just importing it.
            if sys.modules.get(name) is not None:
                self.hook(import_module(name))

    def uninstall(self) -> None:
        """Switch the hooks off."""
        with self._lock:
            self.scope = None
            if self._finder in sys.meta_path:
                sys.meta_path.remove(self._finder)

    def hook(self, library: ModuleType) -> None:
        """Hook the classes of a library, each once."""
        for client, transport, send in _CLASSES:
            # Another library may have put a subclass of its own in the place of a class.
            if owner := _find_owner(getattr(library, client, None), _CHOOSER):
                self._hook(owner, _CHOOSER, self._wrap_chooser(getattr(owner, _CHOOSER)))
            elif owner := _find_owner(getattr(library, transport, None), send):
                self._hook(owner, send, self._wrap_sender(send, getattr(owner, send)))

    def _hook(self, owner: type, name: str, function: Callable[..., Any]) -> None:
        with self._lock:
            if owner not in self._hooked:
                setattr(owner, name, function)
                self._hooked.add(owner)

    def _wrap_chooser(self, choose: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        @wraps(choose)
        def transport_for_url(client: Any, url: Any) -> Any:
            transport = choose(client, url)
            scope = self.scope
            if scope is None or not scope.covers(url):
                return transport
            is_async = hasattr(client, "aclose")
            return self._transports.wrap(transport, url, scope.policy, is_async=is_async, is_named=scope.names(url))

        return transport_for_url

    def _wrap_sender(self, name: str, send: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """The public method underneath, for a release of a library that chooses its transports in another way."""

        @wraps(send)
        def handle_request(transport: Any, request: Any) -> Any:
            scope = self.scope
            if scope is None or not scope.covers(request.url) or self._is_under_repair(request):
                return send(transport, request)
            wrapped = self._transports.wrap(
                transport,
                request.url,
                scope.policy,
                is_async="async" in name,
                is_named=scope.names(request.url),
                inner=_Sender(partial(send, transport)),
            )
            return getattr(wrapped, name)(request)

        return handle_request

    # Nothing of the repair is loaded before a request needs it.

    @cached_property
    def _transports(self) -> HookedTransports:
        from shim.transport.hooked import HookedTransports  # noqa: PLC0415

        return HookedTransports()

    @cached_property
    def _is_under_repair(self) -> Callable[[Any], bool]:
        from shim.transport.hooked import is_under_repair  # noqa: PLC0415

        return is_under_repair


class _Sender:
    """The original method of a transport, in the place of that transport."""

    def __init__(self, send: Callable[[Any], Any]) -> None:
        self.handle_request = self.handle_async_request = send


class _Finder:
    """Stands in ``sys.meta_path`` and hooks the libraries as they are imported; all other imports pass through."""

    def __init__(self, hook: Callable[[ModuleType], None]) -> None:
        self._hook = hook

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a library by the finders after this one, those before having been asked."""
        if name not in LIBRARIES or self not in sys.meta_path:
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            find: Any = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find else None
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    loader: Any = _Loader(spec.loader, self._hook)
                    spec.loader = loader
                return spec
        return None


class _Loader:
    """The loader of a library, which hooks it once it is loaded."""

    def __init__(self, loader: Any, hook: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._hook = hook

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave it to the loader."""
        create = getattr(self._loader, "create_module", None)
        return create(spec) if create else None

    def exec_module(self, module: ModuleType) -> None:
        """Give the loader its place back, load the library and hook it."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._hook(module)


class _Host(NamedTuple):
    """A host, in the one spelling that is compared."""

    name: str
    is_loopback: bool


@lru_cache(maxsize=1024)
def _read_host(spelled: bytes) -> _Host:
    """Read the host of an address, which the libraries keep as it is written but for upper case."""
    name = spelled.decode("ascii", "replace").lower().strip("[]").rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return _Host(name, is_loopback=True)
    from ipaddress import ip_address  # noqa: PLC0415 - both libraries have loaded it

    try:
        address = ip_address(name)
    except ValueError:
        return _Host(name, is_loopback=_is_short_loopback(name))
    address = getattr(address, "ipv4_mapped", None) or address
    # A client that connects to "any address" reaches this machine.
    return _Host(str(address), is_loopback=address.is_loopback or address.is_unspecified)


def _is_short_loopback(name: str) -> bool:
    """Whether it is an IPv4 address of this machine in a form that only the system's resolver reads, as ``127.1``."""
    if not name[:1].isdigit():
        return False
    import socket  # noqa: PLC0415 - the same

    try:
        first, *_ = socket.inet_aton(name)
    except OSError:
        return False
    return first == 127  # noqa: PLR2004 - 127.0.0.0/8


def read_named_host(text: str) -> tuple[str, int | None]:
    """The host that a program or user has named, and its port if one is given."""
    from urllib.parse import urlsplit  # noqa: PLC0415 - not every process names a host

    address = text.strip()
    if "//" not in address:
        address = f"//[{address}]" if address.count(":") > 1 and "[" not in address else f"//{address}"
    try:
        parts = urlsplit(address)
        host, port = (parts.hostname or "").encode("idna"), parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        host, port = b"", None
    if not host or not set(address).isdisjoint("*?, "):
        raise ValueError(f"{text!r} is not a host. Name it as 10.0.0.7, 10.0.0.7:5273 or gateway.example.")
    return _read_host(host).name, port


def _is_api_path(path: str) -> bool:
    """Whether a path is one of the OpenAI API's that the shim repairs."""
    if path.endswith((_CHAT_PATH, *_VERSIONED_PATHS)):
        return True
    # One model. `/models/…` elsewhere may be a file of any size.
    return path.rpartition("/")[0].endswith("/v1/models")


def _find_owner(cls: Any, name: str) -> type | None:
    """The class that defines a method which a class has."""
    return next((each for each in getattr(cls, "__mro__", ()) if name in vars(each)), None)


_installation: Final = _Installation()
