"""The repair under programs that know nothing of it: under every client of httpx and httpx2 in this process.

A client of either library asks one method of its class for the transport of each request, and again after each
redirect: `_transport_for_url`. `install` wraps that method, at once in a library that is loaded, and in another one
when the program imports it. Nothing else is replaced, and neither library is imported here.
"""

from __future__ import annotations

import sys
import threading
import weakref
from functools import lru_cache, partial, wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from shim.repairs import Policy
    from shim.transport.memory import Memory

LIBRARIES: Final = ("httpx", "httpx2")

_CHOOSER: Final = "_transport_for_url"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_CHAT_PATH: Final = "/chat/completions"
_VERSIONED_PATHS: Final = ("/v1/responses", "/v1/embeddings", "/v1/models")
# An application in this same process is no service: the test clients of web frameworks call it by such a transport.
_IN_PROCESS: Final = frozenset({"ASGITransport", "WSGITransport", "_TestClientTransport"})


class _Kind(NamedTuple):
    """The names of what belongs together: a client, its transport, what sends a request, and the repair for it."""

    client: str
    transport: str
    send: str
    repair: str


_KINDS: Final = (
    _Kind("Client", "HTTPTransport", "handle_request", "RepairTransport"),
    _Kind("AsyncClient", "AsyncHTTPTransport", "handle_async_request", "AsyncRepairTransport"),
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
        ValueError: Something among the hosts is not one.
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
        self._hosts = frozenset(host for host, _ in named)

    def covers(self, url: Any) -> bool:
        """Whether a request to this address is repaired. Every request of the process pays for this."""
        host = _read_host(url.raw_host)
        return (host.is_loopback or (host.name in self._hosts and self.names(url))) and _is_api_path(url.path)

    def names(self, url: Any) -> bool:
        """Whether the program has named the host of this address."""
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
        self._memories: dict[int, tuple[weakref.ref[Any], Memory]] = {}

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
        for kind in _KINDS:
            client, transport = getattr(library, kind.client, None), getattr(library, kind.transport, None)
            # Another library may have put a subclass of its own in the place of a class.
            if owner := _find_owner(client, _CHOOSER):
                self._hook(owner, _CHOOSER, self._wrap_chooser(owner, kind))
            elif owner := _find_owner(transport, kind.send):
                self._hook(owner, kind.send, self._wrap_sender(owner, kind))

    def _hook(self, owner: type, name: str, function: Callable[..., Any]) -> None:
        with self._lock:
            if owner not in self._hooked:
                setattr(owner, name, function)
                self._hooked.add(owner)

    def _wrap_chooser(self, owner: type, kind: _Kind) -> Callable[..., Any]:
        choose: Callable[[Any, Any], Any] = getattr(owner, _CHOOSER)

        @wraps(choose)
        def transport_for_url(client: Any, url: Any) -> Any:
            transport = choose(client, url)
            scope = self.scope
            if scope is None or not scope.covers(url) or _is_exempt(transport):
                return transport
            return self._repair(transport, transport, url, scope, kind)

        return transport_for_url

    def _wrap_sender(self, owner: type, kind: _Kind) -> Callable[..., Any]:
        """The public method underneath, for a release of a library that chooses its transports in another way."""
        send: Callable[[Any, Any], Any] = getattr(owner, kind.send)

        @wraps(send)
        def handle_request(transport: Any, request: Any) -> Any:
            scope = self.scope
            if scope is None or not scope.covers(request.url) or _is_exempt(transport) or _is_under_repair(request):
                return send(transport, request)
            repaired = self._repair(transport, _Sender(partial(send, transport)), request.url, scope, kind)
            return getattr(repaired, kind.send)(request)

        return handle_request

    def _repair(self, transport: Any, inner: Any, url: Any, scope: _Scope, kind: _Kind) -> Any:
        """The repair around a transport, for one request. The transport is kept alive by its client alone."""
        from shim import transport as transports  # noqa: PLC0415 - nothing of it is loaded before it is needed
        from shim.transport.own import is_own_request  # noqa: PLC0415
        from shim.transport.requests import origin_of  # noqa: PLC0415

        if is_own_request():
            return inner
        service = origin_of(url) if scope.names(url) else None
        wrapper: Callable[..., Any] = getattr(transports, kind.repair)
        return wrapper(inner, scope.policy, service=service, memory=self._memory_of(transport))

    def _memory_of(self, transport: Any) -> Memory:
        """What has been learned through a transport, for as long as that exists."""
        from shim.transport.memory import Memory  # noqa: PLC0415 - the same

        identity = id(transport)
        if (entry := self._memories.get(identity)) and entry[0]() is transport:
            return entry[1]
        memory = Memory()
        try:
            # Not a WeakKeyDictionary: a transport of somebody's own may compare equal to another, or have no hash.
            reference = weakref.ref(transport, partial(self._forget, identity))
        except TypeError:  # its class has slots, and none for weak references
            return memory
        self._memories[identity] = reference, memory
        return memory

    def _forget(self, identity: int, reference: weakref.ref[Any]) -> None:
        if (entry := self._memories.get(identity)) and entry[0] is reference:
            self._memories.pop(identity, None)


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
    """The host in what a person writes, and its port if that is written."""
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


def _is_exempt(transport: Any) -> bool:
    """Whether a transport repairs already, belongs to the shim, or asks an application in this process."""
    return any(
        str(each.__module__).partition(".")[0] == "shim" or each.__name__ in _IN_PROCESS
        for each in type(transport).__mro__
    )


def _is_under_repair(request: Any) -> bool:
    """Whether a request comes from a transport that repairs."""
    from shim.reports import EXTENSION  # noqa: PLC0415 - nothing of it is loaded before it is needed

    return EXTENSION in request.extensions


def _find_owner(cls: Any, name: str) -> type | None:
    """The class that defines a method which a class has."""
    return next((each for each in getattr(cls, "__mro__", ()) if name in vars(each)), None)


_installation: Final = _Installation()
