"""Access rules: programs on this machine, named web pages, holders of a key."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from shim.proxy.answers import NotAllowedError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.datastructures import Headers

LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""The names under which this machine knows itself."""

_BEARER: Final = re.compile(r"^bearer +", re.IGNORECASE)
_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([\w.-]+))(?::[0-9]{0,5})?", re.IGNORECASE | re.ASCII)
_ORIGIN: Final = re.compile(r"https?://(?:\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The access rules.

    Attributes:
        hosts: The names, without a port, under which the proxy may be addressed. With any other name a page of another
            site could reach a service of this machine (DNS rebinding).
        origins: Origins such as ``https://example.com`` whose pages may send requests; the proxy's own always may.
        api_keys: The keys of which one has to be sent in ``Authorization: Bearer …``; where there is none, no key is
            asked for.
    """

    hosts: frozenset[str] = LOCAL_HOSTS
    origins: frozenset[str] = frozenset()
    api_keys: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, address: str, *, hosts: Iterable[str] = (), origins: Iterable[str] = (), api_keys: Iterable[str] = ()
    ) -> Guard:
        """The rules for a proxy that listens at an address."""
        names = {name.lower() for name in (*LOCAL_HOSTS, address, *hosts)}
        return cls(hosts=frozenset(names), origins=frozenset(origins), api_keys=tuple(api_keys))

    def check(self, headers: Headers) -> None:
        """Check the host and the origin of a request.

        Raises:
            RefusedError: The request may not be answered.
        """
        named = headers.getlist("host")
        host = _hostname(named[0]) if len(named) == 1 else None
        if host is None:
            raise RefusedError(
                HTTPStatus.MISDIRECTED_REQUEST,
                "The request names a host that is not valid, or none, or several.",
                "host_refused",
            )
        if host not in self.hosts:
            raise NotAllowedError(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"The request names the host {host}, which is not this proxy's. Allow it with --allow-host {host}.",
                "host_refused",
            )
        for origin in headers.getlist("origin"):
            if origin not in self.origins and origin not in _own_origins(named[0]):
                raise NotAllowedError(HTTPStatus.FORBIDDEN, _refused_origin(origin), "origin_refused")
        if not headers.getlist("origin") and headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
            raise RefusedError(HTTPStatus.FORBIDDEN, "Requests from other sites are not allowed.", "origin_refused")

    def check_key(self, headers: Headers) -> None:
        """Check the key of a request, in a time that does not depend on how much of it is right.

        Raises:
            RefusedError: It is another key, or none.
        """
        if not self.has_key(headers):
            raise RefusedError(
                HTTPStatus.UNAUTHORIZED,
                "This proxy requires an API key (--api-key).",
                "invalid_api_key",
                {"www-authenticate": "Bearer"},
            )

    def has_key(self, headers: Headers) -> bool:
        """Whether a request has one of the keys, or no key is required."""
        if not self.api_keys:
            return True
        sent = headers.getlist("authorization")
        # Headers are bytes, decoded as Latin-1; a key that is not ASCII is sent in UTF-8.
        given = _BEARER.sub("", sent[0] if len(sent) == 1 else "", count=1).encode("latin-1")
        matches = [hmac.compare_digest(given, key.encode("utf-8", "surrogateescape")) for key in self.api_keys]
        return any(matches)


def is_local(address: str) -> bool:
    """Whether only this machine can reach what listens at an address."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def is_origin(text: str) -> bool:
    """Whether a text is an origin as browsers send it: scheme, host and port in lower case, and no path."""
    return _ORIGIN.fullmatch(text) is not None


def forwarded_path(raw_path: bytes) -> str:
    """The part of a path after ``/v1``, as it is forwarded.

    Raises:
        RefusedError: It leads, or might lead, to something else than the API.
    """
    path = raw_path.decode("latin-1")
    segments = path.removeprefix("/v1/").split("/")
    # Where parts of `/v1/` are encoded the first segment is empty, or has a slash in it.
    if any(map(_is_suspect, segments)):
        raise RefusedError(HTTPStatus.NOT_FOUND, "This is not a path of the API under /v1.", "unknown_path")
    return path.removeprefix("/v1")


def _is_suspect(segment: str) -> bool:
    plain = unquote(segment)
    # Encoded twice, or with a slash of another kind: no name of the API has such.
    return plain in {"", ".", ".."} or unquote(plain) != plain or re.search(r"[/\\\x00-\x20\x7f]", plain) is not None


def _hostname(host: str) -> str | None:
    found = _HOST.fullmatch(host)
    return found and (found[1] or found[2]).lower()


def _refused_origin(origin: str) -> str:
    if is_origin(origin):
        return f"Requests from pages of {origin} are not allowed. Allow them with --allow-origin {origin}."
    # A file, a sandbox, an extension. The text is the sender's, so it is repeated only where its form is known.
    return "Requests from this origin are not allowed; --allow-origin takes origins with http and https only."


def _own_origins(host: str) -> Iterable[str]:
    return (f"http://{host}", f"https://{host}")
