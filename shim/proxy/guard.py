"""Who may ask the proxy: programs on this machine, pages by name, holders of the key."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from shim.proxy.answers import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.datastructures import Headers

LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""The names under which this machine knows itself."""

_BEARER: Final = re.compile(r"^bearer +", re.IGNORECASE)
_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([\w.-]+))(?::[0-9]{0,5})?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The rules.

    Attributes:
        hosts: The names, without a port, under which the proxy may be addressed. Any other is how a page of a foreign
            site gets at a service of this machine (DNS rebinding).
        origins: Origins such as ``https://example.com`` whose pages may ask; the proxy's own always may.
        api_key: What has to stand in ``Authorization: Bearer …``, if anything.
    """

    hosts: frozenset[str] = LOCAL_HOSTS
    origins: frozenset[str] = frozenset()
    api_key: str | None = None

    @classmethod
    def of(
        cls, address: str, *, hosts: Iterable[str] = (), origins: Iterable[str] = (), api_key: str | None = None
    ) -> Guard:
        """The rules for a proxy that listens at an address."""
        names = {name.lower() for name in (*LOCAL_HOSTS, address, *hosts)}
        return cls(hosts=frozenset(names), origins=frozenset(origins), api_key=api_key)

    def check(self, headers: Headers) -> None:
        """Let a request pass that may be answered.

        Raises:
            RefusedError: It may not.
        """
        named = headers.getlist("host")
        host = _hostname(named[0]) if len(named) == 1 else None
        if host is None or host not in self.hosts:
            raise RefusedError(
                421, "The request names a host that is not this proxy's. Allow it with --allow-host.", "host_refused"
            )
        for origin in headers.getlist("origin"):
            if origin not in self.origins and origin not in _own_origins(named[0]):
                raise RefusedError(
                    403, "Pages of this origin may not ask. Allow it with --allow-origin.", "origin_refused"
                )
        if not headers.getlist("origin") and headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
            raise RefusedError(403, "Pages of other sites may not ask.", "origin_refused")

    def check_key(self, headers: Headers) -> None:
        """Let a request pass that has the key, in a time that does not tell how much of it is right.

        Raises:
            RefusedError: It has another one, or none.
        """
        if self.api_key is None:
            return
        given = _BEARER.sub("", headers.get("authorization", ""), count=1)
        # Headers are bytes, which come as Latin-1; a key that is no ASCII is sent in UTF-8.
        if not hmac.compare_digest(given.encode("latin-1"), self.api_key.encode("utf-8", "surrogateescape")):
            raise RefusedError(401, "This proxy wants its own API key (--api-key).", "invalid_api_key")


def is_local(address: str) -> bool:
    """Whether nobody but this machine can reach what listens at an address."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def forwarded_path(raw_path: bytes) -> str:
    """The part of a path behind ``/v1``, as it is sent on.

    Raises:
        RefusedError: It leads, or might lead, to something else than the API.
    """
    path = raw_path.decode("latin-1")
    segments = path.removeprefix("/v1/").split("/")
    # Where parts of `/v1/` are encoded the first segment is empty, or has a slash in it.
    if any(map(_is_suspect, segments)):
        raise RefusedError(404, "There is no such path behind /v1.", "unknown_path")
    return path.removeprefix("/v1")


def _is_suspect(segment: str) -> bool:
    plain = unquote(segment)
    # Twice encoded, or with a slash of another kind: no name of the API's has such.
    return plain in {"", ".", ".."} or unquote(plain) != plain or re.search(r"[/\\\x00-\x20\x7f]", plain) is not None


def _hostname(host: str) -> str | None:
    found = _HOST.fullmatch(host)
    return found and (found[1] or found[2]).lower()


def _own_origins(host: str) -> Iterable[str]:
    return (f"http://{host}", f"https://{host}")
